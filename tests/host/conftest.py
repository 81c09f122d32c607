"""What the tests of the host have in common."""

from __future__ import annotations

from pathlib import Path

import pytest

from sockservices.connections.tls import TLS
from tests.certificates import make_certificate


@pytest.fixture
def certificate(tmp_path: Path) -> TLS:
    make_certificate(tmp_path)
    return TLS(tls_cert=str(tmp_path / "trusted/cert.pem"), tls_key=str(tmp_path / "key.pem"))
