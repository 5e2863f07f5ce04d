"""Certificates made by the ``openssl`` command: an authority, and what it has signed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

# Names enough for Python 3.13, whose contexts are strict about extensions.
CONFIGURATION = """
[req]
distinguished_name = name
prompt = no
[name]
CN = {name}
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[signed]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth, clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = {names}
"""


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def new_key(name: str) -> list[str]:
    return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key"]


def make_authority(folder: Path) -> None:
    """``ca.pem`` and its key."""
    (folder / "ca.cnf").write_text(CONFIGURATION.format(name="authority of the tests", names="DNS:none"))
    options = ["-x509", "-days", "2", "-config", "ca.cnf", "-extensions", "authority", "-out", "ca.pem"]
    openssl(folder, "req", *new_key("ca"), *options)


def make_certificate(folder: Path, name: str, names: str) -> None:
    """A key and a certificate for ``names``, signed by the authority, both in ``NAME.pem``."""
    (folder / f"{name}.cnf").write_text(CONFIGURATION.format(name=name, names=names))
    openssl(folder, "req", *new_key(name), "-config", f"{name}.cnf", "-out", f"{name}.csr")
    signing = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2"]
    extensions = ["-extfile", f"{name}.cnf", "-extensions", "signed"]
    openssl(folder, "x509", "-req", "-in", f"{name}.csr", *signing, *extensions, "-out", f"{name}.crt")
    (folder / f"{name}.pem").write_text((folder / f"{name}.key").read_text() + (folder / f"{name}.crt").read_text())


def make_certificates(folder: Path, localhost: str = "DNS:localhost, IP:127.0.0.1") -> Path:
    """``ca.pem``, ``localhost.pem``, ``other.pem`` and ``client.pem`` in the folder. Skips without ``openssl``."""
    if shutil.which("openssl") is None:
        pytest.skip("the openssl command, which makes the certificates, is not installed")
    make_authority(folder)
    make_certificate(folder, "localhost", localhost)
    make_certificate(folder, "other", "DNS:other.test")
    make_certificate(folder, "client", "email:client@example.test")
    return folder
