"""Which way to the TLS library is taken, and that a wrong guess about it is noticed instead of followed."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

import aioxide

ECHO = """
import asyncio, ssl, sys, aioxide
server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
server.load_cert_chain(sys.argv[1])
client.check_hostname, client.verify_mode = False, ssl.CERT_NONE

async def main():
    async def echo(reader, writer):
        writer.write(await reader.readexactly(100_000))
        writer.close()
        await writer.wait_closed()
    listener = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server)
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.sockets[0].getsockname()[1], ssl=client)
    writer.write(bytes(100_000))
    assert await reader.readexactly(100_000) == bytes(100_000)
    writer.close()
    listener.close()

aioxide.run(main())
print(aioxide.build_info()["tls"])
"""


def in_a_process(before: str, folder: Any, **environment: str) -> str:
    process = subprocess.run(
        [sys.executable, "-c", before + ECHO, f"{folder}/localhost.pem"],
        env={name: value for name, value in os.environ.items() if name != "AIOXIDE_TLS"} | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout.strip()


def test_build_info() -> None:
    facts = aioxide.build_info()
    assert facts["tls"].startswith(("libssl", "stdlib"))
    assert facts["pyo3"].count(".") == 2
    assert facts["openssl"].startswith("OpenSSL")
    assert facts["free_threaded"] in ("yes", "no")
    assert all(isinstance(value, str) for value in facts.values())


def test_libssl_is_taken_where_it_can_be(folder: Any) -> None:
    assert in_a_process("", folder) == "libssl"


def test_stdlib_can_be_asked_for(folder: Any) -> None:
    assert in_a_process("", folder, AIOXIDE_TLS="stdlib") == "stdlib (asked for)"


@pytest.mark.parametrize(
    ("before", "reason"),
    [
        ("import _ssl; del _ssl.__file__", "built into the interpreter"),
        ("import _ssl; _ssl.__file__ = '/nowhere/_ssl.so'", "/nowhere/_ssl.so is not loaded"),
        ("import _ssl, aioxide._native; _ssl.__file__ = aioxide._native.__file__", "no OpenSSL_version_num in it"),
        ("import ssl; ssl.OPENSSL_VERSION_NUMBER += 1", "its version is"),
        ("import ssl; ssl.OPENSSL_VERSION = 'LibreSSL 3'", "the ssl module uses LibreSSL 3"),
        ("import _ssl; _ssl._SSLSocket = int", "no _ssl._SSLSocket"),
    ],
)
def test_what_does_not_check_out_is_not_followed(before: str, reason: str, folder: Any) -> None:
    answer = in_a_process(before + "\n", folder)
    assert answer.startswith("stdlib (") and reason in answer


def test_an_unknown_engine_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIOXIDE_TLS", "rustls")
    assert "may be libssl or stdlib, not rustls" in aioxide.build_info()["tls"]


def test_many_threads_may_be_the_first() -> None:
    program = """
import threading
from aioxide import build_info
barrier = threading.Barrier(16)
told = []
def ask():
    barrier.wait()
    told.append(build_info()["tls"])
threads = [threading.Thread(target=ask) for _ in range(16)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len(set(told)), told[0])
"""
    environment = {name: value for name, value in os.environ.items() if name != "AIOXIDE_TLS"}
    told = {
        subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True).stdout
        for _ in range(5)
    }
    assert told == {f"1 {aioxide.build_info()['tls']}\n"}
