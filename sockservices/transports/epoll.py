"""epoll(7), or an error which says that the system does not have it."""

import sys

try:
    from select import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, epoll

    from twisted.internet.epollreactor import EPollReactor
except ImportError:
    raise ImportError(
        f"eager transports need epoll(7), which {sys.platform} does not have"
    ) from None

__all__ = ["EPOLLERR", "EPOLLHUP", "EPOLLIN", "EPOLLOUT", "EPollReactor", "epoll"]
