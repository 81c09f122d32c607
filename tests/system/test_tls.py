"""TLS by options, on listeners of every kind."""

from __future__ import annotations

import contextlib
import re
import select
import shutil
import signal
import socket
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest
from OpenSSL import SSL

from tests.certificates import HAVE_FOLDERS, make_certificate, make_unusable, pem_of
from tests.system.processes import BIN, PATIENCE, Running, Service, needs, run

pytestmark = needs("openssl")

LISTEN = "--listen=tcp:0:interface=127.0.0.1"
TLS = ("--tls-cert=trusted/cert.pem", "--tls-key=key.pem")
OWN = (LISTEN, *TLS)
TWISTEDS = ("--listen=ssl:0:interface=127.0.0.1:certKey=trusted/cert.pem:privateKey=key.pem",)
BLOCK = b"x" * (1 << 20)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two certificates: it takes a while to make one."""
    folder = tmp_path_factory.mktemp("certificates")
    for name in ("own", "other"):
        (folder / name).mkdir()
        make_certificate(folder / name)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made / "own", tmp_path, dirs_exist_ok=True)
    shutil.copytree(made / "other", tmp_path / "other")
    return tmp_path


def _trusting(folder: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(folder / "trusted/cert.pem"))


def _wrap(context: ssl.SSLContext, connection: socket.socket) -> ssl.SSLSocket:
    connection.settimeout(PATIENCE)
    return context.wrap_socket(connection, server_hostname="localhost")


def _exchange(client: ssl.SSLSocket, data: bytes, until: int | None = None) -> bytes:
    """Send and read at the same time, to the end or so many bytes; OpenSSL is not for threads."""
    client.setblocking(False)
    got = bytearray()
    to_send = memoryview(data)
    while until is None or len(got) < until:
        waits_for_room = False
        if to_send:
            try:
                to_send = to_send[client.send(to_send[:16384]) :]
            except ssl.SSLWantWriteError:
                waits_for_room = True
            except OSError:  # the other side has closed
                to_send = to_send[:0]
        try:
            part = client.recv(1 << 16)
        except ssl.SSLWantReadError:
            if waits_for_room or not to_send:
                writing = [client] if waits_for_room else []
                assert any(select.select([client], writing, [], PATIENCE))
            continue
        if not part:
            break
        got += part
    return bytes(got)


@pytest.mark.parametrize("options", [[], ["--stock-transports"]], ids=["eager", "stock"])
def test_streams_of_every_kind_have_it(folder: Path, options: list[str]) -> None:
    with Service(*("sock-echo", LISTEN, "--listen=unix:s", *TLS, *options), cwd=folder) as echo:
        unix = socket.socket(socket.AF_UNIX)
        unix.connect(str(folder / "s"))
        for connection in (echo.connect(), unix):
            with _wrap(_trusting(folder), connection) as client:
                assert client.version() in ("TLSv1.2", "TLSv1.3")
                assert _exchange(client, BLOCK, until=len(BLOCK)) == BLOCK
        assert echo.stop() == 0
        assert "Traceback" not in echo.err.text


@pytest.mark.parametrize("goes_on", [False, True])
def test_what_was_written_is_delivered_at_a_stop(folder: Path, goes_on: bool) -> None:
    (folder / "others.py").write_text(
        "from twisted.internet.protocol import Protocol\n"
        "class Filling(Protocol):\n"
        "    def connectionMade(self):\n"
        "        self.transport.write(b'x' * (20 << 20))\n"
    )
    options = (LISTEN, *TLS, "--flush=20")
    with Service("sock-serve", "--factory=others.Filling", *options, cwd=folder) as filling:
        with _wrap(_trusting(folder), filling.connect()) as client:
            assert client.recv(1) == b"x"
            filling.process.send_signal(signal.SIGTERM)
            more = b"more " * (20 << 20) if goes_on else b""
            assert len(_exchange(client, more)) == (20 << 20) - 1
        assert filling.wait() == 0
        filling.err.wait_for("stopped: 1 connection finished, 0 were reset")


@pytest.mark.parametrize("listen", [OWN, TWISTEDS])
@pytest.mark.parametrize("reactor", ["default", "eager"])
def test_the_end_of_an_answer_is_not_lost_when_the_peer_ends_at_once(
    folder: Path, listen: tuple[str, ...], reactor: str
) -> None:
    with Service(f"--reactor={reactor}", "sock-echo", *listen, cwd=folder) as echo:
        with echo.connect() as plain:
            client = _Tls(plain)
            client.handshake()
            # All in one: what is echoed, and that there will be no more.
            client.tls.send(b"word")
            client.tls.shutdown()
            client.send_all()
            assert client.read_all() == b"word"


class _Tls:
    """A TLS client that says when it sends, and reads on when it has ended."""

    def __init__(self, plain: socket.socket) -> None:
        self._plain = plain
        plain.settimeout(PATIENCE)
        self.tls = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD))
        self.tls.set_connect_state()

    def handshake(self) -> None:
        while True:
            try:
                self.tls.do_handshake()
                self.send_all()
                return
            except SSL.WantReadError:
                self.send_all()
                self._receive()

    def send_all(self) -> None:
        with contextlib.suppress(SSL.WantReadError):
            self._plain.sendall(self.tls.bio_read(1 << 16))

    def _receive(self) -> None:
        self.tls.bio_write(self._plain.recv(1 << 16))

    def read_all(self) -> bytes:
        got = b""
        while True:
            try:
                got += self.tls.recv(1 << 16)
            except SSL.WantReadError:
                self._receive()
            except SSL.ZeroReturnError:
                return got


@pytest.mark.parametrize("listen", [OWN, TWISTEDS])
def test_a_handshake_has_its_time(folder: Path, listen: tuple[str, ...]) -> None:
    with Service("sock-echo", *listen, "--handshake-timeout=0.3", cwd=folder) as echo:
        with echo.connect() as silent, _wrap(_trusting(folder), echo.connect()) as client:
            silent.settimeout(PATIENCE)
            assert silent.recv(1) == b""
            # The other one is long past its handshake, and lives.
            client.sendall(b"x")
            assert client.recv(1) == b"x"


@pytest.mark.parametrize("listen", [OWN, TWISTEDS])
def test_a_client_may_end_tls_during_the_handshake(folder: Path, listen: tuple[str, ...]) -> None:
    context = _trusting(folder)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    close_notify = b"\x15\x03\x03\x00\x02\x01\x00"  # RFC 5246, section 7.2.1
    with Service("sock-echo", *listen, cwd=folder) as echo:
        with echo.connect() as plain:
            plain.sendall(outgoing.read() + close_notify)
            while plain.recv(1 << 16):
                pass
        echo.err.wait_for("handshake: the client closed the connection during the TLS handshake")
        assert echo.stop() == 0
        assert "Traceback" not in echo.err.text


@pytest.mark.skipif(not HAVE_FOLDERS, reason="this Twisted has none")
def test_twisteds_own_folder_of_certificates(folder: Path, tmp_path_factory: Any) -> None:
    """``tls:``: the name that the client asks for chooses; SIGHUP finds those that are new."""
    certificates = tmp_path_factory.mktemp("served")

    def add(name: str) -> ssl.SSLContext:
        made = tmp_path_factory.mktemp(name)
        make_certificate(made, name)
        shutil.copy(made / "key.pem", certificates / f"{name}-key.pem")
        shutil.copy(made / "trusted/cert.pem", certificates / f"{name}.pem")
        return _trusting(made)

    def ask(context: ssl.SSLContext, name: str) -> bytes:
        plain = socket.create_connection(("::1", echo.port), PATIENCE)
        with context.wrap_socket(plain, server_hostname=name) as client:
            client.sendall(b"x")
            return client.recv(1)

    one, two = add("one.example"), add("two.example")
    description = f"tls:{certificates}:0:interface=\\:\\:1"
    with Service("sock-echo", f"--listen={description}", cwd=folder) as echo:
        assert ask(one, "one.example") == b"x"
        assert ask(two, "two.example") == b"x"
        three = add("three.example")
        echo.process.send_signal(signal.SIGHUP)
        echo.err.wait_for("reloaded: certificate")
        assert ask(three, "three.example") == b"x"
        with pytest.raises(ssl.SSLCertVerificationError):
            ask(one, "two.example")
        assert "Traceback" not in echo.err.text


def test_a_directory_of_certificates_is_read_again_at_sighup(folder: Path) -> None:
    served = folder / "served"
    served.mkdir()
    (served / "one.pem").write_text("".join(pem_of("one.example")))
    options = ("--tls-cert=served", "--tls-cert=trusted/cert.pem", "--tls-key=key.pem")
    with Service("sock-echo", LISTEN, *options, cwd=folder) as echo:

        def shown_for(name: str) -> str:
            said = _connecting(folder, echo, "-servername", name)
            found = re.search(r"^subject=CN ?= ?(.*)$", said, re.MULTILINE)
            assert found is not None
            return found[1]

        assert [shown_for(each) for each in ("one.example", "localhost", "two.example")] == [
            "one.example",
            "localhost",
            "one.example",
        ]
        (served / "two.crt").write_text(pem_of("two.example")[0])
        echo.process.send_signal(signal.SIGHUP)
        echo.err.wait_for("not reloaded: --tls-cert: .*/two.crt has no key in its directory")
        assert shown_for("two.example") == "one.example"
        for ending, text in zip((".crt", ".key"), pem_of("two.example"), strict=True):
            (served / f"two{ending}").write_text(text)
        echo.process.send_signal(signal.SIGHUP)
        echo.err.wait_for("reloaded: certificate")
        assert shown_for("two.example") == "two.example"
        assert shown_for("one.example") == "one.example"
        assert "Traceback" not in echo.err.text


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
@pytest.mark.parametrize("served", ["one", "several"])
def test_sessions_are_resumed_after_sighup(folder: Path, version: str, served: str) -> None:
    """Also when the certificate is another one, which clients without a session get."""
    directory = folder / "served"
    directory.mkdir()
    for name in ("localhost", "other.example")[: 1 + (served == "several")]:
        (directory / f"{name}.pem").write_text("".join(pem_of(name, name)))
    client = _Resuming(version)
    with Service("sock-echo", LISTEN, "--tls-cert=served", cwd=folder) as echo:
        assert not client.resumes(echo)
        assert client.resumes(echo)
        shown = client.shown
        for times in (1, 2):
            own = directory / "localhost.pem"
            own.write_text("".join(pem_of("localhost", "localhost")))
            echo.process.send_signal(signal.SIGHUP)
            echo.err.wait_for("reloaded: certificate", times)
            assert client.resumes(echo)
        newcomer = _Resuming(version)
        assert not newcomer.resumes(echo)
        assert newcomer.shown != shown
        assert newcomer.resumes(echo)
        assert "Traceback" not in echo.err.text


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_a_session_does_not_outlive_the_trust_in_its_client(folder: Path, version: str) -> None:
    for name in ("client", "issuer"):
        (folder / f"{name}.pem").write_text("".join(pem_of(name, ca=True)))
    shutil.copy(folder / "client.pem", folder / "ca.pem")
    client = _Resuming(version, folder / "client.pem")
    options = (*TLS, "--tls-client-ca=ca.pem")
    with Service("sock-echo", LISTEN, *options, cwd=folder) as echo:
        assert not client.resumes(echo)
        assert client.resumes(echo)
        shutil.copy(folder / "issuer.pem", folder / "ca.pem")
        echo.process.send_signal(signal.SIGHUP)
        echo.err.wait_for("reloaded: certificate")
        with pytest.raises(ssl.SSLError):
            client.resumes(echo)


class _Resuming:
    """A TLS client that resumes its last session, if the service does."""

    def __init__(self, version: str, certificate: Path | None = None) -> None:
        self._context = ssl.create_default_context()
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE
        self._context.minimum_version = ssl.TLSVersion[version]
        self._context.maximum_version = ssl.TLSVersion[version]
        if certificate is not None:
            self._context.load_cert_chain(certificate)
        self._session: ssl.SSLSession | None = None
        self.shown: bytes | None = None

    def resumes(self, echo: Service) -> bool:
        """Exchange a byte, and return whether the session was resumed."""
        plain = echo.connect()
        plain.settimeout(PATIENCE)
        name = "localhost"
        wrap = self._context.wrap_socket
        with wrap(plain, server_hostname=name, session=self._session) as client:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
            self.shown = client.getpeercert(binary_form=True)
            self._session = client.session
            return bool(client.session_reused)


def test_old_versions_of_tls_are_refused(folder: Path) -> None:
    with Service("sock-echo", LISTEN, *TLS, cwd=folder) as echo:
        done = run(
            *("openssl", "s_client", "-connect", f"127.0.0.1:{echo.port}", "-tls1_1"),
            *("-cipher", "ALL:@SECLEVEL=0"),
            cwd=folder,
            input=b"",
        )
        assert b"Cipher is (NONE)" in done.stdout


def _connecting(folder: Path, echo: Service, *options: str) -> str:
    """Return what openssl's client says of a connection."""
    command = ("openssl", "s_client", "-connect", f"127.0.0.1:{echo.port}", *options)
    return run(*command, cwd=folder, input=b"").stdout.decode()


