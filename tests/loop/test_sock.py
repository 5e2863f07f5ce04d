"""`loop.sock_recv` and its kin, on Python's own loop and on ours."""

from __future__ import annotations

import asyncio
import gc
import inspect
import random
import socket
import ssl
import sys
import tempfile
import warnings
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from tests.loop.sock_helpers import Pair, listening, not_blocking, run, waiting


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Two connected stream sockets that do not block."""
    one, other = socket.socketpair()
    with one, other:
        one.setblocking(False)
        other.setblocking(False)
        yield one, other


@pytest.fixture
def datagrams() -> Iterator[Pair]:
    """Two UDP sockets that do not block."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
    ):
        for sock in (one, other):
            sock.bind(("127.0.0.1", 0))
            sock.setblocking(False)
        yield one, other


# -- what each operation gives ---------------------------------------------------------------------------------------


def test_recv_gives_what_is_there_and_waits_for_what_is_not(runner: asyncio.Runner, pair: Pair) -> None:
    async def case(loop: asyncio.AbstractEventLoop, one: socket.socket, other: socket.socket) -> None:
        other.send(b"there")
        assert await loop.sock_recv(one, 100) == b"there"
        async with waiting(loop.sock_recv(one, 3)) as task:
            other.send(b"later")
            assert await task == b"lat"
        assert await loop.sock_recv(one, 100) == b"er"
        assert await loop.sock_recv(one, 0) == b""
        other.close()
        assert await loop.sock_recv(one, 100) == b""

    run(runner, case, *pair)


def test_recv_into_fills_a_buffer(runner: asyncio.Runner, pair: Pair) -> None:
    async def case(loop: asyncio.AbstractEventLoop, one: socket.socket, other: socket.socket) -> None:
        buffer = bytearray(b".....")
        async with waiting(loop.sock_recv_into(one, memoryview(buffer)[1:4])) as task:
            other.send(b"xyz!")
            assert await task == 3
        assert buffer == b".xyz."
        assert await loop.sock_recv_into(one, buffer) == 1
        assert buffer == b"!xyz."

    run(runner, case, *pair)


def test_recv_larger_than_any_buffer_of_the_loop(runner: asyncio.Runner, pair: Pair) -> None:
    async def case(loop: asyncio.AbstractEventLoop, one: socket.socket, other: socket.socket) -> None:
        other.send(b"x" * 1000)
        assert await loop.sock_recv(one, 16 * 1024 * 1024) == b"x" * 1000

    run(runner, case, *pair)


def test_datagrams_come_with_their_address(runner: asyncio.Runner, datagrams: Pair) -> None:
    async def case(loop: asyncio.AbstractEventLoop, one: socket.socket, other: socket.socket) -> None:
        async with waiting(loop.sock_recvfrom(one, 100)) as task:
            assert await loop.sock_sendto(other, b"hello", one.getsockname()) == 5
            assert await task == (b"hello", other.getsockname())
        buffer = bytearray(10)
        async with waiting(loop.sock_recvfrom_into(one, buffer)) as task:
            other.sendto(b"again", one.getsockname())
            assert await task == (5, other.getsockname())
        assert buffer.startswith(b"again")
        other.sendto(b"shortened", one.getsockname())
        assert await loop.sock_recvfrom_into(one, buffer, 5) == (5, other.getsockname())
        assert buffer.startswith(b"short")

    run(runner, case, *datagrams)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_sendall_sends_everything_in_order(runner: asyncio.Runner, pair: Pair, kind: Callable[[bytes], Any]) -> None:
    data = random.Random(7).randbytes(3_000_000)

    async def case(loop: asyncio.AbstractEventLoop, one: socket.socket, other: socket.socket) -> None:
        async with waiting(loop.sock_sendall(one, kind(data))) as task:
            received = bytearray()
            while len(received) < len(data):
                received += await loop.sock_recv(other, 100_000)
            assert await task is None
        assert received == data
        assert await loop.sock_sendall(one, kind(b"")) is None

    run(runner, case, *pair)


