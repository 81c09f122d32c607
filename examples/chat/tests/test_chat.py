import pytest_twisted
from chat import ChatFactory

from sockservices.testing import StreamServiceContract


class TestContract(StreamServiceContract):
    factory = ChatFactory
    examples = (b"hello\n", b"/join attic\n/who\nhello\n/quit\n", b"/what\n", "grüezi\n".encode())


async def _hears(peer, text):
    heard = b""
    while not heard.endswith(text):
        part = await peer.receive(1)
        assert part, heard
        heard += part


@pytest_twisted.ensureDeferred
async def test_who_is_in_a_room_hears_the_others(serve, client):
    service = await serve(ChatFactory())
    one, two = await client(service), await client(service)
    await _hears(one, b"guest-2 joined lobby\n")
    await _hears(two, b"guest-2 joined lobby\n")
    one.send(b"hello\n")
    await _hears(two, b"guest-1: hello\n")
    two.send(b"/join attic\n")
    await _hears(one, b"guest-2 left\n")
    two.send(b"/who\n")
    await _hears(two, b"guest-2\n")
    two.send(b"/quit\n")
    await two.receive_all()


@pytest_twisted.ensureDeferred
async def test_one_that_does_not_read_holds_up_nobody_and_is_told(serve, client):
    service = await serve(ChatFactory())
    slow, one = await client(service), await client(service)
    await _hears(slow, b"guest-2 joined lobby\n")
    slow.transport.pauseProducing()
    line = b"x" * 4000 + b"\n"
    for _ in range(2000):  # more than the kernel and the transport take
        one.send(line)
    one.send(b"/who\n")
    await _hears(one, b"guest-1, guest-2\n")
    slow.transport.resumeProducing()
    await _hears(slow, b" lines\n")


def test_the_command(twistd):
    chat = twistd("example-chat", "--port", "0", "--graceful-timeout", "30")
    with chat.connect() as peer:
        assert peer.recv(1000).startswith(b"welcome, guest-1: ")
        chat.stop()
        rest = b""
        while part := peer.recv(1000):
            rest += part
        assert rest.endswith(b"the chat closes: good-bye\n")
