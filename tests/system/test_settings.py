"""Settings as an operator meets them: options, the environment, and the lists of both."""

from __future__ import annotations

from pathlib import Path

from tests.system.processes import BIN, Service, run


def test_the_environment_sets_what_options_set(tmp_path: Path) -> None:
    environment = {
        "SOCK_ECHO_LISTEN": "tcp:0:interface=127.0.0.1 unix:s",
        "SOCK_ECHO_MAX_CONNECTIONS": "1",
        "SOCKSERVICES_MAX_CONNECTIONS": "many",  # the service's own wins
        "SOCK_HELLO_MAX_CONNECTIONS": "none of ours",
    }
    with Service("sock-echo", cwd=tmp_path, env=environment) as echo:
        assert len(echo.where) == 2
        with echo.connect() as first:
            first.sendall(b"here")
            assert first.recv(9) == b"here"
            with echo.connect() as second:
                assert second.recv(9) == b""


def test_a_bad_variable_is_one_line_that_names_it(tmp_path: Path) -> None:
    for name, value, line in (
        ("SOCKSERVICES_BACKLOG", "0", "0 is not a whole number from 1 to 2147483647"),
        ("SOCK_HELLO_MESSAGE", r"\q", r"in '\\q', '\\q' is not an escape: "),
        ("SOCK_HELLO_STOCK_TRANSPORTS", "maybe", "'maybe' is neither yes nor no"),
    ):
        done = run(BIN / "twistd", "-n", "sock-hello", "--port=0", cwd=tmp_path, env={name: value})
        assert done.returncode == 2
        assert done.stderr.decode().startswith(f"twistd: sock-hello: {name}: {line}")
        assert done.stderr.count(b"\n") == 1


def test_the_list_shows_the_same_as_the_help(tmp_path: Path) -> None:
    listed = run(BIN / "sockservices", "list", "sock-hello", cwd=tmp_path).stdout.decode()
    shown = run(BIN / "twistd", "sock-hello", "--help", cwd=tmp_path).stdout.decode()
    assert listed.startswith("sock-hello  (stream)\n    Greets each connection.\n")
    options = shown.partition("\n\n")[2]
    assert options.startswith("Options of sock-hello:\n  --message=TEXT")
    assert listed.endswith(options.rstrip() + "\n")


def test_the_list_of_one_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    done = run(BIN / "sockservices", "list", "nothing", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.decode().startswith("sockservices list: there is no service 'nothing'; ")