def test_what_is_secret_stays_secret(folder: Path) -> None:
    """Ciphers without forward secrecy, or that do not authenticate what they encrypt, are out."""
    with Service("sock-echo", *OWN, cwd=folder) as echo:
        for cipher, is_taken in {
            "ECDHE-RSA-AES128-GCM-SHA256": True,
            "ECDHE-RSA-CHACHA20-POLY1305": True,
            "ECDHE-RSA-AES128-SHA256": False,
            "ECDHE-RSA-AES256-SHA": False,
            "AES128-GCM-SHA256": False,
            "AES256-SHA": False,
        }.items():
            said = _connecting(folder, echo, "-tls1_2", "-cipher", cipher)
            assert f"Cipher is {cipher if is_taken else '(NONE)'}\n" in said


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize("asked", [False, True], ids=["", "clients show a certificate"])
def test_a_session_is_resumed(folder: Path, version: str, asked: bool) -> None:
    shown = ("-cert", "trusted/cert.pem", "-key", "key.pem")
    options = ["--tls-client-ca=trusted/cert.pem"] if asked else []
    with Service("sock-echo", *OWN, "--once", *options, cwd=folder) as echo:
        connecting = ["openssl", "s_client", "-connect", f"127.0.0.1:{echo.port}", version, *shown]
        for session, said in (("-sess_out", "New, TLS"), ("-sess_in", "Reused, TLS")):
            # What comes after the handshake has the ticket of TLS 1.3 before it.
            client = Running([*connecting, session, "session"], folder, stdin=subprocess.PIPE)
            with client:
                assert client.process.stdin is not None
                client.process.stdin.write(b"x\n")
                client.process.stdin.flush()
                client.wait()
                assert said in client.out.whole()


