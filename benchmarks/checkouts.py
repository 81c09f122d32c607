"""Two checkouts of the project, each in an environment of its own with the same packages."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.building import HERE
from benchmarks.failures import MachineError
from benchmarks.runtimes import Runtime

ROOT = HERE.parent
TWISTD = """\
#!{python}
from twisted.scripts.twistd import run
run()
"""
PATHS = (
    "import sysconfig as s; print(*{s.get_path(n): 0 for n in ('purelib', 'platlib')}, sep='\\n')"
)


@contextlib.contextmanager
def both(ref: str, runtime: Runtime) -> Iterator[tuple[Runtime, Runtime]]:
    """Make two environments: one with a commit of the repository, one with the files as they are.

    Both find the packages of ``runtime``, and before them their checkout. So they differ in nothing
    else, not even in how Python finds it.

    :param ref: any name that git has for the commit.
    :raises MachineError: git has no such commit, or an environment could not be made.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        checkout = folder / "checkout"
        checkout.mkdir()
        commit = commit_of(ref)
        archive = _said("git", "-C", str(ROOT), "archive", "--format=tar", commit)
        _said("tar", "-x", "-C", str(checkout), given=archive)
        yield (
            _environment(folder / "before", checkout, runtime),
            _environment(folder / "now", ROOT, runtime),
        )


def commit_of(ref: str) -> str:
    """Return the hash of the commit.

    :raises MachineError: git has no such commit.
    """
    command = ["git", "-C", str(ROOT), "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MachineError(f"--against: {ROOT} has no commit named {ref!r}, such as main or HEAD~1")
    return done.stdout.strip()


def _environment(folder: Path, checkout: Path, runtime: Runtime) -> Runtime:
    _said(str(runtime.python), "-m", "venv", "--without-pip", str(folder))
    python, twistd = folder / "bin" / "python", folder / "bin" / "twistd"
    packages = _said(str(runtime.python), "-c", PATHS).decode()
    own = _said(str(python), "-c", PATHS).decode().split("\n")[0]
    Path(own, "checkout.pth").write_text(f"{checkout}\n{packages}")
    twistd.write_text(TWISTD.format(python=python))
    twistd.chmod(0o755)
    # Or the first start of one would compile and look for plug-ins, unlike that of the other.
    # What cannot be compiled is not for Python: the templates of a new project.
    compiling: list[str | Path] = [python, "-m", "compileall", "-qq"]
    compiling += [checkout / "sockservices", checkout / "twisted"]
    subprocess.run(compiling, capture_output=True, check=False)
    _said(str(twistd), "sock-echo", "--help")
    return Runtime(python, runtime.label)


def _said(*command: str, given: bytes = b"") -> bytes:
    # A variable of this process would put another checkout before both.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, input=given, capture_output=True, check=False, env=environment)
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise MachineError(f"{' '.join(command[:4])}: {lines[-1]}")
    return done.stdout
