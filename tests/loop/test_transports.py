"""Stream transports: their life, their flow control, and what may be done to them from the inside."""

from __future__ import annotations

import asyncio
import gc
import socket
import struct
import sys
from typing import Any

import pytest
from tests.loop.support import LoopFactory, Recorder, connected, failures, name_of, tcp_pair, turns

SMALL = 32 * 1024


class Buffered(asyncio.BufferedProtocol):
    """Receives into a small buffer of its own."""

    def __init__(self, size: int = 7) -> None:
        self.buffer = bytearray(size)
        self.data = bytearray()
        self.hints: list[int] = []
        self.eof = asyncio.Event()
        self.lost = asyncio.get_running_loop().create_future()

    def get_buffer(self, sizehint: int) -> Any:
        self.hints.append(sizehint)
        return memoryview(self.buffer)

    def buffer_updated(self, nbytes: int) -> None:
        self.data += self.buffer[:nbytes]

    def eof_received(self) -> bool:
        self.eof.set()
        return False

    def connection_lost(self, exc: BaseException | None) -> None:
        self.lost.set_result(exc)


class HalfOpen(Recorder):
    """Keeps its side open when the peer's ends."""

    def eof_received(self) -> bool:
        super().eof_received()
        return True


def shrink(transport: asyncio.Transport) -> None:
    """Make the kernel take little, so that writes wait."""
    sock = transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)


def test_the_life_of_a_connection(runner: asyncio.Runner) -> None:
    async def main() -> None:
        transport, protocol, accepted, peer = await connected()
        assert protocol.calls == peer.calls == ["connection_made"]
        assert protocol.transport is transport
        transport.write(b"to the peer")
        await peer.until(lambda: peer.data == b"to the peer")
        accepted.write(b"and back")
        await protocol.until(lambda: protocol.data == b"and back")
        assert not transport.is_closing()
        transport.close()
        transport.close()
        assert transport.is_closing()
        await protocol.lost
        await peer.lost
        assert protocol.calls == ["connection_made", "data_received", "connection_lost"]
        assert peer.calls == ["connection_made", "data_received", "eof_received", "connection_lost"]
        assert protocol.error is None
        assert peer.error is None

    runner.run(main())


def test_facts_about_a_connection(runner: asyncio.Runner) -> None:
    async def main() -> None:
        transport, protocol, accepted, peer = await connected()
        sock = transport.get_extra_info("socket")
        assert type(sock) is asyncio.trsock.TransportSocket
        assert sock.fileno() >= 0
        assert sock.family == socket.AF_INET
        assert transport.get_extra_info("sockname") == sock.getsockname() == accepted.get_extra_info("peername")
        assert transport.get_extra_info("peername") == accepted.get_extra_info("sockname")
        assert transport.get_extra_info("sslcontext") is None
        assert transport.get_extra_info("unknown", "default") == "default"
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert transport.get_protocol() is protocol
        assert isinstance(transport, asyncio.Transport)
        assert isinstance(transport, asyncio.WriteTransport)
        assert isinstance(transport, asyncio.ReadTransport)
        assert not isinstance(transport, asyncio.DatagramTransport)
        assert transport.can_write_eof()
        assert f"fd={sock.fileno()}" in repr(transport)
        accepted.close()
        await protocol.lost
        await peer.lost
        assert "closed" in repr(transport)
        assert transport.get_extra_info("peername") == accepted.get_extra_info("sockname"), "known after the end too"

    runner.run(main())


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda data: memoryview(bytearray(data))])
def test_every_kind_of_data_is_taken(runner: asyncio.Runner, kind: Any) -> None:
    async def main() -> None:
        transport, protocol, _accepted, peer = await connected()
        shrink(transport)
        small, large = b"small", bytes(range(256)) * 1024
        transport.write(kind(b""))
        transport.write(kind(small))
        transport.write(kind(large))
        transport.writelines([kind(small), kind(b""), kind(large), kind(small)])
        transport.writelines(iter([kind(small)]))
        transport.writelines([])
        expected = small + large + small + large + small + small
        await peer.until(lambda: len(peer.data) == len(expected))
        assert peer.data == expected
        transport.close()
        await protocol.lost
        await peer.lost

    runner.run(main())


