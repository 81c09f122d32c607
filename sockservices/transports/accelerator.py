"""The accelerator: what each message needs, in C, if ``sockservices-fast`` is installed.

The modules of this room do the same in Python, which is the reference: whatever is unusual, the
accelerator leaves to them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

SWITCH = "SOCKSERVICES_FAST"
"""The environment variable that turns it off with the value 0."""

_PACKAGE = "sockservices-fast"
_INTERFACE = 1  # of those that fit; in C, INTERFACE


def find(environment: Mapping[str, str]) -> tuple[Any, str]:
    """Return the accelerator or ``None``, and in words what transports run in.

    Parameters:
        environment: may turn it off.
    """
    if environment.get(SWITCH) == "0":
        return None, f"Python ({SWITCH}=0)"
    try:
        found: Any = import_module("sockservices_fast")
    except ModuleNotFoundError as error:
        if error.name == "sockservices_fast":
            return None, "Python"
        return None, f"Python ({_PACKAGE} needs {error.name})"
    except ImportError as error:
        return None, f"Python ({_PACKAGE} cannot be loaded: {error})"
    version = f"{_PACKAGE} {metadata.version(_PACKAGE)}"
    if found.INTERFACE != _INTERFACE:
        return None, f"Python ({version} does not fit this sockservices)"
    return found, f"C ({version})"


accelerator, language = find(os.environ)

if TYPE_CHECKING or accelerator is None:

    class Accelerated:
        """The base of eager streams; list it before ``EagerStream``."""

    class AcceleratedDatagrams:
        """The base of UDP ports; list it before ``DatagramPort``."""

else:
    Accelerated = accelerator.Stream
    AcceleratedDatagrams = accelerator.Datagrams
