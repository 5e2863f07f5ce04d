"""`sock_*` operations that are cancelled or raced, and descriptors that are closed and come again."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import socket
import weakref
from collections.abc import Callable, Iterator

import pytest
from tests.loop.sock_helpers import Pair, listening, not_blocking, run, settled, waiting

import aioxide


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Two connected stream sockets that do not block."""
    one, other = socket.socketpair()
    with one, other:
        one.setblocking(False)
        other.setblocking(False)
        yield one, other


def test_a_cancelled_receive_loses_nothing(runner: asyncio.Runner, pair: Pair) -> None:
    async def case(loop: asyncio.AbstractEventLoop, one: socket.socket, other: socket.socket) -> None:
        async with waiting(loop.sock_recv(one, 10)):
            pass
        other.send(b"kept")
        await settled()
        assert await loop.sock_recv(one, 10) == b"kept"
        assert not loop.remove_reader(one)

    run(runner, case, *pair)


def test_cancelled_at_every_moment(pair: Pair) -> None:
    """Not even when data came just before: asyncio loses it then, since it has received it already."""
    one, other = pair

    async def case(loop: asyncio.AbstractEventLoop) -> None:
        for steps in range(8):
            task = asyncio.create_task(loop.sock_recv(one, 100))
            for step in range(8):
                if step == steps:
                    task.cancel()
                if step == 3:
                    other.send(b"x")
                await asyncio.sleep(0)
            with contextlib.suppress(asyncio.CancelledError):
                assert await task == b"x"
            if task.cancelled():
                assert await loop.sock_recv(one, 100) == b"x"

    with asyncio.Runner(loop_factory=aioxide.new_event_loop) as runner:
        run(runner, case)


def test_a_later_receive_takes_the_place_of_an_earlier_one(runner: asyncio.Runner, pair: Pair) -> None:
    async def case(loop: asyncio.AbstractEventLoop, one: socket.socket, other: socket.socket) -> None:
        async with waiting(loop.sock_recv(one, 10)) as earlier, waiting(loop.sock_recv(one, 10)) as later:
            other.send(b"hello")
            assert await later == b"hello"
            assert not earlier.done()

    run(runner, case, *pair)


def test_a_reader_takes_the_place_of_a_receive(runner: asyncio.Runner, pair: Pair) -> None:
    async def case(loop: asyncio.AbstractEventLoop, one: socket.socket, other: socket.socket) -> None:
        ready = asyncio.Event()
        async with waiting(loop.sock_recv(one, 10)) as earlier:
            loop.add_reader(one, ready.set)
            other.send(b"hello")
            await ready.wait()
            assert not earlier.done()
            assert loop.remove_reader(one)
        assert await loop.sock_recv(one, 10) == b"hello"
        async with waiting(loop.sock_recv(one, 10)) as again:
            other.send(b"again")
            assert await again == b"again"

    run(runner, case, *pair)


def test_a_reader_and_a_send_share_a_socket(runner: asyncio.Runner, pair: Pair) -> None:
    async def case(loop: asyncio.AbstractEventLoop, one: socket.socket, other: socket.socket) -> None:
        size = 2_000_000
        heard: list[bytes] = []
        async with waiting(loop.sock_sendall(one, bytes(size))) as sending:
            loop.add_reader(one, lambda: heard.append(one.recv(10)))
            other.send(b"hello")
            received = 0
            while received < size:
                received += len(await loop.sock_recv(other, 1 << 16))
            await sending
        while not heard:
            await asyncio.sleep(0)
        assert heard == [b"hello"]
        assert loop.remove_reader(one)
        assert not loop.remove_writer(one)

    run(runner, case, *pair)


def test_sending_and_receiving_at_once(runner: asyncio.Runner, pair: Pair) -> None:
    async def case(loop: asyncio.AbstractEventLoop, one: socket.socket, other: socket.socket) -> None:
        async def receive(sock: socket.socket, size: int) -> None:
            while size:
                size -= len(await loop.sock_recv(sock, 65536))

        size = 2_000_000
        await asyncio.gather(
            loop.sock_sendall(one, bytes(size)),
            loop.sock_sendall(other, bytes(size)),
            receive(one, size),
            receive(other, size),
        )

    run(runner, case, *pair)


def test_a_number_that_comes_again_is_another_socket(runner: asyncio.Runner) -> None:
    async def case(loop: asyncio.AbstractEventLoop) -> None:
        for _ in range(20):
            one, other = socket.socketpair()
            one.setblocking(False)
            number = one.fileno()
            async with waiting(loop.sock_recv(one, 10)) as task:
                task.cancel()  # it hears of that in the next turn: the number is another's by then
                one.close()
                other.close()
                new, peer = socket.socketpair()
                assert new.fileno() == number
                new.setblocking(False)
                with new, peer:
                    async with waiting(loop.sock_recv(new, 10)) as second:
                        peer.send(b"new")
                        assert await second == b"new"

    run(runner, case)


