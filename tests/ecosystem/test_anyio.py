"""AnyIO and its pytest plugin on our loop: what AnyIO promises, asked of the loop it runs on."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import from_thread, to_process, to_thread
from anyio.abc import AnyByteStream, SocketAttribute, TaskStatus
from anyio.streams.memory import MemoryObjectSendStream
from anyio.streams.text import TextReceiveStream

import aioxide

pytestmark = pytest.mark.anyio
OPTIONS = {"loop_factory": aioxide.new_event_loop}


@pytest.fixture(params=[OPTIONS, OPTIONS | {"debug": True}], ids=["aioxide", "aioxide-debug"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", request.param


@pytest.fixture
async def fixture_on_the_loop() -> Any:
    loop = asyncio.get_running_loop()
    yield loop
    assert asyncio.get_running_loop() is loop


async def test_plugin(fixture_on_the_loop: asyncio.AbstractEventLoop) -> None:
    assert type(fixture_on_the_loop) is aioxide.EventLoop
    assert asyncio.get_running_loop() is fixture_on_the_loop


async def test_task_groups_and_cancel_scopes() -> None:
    finished: list[int] = []

    async def work(number: int, *, task_status: TaskStatus[int] = anyio.TASK_STATUS_IGNORED) -> None:
        task_status.started(number)
        try:
            await anyio.sleep(0.001 * (number % 7))
            if number == 60:
                raise ValueError(number)
            await anyio.sleep(30)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.001)
                finished.append(number)

    with pytest.raises(ExceptionGroup) as caught:
        async with anyio.create_task_group() as group:
            for number in range(100):
                assert await group.start(work, number) == number
    assert [str(error) for error in caught.value.exceptions] == ["60"]
    assert 60 in finished and len(finished) >= 61 and len(set(finished)) == len(finished)
    with anyio.move_on_after(0.05) as outer, anyio.fail_after(5):
        await anyio.sleep_forever()
    assert outer.cancelled_caught


async def _echo(stream: AnyByteStream) -> None:
    async with stream:
        try:
            async for chunk in stream:
                await stream.send(chunk)
            await stream.send_eof()
        except anyio.BrokenResourceError:
            return


async def _talk(stream: AnyByteStream, size: int) -> None:
    data = os.urandom(1000) * (size // 1000)
    received = bytearray()
    async with stream, anyio.create_task_group() as group:

        async def send() -> None:
            await stream.send(data)
            await stream.send_eof()

        group.start_soon(send)
        async for chunk in stream:
            received += chunk
    assert received == data


async def test_tcp() -> None:
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, _echo)
        port = listener.extra(SocketAttribute.local_port)
        async with anyio.create_task_group() as clients:
            for number in range(20):
                stream = await anyio.connect_tcp("127.0.0.1", port)
                assert stream.extra(SocketAttribute.remote_port) == port
                clients.start_soon(_talk, stream, number * 100_000)
        # Both ends, while the other is busy in them, tell what they are: busy, closed, broken.
        stream = await anyio.connect_tcp("127.0.0.1", port)
        group.start_soon(_receive_until_closed, stream)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(anyio.BusyResourceError):
            await stream.receive()
        await stream.aclose()
        with pytest.raises(anyio.ClosedResourceError):
            await stream.send(b"x")
        group.cancel_scope.cancel()


async def _receive_until_closed(stream: AnyByteStream) -> None:
    with pytest.raises(anyio.ClosedResourceError):
        await stream.receive()


async def test_unix_sockets_pass_descriptors(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    (tmp_path / "file").write_text("passed on")
    async with await anyio.create_unix_listener(path) as listener, anyio.create_task_group() as group:

        async def serve(stream: Any) -> None:
            with open(tmp_path / "file") as file:
                await stream.send_fds(b"here", [file])
            await _echo(stream)

        group.start_soon(listener.serve, serve)
        async with anyio.create_task_group() as clients:
            for number in range(10):
                stream = await anyio.connect_unix(path)
                message, descriptors = await stream.receive_fds(10, 1)
                assert message == b"here"
                with open(descriptors[0]) as file:
                    assert file.read() == "passed on"
                clients.start_soon(_talk, stream, number * 100_000)
        group.cancel_scope.cancel()


async def test_udp() -> None:
    async with (
        await anyio.create_udp_socket(local_host="127.0.0.1") as server,
        await anyio.create_connected_udp_socket("127.0.0.1", server.extra(SocketAttribute.local_port)) as client,
        anyio.create_task_group() as group,
    ):

        async def serve() -> None:
            async for packet, (host, port) in server:
                await server.sendto(packet[::-1], host, port)

        group.start_soon(serve)
        for number in range(200):
            await client.send(b"packet %d" % number)
            assert await client.receive() == (b"packet %d" % number)[::-1]
        group.cancel_scope.cancel()


async def test_readiness_of_sockets() -> None:
    import socket

    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        right.setblocking(False)
        async with anyio.create_task_group() as group:
            for number in range(100):
                group.start_soon(anyio.wait_readable, right)
                await anyio.wait_all_tasks_blocked()
                left.send(b"%d" % number)
                await anyio.wait_writable(left)
                while group._tasks:
                    await anyio.sleep(0)
                assert right.recv(10) == b"%d" % number
        with anyio.move_on_after(0.02):
            await anyio.wait_readable(right)
        async with anyio.create_task_group() as group:
            group.start_soon(_wait_until_closed, right)
            await anyio.wait_all_tasks_blocked()
            anyio.notify_closing(right)


async def _wait_until_closed(sock: Any) -> None:
    with pytest.raises(anyio.ClosedResourceError):
        await anyio.wait_readable(sock)


async def test_subprocesses() -> None:
    results: dict[int, bytes] = {}

    async def run(number: int) -> None:
        source = f"import sys; print(sys.stdin.read() * 2); sys.exit({number} and 3)"
        done = await anyio.run_process([sys.executable, "-S", "-c", source], input=b"%d" % number, check=False)
        assert done.returncode == (3 if number else 0)
        results[number] = done.stdout

    async with anyio.create_task_group() as group:
        for number in range(8):
            group.start_soon(run, number)
    assert results == {number: b"%d%d\n" % (number, number) for number in range(8)}
    async with await anyio.open_process(["cat"]) as process:
        assert process.stdin is not None and process.stdout is not None
        for number in range(50):
            await process.stdin.send(b"line %d\n" % number)
            assert await TextReceiveStream(process.stdout).receive() == f"line {number}\n"
        process.terminate()
        assert await process.wait() == -signal.SIGTERM


async def test_threads() -> None:
    loop, main_thread = asyncio.get_running_loop(), threading.get_ident()

    async def on_the_loop(number: int) -> int:
        assert asyncio.get_running_loop() is loop
        await anyio.sleep(0.001)
        return number * 2

    def in_a_thread(number: int) -> int:
        assert threading.get_ident() != main_thread
        assert from_thread.run_sync(threading.get_ident) == main_thread
        return from_thread.run(on_the_loop, number)

    limiter = anyio.CapacityLimiter(10)
    results: list[int] = []

    async def call(number: int) -> None:
        results.append(await to_thread.run_sync(in_a_thread, number, limiter=limiter))

    async with anyio.create_task_group() as group:
        for number in range(100):
            group.start_soon(call, number)
    assert sorted(results) == list(range(0, 200, 2))


async def test_process_pool() -> None:
    assert [await to_process.run_sync(pow, 2, number) for number in range(10)] == [2**number for number in range(10)]


async def test_signals() -> None:
    with anyio.open_signal_receiver(signal.SIGUSR1, signal.SIGUSR2) as signals:
        for expected in [signal.SIGUSR1, signal.SIGUSR2] * 10:
            os.kill(os.getpid(), expected)
            with anyio.fail_after(5):
                assert await anext(signals) == expected


async def test_files(tmp_path: Path) -> None:
    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(_write_and_read, anyio.Path(tmp_path) / str(number), str(number) * 10_000)


async def _write_and_read(path: anyio.Path, text: str) -> None:
    await path.write_text(text)
    async with await anyio.open_file(path) as file:
        assert await file.read() == text


def test_portals(anyio_backend: tuple[str, dict[str, Any]]) -> None:
    """Many threads share one loop that runs in a thread of its own."""
    name, options = anyio_backend
    with from_thread.start_blocking_portal(name, options) as portal:
        assert type(portal.call(asyncio.get_running_loop)) is aioxide.EventLoop

        async def double(number: int) -> int:
            await anyio.sleep(0.001)
            return number * 2

        futures = [portal.start_task_soon(double, number) for number in range(200)]
        assert [future.result(30) for future in futures] == list(range(0, 400, 2))
        hanging = portal.start_task_soon(anyio.sleep_forever)
        assert hanging.cancel()
        with portal.wrap_async_context_manager(_managed()) as value:
            assert value == "managed"


class _managed:
    async def __aenter__(self) -> str:
        await anyio.sleep(0)
        return "managed"

    async def __aexit__(self, *_: object) -> None:
        await anyio.sleep(0)


async def test_memory_streams() -> None:
    send, receive = anyio.create_memory_object_stream[int](5)
    got: list[int] = []

    async def produce(stream: MemoryObjectSendStream[int], first: int) -> None:
        async with stream:
            for number in range(first, first + 100):
                await stream.send(number)

    async with anyio.create_task_group() as group, receive:
        async with send:
            for first in range(0, 1000, 100):
                group.start_soon(produce, send.clone(), first)
        async for number in receive:
            got.append(number)
    assert sorted(got) == list(range(1000))
