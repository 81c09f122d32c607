"""Which of Twisted's tests are run."""

from __future__ import annotations

import importlib.util
from pathlib import Path

SUITES = {
    "internet": ("twisted.internet",),
    "test": tuple(
        f"twisted.test.{module}"
        for module in (
            "test_abstract",
            "test_amp",
            "test_ftp",
            "test_internet",
            "test_iosim",
            "test_loopback",
            "test_policies",
            "test_process",
            "test_socks",
            "test_ssl",
            "test_stdio",
            "test_tcp",
            "test_tcp_internals",
            "test_threadable",
            "test_threads",
            "test_udp",
            "test_unix",
        )
    ),
    "conch": ("twisted.conch",),
    "web": ("twisted.web",),
    "protocols": ("twisted.protocols",),
    "names, spread": ("twisted.names", "twisted.spread"),
}
"""Suites by name: the packages whose test modules they hold, or modules. Of ``twisted.test`` those
that have to do with reactors and transports."""

LEFT_OUT = {
    "twisted.test.test_sslverify": "checks certificates for 30 s; connects as test_ssl does",
    "twisted.conch.test.test_keys": "makes and reads keys for 13 s, no reactor",
    "twisted.conch.test.test_ckeygen": "makes keys for 7 s, no reactor",
    "twisted.conch.test.test_transport": "exchanges keys for 9 s, no reactor",
    "twisted.conch.test.test_endpoints": "exchanges keys for 7 s, no reactor",
    "twisted.conch.test.test_manhole": "types at a terminal for 7 s; connects as test_ssh does",
    "twisted.conch.test.test_recvline": "types at a terminal for 5 s; connects as test_ssh does",
}
"""Modules that are run only if they are named, with the reason."""


INTENDED = {
    "twisted.test.test_tcp.LoopbackTests.test_tcpNoDelay": (
        "wants Nagle's algorithm to be on at first; on an eager connection it is off"
    ),
}
"""Tests that come out otherwise on eager transports, with the reason."""


def modules_of(name: str) -> list[str]:
    """List the test modules in a package, at any depth, but those in LEFT_OUT; or the module.

    Found by their files: to import every package would need Windows.

    :raises ImportError: if there is no such package or module.
    """
    spec = importlib.util.find_spec(name)
    if spec is None:
        raise ModuleNotFoundError(f"No module named {name!r}")
    found = [
        ".".join((name, *file.relative_to(folder).with_suffix("").parts))
        for folder in spec.submodule_search_locations or ()
        for file in sorted(Path(folder).rglob("test_*.py"))
        if file.parent.name == "test"
    ]
    return [module for module in found if module not in LEFT_OUT] or [name]


def chosen(names: tuple[str, ...]) -> dict[str, list[str]]:
    """Map suites to their modules.

    :param names: suites of SUITES, modules or packages; nothing is all of SUITES.
    :raises ImportError: if a name is none of these.
    """
    return {
        name: [module for package in SUITES.get(name, (name,)) for module in modules_of(package)]
        for name in names or SUITES
    }