def test_a_number_that_comes_again_as_a_transport() -> None:
    """asyncio takes the new transport for the old socket's user."""

    async def case(loop: asyncio.AbstractEventLoop) -> None:
        one, other = socket.socketpair()
        one.setblocking(False)
        number = one.fileno()
        async with waiting(loop.sock_recv(one, 10)) as task:
            one.close()
            other.close()
            new, peer = socket.socketpair()
            assert new.fileno() == number
            with peer:
                reader, writer = await asyncio.open_connection(sock=new)
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
                await settled()
                peer.send(b"hello")
                assert await reader.read(10) == b"hello"
                writer.close()
                await writer.wait_closed()

    with asyncio.Runner(loop_factory=aioxide.new_event_loop) as runner:
        run(runner, case)


def test_a_number_that_comes_again_under_a_forgotten_reader() -> None:
    """asyncio fails then: it takes the number for registered."""

    async def case(loop: asyncio.AbstractEventLoop) -> None:
        one, other = socket.socketpair()
        number = one.fileno()
        loop.add_reader(one, print)
        one.close()
        other.close()
        new, peer = socket.socketpair()
        assert new.fileno() == number
        new.setblocking(False)
        with new, peer:
            async with waiting(loop.sock_recv(new, 10)) as task:
                peer.send(b"hello")
                assert await task == b"hello"
            ready = asyncio.Event()
            loop.add_reader(new, ready.set)
            peer.send(b"again")
            await ready.wait()
            assert loop.remove_reader(new)

    with asyncio.Runner(loop_factory=aioxide.new_event_loop) as runner:
        run(runner, case)


def test_a_duplicate_that_lives_on_does_not_keep_the_loop_busy(runner: asyncio.Runner, pair: Pair) -> None:
    async def case(loop: asyncio.AbstractEventLoop, one: socket.socket, other: socket.socket) -> None:
        async with waiting(loop.sock_recv(one, 1)):
            pass
        duplicate = one.dup()
        one.close()
        with duplicate:
            other.send(b"unread")
            clock = loop.time()
            turns = 0

            def count() -> None:
                nonlocal turns
                turns += 1
                if loop.time() < clock + 0.05:
                    loop.call_later(0.01, count)

            count()
            await asyncio.sleep(0.1)
            assert turns < 20
            assert await loop.sock_recv(duplicate, 10) == b"unread"

    run(runner, case, *pair)


def test_a_socket_that_nobody_holds_is_freed(runner: asyncio.Runner) -> None:
    async def case(loop: asyncio.AbstractEventLoop) -> None:
        one, other = socket.socketpair()
        one.setblocking(False)
        with other:
            async with waiting(loop.sock_recv(one, 1)):
                pass
            gone = weakref.ref(one)
            one.close()
            del one
            gc.collect()
            assert gone() is None

    run(runner, case)


def test_racing_connects(runner: asyncio.Runner) -> None:
    async def case(loop: asyncio.AbstractEventLoop) -> None:
        with listening() as listener:
            address = listener.getsockname()
            for _ in range(20):
                with not_blocking() as client:
                    first = asyncio.create_task(loop.sock_connect(client, address))
                    await asyncio.sleep(0)
                    first.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await first
                    with contextlib.suppress(OSError):  # EISCONN, if the first was done already
                        await loop.sock_connect(client, address)
                    connection, _ = await loop.sock_accept(listener)
                    with connection:
                        await loop.sock_sendall(connection, b"hello")
                        assert await loop.sock_recv(client, 10) == b"hello"

    run(runner, case)


def test_the_loop_closes_with_operations_pending(loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    one, other = socket.socketpair()
    with one, other:
        one.setblocking(False)
        loop = loop_factory()
        operation = loop.sock_recv(one, 10)
        loop.run_until_complete(asyncio.sleep(0))
        operation.send(None)
        loop.close()
        operation.close()


def test_random_echoes(runner: asyncio.Runner) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)

    async def case(loop: asyncio.AbstractEventLoop) -> None:
        async def echo(sock: socket.socket) -> None:
            with sock:
                while data := await loop.sock_recv(sock, chance.randrange(1, 70_000)):
                    await loop.sock_sendall(sock, data)

        async def client(sock: socket.socket) -> None:
            with sock:
                for _ in range(15):
                    data = chance.randbytes(chance.choice([1, 100, 10_000, 500_000]))
                    sending = asyncio.create_task(loop.sock_sendall(sock, data))
                    received = bytearray()
                    while len(received) < len(data):
                        received += await loop.sock_recv(sock, 65536)
                    await sending
                    assert received == data

        jobs = []
        for _ in range(20):
            one, other = socket.socketpair()
            one.setblocking(False)
            other.setblocking(False)
            jobs += [echo(one), client(other)]
        await asyncio.gather(*jobs)

    run(runner, case)