def test_clients_are_told_whose_certificates_are_wanted(folder: Path) -> None:
    with Service("sock-echo", *OWN, "--tls-client-ca=trusted/cert.pem", cwd=folder) as echo:
        said = _connecting(folder, echo)
        assert "Acceptable client certificate CA names\nCN = localhost\n" in said


SITE = """
from twisted.web.server import Site
from twisted.web.static import Data

page = Data(b"hello", "text/plain")
page.isLeaf = True
site = Site(page)
"""


@needs("curl")
@pytest.mark.parametrize("reactor", ["default", "eager"])
@pytest.mark.parametrize("listen", [OWN, TWISTEDS, (*OWN, "--stock-transports")])
def test_the_protocol_is_negotiated(folder: Path, listen: tuple[str, ...], reactor: str) -> None:
    (folder / "sites.py").write_text(SITE)
    arguments = (f"--reactor={reactor}", "sock-serve", "--factory=sites.site", *listen)
    with Service(*arguments, cwd=folder) as site:
        for wanted, version in (("--http2", "2"), ("--http1.1", "1.1")):
            done = run(
                *("curl", "--silent", "--show-error", "--cacert", "trusted/cert.pem", wanted),
                *("--write-out", " by HTTP/%{http_version}", f"https://localhost:{site.port}/"),
                cwd=folder,
            )
            assert done.stdout.decode() == f"hello by HTTP/{version}", done.stderr
        assert site.stop() == 0
        assert "Traceback" not in site.err.text


