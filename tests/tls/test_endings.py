"""Cancellation at every point, and nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import ssl
import weakref
from typing import Any

import pytest
from tests.tls.peers import Echo, Proxy, Recorder, client_of, connect, echo, finish, run, serving, streaming


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture(autouse=True)
def quiet(complaints: list[dict[str, Any]]) -> None:
    """The loop's handler hears of connections that are cut; here they are the point."""


def test_cancelling_a_connect_at_every_turn(
    runner: asyncio.Runner, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    async def main() -> None:
        async with streaming(echo, server_context) as port:
            succeeded = 0
            for turns in range(1, 60):
                task = asyncio.ensure_future(connect(port, client_context))
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                try:
                    _, writer = await task
                except asyncio.CancelledError:
                    continue
                succeeded += 1
                await finish(writer)
            reader, writer = await connect(port, client_context)
            writer.write(b"still there")
            assert await reader.readexactly(11) == b"still there"
            await finish(writer)
        await asyncio.sleep(0.05)

    run(runner, main())
    gc.collect()


def test_cancelling_a_stalled_handshake_closes_its_socket(
    runner: asyncio.Runner, client_context: ssl.SSLContext
) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            before = descriptors()
            for _ in range(5):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.02):
                        await connect(listener.getsockname()[1], client_context)
            await asyncio.sleep(0.02)
            assert descriptors() == before

    run(runner, main())


def test_cancelling_wait_closed(
    runner: asyncio.Runner, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    async def main() -> None:
        stalled = False

        def fault(data: bytes, passed: int) -> bytes:
            return b"" if stalled else data

        async with streaming(echo, server_context) as port, Proxy(port, fault, None) as port:
            _, writer = await connect(port, client_context, ssl_shutdown_timeout=0.3)
            stalled = True
            writer.close()
            waiting = asyncio.ensure_future(writer.wait_closed())
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await asyncio.shield(waiting)
            with pytest.raises(TimeoutError, match="SSL shutdown timed out"):
                await waiting

    run(runner, main())


def test_cancelling_an_upgrade(runner: asyncio.Runner, client_context: ssl.SSLContext) -> None:
    async def main() -> None:
        async with serving(Recorder, None) as port:
            loop = asyncio.get_running_loop()
            transport, client = await loop.create_connection(Recorder, "127.0.0.1", port)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await loop.start_tls(transport, client, client_context, server_hostname="localhost")
            assert transport.is_closing()

    run(runner, main())


@pytest.mark.parametrize("ending", ["close", "abort", "peer", "wrong name", "reset"])
def test_nothing_is_left(
    runner: asyncio.Runner, server_context: ssl.SSLContext, client_context: ssl.SSLContext, ending: str
) -> None:
    """No transport, protocol, SSLObject or descriptor outlives its connection, without the collector's help."""
    traces: list[weakref.ref[Any]] = []

    class Closing(Echo):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if ending == "peer":
                self.transport.close()

    async def visit(port: int) -> None:
        loop = asyncio.get_running_loop()
        name = "wrong.test" if ending == "wrong name" else "localhost"
        client = Recorder()
        traces.append(weakref.ref(client))
        try:
            transport, _ = await loop.create_connection(
                lambda: client, "127.0.0.1", port, ssl=client_context, server_hostname=name
            )
        except ssl.SSLCertVerificationError as error:
            error.__traceback__ = None
            return
        traces.append(weakref.ref(transport.get_extra_info("ssl_object")))
        traces.append(weakref.ref(transport))
        transport.write(b"data")
        await client.until(4)
        match ending:
            case "close":
                transport.close()
            case "abort" | "reset":
                transport.abort()
        await client.lost
        client.transport = None

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Closing, "127.0.0.1", 0, ssl=server_context)
        port = server.sockets[0].getsockname()[1]
        await visit(port)
        await asyncio.sleep(0.05)
        before = descriptors()
        for _ in range(20):
            await visit(port)
        await asyncio.sleep(0.1)
        assert descriptors() == before
        server.close()
        await server.wait_closed()

    gc.collect()
    gc.disable()
    try:
        run(runner, main())
        if type(runner.get_loop()).__module__.startswith("aioxide"):
            # asyncio leaves cycles to the collector.
            alive = [trace() for trace in traces if trace() is not None]
            assert not alive, alive[:3]
    finally:
        gc.enable()
    gc.collect()
    assert not [trace() for trace in traces if trace() is not None]


def test_a_closed_loop_frees_its_connections(
    loop_factory: Any, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    traces: list[weakref.ref[Any]] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Echo, "127.0.0.1", 0, ssl=server_context)
        port = server.sockets[0].getsockname()[1]
        transport, client = await client_of(port, client_context)
        transport.write(b"data")
        await client.until(4)
        traces.append(weakref.ref(transport))
        traces.append(weakref.ref(client))
        server.close()

    import warnings

    with warnings.catch_warnings():
        # Unclosed transports, which is the point.
        warnings.simplefilter("ignore", ResourceWarning)
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            run(runner, main())
        del runner
        gc.collect()
        assert not [trace() for trace in traces if trace() is not None]


def test_many_connections_that_come_and_go(
    runner: asyncio.Runner, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    async def main() -> None:
        async with streaming(echo, server_context) as port:

            async def visit(number: int) -> None:
                reader, writer = await connect(port, client_context)
                data = bytes([number % 256]) * (number * 97 % 50_000 + 1)
                writer.write(data)
                assert await reader.readexactly(len(data)) == data
                if number % 3 == 0:
                    writer.transport.abort()
                await finish(writer)

            gate = asyncio.Semaphore(20)

            async def gated(number: int) -> None:
                async with gate:
                    await visit(number)

            await asyncio.gather(*[gated(number) for number in range(150)])

    run(runner, main())


def test_the_session_object_outlives_the_transport(
    runner: asyncio.Runner, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    async def main() -> ssl.SSLObject:
        async with streaming(echo, server_context) as port:
            reader, writer = await connect(port, client_context)
            writer.write(b"x")
            await reader.readexactly(1)
            await finish(writer)
            found: ssl.SSLObject = writer.get_extra_info("ssl_object")
            assert found is not None
            return found

    ssl_object = run(runner, main())
    gc.collect()
    assert ssl_object.version() in ("TLSv1.3", None)
    assert ssl_object.pending() == 0
    with contextlib.suppress(ssl.SSLError, OSError):
        ssl_object.read(10)
    with contextlib.suppress(ssl.SSLError, OSError):
        ssl_object.write(b"nowhere")
    with contextlib.suppress(ssl.SSLError, OSError):
        ssl_object.unwrap()
