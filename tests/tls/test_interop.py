"""Other people's TLS at the other end: openssl's client and server, curl, nginx. What is not installed is skipped."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.tls.conftest import at_version
from tests.tls.peers import PATIENCE, connect, finish, run, streaming

SIZES = [1, 16 * 1024, 64 * 1024 * 1024]


def tool(name: str) -> str:
    path = shutil.which(name, path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def listens(port: int) -> bool:
    """Whether somebody listens there; asked of the kernel, since s_server takes a connection that says nothing ill."""
    tables = [Path("/proc/net/tcp"), Path("/proc/net/tcp6")]
    sockets = [line.split() for table in tables if table.exists() for line in table.read_text().splitlines()[1:]]
    return any(fields[1].endswith(f":{port:04X}") and fields[3] == "0A" for fields in sockets)


@contextlib.contextmanager
def running(*command: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A server of somebody else's, from when it listens on and for as long as it is wanted."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            if listens(port):
                break
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"it does not start: {process.communicate()}")
            time.sleep(0.02)
        yield process
    finally:
        process.kill()
        process.communicate()


def payload(size: int) -> bytes:
    return (bytes(range(256)) * (size // 256 + 1))[:size]


def respond(content: bytes) -> Any:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(content)}\r\nConnection: close\r\n\r\n"
            writer.write(head.encode() + content)
            await writer.drain()
        await finish(writer)

    return serve


@pytest.mark.parametrize("size", SIZES)
def test_curl(
    runner: asyncio.Runner, server_context: ssl.SSLContext, version: ssl.TLSVersion, folder: Path, size: int
) -> None:
    curl = tool("curl")
    content = payload(size)

    async def main() -> None:
        async with streaming(respond(content), server_context) as port:
            process = await asyncio.to_thread(
                subprocess.run,
                [curl, "--silent", "--show-error", "--cacert", folder / "ca.pem", f"https://localhost:{port}/"],
                capture_output=True,
                timeout=PATIENCE,
            )
            assert process.returncode == 0, process.stderr
            assert process.stdout == content

    with at_version(version, server_context):
        run(runner, main())


@pytest.mark.parametrize("size", SIZES)
def test_openssl_s_client(
    runner: asyncio.Runner, server_context: ssl.SSLContext, version: ssl.TLSVersion, folder: Path, size: int
) -> None:
    openssl = tool("openssl")
    content = payload(size)

    async def main() -> None:
        received = bytearray()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while len(received) < size:
                received.extend(await reader.read(65536))
            writer.write(content)
            await writer.drain()
            await finish(writer)

        async with streaming(serve, server_context) as port:
            process = await asyncio.to_thread(
                subprocess.run,
                [
                    *(openssl, "s_client", "-quiet", "-verify_return_error", "-CAfile", folder / "ca.pem"),
                    *("-connect", f"127.0.0.1:{port}", "-servername", "localhost", "-ign_eof"),
                ],
                input=content,
                capture_output=True,
                timeout=PATIENCE,
            )
            assert process.returncode == 0, process.stderr
            assert process.stdout == content
            assert received == content

    with at_version(version, server_context):
        run(runner, main())


def test_openssl_s_server(
    runner: asyncio.Runner, client_context: ssl.SSLContext, version: ssl.TLSVersion, folder: Path
) -> None:
    openssl = tool("openssl")
    port = free_port()

    async def main() -> None:
        # s_server -rev sends each line back, reversed.
        reader, writer = await connect(port, client_context)
        for number in range(50):
            line = str(number) * 100
            writer.write(line.encode() + b"\n")
            assert await reader.readline() == line[::-1].encode() + b"\n"
        await finish(writer)

    with (
        running(
            openssl, "s_server", "-quiet", "-rev", "-port", str(port), "-cert", f"{folder}/localhost.pem", port=port
        ),
        at_version(version, client_context),
    ):
        run(runner, main())


def test_openssl_s_server_serves_a_file(
    runner: asyncio.Runner, client_context: ssl.SSLContext, version: ssl.TLSVersion, folder: Path
) -> None:
    openssl = tool("openssl")
    port = free_port()
    (folder / "content").write_bytes(payload(5_000_000))

    async def main() -> None:
        reader, writer = await connect(port, client_context)
        writer.write(b"GET /content HTTP/1.0\r\n\r\n")
        answer = await reader.read()
        assert answer.partition(b"\r\n\r\n")[2] == payload(5_000_000)
        await finish(writer)

    # -WWW serves files of the folder it runs in.
    command = ["sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", str(folder), openssl, "s_server", "-quiet", "-WWW"]
    with (
        running(*command, "-port", str(port), "-cert", f"{folder}/localhost.pem", port=port),
        at_version(version, client_context),
    ):
        run(runner, main())


@pytest.mark.parametrize("size", SIZES)
def test_nginx(
    runner: asyncio.Runner,
    client_context: ssl.SSLContext,
    version: ssl.TLSVersion,
    folder: Path,
    tmp_path: Path,
    size: int,
) -> None:
    nginx = tool("nginx")
    port = free_port()
    (tmp_path / "content").write_bytes(payload(size))
    tmp_path.chmod(0o755)
    (tmp_path / "nginx.conf").write_text(
        f"""
        daemon off; master_process off; pid {tmp_path}/pid; error_log stderr;
        events {{}}
        http {{
            access_log off; client_body_temp_path {tmp_path}/a; proxy_temp_path {tmp_path}/b;
            fastcgi_temp_path {tmp_path}/c; uwsgi_temp_path {tmp_path}/d; scgi_temp_path {tmp_path}/e;
            server {{
                listen 127.0.0.1:{port} ssl; root {tmp_path};
                ssl_certificate {folder}/localhost.pem; ssl_certificate_key {folder}/localhost.pem;
                ssl_protocols TLSv1.2 TLSv1.3;
            }}
        }}
        """
    )

    async def main() -> None:
        reader, writer = await connect(port, client_context)
        for _ in range(3 if size < 2**20 else 1):
            writer.write(b"GET /content HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
            assert await reader.readexactly(size) == payload(size)
        await finish(writer)

    with running(nginx, "-c", f"{tmp_path}/nginx.conf", port=port), at_version(version, client_context):
        run(runner, main())
