from sockservices.testing import DatagramServiceContract

from @@name import @@{title}Factory


class TestContract(DatagramServiceContract):
    """What every service holds to: empty, largest, repeated datagrams, and more."""

    factory = @@{title}Factory
    examples = (b"hello",)


def test_the_command(twistd):
    running = twistd(@@arguments"--port", "0", "--suffix", "?")
    with running.connect() as peer:
        peer.send(b"hello")
        assert peer.recv(100) == b"HELLO?"
