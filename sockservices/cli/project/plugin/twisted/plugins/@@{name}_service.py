"""What twistd is told: names alone, so that nothing is imported before it is used."""

from sockservices import SocketServiceMaker

@@name = SocketServiceMaker(
    "@@name",
    "Answers in capitals.",
    @@kind="@@name.@@{title}Factory",
)
