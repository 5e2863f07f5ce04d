"""Many connections, few descriptors, slow readers, and numbers that are used again."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import socket
import struct
import sys
from typing import Any

import pytest
from tests.loop.support import LoopFactory, Recorder, failures, listener, name_of, open_descriptors, tcp_pair

# A process of its own for the far ends, so that each has a full set of descriptors.
CLIENTS = """
import os, resource, socket, sys
port, idle, busy, messages = map(int, sys.argv[1:])
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 30000) if hard > 0 else 30000, hard))
connections = []
for n in range(idle + busy):
    # Every address of the loopback has ports of its own: take some that no earlier run has left waiting.
    sock = socket.socket()
    sock.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT: connect() finds one faster
    sock.bind(("127.%d.%d.%d" % (1 + os.getpid() // 256 % 250, os.getpid() % 256, 1 + n // 5000), 0))
    sock.connect(("127.0.0.1", port))
    connections.append(sock)
    if n % 200 == 0:
        # The backlog must not overflow: what the kernel drops it sends again only after a second.
        sock.sendall(b"accepted")
        assert sock.recv(8, socket.MSG_WAITALL) == b"accepted"
print("connected", flush=True)
chosen = connections[::max(1, len(connections) // busy)][:busy]
for n in range(messages):
    for i, sock in enumerate(chosen):
        sock.sendall(b"%08d" % (n * busy + i))
    for i, sock in enumerate(chosen):
        assert sock.recv(8, socket.MSG_WAITALL) == b"%08d" % (n * busy + i)
print("answered", flush=True)
sys.stdin.read()
for sock in connections:
    sock.close()
"""


class Echo(asyncio.Protocol):
    def __init__(self, open_connections: set[Any]) -> None:
        self.open_connections = open_connections

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.open_connections.add(self)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.open_connections.discard(self)


def test_ten_thousand_idle_and_a_thousand_busy(
    loop_factory: LoopFactory, many_descriptors: int, rounds: int, runner: asyncio.Runner
) -> None:
    busy = min(1000, many_descriptors // 12)
    idle = min(10_000, many_descriptors - busy - 1000)

    async def main() -> None:
        open_connections: set[Any] = set()
        server = await asyncio.get_running_loop().create_server(
            lambda: Echo(open_connections), "127.0.0.1", 0, backlog=1000
        )
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", CLIENTS, str(server.sockets[0].getsockname()[1])),
            *(str(idle), str(busy), str(5 * rounds)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stdin is not None
        assert await process.stdout.readline() == b"connected\n"
        assert await process.stdout.readline() == b"answered\n"
        assert len(open_connections) == idle + busy
        process.stdin.close()
        assert await process.wait() == 0
        async with asyncio.timeout(30):
            while open_connections:
                await asyncio.sleep(0.01)
        server.close()
        await server.wait_closed()

    if loop_factory.debug:  # type: ignore[attr-defined]
        pytest.skip("once is enough")
    runner.run(main())


def fill_descriptors() -> list[int]:
    """Take every descriptor that is left."""
    taken = []
    while True:
        try:
            taken.append(os.dup(0))
        except OSError:
            return taken


def test_running_out_of_descriptors_and_back(runner: asyncio.Runner, loop_factory: LoopFactory) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        open_connections: set[Any] = set()
        server = await loop.create_server(lambda: Echo(open_connections), "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        clients = [socket.socket() for _ in range(20)]
        for client in clients:
            client.setblocking(False)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(open_descriptors()) + 1, hard))
        fillers = fill_descriptors()
        try:
            with failures(loop) as seen:
                for client in clients:
                    await loop.sock_connect(client, address)
                await asyncio.sleep(0.05)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for fd in fillers:
                os.close(fd)
        assert "out of system resource" in seen[0]["message"]
        if name_of(loop_factory) == "aioxide":
            assert len(seen) < 10, "it asks again and again"
        for client in clients:
            await loop.sock_sendall(client, b"hello")
            assert await asyncio.wait_for(loop.sock_recv(client, 5), 10) == b"hello"
            client.close()
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0.01)

    runner.run(main())


def test_a_loop_that_finds_no_descriptor(loop_factory: LoopFactory) -> None:
    if name_of(loop_factory) == "asyncio":
        pytest.skip("asyncio leaves its selector open when no pair of sockets is left")
    loop_factory().close()
    before = open_descriptors()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for more in range(3):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(before) + 1 + more, hard))
        try:
            fillers = fill_descriptors()
            for fd in fillers[:more]:
                os.close(fd)
            try:
                loop_factory().close()
            except OSError:
                pass
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for fd in fillers[more:]:
                os.close(fd)
    assert open_descriptors() <= before


def memory_kib() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize() // 1024


def test_large_data_and_a_slow_reader(runner: asyncio.Runner, rounds: int) -> None:
    """Flow control keeps what waits in memory bounded, however much goes through."""
    total = (64 << 20) if rounds == 1 else (1 << 30)
    block = os.urandom(1 << 16)

    async def main() -> None:
        one, other = tcp_pair()
        reader, peer = await asyncio.open_connection(sock=other)
        _reader, writer = await asyncio.open_connection(sock=one)
        before = memory_kib()

        async def write() -> None:
            for _ in range(total // len(block)):
                writer.write(block)
                await writer.drain()
                assert writer.transport.get_write_buffer_size() <= 2 * len(block)
            writer.write_eof()

        async def read() -> int:
            received, pauses = 0, 0
            while data := await reader.read(1 << 18):
                start = received % len(block)
                assert data[: len(block) - start] == block[start : start + len(data)]
                received += len(data)
                if received >> 23 > pauses:
                    pauses += 1
                    await asyncio.sleep(0.001)
            return received

        _, received = await asyncio.gather(write(), read())
        assert received == total
        assert memory_kib() - before < 16 * 1024
        writer.close()
        peer.close()
        await asyncio.gather(writer.wait_closed(), peer.wait_closed())

    runner.run(main())


def test_numbers_are_used_again_behind_cancelled_operations(
    runner: asyncio.Runner, loop_factory: LoopFactory, rng: random.Random, rounds: int
) -> None:
    """Connects, reads and writes are cancelled at any time, and their numbers opened anew at once; nobody may hear, or
    be told, what was meant for another (uvloop's issues 653, 646 and 740)."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(100):
                writer.write(data)
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def talk(address: Any, n: int) -> None:
        reader, writer = await asyncio.open_connection(*address)
        try:
            for i in range(3):
                message = b"%d-%d\n" % (n, i)
                writer.write(message)
                await writer.drain()
                assert await reader.readline() == message
        finally:
            if rng.random() < 0.5:
                writer.transport.abort()
            writer.close()

    async def main() -> None:
        before = open_descriptors()
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        finished = 0
        for batch in range(15 * rounds):
            tasks = [asyncio.create_task(talk(address, batch * 100 + n)) for n in range(20)]
            for task in tasks:
                for _ in range(rng.randrange(4)):
                    await asyncio.sleep(0)
                if rng.random() < 0.6:
                    task.cancel()
            for result in await asyncio.gather(*tasks, return_exceptions=True):
                assert result is None or isinstance(result, asyncio.CancelledError), repr(result)
                finished += result is None
        assert finished
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0.02)
        assert open_descriptors() <= before

    runner.run(asyncio.sleep(0))
    with failures(runner.get_loop()) as seen:
        runner.run(main())
    if name_of(loop_factory) == "asyncio":
        # A task that is cancelled while drain() waits does not ask any more what the reset did to its future.
        seen = [each for each in seen if not isinstance(each["exception"], ConnectionError)]
    assert seen == []


def test_peers_that_reset_at_any_time(runner: asyncio.Runner, rng: random.Random, rounds: int) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        protocols: list[Recorder] = []

        class Writing(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                transport.write(bytes(rng.randrange(500_000)))

        def factory() -> Recorder:
            protocols.append(Writing())
            return protocols[-1]

        with listener() as listening:
            listening.setblocking(False)
            server = await loop.create_server(factory, sock=listening)
            for _ in range(100 * rounds):
                client = socket.create_connection(listening.getsockname())
                for _ in range(rng.randrange(3)):
                    await asyncio.sleep(0)
                if rng.random() < 0.7:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.close()
            await asyncio.sleep(0.02)
            for protocol in protocols:
                await asyncio.wait_for(protocol.lost, 10)
                assert protocol.calls[0] == "connection_made"
                assert protocol.calls[-1] == "connection_lost"
                assert protocol.error is None or isinstance(protocol.error, ConnectionError)
            server.close()

    runner.run(main())
