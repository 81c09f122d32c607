"""The code in the documentation does what the documentation says.

How a page is read, from top to bottom, in one empty folder:

- a block after ``<!-- file: NAME -->`` is written to that file;
- a block after ``<!-- run: NAME -->`` is written and run; a ``text`` block after it is its output;
- a ``console`` block is run by a shell. What follows a command is what it prints: each line the
  end of a line of the output, in this order; ``...`` in a line stands for anything;
- a command that begins with ``twistd -n`` runs until the end of the page, or its own; the page
  goes on when it listens;
- ``<!-- env: NAME=VALUE -->`` holds for the rest of the page;
- a port of five digits that begins with 517 stands for one that is free.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.system.processes import BIN, PATIENCE, Running

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

_BLOCK = re.compile(
    r"(?:<!-- (?P<order>file|run|env): (?P<name>\S+) -->\n)?"
    r"^```(?P<language>\w*)\n(?P<content>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    order: str | None
    name: str
    language: str
    content: str


class Step(NamedTuple):
    command: str
    expected: list[str]


def blocks(page: Path, ports: dict[str, str]) -> list[Block]:
    text = re.sub(r"\b517\d\d\b", lambda match: _free_port(match[0], ports), page.read_text())
    return [
        Block(*match.group("order", "name", "language", "content"))
        for match in _BLOCK.finditer(text)
    ]


def _free_port(written: str, ports: dict[str, str]) -> str:
    if written not in ports:
        # Both kinds: a page may serve streams and datagrams on one number.
        with socket.create_server(("127.0.0.1", 0)) as free:
            ports[written] = str(free.getsockname()[1])
    return ports[written]


def steps(content: str) -> Iterator[Step]:
    for part in re.split(r"^\$ ", content, flags=re.MULTILINE)[1:]:
        command, _, expected = part.partition("\n")
        yield Step(command, expected.splitlines())


def assert_said(output: str, expected: list[str], command: str) -> None:
    """Check that the lines come in the output, in this order."""
    rest = output.splitlines()
    for line in expected:
        pattern = re.compile(".*".join(map(re.escape, line.split("..."))).rstrip() + r"\s*$")
        while rest and not pattern.search(rest[0]):
            rest.pop(0)
        assert rest, f"{command!r} did not say {line!r}, but:\n{output}"
        rest.pop(0)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_the_page_says_is_so(page: Path, tmp_path: Path) -> None:
    env = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONDONTWRITEBYTECODE": "1"}
    printed = ""
    with contextlib.ExitStack() as running:
        services: list[tuple[Step, Running]] = []
        for block in blocks(page, {}):
            if block.order == "env":
                name, _, value = block.name.partition("=")
                env[name] = value
            if block.order in ("file", "run"):
                path = tmp_path / block.name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(block.content)
            if block.order == "run":
                printed = _run([str(BIN / "python"), block.name], tmp_path, env)
            elif block.language == "text":
                assert_said(printed, block.content.splitlines(), "the program before")
            elif block.language == "console":
                for step in steps(block.content):
                    if step.command.startswith("twistd -n"):
                        service = running.enter_context(_start(step.command, tmp_path, env))
                        services.append((step, service))
                    else:
                        said = _run(["bash", "-c", step.command], tmp_path, env)
                        assert_said(said, step.expected, step.command)
        for step, service in services:
            _wait_for_expected(step, service)
            service.stop()
            said = service.err.whole() + service.out.whole()
            assert "Traceback" not in said
            assert_said(said, step.expected, step.command)


def _run(command: list[str], cwd: Path, env: dict[str, str]) -> str:
    done = subprocess.run(
        command, cwd=cwd, env=env, timeout=PATIENCE, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout + done.stderr


def _start(command: str, cwd: Path, env: dict[str, str]) -> Running:
    service = Running(["twistd", "--pidfile=", *shlex.split(command)[1:]], cwd, env=env)
    try:
        # The log is on one or the other.
        log = service.err if "to_stderr" in command else service.out
        log.wait_for(r"listening on \S.*\n")
    except BaseException:
        service.__exit__(None, None, None)
        raise
    return service


def _wait_for_expected(step: Step, service: Running) -> None:
    for line in step.expected:
        service.out.wait_for(".*".join(map(re.escape, line.rstrip().split("..."))))


def test_the_pages_have_code_to_run() -> None:
    """Were the blocks not found, every page would pass."""
    found = [block for page in PAGES for block in blocks(page, {})]
    assert sum(block.language == "console" for block in found) >= 20
    assert sum(block.order == "run" for block in found) >= 4
    assert sum(block.order == "file" for block in found) >= 6


def test_links_between_the_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"
