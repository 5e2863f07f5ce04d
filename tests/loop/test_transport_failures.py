"""What goes wrong in one connection ends that connection, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import socket
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest

import aioxide


class Remembering(asyncio.Protocol):
    """Remembers what it heard."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.heard.append("made")

    def connection_lost(self, exc: Exception | None) -> None:
        self.heard.append(("lost", type(exc)))
        self.lost.set_result(None)


@contextlib.contextmanager
def connected() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        one.setblocking(False)
        yield one, other


def test_a_descriptor_that_cannot_be_watched_is_an_error_for_who_made_the_transport() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with tempfile.TemporaryFile() as file, connected() as (sock, _other):
            # epoll refuses to watch a regular file.
            os.dup2(file.fileno(), sock.fileno())
            protocol = Remembering()
            waiter = loop.create_future()
            transport = loop._make_socket_transport(sock, protocol, waiter)  # type: ignore[attr-defined]
            with pytest.raises(PermissionError):
                await waiter
            await protocol.lost
            assert protocol.heard == ["made", ("lost", PermissionError)]
            assert transport.is_closing()
            assert sock.fileno() == -1

    aioxide.run(main())


class Stubborn(socket.socket):
    """Fails to close, as a descriptor on a failing disk or network file system may."""

    def close(self) -> None:
        super().close()
        raise OSError("close failed")


def test_a_socket_that_fails_to_close_is_reported() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        reported: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _, context: reported.append(context))
        with connected() as (one, _other):
            sock = Stubborn(fileno=one.detach())
            sock.setblocking(False)
            transport, protocol = await loop.create_connection(Remembering, sock=sock)
            transport.close()
            await protocol.lost
            await asyncio.sleep(0)
        assert [str(context["exception"]) for context in reported] == ["close failed"]

    aioxide.run(main())


def test_resume_writing_is_called_in_the_connections_context(runner: asyncio.Runner) -> None:
    variable = contextvars.ContextVar("variable", default="outside")

    class Writer(Remembering):
        def resume_writing(self) -> None:
            self.heard.append(variable.get())

    async def connect(sock: socket.socket) -> tuple[Any, Any]:
        variable.set("inside")
        transport, protocol = await asyncio.get_running_loop().create_connection(Writer, sock=sock)
        transport.write(b"x" * 10_000_000)
        return transport, protocol

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with connected() as (one, other):
            other.setblocking(False)
            transport, protocol = await asyncio.create_task(connect(one))
            received = 0
            while received < 10_000_000:
                received += len(await loop.sock_recv(other, 1_000_000))
            await asyncio.sleep(0)
            transport.close()
            await protocol.lost
            assert protocol.heard == ["made", "inside", ("lost", type(None))]

    runner.run(main())


def test_the_waiter_of_a_failed_sendfile_may_be_cancelled_already() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with connected() as (one, other), tempfile.TemporaryFile() as file:
            file.write(b"y" * 1000)
            file.flush()
            transport, protocol = await loop.create_connection(Remembering, sock=one)
            transport.pause_reading()
            transport.write(b"x" * 10_000_000)
            sending = asyncio.create_task(loop.sendfile(transport, file))
            await asyncio.sleep(0)
            sending.cancel()
            other.close()
            with pytest.raises(asyncio.CancelledError):
                await sending
            await protocol.lost
            assert protocol.heard[0] == "made"
            assert issubclass(protocol.heard[1][1], ConnectionError)

    aioxide.run(main())
