"""redis-py's asyncio client on our loop, with a real Redis."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator

import pytest
from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from tests.ecosystem import databases


@pytest.fixture(scope="module")
def database() -> Iterator[databases.Database]:
    with databases.redis() as database:
        yield database


def test_many_commands(runner: asyncio.Runner, database: databases.Database) -> None:
    rng = random.Random(4)

    async def main() -> None:
        pool = BlockingConnectionPool(host="127.0.0.1", port=database.port, max_connections=20, timeout=30)
        async with Redis(connection_pool=pool) as redis:
            await redis.flushall()

            async def work(number: int) -> None:
                value = rng.randbytes(rng.choice([0, 1, 1000, 200_000]))
                await redis.set(f"key{number}", value)
                assert await redis.get(f"key{number}") == value
                assert await redis.incr("counter") > 0
                async with redis.pipeline(transaction=bool(number % 2)) as pipe:
                    answers = await pipe.rpush("list", number).lrange(f"none{number}", 0, -1).hset("hash", number, "x")
                    assert (await answers.execute())[1:] == [[], 1]

            await asyncio.gather(*(work(number) for number in range(200)))
            assert await redis.get("counter") == b"200"
            assert sorted(map(int, await redis.lrange("list", 0, -1))) == list(range(200))
            assert await redis.hlen("hash") == 200
        await pool.disconnect()

    runner.run(main())


def test_publish_and_subscribe(runner: asyncio.Runner, database: databases.Database) -> None:
    async def subscriber(redis: Redis, ready: asyncio.Barrier) -> list[bytes]:
        async with redis.pubsub() as channel:
            await channel.subscribe("news")
            assert (await channel.get_message(timeout=5))["type"] == "subscribe"
            await ready.wait()
            got = []
            async for message in channel.listen():
                if message["data"] == b"end":
                    return got
                got.append(message["data"])
        raise AssertionError("never told the end")

    async def main() -> None:
        async with Redis(unix_socket_path=str(database.folder / "socket")) as redis:
            ready = asyncio.Barrier(11)
            subscribers = [asyncio.create_task(subscriber(redis, ready)) for _ in range(10)]
            await ready.wait()
            for number in range(300):
                assert await redis.publish("news", number) == 10
            await redis.publish("news", "end")
            assert await asyncio.gather(*subscribers) == [[b"%d" % number for number in range(300)]] * 10

    runner.run(main())


def test_cancelled_while_blocked(runner: asyncio.Runner, database: databases.Database) -> None:
    """A cancelled BLPOP must not leave its answer to whoever has the connection next."""

    async def main() -> None:
        async with Redis(port=database.port, retry=None, socket_timeout=None) as redis:
            await redis.flushall()

            async def impatient(number: int) -> None:
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.01 + number / 2000):
                        await redis.blpop("empty", timeout=30)

            async def patient(number: int) -> bytes:
                answer = await redis.blpop(f"queue{number}", timeout=30)
                return answer[1]

            waiting = [asyncio.create_task(patient(number)) for number in range(20)]
            await asyncio.gather(*(impatient(number) for number in range(20)))
            for number in range(20):
                await redis.rpush(f"queue{number}", number)
            assert await asyncio.gather(*waiting) == [b"%d" % number for number in range(20)]
            assert await redis.echo("whole") == b"whole"

    runner.run(main())


def test_killed_connections(runner: asyncio.Runner, database: databases.Database) -> None:
    async def main() -> None:
        blocking = Redis(port=database.port, retry=None, socket_timeout=None)
        async with Redis(port=database.port) as admin, blocking as redis:
            waiting = [asyncio.create_task(redis.blpop("never", timeout=30)) for _ in range(10)]
            async with asyncio.timeout(10):
                while len(await admin.client_list()) < 11:
                    await asyncio.sleep(0.01)
            await admin.client_kill_filter(_type="normal", skipme=True)
            results = await asyncio.gather(*waiting, return_exceptions=True)
            assert all(isinstance(result, RedisConnectionError) for result in results), results

    runner.run(main())


def test_lock(runner: asyncio.Runner, database: databases.Database) -> None:
    async def main() -> None:
        async with Redis(port=database.port) as redis:
            inside = 0

            async def locked() -> None:
                nonlocal inside
                async with redis.lock("lock", timeout=10, sleep=0.005, blocking_timeout=30):
                    inside += 1
                    assert inside == 1
                    await asyncio.sleep(0.001)
                    inside -= 1

            await asyncio.gather(*(locked() for _ in range(20)))

    runner.run(main())
