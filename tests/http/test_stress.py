"""Many requests, cancelled at random, and many loops: nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from aioxide import http, httpclient

from .conftest import resident_bytes

LoopFactory = Callable[[], asyncio.AbstractEventLoop]
PATHS = (
    "/plain",
    "/delay/3",
    "/bytes/5000",
    "/stream/3/100/1",
    "/close",
    "/truncate",
    "/garbage",
    "/redirect/2",
    "/status/500",
)


# `make stress` asks for more rounds, 20 of which make 100,000 requests.
REQUESTS = 5000 * int(os.environ["AIOXIDE_STRESS_ROUNDS"]) if "AIOXIDE_STRESS_ROUNDS" in os.environ else 600


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors in /proc")
@pytest.mark.parametrize(
    "limits",
    [
        http.Limits(max_connections=10, max_keepalive_connections=5),
        http.Limits(max_connections=10, max_connections_per_host=10),
    ],
    ids=["for all hosts", "for each host"],
)
def test_random_cancellation_leaves_the_pool_whole(runner: asyncio.Runner, url: str, limits: http.Limits) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)

    async def request(client: http.AsyncClient) -> None:
        path = dice.choice(PATHS)
        try:
            if dice.random() < 0.3:
                async with client.stream("GET", path, follow_redirects=True) as response:
                    async for _ in response.aiter_bytes():
                        if dice.random() < 0.3:
                            break
            else:
                await client.get(path, follow_redirects=dice.random() < 0.5, timeout=dice.choice([0.001, 0.01, 5]))
        except http.HTTPError as error:
            assert error.request.url.path  # it knows what failed

    async def maybe_cancelled(client: http.AsyncClient, gate: asyncio.Semaphore) -> None:
        async with gate:
            task = asyncio.ensure_future(request(client))
            if dice.random() < 0.4:
                await asyncio.sleep(dice.random() * 0.01)
                task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                assert task.cancelled()

    async def main() -> None:
        async with http.AsyncClient(base_url=url, limits=limits) as client:
            gate = asyncio.Semaphore(50)
            descriptors, memory = open_descriptors(), resident_bytes()
            for _ in range(0, REQUESTS, 600):
                await asyncio.gather(*(maybe_cancelled(client, gate) for _ in range(600)))
            await asyncio.sleep(0.1)
            gc.collect()
            assert open_descriptors() <= descriptors + 20  # both ends of at most ten connections
            assert resident_bytes() - memory < 64 * 2**20
            statistics = client.statistics()
            assert (statistics["requests_in_flight"], statistics["requests_waiting"]) == (0, 0)
            assert statistics["connections_open"] == statistics["connections_idle"] <= 10
            texts = [response.text for response in await asyncio.gather(*(client.get(f"/{n}") for n in range(50)))]
            assert texts == [f"/{n}" for n in range(50)]

    runner.run(main())


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors in /proc")
def test_many_loops_leave_nothing_behind(loop_factory: LoopFactory, url: str) -> None:
    client = http.AsyncClient(base_url=url)

    async def main() -> None:
        await client.get("/")
        await httpclient.AsyncHTTPClient().fetch(url)
        async for _ in http.gather_get([url, url]):
            pass

    def rounds(count: int) -> tuple[int, int]:
        for _ in range(count):
            with asyncio.Runner(loop_factory=loop_factory) as runner:
                runner.run(main())
        gc.collect()
        return open_descriptors(), resident_bytes()

    descriptors, memory = rounds(50)
    descriptors_after, memory_after = rounds(200)
    asyncio.run(client.aclose())
    assert descriptors_after <= descriptors + 2
    assert memory_after - memory < 4 * 2**20


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors in /proc")
def test_many_threads_leave_nothing_behind(url: str) -> None:
    problems: list[BaseException] = []

    def work(shared: http.Client) -> None:
        try:
            for _ in range(3):
                assert shared.get("/").status_code == 200
            assert http.get(url).status_code == 200
            assert httpclient.HTTPClient().fetch(url).code == 200
        except BaseException as problem:
            problems.append(problem)

    def rounds(count: int) -> tuple[int, int]:
        with http.Client(base_url=url) as shared:
            for _ in range(count):
                threads = [threading.Thread(target=work, args=(shared,)) for _ in range(8)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
        gc.collect()
        return open_descriptors(), resident_bytes()

    descriptors, memory = rounds(5)
    descriptors_after, memory_after = rounds(20)
    assert not problems
    assert descriptors_after <= descriptors + 2
    assert memory_after - memory < 4 * 2**20
