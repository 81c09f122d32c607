"""A stop with connections that stay open between requests, as those of browsers do."""

from __future__ import annotations

import http.client
import ssl
from contextlib import closing
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import pytest

from tests.certificates import make_certificate
from tests.system.processes import PATIENCE, Service, serve

LISTEN = "--listen=tcp:0:interface=127.0.0.1"

SERVICES = """
from twisted.internet import reactor
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

class Page(Resource):
    def getChild(self, path, request):
        return self

    def render_GET(self, request):
        if request.path == b"/slow":
            reactor.callLater(1, lambda: (request.write(b"slow"), request.finish()))
            return NOT_DONE_YET
        return b"fast"

site = Site(Page())
"""


def _client(service: Service) -> closing[http.client.HTTPConnection]:
    return closing(http.client.HTTPConnection("127.0.0.1", service.port, timeout=PATIENCE))


def _get(client: http.client.HTTPConnection, path: str) -> bytes:
    client.request("GET", path)
    return client.getresponse().read()


def test_http_between_two_requests_does_not_delay_it(tmp_path: Path) -> None:
    with (
        serve(tmp_path, SERVICES, "site", "--graceful-timeout=3600") as service,
        _client(service) as client,
    ):
        assert _get(client, "/") == b"fast"
        assert _get(client, "/") == b"fast"
        assert client.sock is not None
        assert service.stop() == 0
        assert client.sock.recv(1) == b""
        service.err.wait_for("stopped: 1 connection finished, 0 were reset")


def test_http_gets_its_answer_which_is_the_last(tmp_path: Path) -> None:
    with (
        serve(tmp_path, SERVICES, "site", "--graceful-timeout=3600") as service,
        _client(service) as client,
    ):
        assert _get(client, "/") == b"fast"
        client.request("GET", "/slow")
        assert service.stop() == 0
        answer = client.getresponse()
        assert (answer.read(), answer.getheader("Connection")) == (b"slow", "close")
        service.err.wait_for("stopped: 1 connection finished, 0 were reset")


@pytest.mark.parametrize("path", ["/", "/slow"])
def test_http_2_gets_its_answer_and_is_told_that_it_is_the_last(tmp_path: Path, path: str) -> None:
    make_certificate(tmp_path)
    tls = ("--tls-cert=trusted/cert.pem", "--tls-key=key.pem")
    with serve(tmp_path, SERVICES, "site", "--graceful-timeout=3600", *tls) as service:
        context = ssl.create_default_context(cafile=str(tmp_path / "trusted/cert.pem"))
        context.set_alpn_protocols(["h2"])
        with context.wrap_socket(service.connect(), server_hostname="localhost") as client:
            client.settimeout(PATIENCE)
            http2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
            http2.initiate_connection()
            headers = [(":method", "GET"), (":path", path), (":scheme", "https")]
            http2.send_headers(1, [*headers, (":authority", "localhost")], end_stream=True)
            client.sendall(http2.data_to_send())
            got, events = b"", []
            has_stopped = path == "/slow"
            if has_stopped:
                assert service.process.poll() is None
                service.process.terminate()
            while data := client.recv(1 << 16):
                for event in http2.receive_data(data):
                    events.append(type(event))
                    if isinstance(event, h2.events.DataReceived):
                        got += event.data
                if h2.events.StreamEnded in events and not has_stopped:
                    has_stopped = True
                    service.process.terminate()
            assert got == (b"slow" if path == "/slow" else b"fast")
            assert events[-1] is h2.events.ConnectionTerminated
        assert service.wait() == 0
        service.err.wait_for("stopped: 1 connection finished, 0 were reset")


def test_idle_connections_are_not_waited_for(tmp_path: Path) -> None:
    options = ("--graceful-timeout=3600", "--drain-idle=2")
    with Service("sock-echo", LISTEN, *options, cwd=tmp_path) as echo:
        with echo.connect() as idle, echo.connect() as busy:
            for client in (idle, busy):
                client.sendall(b"a")
                assert client.recv(1) == b"a"
            echo.process.terminate()
            echo.err.wait_for("stopping: 2 connections remain")
            idle.settimeout(0.05)
            for _ in range(int(PATIENCE / 0.05)):
                busy.sendall(b"b")
                assert busy.recv(1) == b"b"
                try:
                    assert idle.recv(1) == b""
                    break
                except TimeoutError:
                    pass
            busy.sendall(b"c")
            assert busy.recv(1) == b"c"
        assert echo.wait() == 0
        echo.err.wait_for("stopped: 2 connections finished, 0 were reset")
