"""What the kernel drops because a service does not read in time, and the buffer against it."""

from __future__ import annotations

import signal
import socket
import sys
from pathlib import Path

import pytest

from tests.system.processes import TWISTD, Running, Service, as_root, needs, run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")

_MANY = 2000


def _overflow(service: Service) -> None:
    """Send more than the usual buffer takes, while the service does not read."""
    service.process.send_signal(signal.SIGSTOP)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        for _ in range(_MANY):
            peer.sendto(b"x" * 1000, ("127.0.0.1", service.port))
    service.process.send_signal(signal.SIGCONT)


def test_an_operator_is_told_what_the_kernel_has_dropped(tmp_path: Path) -> None:
    with Service("sock-hexdump", "--listen=udp:0", cwd=tmp_path) as service:
        _overflow(service)
        lost = int(service.err.wait_for(r"the kernel dropped (\d+) datagrams to udp:0.0.0.0:")[1])
        assert service.stop() == 0
        assert lost == _MANY - service.out.whole().count("\n") > 0


@as_root
def test_a_larger_buffer_takes_them(tmp_path: Path) -> None:
    buffer = "--receive-buffer=10000000"
    with Service("sock-hexdump", "--listen=udp:0", buffer, cwd=tmp_path) as service:
        _overflow(service)
        assert service.stop() == 0
        assert service.out.whole().count("\n") == _MANY
        assert "dropped" not in service.err.whole()


@as_root
@needs("setpriv")
def test_a_smaller_buffer_than_asked_for_is_told_in_one_line(tmp_path: Path) -> None:
    limit = int(Path("/proc/sys/net/core/rmem_max").read_text())
    ordinary = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin")
    listen = ("sock-hexdump", "--listen=udp:0", f"--receive-buffer={limit + 1}")
    with Running((*ordinary, *TWISTD, *listen), tmp_path) as service:
        service.err.wait_for("listening on")
        assert service.stop() == 0
        told = [line for line in service.err.whole().splitlines() if "receive buffer" in line]
        assert len(told) == 1
        assert f"has a receive buffer of {limit} bytes instead of {limit + 1}" in told[0]


def test_it_is_refused_where_it_has_no_effect(tmp_path: Path) -> None:
    for listen in ("tcp:0", "unixgram:s"):
        tried = run(
            *TWISTD, "sock-hexdump", f"--listen={listen}", "--receive-buffer=5", cwd=tmp_path
        )
        assert tried.returncode != 0
        assert (
            b"--receive-buffer goes with a UDP listener, and sock-hexdump has none" in tried.stderr
        )