def test_clients_must_show_a_certificate_where_they_are_asked_to(folder: Path) -> None:
    with Service(
        *("sock-echo", LISTEN, *TLS, "--tls-client-ca=trusted/cert.pem"), cwd=folder
    ) as echo:
        context = _trusting(folder)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            with _wrap(context, echo.connect()) as client:
                client.sendall(b"x")
                client.recv(1)
        context.load_cert_chain(folder / "trusted/cert.pem", folder / "key.pem")
        with _wrap(context, echo.connect()) as client:
            client.sendall(b"x")
            assert client.recv(1) == b"x"


@pytest.mark.parametrize(
    ("listen", "said"), [(OWN, "trusted/cert.pem contains no PEM cert"), (TWISTEDS, "PEM")]
)
def test_a_certificate_is_read_again_at_sighup_and_old_connections_live(
    folder: Path, listen: tuple[str, ...], said: str
) -> None:
    old = _trusting(folder)
    with Service("sock-echo", *listen, cwd=folder) as echo:
        with _wrap(old, echo.connect()) as living:
            (folder / "trusted/cert.pem").write_text("no certificate")
            echo.process.send_signal(signal.SIGHUP)
            echo.err.wait_for(f"not reloaded: .*{said}")
            with _wrap(old, echo.connect()):
                pass
            shutil.copytree(folder / "other", folder, dirs_exist_ok=True)
            echo.process.send_signal(signal.SIGHUP)
            echo.err.wait_for("reloaded: certificate")
            with pytest.raises(ssl.SSLCertVerificationError):
                _wrap(old, echo.connect())
            with _wrap(_trusting(folder), echo.connect()):
                pass
            living.sendall(b"x")
            assert living.recv(1) == b"x"
        assert "Traceback" not in echo.err.text


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (["--tls-cert=none.pem"], 2, "--tls-cert: none.pem: No such file or directory"),
        (["--tls-cert=key.pem"], 1, "--tls-cert: key.pem contains no PEM certificate"),
        (
            ["--tls-cert=trusted/cert.pem"],
            1,
            "--tls-cert: trusted/cert.pem contains no PEM key",
        ),
        (
            ["--tls-cert=trusted/cert.pem", "--tls-key=other/key.pem"],
            1,
            "--tls-cert: other/key.pem is not the key of trusted/cert.pem",
        ),
        (
            ["--tls-cert=trusted/cert.pem", "--tls-key=ec.pem"],
            1,
            "--tls-cert: ec.pem is not the key of trusted/cert.pem",
        ),
        (
            ["--tls-cert=trusted/cert.pem", "--tls-key=encrypted.pem"],
            1,
            "--tls-cert: encrypted.pem is encrypted: a service cannot ask for a passphrase",
        ),
        (
            ["--tls-cert=other"],
            1,
            "--tls-cert: other contains no certificate with its key (*.pem, *.crt, *.cer, *.key)",
        ),
        (
            ["--tls-cert=trusted"],
            1,
            "--tls-cert: trusted contains no certificate with its key (*.pem, *.crt, *.cer, *.key)",
        ),
        (["--tls-cert=pipe"], 2, "--tls-cert: pipe is not a regular file"),
        (
            ["--tls-cert=weak.pem", "--tls-key=weak-key.pem"],
            1,
            "--tls-cert: weak.pem has no usable certificate: ee key too small",
        ),
        (
            ["--tls-cert=pss.pem", "--tls-key=pss-key.pem"],
            1,
            "--tls-cert: pss.pem is for RSA-PSS only, which is not supported; use RSA",
        ),
        (
            ["--tls-cert=odd.pem", "--tls-key=key.pem"],
            1,
            "--tls-cert: odd.pem has no usable certificate: "
            "Curve 1.3.36.3.3.2.8.1.1.1 is not supported",
        ),
        (
            ["--tls-cert=trusted/cert.pem", "--tls-key=odd-key.pem"],
            1,
            "--tls-cert: odd-key.pem has no usable key: "
            "Curve 1.3.36.3.3.2.8.1.1.1 is not supported",
        ),
        (["--tls-key=key.pem"], 2, "--tls-key goes with --tls-cert"),
        (
            [*TLS, "--listen=ssl:0:privateKey=key.pem:certKey=trusted/cert.pem"],
            1,
            "'ssl:0:privateKey=key.pem:certKey=trusted/cert.pem' already uses TLS; "
            "do not set a TLS certificate as well",
        ),
    ],
)
def test_what_cannot_be_used_is_one_line(
    folder: Path, options: list[str], status: int, said: str
) -> None:
    make_unusable(folder)
    done = run(BIN / "twistd", "-n", "sock-echo", LISTEN, *options, cwd=folder)
    assert done.stderr.decode().replace(f"{folder}/", "") == f"twistd: sock-echo: {said}\n"
    assert done.returncode == status