def test_a_bytearray_may_be_changed_once_it_was_written(runner: asyncio.Runner, loop_factory: LoopFactory) -> None:
    if name_of(loop_factory) == "asyncio" and sys.version_info >= (3, 12):
        pytest.skip("asyncio keeps a view of it")

    async def main() -> None:
        transport, protocol, accepted, peer = await connected()
        shrink(transport)
        accepted.pause_reading()
        data = bytearray(b"a" * 1_000_000)
        transport.write(data)
        assert transport.get_write_buffer_size() > 0
        data[:] = b"b" * len(data)
        data.clear()
        accepted.resume_reading()
        await peer.until(lambda: len(peer.data) == 1_000_000)
        assert set(peer.data) == {ord("a")}
        transport.close()
        await protocol.lost
        await peer.lost

    runner.run(main())


@pytest.mark.parametrize("thing", [None, "text", 1, [b"list"], object()])
def test_what_is_no_data(runner: asyncio.Runner, loop_factory: LoopFactory, thing: Any) -> None:
    if thing is None and name_of(loop_factory) == "asyncio" and sys.version_info >= (3, 15):
        pytest.skip("asyncio's writelines() passes over what is false")

    async def main() -> None:
        transport, protocol, _accepted, peer = await connected()
        with pytest.raises(TypeError):
            transport.write(thing)
        with pytest.raises(TypeError):
            transport.writelines([thing])
        with pytest.raises(TypeError):
            transport.writelines(1)  # type: ignore[arg-type]
        assert not transport.is_closing()
        transport.write(b"still fine")
        await peer.until(lambda: peer.data)
        transport.close()
        await protocol.lost
        await peer.lost

    runner.run(main())


def test_flow_control_of_writing(runner: asyncio.Runner) -> None:
    async def main() -> None:
        transport, protocol, accepted, peer = await connected()
        shrink(transport)
        accepted.pause_reading()
        assert transport.get_write_buffer_limits() == (16384, 65536)
        transport.set_write_buffer_limits(high=1000, low=100)
        assert transport.get_write_buffer_limits() == (100, 1000)
        total = 0
        while "pause_writing" not in protocol.calls:
            transport.write(bytes(500))
            total += 500
            assert total < 50_000_000
        assert 1000 < transport.get_write_buffer_size() <= 1500
        transport.write(bytes(1_000_000))
        assert protocol.calls.count("pause_writing") == 1
        await asyncio.sleep(0.001)
        assert "resume_writing" not in protocol.calls
        accepted.resume_reading()
        await peer.until(lambda: len(peer.data) == total + 1_000_000)
        assert protocol.calls.count("resume_writing") == 1
        assert transport.get_write_buffer_size() == 0
        transport.close()
        await protocol.lost
        await peer.lost

    runner.run(main())


def test_limits(runner: asyncio.Runner) -> None:
    async def main() -> None:
        transport, protocol, _accepted, peer = await connected()
        for given, limits in [
            ({}, (16384, 65536)),
            ({"high": 100}, (25, 100)),
            ({"low": 100}, (100, 400)),
            ({"high": 0}, (0, 0)),
            ({"high": 10, "low": 10}, (10, 10)),
        ]:
            transport.set_write_buffer_limits(**given)
            assert transport.get_write_buffer_limits() == limits
        for wrong in ({"high": 1, "low": 2}, {"high": -1}, {"low": -1}):
            with pytest.raises(ValueError, match="must be >="):
                transport.set_write_buffer_limits(**wrong)
        transport.close()
        await protocol.lost
        await peer.lost

    runner.run(main())


def test_closing_sends_what_waits_and_aborting_does_not(runner: asyncio.Runner) -> None:
    async def main(end: str) -> int:
        transport, protocol, accepted, peer = await connected()
        shrink(transport)
        accepted.pause_reading()
        transport.write(bytes(2_000_000))
        getattr(transport, end)()
        assert transport.is_closing()
        if end == "close":
            assert transport.get_write_buffer_size() > 0
            await turns()
            assert "connection_lost" not in protocol.calls
        accepted.resume_reading()
        await protocol.lost
        await peer.lost
        assert protocol.error is None
        assert transport.get_write_buffer_size() == 0
        return len(peer.data)

    assert runner.run(main("close")) == 2_000_000
    assert runner.run(main("abort")) < 2_000_000


