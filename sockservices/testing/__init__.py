"""For authors of services: contracts to check a service against, and ways to run it in a test.

Names are imported lazily, because pytest loads this package for its fixtures at every start.
"""

import importlib
from typing import TYPE_CHECKING, Any

from sockservices.requirement import pip_install

if TYPE_CHECKING:
    from sockservices.testing.datagrams import DatagramServiceContract as DatagramServiceContract
    from sockservices.testing.failures import ContractError as ContractError
    from sockservices.testing.in_process import Client as Client
    from sockservices.testing.in_process import connect as connect
    from sockservices.testing.in_process import serving as serving
    from sockservices.testing.processes import Twistd as Twistd
    from sockservices.testing.streams import StreamServiceContract as StreamServiceContract

_HOME = {
    "Client": "in_process",
    "ContractError": "failures",
    "DatagramServiceContract": "datagrams",
    "StreamServiceContract": "streams",
    "Twistd": "processes",
    "connect": "in_process",
    "serving": "in_process",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'sockservices.testing' has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f"sockservices.testing.{_HOME[name]}"), name)
    except ImportError as error:
        raise ImportError(
            f"sockservices.testing needs {error.name}: {pip_install('testing')}"
        ) from None
