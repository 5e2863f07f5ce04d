"""Beginning, ending and failing of runs; closing; and what a closed loop refuses."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from tests.loop.support import LoopFactory, failures, name_of, tcp_pair


def test_stop_before_the_run_gives_one_turn(loop: asyncio.AbstractEventLoop) -> None:
    ran: list[str] = []
    loop.call_soon(ran.append, "first")
    loop.call_soon(loop.call_soon, ran.append, "second")
    loop.stop()
    loop.run_forever()
    assert ran == ["first"]
    loop.stop()
    loop.run_forever()
    assert ran == ["first", "second"]


def test_stop_lets_those_that_are_ready_run(loop: asyncio.AbstractEventLoop) -> None:
    ran: list[str] = []
    loop.call_soon(loop.stop)
    loop.call_soon(ran.append, "ready")
    loop.run_forever()
    assert ran == ["ready"]


def test_a_loop_runs_again_and_again(loop: asyncio.AbstractEventLoop) -> None:
    for n in range(100):
        assert loop.run_until_complete(asyncio.sleep(0, n)) == n


def test_run_until_complete_of_a_stopped_loop(loop: asyncio.AbstractEventLoop) -> None:
    future = loop.create_future()
    loop.call_soon(loop.stop)
    with pytest.raises(RuntimeError, match="stopped before Future completed"):
        loop.run_until_complete(future)


@pytest.mark.parametrize("thing", [None, 1, int, [], asyncio.sleep])
def test_run_until_complete_wants_an_awaitable(loop: asyncio.AbstractEventLoop, thing: Any) -> None:
    with pytest.raises(TypeError):
        loop.run_until_complete(thing)


def test_run_until_complete_of_another_loops_future(loop: asyncio.AbstractEventLoop, loop_factory: LoopFactory) -> None:
    other = loop_factory()
    future = other.create_future()
    with pytest.raises(ValueError, match="different loop|belongs to"):
        loop.run_until_complete(future)
    other.close()


def test_one_loop_at_a_time(loop: asyncio.AbstractEventLoop, loop_factory: LoopFactory) -> None:
    if name_of(loop_factory) == "asyncio" and sys.version_info[:3] == (3, 13, 0):
        pytest.skip("asyncio forgets which loop is running when it refuses another")
    other = loop_factory()

    async def main() -> None:
        assert asyncio.get_running_loop() is loop
        assert loop.is_running()
        with pytest.raises(RuntimeError, match="already running"):
            loop.run_forever()
        with pytest.raises(RuntimeError, match="another loop is running"):
            other.run_forever()
        with pytest.raises(RuntimeError, match="Cannot close a running"):
            loop.close()

    loop.run_until_complete(main())
    assert not loop.is_running()
    other.close()


def test_another_thread_cannot_run_a_running_loop(loop: asyncio.AbstractEventLoop) -> None:
    seen: list[BaseException] = []

    def run() -> None:
        try:
            loop.run_forever()
        except RuntimeError as error:
            seen.append(error)
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=run)
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()
    assert "already running" in str(seen[0])


def test_a_loop_may_run_in_one_thread_after_the_other(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_until_complete(asyncio.sleep(0.001))
    results: list[int] = []
    thread = threading.Thread(target=lambda: results.append(loop.run_until_complete(asyncio.sleep(0.001, 1))))
    thread.start()
    thread.join()
    results.append(loop.run_until_complete(asyncio.sleep(0.001, 2)))
    assert results == [1, 2]


def test_an_exception_in_a_callback_is_reported_and_the_loop_goes_on(loop: asyncio.AbstractEventLoop) -> None:
    def fail() -> None:
        raise ValueError("failed")

    handle = loop.call_soon(fail)
    loop.call_later(0, fail)
    loop.call_later(0.001, loop.stop)
    with failures(loop) as seen:
        loop.run_forever()
    assert [type(context["exception"]) for context in seen] == [ValueError, ValueError]
    assert seen[0]["handle"] is handle
    assert "Exception in callback" in seen[0]["message"]
    assert "fail" in seen[0]["message"]
    assert seen[0]["exception"].__traceback__ is not None


def test_an_exception_handler_that_fails(loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture) -> None:
    def handler(_loop: Any, _context: Any) -> None:
        raise LookupError("the handler failed")

    loop.set_exception_handler(handler)
    loop.call_soon(lambda: 1 / 0)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert "Unhandled error in exception handler" in caplog.text
    with pytest.raises(TypeError):
        loop.set_exception_handler(1)  # type: ignore[arg-type]


def raising(error: type[BaseException]) -> Callable[..., None]:
    def callback(*_args: Any) -> None:
        raise error

    return callback


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("where", ["soon", "later", "threadsafe", "reader", "task", "data_received", "signal"])
def test_what_ends_a_run_ends_it_and_nothing_else(
    loop: asyncio.AbstractEventLoop, error: type[BaseException], where: str
) -> None:
    one, other = tcp_pair()
    transport: Any = None
    fail = raising(error)

    class Failing(asyncio.Protocol):
        data_received = staticmethod(fail)

    async def task() -> None:
        fail()

    started: Any = None
    match where:
        case "soon":
            loop.call_soon(fail)
        case "later":
            loop.call_later(0.001, fail)
        case "threadsafe":
            loop.call_soon(lambda: threading.Timer(0.001, loop.call_soon_threadsafe, (fail,)).start())
        case "reader":
            loop.add_reader(one, fail)
        case "task":
            started = loop.create_task(task())
        case "signal":
            loop.add_signal_handler(signal.SIGUSR1, fail)
            loop.call_later(0.001, signal.raise_signal, signal.SIGUSR1)
        case "data_received":
            transport, _ = loop.run_until_complete(loop.create_connection(Failing, sock=one))
    other.send(b"data")
    with pytest.raises(error):
        loop.run_forever()
    assert not loop.is_running()
    # Everything else goes on as if nothing had been.
    if where == "reader":
        loop.remove_reader(one)
    assert loop.run_until_complete(asyncio.sleep(0.001, "fine")) == "fine"
    if started is not None:
        assert isinstance(started.exception(), error)
    if transport is not None:
        transport.abort()
        loop.run_until_complete(asyncio.sleep(0))
    one.close()
    other.close()


def test_a_run_that_failed_leaves_no_wish_to_stop(loop: asyncio.AbstractEventLoop) -> None:
    loop.call_soon(loop.stop)
    loop.call_soon(raising(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    assert loop.run_until_complete(asyncio.sleep(0.001, "whole")) == "whole"


def test_what_was_ready_stays_ready_after_a_run_that_failed(loop: asyncio.AbstractEventLoop) -> None:
    ran: list[str] = []
    loop.call_soon(raising(SystemExit))
    loop.call_soon(ran.append, "later")
    with pytest.raises(SystemExit):
        loop.run_forever()
    assert ran == []
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert ran == ["later"]


def test_other_base_exceptions_are_reported(loop: asyncio.AbstractEventLoop) -> None:
    class Odd(BaseException): ...

    loop.call_soon(raising(Odd))
    loop.call_soon(raising(asyncio.CancelledError))
    loop.call_soon(raising(GeneratorExit))
    loop.call_soon(loop.stop)
    with failures(loop) as seen:
        loop.run_forever()
    assert [type(context["exception"]) for context in seen] == [Odd, asyncio.CancelledError, GeneratorExit]


def test_a_closed_loop_refuses_everything(loop: asyncio.AbstractEventLoop) -> None:
    one, other = tcp_pair()
    loop.close()
    loop.close()
    assert loop.is_closed()
    refused: list[Callable[[], Any]] = [
        loop.run_forever,
        lambda: loop.call_soon(int),
        lambda: loop.call_soon_threadsafe(int),
        lambda: loop.call_later(1, int),
        lambda: loop.call_at(1, int),
        lambda: loop.add_reader(one, int),
        lambda: loop.add_writer(one, int),
        lambda: loop.add_signal_handler(signal.SIGUSR1, int),
        lambda: loop.run_in_executor(None, int),
    ]
    for call in refused:
        with pytest.raises(RuntimeError, match="closed"):
            call()
    for make in (lambda: asyncio.sleep(0), lambda: loop.create_server(asyncio.Protocol, "127.0.0.1", 0)):
        coroutine = make()
        with pytest.raises(RuntimeError, match="closed"):
            loop.run_until_complete(coroutine)
        coroutine.close()
    assert not loop.remove_reader(one)
    assert not loop.remove_writer(one)
    loop.stop()
    assert "closed=True" in repr(loop)
    assert loop.time() > 0
    one.close()
    other.close()


def test_repr_tells_the_state(loop: asyncio.AbstractEventLoop, loop_factory: LoopFactory) -> None:
    async def main() -> str:
        return repr(loop)

    assert "running=True" in loop.run_until_complete(main())
    assert "running=False closed=False debug=" in repr(loop)
    if name_of(loop_factory) == "aioxide":
        assert "EventLoop" in repr(loop)


def test_closing_forgets_what_was_scheduled(loop_factory: LoopFactory) -> None:
    ran: list[str] = []
    loop = loop_factory()
    loop.call_soon(ran.append, "soon")
    loop.call_soon_threadsafe(ran.append, "safe")
    loop.call_later(0, ran.append, "later")
    loop.close()
    assert ran == []


def test_handles_outlive_their_loop(loop_factory: LoopFactory) -> None:
    loop = loop_factory()
    handles = [loop.call_soon(int), loop.call_later(10, int), loop.call_soon_threadsafe(int)]
    loop.close()
    for handle in handles:
        assert "Handle" in repr(handle)
        handle.cancel()
        assert handle.cancelled()


def test_an_unclosed_loop_warns(loop_factory: LoopFactory) -> None:
    with pytest.warns(ResourceWarning, match="unclosed event loop"):
        loop_factory().__del__()  # type: ignore[attr-defined]


def test_threads_may_call_a_loop_that_is_being_closed(loop_factory: LoopFactory) -> None:
    for _ in range(3):
        loop = loop_factory()
        stop = threading.Event()
        errors: list[BaseException] = []

        def storm(loop: asyncio.AbstractEventLoop = loop, stop: Any = stop, errors: Any = errors) -> None:
            while not stop.is_set():
                try:
                    loop.call_soon_threadsafe(int)
                except RuntimeError as error:
                    errors.append(error)
                    return

        threads = [threading.Thread(target=storm) for _ in range(2)]
        for thread in threads:
            thread.start()
        loop.run_until_complete(asyncio.sleep(0.002))
        loop.close()
        for thread in threads:
            thread.join(10)
        stop.set()
        assert all("closed" in str(error) for error in errors)
        assert len(errors) == 2
