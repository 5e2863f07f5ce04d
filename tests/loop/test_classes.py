"""That our objects are of asyncio's classes, and show themselves as asyncio's do."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from asyncio import transports
from typing import Any

import pytest

import aioxide


def test_transports_are_asyncios(runner: asyncio.Runner) -> None:
    async def main() -> None:
        one, other = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=one)
        transport = writer.transport
        for kind in (asyncio.BaseTransport, asyncio.ReadTransport, asyncio.WriteTransport, asyncio.Transport):
            assert isinstance(transport, kind)
        assert isinstance(transport, transports._FlowControlMixin)
        assert not isinstance(transport, asyncio.DatagramTransport)
        assert issubclass(transport.__class__, asyncio.Transport)
        assert f"fd={one.fileno()}" in repr(transport)
        assert "polling" in repr(transport)
        writer.close()
        await writer.wait_closed()
        other.close()

    runner.run(main())


def test_pipes_and_datagrams_say_what_they_watch(runner: asyncio.Runner) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        readable, writable = os.pipe()
        incoming, _ = await loop.connect_read_pipe(asyncio.Protocol, os.fdopen(readable, "rb", 0))
        outgoing, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(writable, "wb", 0))
        datagrams, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))
        await asyncio.sleep(0)
        assert "polling" in repr(incoming)
        assert "fd=" in repr(outgoing)
        assert "read=polling" in repr(datagrams)
        incoming.pause_reading()
        assert "idle" in repr(incoming)
        for transport in (incoming, outgoing, datagrams):
            transport.close()
        await asyncio.sleep(0.01)

    runner.run(main())


def test_the_selector_view_tells_readers_from_writers() -> None:
    async def main() -> None:
        view: Any = asyncio.get_running_loop()._selector  # type: ignore[attr-defined]
        loop = asyncio.get_running_loop()
        one, other = socket.socketpair()
        with one, other:
            with pytest.raises(KeyError):
                view.get_key(one)
            loop.add_reader(one, print)
            loop.add_writer(one, print)
            key = view.get_key(one)
            assert (key.fd, key.events) == (one.fileno(), 3)
            assert [isinstance(handle, asyncio.Handle) for handle in key.data] == [True, True]
            loop.remove_writer(one)
            assert view.get_key(one.fileno()).events == 1
            loop.remove_reader(one)
            with pytest.raises(KeyError):
                view.get_key(one)

    aioxide.run(main())


@pytest.mark.parametrize("method", ["cancel", "cancelled"])
def test_a_thread_waits_for_the_callback_that_it_cancels(runner: asyncio.Runner, method: str) -> None:
    if not hasattr(asyncio.events, "_ThreadSafeHandle"):
        pytest.skip("promised since Python 3.14")
    started, ended = threading.Event(), threading.Event()
    seen: list[bool] = []

    def slow() -> None:
        started.set()
        time.sleep(0.1)
        ended.set()

    def other_thread(loop: asyncio.AbstractEventLoop, done: asyncio.Future[None]) -> None:
        handle = loop.call_soon_threadsafe(slow)
        started.wait()
        getattr(handle, method)()
        seen.append(ended.is_set())
        loop.call_soon_threadsafe(done.set_result, None)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        thread = threading.Thread(target=other_thread, args=(loop, done))
        thread.start()
        await done
        thread.join()

    runner.run(main())
    assert seen == [True]


def test_a_subclass_may_run_the_loop_by_its_hooks() -> None:
    called: list[str] = []

    class Hooked(aioxide.EventLoop):
        def _run_forever_setup(self) -> None:
            called.append("setup")
            super()._run_forever_setup()

        def _run_forever_cleanup(self) -> None:
            super()._run_forever_cleanup()
            called.append("cleanup")

    with asyncio.Runner(loop_factory=Hooked) as runner:
        assert runner.run(asyncio.sleep(0, "done")) == "done"
    assert called[:2] == ["setup", "cleanup"]
    assert called == ["setup", "cleanup"] * (len(called) // 2)
