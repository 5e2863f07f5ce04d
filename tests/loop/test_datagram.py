"""Datagram endpoints, on Python's own loop and on ours."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import random
import socket
import sys
import tempfile
import warnings
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import pytest
from tests.loop.sock_helpers import run, settled

import aioxide

Address = Any
HEADER_BYTES = 8 if sys.version_info >= (3, 13) else 0


class Recorder(asyncio.DatagramProtocol):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.datagrams: asyncio.Queue[tuple[bytes, Address]] = asyncio.Queue()
        self.errors: asyncio.Queue[Exception] = asyncio.Queue()
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.heard.append("made")

    def datagram_received(self, data: bytes, addr: Address) -> None:
        self.datagrams.put_nowait((data, addr))

    def error_received(self, exc: Exception) -> None:
        self.errors.put_nowait(exc)

    def pause_writing(self) -> None:
        self.heard.append("pause")

    def resume_writing(self) -> None:
        self.heard.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.heard.append("lost")
        self.lost.set_result(exc)


Endpoint = tuple[asyncio.DatagramTransport, Recorder]


@contextlib.asynccontextmanager
async def endpoint(**options: Any) -> AsyncIterator[Endpoint]:
    transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(Recorder, **options)
    try:
        yield transport, protocol
    finally:
        if not protocol.lost.done():
            transport.abort()
        await protocol.lost


def local(**options: Any) -> contextlib.AbstractAsyncContextManager[Endpoint]:
    return endpoint(local_addr=("127.0.0.1", 0), **options)


def name(transport: asyncio.DatagramTransport) -> Address:
    return transport.get_extra_info("sockname")


# -- there and back --------------------------------------------------------------------------------------------------


def test_datagrams_go_both_ways(runner: asyncio.Runner) -> None:
    async def case(loop: asyncio.AbstractEventLoop) -> None:
        async with local() as (one, heard_by_one), local() as (other, heard_by_other):
            assert isinstance(one, asyncio.BaseTransport)
            for data in (b"hello", bytearray(b"hello"), memoryview(b"hello")):
                one.sendto(data, name(other))
                data, address = await heard_by_other.datagrams.get()
                assert (data, address) == (b"hello", name(one))
                assert type(data) is bytes
                other.sendto(b"back", address)
                assert await heard_by_one.datagrams.get() == (b"back", name(other))
            assert one.get_extra_info("peername") is None
            assert one.get_extra_info("socket").getsockname() == name(one)
            assert one.get_extra_info("nothing", 7) == 7
            assert one.get_protocol() is heard_by_one

    run(runner, case)


def test_an_endpoint_is_a_datagram_transport() -> None:
    async def case(loop: asyncio.AbstractEventLoop) -> None:
        async with local() as (transport, _):
            assert isinstance(transport, asyncio.DatagramTransport)
            assert "fd=" in repr(transport)
            assert "read=polling" in repr(transport)

    with asyncio.Runner(loop_factory=aioxide.new_event_loop) as runner:
        run(runner, case)


def test_a_connected_endpoint_has_one_peer(runner: asyncio.Runner) -> None:
    async def case(loop: asyncio.AbstractEventLoop) -> None:
        async with local() as (server, heard_by_server), endpoint(remote_addr=name(server)) as (client, heard):
            assert client.get_extra_info("peername") == name(server)
            client.sendto(b"one")
            client.sendto(b"two", name(server))
            assert [(await heard_by_server.datagrams.get())[0] for _ in range(2)] == [b"one", b"two"]
            with pytest.raises(ValueError, match="Invalid address: must be None or"):
                client.sendto(b"three", ("127.0.0.1", 9))
            server.sendto(b"back", name(client))
            assert await heard.datagrams.get() == (b"back", name(server))

    run(runner, case)


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_ipv6(runner: asyncio.Runner) -> None:
    async def case(loop: asyncio.AbstractEventLoop) -> None:
        try:
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
                sock.bind(("::1", 0))
        except OSError:
            pytest.skip("no IPv6 loopback here")
        async with endpoint(local_addr=("::1", 0)) as (one, _), endpoint(local_addr=("::1", 0)) as (other, heard):
            port = name(other)[1]
            for address in (name(other), ("::1", port), ("0:0:0:0:0:0:0:1", port, 0, 0)):
                one.sendto(b"hello", address)
                assert await heard.datagrams.get() == (b"hello", name(one))

    run(runner, case)


def test_a_host_name_as_address(runner: asyncio.Runner) -> None:
    async def case(loop: asyncio.AbstractEventLoop) -> None:
        async with local() as (one, _), local() as (other, heard):
            one.sendto(b"hello", ("localhost", name(other)[1]))
            assert await heard.datagrams.get() == (b"hello", name(one))

    run(runner, case)


@pytest.mark.parametrize("size", [1, 1472, 65507])
def test_sizes(runner: asyncio.Runner, size: int) -> None:
    async def case(loop: asyncio.AbstractEventLoop) -> None:
        async with local() as (one, _), local() as (other, heard):
            data = random.Random(size).randbytes(size)
            one.sendto(data, name(other))
            assert (await heard.datagrams.get())[0] == data

    run(runner, case)


def test_empty_datagrams(runner: asyncio.Runner) -> None:
    async def case(loop: asyncio.AbstractEventLoop) -> None:
        async with local() as (one, _), local() as (other, heard):
            one.sendto(b"", name(other))
            one.sendto(b"x", name(other))
            received = [(await heard.datagrams.get())[0]]
            if received == [b""]:
                received.append((await heard.datagrams.get())[0])
            assert received == ([b"", b"x"] if sys.version_info >= (3, 13) else [b"x"])

    run(runner, case)


def test_many_peers_keep_their_addresses(runner: asyncio.Runner) -> None:
    async def case(loop: asyncio.AbstractEventLoop) -> None:
        async with contextlib.AsyncExitStack() as stack:
            server, heard_by_server = await stack.enter_async_context(local())
            clients = [await stack.enter_async_context(local()) for _ in range(150)]
            for turn in range(2):
                for number, (client, _) in enumerate(clients):
                    client.sendto(b"%d %d" % (turn, number), name(server))
                    data, address = await heard_by_server.datagrams.get()
                    assert address == name(client)
                    server.sendto(data, address)
                for number, (_, heard) in enumerate(clients):
                    assert await heard.datagrams.get() == (b"%d %d" % (turn, number), name(server))

    run(runner, case)


def test_unix_datagrams(runner: asyncio.Runner) -> None:
    async def case(loop: asyncio.AbstractEventLoop, path: str) -> None:
        unix: Any = {"family": socket.AF_UNIX}
        addresses = [path] + ([f"\0aioxide-test-{random.getrandbits(48)}"] if sys.platform == "linux" else [])
        for address in addresses:
            async with endpoint(local_addr=address, **unix) as (server, heard_by_server):
                async with endpoint(local_addr=address + ".client", **unix) as (client, heard):
                    client.sendto(b"hello", address)
                    data, sender = await heard_by_server.datagrams.get()
                    assert (data, sender) == (b"hello", name(client))
                    server.sendto(b"back", sender)
                    assert await heard.datagrams.get() == (b"back", name(server))
                async with endpoint(remote_addr=address, **unix) as (client, _):
                    client.sendto(b"unnamed")
                    assert (await heard_by_server.datagrams.get())[0] == b"unnamed"

    with tempfile.TemporaryDirectory() as folder:
        run(runner, case, str(Path(folder, "socket")))


@pytest.mark.skipif(not hasattr(socket, "AF_NETLINK"), reason="Linux has netlink")
def test_netlink(runner: asyncio.Runner) -> None:
    async def case(loop: asyncio.AbstractEventLoop) -> None:
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 0)
        sock.bind((0, 0))
        async with endpoint(sock=sock) as (transport, heard):
            # What are the links? RTM_GETLINK with NLM_F_REQUEST and NLM_F_DUMP, as netlink(7) describes.
            order = sys.byteorder
            request = (32).to_bytes(4, order) + (18).to_bytes(2, order) + (0x301).to_bytes(2, order) + bytes(24)
            transport.sendto(request, (0, 0))
            data, address = await heard.datagrams.get()
            assert data
            assert address == (0, 0)

    run(runner, case)


def test_a_socket_of_a_class_of_its_own_is_asked(runner: asyncio.Runner) -> None:
    class Counting(socket.socket):
        calls: int = 0

        def sendto(self, *args: Any) -> int:
            type(self).calls += 1
            return cast(int, super().sendto(*args))

    async def case(loop: asyncio.AbstractEventLoop) -> None:
        sock = Counting(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        async with endpoint(sock=sock) as (one, _), local() as (other, heard):
            one.sendto(b"hello", name(other))
            assert await heard.datagrams.get() == (b"hello", name(one))
        assert Counting.calls == 1

    run(runner, case)


def test_options(runner: asyncio.Runner) -> None:
    async def case(loop: asyncio.AbstractEventLoop) -> None:
        async with local(reuse_port=True, allow_broadcast=True, proto=socket.IPPROTO_UDP) as (one, _):
            sock = one.get_extra_info("socket")
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST) == 1
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) == 1
            async with endpoint(local_addr=name(one), reuse_port=True) as (again, _):
                assert name(again) == name(one)
            with pytest.raises(OSError, match="in use"):
                await loop.create_datagram_endpoint(Recorder, local_addr=name(one))

    run(runner, case)


# -- errors ----------------------------------------------------------------------------------------------------------


def test_nobody_there(runner: asyncio.Runner) -> None:
    async def case(loop: asyncio.AbstractEventLoop) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            address = sock.getsockname()
        async with endpoint(remote_addr=address) as (client, heard):
            client.sendto(b"hello")
            error = await heard.errors.get()
            assert isinstance(error, ConnectionRefusedError)
            assert error.errno == 111
            assert not client.is_closing()

    run(runner, case)


def test_a_datagram_that_is_too_large(runner: asyncio.Runner) -> None:
    async def case(loop: asyncio.AbstractEventLoop) -> None:
        async with local() as (one, heard_by_one), local() as (other, heard):
            one.sendto(bytes(70_000), name(other))
            error = await heard_by_one.errors.get()
            assert isinstance(error, OSError)
            assert error.strerror == "Message too long"
            one.sendto(b"small", name(other))
            assert (await heard.datagrams.get())[0] == b"small"

    run(runner, case)


@pytest.mark.parametrize("data", ["text", 7, None])
def test_data_that_is_none(runner: asyncio.Runner, data: Any) -> None:
    async def case(loop: asyncio.AbstractEventLoop) -> None:
        async with local() as (transport, _):
            kind = type(data).__name__
            with pytest.raises(TypeError, match=f"data argument must be a bytes-like object, not '{kind}'"):
                transport.sendto(data, name(transport))

    run(runner, case)


@pytest.mark.parametrize("address", [None, "127.0.0.1", ("127.0.0.1",), ("127.0.0.1", "port"), ("127.0.0.1", 70_000)])
def test_an_address_that_is_none_ends_the_endpoint(runner: asyncio.Runner, address: Any) -> None:
    async def case(loop: asyncio.AbstractEventLoop) -> None:
        reports: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _, context: reports.append(context))
        async with local() as (transport, protocol):
            transport.sendto(b"hello", address)
            assert isinstance(await protocol.lost, (TypeError, OverflowError))
            assert [report["message"] for report in reports] == ["Fatal write error on datagram transport"]

    run(runner, case)


def test_a_protocol_that_raises_goes_on_hearing(runner: asyncio.Runner) -> None:
    class Raising(Recorder):
        def datagram_received(self, data: bytes, addr: Address) -> None:
            super().datagram_received(data, addr)
            raise ZeroDivisionError(data)

    async def case(loop: asyncio.AbstractEventLoop) -> None:
        reports: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _, context: reports.append(context))
        transport, protocol = await loop.create_datagram_endpoint(Raising, local_addr=("127.0.0.1", 0))
        for _ in range(2):
            transport.sendto(b"x", name(transport))
            await protocol.datagrams.get()
        await settled()
        assert [type(report["exception"]) for report in reports] == [ZeroDivisionError] * 2
        transport.close()
        assert await protocol.lost is None

    run(runner, case)


# -- flow control and the end ------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def clogged(
    waiting: int, of_bytes: int
) -> AsyncIterator[tuple[asyncio.DatagramTransport, Recorder, socket.socket]]:
    """An endpoint in which so many datagrams wait, and the socket that they are for."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as reader:
        reader.bind(str(Path(folder, "reader")))
        reader.setblocking(False)
        async with endpoint(remote_addr=reader.getsockname(), family=socket.AF_UNIX) as (transport, protocol):
            transport.set_write_buffer_limits(high=10 * of_bytes, low=5 * of_bytes)
            number = 0
            while transport.get_write_buffer_size() < waiting * (of_bytes + HEADER_BYTES):
                transport.sendto(b"%d".ljust(of_bytes) % number)
                number += 1
            yield transport, protocol, reader


