"""The native HTTP core by itself: every way into it, and what must hold when things end badly."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

import aioxide
from aioxide import http
from aioxide._native import HttpClient, HttpServer, RawResponse

LIMITS: dict[str, Any] = {
    "connect_timeout": 5.0,
    "read_timeout": 5.0,
    "write_timeout": 5.0,
    "pool_timeout": 5.0,
    "total_timeout": None,
}

Run = Callable[[Any], Any]

each_loop = pytest.mark.parametrize("run", [aioxide.run, asyncio.run], ids=["aioxide", "asyncio"])


@pytest.fixture
def server() -> Iterator[HttpServer]:
    with HttpServer() as server:
        yield server


def get(client: HttpClient, url: str, **settings: Any) -> Awaitable[RawResponse]:
    return client.fetch(asyncio.get_running_loop(), "GET", url, [], None, **{**LIMITS, **settings})


def get_blocking(client: HttpClient, url: str, **settings: Any) -> RawResponse:
    return client.fetch_blocking("GET", url, [], None, **{**LIMITS, **settings})


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.005)
    pytest.fail("it did not come to pass within 2.5 s")


@each_loop
def test_requests_of_one_turn_run_at_once(run: Run, server: HttpServer) -> None:
    async def main() -> None:
        client = HttpClient()
        started = time.monotonic()
        responses = await asyncio.gather(*[get(client, f"{server.url}/delay/100?{n}") for n in range(100)])
        assert time.monotonic() - started < 1
        assert {response.status for response in responses} == {200}
        client.close()
        await until(lambda: client.statistics()["connections_open"] == 0)

    run(main())


@each_loop
def test_a_request_ends_with_the_task_that_awaits_it(run: Run, server: HttpServer) -> None:
    async def main() -> None:
        client = HttpClient(max_connections=1)

        async def ask() -> RawResponse:
            return await get(client, f"{server.url}/delay/5000")

        blocked = [asyncio.ensure_future(ask()) for _ in range(3)]
        given_up = get(client, f"{server.url}/delay/5000")
        await until(lambda: client.statistics()["requests_waiting"] == 3)
        for task in blocked:
            task.cancel()
        del given_up
        assert (await get(client, server.url)).status == 200
        numbers = client.statistics()
        assert (numbers["requests_in_flight"], numbers["requests_waiting"]) == (0, 0)

    run(main())


@each_loop
def test_errors_come_as_the_clients_own_exceptions(run: Run, server: HttpServer) -> None:
    async def main() -> None:
        client = HttpClient()
        for path, limits, error in [
            ("/close", {}, http.RemoteProtocolError),
            ("/garbage", {}, http.RemoteProtocolError),
            ("/truncate", {}, http.RemoteProtocolError),
            ("/delay/1000", {"read_timeout": 0.03}, http.ReadTimeout),
            ("/delay/1000", {"total_timeout": 0.03}, http.ReadTimeout),
            ("/redirect/3", {"max_redirects": 2}, http.TooManyRedirects),
        ]:
            with pytest.raises(error, match=f"127.0.0.1:{server.port}: "):
                await get(client, server.url + path, **limits)
        with pytest.raises(http.ConnectError, match="127.0.0.1:9: connection refused while connecting"):
            await get(client, "http://127.0.0.1:9/")
        with pytest.raises(http.InvalidURL):
            await get(client, "http://[")
        with pytest.raises(http.UnsupportedProtocol, match="TLS"):
            await get(client, "https://127.0.0.1/")
        loop = asyncio.get_running_loop()
        with pytest.raises(http.LocalProtocolError, match="control character"):
            await client.fetch(loop, "GET", server.url, [(b"a", b"b\r\nc: d")], None, **LIMITS)
        with pytest.raises(TypeError, match="pairs of bytes"):
            client.fetch(loop, "GET", server.url, [("a", "b")], None, **LIMITS)  # type: ignore[list-item]
        with pytest.raises(ValueError, match="read_timeout=-1"):
            get(client, server.url, read_timeout=-1.0)
        client.close()
        with pytest.raises(RuntimeError, match="closed"):
            get(client, server.url)

    run(main())


@each_loop
def test_a_streamed_body_comes_as_it_is_asked_for(run: Run, server: HttpServer) -> None:
    async def main() -> None:
        client = HttpClient()
        response = await get(client, f"{server.url}/stream/3/5/5", stream=True)
        assert response.body is None
        assert [await response.read_chunk() for _ in range(5)] == [b"xxxxx"] * 3 + [b"", b""]
        assert "total" in response.timings
        endless = await get(client, f"{server.url}/bytes/1000000000", stream=True)
        assert await endless.read_chunk()
        endless.close()
        with pytest.raises(RuntimeError, match="closed"):
            endless.read_chunk()
        await until(lambda: client.statistics()["requests_in_flight"] == 0)
        cut = await get(client, f"{server.url}/truncate", stream=True)
        assert await cut.read_chunk() == b"too short"
        for _ in range(2):
            with pytest.raises(http.RemoteProtocolError):
                await cut.read_chunk()

    run(main())


@each_loop
def test_a_cancelled_read_loses_nothing_of_the_body(run: Run, server: HttpServer) -> None:
    async def main() -> None:
        client = HttpClient()
        response = await get(client, f"{server.url}/stream/20/100/2", stream=True)
        received = 0
        while True:
            try:
                chunk = await asyncio.wait_for(response.read_chunk(), 0.001)
            except TimeoutError:
                continue
            if not chunk:
                break
            received += len(chunk)
        assert received == 2000

    run(main())


@each_loop
def test_many_requests_give_their_results_as_they_come(run: Run, server: HttpServer) -> None:
    async def main() -> None:
        client = HttpClient()
        loop = asyncio.get_running_loop()
        urls = [f"{server.url}/{n}" for n in range(1000)] + ["nonsense", f"{server.url}/close"]
        bodies: dict[int, Any] = {}
        many = client.fetch_many(loop, [("GET", url, [], None) for url in urls], limit=30, **LIMITS)
        async for index, outcome in many:
            bodies[index] = type(outcome) if isinstance(outcome, Exception) else outcome.body
            assert client.statistics()["connections_open"] <= 30
        assert bodies == {n: b"/%d" % n for n in range(1000)} | {
            1000: http.UnsupportedProtocol,
            1001: http.RemoteProtocolError,
        }
        with pytest.raises(StopAsyncIteration):
            await many.__anext__()

    run(main())


@each_loop
def test_many_requests_can_be_given_up(run: Run, server: HttpServer) -> None:
    async def main() -> None:
        client = HttpClient()
        loop = asyncio.get_running_loop()
        requests: list[Any] = [("GET", f"{server.url}/delay/{n}", [], None) for n in [1, *[5000] * 50]]
        many = client.fetch_many(loop, requests, limit=10, **LIMITS)
        assert (await many.__anext__())[0] == 0
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(many), 0.02)
        many.close()
        await until(lambda: client.statistics()["requests_in_flight"] == 0)
        with pytest.raises(StopAsyncIteration):
            await many.__anext__()

    run(main())


@each_loop
def test_random_cancellation_leaves_the_pool_whole(run: Run, server: HttpServer) -> None:
    seed = int(os.environ.get("AIOXIDE_SEED", time.time_ns()))
    print(f"AIOXIDE_SEED={seed}")
    dice = random.Random(seed)
    paths = ["/", "/bytes/70000", "/stream/2/500/1", "/delay/1", "/last", "/truncate", "/close"]

    async def one(client: HttpClient) -> None:
        try:
            response = await get(client, server.url + dice.choice(paths), stream=dice.random() < 0.3)
            if response.body is None:
                await response.read_chunk()
        except http.TransportError:
            pass

    async def main() -> None:
        client = HttpClient(max_connections=5)
        tasks = set()
        for number in range(2000):
            task = asyncio.create_task(one(client))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            if dice.random() < 0.3:
                dice.choice(list(tasks)).cancel()
            if number % 20 == 0:
                await asyncio.sleep(dice.random() / 500)
        await asyncio.gather(*tasks, return_exceptions=True)
        del tasks
        await until(lambda: client.statistics()["requests_in_flight"] == 0)
        responses = await asyncio.gather(*[get(client, f"{server.url}/delay/20") for _ in range(5)])
        assert [response.status for response in responses] == [200] * 5
        assert client.statistics()["connections_open"] == 5

    run(main())


def test_one_client_serves_threads_and_loops_at_once(server: HttpServer) -> None:
    client = HttpClient()
    failures: list[BaseException] = []

    def guarded(body: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            try:
                body()
            except BaseException as error:  # noqa: BLE001 - shown by the test
                failures.append(error)

        return run

    async def several() -> None:
        for _ in range(10):
            await asyncio.gather(*[get(client, f"{server.url}/delay/1") for _ in range(10)])

    def blocking() -> None:
        for _ in range(50):
            assert get_blocking(client, server.url).status == 200

    bodies = [lambda: aioxide.run(several()), lambda: asyncio.run(several()), blocking]
    threads = [threading.Thread(target=guarded(body)) for body in bodies * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert client.statistics()["requests_in_flight"] == 0


def test_blocking_calls_let_other_threads_run(server: HttpServer) -> None:
    client = HttpClient()
    started = time.monotonic()
    threads = [threading.Thread(target=get_blocking, args=(client, f"{server.url}/delay/200")) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - started < 1


def test_blocking_inside_a_running_loop_blocks_it_and_works(server: HttpServer) -> None:
    client = HttpClient()

    async def main() -> bytes | None:
        return get_blocking(client, f"{server.url}/x").body

    assert aioxide.run(main()) == b"/x"


def test_a_blocking_stream_is_read_from_any_thread(server: HttpServer) -> None:
    client = HttpClient()
    response = get_blocking(client, f"{server.url}/stream/3/5/5", stream=True)
    pieces: list[bytes] = [response.read_chunk_blocking()]
    reader = threading.Thread(target=lambda: pieces.extend(response.read_chunk_blocking() for _ in range(3)))
    reader.start()
    reader.join()
    assert pieces == [b"xxxxx"] * 3 + [b""]


def test_a_signal_handler_may_fetch_and_may_interrupt(server: HttpServer) -> None:
    client = HttpClient()
    seen: list[int] = []

    def handler(*_args: Any) -> None:
        seen.append(get_blocking(client, server.url).status)
        if len(seen) == 2:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
        started = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            get_blocking(client, f"{server.url}/delay/3000")
        assert time.monotonic() - started < 1
        seen.clear()
        with pytest.raises(KeyboardInterrupt):
            get_blocking(client, f"{server.url}/delay/3000", stream=True)
        assert time.monotonic() - started < 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert get_blocking(client, server.url).status == 200
    # The streamed one is dropped by the HTTP thread, in its own time.
    deadline = time.monotonic() + 10
    while client.statistics()["requests_in_flight"] and time.monotonic() < deadline:
        time.sleep(0.001)
    assert client.statistics()["requests_in_flight"] == 0


def run_program(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent(program), *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_process_ends_at_once_whatever_is_under_way(server: HttpServer) -> None:
    program = """
        import asyncio, sys, threading
        from aioxide._native import HttpClient
        import aioxide
        url = sys.argv[1]
        limits = dict.fromkeys(
            ["connect_timeout", "read_timeout", "write_timeout", "pool_timeout", "total_timeout"]
        )
        client = HttpClient()
        async def main():
            loop = asyncio.get_running_loop()
            for _ in range(50):
                client.fetch(loop, "GET", url + "/delay/20", [], None, **limits)
                client.fetch(loop, "GET", url + "/delay/60000", [], None, **limits)
            await asyncio.sleep(0.02)
        asyncio.run(main())
        aioxide.run(main())
        def block():
            client.fetch_blocking("GET", url + "/delay/60000", [], None, **limits)
        threading.Thread(target=block, daemon=True).start()
        print("end")
    """
    started = time.monotonic()
    done = run_program(program, server.url)
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")
    assert time.monotonic() - started < 10


def test_a_forked_child_starts_anew(server: HttpServer) -> None:
    program = """
        import asyncio, os, sys, warnings
        from aioxide._native import HttpClient
        url = sys.argv[1]
        limits = dict.fromkeys(
            ["connect_timeout", "read_timeout", "write_timeout", "pool_timeout", "total_timeout"]
        )
        client = HttpClient()
        async def main():
            loop = asyncio.get_running_loop()
            return (await client.fetch(loop, "GET", url + "/async", [], None, **limits)).body
        def both():
            blocking = client.fetch_blocking("GET", url + "/blocking", [], None, **limits).body
            assert (blocking, asyncio.run(main())) == (b"/blocking", b"/async")
        both()
        for _ in range(3):
            with warnings.catch_warnings():
                # The background engine's thread is why this test forks.
                warnings.simplefilter("ignore", DeprecationWarning)
                child = os.fork()
            if child == 0:
                both()
                both()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            both()
        print("end")
    """
    done = run_program(program, server.url)
    assert (done.returncode, done.stdout) == (0, "end\n"), done.stderr


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@each_loop
def test_loops_and_clients_that_come_and_go_leave_nothing(run: Run, server: HttpServer) -> None:
    async def main() -> None:
        client = HttpClient()
        await get(client, server.url)
        stream = await get(client, f"{server.url}/bytes/10000000", stream=True)
        await stream.read_chunk()
        get(client, f"{server.url}/delay/300")
        await asyncio.sleep(0)

    for _ in range(5):
        run(main())
    gc.collect()
    # The server, in this process too, holds a connection until it has answered.
    time.sleep(0.5)
    before = open_descriptors()
    for _ in range(50):
        run(main())
    gc.collect()
    deadline = time.monotonic() + 2
    while open_descriptors() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert open_descriptors() <= before


def test_a_response_does_not_keep_its_loop_in_a_cycle(server: HttpServer) -> None:
    async def main() -> weakref.ref[Any]:
        loop: Any = asyncio.get_running_loop()
        client = HttpClient()
        loop.kept = await get(client, server.url)
        return weakref.ref(loop)

    reference = aioxide.run(main())
    gc.collect()
    assert reference() is None


def test_many_clients_on_one_loop_are_forgotten_when_closed(server: HttpServer) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        before = loop.statistics()["rust_tasks"]
        for _ in range(100):
            client = HttpClient()
            await get(client, server.url)
            del client
        await until(lambda: bool(loop.statistics()["rust_tasks"] == before))
        assert loop.statistics()["descriptors"] <= 1

    aioxide.run(main())


def test_making_a_client_is_quick() -> None:
    started = time.perf_counter()
    for _ in range(100):
        HttpClient()
    assert (time.perf_counter() - started) / 100 < 0.001


def test_a_server_says_that_its_port_is_taken(server: HttpServer) -> None:
    with pytest.raises(OSError, match=f"Address already in use: 127.0.0.1 port {server.port}") as caught:
        HttpServer(port=server.port)
    assert caught.value.errno == 98
    with pytest.raises(ValueError, match="IP address"):
        HttpServer(host="not an address")
    server.stop()
    server.stop()
    user, system = server.cpu_time()
    assert user >= 0 <= system
