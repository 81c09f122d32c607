"""How the site is built: ``sphinx-build -n -W docs site``."""

from __future__ import annotations

import sys
from importlib.metadata import version as version_of
from pathlib import Path

from twisted.internet.interfaces import IAddress
from twisted.logger import ILogObserver

from sockservices import host
from sockservices.tls import Certificate

HERE = Path(__file__).parent
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
vars(host)["Certificate"] = Certificate  # imported there for type checkers alone
for interface in (IAddress, ILogObserver):  # which have what Sphinx asks of a class, but for this
    interface.__qualname__ = interface.__name__

# What others document; intersphinx would need their sites to build ours.
nitpick_ignore = [("py:class", "Kind")]
nitpick_ignore_regex = [
    ("py:class", r"(collections|hypothesis|ipaddress|pathlib|re|socket|twisted)\..*"),
]

html_theme = "furo"
html_title = "sockservices"
html_copy_source = False
html_show_sphinx = False