def test_sendall_keeps_its_buffer_from_being_resized(runner: asyncio.Runner, pair: Pair) -> None:
    async def case(loop: asyncio.AbstractEventLoop, one: socket.socket, other: socket.socket) -> None:
        data = bytearray(3_000_000)
        async with waiting(loop.sock_sendall(one, data)):
            with pytest.raises(BufferError):
                data.append(1)

    run(runner, case, *pair)


def test_sendall_does_not_keep_others_from_running(runner: asyncio.Runner, pair: Pair) -> None:
    async def case(loop: asyncio.AbstractEventLoop, one: socket.socket, other: socket.socket) -> None:
        def drain() -> int:
            received = 0
            with other:
                while received < 16 * 1024 * 1024:
                    received += len(other.recv(1 << 20))
            return received

        other.setblocking(True)
        draining = loop.run_in_executor(None, drain)
        task = asyncio.create_task(loop.sock_sendall(one, bytes(16 * 1024 * 1024)))
        turns = 0
        while not task.done():
            await asyncio.sleep(0)
            turns += 1
        assert turns > 2
        assert await draining == 16 * 1024 * 1024

    run(runner, case, *pair)


def test_connect_and_accept(runner: asyncio.Runner) -> None:
    async def case(loop: asyncio.AbstractEventLoop) -> None:
        with listening() as listener, not_blocking() as client:
            async with waiting(loop.sock_accept(listener)) as task:
                assert await loop.sock_connect(client, listener.getsockname()) is None
                connection, address = await task
            with connection:
                assert address == client.getsockname()
                assert connection.gettimeout() == 0
                await loop.sock_sendall(client, b"hello")
                assert await loop.sock_recv(connection, 10) == b"hello"

    run(runner, case)


def test_connect_looks_a_host_name_up(runner: asyncio.Runner) -> None:
    async def case(loop: asyncio.AbstractEventLoop) -> None:
        with listening() as listener, not_blocking() as client:
            await loop.sock_connect(client, ("localhost", listener.getsockname()[1]))
            assert client.getpeername() == listener.getsockname()

    run(runner, case)


def test_connect_to_nobody(runner: asyncio.Runner) -> None:
    async def case(loop: asyncio.AbstractEventLoop) -> None:
        with listening() as listener:
            address = listener.getsockname()
        for _ in range(3):  # the same number each time: a watch that is left must not answer for the next
            with not_blocking() as client:
                with pytest.raises(ConnectionRefusedError, match=f"Connect call failed .*{address[1]}"):
                    await loop.sock_connect(client, address)

    run(runner, case)


def test_a_look_up_that_fails_is_the_connects_failure(runner: asyncio.Runner) -> None:
    async def case(loop: asyncio.AbstractEventLoop) -> None:
        async def fail(*args: Any, **options: Any) -> Any:
            await asyncio.sleep(0)
            raise socket.gaierror(socket.EAI_NONAME, "nobody of that name")

        cast(Any, loop).getaddrinfo = fail
        with not_blocking() as client, pytest.raises(socket.gaierror, match="nobody of that name"):
            await loop.sock_connect(client, ("nowhere.invalid", 80))

    run(runner, case)


def test_a_connect_is_cancelled_while_the_name_is_looked_up(runner: asyncio.Runner) -> None:
    async def case(loop: asyncio.AbstractEventLoop) -> None:
        told = []

        async def slow(*args: Any, **options: Any) -> Any:
            try:
                await asyncio.sleep(60)
            finally:
                told.append(True)

        cast(Any, loop).getaddrinfo = slow
        with not_blocking() as client:
            async with waiting(loop.sock_connect(client, ("nowhere.invalid", 80))) as task:
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
        assert told == [True]

    run(runner, case)


def test_unix_sockets(runner: asyncio.Runner) -> None:
    async def case(loop: asyncio.AbstractEventLoop, path: str) -> None:
        with listening(socket.AF_UNIX, path) as listener, not_blocking(socket.AF_UNIX) as client:
            (connection, _), _ = await asyncio.gather(loop.sock_accept(listener), loop.sock_connect(client, path))
            with connection:
                await loop.sock_sendall(connection, b"hello")
                assert await loop.sock_recv(client, 10) == b"hello"

    with tempfile.TemporaryDirectory() as folder:
        run(runner, case, str(Path(folder, "socket")))


