"""Asks an echo over TCP, one connection after the other, until its standard input ends.

``python flood.py PORT`` prints ``begun`` after the first answer, and in the end how many answers it
has got and how many it has not. It imports nothing of ours, to run in any namespace.
"""

from __future__ import annotations

import select
import socket
import sys

PATIENCE = 60  # seconds


def ask(port: int, question: bytes) -> bool:
    """Return whether an echo has answered in full, and closed."""
    answer = b""
    try:
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
            connection.sendall(question)
            connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(65536):
                answer += part
    except OSError as error:
        print(error, file=sys.stderr, flush=True)
    return answer == question


def main(port: int) -> None:
    """Ask until standard input ends."""
    answered = lost = 0
    while not select.select([sys.stdin], [], [], 0)[0]:
        if ask(port, b"%d" % answered * 100):
            answered += 1
        else:
            lost += 1
        if answered == 1:
            print("begun", flush=True)
    print(f"{answered} answered, {lost} not", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
