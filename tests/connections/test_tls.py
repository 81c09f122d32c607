from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.protocols.tls import TLSMemoryBIOFactory

from sockservices.connections.ledger import Ledger
from sockservices.connections.parts import at_once
from sockservices.connections.tls import TLS
from sockservices.errors import SettingError
from sockservices.requirement import requirement
from tests.certificates import make_certificate
from tests.fakes import context


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    make_certificate(tmp_path)
    return {
        "tls_cert": str(tmp_path / "trusted/cert.pem"),
        "tls_key": str(tmp_path / "key.pem"),
    }


def test_without_a_certificate_nothing_is_encrypted() -> None:
    running = TLS().begin(context(Ledger("test")))
    assert running.layer is None
    assert running.files is None
    assert at_once(TLS().certificates()) is None


def test_with_a_certificate_there_is_a_layer_around_the_factory(files: dict[str, str]) -> None:
    clock = Clock()
    running = TLS(**files).begin(context(Ledger("test"), clock))
    assert running.files == "certificate"
    assert running.layer is not None
    factory = Factory()
    around = running.layer(factory)
    assert isinstance(around, TLSMemoryBIOFactory)
    assert around.wrappedFactory is factory


def test_connections_are_shown_the_certificate_of_now(
    files: dict[str, str], tmp_path: Path
) -> None:
    running = TLS(**files).begin(context(Ledger("test")))

    def shown() -> str:
        protocol: Any = SimpleNamespace(factory=SimpleNamespace(wrappedFactory=None))
        certificate = running.serverConnectionForTLS(protocol).get_certificate()
        return str(certificate.to_cryptography().subject.rfc4514_string())

    assert shown() == "CN=localhost"
    make_certificate(tmp_path, "another")
    assert shown() == "CN=localhost"
    put_in_force = running.change(TLS(**files))
    assert shown() == "CN=localhost"
    put_in_force()
    assert shown() == "CN=another"


def test_a_certificate_that_is_spoilt_changes_nothing(
    files: dict[str, str], tmp_path: Path
) -> None:
    running = TLS(**files).begin(context(Ledger("test")))
    layer = running.layer
    (tmp_path / "key.pem").write_text("spoilt")
    with pytest.raises(SettingError, match=r"tls_cert: .*key\.pem"):
        running.change(TLS(**files))
    assert running.layer == layer
    assert running.files == "certificate"


def test_it_can_be_ended_and_begun_for_the_connections_to_come(files: dict[str, str]) -> None:
    running = TLS(**files).begin(context(Ledger("test")))
    running.change(TLS())()
    assert running.layer is None
    running.change(TLS(**files))()
    assert running.layer is not None


@pytest.mark.parametrize("name", ["tls_key", "tls_client_ca"])
def test_what_goes_with_a_certificate_is_refused_without_one(
    files: dict[str, str], name: str
) -> None:
    with pytest.raises(SettingError, match=f"{name} .*tls_cert"):
        TLS(**{name: files["tls_key"]})


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"tls_cert: .*/none\.pem"):
        TLS(tls_cert=str(tmp_path / "none.pem"))


def test_without_what_tls_needs_it_is_said_what_to_install(
    files: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sockservices.connections.certificates", None)
    with pytest.raises(SettingError, match=re.escape(f"pip install {requirement('tls')}")):
        at_once(TLS(**files).certificates())


@pytest.mark.parametrize(
    ("has_certificate", "has_tls", "objects"),
    [(True, True, True), (True, False, False), (False, True, False), (False, False, False)],
)
def test_it_objects_to_a_listener_that_has_tls_already(
    files: dict[str, str], has_certificate: bool, has_tls: bool, objects: bool
) -> None:
    settings = TLS(**files) if has_certificate else TLS()
    objection = settings.objection(SimpleNamespace(has_tls=has_tls))
    assert (objection is not None) == objects