def test_a_key_of_another_type_leaves_the_old_one_in_use(folder: Path) -> None:
    make_unusable(folder)
    with Service("sock-echo", *OWN, cwd=folder) as echo:
        shutil.copy(folder / "ec.pem", folder / "key.pem")
        echo.process.send_signal(signal.SIGHUP)
        echo.err.wait_for("not reloaded: .*key.pem is not the key of .*cert.pem")
        with _wrap(_trusting(folder), echo.connect()) as client:
            client.sendall(b"x")
            assert client.recv(1) == b"x"


def test_files_are_found_again_though_twistd_has_changed_its_folder(folder: Path) -> None:
    (folder / "elsewhere").mkdir()
    (folder / "denied").write_text("")
    with Service(
        *("--rundir=elsewhere", "sock-echo", *OWN, "--deny-file=denied"), cwd=folder
    ) as echo:
        (folder / "denied").write_text("127.0.0.1\n")
        echo.process.send_signal(signal.SIGHUP)
        echo.err.wait_for("reloaded: networks\n(.*\n)*.*reloaded: certificate")
        with echo.connect() as client:
            assert client.recv(1) == b""


def test_where_there_are_only_datagrams_it_is_refused(folder: Path) -> None:
    command = (BIN / "twistd", "-n", "sock-echo", "--listen=udp:0")
    for options, what in (
        (TLS, "--tls-cert"),
        (("--proxy-protocol=v1",), "--proxy-protocol"),
        (("--max-time=5",), "--max-time"),
    ):
        done = run(*command, *options, cwd=folder)
        said = f"twistd: sock-echo: {what} goes with a stream listener, and sock-echo has none\n"
        assert (done.returncode, done.stderr.decode()) == (1, said)


