"""Facts that affect the results: the machine and the versions, collected at run time."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

from benchmarks.servers import cores


def facts() -> dict[str, str]:
    """Return the facts for the report's header, in order."""
    server, load = cores()
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return {
        "CPU": _first(r"model name\s*: (.*)", "/proc/cpuinfo"),
        "cores": f"{_cores()}; server on {server}, load on {load}",
        # Shows what else was running: on a busy machine, not even the ratios are valid.
        "load average before": f"{os.getloadavg()[0]:.1f}",
        "kernel": f"{platform.system()} {platform.release()}",
        "net.unix.max_dgram_qlen": _first(r"(\d+)", "/proc/sys/net/unix/max_dgram_qlen"),
        "Python": python,
        **{name: _version(name) for name in ("sockservices", "Twisted", "uvloop", "gevent")},
        "Go": _said(["go", "version"], r"go version (\S+)"),
        "C": _said(["cc", "--version"], r"(.*)"),
        "socat": _said(["socat", "-V"], r"socat version (\S+)"),
    }


def _cores() -> str:
    text = Path("/proc/cpuinfo").read_text()
    return str(len(re.findall(r"^processor\s*:", text, re.MULTILINE)))


def _first(pattern: str, file: str) -> str:
    path = Path(file)
    found = re.search(pattern, path.read_text()) if path.exists() else None
    return found[1] if found else "unknown"


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _said(command: list[str], pattern: str) -> str:
    if shutil.which(command[0]) is None:
        return "not installed"
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    found = re.search(pattern, said)
    return found[1] if found else "unknown"
