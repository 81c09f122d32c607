"""Runs a command with sockets passed to it, as a service manager does: sd_listen_fds(3).

``python passing.py NAME=DESCRIPTOR... -- COMMAND...``
"""

from __future__ import annotations

import fcntl
import os
import sys

FIRST = 3


def main(arguments: list[str]) -> None:
    """Pass the descriptors on under the numbers that the command will look for."""
    end = arguments.index("--")
    pairs = [each.partition("=") for each in arguments[:end]]
    out_of_the_way = [_moved(int(number)) for _name, _equals, number in pairs]
    for number, descriptor in enumerate(out_of_the_way, FIRST):
        os.dup2(descriptor, number)
    os.environ["LISTEN_PID"] = str(os.getpid())
    os.environ["LISTEN_FDS"] = str(len(pairs))
    os.environ["LISTEN_FDNAMES"] = ":".join(name for name, _equals, _number in pairs)
    command = arguments[end + 1 :]
    os.execv(command[0], command)


def _moved(descriptor: int) -> int:
    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 100)


if __name__ == "__main__":
    main(sys.argv[1:])
