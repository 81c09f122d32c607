"""The Pythons that servers run on, with what is installed there."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path

import attrs

from benchmarks.failures import MachineError


@attrs.frozen
class Runtime:
    """One Python environment.

    :param python: its interpreter; ``twistd`` is beside it.
    :param label: what the report adds to names, to tell it from the others.
    """

    python: Path
    label: str = ""

    @property
    def twistd(self) -> Path:
        """The command that runs services."""
        return self.python.parent / "twistd"

    def has(self, module: str) -> bool:
        """Whether a module can be imported there."""
        return _succeeds(str(self.python), "-c", f"import {module}")

    def has_reactor(self, name: str) -> bool:
        """Whether its Twisted has a reactor of this name."""
        listed = _output(str(self.twistd), "--help-reactors")
        return any(line.split()[:1] == [name] for line in listed.splitlines())

    def has_option(self, option: str) -> bool:
        """Whether its services have an option; those for streams are the same for all."""
        return option in _output(str(self.twistd), "sock-echo", "--help")


OWN = Runtime(Path(sys.exec_prefix, "bin", Path(sys.executable).name))


def labelled(runtime: Runtime) -> Runtime:
    """Return an environment with the name and version of its Python as its label.

    :raises MachineError: it does not run, or has no sockservices.
    """
    python = str(runtime.python)
    if not runtime.has("sockservices") or not runtime.twistd.exists():
        raise MachineError(
            f"{python}: this Python has no sockservices; make an environment for it with: "
            f"{python} -m venv FOLDER && FOLDER/bin/pip install -e '.[benchmarks]', "
            "and pass FOLDER/bin/python"
        )
    program = "import platform as p; print(p.python_implementation(), p.python_version())"
    return attrs.evolve(runtime, label=_output(python, "-c", program).strip())


@functools.cache
def _succeeds(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@functools.cache
def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except OSError:
        return ""
