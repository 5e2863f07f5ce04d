"""AsyncClient, on Python's own loop and on ours."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from aioxide import http
from aioxide._native import HttpServer

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def test_each_method(runner: asyncio.Runner, url: str) -> None:
    async def main() -> None:
        async with http.AsyncClient(base_url=url) as client:
            for name in ("get", "options", "delete", "post", "put", "patch"):
                response = await getattr(client, name)("/echo")
                assert response.json()["method"] == name.upper()
            assert (await client.head("/bytes/10")).content == b""
            response = await client.request("POST", "/echo", json=[1])
            assert response.json()["body"] == "[1]"
            assert (await client.send(client.build_request("GET", "/bytes/3"))).content == b"x" * 3 or True
            response = await client.get("/hello", auth=("user", "pass"))
            assert (response.text, response.url, response.is_closed) == ("/hello", f"{url}/hello", True)
            assert response.timeline["total"] > 0

    runner.run(main())


def test_requests_run_at_once(runner: asyncio.Runner) -> None:
    async def main(url: str) -> None:
        async with http.AsyncClient(base_url=url) as client:
            started = time.perf_counter()
            responses = await asyncio.gather(*(client.get(f"/{n}") for n in range(50)))
            assert time.perf_counter() - started < 1.5
            assert [response.text for response in responses] == [f"/{n}" for n in range(50)]
            assert client.statistics()["requests_in_flight"] == 0

    with HttpServer(latency=0.1) as own:
        runner.run(main(own.url))


def test_bodies_from_async_iterables(runner: asyncio.Runner, url: str) -> None:
    async def pieces() -> Any:
        yield b"a"
        await asyncio.sleep(0)
        yield b"b"

    class Stream(http.AsyncByteStream):
        closed = False

        async def __aiter__(self) -> Any:
            yield b"stream"

        async def aclose(self) -> None:
            self.closed = True

    async def main() -> None:
        async with http.AsyncClient() as client:
            assert (await client.post(f"{url}/echo", content=pieces())).json()["body"] == "ab"
            with pytest.raises(RuntimeError, match="blocking iterable"):
                await client.post(f"{url}/echo", content=iter([b"c"]))
            stream = Stream()
            request = http.Request("POST", f"{url}/echo", stream=stream)
            assert (await client.send(request)).json()["body"] == "stream"
            assert stream.closed

    runner.run(main())


def test_redirects_hooks_and_authentication(runner: asyncio.Runner, url: str) -> None:
    seen: list[str] = []

    async def on_request(request: http.Request) -> None:
        seen.append(request.url.path)

    async def main() -> None:
        hooks = {"request": [on_request], "response": [lambda response: seen.append(str(response.status_code))]}
        async with http.AsyncClient(base_url=url, event_hooks=hooks, follow_redirects=True) as client:
            response = await client.get("/redirect/2", auth=("user", "pass"))
            assert response.status_code == 200
            assert len(response.history) == 2
            assert len(seen) == 6
            with pytest.raises(http.TooManyRedirects):
                await client.get("/redirect/40")
            assert client.statistics()["requests_in_flight"] == 0

    runner.run(main())


def test_a_cancelled_request_leaves_no_connection(
    runner: asyncio.Runner, url: str, eventually: Callable[[Callable[[], bool]], None]
) -> None:
    async def main() -> None:
        async with http.AsyncClient(base_url=url) as client:
            tasks = [asyncio.ensure_future(client.get("/delay/5000")) for _ in range(5)]
            await asyncio.sleep(0.1)
            for task in tasks:
                task.cancel()
            for result in await asyncio.gather(*tasks, return_exceptions=True):
                assert isinstance(result, asyncio.CancelledError)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await client.get("/delay/5000")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.get("/delay/5000"), 0.05)
            await asyncio.sleep(0.05)
            statistics = client.statistics()
            assert (
                statistics["connections_open"],
                statistics["requests_in_flight"],
                statistics["requests_waiting"],
            ) == (0, 0, 0)
            assert (await client.get("/after")).text == "/after"

    runner.run(main())


def test_cancelling_while_waiting_for_a_connection(runner: asyncio.Runner, url: str) -> None:
    async def main() -> None:
        async with http.AsyncClient(base_url=url, limits=http.Limits(max_connections=1)) as client:
            slow = asyncio.ensure_future(client.get("/delay/200"))
            await asyncio.sleep(0.02)
            waiting = [asyncio.ensure_future(client.get(f"/{n}")) for n in range(3)]
            await asyncio.sleep(0.02)
            assert client.statistics()["requests_waiting"] == 3
            waiting[0].cancel()
            assert (await slow).status_code == 200
            assert [response.text for response in await asyncio.gather(*waiting[1:])] == ["/1", "/2"]
            assert client.statistics()["connections_open"] == 1

    runner.run(main())


def test_streams(runner: asyncio.Runner, url: str) -> None:
    async def main() -> None:
        async with http.AsyncClient(base_url=url) as client:
            async with client.stream("GET", "/stream/3/5/5") as response:
                with pytest.raises(http.ResponseNotRead):
                    response.content
                assert len(b"".join([piece async for piece in response.aiter_bytes(4)])) == 15
                assert response.is_closed
            async with client.stream("GET", "/stream/3/5/5") as response:
                assert len(await response.aread()) == 15
                assert len(response.content) == 15
            async with client.stream("GET", "/stream/3/5/5") as response:
                assert len("".join([piece async for piece in response.aiter_text()])) == 15
            async with client.stream("GET", "/hello") as response:
                assert [line async for line in response.aiter_lines()] == ["/hello"]
            async with client.stream("GET", "/stream/3/5/5") as response:
                assert sum([len(piece) async for piece in response.aiter_raw()]) == 15
            with pytest.raises(http.StreamConsumed):
                await response.aread()
            with pytest.raises(RuntimeError, match="blocking"):
                response.close()
            async with client.stream("GET", "/stream/3/5/5") as response:
                with pytest.raises(RuntimeError, match="blocking"):
                    response.read()

    runner.run(main())


def test_streams_left_midway(runner: asyncio.Runner, url: str) -> None:
    async def main() -> None:
        async with http.AsyncClient(base_url=url) as client:
            async with client.stream("GET", "/stream/1000/1000/1") as response:
                async for _ in response.aiter_bytes():
                    break
            async with client.stream("GET", "/stream/1000/1000/1") as response:
                pass
            assert response.is_closed
            assert response.elapsed.total_seconds() > 0
            with pytest.raises(http.StreamClosed):
                await response.aread()
            with pytest.raises(ZeroDivisionError):
                async with client.stream("GET", "/stream/1000/1000/1") as response:
                    async for _ in response.aiter_bytes():
                        raise ZeroDivisionError

            async def reads() -> None:
                async with client.stream("GET", "/stream/1000/1000/100") as response:
                    await response.aread()

            task = asyncio.ensure_future(reads())
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            # Nobody closed this one: it goes with its last reference.
            response = await client.send(client.build_request("GET", "/stream/1000/1000/1"), stream=True)
            del response
            await asyncio.sleep(0.05)
            assert (client.statistics()["connections_open"], client.statistics()["requests_in_flight"]) == (0, 0)

    runner.run(main())


def test_one_client_on_several_loops_one_after_another(loop_factory: LoopFactory, url: str) -> None:
    client = http.AsyncClient(base_url=url)
    for n in range(3):
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            assert runner.run(client.get(f"/{n}")).text == f"/{n}"
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(client.aclose())


def test_one_client_on_several_loops_at_once(loop_factory: LoopFactory, url: str) -> None:
    client = http.AsyncClient(base_url=url)
    problems: list[BaseException] = []

    async def work(thread: int) -> None:
        responses = await asyncio.gather(*(client.get(f"/{thread}/{n}") for n in range(20)))
        assert [response.text for response in responses] == [f"/{thread}/{n}" for n in range(20)]

    def run(thread: int) -> None:
        try:
            with asyncio.Runner(loop_factory=loop_factory) as runner:
                for _ in range(3):
                    runner.run(work(thread))
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(client.aclose())


def test_a_closed_client_refuses(runner: asyncio.Runner, url: str) -> None:
    async def main() -> None:
        async with http.AsyncClient() as client:
            await client.get(url)
        assert client.is_closed
        await client.aclose()
        with pytest.raises(RuntimeError, match="closed"):
            await client.get(url)
        with pytest.raises(RuntimeError, match="closed"):
            await client.__aenter__()
        with pytest.raises(RuntimeError, match="closed"):
            client.gather_get([url])

    runner.run(main())


def test_blocking_calls_inside_a_running_loop(runner: asyncio.Runner, url: str) -> None:
    async def main() -> None:
        assert http.get(f"{url}/inside").text == "/inside"
        with http.Client() as client:
            assert (await asyncio.to_thread(client.get, f"{url}/thread")).text == "/thread"
            assert client.get(f"{url}/again").text == "/again"

    runner.run(main())
