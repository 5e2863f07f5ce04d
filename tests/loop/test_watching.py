"""add_reader and add_writer, and descriptors that are closed and used again behind the loop's back."""

from __future__ import annotations

import asyncio
import os
import pty
import select
import socket
from typing import Any

import pytest
from tests.loop.support import LoopFactory, Recorder, connected, failures, name_of, tcp_pair, turns


def test_a_reader_is_called_while_there_is_something_to_read(runner: asyncio.Runner) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        one, other = socket.socketpair()
        done = loop.create_future()
        got: list[bytes] = []

        def read(size: int) -> None:
            got.append(other.recv(size))
            if b"".join(got) == b"abcdef":
                loop.remove_reader(other)
                done.set_result(None)

        loop.add_reader(other, read, 2)
        await turns()
        assert got == []
        one.send(b"abcdef")
        await done
        assert got == [b"ab", b"cd", b"ef"]
        one.send(b"more")
        await asyncio.sleep(0.001)
        assert len(got) == 3
        one.close()
        other.close()

    runner.run(main())


def test_reader_and_writer_of_one_descriptor(runner: asyncio.Runner) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        one, other = socket.socketpair()
        calls: list[str] = []
        loop.add_writer(one.fileno(), calls.append, "write")
        loop.add_reader(one.fileno(), calls.append, "read")
        await asyncio.sleep(0.001)
        assert set(calls) == {"write"}
        other.send(b"x")
        await asyncio.sleep(0.001)
        assert set(calls) == {"write", "read"}
        assert loop.remove_writer(one)
        assert not loop.remove_writer(one)
        await turns()
        calls.clear()
        await asyncio.sleep(0.001)
        assert set(calls) == {"read"}
        assert loop.remove_reader(one)
        assert not loop.remove_reader(one)
        await turns()
        calls.clear()
        await asyncio.sleep(0.001)
        assert calls == []
        one.close()
        other.close()

    runner.run(main())


def test_a_second_reader_takes_the_place_of_the_first(runner: asyncio.Runner) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        one, other = socket.socketpair()
        calls: list[str] = []
        loop.add_reader(one, calls.append, "first")
        loop.add_reader(one, calls.append, "second")
        other.send(b"x")
        await asyncio.sleep(0.001)
        assert set(calls) == {"second"}
        loop.remove_reader(one)
        one.close()
        other.close()

    runner.run(main())


def test_a_reader_may_remove_the_writer_that_is_ready_with_it(runner: asyncio.Runner) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        one, other = socket.socketpair()
        calls: list[str] = []

        def read() -> None:
            calls.append("read")
            loop.remove_writer(one)
            loop.remove_reader(one)

        other.send(b"x")
        loop.add_reader(one, read)
        loop.add_writer(one, calls.append, "write")
        await asyncio.sleep(0.001)
        assert calls == ["read"]
        one.close()
        other.close()

    runner.run(main())


def test_a_reader_may_remove_others_that_are_ready(runner: asyncio.Runner) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        pairs = [socket.socketpair() for _ in range(20)]
        calls: list[int] = []

        def read(n: int) -> None:
            calls.append(n)
            for mine, other in pairs:
                loop.remove_reader(mine)
                mine.close()
                other.close()

        for n, (mine, other) in enumerate(pairs):
            loop.add_reader(mine, read, n)
            other.send(b"x")
        await asyncio.sleep(0.005)
        assert len(calls) == 1

    runner.run(main())


def test_a_failing_reader_is_reported_and_stays(runner: asyncio.Runner) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        one, other = socket.socketpair()
        loop.add_reader(one, lambda: 1 / 0)
        other.send(b"x")
        with failures(loop) as seen:
            await asyncio.sleep(0.002)
        assert len(seen) >= 2
        assert loop.remove_reader(one)
        one.close()
        other.close()

    runner.run(main())


