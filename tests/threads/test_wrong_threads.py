"""What belongs to a loop is used from other threads: it works, or raises, and the loop goes on."""

from __future__ import annotations

import asyncio
import functools
import random
import socket
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from aioxide import http
from aioxide._native import HttpServer

if TYPE_CHECKING:
    from .conftest import Fleet

InThreads = Callable[[list[Callable[[], None]]], None]
pytestmark = pytest.mark.usefixtures("collector")
RECORD = 64


class Peer(asyncio.Protocol):
    """Counts the records that arrive, and knows its transport."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.data = bytearray()
        self.lost = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data

    def connection_lost(self, exc: BaseException | None) -> None:
        self.lost = True


async def connected(loop: asyncio.AbstractEventLoop) -> tuple[Peer, Peer]:
    one, other = socket.socketpair()
    first, second = Peer(), Peer()
    await loop.create_connection(lambda: first, sock=one)
    await loop.create_connection(lambda: second, sock=other)
    return first, second


def run_on(loop: asyncio.AbstractEventLoop, coroutine: Any) -> Any:
    return asyncio.run_coroutine_threadsafe(coroutine, loop).result(60)


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_records_written_by_many_threads_arrive_whole(native_fleet: Fleet, run_in_threads: InThreads) -> None:
    loop = native_fleet.loops[0]
    sender, receiver = run_on(loop, connected(loop))
    assert sender.transport is not None

    def write(sender_id: int) -> None:
        for number in range(500):
            record = b"%02d:%04d;" % (sender_id, number)
            sender.transport.write(record.ljust(RECORD, b"."))

    run_in_threads([functools.partial(write, index) for index in range(4)])
    until(lambda: len(receiver.data) == 4 * 500 * RECORD)
    records = [bytes(receiver.data[at : at + RECORD]) for at in range(0, len(receiver.data), RECORD)]
    numbers: dict[bytes, list[int]] = {}
    for record in records:
        key, number = record.split(b";")[0].split(b":")
        numbers.setdefault(key, []).append(int(number))
    assert all(received == list(range(500)) for received in numbers.values())
    for peer in (sender, receiver):
        loop.call_soon_threadsafe(peer.transport.close)
    until(lambda: sender.lost and receiver.lost)


def meddle(peers: list[Peer], loop: asyncio.AbstractEventLoop, done: Counter[str], seed: int) -> None:
    """Do to the transports whatever can be done to them."""
    chance = random.Random(seed)
    listener = socket.socket()
    acts: list[Callable[[Any], Any]] = [
        lambda transport: transport.write(b"x" * chance.choice([1, 100, 100_000])),
        lambda transport: transport.writelines([b"a", bytearray(b"b"), b"c" * 5000]),
        lambda transport: transport.pause_reading(),
        lambda transport: transport.resume_reading(),
        lambda transport: transport.set_write_buffer_limits(high=chance.choice([0, 100, 100_000])),
        lambda transport: transport.get_write_buffer_size(),
        lambda transport: transport.get_extra_info("socket").getsockname(),
        lambda transport: transport.get_protocol(),
        lambda transport: transport.set_protocol(transport.get_protocol() or Peer()),
        lambda transport: transport.is_closing() or transport.is_reading(),
        repr,
        lambda _: loop.call_soon(int),
        lambda _: loop.call_later(0.001, int).cancel(),
        lambda _: loop.call_later(0.001, int).when(),
        lambda _: loop.statistics(),  # type: ignore[attr-defined]
        lambda _: loop.add_reader(listener, int),
        lambda _: loop.remove_reader(listener),
        lambda _: loop.time(),
        lambda _: loop._write_to_self(),  # type: ignore[attr-defined]
        lambda _: loop.close(),
        lambda _: loop.run_forever(),
        lambda _: (_ for _ in ()).throw(RuntimeError),
    ]
    endings = ["close", "abort", "write_eof"]
    for _ in range(800):
        transport = chance.choice(peers).transport
        act = chance.choice(acts)
        try:
            if chance.random() < 0.003:
                getattr(transport, chance.choice(endings))()
            else:
                act(transport)
            done["worked"] += 1
        except (RuntimeError, OSError):
            done["refused"] += 1
        except AttributeError as error:
            # The transport is closed by now and has no socket.
            assert "NoneType" in str(error)
    listener.close()


def test_meddling_with_transports_harms_nobody(
    native_fleet: Fleet, run_in_threads: InThreads, dice: random.Random
) -> None:
    done = Counter[str]()
    for loop in native_fleet.loops[:3]:
        pairs = [run_on(loop, connected(loop)) for _ in range(8)]
        peers = [peer for pair in pairs for peer in pair]
        run_in_threads([functools.partial(meddle, peers, loop, done, dice.randrange(2**32)) for _ in range(4)])
        # The loop is as good as before.
        assert run_on(loop, asyncio.sleep(0.001, "alive")) == "alive"
        for peer in peers:
            loop.call_soon_threadsafe(peer.transport.abort)
        until(lambda peers=peers: all(peer.lost for peer in peers))
    assert done["worked"] > done["refused"] > 0


def test_one_client_serves_many_threads_and_loops(
    native_fleet: Fleet, run_in_threads: InThreads, dice: random.Random
) -> None:
    async def fetch(client: http.AsyncClient, url: str, size: int) -> int:
        response = await client.get(f"{url}/bytes/{size}")
        return len(response.content)

    def plain(client: http.Client, url: str, seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(40):
            size = chance.choice([0, 10, 5000, 200_000])
            if chance.random() < 0.2:
                with client.stream("GET", f"{url}/bytes/{size}") as response:
                    assert sum(map(len, response.iter_bytes())) == size
            else:
                assert len(client.get(f"{url}/bytes/{size}").content) == size

    def on_loop(client: http.AsyncClient, url: str, loop: asyncio.AbstractEventLoop, seed: int) -> None:
        chance = random.Random(seed)

        async def some() -> None:
            sizes = [chance.choice([0, 10, 5000, 200_000]) for _ in range(40)]
            assert await asyncio.gather(*(fetch(client, url, size) for size in sizes)) == sizes

        run_on(loop, some())

    with HttpServer() as server, http.Client() as client:
        shared = http.AsyncClient()
        work: list[Callable[[], None]] = []
        for index in range(4):
            work.append(functools.partial(plain, client, server.url, dice.randrange(2**32)))
            work.append(
                functools.partial(on_loop, shared, server.url, native_fleet.loops[index], dice.randrange(2**32))
            )
        run_in_threads(work)
        run_on(native_fleet.loops[0], shared.aclose())
