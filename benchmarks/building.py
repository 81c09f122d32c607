"""Building the load generator and the C and Go peers, if their sources have changed."""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from benchmarks.failures import MachineError, MeasurementError

HERE = Path(__file__).parent
BUILD = HERE / "build"


def no_tls() -> str | None:
    """Return why TLS cannot be measured here, if so."""
    if openssl_flags() and shutil.which("openssl"):
        return None
    return (
        "the load generator needs OpenSSL's headers, and its command to make a certificate "
        "(Debian: apt install libssl-dev pkg-config openssl)"
    )


@functools.cache
def openssl_flags() -> tuple[str, ...]:
    """Return the compiler's arguments for OpenSSL, or none without its headers."""
    if shutil.which("pkg-config") is None:
        return ()
    command = ["pkg-config", "--cflags", "--libs", "openssl >= 1.1.1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return () if done.returncode else tuple(done.stdout.split())


def load_generator() -> Path:
    """Return the path of the compiled load generator.

    :raises MachineError: there is no C compiler, or it rejects the source.
    """
    if shutil.which("cc") is None:
        raise MachineError(
            "the load generator needs a C compiler named cc (Debian: apt install gcc)"
        )
    try:
        sources, header = sorted((HERE / "load").glob("*.c")), HERE / "load" / "load.h"
        if openssl_flags():
            return _c("load_tls", sources, [header], "-DWITH_TLS", *openssl_flags())
        return _c("load", sources, [header])
    except MeasurementError as failure:
        raise MachineError(str(failure)) from failure


def c_peer(name: str, flags: Sequence[str] = ()) -> Path:
    """Return the path of the compiled peers/NAME.c.

    :param flags: what the compiler needs for it, after the sources.
    :raises MeasurementError: the compiler rejects the source.
    """
    return _c(name, [HERE / "peers" / f"{name}.c"], [], *flags)


def go_peer(name: str) -> Path:
    """Return the path of the compiled peers/NAME.go.

    :raises MeasurementError: the compiler rejects the source.
    """
    source, target = HERE / "peers" / f"{name}.go", BUILD / f"{name}_go"
    return _built(target, [source], ["go", "build", "-o", str(target), str(source)])


def _c(name: str, sources: Sequence[Path], headers: Sequence[Path], *flags: str) -> Path:
    target = BUILD / name
    command = ["cc", "-O2", "-D_GNU_SOURCE", "-o", str(target), *map(str, sources), *flags]
    return _built(target, [*sources, *headers], command)


def _built(target: Path, made_of: Sequence[Path], command: Sequence[str]) -> Path:
    newest = max(path.stat().st_mtime for path in made_of)
    if not target.exists() or target.stat().st_mtime < newest:
        BUILD.mkdir(exist_ok=True)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[0]
            raise MeasurementError(f"{command[0]} could not build {target.name}: {reason}")
    return target
