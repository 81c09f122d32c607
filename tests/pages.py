"""Does what a page of the documentation says, and compares.

A page is read from top to bottom, in one folder:

- a block after ``<!-- file: NAME -->`` is written to that file;
- a block after ``<!-- run: NAME -->`` is written and run; a ``text`` block after it is its output;
- a ``console`` block is run by a shell. What follows a command is what it prints: each line the
  end of a line of the output, in this order; ``...`` in a line stands for anything;
- a command that begins with ``twistd -n`` runs until the end of the page; the page goes on when it
  listens;
- a command in a block after ``<!-- fails -->`` ends with another status than 0;
- ``cd`` and ``export`` hold for the rest of the page, as does ``<!-- env: NAME=VALUE -->`` for what
  the page says in words;
- a port of five digits that begins with 517 stands for one that is free;
- what stands between ``<!-- in a new environment -->`` and ``<!-- so far -->`` installs things: it
  is left to ``python -m tests.pages PAGE FOLDER``, which does nothing else.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import socket
import string
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.system.processes import BIN, Running

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(
        path
        for path in (ROOT / "docs").rglob("*.md")
        if "generated" not in path.relative_to(ROOT).parts
    ),
]

_PATIENCE = 300  # seconds until a command is given up
_BLOCK = re.compile(
    r"(?:<!-- (?P<order>file|run|env|fails)(?:: (?P<name>\S+))? -->\n)?"
    r"^```(?P<language>\S*)[^\n]*\n(?P<content>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_NEW_ENVIRONMENT = re.compile(
    r"^<!-- in a new environment -->$(.*?)^<!-- so far -->$", re.MULTILINE | re.DOTALL
)


class Block(NamedTuple):
    """One block of code, and what is to be done with it."""

    order: str | None
    name: str | None
    language: str
    content: str


class Step(NamedTuple):
    """One command, and the lines that it prints."""

    command: str
    expected: list[str]


def here(page: Path) -> str:
    """Return what of a page is done in the environment of the tests."""
    return _NEW_ENVIRONMENT.sub("", page.read_text())


def in_a_new_environment(page: Path) -> str:
    """Return what of a page is done in a new one."""
    return "\n".join(_NEW_ENVIRONMENT.findall(page.read_text()))


def blocks(text: str) -> list[Block]:
    """Find the blocks of code."""
    return [
        Block(*match.group("order", "name", "language", "content"))
        for match in _BLOCK.finditer(text)
    ]


def steps(content: str) -> Iterator[Step]:
    """Find the commands of a ``console`` block."""
    for part in re.split(r"^\$ ", content, flags=re.MULTILINE)[1:]:
        command, _, expected = part.partition("\n")
        yield Step(command, expected.splitlines())


class Reading:
    """A page that is being done.

    Parameters:
        folder: where it begins.
        path: where programs are looked for first.
    """

    def __init__(self, folder: Path, path: Path | None = None) -> None:
        self._folder = folder
        self._env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        if path is not None:
            self._env["PATH"] = f"{path}:{self._env['PATH']}"
        self._printed = ""
        self._services: list[tuple[Step, Running]] = []

    def do(self, text: str) -> None:
        """Do all of it; raise ``AssertionError`` for what is not as the page says."""
        ports: dict[str, str] = {}
        text = re.sub(r"\b517\d\d\b", lambda match: _free_port(match[0], ports), text)
        with contextlib.ExitStack() as running:
            for block in blocks(text):
                self._do(block, running)
            for step, service in self._services:
                for line in step.expected:
                    service.out.wait_for(".*".join(map(re.escape, line.rstrip().split("..."))))
                status = service.stop()
                said = service.err.whole() + service.out.whole()
                # Stock twistd ends by the signal, where no service of ours has the handlers.
                assert status in (0, -signal.SIGTERM), f"{step.command}: {status}: {said}"
                assert "Traceback" not in said, said
                _compare(said, step.expected, step.command)

    def _do(self, block: Block, running: contextlib.ExitStack) -> None:
        if block.order == "env" and block.name:
            self._set(block.name)
        if block.order in ("file", "run") and block.name:
            path = self._folder / block.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.content)
        if block.order == "run" and block.name:
            self._printed = self._run(["python", block.name])
        elif block.language == "text":
            _compare(self._printed, block.content.splitlines(), "the program before")
        elif block.language == "console":
            found = list(steps(block.content))
            assert found, f"no command in:\n{block.content}"
            for step in found:
                self._step(step, block.order == "fails", running)

    def _set(self, assignment: str) -> None:
        name, _, value = assignment.partition("=")
        variables = {**self._env, "PWD": str(self._folder)}
        self._env[name] = string.Template(value).substitute(variables)

    def _step(self, step: Step, fails: bool, running: contextlib.ExitStack) -> None:
        if step.command.startswith("cd "):
            self._folder /= step.command.removeprefix("cd ")
        elif step.command.startswith("export "):
            self._set(step.command.removeprefix("export "))
        elif re.match(r"(\S*/)?twistd -n", step.command):
            self._services.append((step, running.enter_context(self._start(step.command))))
        else:
            said = self._run(["bash", "-c", step.command], fails)
            _compare(said, step.expected, step.command)

    def _run(self, command: list[str], fails: bool = False) -> str:
        done = subprocess.run(
            command,
            cwd=self._folder,
            env=self._env,
            timeout=_PATIENCE,
            capture_output=True,
            text=True,
            check=False,
        )
        assert bool(done.returncode) == fails, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def _start(self, command: str) -> Running:
        program, *options = shlex.split(command)
        service = Running([program, *options], self._folder, env=self._env)
        try:
            # The log is on one or the other.
            log = service.err if "to_stderr" in command else service.out
            log.wait_for(r"listening on \S.*\n")
        except BaseException:
            service.__exit__(None, None, None)
            raise
        return service


def _free_port(written: str, ports: dict[str, str]) -> str:
    if written not in ports:
        # Both kinds: a page may serve streams and datagrams on one number.
        with socket.create_server(("127.0.0.1", 0)) as free:
            ports[written] = str(free.getsockname()[1])
    return ports[written]


def _compare(output: str, expected: list[str], command: str) -> None:
    """Check that the lines come in the output, in this order."""
    rest = output.splitlines()
    for line in expected:
        pattern = re.compile(".*".join(map(re.escape, line.split("..."))).rstrip() + r"\s*$")
        while rest and not pattern.search(rest[0]):
            rest.pop(0)
        assert rest, f"{command!r} did not say {line!r}, but:\n{output}"
        rest.pop(0)


def do_here(page: Path, folder: Path) -> None:
    """Do a page in a folder, with the programs of this environment."""
    Reading(folder, BIN).do(here(page))


if __name__ == "__main__":
    page, folder = map(Path, sys.argv[1:])
    text = in_a_new_environment(page)
    assert blocks(text), f"nothing in {page} is marked as to be done in a new environment"
    Reading(folder).do(text)
    print(f"{page}: what it says is so, in a new environment")