@pytest.mark.skipif(not hasattr(socket, "AF_NETLINK"), reason="Linux has netlink")
def test_addresses_of_unusual_families(runner: asyncio.Runner) -> None:
    async def case(loop: asyncio.AbstractEventLoop) -> None:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as sock:
            sock.setblocking(False)
            sock.bind((0, 0))
            # A request for a list of links: what comes back is from the kernel, which is port 0.
            request = (20).to_bytes(4, sys.byteorder) + (18).to_bytes(2, sys.byteorder)
            request += (0x301).to_bytes(2, sys.byteorder) + bytes(12)
            request = (len(request)).to_bytes(4, sys.byteorder) + request[4:]
            assert await loop.sock_sendto(sock, request, (0, 0)) == len(request)
            data, address = await loop.sock_recvfrom(sock, 65536)
            assert data
            assert address == (0, 0)

    run(runner, case)


def test_sendfile_sends_a_file(runner: asyncio.Runner, pair: Pair, tmp_path: Path) -> None:
    content = random.Random(3).randbytes(1_000_000)
    (tmp_path / "file").write_bytes(content)

    async def case(loop: asyncio.AbstractEventLoop, one: socket.socket, other: socket.socket) -> None:
        with (tmp_path / "file").open("rb") as file:
            task = asyncio.create_task(loop.sock_sendfile(one, file, 10, 900_000, fallback=False))
            received = bytearray()
            while len(received) < 900_000:
                received += await loop.sock_recv(other, 65536)
            assert await task == 900_000
        assert received == content[10:900_010]

    run(runner, case, *pair)


# -- they are coroutines ---------------------------------------------------------------------------------------------


def test_an_operation_is_a_coroutine(runner: asyncio.Runner, pair: Pair) -> None:
    async def case(loop: asyncio.AbstractEventLoop, one: socket.socket, other: socket.socket) -> None:
        operation = loop.sock_recv(one, 10)
        assert asyncio.iscoroutine(operation)
        assert inspect.isawaitable(operation)
        operation.close()
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            await operation
        other.send(b"abcdef")
        assert await asyncio.gather(loop.sock_recv(one, 2), loop.sock_recv(one, 2)) == [b"ab", b"cd"]
        assert await asyncio.create_task(loop.sock_recv(one, 1)) == b"e"
        assert await asyncio.ensure_future(loop.sock_recv(one, 1)) == b"f"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(loop.sock_recv(one, 1), 0.01)
        assert "sock_recv" in repr(asyncio.create_task(loop.sock_recv(one, 1)))

    run(runner, case, *pair)


def test_nothing_is_done_before_it_is_awaited(runner: asyncio.Runner, pair: Pair) -> None:
    async def case(loop: asyncio.AbstractEventLoop, one: socket.socket, other: socket.socket) -> None:
        operation = loop.sock_sendall(one, b"first")
        await loop.sock_sendall(one, b"second")
        await operation
        assert await loop.sock_recv(other, 100) == b"secondfirst"

    run(runner, case, *pair)


def test_one_that_was_never_awaited_is_warned_of(runner: asyncio.Runner, pair: Pair) -> None:
    async def case(loop: asyncio.AbstractEventLoop, one: socket.socket, other: socket.socket) -> None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            loop.sock_recv(one, 10)
            gc.collect()
        assert [warning.category for warning in caught] == [RuntimeWarning]
        assert "sock_recv' was never awaited" in str(caught[0].message)

    run(runner, case, *pair)


def test_driven_by_hand(runner: asyncio.Runner, pair: Pair) -> None:
    async def case(loop: asyncio.AbstractEventLoop, one: socket.socket, other: socket.socket) -> None:
        operation = loop.sock_recv(one, 10)
        with pytest.raises(TypeError, match="just-started"):
            operation.send(1)
        future = operation.send(None)
        assert asyncio.isfuture(future)
        other.send(b"hello")
        await asyncio.wait([future])
        with pytest.raises(StopIteration) as stopped:
            operation.send(None)
        assert stopped.value.value == b"hello"
        operation = loop.sock_recv(one, 10)
        operation.send(None)
        with pytest.raises(KeyError, match="thrown"):
            operation.throw(KeyError("thrown"))

    run(runner, case, *pair)


