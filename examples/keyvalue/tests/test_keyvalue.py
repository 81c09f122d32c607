import socket
import ssl
import struct
import subprocess

import pytest
import pytest_twisted
from keyvalue import KeyValueFactory

from sockservices.testing import StreamServiceContract


def message(data):
    return struct.pack("!I", len(data)) + data


class TestContract(StreamServiceContract):
    factory = KeyValueFactory
    examples = (
        message(b"SET a 1") + message(b"GET a"),
        message(b"DEL a") + message(b"GET"),
        message(b"") + message(b"PUT a b"),
        message(b"x" * 70_000),
    )
    endless = message(b"GET nothing at all")


async def ask(peer, data):
    peer.send(message(data))
    (length,) = struct.unpack("!I", await peer.receive(4))
    return await peer.receive(length)


@pytest_twisted.ensureDeferred
async def test_what_is_set_is_there_until_it_is_deleted(serve, client):
    service = await serve(KeyValueFactory(max_keys=1))
    one, two = await client(service), await client(service)
    assert await ask(one, b"GET a") == b"NONE"
    assert await ask(one, b"SET a two words") == b"OK"
    assert await ask(two, b"GET a") == b"= two words"
    assert await ask(two, b"SET b 1") == b"ERR there are 1 keys, and may not be more"
    assert await ask(two, b"DEL a") == b"OK"
    assert await ask(one, b"GET a") == b"NONE"


@pytest.fixture
def certificates(tmp_path):
    """Create a certificate authority, and certificates for the service and two clients."""

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=tmp_path, check=True, capture_output=True)

    new = ("req", "-newkey", "rsa:2048", "-nodes")
    openssl(*new, "-x509", "-days", "2", "-subj", "/CN=CA", "-keyout", "ca.key", "-out", "ca.pem")
    for name in ("localhost", "ada", "bob"):
        (tmp_path / "names").write_text(f"subjectAltName=DNS:{name}")
        openssl(*new, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2")
        files = ("-in", f"{name}.csr", "-out", f"{name}.pem", "-extfile", "names")
        openssl("x509", "-req", *signing, *files)
    return tmp_path


def test_each_client_has_its_own(twistd, certificates):
    files = ("--tls-cert=localhost.pem", "--tls-key=localhost.key", "--tls-client-ca=ca.pem")
    running = twistd("example-keyvalue", "--port=0", "--interface=127.0.0.1", *files)

    def ask_as(name, *messages):
        context = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
        if name:
            context.load_cert_chain(certificates / f"{name}.pem", certificates / f"{name}.key")
        plain = socket.create_connection(("127.0.0.1", running.ports[0]), 30)
        with context.wrap_socket(plain, server_hostname="localhost") as peer:
            answers = []
            for data in messages:
                peer.sendall(message(data))
                answer = peer.recv(1000)
                answers.append(answer[4:])
            return answers

    assert ask_as("ada", b"SET a 1", b"GET a") == [b"OK", b"= 1"]
    assert ask_as("bob", b"GET a") == [b"NONE"]
    assert ask_as("ada", b"GET a") == [b"= 1"]
    with pytest.raises((ssl.SSLError, ConnectionError)):
        ask_as("", b"GET a")
