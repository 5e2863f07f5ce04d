"""A real Redis and a real PostgreSQL, from the system's packages, on free ports and in folders of their own."""

from __future__ import annotations

import functools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.ecosystem.processes import accepts, free_port, serving

PASSWORD = "a password of the tests"
INSTALL_SECONDS_MAX = 180


@dataclass(frozen=True)
class Database:
    """Where a running database is reached."""

    port: int
    folder: Path  # with its unix socket, and PostgreSQL's certificate


def find(name: str, package: str) -> Path:
    """The program `name`, installed from Debian's `package` if it is not there; skips the test if it can't be had."""
    found = _look_for(name)
    if found is None:
        why = _install(package)
        found = _look_for(name)
        if found is None:
            pytest.skip(f"there is no {name} here: {why}")
    return found


def _look_for(name: str) -> Path | None:
    # Debian keeps PostgreSQL's programs out of the PATH, by version.
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    if versions:
        return versions[-1]
    in_path = shutil.which(name)
    return Path(in_path) if in_path else None


@functools.cache
def _install(package: str) -> str:
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return f"only root, with apt-get, can install {package}"
    # In run level 1 a package's own scripts start no service.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for command in (["apt-get", "update"], ["apt-get", "install", "--yes", "--no-install-recommends", package]):
        try:
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=INSTALL_SECONDS_MAX, check=False
            )
        except subprocess.TimeoutExpired:
            return f"{command[:2]} took more than {INSTALL_SECONDS_MAX} seconds"
        if done.returncode != 0:
            return f"{' '.join(command)} failed: {done.stderr.strip()[-300:]}"
    return f"{package} does not bring it"


@contextmanager
def _folder(owner: str | None) -> Iterator[Path]:
    # Not below pytest's own folder, which no other user may enter.
    with tempfile.TemporaryDirectory(prefix="aioxide-") as name:
        folder = Path(name)
        if owner is not None:
            user = pwd.getpwnam(owner)
            os.chown(folder, user.pw_uid, user.pw_gid)
        yield folder


@contextmanager
def redis() -> Iterator[Database]:
    """A Redis that keeps nothing on disk."""
    program = find("redis-server", "redis-server")
    port = free_port()
    with _folder(None) as folder:
        options = ["--port", str(port), "--bind", "127.0.0.1", "--unixsocket", str(folder / "socket")]
        keep_nothing = ["--save", "", "--appendonly", "no", "--dir", str(folder)]
        with serving([program, *options, *keep_nothing], lambda: accepts(port)):
            yield Database(port, folder)


@contextmanager
def postgresql() -> Iterator[Database]:
    """A PostgreSQL with passwords and TLS. It refuses to be root, so root starts it as another user."""
    initdb, postgres = find("initdb", "postgresql"), find("postgres", "postgresql")
    isready = find("pg_isready", "postgresql")
    user = _ordinary_user() if os.geteuid() == 0 else None
    with _folder(user) as folder:
        data = folder / "data"
        (folder / "password").write_text(PASSWORD)
        (folder / "password").chmod(0o644)
        authentication = ["--auth", "scram-sha-256", "--pwfile", str(folder / "password")]
        _run([initdb, "-D", data, "-U", "postgres", *authentication, "--no-sync", "-E", "UTF8"], user, folder)
        certificate, key = folder / "certificate.pem", folder / "key.pem"
        subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        files = ["-keyout", str(key), "-out", str(certificate)]
        _run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *files, *subject], user, folder)
        port = free_port()
        settings = {
            "port": port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": folder,
            "fsync": "off",
            "ssl": "on",
            "ssl_cert_file": certificate,
            "ssl_key_file": key,
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        # SIGINT is its "fast" shutdown: it doesn't wait for clients.
        command = [postgres, "-D", data, *options]
        asking = [isready, "-h", folder, "-p", str(port), "-q"]
        ready = lambda: subprocess.run(asking, check=False).returncode == 0  # noqa: E731
        with serving(command, ready, cwd=folder, user=user, stop_signal=signal.SIGINT):
            yield Database(port, folder)


def _ordinary_user() -> str:
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        return "nobody"


def _run(command: list[str | Path], user: str | None, folder: Path) -> None:
    group = None if user is None else pwd.getpwnam(user).pw_gid
    done = subprocess.run(
        command,
        user=user,
        group=group,
        extra_groups=None if user is None else [],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"{command} failed:\n{done.stdout}\n{done.stderr}"
