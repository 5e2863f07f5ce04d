"""The echo servers that contenders run inside their own processes."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, cast

# Told the address that a server listens on, HOST:PORT or a path, once it does.
Announce = Callable[[str], None]

BACKLOG = 1024
READ_SIZE = 256 * 1024


def address_of(name: Any) -> str:
    """A socket's name as the load generator takes it."""
    host, port = name
    return f"{host}:{port}"


class EchoProtocol(asyncio.Protocol):
    """Sends back what it is sent."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport, with no limit on what it may hold back, so that no contender stops reading."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Send it back."""
        self.transport.write(data)


class EchoBufferedProtocol(asyncio.BufferedProtocol):
    """Sends back what it is sent, from the buffer that it was read into.

    The buffer is not read into again before the answer has left, since the other side waits for that.
    """

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.buffer = memoryview(bytearray(64 * 1024))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Always the same."""
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Send it back."""
        self.transport.write(self.buffer[:nbytes])


async def serve_protocol(announce: Announce, context: ssl.SSLContext | None = None) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(EchoProtocol, "127.0.0.1", 0, backlog=BACKLOG, ssl=context)
    await serve_forever(server, announce)


async def serve_buffered(announce: Announce) -> None:
    loop = asyncio.get_running_loop()
    await serve_forever(await loop.create_server(EchoBufferedProtocol, "127.0.0.1", 0, backlog=BACKLOG), announce)


async def serve_unix(announce: Announce) -> None:
    loop = asyncio.get_running_loop()
    # The harness removes what is left in the folder for temporary files, since it kills this process.
    path = f"{tempfile.mkdtemp()}/socket"
    server = await loop.create_unix_server(EchoProtocol, path, backlog=BACKLOG)
    await serve_forever(server, announce, path)


def make_certificate(folder: Path | str) -> None:
    """Write a certificate (ECDSA, P-256) and its key into a folder."""
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-keyout", f"{folder}/key", "-out", f"{folder}/certificate", "-days", "2", "-subj", "/CN=localhost"),
        ],
        check=True,
        capture_output=True,
    )


def server_context() -> ssl.SSLContext:
    """A server's context with the defaults, and a certificate made for the occasion."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    with tempfile.TemporaryDirectory() as folder:
        make_certificate(folder)
        context.load_cert_chain(f"{folder}/certificate", f"{folder}/key")
    return context


async def serve_tls_protocol(announce: Announce) -> None:
    await serve_protocol(announce, server_context())


async def serve_tls_streams(announce: Announce) -> None:
    await serve_streams(announce, server_context())


async def serve_forever(server: asyncio.Server, announce: Announce, path: str | None = None) -> None:
    announce(path or address_of(server.sockets[0].getsockname()))
    # create_server has started it; serve_forever would do no more but wait, and not every contender's does that.
    await asyncio.get_running_loop().create_future()


async def serve_streams(announce: Announce, context: ssl.SSLContext | None = None) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(READ_SIZE):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass  # the load generator closes with a message under way
        finally:
            writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0, backlog=BACKLOG, ssl=context)
    await serve_forever(server, announce)


async def serve_sock(announce: Announce) -> None:
    loop = asyncio.get_running_loop()

    async def echo(connection: socket.socket) -> None:
        with connection:
            try:
                while data := await loop.sock_recv(connection, READ_SIZE):
                    await loop.sock_sendall(connection, data)
            except ConnectionError:
                pass  # the load generator closes with a message under way

    with socket.create_server(("127.0.0.1", 0), backlog=BACKLOG) as listener:
        listener.setblocking(False)
        announce(address_of(listener.getsockname()))
        tasks = set()
        while True:
            connection, _ = await loop.sock_accept(listener)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            tasks.add(task := loop.create_task(echo(connection)))
            task.add_done_callback(tasks.discard)


class EchoDatagrams(asyncio.DatagramProtocol):
    """Sends back what it is sent."""

    transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Send it back."""
        self.transport.sendto(data, addr)


async def serve_udp(announce: Announce) -> None:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(EchoDatagrams, local_addr=("127.0.0.1", 0))
    announce(address_of(transport.get_extra_info("sockname")))
    await loop.create_future()


SERVERS: dict[str, Callable[[Announce], Coroutine[Any, Any, None]]] = {
    "protocol": serve_protocol,
    "buffered": serve_buffered,
    "unix": serve_unix,
    "streams": serve_streams,
    "sock": serve_sock,
    "tls-protocol": serve_tls_protocol,
    "tls-streams": serve_tls_streams,
    "udp": serve_udp,
}
