"""Run some of Twisted's own tests on one reactor, and write down what became of each.

A process of its own for each run, because a process has one global reactor. It is started by its
path, from any folder, and imports nothing of this repository but the reactor, so that Twisted's
tests see an interpreter like the one that ``trial --reactor=NAME`` gives them.

The only argument is a file with a JSON object:

- ``reactor``: a reactor's short name, or the dotted name of a reactor class;
- ``modules``: what to load, dotted names of modules or packages;
- ``only``: the ids to run, or null for all that is loaded;
- ``done``: ids not to run;
- ``record``: the file to append to, a line of JSON for each event.
"""

from __future__ import annotations

import ctypes
import json
import re
import signal
import sys
import time
import unittest
from collections.abc import Iterator
from typing import Any, TextIO, cast

from twisted.application.reactors import installReactor
from twisted.internet import main
from twisted.python.failure import Failure
from twisted.python.reflect import namedAny, qual
from twisted.trial.reporter import TestResult
from twisted.trial.runner import DestructiveTestSuite, TestLoader, TrialRunner

EPOLL = "twisted.internet.epollreactor.EPollReactor"
"""Twisted's reactor for Linux."""

TRACEBACK_CHARACTERS = 2000
"""How much of a traceback's end is kept."""


def install(name: str) -> type:
    """Make ``name`` the global reactor and return its class.

    :param name: a short name, as for ``trial --reactor``, or the dotted name of a class.
    """
    if "." in name:
        main.installReactor(namedAny(name)())
    else:
        installReactor(name)
    from twisted.internet import reactor

    return type(reactor)


def names_of(reactor_class: type) -> list[str]:
    """List the dotted names that tests may know the class by."""
    names = [qual(reactor_class)]
    if EPOLL not in names and EPOLL in map(qual, reactor_class.__mro__):
        names.append(EPOLL)
    return names


def neutral(text: str, names: list[str]) -> str:
    """Replace the reactor in ``text``, an id or a reason, by ``REACTOR``.

    :param names: dotted names of the reactor's class.
    """
    for name in names:
        text = text.replace(name, "REACTOR")
    for name in names:
        short = name.rpartition(".")[2]
        # ReactorBuilder makes "UNIXTestsBuilder_EPollReactorTests" of "UNIXTestsBuilder".
        text = re.sub(rf"(?<![a-zA-Z]){short}(?=Tests\b|\b)", "REACTOR", text)
    return text


class Recorder(TestResult):
    """Writes each event as it comes, because a run that hangs has no end to write at."""

    def __init__(self, record: TextIO, names: list[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.record = record
        self.names = names
        self.began = 0.0

    def write(self, test: Any, kind: str, **details: str | float) -> None:
        event = {"id": neutral(test.id(), self.names), "kind": kind, **details}
        self.record.write(json.dumps(event) + "\n")
        self.record.flush()

    def write_failure(self, test: Any, kind: str, error: Any, reason: str = "") -> None:
        failure = error if isinstance(error, Failure) else Failure(error[1], error[0], error[2])
        what = neutral(qual(cast(type, failure.type)), self.names)
        self.write(
            test,
            kind,
            reason=f"{reason} ({what})" if reason else what,
            traceback=failure.getTraceback()[-TRACEBACK_CHARACTERS:],
        )

    def startTest(self, test: Any) -> None:
        # Not TestResult's: nothing is to be kept in memory.
        self.testsRun += 1
        self.began = time.monotonic()
        self.write(test, "start")

    def stopTest(self, test: Any) -> None:
        self.write(test, "stop", seconds=round(time.monotonic() - self.began, 3))

    def addSuccess(self, test: Any) -> None:
        self.write(test, "success")

    def addFailure(self, test: Any, fail: Any) -> None:
        self.write_failure(test, "failure", fail)

    def addError(self, test: Any, error: Any) -> None:
        self.write_failure(test, "error", error)

    def addSkip(self, test: Any, reason: Any) -> None:
        self.write(test, "skip", reason=neutral(str(reason), self.names))

    def addExpectedFailure(self, test: Any, error: Any, todo: Any = None) -> None:
        self.write_failure(test, "expected failure", error, str(getattr(todo, "reason", todo)))

    def addUnexpectedSuccess(self, test: Any, todo: Any = None) -> None:
        self.write(test, "unexpected success", reason=str(getattr(todo, "reason", todo)))


def each(suite: Any) -> Iterator[Any]:
    """Every test in a suite of suites."""
    if isinstance(suite, unittest.TestSuite):
        for test in suite:
            yield from each(test)
    else:
        yield suite


def prepare(reactor_class: type) -> None:
    """Have ReactorBuilder build reactors of the class alone. To be called before tests load."""
    from twisted.internet.test.reactormixins import ReactorBuilder

    # A private name, for want of a public one: the list is read when a test module is imported.
    # Checked with Twisted 26.10 only.
    ReactorBuilder._reactors = [qual(reactor_class)]
    if len(names_of(reactor_class)) > 1:
        # test_fdset skips a test by the class's name, "EPollReactor", because epoll(7) does not
        # tell of a descriptor that was closed. That holds for a subclass, which waits by the same
        # call; without the name the test would wait two minutes for what cannot come.
        reactor_class.__name__ = EPOLL.rpartition(".")[2]


def run(job: dict[str, Any]) -> None:
    """Run a job; see the module."""
    reactor_class = install(job["reactor"])
    names = names_of(reactor_class)
    prepare(reactor_class)
    wanted = None if job["only"] is None else set(job["only"])
    seen = set(job["done"])
    tests = []
    for test in each(TestLoader().loadByNames(job["modules"], recurse=True)):
        name = neutral(test.id(), names)
        # A class imported by another test module is found there again: the same test.
        if name not in seen and (wanted is None or name in wanted):
            seen.add(name)
            tests.append(test)
    with open(job["record"], "a", encoding="utf-8") as record:
        TrialRunner(lambda *_: Recorder(record, names)).run(DestructiveTestSuite(tests))
        record.write('{"kind": "end"}\n')


def end_with_parent() -> None:
    """Be killed when the parent ends, however that comes: prctl(2), PR_SET_PDEATHSIG."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


if __name__ == "__main__":
    end_with_parent()
    # This file's folder is no place for Twisted's tests to import from.
    del sys.path[0]
    with open(sys.argv[1], encoding="utf-8") as file:
        run(json.load(file))
