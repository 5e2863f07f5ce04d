"""Debug mode: what it refuses and what it tells."""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import threading
import time
from typing import Any

import pytest
from tests.loop.support import LoopFactory, Recorder, connected, failures, name_of, run_program, tcp_pair


@pytest.fixture
def loop(loop_factory: LoopFactory) -> Any:
    loop = loop_factory()
    loop.set_debug(True)
    yield loop
    loop.close()


def test_debug_mode_can_be_turned_on_and_off(loop: asyncio.AbstractEventLoop) -> None:
    assert loop.get_debug()
    loop.set_debug(False)
    assert not loop.get_debug()
    loop.call_soon(loop.set_debug, True)
    loop.run_until_complete(asyncio.sleep(0))
    assert loop.get_debug()


def slow_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "took" in record.getMessage()]


@pytest.mark.parametrize("how", ["call_soon", "call_later", "threadsafe", "reader", "task"])
def test_slow_callbacks_are_logged(loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture, how: str) -> None:
    loop.slow_callback_duration = 0.01  # type: ignore[attr-defined]
    one, other = tcp_pair()
    one.send(b"x")

    async def slow_task() -> None:
        time.sleep(0.02)

    def slow_callback() -> None:
        time.sleep(0.02)
        loop.remove_reader(other)

    match how:
        case "call_soon":
            loop.call_soon(slow_callback)
        case "call_later":
            loop.call_later(0.001, slow_callback)
        case "threadsafe":
            loop.call_soon_threadsafe(slow_callback)
        case "reader":
            loop.add_reader(other, slow_callback)
        case "task":
            loop.run_until_complete(slow_task())
    with caplog.at_level(logging.WARNING, "asyncio"):
        if how != "task":
            loop.run_until_complete(asyncio.sleep(0.005))
    [line] = slow_lines(caplog)
    assert line.startswith("Executing <")
    assert ("slow_task" if how == "task" else "slow_callback") in line
    assert float(line.rpartition("took ")[2].split()[0]) >= 0.02
    one.close()
    other.close()


@pytest.mark.parametrize("where", ["connection_made", "data_received", "eof_received", "connection_lost"])
def test_slow_protocols_are_logged(
    loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    class Slow(Recorder):
        def note(self, name: str) -> None:
            if name == where:
                time.sleep(0.05)
            super().note(name)

    async def main() -> None:
        transport, _, accepted, peer = await connected(server=Slow)
        transport.write(b"data")
        await peer.until(lambda: peer.data)
        transport.close()
        await peer.lost
        await asyncio.sleep(0)
        assert accepted.is_closing()

    loop.slow_callback_duration = 0.04  # type: ignore[attr-defined]
    with caplog.at_level(logging.WARNING, "asyncio"):
        loop.run_until_complete(main())
    assert len(slow_lines(caplog)) == 1


def test_fast_callbacks_are_not_logged(loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture) -> None:
    loop.slow_callback_duration = 10  # type: ignore[attr-defined]
    loop.call_soon(time.sleep, 0.001)
    loop.run_until_complete(asyncio.sleep(0.002))
    assert slow_lines(caplog) == []


def test_a_failing_slow_callback_is_reported(loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture) -> None:
    def slow_failure() -> None:
        time.sleep(0.02)
        raise ValueError

    loop.slow_callback_duration = 0.01  # type: ignore[attr-defined]
    loop.call_soon(slow_failure)
    with failures(loop) as seen:
        loop.run_until_complete(asyncio.sleep(0.001))
    assert len(seen) == 1
    assert len(slow_lines(caplog)) == 1


@pytest.mark.parametrize("method", ["call_soon", "call_later", "call_at", "create_task"])
def test_calls_from_the_wrong_thread_are_refused(loop: asyncio.AbstractEventLoop, method: str) -> None:
    seen: list[BaseException] = []

    async def nothing() -> None: ...

    def call() -> None:
        coroutine = nothing()
        try:
            if method == "create_task":
                loop.create_task(coroutine)
            else:
                getattr(loop, method)(*[] if method == "call_soon" else [0], int)
        except RuntimeError as error:
            seen.append(error)
        coroutine.close()

    async def main() -> None:
        thread = threading.Thread(target=call)
        thread.start()
        thread.join()

    loop.run_until_complete(main())
    assert "Non-thread-safe operation" in str(seen[0])


def test_coroutines_are_no_callbacks(loop: asyncio.AbstractEventLoop) -> None:
    async def function() -> None: ...

    coroutine = function()
    for schedule in (loop.call_soon, loop.call_soon_threadsafe, functools.partial(loop.call_later, 0)):
        with pytest.raises(TypeError, match="coroutines cannot be used"):
            schedule(function)
        with pytest.raises(TypeError, match="coroutines cannot be used"):
            schedule(coroutine)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="a callable object was expected"):
            schedule(1)  # type: ignore[arg-type]
    coroutine.close()


