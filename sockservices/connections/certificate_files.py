"""The PEM files of certificates and private keys, one by one or in a directory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import attrs
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from sockservices.connections.parts import Steps
from sockservices.converters import readable_file
from sockservices.printable import escaped, system_reason

_CERTIFICATES = (".pem", ".crt", ".cer")  # the endings of files with certificates in a directory
_KEY = ".key"
_RSA_PSS = "1.2.840.113549.1.1.10"  # id-RSASSA-PSS: RFC 4055. OpenSSL cannot load such keys here.


@attrs.frozen
class Chain:
    """A certificate with its issuers and its private key."""

    path: str
    """The file that it was read from."""
    own: Any
    """The certificate, an ``x509.Certificate``."""
    issuers: Sequence[Any]
    """Those of its issuers, in order."""
    key: Any
    """Its private key."""

    @property
    def names(self) -> list[str]:
        """The host names that it is for, in lower case: RFC 9525, section 6.3."""
        try:
            found = self.own.extensions.get_extension_for_class(x509.SubjectAlternativeName)
            names = found.value.get_values_for_type(x509.DNSName)
        except (x509.ExtensionNotFound, ValueError):
            common = self.own.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
            names = [str(each.value) for each in common]
        return [each.lower() for each in names]


@attrs.frozen
class _Key:
    path: str
    private: Any
    public: Any = attrs.field(
        default=attrs.Factory(lambda self: self.private.public_key(), takes_self=True)
    )


class _File:
    """A file, which is read once."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._contents = Path(readable_file(path)).read_bytes()
        self.has_key = b"PRIVATE KEY-----" in self._contents
        self.has_certificate = b"-----BEGIN CERTIFICATE-----" in self._contents

    def certificates(self) -> list[Any]:
        try:
            return x509.load_pem_x509_certificates(self._contents)
        except (ValueError, UnsupportedAlgorithm):
            raise ValueError(f"{escaped(self.path)} contains no PEM certificate") from None

    def key(self) -> _Key:
        # To validate an RSA key of 4096 bits takes 0.2 s, and other servers do not do it either.
        options = {"unsafe_skip_rsa_key_validation": True}
        try:
            return _Key(self.path, load_pem_private_key(self._contents, None, **options))
        except TypeError:
            raise ValueError(
                f"{escaped(self.path)} is encrypted: a service cannot ask for a passphrase"
            ) from None
        except ValueError:
            raise ValueError(f"{escaped(self.path)} contains no PEM key") from None
        except UnsupportedAlgorithm as error:
            raise ValueError(f"{escaped(self.path)} has no usable key: {error}") from None


def read_chains(certificates: Iterable[str], keys: Iterable[str]) -> Steps[list[Chain]]:
    """Read certificates, and find the key of each by what it fits; a file in each step.

    Parameters:
        certificates: paths of files, each with a certificate, those of its issuers, and perhaps its
            key; or of directories with such files. In a directory, the order is that of the names.
        keys: paths of files with further keys.

    Raises ``ValueError`` with one line that names the file.
    """
    others = [_File(path).key() for path in keys]
    chains: list[Chain] = []
    for path in certificates:
        if os.path.isdir(path):
            chains += yield from _in_directory(path, others)
        else:
            chains.append(_in_file(path, others))
        yield
    return chains


def _in_file(path: str, others: list[_Key]) -> Chain:
    file = _File(path)
    own, *issuers = file.certificates()
    public = _public_key(own, path)
    keys = [*others, file.key()] if file.has_key or not others else others
    key = next((each for each in keys if each.public == public), None)
    if key is not None:
        return Chain(path, own, issuers, key.private)
    if len(keys) == 1:
        raise ValueError(f"{escaped(keys[0].path)} is not the key of {escaped(path)}")
    raise ValueError(f"{escaped(path)} has no key among those given")


def _in_directory(directory: str, others: list[_Key]) -> Steps[list[Chain]]:
    files = []
    keys = list(others)
    for path in _paths_in(directory):
        file = _File(path)
        if path.endswith(_KEY) or file.has_key:
            keys.append(file.key())
        files.append(file)
        yield
    found: dict[Any, Chain] = {}
    for file in files:
        yield
        path = file.path
        if not path.endswith(_CERTIFICATES):
            continue
        if not file.has_certificate:
            if not file.has_key:
                raise ValueError(f"{escaped(path)} contains no PEM certificate or key")
            continue
        own, *issuers = file.certificates()
        public = _public_key(own, path)
        key = next((each for each in keys if each.public == public), None)
        if key is None:
            if _is_issuer(own):
                continue
            raise ValueError(f"{escaped(path)} has no key in its directory")
        # The same certificate may also be there without its issuers, as certbot leaves it.
        before = found.get(own)
        if before is None or len(before.issuers) < len(issuers):
            found[own] = Chain(path, own, issuers, key.private)
    if not found:
        endings = ", ".join(f"*{each}" for each in (*_CERTIFICATES, _KEY))
        raise ValueError(f"{escaped(directory)} contains no certificate with its key ({endings})")
    return list(found.values())


def _paths_in(directory: str) -> list[str]:
    try:
        names = sorted(os.listdir(directory))
    except OSError as error:
        raise ValueError(f"{escaped(directory)}: {system_reason(error)}") from None
    # Kubernetes keeps older versions of a mounted secret under names that begin with a dot.
    wanted = [
        each for each in names if each.endswith((*_CERTIFICATES, _KEY)) and not each.startswith(".")
    ]
    return [os.path.join(directory, each) for each in wanted]


def certificates_in(path: str) -> list[Any]:
    """Return the certificates in a file, at least one; raise ``ValueError`` if there is none."""
    return _File(path).certificates()


def _is_issuer(certificate: Any) -> bool:
    try:
        found = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except (x509.ExtensionNotFound, ValueError):
        return False
    return bool(found.value.ca)


def _public_key(certificate: Any, path: str) -> Any:
    kind = getattr(certificate, "public_key_algorithm_oid", None)
    if kind is not None and kind.dotted_string == _RSA_PSS:
        raise ValueError(f"{escaped(path)} is for RSA-PSS only, which is not supported; use RSA")
    try:
        return certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError(f"{escaped(path)} has no usable certificate: {error}") from None
