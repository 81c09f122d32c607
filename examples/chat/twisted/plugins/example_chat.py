"""What the chat plugs into twistd."""

from sockservices import SocketServiceMaker

chat = SocketServiceMaker(
    "example-chat", "A chat with rooms, line by line.", stream="chat.ChatFactory"
)
