"""Certificates for tests, made by the openssl command."""

from __future__ import annotations

import subprocess
from pathlib import Path


def make_certificate(folder: Path, name: str = "localhost") -> None:
    """Make ``key.pem`` and ``trusted/cert.pem``, self-signed and good for two days."""
    (folder / "trusted").mkdir(exist_ok=True)
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"]
    command += ["-keyout", "key.pem", "-out", "trusted/cert.pem"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
