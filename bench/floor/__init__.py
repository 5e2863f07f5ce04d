"""The floor of the TLS rows: libssl alone, in a C program that is built where a compiler and OpenSSL's headers are."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).with_name("tls_echo.c")
# Beside the contenders' own Python: what was built for another is not found.
FOLDER = Path(sys.prefix) / "floor"
PROGRAM = FOLDER / "tls_echo"


def version() -> str | None:
    """The library that the floor uses, once its program is built; None, with a word why, where it cannot be."""
    if PROGRAM.exists() and PROGRAM.stat().st_mtime >= SOURCE.stat().st_mtime:
        return f"libssl of {ssl.OPENSSL_VERSION}"
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        print("note: no C compiler, so that the TLS rows have no floor")
        return None
    FOLDER.mkdir(exist_ok=True)
    built = subprocess.run(
        [compiler, "-O2", "-o", PROGRAM, SOURCE, "-lssl", "-lcrypto"], capture_output=True, text=True
    )
    if built.returncode != 0:
        print(f"note: the TLS rows have no floor: {built.stderr.strip().splitlines()[0]}")
        return None
    return version()


def serve() -> None:
    """Become the program."""
    from bench.jobs import make_certificate

    make_certificate(FOLDER)
    os.execv(PROGRAM, (PROGRAM, FOLDER / "certificate", FOLDER / "key"))