async def drain(reader: socket.socket, count: int) -> list[int]:
    loop = asyncio.get_running_loop()
    return [int(await loop.sock_recv(reader, 65536)) for _ in range(count)]


def test_flow_control(runner: asyncio.Runner) -> None:
    async def case(loop: asyncio.AbstractEventLoop) -> None:
        async with clogged(20, 100) as (transport, protocol, reader):
            assert protocol.heard == ["made", "pause"]
            assert transport.get_write_buffer_size() == 20 * (100 + HEADER_BYTES)
            assert transport.get_write_buffer_limits() == (500, 1000)
            numbers: list[int] = []
            while protocol.heard[-1] != "resume":
                numbers += await drain(reader, 1)
            transport.sendto(b"-1")
            while numbers[-1] != -1:
                numbers += await drain(reader, 1)
            assert numbers == [*range(len(numbers) - 1), -1]
            # Some releases of 3.13 forget to take off the headers that they have counted.
            assert transport.get_write_buffer_size() <= 21 * HEADER_BYTES
            assert protocol.heard == ["made", "pause", "resume"]

    run(runner, case)


def test_close_sends_what_waits(runner: asyncio.Runner) -> None:
    async def case(loop: asyncio.AbstractEventLoop) -> None:
        async with clogged(20, 100) as (transport, protocol, reader):
            transport.close()
            transport.close()
            assert transport.is_closing()
            await settled()
            assert not protocol.lost.done()
            numbers: list[int] = []
            while not protocol.lost.done():
                with contextlib.suppress(BlockingIOError):
                    numbers.append(int(reader.recv(65536)))
                await asyncio.sleep(0)
            with contextlib.suppress(BlockingIOError):
                while True:
                    numbers.append(int(reader.recv(65536)))
            assert len(numbers) > 20
            assert numbers == [*range(len(numbers))]
            assert await protocol.lost is None

    run(runner, case)


