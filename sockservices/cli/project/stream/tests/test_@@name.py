import pytest_twisted
from sockservices.testing import StreamServiceContract

from @@name import @@{title}Factory


class TestContract(StreamServiceContract):
    """The rules of every service: input split anywhere, peers that disconnect, and more."""

    factory = @@{title}Factory
    examples = (b"hello\n", b"two\nlines\n")


@pytest_twisted.ensureDeferred
async def test_it_answers(serve, client):
    service = await serve(@@{title}Factory(suffix="!"))
    peer = await client(service)
    peer.send(b"hello\n")
    assert await peer.receive(7) == b"HELLO!\n"


def test_the_command(twistd):
    running = twistd(@@arguments"--port", "0", "--suffix", "?")
    with running.connect() as peer:
        peer.sendall(b"hello\n")
        assert peer.recv(100) == b"HELLO?\n"
