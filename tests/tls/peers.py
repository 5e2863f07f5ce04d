"""Peers for the TLS tests: protocols that remember, servers of one test, and a proxy that makes faults."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

# Longer than anything here takes; a test that runs into it has found a hang.
PATIENCE = 30.0


class Recorder(asyncio.Protocol):
    """Remembers what it hears."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.events: list[str] = []
        self.data = bytearray()
        self.transport: Any = None
        self.made = loop.create_future()
        self.lost: asyncio.Future[BaseException | None] = loop.create_future()
        self.can_write = asyncio.Event()
        self.can_write.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.events.append("made")
        self.transport = transport
        self.made.set_result(None)

    def data_received(self, data: bytes) -> None:
        if self.events[-1] != "data":
            self.events.append("data")
        self.data += data

    def eof_received(self) -> bool | None:
        self.events.append("eof")
        return None

    def pause_writing(self) -> None:
        self.events.append("pause")
        self.can_write.clear()

    def resume_writing(self) -> None:
        self.events.append("resume")
        self.can_write.set()

    def connection_lost(self, exc: BaseException | None) -> None:
        self.events.append("lost")
        self.can_write.set()
        self.lost.set_result(exc)

    async def until(self, count: int) -> bytes:
        """Wait until so many bytes came."""
        while len(self.data) < count:
            await asyncio.sleep(0.001)
        return bytes(self.data)


class Server:
    """What servers' protocols have in common: a transport, and a future that is done when it is lost."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.lost: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.lost.set_result(exc)


class Echo(Server, asyncio.Protocol):
    """Sends back what it is sent."""

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class BufferedEcho(Server, asyncio.BufferedProtocol):
    """Sends back what it is sent, read into a buffer of its own that is smaller than a record."""

    def __init__(self, size: int = 5000) -> None:
        super().__init__()
        self.buffer = bytearray(size)

    def get_buffer(self, sizehint: int) -> memoryview:
        return memoryview(self.buffer)

    def buffer_updated(self, nbytes: int) -> None:
        self.transport.write(bytes(self.buffer[:nbytes]))


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back what comes, until its end."""
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
    with contextlib.suppress(ConnectionError, ssl.SSLError, TimeoutError):
        await writer.wait_closed()


@contextlib.asynccontextmanager
async def serving(factory: Callable[[], Any], context: ssl.SSLContext | None, **options: Any) -> AsyncIterator[int]:
    """A server on the running loop; gives its port. It is over when its connections are; the last are cut."""
    protocols: list[Any] = []

    def make() -> Any:
        protocols.append(factory())
        return protocols[-1]

    server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0, ssl=context, **options)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        connected = [each for each in protocols if getattr(each, "transport", None) is not None]
        if connected:
            await asyncio.wait([each.lost for each in connected], timeout=1)
        for each in connected:
            each.transport.abort()
        if connected:
            await asyncio.wait([each.lost for each in connected], timeout=PATIENCE)
        await server.wait_closed()


@contextlib.asynccontextmanager
async def streaming(handler: Handler, context: ssl.SSLContext | None, **options: Any) -> AsyncIterator[int]:
    """A server of streams on the running loop; gives its port. It is over when its handlers are."""
    running: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(cast("asyncio.Task[None]", task))
        try:
            await handler(reader, writer)
        finally:
            running.discard(cast("asyncio.Task[None]", task))

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context, **options)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        if running:
            await asyncio.wait(running, timeout=PATIENCE)
        await server.wait_closed()


def run(runner: asyncio.Runner, coroutine: Any) -> Any:
    """Run it, but no longer than patience lasts."""
    return runner.run(asyncio.wait_for(coroutine, PATIENCE))


async def client_of(port: int, context: ssl.SSLContext, **options: Any) -> tuple[Any, Recorder]:
    """A client that remembers, and its transport."""
    loop = asyncio.get_running_loop()
    options.setdefault("server_hostname", "localhost")
    return await loop.create_connection(Recorder, "127.0.0.1", port, ssl=context, **options)


async def connect(
    port: int, context: ssl.SSLContext, **options: Any
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A client's streams."""
    options.setdefault("server_hostname", "localhost")
    return await asyncio.open_connection("127.0.0.1", port, ssl=context, **options)


async def finish(writer: asyncio.StreamWriter) -> None:
    """Close, whatever the peer did."""
    writer.close()
    with contextlib.suppress(ConnectionError, ssl.SSLError, TimeoutError):
        await writer.wait_closed()


class Proxy:
    """Passes bytes between a client and a server, and does to them what it is told.

    ``client_to_server`` and ``server_to_client`` get each chunk and the number of bytes that went that way before; they
    give what is passed on, or None to cut the connection.
    """

    Fault = Callable[[bytes, int], "bytes | None"]

    def __init__(self, port: int, client_to_server: Fault | None = None, server_to_client: Fault | None = None) -> None:
        self.target = port
        self.faults = (client_to_server, server_to_client)
        self.single_bytes = False
        self.half_closes = True
        self.sockets: list[socket.socket] = []
        self.tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> int:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.spawn(self.accept())
        port: int = self.listener.getsockname()[1]
        return port

    async def __aexit__(self, *_exception: object) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for each in (self.listener, *self.sockets):
            each.close()

    def spawn(self, coroutine: Any) -> None:
        self.tasks.add(asyncio.get_running_loop().create_task(coroutine))

    async def accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            client, _ = await loop.sock_accept(self.listener)
            server = socket.socket()
            for each in (client, server):
                each.setblocking(False)
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.sockets += [client, server]
            await loop.sock_connect(server, ("127.0.0.1", self.target))
            self.spawn(self.carry(client, server, self.faults[0]))
            self.spawn(self.carry(server, client, self.faults[1]))

    async def carry(self, source: socket.socket, target: socket.socket, fault: Fault | None) -> None:
        loop = asyncio.get_running_loop()
        passed = 0
        with contextlib.suppress(OSError):
            while data := await loop.sock_recv(source, 65536):
                changed = data if fault is None else fault(data, passed)
                passed += len(data)
                if changed is None:
                    # An end without a word to both sides.
                    source.shutdown(socket.SHUT_RDWR)
                    target.shutdown(socket.SHUT_RDWR)
                    return
                for piece in [changed[n : n + 1] for n in range(len(changed))] if self.single_bytes else [changed]:
                    await loop.sock_sendall(target, piece)
            target.shutdown(socket.SHUT_WR)
