"""How pip finds this package: by its name, or where it was installed from before a release."""

from __future__ import annotations

import json
import shlex
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname


def pip_install(extra: str) -> str:
    """Return the command that installs an extra of this package."""
    return f"pip install {requirement(extra)}"


def requirement(extra: str = "") -> str:
    """Return the argument of ``pip install`` for this package, quoted for a shell.

    It is the package's name if it was installed from an index, or the clone or URL that it was
    installed from.
    """
    extras = f"[{extra}]" if extra else ""
    source = _source()
    if source is None:
        return shlex.quote(f"sockservices{extras}")
    is_url = "://" in source
    return shlex.quote(f"sockservices{extras} @ {source}" if is_url else f"{source}{extras}")


def _source() -> str | None:
    """Return the path or the URL that pip installed from, as it has recorded it (PEP 610)."""
    try:
        recorded = json.loads(distribution("sockservices").read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        return None
    url: str = recorded.get("url", "")
    if url.startswith("file:"):
        path = url2pathname(urlsplit(url).path)
        return path if Path(path).exists() else None
    version_control = recorded.get("vcs_info")
    if version_control is not None:
        return f"{version_control['vcs']}+{url}@{version_control['commit_id']}"
    return url or None
