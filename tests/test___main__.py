from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("arguments", "status", "out", "err"),
    [
        (["--version"], 0, f"sockservices, version {version('sockservices')}\n", ""),
        (["nothing"], 2, "", "sockservices: No such command 'nothing'.\n"),
    ],
)
def test_python_runs_the_package_as_the_command(
    arguments: list[str], status: int, out: str, err: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sockservices", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (status, out, err)