def test_hang_ups_reach_readers_and_writers(runner: asyncio.Runner) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        read_end, write_end = os.pipe()
        heard = loop.create_future()
        loop.add_reader(read_end, lambda: heard.done() or heard.set_result(os.read(read_end, 1)))
        os.close(write_end)
        assert await heard == b""
        loop.remove_reader(read_end)
        os.close(read_end)

        read_end, write_end = os.pipe()
        os.set_blocking(write_end, False)
        try:
            while True:
                os.write(write_end, bytes(65536))
        except BlockingIOError:
            pass
        heard = loop.create_future()
        loop.add_writer(write_end, lambda: heard.done() or heard.set_result(True))
        os.close(read_end)
        assert await heard
        loop.remove_writer(write_end)
        os.close(write_end)

    runner.run(main())


@pytest.mark.parametrize("thing", [-1, "x", None, 1.5, object()])
def test_what_is_no_descriptor(runner: asyncio.Runner, thing: Any) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        for call in (loop.add_reader, loop.add_writer):
            with pytest.raises(ValueError):
                call(thing, int)
        for remove in (loop.remove_reader, loop.remove_writer):
            with pytest.raises(ValueError):
                remove(thing)

    runner.run(main())


def test_descriptors_that_cannot_be_watched(runner: asyncio.Runner, tmp_path: Any) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with (tmp_path / "file").open("w") as file, pytest.raises(PermissionError):
            loop.add_reader(file, int)
        read_end, write_end = os.pipe()
        os.close(read_end)
        with pytest.raises(OSError):
            loop.add_reader(read_end, int)
        os.close(write_end)
        assert not loop.remove_reader(write_end)

    runner.run(main())


def test_a_transports_descriptor_is_refused(runner: asyncio.Runner) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        transport, protocol, accepted, peer = await connected()
        sock = transport.get_extra_info("socket")
        for call in (loop.add_reader, loop.add_writer):
            with pytest.raises(RuntimeError, match="is used by transport"):
                call(sock, int)
        for remove in (loop.remove_reader, loop.remove_writer):
            with pytest.raises(RuntimeError, match="is used by transport"):
                remove(sock)
        with pytest.raises(RuntimeError, match="is used by transport"):
            await loop.sock_recv(sock._sock, 1)
        transport.close()
        await protocol.lost
        await peer.lost

    runner.run(main())


def test_epoll_and_other_pollable_things(runner: asyncio.Runner) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        inner = select.epoll()
        one, other = socket.socketpair()
        inner.register(one, select.EPOLLIN)
        seen = loop.create_future()
        loop.add_reader(inner, lambda: seen.done() or seen.set_result(None))
        other.send(b"x")
        await asyncio.wait_for(seen, 5)
        loop.remove_reader(inner)
        inner.close()
        controller, terminal = pty.openpty()
        seen = loop.create_future()
        loop.add_reader(controller, lambda: seen.done() or seen.set_result(os.read(controller, 10)))
        os.write(terminal, b"hello\n")
        assert await asyncio.wait_for(seen, 5) == b"hello\r\n"
        loop.remove_reader(controller)
        for end in (one, other):
            end.close()
        os.close(controller)
        os.close(terminal)

    runner.run(main())


def test_a_number_that_was_closed_and_opened_anew(runner: asyncio.Runner, loop_factory: LoopFactory) -> None:
    """The old one was never removed: its callback must not hear of the new one, and the new one must be heard."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        old, old_peer = socket.socketpair()
        new, new_peer = socket.socketpair()
        number = old.fileno()
        loop.add_reader(number, pytest.fail, "the old one is called")
        old.close()
        os.dup2(new.fileno(), number)
        heard = loop.create_future()
        loop.add_reader(number, lambda: heard.done() or heard.set_result(None))
        new_peer.send(b"x")
        await asyncio.wait_for(heard, 5)
        loop.remove_reader(number)
        os.close(number)
        for sock in (new, old_peer, new_peer):
            sock.close()

    if name_of(loop_factory) == "asyncio":
        pytest.skip("asyncio's selector believes that the new file is watched already")
    runner.run(main())


def test_a_number_that_is_given_to_another_file_while_the_old_one_lives_on(
    runner: asyncio.Runner, loop_factory: LoopFactory
) -> None:
    """The kernel goes on watching the old file, which has something to read and is out of reach by its number."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        old, old_peer = socket.socketpair()
        new, new_peer = socket.socketpair()
        loop.add_reader(old, int)
        old_again = old.dup()
        os.dup2(new.fileno(), old.fileno())
        old_peer.send(b"for the old one")
        await asyncio.sleep(0.001)
        assert loop.remove_reader(old)
        await turns()
        calls: list[str] = []
        heard = loop.create_future()

        def read() -> None:
            calls.append("read")
            try:
                heard.set_result(old.recv(100))
            except BlockingIOError:
                assert name_of(loop_factory) == "asyncio", "the new one is not ready"

        old.setblocking(False)
        loop.add_reader(old, read)
        if name_of(loop_factory) == "aioxide":
            polls = loop.statistics()["polls"]  # type: ignore[attr-defined]
            await asyncio.sleep(0.02)
            assert loop.statistics()["polls"] - polls < 10, "the old one keeps the loop busy"  # type: ignore[attr-defined]
            assert calls == []
        new_peer.send(b"for the new one")
        assert await asyncio.wait_for(heard, 5) == b"for the new one"
        assert loop.remove_reader(old)
        assert old_again.recv(100) == b"for the old one"
        for sock in (old, old_again, old_peer, new, new_peer):
            sock.close()

    runner.run(main())


