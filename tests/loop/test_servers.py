"""Servers and clients: TCP and unix, how they are opened, found, ended and waited for."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.loop.support import LoopFactory, Recorder, connected, failures, listener, name_of, turns


async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers each line in capitals."""
    while line := await reader.readline():
        writer.write(line.upper())
        await writer.drain()
    writer.close()


async def ask(*address: Any, **kwargs: Any) -> bytes:
    reader, writer = await asyncio.open_connection(*address, **kwargs)
    try:
        writer.write(b"hello\n")
        answer = await reader.readline()
    finally:
        writer.close()
    await writer.wait_closed()
    return answer


@pytest.fixture
def runner(loop_factory: LoopFactory) -> Iterator[asyncio.Runner]:
    """A runner that gives servers the time to notice that their clients are gone."""
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        yield runner
        runner.run(asyncio.sleep(0.02))


def test_a_server_and_many_clients(runner: asyncio.Runner) -> None:
    async def main() -> None:
        server = await asyncio.start_server(shout, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        answers = await asyncio.gather(*(ask(*address) for _ in range(200)))
        assert set(answers) == {b"HELLO\n"}
        assert server.is_serving()
        assert server.get_loop() is asyncio.get_running_loop()
        assert isinstance(server, asyncio.Server)
        server.close()
        await server.wait_closed()
        assert not server.is_serving()
        assert server.sockets == ()
        with pytest.raises(ConnectionRefusedError) as refused:
            await ask(*address)
        assert refused.value.errno == errno.ECONNREFUSED

    runner.run(main())


def test_options_of_a_server(runner: asyncio.Runner) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        several = await loop.create_server(Recorder, ["127.0.0.1", "127.0.0.2"], 0)
        assert len(several.sockets) == 2
        one = await loop.create_server(Recorder, "127.0.0.1", 0, reuse_port=True, backlog=1)
        port = one.sockets[0].getsockname()[1]
        other = await loop.create_server(Recorder, "127.0.0.1", port, reuse_port=True)
        later = await loop.create_server(Recorder, "127.0.0.1", 0, start_serving=False)
        assert not later.is_serving()
        await later.start_serving()
        await later.start_serving()
        assert later.is_serving()
        given = await loop.create_server(Recorder, sock=listener())
        with pytest.raises(OSError) as used:
            await loop.create_server(Recorder, "127.0.0.1", later.sockets[0].getsockname()[1], reuse_address=False)
        assert used.value.errno == errno.EADDRINUSE
        with pytest.raises(ValueError):
            await loop.create_server(Recorder, "127.0.0.1", 0, sock=given.sockets[0])  # type: ignore[call-overload]
        with pytest.raises(ValueError):
            await loop.create_server(Recorder)
        everywhere = await loop.create_server(Recorder, None, 0)
        if sys.version_info >= (3, 13):
            alive = await loop.create_server(Recorder, "127.0.0.1", 0, keep_alive=True)
            assert alive.sockets[0].getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            alive.close()
        for server in (several, one, other, later, given, everywhere):
            server.close()
            await server.wait_closed()

    runner.run(main())


def test_serving_forever(runner: asyncio.Runner) -> None:
    async def main() -> None:
        server = await asyncio.start_server(shout, "127.0.0.1", 0, start_serving=False)
        task = asyncio.create_task(server.serve_forever())
        await turns()
        assert await ask(*server.sockets[0].getsockname()) == b"HELLO\n"
        with pytest.raises(RuntimeError, match="already being awaited"):
            await server.serve_forever()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not server.is_serving()

    runner.run(main())


def test_a_server_may_be_closed_by_the_factory_of_a_protocol(runner: asyncio.Runner, loop_factory: LoopFactory) -> None:
    if name_of(loop_factory) == "asyncio":
        pytest.skip("asyncio leaves the refused connections to the collector")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        made: list[Recorder] = []

        def factory() -> Recorder:
            server.close()
            made.append(Recorder())
            return made[-1]

        server = await loop.create_server(factory, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        clients = [socket.create_connection(address) for _ in range(3)]
        with failures(loop) as seen:
            await asyncio.sleep(0.02)
        assert made
        assert not any(isinstance(context["exception"], OSError) for context in seen), "it accepts from a closed socket"
        for client in clients:
            client.close()

    runner.run(main())


def test_a_factory_that_fails_ends_its_connection_alone(runner: asyncio.Runner, loop_factory: LoopFactory) -> None:
    if name_of(loop_factory) == "asyncio":
        pytest.skip("asyncio leaves the socket to the collector")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        count = 0

        def factory() -> asyncio.Protocol:
            nonlocal count
            count += 1
            if count % 2:
                raise LookupError("no protocol today")
            return asyncio.StreamReaderProtocol(asyncio.StreamReader(), shout)

        with failures(loop):
            server = await loop.create_server(factory, "127.0.0.1", 0)
            address = server.sockets[0].getsockname()
            for _ in range(4):
                reader, writer = await asyncio.open_connection(*address)
                try:
                    assert await reader.read() == b""
                except ConnectionResetError:
                    pass
                writer.close()
                assert await ask(*address) == b"HELLO\n"
        server.close()
        await server.wait_closed()

    runner.run(main())


def test_waiting_for_a_servers_connections(runner: asyncio.Runner) -> None:
    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
        _reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        await asyncio.sleep(0.005)
        server.close()
        waiter = asyncio.create_task(server.wait_closed())
        await asyncio.sleep(0.005)
        # Python 3.12.1 repaired what wait_closed() had never done.
        assert waiter.done() == (sys.version_info < (3, 12, 1))
        writer.close()
        await writer.wait_closed()
        await asyncio.wait_for(waiter, 5)

    runner.run(main())


@pytest.mark.skipif(sys.version_info < (3, 13), reason="came with Python 3.13")
@pytest.mark.parametrize("how", ["close_clients", "abort_clients"])
def test_ending_a_servers_connections(runner: asyncio.Runner, how: str) -> None:
    async def main() -> None:
        protocols: list[Recorder] = []

        def factory() -> Recorder:
            protocols.append(Recorder())
            return protocols[-1]

        server = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0)
        connections = [await asyncio.open_connection(*server.sockets[0].getsockname()) for _ in range(5)]
        await asyncio.sleep(0.005)
        server.close()
        getattr(server, how)()
        await asyncio.wait_for(server.wait_closed(), 5)
        for protocol in protocols:
            await protocol.lost
        for reader, writer in connections:
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()

    runner.run(main())


def test_unix_servers(runner: asyncio.Runner, tmp_path: Any) -> None:
    async def main() -> None:
        path = str(tmp_path / "socket")
        for _ in range(2):  # a socket that was left behind is in nobody's way
            server = await asyncio.start_unix_server(shout, path)
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(b"hello\n")
            assert await reader.readline() == b"HELLO\n"
            assert writer.get_extra_info("peername") == path
            writer.close()
            await writer.wait_closed()
            server.close()
            await server.wait_closed()
            assert os.path.exists(path) == (sys.version_info < (3, 13))
        abstract = await asyncio.start_unix_server(shout, f"\0aioxide-test-{os.getpid()}")
        reader, writer = await asyncio.open_unix_connection(f"\0aioxide-test-{os.getpid()}")
        writer.write(b"hello\n")
        assert await reader.readline() == b"HELLO\n"
        writer.close()
        await writer.wait_closed()
        abstract.close()
        if sys.version_info >= (3, 13):
            kept = await asyncio.get_running_loop().create_unix_server(Recorder, path, cleanup_socket=False)
            kept.close()
            assert os.path.exists(path)
        with pytest.raises(FileNotFoundError):
            await asyncio.open_unix_connection(str(tmp_path / "nowhere"))

    runner.run(main())


def test_connecting_tries_every_address(runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await asyncio.start_server(shout, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        good, bad = ("127.0.0.1", port), ("127.0.0.2", port)

        async def several(*_args: Any, **_kwargs: Any) -> list[Any]:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in (bad, bad, good)]

        monkeypatch.setattr(loop, "getaddrinfo", several)
        assert await ask("several.test", port) == b"HELLO\n"
        assert await ask("several.test", port, happy_eyeballs_delay=0.01) == b"HELLO\n"
        assert await ask("several.test", port, happy_eyeballs_delay=0.01, interleave=1) == b"HELLO\n"
        assert await ask("several.test", port, local_addr=("127.0.0.1", 0)) == b"HELLO\n"
        good = bad
        with pytest.raises(OSError, match="Multiple exceptions|Connect call failed"):
            await ask("several.test", port)
        if sys.version_info >= (3, 12):
            with pytest.raises(ExceptionGroup) as group:
                await ask("several.test", port, all_errors=True)
            assert len(group.value.exceptions) == 3
        server.close()
        await server.wait_closed()

    runner.run(main())


def test_arguments_of_create_connection(runner: asyncio.Runner) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram:
            datagram.setblocking(False)
            with pytest.raises(ValueError, match="Stream Socket"):
                await loop.create_connection(Recorder, sock=datagram)
        for kwargs in ({}, {"host": "127.0.0.1", "port": 1, "sock": object()}, {"server_hostname": "x", "host": "y"}):
            with pytest.raises(ValueError):
                await loop.create_connection(Recorder, **kwargs)  # type: ignore[call-overload]
        with pytest.raises(OSError):
            await loop.create_connection(Recorder, "127.0.0.1", 1, local_addr=("198.51.100.1", 0))

    runner.run(main())


def test_cancelled_connects_leave_no_descriptor(runner: asyncio.Runner) -> None:
    from tests.loop.support import open_descriptors

    async def main() -> None:
        server = await asyncio.start_server(shout, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        await ask(*address)
        before = open_descriptors()
        for step in range(12):
            task = asyncio.create_task(ask(*address))
            for _ in range(step):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.exception()
        # What was connected already is closed once its other end has told so.
        deadline = time.monotonic() + 10
        while left := open_descriptors() - before:
            assert time.monotonic() < deadline, left
            await asyncio.sleep(0.01)
        server.close()
        await server.wait_closed()

    runner.run(main())


def test_getaddrinfo_and_getnameinfo(runner: asyncio.Runner) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)
        assert all(entry[4][1] == 80 for entry in found)
        found = await loop.getaddrinfo("127.0.0.1", "http", family=socket.AF_INET)
        assert found[0][4] == ("127.0.0.1", 80)
        assert await loop.getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV) == (
            "127.0.0.1",
            "80",
        )
        with pytest.raises(socket.gaierror):
            await loop.getaddrinfo("no such host", 80)

    runner.run(main())


def test_sendfile_is_sendfile(runner: asyncio.Runner, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    original = os.sendfile

    def counted(out: int, source: int, offset: int, count: int) -> int:
        sent = original(out, source, offset, count)
        calls.append(sent)
        return sent

    monkeypatch.setattr(os, "sendfile", counted)
    data = os.urandom(3_000_000)
    path = tmp_path / "file"
    path.write_bytes(data)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        transport, protocol, _accepted, peer = await connected()
        with path.open("rb") as file:
            transport.write(b"before")
            task = asyncio.create_task(loop.sendfile(transport, file))
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="sendfile is in progress"):
                transport.write(b"between")
            assert await task == len(data)
            assert file.tell() == len(data)
            transport.write(b"after")
            assert await loop.sendfile(transport, file, offset=1000, count=500) == 500
            assert await loop.sendfile(transport, file, offset=len(data)) == 0
        transport.close()
        await peer.lost
        await protocol.lost
        assert peer.data == b"before" + data + b"after" + data[1000:1500]

    runner.run(main())
    assert sum(calls) == len(data) + 500


def test_sendfile_falls_back_only_where_asked(runner: asyncio.Runner) -> None:
    import io

    async def main() -> None:
        loop = asyncio.get_running_loop()
        transport, protocol, _accepted, peer = await connected()
        with pytest.raises(asyncio.SendfileNotAvailableError):
            await loop.sendfile(transport, io.BytesIO(b"not a file"), fallback=False)
        assert await loop.sendfile(transport, io.BytesIO(b"not a file"), fallback=True) == 10
        await peer.until(lambda: peer.data == b"not a file")
        transport.close()
        with pytest.raises(RuntimeError, match="closing"):
            await loop.sendfile(transport, io.BytesIO(b""))
        await protocol.lost
        await peer.lost

    runner.run(main())


def test_a_cancelled_sendfile_leaves_the_transport_usable(
    runner: asyncio.Runner, tmp_path: Any, loop_factory: LoopFactory
) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(20_000_000))

    async def main(step: int) -> None:
        loop = asyncio.get_running_loop()
        transport, protocol, accepted, peer = await connected()
        accepted.pause_reading()
        transport.write(bytes(20_000_000))
        with path.open("rb") as file:
            task = asyncio.create_task(loop.sendfile(transport, file))
            for _ in range(step):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
        assert transport.is_reading()
        transport.write(b"!")
        transport.close()
        accepted.resume_reading()
        await peer.lost
        await protocol.lost
        assert peer.data.endswith(b"!")

    if name_of(loop_factory) == "asyncio":
        pytest.skip("asyncio's transport can never be written to again")
    for step in range(4):
        runner.run(main(step))
