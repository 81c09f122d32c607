"""The declaration of @@name: dotted names only, so that nothing is imported until it is used."""

from sockservices import SocketServiceMaker

@@name = SocketServiceMaker(
    "@@name",
    "Answers in capitals.",
    @@kind="@@name.@@{title}Factory",
)