def test_a_new_watch_of_everything_keeps_what_was_watched(runner: asyncio.Runner, loop_factory: LoopFactory) -> None:
    """Being rid of one leftover costs no other watch, be it a transport's, a reader's or a socket operation's."""
    if name_of(loop_factory) == "asyncio":
        pytest.skip("asyncio's loop spins")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        pairs = [socket.socketpair() for _ in range(3)]
        for sock in (sock for pair in pairs for sock in pair):
            sock.setblocking(False)
        (leftover, leftover_peer), (watched, watched_peer), (waited, waited_peer) = pairs
        transport, protocol, accepted, peer = await connected()
        heard = asyncio.Event()
        loop.add_reader(watched, heard.set)
        receiving = asyncio.create_task(loop.sock_recv(waited, 10))
        loop.add_writer(leftover, int)
        lives_on = leftover.dup()
        with open(os.devnull) as null:
            os.dup2(null.fileno(), leftover.fileno())
        loop.remove_writer(leftover)
        for _ in range(3):
            await asyncio.sleep(0.001)
        assert not heard.is_set()
        watched_peer.send(b"x")
        await asyncio.wait_for(heard.wait(), 5)
        waited_peer.send(b"y")
        assert await asyncio.wait_for(receiving, 5) == b"y"
        transport.write(b"z")
        async with asyncio.timeout(5):
            while bytes(peer.data) != b"z":
                await asyncio.sleep(0.001)
        await asyncio.wait_for(loop.run_in_executor(None, int), 5)
        loop.remove_reader(watched)
        transport.close()
        await protocol.lost
        await peer.lost
        for sock in (*(sock for pair in pairs for sock in pair), lives_on):
            sock.close()

    runner.run(main())


def test_a_transport_takes_over_a_number_that_was_left_behind(
    runner: asyncio.Runner, loop_factory: LoopFactory
) -> None:
    if name_of(loop_factory) == "asyncio":
        pytest.skip("asyncio's selector believes that the new file is watched already")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        one, other = socket.socketpair()
        mine, peer = tcp_pair()
        number = one.fileno()
        loop.add_reader(number, pytest.fail, "the old one is called")
        one.close()
        os.dup2(mine.fileno(), number)
        mine.close()
        taken = socket.socket(fileno=number)
        taken.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=taken)
        peer.send(b"for the new one")
        assert await asyncio.wait_for(reader.readexactly(15), 5) == b"for the new one"
        writer.close()
        await writer.wait_closed()
        peer.close()
        other.close()

    runner.run(main())


def test_a_transport_whose_socket_was_closed_writes_to_nobody_else(runner: asyncio.Runner) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        mine, peer = tcp_pair()
        victim, reader = socket.socketpair()
        transport, protocol = await loop.create_connection(Recorder, sock=mine)
        number = mine.fileno()
        mine.close()  # behind the transport's back
        os.dup2(victim.fileno(), number)
        transport.write(b"not for you")
        await asyncio.wait_for(protocol.lost, 5)
        assert isinstance(protocol.error, OSError)
        reader.setblocking(False)
        with pytest.raises(BlockingIOError):
            reader.recv(100)
        os.close(number)
        for sock in (victim, reader, peer):
            sock.close()

    runner.run(main())
