"""The floor: each I/O row's work without an event loop and without Python, which no contender can undercut by much.

``src`` is a Rust server on epoll, for all rows but TLS's; ``tls_echo.c`` is a C program on epoll and libssl, built
where a compiler and OpenSSL's headers are.
"""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path

from bench import programs

TLS_SOURCE = Path(__file__).with_name("tls_echo.c")
# Beside the contenders' own Python: what was built for another is not found.
TLS_FOLDER = Path(sys.prefix) / "floor"
TLS_PROGRAM = TLS_FOLDER / "tls_echo"


class FloorError(Exception):
    """The floor of a row cannot be measured, and why."""


def version() -> str:
    """What the floor is made of."""
    return f"floor: Rust on epoll; {ssl.OPENSSL_VERSION}"


def command(job: str) -> list[str]:
    """What runs a server job's floor.

    Raises:
        FloorError: it cannot be built here.
    """
    match job:
        case "tls-protocol" | "tls-streams":
            return tls_command()
        case "udp":
            return [str(programs.FLOOR), "udp"]
        case "unix":
            # The harness removes what is left in the folder for temporary files, since it kills this process.
            return [str(programs.FLOOR), "unix", f"{tempfile.mkdtemp()}/socket"]
        case "uvicorn" | "aiohttp" | "tornado":
            return [str(programs.FLOOR), "http", "1024"]
        case _:
            return [str(programs.FLOOR), "tcp"]


def tls_command() -> list[str]:
    from bench.servers import make_certificate

    if not TLS_PROGRAM.exists() or TLS_PROGRAM.stat().st_mtime < TLS_SOURCE.stat().st_mtime:
        build_tls()
    make_certificate(TLS_FOLDER)
    return [str(TLS_PROGRAM), f"{TLS_FOLDER}/certificate", f"{TLS_FOLDER}/key"]


def build_tls() -> None:
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        raise FloorError("no C compiler")
    TLS_FOLDER.mkdir(exist_ok=True)
    built = subprocess.run(
        [compiler, "-O2", "-o", TLS_PROGRAM, TLS_SOURCE, "-lssl", "-lcrypto"], capture_output=True, text=True
    )
    if built.returncode != 0:
        raise FloorError(built.stderr.strip().splitlines()[0])


def serve(job: str) -> None:
    """Become the program."""
    words = command(job)
    os.execv(words[0], words)