@pytest.mark.parametrize("listen", [OWN, TWISTEDS])
def test_a_peer_that_does_not_answer_the_end_does_not_hold_up_the_stop(
    folder: Path, listen: tuple[str, ...]
) -> None:
    (folder / "others.py").write_text(
        "from twisted.internet.protocol import Protocol\n"
        "class Greeting(Protocol):\n"
        "    def connectionMade(self):\n"
        "        self.transport.write(b'hello')\n"
    )
    with Service(
        *("sock-serve", "--factory=others.Greeting", *listen, "--flush=600"), cwd=folder
    ) as greeting:
        with _wrap(_trusting(folder), greeting.connect()) as idle:
            assert idle.recv(5) == b"hello"
            assert greeting.stop() == 0
            greeting.err.wait_for("stopped: 1 connection finished, 0 were reset")
            assert idle.recv(1) == b""


@pytest.mark.parametrize(
    ("options", "command"),
    [(("-tls1_3",), "K"), (("-tls1_2", "-maxfraglen", "512"), None)],
    ids=["keys are updated", "short records"],
)
def test_what_python_cannot_ask_for(
    folder: Path, options: tuple[str, ...], command: str | None
) -> None:
    with Service("sock-echo", *OWN, cwd=folder) as echo:
        client = subprocess.Popen(
            ("openssl", "s_client", "-connect", f"127.0.0.1:{echo.port}", *options),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder,
        )
        typed: Any = client.stdin
        printed: Any = client.stdout

        def say(line: str) -> None:
            typed.write(line.encode() + b"\n")
            typed.flush()

        def wait_for(expected: str) -> None:
            for line in printed:
                if line.decode("ascii", "replace").strip() == expected:
                    return
            raise AssertionError(f"the client has not printed {expected}")

        with client:
            for number in range(4):
                word = str(number) * 2000
                say(word)
                wait_for(word)
                if command is not None:
                    say(command)
                    wait_for("KEYUPDATE")
            typed.close()
        assert "Traceback" not in echo.err.text
