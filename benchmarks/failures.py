"""The errors that stop a benchmark."""


class MachineError(Exception):
    """The error, of one line, if this machine cannot run the benchmarks at all."""


class MeasurementError(Exception):
    """The error, of one line for the table, if a server or its load has failed."""
