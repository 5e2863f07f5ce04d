"""What contenders run inside their own processes: echo servers, and jobs of the loop alone."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
import tempfile
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, cast

# Told the port that a server listens on, once it does.
Announce = Callable[[int], None]

BACKLOG = 1024
PENDING_TIMERS = 10_000
CHAINS = 100
TASKS_AT_ONCE = 100
READ_SIZE = 256 * 1024


class EchoProtocol(asyncio.Protocol):
    """Sends back what it is sent."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport, with no limit on what it may hold back, so that no contender stops reading."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Send it back."""
        self.transport.write(data)


async def serve_protocol(announce: Announce, context: ssl.SSLContext | None = None) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(EchoProtocol, "127.0.0.1", 0, backlog=BACKLOG, ssl=context)
    await serve_forever(server, announce)


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


async def serve_forever(server: asyncio.Server, announce: Announce) -> None:
    announce(server.sockets[0].getsockname()[1])
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
        announce(listener.getsockname()[1])
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
    announce(transport.get_extra_info("sockname")[1])
    await loop.create_future()


SERVERS: dict[str, Callable[[Announce], Coroutine[Any, Any, None]]] = {
    "protocol": serve_protocol,
    "streams": serve_streams,
    "sock": serve_sock,
    "tls-protocol": serve_tls_protocol,
    "tls-streams": serve_tls_streams,
    "udp": serve_udp,
}


async def call_soon(operations: int) -> None:
    """Chains of callbacks, each of which schedules its next: a busy loop's ready queue is neither empty nor endless."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    left = operations

    def step() -> None:
        nonlocal left
        left -= 1
        if left >= CHAINS:
            loop.call_soon(step)
        elif left == 0:
            done.set_result(None)

    for _ in range(CHAINS):
        loop.call_soon(step)
    await done


async def call_later(operations: int) -> None:
    """Timers that all run out within 2 ms, a thousand pending at a time."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    left = operations
    pending = 1000

    def fire(delay: float) -> None:
        nonlocal left
        left -= 1
        if left >= pending:
            loop.call_later(delay, fire, delay)
        elif left == 0:
            done.set_result(None)

    for n in range(pending):
        delay = 0.002 * n / pending
        loop.call_later(delay, fire, delay)
    await done


async def timer_cancel(operations: int) -> None:
    """Timeouts that are set and cancelled, as around each request of a service, with many others pending."""
    loop = asyncio.get_running_loop()
    others = [loop.call_later(3600 + n, print) for n in range(PENDING_TIMERS)]
    for n in range(operations):
        loop.call_later(30, print).cancel()
        if n % 100 == 0:
            await asyncio.sleep(0)  # the loop turns between requests, and may tidy its timers then
    for other in others:
        other.cancel()


async def sleep0(operations: int) -> None:
    for _ in range(operations):
        await asyncio.sleep(0)


async def gather(operations: int) -> None:
    async def small(n: int) -> int:
        return n

    for _ in range(operations // TASKS_AT_ONCE):
        await asyncio.gather(*[small(n) for n in range(TASKS_AT_ONCE)])


async def threadsafe(operations: int) -> None:
    """One thread schedules, as fast as it can, what another's loop runs; at most a thousand are under way."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    room = threading.Semaphore(1000)
    left = operations

    def step() -> None:
        nonlocal left
        left -= 1
        room.release()
        if left == 0:
            done.set_result(None)

    def schedule() -> None:
        for _ in range(operations):
            room.acquire()
            loop.call_soon_threadsafe(step)

    thread = threading.Thread(target=schedule)
    thread.start()
    await done
    thread.join()


LOOP_JOBS: dict[str, Callable[[int], Coroutine[Any, Any, None]]] = {
    "call_soon": call_soon,
    "call_later": call_later,
    "timer_cancel": timer_cancel,
    "sleep0": sleep0,
    "gather": gather,
    "threadsafe": threadsafe,
}
