from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from sockservices.connections.certificate_files import certificates_in, read_chains
from sockservices.connections.parts import at_once
from tests.certificates import pem_of, text_of

A, A_KEY = pem_of("a.example")
B, B_KEY = pem_of("b.example", "b.example", "*.B.example")
B_NAMES = ["b.example", "*.b.example"]
CA, _CA_KEY = pem_of("ca", ca=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def _write(folder: Path, **files: str) -> None:
    """Write files, in whose names two underscores stand for a dot."""
    for name, text in files.items():
        path = folder / name.replace("__", ".")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


def _found(certificates: list[Path], keys: Sequence[Path] = ()) -> list[tuple[str, int, list[str]]]:
    """Return the name of the file, the number of issuers, and the names of each that is found."""
    chains = at_once(read_chains(map(str, certificates), map(str, keys)))
    for each in chains:
        assert each.key.public_key() == each.own.public_key()
    return [(Path(each.path).name, len(each.issuers), each.names) for each in chains]


def test_a_key_is_in_the_same_file_or_in_any_of_the_others(folder: Path) -> None:
    _write(folder, both=f"words\n{A_KEY}{A}{CA}", chain=B + CA, key=B_KEY, another=A_KEY)
    both, chain, key, another = (folder / each for each in ("both", "chain", "key", "another"))
    assert _found([both]) == [("both", 1, ["a.example"])]
    assert _found([chain], [key]) == [("chain", 1, ["b.example", "*.b.example"])]
    assert _found([chain, both], [another, key]) == [*_found([chain], [key]), *_found([both])]
    assert _found([both, chain], [key]) == [*_found([both]), *_found([chain], [key])]


@pytest.mark.parametrize(
    ("certificate", "keys", "said"),
    [
        (A, [], "chain contains no PEM key"),
        (A, [B_KEY], "key0 is not the key of chain"),
        (A + B_KEY, [], "chain is not the key of chain"),
        (A, [B_KEY, B_KEY], "chain has no key among those given"),
        ("nothing", [A_KEY], "chain contains no PEM certificate"),
        (A, ["nothing"], "key0 contains no PEM key"),
    ],
    ids=["none", "other", "other in the file", "others", "no certificate", "no key in a file"],
)
def test_a_file_without_its_key_is_named(
    folder: Path, certificate: str, keys: list[str], said: str
) -> None:
    _write(folder, chain=certificate, **{f"key{n}": text for n, text in enumerate(keys)})
    given = [str(folder / f"key{n}") for n in range(len(keys))]
    for name in ("chain", "key0"):
        said = said.replace(name, f"{folder}/{name}")
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        at_once(read_chains([str(folder / "chain")], given))


def test_a_key_is_not_validated_because_that_would_hold_the_event_loop(folder: Path) -> None:
    key = rsa.generate_private_key(65537, 2048)
    certificate, _text = pem_of("a.example", key=key)
    right = key.private_numbers()
    p, q, d = right.p, right.q, right.d
    wrong = rsa.RSAPrivateNumbers(
        p, q, d, right.dmp1 + 2, right.dmq1, right.iqmp, right.public_numbers
    )
    unchecked = wrong.private_key(unsafe_skip_rsa_key_validation=True)
    _write(folder, chain=certificate, key=text_of(unchecked))
    with pytest.raises(ValueError, match="private key"):
        load_pem_private_key((folder / "key").read_bytes(), None)
    assert _found([folder / "chain"], [folder / "key"]) == [("chain", 0, ["a.example"])]


def test_in_a_directory_each_certificate_finds_its_key(folder: Path) -> None:
    _write(folder, b__pem=B + CA, b__key=B_KEY, a__pem=A_KEY + A, README="not read")
    _write(folder, __old__pem="not read either")
    (folder / "subdirectory").mkdir()
    assert _found([folder]) == [("a.pem", 0, ["a.example"]), ("b.pem", 1, B_NAMES)]


def test_a_directory_as_kubernetes_mounts_it(folder: Path) -> None:
    _write(folder / "..data", tls__crt=B + CA, tls__key=B_KEY)
    for name in ("tls.crt", "tls.key"):
        (folder / name).symlink_to(folder / "..data" / name)
    assert _found([folder]) == [("tls.crt", 1, B_NAMES)]


def test_a_directory_as_certbot_leaves_it(folder: Path) -> None:
    _write(folder, cert__pem=B, chain__pem=CA, fullchain__pem=B + CA, privkey__pem=B_KEY)
    assert _found([folder]) == [("fullchain.pem", 1, B_NAMES)]


def test_the_key_of_one_in_a_directory_may_be_elsewhere(folder: Path) -> None:
    _write(folder / "served", a__crt=A)
    _write(folder, key=A_KEY)
    assert _found([folder / "served"], [folder / "key"]) == [("a.crt", 0, ["a.example"])]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, " contains no certificate with its key (*.pem, *.crt, *.cer, *.key)"),
        ({"a__key": A_KEY}, " contains no certificate with its key (*.pem, *.crt, *.cer, *.key)"),
        ({"ca__pem": CA}, " contains no certificate with its key (*.pem, *.crt, *.cer, *.key)"),
        ({"a__pem": A, "b__key": B_KEY}, "/a.pem has no key in its directory"),
        ({"a__pem": A + A_KEY, "b__crt": "spoilt"}, "/b.crt contains no PEM certificate or key"),
        ({"a__pem": A + A_KEY, "b__key": "spoilt"}, "/b.key contains no PEM key"),
    ],
)
def test_a_directory_that_cannot_be_used_is_named(
    folder: Path, files: dict[str, str], said: str
) -> None:
    _write(folder, **files)
    with pytest.raises(ValueError, match=f"^{re.escape(f'{folder}{said}')}$"):
        at_once(read_chains([str(folder)], []))


def test_the_names_of_one_without_alternatives_are_its_common_name(folder: Path) -> None:
    _write(folder, both=A + A_KEY)
    [chain] = at_once(read_chains([str(folder / "both")], []))
    assert chain.names == ["a.example"]


def test_all_certificates_of_a_file_are_returned_and_none_is_an_error(folder: Path) -> None:
    _write(folder, several=A + B, none="")
    assert len(certificates_in(str(folder / "several"))) == 2
    with pytest.raises(ValueError, match="none contains no PEM certificate"):
        certificates_in(str(folder / "none"))
