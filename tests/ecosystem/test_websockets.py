"""websockets' server and clients on our loop."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
from websockets.asyncio.client import connect, unix_connect
from websockets.asyncio.server import ServerConnection, broadcast, serve, unix_serve
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK


async def echo(socket: ServerConnection) -> None:
    async for message in socket:
        await socket.send(message)


async def talk(connecting: connect, seed: int) -> None:
    rng = random.Random(seed)
    async with connecting as socket:
        for _ in range(20):
            size = rng.choice([0, 1, 125, 126, 65_535, 65_536, 300_000])
            message = rng.randbytes(size) if rng.random() < 0.5 else "é" * (size // 2)
            await socket.send(message)
            assert await socket.recv() == message
            if rng.random() < 0.2:
                await (await socket.ping())


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_echo(runner: asyncio.Runner, compression: str | None) -> None:
    async def main() -> None:
        async with serve(echo, "127.0.0.1", 0, compression=compression) as server:
            port = server.sockets[0].getsockname()[1]
            url = f"ws://127.0.0.1:{port}"
            await asyncio.gather(*(talk(connect(url, compression=compression), seed) for seed in range(20)))

    runner.run(main())


def test_unix_sockets(runner: asyncio.Runner, tmp_path: Path) -> None:
    async def main() -> None:
        path = str(tmp_path / "socket")
        async with unix_serve(echo, path):
            await asyncio.gather(*(talk(unix_connect(path), seed) for seed in range(10)))

    runner.run(main())


def test_slow_reader_is_waited_for(runner: asyncio.Runner) -> None:
    """A server that sends much more than the sockets hold waits for its client, and loses nothing."""
    sent = 0

    async def flood(socket: ServerConnection) -> None:
        nonlocal sent
        for number in range(400):
            await socket.send(number.to_bytes(4, "big") * 16_000)
            sent += 1

    async def main() -> None:
        async with serve(flood, "127.0.0.1", 0, compression=None) as server:
            url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            async with connect(url, compression=None, max_queue=1) as socket:
                await asyncio.sleep(0.5)
                assert sent < 400, "25 MB do not fit into the buffers between them"
                for number in range(400):
                    assert await socket.recv() == number.to_bytes(4, "big") * 16_000
                with pytest.raises(ConnectionClosedOK):
                    await socket.recv()

    runner.run(main())


def test_broadcast_and_lost_peers(runner: asyncio.Runner) -> None:
    members: set[ServerConnection] = set()

    async def member(socket: ServerConnection) -> None:
        members.add(socket)
        try:
            await socket.wait_closed()
        finally:
            members.discard(socket)

    async def main() -> None:
        async with serve(member, "127.0.0.1", 0) as server:
            url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            clients = [await connect(url) for _ in range(30)]
            for number in range(20):
                broadcast(members, f"message {number}")
            for client in clients[:10]:
                client.transport.abort()
            for client in clients[10:]:
                assert [await client.recv() for _ in range(20)] == [f"message {n}" for n in range(20)]
            with pytest.raises(ConnectionClosedError):
                while True:
                    await clients[0].recv()
            async with asyncio.timeout(10):
                while len(members) != 20:
                    await asyncio.sleep(0.01)
            await asyncio.gather(*(client.close() for client in clients))

    runner.run(main())
