from __future__ import annotations

import errno
import os
import re

import pytest
from twisted.internet.error import CannotListenError

from sockservices import errors
from sockservices.errors import ListenError, why_no_path, why_not_listening


def _why_not(error: Exception) -> ListenError:
    return why_not_listening("tcp:7", error, lambda address: f"{address} is in use")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (CannotListenError("::1", 7, OSError(errno.EADDRINUSE, "x")), "('::1', 7) is in use"),
        (CannotListenError(None, b"x", OSError(errno.EADDRINUSE, "x")), "b'x' is in use"),
        (OSError(errno.EADDRINUSE, "x"), "Address already in use"),
        (
            OSError(errno.EADDRNOTAVAIL, "x"),
            "no interface of this machine has that address",
        ),
        (OSError(errno.ENOBUFS, "x"), "No buffer space available"),
        (PermissionError(errno.EACCES, "x", "/key"), "Permission denied"),
        (RuntimeError("one\ntwo\x1b"), r"one\ntwo\x1b"),
        (RuntimeError(), "RuntimeError"),
        (CannotListenError("", 7, "odd"), "odd"),
    ],
)
def test_each_reason_is_one_line(error: Exception, reason: str) -> None:
    said = _why_not(error)
    assert isinstance(said, ListenError)
    assert str(said) == f"cannot listen on tcp:7: {reason}"


def test_what_a_service_raises_is_told_with_its_place() -> None:
    with pytest.raises(KeyError) as caught:
        os.environ["NO PORT"]
    assert re.fullmatch(
        r"cannot listen on tcp:7: KeyError: 'NO PORT' \(.*test_errors.py:\d+\)",
        str(_why_not(caught.value)),
    )


def test_the_reason_of_twisted_is_that_of_the_system() -> None:
    elsewhere = OSError(errno.EADDRNOTAVAIL, "x")
    assert str(_why_not(CannotListenError("", 7, elsewhere))) == str(_why_not(elsewhere))


def test_what_is_a_listen_error_already_stays_as_it_is() -> None:
    error = ListenError("cannot listen on x: why")
    assert _why_not(error) is error


@pytest.mark.parametrize(("setting", "port"), [("80\n", 80), ("nonsense", 1024), (None, 1024)])
def test_the_first_port_that_needs_no_right_is_named(
    setting: str | None, port: int, tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"{tmp_path}/setting"
    if setting is not None:
        with open(path, "w") as file:
            file.write(setting)
    monkeypatch.setattr(errors, "_UNPRIVILEGED_PORTS", path)
    assert str(_why_not(PermissionError(errno.EACCES, "x"))) == (
        f"cannot listen on tcp:7: permission denied: ports below {port} need root or "
        "CAP_NET_BIND_SERVICE"
    )


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ENOENT, "the directory /run/a does not exist"),
        (errno.ENOTDIR, "/run/a is not a directory"),
        (errno.EACCES, "the directory /run/a is not writable: Permission denied"),
        (errno.EROFS, "the directory /run/a is not writable: Read-only file system"),
        (errno.ENOSPC, "No space left on device"),
    ],
)
def test_the_folder_of_a_path_is_named(number: int, reason: str) -> None:
    assert why_no_path(b"/run/a/x", OSError(number, "x")) == reason


def test_a_path_without_a_folder_is_in_the_current_one() -> None:
    assert why_no_path(b"x", OSError(errno.EACCES, "x")).startswith(
        "the directory . is not writable"
    )
