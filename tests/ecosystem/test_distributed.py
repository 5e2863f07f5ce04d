"""Dask's scheduler and client on our loop, its nannies and worker processes on loops of ours, too."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest
from distributed import Client, LocalCluster
from tests.ecosystem.dask_work import digest, fail, loop_of, slow_double

EVERYWHERE = Path(__file__).with_name("everywhere")


@pytest.fixture(autouse=True)
def our_loop_in_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(EVERYWHERE), os.environ["PYTHONPATH"]]))


def test_local_cluster(runner: asyncio.Runner) -> None:
    async def work(client: Client) -> None:
        loops = await client.run(loop_of)
        assert list(loops.values()) == ["aioxide._event_loop"] * 2
        squares = client.map(pow, range(500), [2] * 500)
        assert await client.gather(squares) == [number**2 for number in range(500)]
        # A tree of tasks, whose values travel between the workers.
        level = squares
        while len(level) > 1:
            level = [client.submit(sum, level[first : first + 5]) for first in range(0, len(level), 5)]
        assert await level[0].result() == sum(number**2 for number in range(500))
        data = os.urandom(5_000_000)
        scattered = await client.scatter(data, broadcast=True)
        digests = client.map(digest, [scattered] * 40, range(40))
        assert await client.gather(digests) == [digest(data, number) for number in range(40)]
        failures = await client.gather(client.map(fail, range(10)), errors="skip")
        assert failures == []
        with pytest.raises(ZeroDivisionError):
            await client.submit(fail, 1)

    async def lose_a_worker(client: Client) -> None:
        slow = client.map(slow_double, range(60))
        pids = await client.run(os.getpid)
        os.kill(min(pids.values()), signal.SIGKILL)
        assert await client.gather(slow) == list(range(0, 120, 2))
        await client.wait_for_workers(2, timeout=60)

    async def main() -> None:
        options = {"n_workers": 2, "threads_per_worker": 2, "processes": True, "dashboard_address": None}
        async with LocalCluster(**options, asynchronous=True) as cluster:
            async with Client(cluster, asynchronous=True) as client:
                await work(client)
                await lose_a_worker(client)

    runner.run(main())
