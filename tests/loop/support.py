"""What the loop's tests share: loops that report every failure, and programs run in a process of their own."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

LoopFactory = Callable[[], asyncio.AbstractEventLoop]

HEAD = """
import asyncio, logging, os, signal, socket, sys, threading, time
for name in ("asyncio", "aioxide.freeze"):
    logging.getLogger(name).setLevel(logging.ERROR)  # a busy machine makes slow callbacks
{factory}
"""
FACTORIES = {
    "aioxide": "from aioxide import new_event_loop",
    "asyncio": "from asyncio import new_event_loop",
}


STRICT = ("-X", "dev", "-W", "error")


def run_program(
    factory: LoopFactory, program: str, *args: str, code: int = 0, options: tuple[str, ...] = STRICT
) -> str:
    """What `program` prints. It finds `new_event_loop`, and must end by itself with `code` and nothing on stderr."""
    done = subprocess.run(
        [sys.executable, *options, "-c", program_text(factory, program), *args],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (code, ""), f"exit code {done.returncode}\n{done.stderr}"
    return done.stdout.strip()


def program_text(factory: LoopFactory, program: str) -> str:
    """A whole program around `program`, for the loop of `factory`."""
    return HEAD.format(factory=FACTORIES[name_of(factory)]) + program


def name_of(factory: LoopFactory) -> str:
    """``aioxide`` or ``asyncio``."""
    return getattr(factory, "name", "aioxide" if factory.__module__.startswith("aioxide") else "asyncio")


@contextlib.contextmanager
def failures(loop: asyncio.AbstractEventLoop) -> Iterator[list[dict[str, Any]]]:
    """What reaches the loop's exception handler."""
    seen: list[dict[str, Any]] = []
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _loop, context: seen.append(context))
    try:
        yield seen
    finally:
        loop.set_exception_handler(before)


def run_once(loop: asyncio.AbstractEventLoop) -> None:
    """Run what is ready."""
    loop.call_soon(loop.stop)
    loop.run_forever()


def open_descriptors() -> set[int]:
    """The numbers of the open descriptors of this process, once garbage has closed what it had."""
    gc.collect()
    numbers = set()
    for name in os.listdir("/proc/self/fd"):
        # The listing itself has a descriptor, which is gone by now.
        with contextlib.suppress(OSError):
            os.fstat(int(name))
            numbers.add(int(name))
    return numbers


def listener(host: str = "127.0.0.1", family: int = socket.AF_INET, backlog: int = 128) -> socket.socket:
    """A listening socket on a free port of the loopback."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host, 0))
    sock.listen(backlog)
    return sock


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection that do not block."""
    with listener() as server:
        client = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
    client.setblocking(False)
    accepted.setblocking(False)
    return client, accepted


class Recorder(asyncio.Protocol):
    """Writes down the name of every callback, and the bytes."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.data = bytearray()
        self.transport: asyncio.Transport | None = None
        self.error: BaseException | None = None
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.changed = asyncio.Event()

    def note(self, name: str) -> None:
        self.calls.append(name)
        self.changed.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.note("connection_made")

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.note("data_received")

    def eof_received(self) -> bool | None:
        self.note("eof_received")
        return None

    def pause_writing(self) -> None:
        self.note("pause_writing")

    def resume_writing(self) -> None:
        self.note("resume_writing")

    def connection_lost(self, exc: BaseException | None) -> None:
        self.error = exc
        self.note("connection_lost")
        self.lost.set_result(None)

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait until something that this protocol hears of makes `condition` true."""
        async with asyncio.timeout(10):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


async def connected(
    client: Callable[[], Any] = Recorder, server: Callable[[], Any] = Recorder
) -> tuple[asyncio.Transport, Any, asyncio.Transport, Any]:
    """Both ends of a connection, each with a transport and its protocol."""
    loop = asyncio.get_running_loop()
    one, other = tcp_pair()
    transport, protocol = await loop.create_connection(client, sock=one)
    accepted, peer = await loop.connect_accepted_socket(server, other)
    return transport, protocol, accepted, peer


async def turns(count: int = 3) -> None:
    """Let the loop turn some times."""
    for _ in range(count):
        await asyncio.sleep(0)
