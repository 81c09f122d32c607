"""Certificates for tests, made by the openssl command."""

from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from twisted.internet.interfaces import IStreamServerEndpointStringParser
from twisted.plugin import getPlugins

HAVE_FOLDERS = any(each.prefix == "tls" for each in getPlugins(IStreamServerEndpointStringParser))
"""Whether this Twisted has listeners that take their certificates from a folder."""


def make_certificate(folder: Path, name: str = "localhost") -> None:
    """Make ``key.pem`` and ``trusted/cert.pem``, self-signed and good for two days."""
    (folder / "trusted").mkdir(exist_ok=True)
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"]
    command += ["-keyout", "key.pem", "-out", "trusted/cert.pem"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


def pem_of(*names: str, ca: bool = False, key: Any = None) -> tuple[str, str]:
    """Return a new self-signed certificate for these names, and its key."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name.from_rfc4514_string(f"CN={names[0]}")
    day, now = timedelta(days=1), datetime.now(UTC)
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(x509.BasicConstraints(ca, None), critical=True)
    )
    if len(names) > 1:
        alternatives = x509.SubjectAlternativeName([x509.DNSName(each) for each in names[1:]])
        made = made.add_extension(alternatives, critical=False)
    return made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode(), text_of(key)


def text_of(key: Any) -> str:
    """Return a key as PEM."""
    text: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return text.decode()


def make_expired(folder: Path) -> None:
    """Make ``expired.pem``, which such a certificate has signed, with the same key."""
    key: Any = load_pem_private_key((folder / "key.pem").read_bytes(), None)
    subject, issuer = (
        x509.Name.from_rfc4514_string(f"CN={name}") for name in ("expired", "localhost")
    )
    day, now = timedelta(days=1), datetime.now(UTC)
    made = (
        x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - 2 * day)
        .not_valid_after(now - day)
        .sign(key, hashes.SHA256())
    )
    (folder / "expired.pem").write_bytes(made.public_bytes(Encoding.PEM))


def make_unusable(folder: Path) -> None:
    """Make what no service can use beside such a certificate, and a pipe.

    ``ec.pem`` is another's key of another type, ``encrypted.pem`` its own under a passphrase,
    ``weak.pem`` with ``weak-key.pem`` are too short, ``pss.pem`` and ``odd.pem`` with theirs are of
    kinds that cannot be used.
    """
    pss = "-newkey rsa-pss -pkeyopt rsa_keygen_bits:2048 -keyout pss-key.pem -out pss.pem"
    weak = "-subj /CN=weak -keyout weak-key.pem -out weak.pem"
    for command in (
        "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out ec.pem",
        "pkey -in key.pem -aes256 -passout pass:secret -out encrypted.pem",
        f"req -x509 -newkey rsa:512 -nodes -days 2 {weak}",
        f"req -x509 -nodes -days 2 -subj /CN=pss {pss}",
        "ecparam -name brainpoolP160r1 -genkey -noout -out odd-key.pem",
        "req -x509 -key odd-key.pem -days 2 -subj /CN=odd -out odd.pem",
    ):
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)
    os.mkfifo(folder / "pipe")
