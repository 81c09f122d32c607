"""How the eager reactor becomes the reactor of a process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.transports.fresh_process import python


def test_install() -> None:
    result = python(
        "from sockservices import transports; transports.install();"
        "from twisted.internet import reactor; print(type(reactor) is transports.EagerReactor)"
    )
    assert (result.stdout, result.stderr) == ("True\n", "")


def test_a_second_reactor_is_refused() -> None:
    result = python(
        "from twisted.internet import reactor; import sockservices.transports as t; t.install()"
    )
    assert result.stderr.splitlines()[-1].startswith(
        "twisted.internet.error.ReactorAlreadyInstalledError"
    )


def test_twistd_takes_it(tmp_path: Path) -> None:
    tmp_path.joinpath("app.py").write_text(
        "from twisted.application.service import Application\n"
        "from twisted.internet import reactor\n"
        "application = Application('x')\n"
        "reactor.callWhenRunning(lambda: (print(type(reactor).__name__), reactor.stop()))\n"
    )
    twistd = Path(sys.executable).with_name("twistd")
    result = subprocess.run(
        [twistd, "--reactor=eager", "-n", "-l", "-", "--pidfile=", "-y", tmp_path / "app.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    assert "EagerReactor" in result.stdout
