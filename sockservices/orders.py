"""What an operator or a service manager asks of a running service, and what it is told."""

from __future__ import annotations

from typing import Any

from sockservices.host import SocketService
from sockservices.notify import Manager
from sockservices.printable import spaced
from sockservices.signals import handle_signals


def run_under_orders(reactor: Any, host: SocketService) -> None:
    """Let signals reach a service, and a service manager hear of it.

    To be called before it starts.
    """
    manager = Manager()

    is_stopping = False

    def status() -> str:
        return "suspended" if host.is_suspended else f"listening on {spaced(host.descriptions)}"

    def ready() -> None:
        manager.ready(status())

    def reload() -> None:
        if is_stopping:  # of which the manager was told
            host.reload()
            return
        manager.reloading()
        host.reload()
        ready()

    def suspend_or_resume() -> None:
        if is_stopping:
            return
        if host.is_suspended:
            host.resume()
        else:
            host.suspend()
        manager.status(status())

    def stopping() -> None:
        nonlocal is_stopping
        is_stopping = True
        manager.stopping(f"stopping: {host.ledger.live} connections remain")

    handle_signals(reactor, hurry=host.hurry, reload=reload, suspend_or_resume=suspend_or_resume)
    host.when_listening().addCallbacks(
        # As soon as a signal ends it in order.
        lambda _addresses: reactor.callWhenRunning(ready),
        lambda _failure: None,
    )
    reactor.addSystemEventTrigger("before", "shutdown", stopping)