def test_abort_throws_away_what_waits(runner: asyncio.Runner) -> None:
    async def case(loop: asyncio.AbstractEventLoop) -> None:
        async with clogged(20, 100) as (transport, protocol, _):
            transport.abort()
            assert await protocol.lost is None
            assert protocol.heard[-1] == "lost"

    run(runner, case)


def test_nothing_is_heard_after_close(runner: asyncio.Runner) -> None:
    class Closing(Recorder):
        transport: asyncio.DatagramTransport

        def datagram_received(self, data: bytes, addr: Address) -> None:
            super().datagram_received(data, addr)
            self.transport.close()

    async def case(loop: asyncio.AbstractEventLoop) -> None:
        transport, protocol = await loop.create_datagram_endpoint(Closing, local_addr=("127.0.0.1", 0))
        protocol.transport = transport
        for _ in range(3):
            transport.sendto(b"x", name(transport))
        await protocol.lost
        assert protocol.datagrams.qsize() == 1

    run(runner, case)


def test_reading_pauses(runner: asyncio.Runner) -> None:
    async def case(loop: asyncio.AbstractEventLoop) -> None:
        async with local() as (endpoint, heard):
            transport: Any = endpoint
            transport.pause_reading()
            assert not transport.is_reading()
            transport.sendto(b"x", name(transport))
            await asyncio.sleep(0.01)
            assert heard.datagrams.empty()
            transport.resume_reading()
            assert (await heard.datagrams.get())[0] == b"x"

    run(runner, case)