def test_keywords(runner: asyncio.Runner, datagrams: Pair) -> None:
    async def case(loop: asyncio.AbstractEventLoop, one: socket.socket, other: socket.socket) -> None:
        methods: Any = loop
        await methods.sock_sendto(sock=other, data=b"hello", address=one.getsockname())
        assert (await methods.sock_recvfrom(one, bufsize=10))[0] == b"hello"
        await methods.sock_connect(sock=other, address=one.getsockname())
        await methods.sock_sendall(other, data=b"again")
        assert await methods.sock_recv(sock=one, n=10) == b"again"
        for arguments, keywords in [((one,), {}), ((one, 1, 2), {}), ((one, 1), {"n": 1}), ((one,), {"m": 1})]:
            with pytest.raises(TypeError):
                await methods.sock_recv(*arguments, **keywords)

    run(runner, case, *datagrams)


# -- what is refused -------------------------------------------------------------------------------------------------


def every_operation(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> list[Coroutine[Any, Any, Any]]:
    return [
        loop.sock_recv(sock, 1),
        loop.sock_recv_into(sock, bytearray(1)),
        loop.sock_recvfrom(sock, 1),
        loop.sock_recvfrom_into(sock, bytearray(1)),
        loop.sock_sendall(sock, b"x"),
        loop.sock_sendto(sock, b"x", ("127.0.0.1", 9)),
        loop.sock_accept(sock),
        loop.sock_connect(sock, ("127.0.0.1", 9)),
    ]


def test_debug_mode_refuses_sockets_that_block(runner: asyncio.Runner) -> None:
    async def case(loop: asyncio.AbstractEventLoop) -> None:
        loop.set_debug(True)
        with socket.socket() as sock:
            for operation in every_operation(loop, sock):
                with pytest.raises(ValueError, match="the socket must be non-blocking"):
                    await operation

    run(runner, case)


def test_ssl_sockets_are_refused(runner: asyncio.Runner) -> None:
    async def case(loop: asyncio.AbstractEventLoop) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        with context.wrap_socket(socket.socket()) as sock:
            sock.setblocking(False)
            for operation in every_operation(loop, sock):
                with pytest.raises(TypeError, match="Socket cannot be of type SSLSocket"):
                    await operation

    run(runner, case)


def test_the_socket_of_a_transport_is_refused(runner: asyncio.Runner, pair: Pair) -> None:
    async def case(loop: asyncio.AbstractEventLoop, one: socket.socket, other: socket.socket) -> None:
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=one)
        for operation in [loop.sock_recv(one, 1), loop.sock_recv_into(one, bytearray(1))]:
            with pytest.raises(RuntimeError, match="is used by transport"):
                await operation
        transport.close()

    run(runner, case, *pair)


def test_errors_are_the_sockets_own(runner: asyncio.Runner, pair: Pair) -> None:
    async def case(loop: asyncio.AbstractEventLoop, one: socket.socket, other: socket.socket) -> None:
        methods: Any = loop
        with pytest.raises(TypeError, match="cannot be interpreted as an integer"):
            await methods.sock_recv(one, "1")
        with pytest.raises(ValueError, match="negative buffersize"):
            await loop.sock_recv(one, -1)
        with pytest.raises(TypeError, match="read-write bytes-like object"):
            await methods.sock_recv_into(one, b"x")
        with pytest.raises(TypeError, match="a bytes-like object is required, not 'str'"):
            await methods.sock_sendall(one, "x")
        other.close()
        with pytest.raises(BrokenPipeError) as broken:
            await loop.sock_sendall(one, b"x")
        assert broken.value.errno == 32
        assert broken.value.strerror == "Broken pipe"
        one.close()
        with pytest.raises(OSError, match="Bad file descriptor") as bad:
            await loop.sock_recv(one, 1)
        assert bad.value.errno == 9

    run(runner, case, *pair)
