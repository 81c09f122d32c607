from sockservices.testing import DatagramServiceContract

from @@name import @@{title}Factory


class TestContract(DatagramServiceContract):
    """The rules of every service: empty, largest and repeated datagrams, and more."""

    factory = @@{title}Factory
    examples = (b"hello",)


def test_the_command(twistd):
    running = twistd(@@arguments"--port", "0", "--suffix", "?")
    with running.connect() as peer:
        peer.send(b"hello")
        assert peer.recv(100) == b"HELLO?"