def test_a_flood_does_not_keep_others_from_running(runner: asyncio.Runner) -> None:
    async def case(loop: asyncio.AbstractEventLoop) -> None:
        async with local() as (transport, heard):
            for _ in range(100):
                transport.sendto(b"x", name(transport))
            heard_between = 0
            while heard.datagrams.qsize() < 100:
                await asyncio.sleep(0)
                heard_between += 1
            assert heard_between > 3

    run(runner, case)


def test_the_protocol_hears_in_its_endpoints_context(runner: asyncio.Runner) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

    class Reading(Recorder):
        def datagram_received(self, data: bytes, addr: Address) -> None:
            super().datagram_received(variable.get().encode(), addr)

    async def case(loop: asyncio.AbstractEventLoop) -> None:
        variable.set("made")
        transport, protocol = await loop.create_datagram_endpoint(Reading, local_addr=("127.0.0.1", 0))
        variable.set("later")
        transport.sendto(b"x", name(transport))
        assert (await protocol.datagrams.get())[0] == b"made"
        transport.close()
        await protocol.lost

    run(runner, case)


def test_the_sockets_descriptor_is_refused(runner: asyncio.Runner) -> None:
    async def case(loop: asyncio.AbstractEventLoop) -> None:
        async with local() as (transport, _):
            with pytest.raises(RuntimeError, match="is used by transport"):
                loop.add_reader(transport.get_extra_info("socket"), print)

    run(runner, case)


def test_an_endpoint_that_nobody_closes_is_reported(loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def case() -> None:
        await asyncio.get_running_loop().create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loop = loop_factory()
        loop.run_until_complete(case())
        loop.close()
        del loop
        gc.collect()
    assert any("unclosed transport" in str(warning.message) for warning in caught)


def test_random_traffic(runner: asyncio.Runner) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)

    class Echo(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = cast(asyncio.DatagramTransport, transport)

        def datagram_received(self, data: bytes, addr: Address) -> None:
            self.transport.sendto(data, addr)

    async def case(loop: asyncio.AbstractEventLoop) -> None:
        server, _ = await loop.create_datagram_endpoint(Echo, local_addr=("127.0.0.1", 0))

        async def client() -> None:
            async with endpoint(remote_addr=name(server)) as (transport, heard):
                for _ in range(100):
                    data = chance.randbytes(chance.choice([1, 100, 1400, 20_000]))
                    transport.sendto(data)
                    assert await heard.datagrams.get() == (data, name(server))

        await asyncio.gather(*[client() for _ in range(8)])
        server.close()
        await asyncio.sleep(0)

    run(runner, case)
