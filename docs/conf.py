"""How the site is built: ``sphinx-build -n -W docs site``."""

from __future__ import annotations

import re
import sys
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

import attrs
from sphinx.application import Sphinx
from twisted.internet.interfaces import IAddress
from twisted.logger import ILogObserver

import sockservices

HERE = Path(__file__).parent
if Path(sockservices.__file__).parent.parent != HERE.parent:
    sys.exit(f"{sockservices.__file__} is not the code of this checkout: pip install -e '.[docs]'")
sys.path.insert(0, str(HERE.parent))

from docs import generate  # noqa: E402

generate.write(HERE / "reference" / "generated")

project = "sockservices"
release = version = version_of("sockservices")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["reference/generated"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
for interface in (IAddress, ILogObserver):  # which have what Sphinx asks of a class, but for this
    interface.__qualname__ = interface.__name__

# They are made by the ledger, and not by those who read them.
_NOT_CALLED = ("Closed", "Connection", "Ledger", "Opened", "Refused", "Totals")


def shorten_signature(
    _app: Sphinx, what: str, name: str, thing: Any, _options: Any, shown: Any, returns: Any
) -> tuple[str, Any] | None:
    """Leave out of a signature what says nothing to a reader."""
    if shown is None:
        return None
    if what == "class" and name.rpartition(".")[2] in _NOT_CALLED:
        return "", None

    def default(match: re.Match[str]) -> str:
        value = attrs.fields_dict(thing)[match[1]].default
        return "..." if hasattr(value, "factory") else repr(value)

    shown = re.sub(r"attr_dict\['(\w+)'\]\.default", default, shown)
    return shown, returns


def setup(app: Sphinx) -> None:
    """See Sphinx's extensions."""
    app.connect("autodoc-process-signature", shorten_signature)


# What others document; intersphinx would need their sites to build ours.
nitpick_ignore = [
    ("py:class", "sockservices.connections.parts._P"),
    ("py:class", "sockservices.settings.Settings"),
    ("py:class", "sockservices.transports.hosted_port.HostedPort"),
    ("py:class", "Kind"),
    ("py:class", "Reason"),
    ("py:obj", "typing.Reason"),
]
nitpick_ignore_regex = [
    ("py:class", r"(collections|hypothesis|ipaddress|pathlib|re|socket|twisted)\..*"),
]

html_theme = "furo"
html_title = "sockservices"
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
smartquotes = False  # which makes one dash of the two of an option
