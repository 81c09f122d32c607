"""The pytest fixtures serve, client and twistd, available wherever this package is installed.

``serve`` and ``client`` need a running reactor, as pytest-twisted provides. In tests for trial, use
``serving`` and ``connect`` of ``sockservices.testing``, on which these fixtures are built.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from sockservices.host.host import SocketService
    from sockservices.testing.in_process import Client
    from sockservices.testing.processes import Twistd


@pytest.fixture
def serve() -> Iterator[Callable[..., Awaitable[SocketService]]]:
    """Serve a factory on the running reactor, and stop it after the test.

    ``service = await serve(factory, ["tcp:0"], Limits(max_connections=1))``: the arguments are
    those of ``SocketService``. Without a description it listens on a free TCP port of the
    loopback interface.
    """
    import pytest_twisted  # type: ignore[import-untyped]
    from twisted.internet.defer import ensureDeferred

    from sockservices.testing.in_process import serving

    stack = AsyncExitStack()

    async def start(*arguments: Any, **named: Any) -> SocketService:
        return await stack.enter_async_context(serving(*arguments, **named))

    yield start
    pytest_twisted.blockon(ensureDeferred(stack.aclose()))


@pytest.fixture
def client() -> Iterator[Callable[..., Awaitable[Client]]]:
    """Connect to a service that ``serve`` has started: ``peer = await client(service)``."""
    import pytest_twisted
    from twisted.internet.defer import ensureDeferred

    from sockservices.testing.in_process import connect

    made: list[Client] = []

    async def start(service: SocketService, listener: int = 0) -> Client:
        made.append(await connect(service, listener))
        return made[-1]

    yield start
    for each in made:
        pytest_twisted.blockon(ensureDeferred(each.close()))


@pytest.fixture
def twistd(tmp_path: Path) -> Iterator[Callable[..., Twistd]]:
    """Run ``twistd`` as an operator does: ``running = twistd("sock-echo", "--port", "0")``.

    It is listening when this returns. See ``running.ports``, ``running.log`` and
    ``running.connect()``.
    """
    from sockservices.testing.processes import Twistd

    started: list[Twistd] = []

    def start(*arguments: str, environment: dict[str, str] | None = None) -> Twistd:
        started.append(Twistd(arguments, tmp_path, environment))
        return started[-1]

    yield start
    for each in started:
        each.end()
