"""Cancelling at every await, and failing, stopping and closing from inside every callback."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from tests.loop.support import LoopFactory, Recorder, failures, listener, open_descriptors, tcp_pair

STEPS_MAX = 200


class Stepped:
    """Awaits a coroutine, and cancels the current task at its step `k`, when it waits for the k-th time."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], step: int) -> None:
        self.coroutine, self.step = coroutine, step
        self.reached = False

    def __await__(self) -> Any:
        count = 0
        value, error = None, None
        while True:
            try:
                waited = self.coroutine.throw(error) if error is not None else self.coroutine.send(value)
            except StopIteration as done:
                return done.value
            if count == self.step:
                self.reached = True
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
            count += 1
            value, error = None, None
            try:
                value = yield waited
            except BaseException as raised:
                error = raised


async def connect_and_talk(address: Any) -> None:
    reader, writer = await asyncio.open_connection(*address)
    try:
        for _ in range(3):
            writer.write(bytes(200_000))
            await writer.drain()
            assert len(await reader.readexactly(200_000)) == 200_000
        writer.write_eof()
        assert await reader.read() == b""
    finally:
        writer.close()
        await writer.wait_closed()


async def accept_raw(address: Any) -> None:
    loop = asyncio.get_running_loop()
    with listener() as listening:
        listening.setblocking(False)
        threading.Timer(0.005, dial, (listening.getsockname(),)).start()
        accepted, _ = await loop.sock_accept(listening)
        with accepted:
            accepted.setblocking(False)
            assert await loop.sock_recv(accepted, 5) == b"hello"


def dial(address: Any) -> None:
    try:
        with socket.create_connection(address) as sock:
            sock.sendall(b"hello")
    except OSError:
        pass  # the listener was closed by the cancelling


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


@pytest.mark.parametrize("work", [connect_and_talk, accept_raw])
def test_cancelling_at_every_await(runner: asyncio.Runner, work: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
    async def main() -> int:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        await work(address)
        await asyncio.sleep(0.01)
        before = open_descriptors()
        step = 0
        while step < STEPS_MAX:
            stepped = Stepped(work(address), step)

            async def body(stepped: Stepped = stepped) -> None:
                await stepped

            task = asyncio.create_task(body())
            await asyncio.wait([task], timeout=10)
            assert task.done(), f"cancelled at step {step}, it hangs"
            if not stepped.reached:
                await task
                break
            if not task.cancelled():
                assert task.exception() is None
            step += 1
        await asyncio.sleep(0.02)
        assert open_descriptors() <= before
        server.close()
        await server.wait_closed()
        return step

    runner.run(asyncio.sleep(0))
    with failures(runner.get_loop()) as seen:
        steps = runner.run(main())
    assert seen == []
    assert steps >= 1


CALLBACKS = ["connection_made", "data_received", "eof_received", "pause_writing", "resume_writing", "connection_lost"]


class Boom(Exception): ...


def acts(loop: asyncio.AbstractEventLoop) -> dict[str, Callable[[Any], None]]:
    def fail(_transport: Any) -> None:
        raise Boom

    def close_loop(_transport: Any) -> None:
        with pytest.raises(RuntimeError, match="Cannot close a running"):
            loop.close()

    return {
        "raise": fail,
        "stop": lambda _transport: loop.stop(),
        "close the loop": close_loop,
        "close": lambda transport: transport.close(),
        "abort": lambda transport: transport.abort(),
        "write": lambda transport: transport.write(b"more"),
        "pause": lambda transport: transport.pause_reading(),
        "set_protocol": lambda transport: transport.set_protocol(asyncio.Protocol()),
    }


@pytest.mark.parametrize("act", acts(None))  # type: ignore[arg-type]
@pytest.mark.parametrize("callback", CALLBACKS)
def test_acting_from_inside_a_protocol(loop_factory: LoopFactory, callback: str, act: str) -> None:
    loop = loop_factory()
    ended: list[str] = []
    acted: list[str] = []

    class Acting(Recorder):
        def note(self, name: str) -> None:
            super().note(name)
            if name == "connection_lost":
                ended.append(name)
            if name == callback and not acted:
                acted.append(name)
                acts(loop)[act](self.transport)

    async def make() -> tuple[Any, Any]:
        mine, peer = tcp_pair()
        transport, protocol = await loop.create_connection(Acting, sock=mine)
        transport.set_write_buffer_limits(high=1000)
        return transport, peer

    with failures(loop) as seen:
        transport, peer = run_on(loop, make())
        peer.setblocking(True)
        peer.sendall(b"data")
        run_on(loop, write(transport))
        received = threading.Thread(target=drain, args=(peer,))
        received.start()
        run_on(loop, asyncio.sleep(0.005))
        transport.close()
        run_on(loop, asyncio.sleep(0.005))
        if not ended:
            transport.abort()
        run_on(loop, asyncio.sleep(0.005))
        received.join(10)
        assert not received.is_alive()
    if act == "raise" and callback in acted:
        assert any(isinstance(context["exception"], Boom) for context in seen)
    else:
        assert not [context for context in seen if isinstance(context.get("exception"), Boom)]
    assert len(ended) == (0 if act == "set_protocol" and acted and callback != "connection_lost" else 1)
    peer.close()
    loop.close()


async def write(transport: Any) -> None:
    """From inside the run: a pause is told within the call."""
    if not transport.is_closing():
        transport.write(bytes(4_000_000))


def run_on(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine, however often the loop is stopped meanwhile."""
    task = loop.create_task(coroutine)
    while True:
        try:
            return loop.run_until_complete(task)
        except RuntimeError as error:
            assert "stopped before" in str(error)


def drain(peer: Any) -> None:
    """Read all, then end: the other side hears of both."""
    try:
        peer.settimeout(0.05)
        while peer.recv(1 << 16):
            pass
    except OSError:
        pass
    finally:
        peer.close()


@pytest.mark.parametrize("act", ["raise", "stop", "close the loop"])
@pytest.mark.parametrize("callback", ["soon", "timer", "threadsafe", "reader", "writer", "signal"])
def test_acting_from_inside_a_callback(loop_factory: LoopFactory, callback: str, act: str) -> None:
    loop = loop_factory()
    one, other = tcp_pair()
    calls: list[str] = []

    def body() -> None:
        calls.append(callback)
        loop.remove_reader(one)
        loop.remove_writer(one)
        acts(loop)[act](None)

    match callback:
        case "soon":
            loop.call_soon(body)
        case "timer":
            loop.call_later(0.001, body)
        case "threadsafe":
            threading.Timer(0.001, loop.call_soon_threadsafe, (body,)).start()
        case "reader":
            other.send(b"x")
            loop.add_reader(one, body)
        case "writer":
            loop.add_writer(one, body)
        case "signal":
            loop.add_signal_handler(signal.SIGUSR1, body)
            os.kill(os.getpid(), signal.SIGUSR1)
    with failures(loop) as seen:
        run_on(loop, asyncio.sleep(0.02))
    assert calls == [callback]
    assert [type(context["exception"]) for context in seen] == ([Boom] if act == "raise" else [])
    if callback == "signal":
        loop.remove_signal_handler(signal.SIGUSR1)
    one.close()
    other.close()
    loop.close()
    loop.close()