def test_writing_after_the_end_is_harmless(runner: asyncio.Runner, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        transport, protocol, _accepted, peer = await connected()
        transport.abort()
        for _ in range(10):
            transport.write(b"to nobody")
        transport.writelines([b"to nobody"])
        await protocol.lost
        await peer.lost
        transport.write(b"to nobody")
        transport.close()
        transport.abort()
        transport.pause_reading()
        transport.resume_reading()
        assert not transport.is_reading()
        assert peer.data == b""

    runner.run(main())
    assert "socket.send() raised exception" in caplog.text


def test_half_close(runner: asyncio.Runner) -> None:
    async def main() -> None:
        transport, protocol, accepted, peer = await connected(HalfOpen, HalfOpen)
        shrink(transport)
        transport.write(bytes(500_000))
        transport.write_eof()
        transport.write_eof()
        with pytest.raises(RuntimeError, match="write_eof"):
            transport.write(b"more")
        with pytest.raises(RuntimeError, match="write_eof"):
            transport.writelines([b"more"])
        await peer.until(lambda: "eof_received" in peer.calls)
        assert len(peer.data) == 500_000
        await turns()
        assert not accepted.is_closing()
        accepted.write(b"an answer to all of it")
        await protocol.until(lambda: protocol.data == b"an answer to all of it")
        assert peer.calls.count("eof_received") == 1
        accepted.close()
        await peer.lost
        await protocol.until(lambda: "eof_received" in protocol.calls)
        transport.close()
        await protocol.lost

    runner.run(main())


def test_pausing_and_resuming_of_reading(runner: asyncio.Runner) -> None:
    async def main() -> None:
        transport, protocol, accepted, peer = await connected()
        assert accepted.is_reading()
        accepted.pause_reading()
        accepted.pause_reading()
        assert not accepted.is_reading()
        transport.write(b"unheard")
        await asyncio.sleep(0.002)
        assert peer.data == b""
        accepted.resume_reading()
        accepted.resume_reading()
        assert accepted.is_reading()
        await peer.until(lambda: peer.data == b"unheard")
        transport.close()
        await protocol.lost
        await peer.lost

    runner.run(main())


def test_pausing_inside_data_received_holds_the_rest_back(runner: asyncio.Runner) -> None:
    class OneAtATime(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            assert self.transport is not None
            self.transport.pause_reading()
            asyncio.get_running_loop().call_later(0.0005, self.transport.resume_reading)

    async def main() -> None:
        transport, protocol, _accepted, peer = await connected(server=OneAtATime)
        transport.write(bytes(2_000_000))
        transport.close()
        await peer.lost
        await protocol.lost
        assert len(peer.data) == 2_000_000
        assert peer.calls.count("data_received") > 1

    runner.run(main())


def test_a_protocol_may_be_replaced(runner: asyncio.Runner) -> None:
    async def main() -> None:
        transport, protocol, accepted, peer = await connected()
        other, buffered = Recorder(), Buffered()
        transport.write(b"first")
        await peer.until(lambda: peer.data == b"first")
        accepted.set_protocol(other)
        assert accepted.get_protocol() is other
        transport.write(b"second")
        await other.until(lambda: other.data == b"second")
        accepted.set_protocol(buffered)
        transport.write(b"third, longer than the buffer")
        transport.close()
        assert await buffered.lost is None
        assert buffered.data == b"third, longer than the buffer"
        assert buffered.eof.is_set()
        assert set(buffered.hints) == {-1}
        assert peer.data == b"first"
        assert peer.calls == ["connection_made", "data_received"]
        await protocol.lost

    runner.run(main())


def test_a_protocol_may_be_replaced_from_its_own_callback(runner: asyncio.Runner) -> None:
    async def main() -> None:
        second = Recorder()

        class First(Recorder):
            def data_received(self, data: bytes) -> None:
                super().data_received(data)
                assert self.transport is not None
                self.transport.set_protocol(second)

        transport, protocol, _accepted, peer = await connected(server=First)
        transport.write(b"first")
        await peer.until(lambda: peer.data)
        transport.write(b"second")
        transport.close()
        await second.lost
        await protocol.lost
        assert (peer.data, second.data) == (b"first", b"second")

    runner.run(main())


@pytest.mark.parametrize("fault", ["empty", "raises", "no buffer", "read-only", "updated"])
def test_a_buffered_protocol_that_misbehaves(runner: asyncio.Runner, fault: str) -> None:
    class Faulty(Buffered):
        def get_buffer(self, sizehint: int) -> Any:
            match fault:
                case "empty":
                    return bytearray()
                case "raises":
                    raise LookupError(fault)
                case "no buffer":
                    return [0]
                case "read-only":
                    return bytes(10)
            return super().get_buffer(sizehint)

        def buffer_updated(self, nbytes: int) -> None:
            raise LookupError(fault)

    async def main() -> None:
        with failures(asyncio.get_running_loop()) as seen:
            transport, protocol, _accepted, peer = await connected(server=Faulty)
            transport.write(b"data")
            error = await peer.lost
            await protocol.lost
        assert error is not None
        assert seen[0]["exception"] is error

    runner.run(main())


def test_methods_may_be_replaced_on_an_instance(runner: asyncio.Runner) -> None:
    async def main() -> None:
        transport, protocol, _accepted, peer = await connected()
        written: list[bytes] = []
        original = transport.write
        transport.write = lambda data: (written.append(data), original(data))[1]  # type: ignore[method-assign]
        transport.write(b"through both")
        await peer.until(lambda: peer.data == b"through both")
        assert written == [b"through both"]
        transport.marker = "mine"  # type: ignore[attr-defined]
        assert transport.marker == "mine"  # type: ignore[attr-defined]
        transport.close()
        await protocol.lost
        await peer.lost

    runner.run(main())


def test_a_protocols_methods_may_be_replaced_later(runner: asyncio.Runner) -> None:
    async def main() -> None:
        transport, protocol, _accepted, peer = await connected()
        seen: list[bytes] = []
        peer.data_received = seen.append
        transport.write(b"for the new method")
        transport.close()
        await peer.lost
        await protocol.lost
        assert b"".join(seen) == b"for the new method"

    runner.run(main())


@pytest.mark.parametrize("paused", [False, True])
def test_a_peer_that_resets(runner: asyncio.Runner, paused: bool) -> None:
    async def main() -> None:
        mine, theirs = tcp_pair()
        transport, protocol = await asyncio.get_running_loop().create_connection(Recorder, sock=mine)
        if paused:
            transport.pause_reading()
            shrink(transport)
            transport.write(bytes(10_000_000))  # the failure is found by writing
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        theirs.close()
        await asyncio.wait_for(protocol.lost, 5)
        assert isinstance(protocol.error, ConnectionError)
        assert "eof_received" not in protocol.calls

    runner.run(main())


def test_writing_to_a_peer_that_is_gone(runner: asyncio.Runner) -> None:
    async def main() -> None:
        transport, protocol, accepted, peer = await connected(HalfOpen)
        accepted.close()
        await peer.lost
        await protocol.until(lambda: "eof_received" in protocol.calls)
        while not transport.is_closing():
            transport.write(b"into the void")
            await asyncio.sleep(0.001)
        await protocol.lost
        assert isinstance(protocol.error, BrokenPipeError | ConnectionResetError)

    runner.run(main())


def test_sockets_of_other_families(runner: asyncio.Runner) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        one, other = socket.socketpair()
        one.setblocking(False)
        other.setblocking(False)
        transport, protocol = await loop.create_unix_connection(Recorder, sock=one)
        accepted, peer = await loop.connect_accepted_socket(Recorder, other)
        transport.write(b"over a unix socket")
        await peer.until(lambda: peer.data == b"over a unix socket")
        accepted.close()
        await peer.lost
        await protocol.lost

    runner.run(main())


def test_callbacks_run_in_the_context_of_the_connection(loop_factory: LoopFactory) -> None:
    import contextvars

    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
    seen: dict[str, str] = {}

    class Seeing(Recorder):
        def note(self, name: str) -> None:
            seen[name] = variable.get()
            super().note(name)

    async def main() -> None:
        variable.set("of the connection")
        transport, protocol, _accepted, peer = await connected(server=Seeing)
        variable.set("changed since")
        transport.write(b"data")
        await peer.until(lambda: peer.data)
        transport.close()
        await peer.lost
        await protocol.lost

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())
    assert seen["connection_made"] == seen["data_received"] == "of the connection"
    assert seen["eof_received"] == seen["connection_lost"] == "of the connection"


def test_a_transport_lives_without_being_held(runner: asyncio.Runner) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        mine, theirs = tcp_pair()
        received = loop.create_future()

        class Holding(asyncio.Protocol):
            def data_received(self, data: bytes) -> None:
                received.set_result(data)

            def connection_lost(self, exc: BaseException | None) -> None:
                lost.set_result(exc)

        lost = loop.create_future()
        await loop.create_connection(Holding, sock=mine)
        del mine
        gc.collect()
        theirs.send(b"still there")
        assert await received == b"still there"
        theirs.close()
        assert await lost is None

    runner.run(main())


def test_closing_the_loop_lets_go_of_its_transports(loop_factory: LoopFactory) -> None:
    loop = loop_factory()
    kept: list[Any] = []

    async def main() -> None:
        kept.extend(await connected())

    loop.run_until_complete(main())
    loop.close()
    for transport in (kept[0], kept[2]):
        transport.write(b"to nobody")
        assert "SocketTransport" in repr(transport)
        assert transport.get_extra_info("sockname")
        if name_of(loop_factory) == "aioxide":
            with pytest.raises(RuntimeError, match="closed"):
                transport.abort()
        transport._sock.close()
    with pytest.warns(ResourceWarning):
        del transport
        kept.clear()
        gc.collect()
