from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sockservices import exit as ending
from sockservices.exit import say_on_stderr


def _run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run Python code as a program called ``tried``."""
    (folder / "tried").write_text(code)
    return subprocess.run(
        [sys.executable, "-W", "error", "tried"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_failure_before_the_start_ends_the_process_with_its_line(tmp_path: Path) -> None:
    ended = _run(
        "from twisted.internet import reactor\n"
        "from sockservices import fail_process\n"
        "fail_process('no more')\n"
        "print('printed', end='')\n"
        "reactor.run()\n",
        tmp_path,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "printed", "tried: no more\n")


def test_a_failure_later_ends_the_process_with_its_line_and_what_was_printed(
    tmp_path: Path,
) -> None:
    ended = _run(
        "import sys\n"
        "from twisted.internet import reactor\n"
        "from sockservices import fail_process\n"
        "reactor.callLater(0, fail_process, 'no \\udcff more')\n"
        "reactor.addSystemEventTrigger('after', 'shutdown', print, 'shut down', end='')\n"
        "sys.stderr = None\n"
        "reactor.run()\n",
        tmp_path,
    )
    assert (ended.returncode, ended.stdout) == (1, "shut down")
    assert ended.stderr == "tried: no \\udcff more\n"


def test_a_failure_is_logged(tmp_path: Path) -> None:
    ended = _run(
        "from twisted.internet import reactor\n"
        "from twisted.logger import globalLogPublisher, formatEvent\n"
        "from sockservices import fail_process\n"
        "@globalLogPublisher.addObserver\n"
        "def show(event):\n"
        "    print('logged:', formatEvent(event))\n"
        "fail_process('no {more}')\n"
        "reactor.run()\n",
        tmp_path,
    )
    assert "logged: no {more}\n" in ended.stdout


def test_a_failure_that_nobody_can_read_ends_the_process_all_the_same(tmp_path: Path) -> None:
    ended = _run(
        "import os\n"
        "from twisted.internet import reactor\n"
        "from sockservices import fail_process\n"
        "os.close(2)\n"
        "fail_process('no more')\n"
        "reactor.run()\n",
        tmp_path,
    )
    assert (ended.returncode, ended.stderr) == (1, "")


@pytest.mark.parametrize("when", ["stop_process()", "reactor.callLater(0, stop_process)"])
def test_a_stop_ends_the_process_with_status_0(tmp_path: Path, when: str) -> None:
    ended = _run(
        "from twisted.internet import reactor\n"
        "from sockservices import stop_process\n"
        f"{when}\n{when}\n"
        "reactor.run()\n",
        tmp_path,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("begun_as", "name"),
    [
        ("/usr/bin/twistd", "twistd"),
        ("/usr/lib/python3/twisted/__main__.py", "twisted"),
        ("", "sockservices"),
    ],
)
def test_a_line_begins_with_the_name_of_the_program(
    begun_as: str, name: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ending.sys, "argv", [begun_as, "-n"])  # type: ignore[attr-defined]
    say_on_stderr("über\udc80")
    assert capfd.readouterr().err == f"{name}: über\\udc80\n"


def test_an_exit_by_force_says_why_and_leaves_no_pid_file(tmp_path: Path) -> None:
    ended = _run(
        "import os\n"
        "from pathlib import Path\n"
        "from twisted.logger import globalLogPublisher, formatEvent\n"
        "from sockservices.exit import exit_by_force\n"
        "@globalLogPublisher.addObserver\n"
        "def show(event):\n"
        "    print('logged:', formatEvent(event))\n"
        "Path('own').write_text(f'{os.getpid()}\\n')\n"
        "exit_by_force('no {more}', 'own')\n",
        tmp_path,
    )
    assert ended.returncode == 0
    assert ended.stderr == "tried: exiting by force: no {more}\n"
    assert ended.stdout == "logged: exiting by force: no {more}\n"
    assert not (tmp_path / "own").exists()


@pytest.mark.parametrize("content", ["1", "nothing", None])
def test_an_exit_by_force_leaves_the_pid_file_of_another(
    tmp_path: Path, content: str | None
) -> None:
    if content is not None:
        (tmp_path / "others").write_text(content)
    code = "from sockservices.exit import exit_by_force\nexit_by_force('so', 'others')\n"
    ended = _run(code, tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "tried: exiting by force: so\n")
    assert (tmp_path / "others").exists() == (content is not None)


def test_an_exit_by_force_after_a_failure_has_its_status(tmp_path: Path) -> None:
    ended = _run(
        "from sockservices.exit import exit_by_force, fail_process\n"
        "fail_process('no more')\n"
        "exit_by_force('so', '')\n",
        tmp_path,
    )
    assert ended.returncode == 1
