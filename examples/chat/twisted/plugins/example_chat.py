"""The twistd plugin of the chat."""

from sockservices import SocketServiceMaker

chat = SocketServiceMaker(
    "example-chat", "A chat with rooms, line by line.", stream="chat.ChatFactory"
)
