"""What @@name plugs into twistd: names alone, nothing is imported before it is used."""

from sockservices import SocketServiceMaker

@@name = SocketServiceMaker(
    "@@name",
    "Answers in capitals.",
    @@kind="@@name.@@{title}Factory",
)
