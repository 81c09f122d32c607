"""Services on addresses that come later, and on one network device, in namespaces of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from sockservices.printable import quoted
from tests.system.processes import BIN, TWISTD, Running, as_root, needs, run

pytestmark = [as_root, needs("unshare"), needs("nsenter"), needs("ip")]
_APART = ("unshare", "--net", "sh", "-c")


@pytest.mark.parametrize("address", ["192.0.2.9", "2001:db8::9"])
def test_an_address_may_come_later(tmp_path: Path, address: str) -> None:
    where = f"4700:interface={quoted(address)}:freebind=yes"
    listening = (f"--listen=tcp:{where}", f"--listen=udp:{where}")
    apart = (*_APART, 'ip link set lo up && exec "$@"', "sh")
    with Running((*apart, *TWISTD, "sock-echo", *listening), tmp_path) as echo:
        echo.err.wait_for("listening on")
        inside = ("nsenter", "--net", f"--target={echo.process.pid}")
        added = run(*inside, "ip", "address", "add", address, "dev", "lo", cwd=tmp_path)
        assert added.returncode == 0, added.stderr
        talk = (*inside, BIN / "sockservices")
        stream = run(*talk, "connect", f"tcp:{quoted(address)}:4700", cwd=tmp_path, input=b"hello")
        assert (stream.stdout, stream.stderr) == (b"hello", b"")
        datagram = run(*talk, "send", f"udp:{quoted(address)}:4700", "hi", "--wait=5", cwd=tmp_path)
        assert (datagram.stdout, datagram.stderr) == (b"hi\n", b"")
        assert echo.stop() == 0


# A namespace with a peer in another one, at the other end of the device "outside".
_TWO_SIDES = (
    "ip link set lo up && ip link add outside type veth peer name inside netns {peer} && "
    "ip address add 192.0.2.1/24 dev outside && ip link set outside up && "
    'nsenter --net --target={peer} sh -c "ip address add 192.0.2.2/24 dev inside && '
    'ip link set inside up" && exec "$@"'
)


def test_each_device_has_its_service_on_one_port(tmp_path: Path) -> None:
    peer_side = (*_APART, "ip link set lo up && echo up && exec cat", "sh")
    with Running(peer_side, tmp_path, stdin=-1) as peer:
        peer.out.wait_for("up")
        here = (*_APART, _TWO_SIDES.format(peer=peer.process.pid), "sh", *TWISTD)
        listening = ("--listen=tcp:4700:device=outside", "--message=from outside")
        with Running((*here, "sock-hello", *listening), tmp_path) as outer:
            outer.err.wait_for("listening on")
            inside = ("nsenter", "--net", f"--target={outer.process.pid}")
            listening = ("--listen=tcp:4700:device=lo", "--message=from here")
            with Running(
                (*inside, *TWISTD, "--pidfile=", "sock-hello", *listening), tmp_path
            ) as inner:
                inner.err.wait_for("listening on")
                at_peer = ("nsenter", "--net", f"--target={peer.process.pid}")
                for side, where, said in (
                    (at_peer, "tcp:192.0.2.1:4700", b"from outside"),
                    (inside, "tcp:127.0.0.1:4700", b"from here"),
                ):
                    talk = (*side, BIN / "sockservices", "connect", where)
                    heard = run(*talk, cwd=tmp_path)
                    assert (heard.stdout, heard.stderr) == (said, b"")
                assert inner.stop() == 0
            assert outer.stop() == 0


def test_a_device_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    for kind in ("tcp", "udp"):
        description = f"{kind}:0:device=nosuch0"
        ended = run(*TWISTD, "sock-echo", f"--listen={description}", cwd=tmp_path)
        assert ended.returncode == 1
        line = f"twistd: sock-echo: cannot listen on {description}: No such device\n"
        assert line in ended.stderr.decode()
        assert "Traceback" not in ended.stderr.decode()
