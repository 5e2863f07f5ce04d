"""asyncpg on our loop, with a real PostgreSQL: TCP, TLS and its unix socket."""

from __future__ import annotations

import asyncio
import datetime as dt
import io
import random
import ssl
import uuid
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest
from tests.ecosystem import databases

PostgreSQL = databases.Database


@pytest.fixture(scope="module")
def database() -> Iterator[PostgreSQL]:
    with databases.postgresql() as database:
        yield database


def options(database: PostgreSQL, way: str = "tcp") -> dict[str, Any]:
    """How to connect: by `tcp`, `tls` or `unix`."""
    common = {"user": "postgres", "password": databases.PASSWORD, "database": "postgres", "port": database.port}
    if way == "unix":
        return {**common, "host": str(database.folder)}
    if way == "tls":
        context = ssl.create_default_context(cafile=str(database.folder / "certificate.pem"))
        return {**common, "host": "127.0.0.1", "ssl": context}
    return {**common, "host": "127.0.0.1", "ssl": False}


@pytest.mark.parametrize("way", ["tcp", "tls", "unix"])
def test_queries_of_a_pool(runner: asyncio.Runner, database: PostgreSQL, way: str) -> None:
    rng = random.Random(5)
    now = dt.datetime.now(dt.UTC)

    async def query(pool: asyncpg.Pool, number: int) -> None:
        size = rng.choice([0, 100, 300_000])
        values = (number, "é" * (size // 2), rng.randbytes(size), now, uuid.UUID(int=number), [1.5, None, number])
        row = await pool.fetchrow(
            "SELECT $1::int, $2::text, $3::bytea, $4::timestamptz, $5::uuid, $6::float8[]", *values
        )
        assert tuple(row) == values

    async def main() -> None:
        async with asyncpg.create_pool(**options(database, way), min_size=2, max_size=10) as pool:
            assert await pool.fetchval("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") is (way == "tls")
            await asyncio.gather(*(query(pool, number) for number in range(150)))

    runner.run(main())


def test_transfers_in_transactions(runner: asyncio.Runner, database: PostgreSQL) -> None:
    rng = random.Random(6)

    async def transfer(pool: asyncpg.Pool, fail: bool) -> None:
        source, target = rng.sample(range(10), 2)
        while True:
            try:
                async with pool.acquire() as connection, connection.transaction(isolation="serializable"):
                    await connection.execute("UPDATE account SET balance = balance - 7 WHERE id = $1", source)
                    await connection.execute("UPDATE account SET balance = balance + 7 WHERE id = $1", target)
                    if fail:
                        raise ZeroDivisionError
                return
            except ZeroDivisionError:
                return
            except (asyncpg.SerializationError, asyncpg.DeadlockDetectedError):
                await asyncio.sleep(rng.random() / 100)

    async def main() -> None:
        async with asyncpg.create_pool(**options(database), max_size=10) as pool:
            await pool.execute("CREATE TABLE account (id int PRIMARY KEY, balance int NOT NULL)")
            await pool.executemany("INSERT INTO account VALUES ($1, 1000)", [(number,) for number in range(10)])
            await asyncio.gather(*(transfer(pool, number % 5 == 0) for number in range(100)))
            assert await pool.fetchval("SELECT sum(balance) FROM account") == 10_000
            await pool.execute("DROP TABLE account")

    runner.run(main())


@pytest.mark.parametrize("way", ["tcp", "tls"])
def test_copy_and_cursors(runner: asyncio.Runner, database: PostgreSQL, way: str) -> None:
    records = [(number, f"name {number}" * (number % 20)) for number in range(30_000)]

    async def main() -> None:
        connection = await asyncpg.connect(**options(database, way))
        await connection.execute("CREATE TEMP TABLE copied (id int, name text)")
        assert await connection.copy_records_to_table("copied", records=records) == "COPY 30000"
        output = io.BytesIO()
        await connection.copy_from_query("SELECT * FROM copied ORDER BY id", output=output)
        assert output.getvalue().decode().splitlines() == [f"{number}\t{name}" for number, name in records]
        async with connection.transaction():
            statement = "SELECT * FROM copied ORDER BY id"
            assert [tuple(row) async for row in connection.cursor(statement, prefetch=500)] == records
        await connection.close()

    runner.run(main())


def test_notifications(runner: asyncio.Runner, database: PostgreSQL) -> None:
    async def main() -> None:
        listeners = [await asyncpg.connect(**options(database)) for _ in range(5)]
        got: asyncio.Queue[tuple[int, str]] = asyncio.Queue()
        for number, listener in enumerate(listeners):
            await listener.add_listener("news", lambda *args, number=number: got.put_nowait((number, args[3])))
        sender = await asyncpg.connect(**options(database))
        for number in range(100):
            await sender.execute("SELECT pg_notify('news', $1)", str(number))
        heard = [await asyncio.wait_for(got.get(), 10) for _ in range(500)]
        for number in range(5):
            assert [text for who, text in heard if who == number] == [str(n) for n in range(100)]
        await asyncio.gather(*(connection.close() for connection in [*listeners, sender]))

    runner.run(main())


def test_cancelled_queries(runner: asyncio.Runner, database: PostgreSQL) -> None:
    """A query that is cancelled at any moment leaves its connection usable, or replaced by the pool."""
    rng = random.Random(7)

    async def impatient(pool: asyncpg.Pool, patience: float) -> str:
        try:
            async with asyncio.timeout(patience):
                return str(await pool.fetchval("SELECT pg_sleep(0.01)::text || repeat('x', 100000)"))
        except TimeoutError:
            return "gave up"

    async def main() -> None:
        async with asyncpg.create_pool(**options(database), min_size=4, max_size=4) as pool:
            patiences = [rng.random() / 20 for _ in range(60)] + [30] * 20
            results = await asyncio.gather(*(impatient(pool, patience) for patience in patiences))
            assert set(results) == {"gave up", "x" * 100_000} and results[-20:] == ["x" * 100_000] * 20
            with pytest.raises(TimeoutError):
                await pool.fetchval("SELECT pg_sleep(30)", timeout=0.05)
            assert [await pool.fetchval("SELECT $1::int", number) for number in range(8)] == list(range(8))

    runner.run(main())


def test_killed_backend(runner: asyncio.Runner, database: PostgreSQL) -> None:
    async def main() -> None:
        victim, killer = [await asyncpg.connect(**options(database)) for _ in range(2)]
        lost = asyncio.Event()
        victim.add_termination_listener(lambda _connection: lost.set())
        sleeping = asyncio.create_task(victim.execute("SELECT pg_sleep(30)"))
        await asyncio.sleep(0.1)
        assert await killer.fetchval("SELECT pg_terminate_backend($1)", victim.get_server_pid())
        # The one if PostgreSQL's farewell and the end of the connection come apart, the other if together.
        with pytest.raises((asyncpg.AdminShutdownError, asyncpg.ConnectionDoesNotExistError)):
            await sleeping
        await asyncio.wait_for(lost.wait(), 10)
        assert victim.is_closed()
        await killer.close()

    runner.run(main())