def test_handles_know_where_they_were_made(loop: asyncio.AbstractEventLoop) -> None:
    handles = [loop.call_soon(int), loop.call_later(1, int), loop.call_at(0, int), loop.call_soon_threadsafe(int)]
    for handle in handles:
        assert f"created at {__file__}:" in repr(handle)
        handle.cancel()
        assert "cancelled" in repr(handle)
        assert "int" in repr(handle), "what it was is kept in debug mode"


def test_a_failure_comes_with_the_place_of_scheduling(loop: asyncio.AbstractEventLoop) -> None:
    loop.call_soon(lambda: 1 / 0)
    with failures(loop) as seen:
        loop.run_until_complete(asyncio.sleep(0))
    assert seen[0]["source_traceback"][-1].filename == __file__


def test_exceptions_that_nobody_retrieved_are_told(loop: asyncio.AbstractEventLoop) -> None:
    async def fail() -> None:
        raise ValueError("nobody looks")

    async def main() -> None:
        asyncio.get_running_loop().create_task(fail())
        future = asyncio.get_running_loop().create_future()
        future.set_exception(LookupError("nobody looks"))
        del future
        await asyncio.sleep(0.001)

    with failures(loop) as seen:
        loop.run_until_complete(main())
        gc.collect()
    assert {type(context["exception"]) for context in seen} == {ValueError, LookupError}
    assert all("exception was never retrieved" in context["message"] for context in seen)
    assert all(context["source_traceback"] for context in seen)


UNCLOSED = """
import gc, tracemalloc, warnings
warnings.simplefilter("always")
tracemalloc.start(25)

async def open_and_forget():
    one, other = socket.socketpair()
    one.setblocking(False)
    transport, _ = await asyncio.get_running_loop().connect_accepted_socket(asyncio.Protocol, one)  # here it is made
    other.close()

warnings._showwarnmsg_impl = lambda message: print(warnings._formatwarnmsg(message))
loop = new_event_loop()
loop.set_debug(True)
loop.run_until_complete(open_and_forget())
loop.close()
gc.collect()
"""


def test_unclosed_transports_tell_where_they_were_made(loop_factory: LoopFactory) -> None:
    if name_of(loop_factory) == "asyncio":
        pytest.skip("tracemalloc does not find objects with a managed dict, as asyncio's transports are")
    # -X dev would put its own allocators between, which hide the address from tracemalloc.
    printed = run_program(loop_factory, UNCLOSED, options=())
    report = printed[printed.index("ResourceWarning: unclosed transport <") :]
    assert "Object allocated at" in report
    assert 'File "<string>", line' in report


def test_never_awaited_coroutines_tell_where_they_were_made(loop_factory: LoopFactory) -> None:
    program = """
import warnings
warnings.simplefilter("always")
warnings._showwarnmsg_impl = lambda message: print(warnings._formatwarnmsg(message))
async def forgotten(): ...
async def main():
    forgotten()
loop = new_event_loop()
loop.set_debug(True)
loop.run_until_complete(main())
loop.close()
"""
    printed = run_program(loop_factory, program)
    assert "coroutine 'forgotten' was never awaited" in printed
    assert "Coroutine created at" in printed


def test_network_errors_are_logged(loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        transport, protocol, accepted, peer = await connected()
        accepted.pause_reading()
        transport.write(b"unread")
        await asyncio.sleep(0.001)
        accepted.abort()  # with unread data: a reset
        await protocol.lost
        assert isinstance(protocol.error, ConnectionResetError)

    with caplog.at_level(logging.DEBUG, "asyncio"):
        loop.run_until_complete(main())
    assert any("Fatal read error" in record.getMessage() for record in caplog.records)
