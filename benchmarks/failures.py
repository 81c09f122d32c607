"""The two ways in which a benchmark cannot go on."""


class MachineError(Exception):
    """This machine cannot run the benchmarks at all; the text is one line for the user."""


class MeasurementError(Exception):
    """One server or its load failed; the text is one line for its cell in the table."""
