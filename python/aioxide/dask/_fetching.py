"""The side of whoever asks: rows go out in chunks, results come back, and the limits hold for the whole cluster."""

from __future__ import annotations

import importlib
import uuid
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Generator, Iterable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

from aioxide import timeline
from aioxide.fetch import FetchResult
from aioxide.fetch._many import Given, Source, in_places
from aioxide.fetch._rows import Row, row_maker
from aioxide.fetch._settings import Settings
from aioxide.timeline._export import write

from ._chunk import Share, fetch_chunk

# One chunk of a worker's travels while the other is fetched.
_PLACES_PER_WORKER = 2
# A chunk whose workers died so often is what kills them. (Dask itself lets a task see three deaths.)
_SUBMISSIONS_MAX = 3


class Fetching:
    """Results of a cluster, as they come: iterate with ``async for``, or with ``for`` where the client blocks.

    Once only.
    """

    def __init__(self, client: Any, chunks: AsyncGenerator[list[FetchResult], None]) -> None:
        self._client = client
        self._chunks = chunks

    async def __aiter__(self) -> AsyncGenerator[FetchResult, None]:
        """Each result; RuntimeError for a blocking client."""
        if not self._client.asynchronous:
            raise RuntimeError("this Dask client is a blocking one: iterate with `for`, or make it asynchronous=True")
        async with aclosing(self._chunks):
            async for chunk in self._chunks:
                for result in chunk:
                    yield result

    def __iter__(self) -> Generator[FetchResult, None, None]:
        """Each result; RuntimeError for an asynchronous client."""
        if self._client.asynchronous:
            raise RuntimeError("this Dask client is asynchronous: iterate with `async for`")
        try:
            while (chunk := self._client.sync(anext, self._chunks, None)) is not None:
                yield from chunk
        finally:
            self._client.sync(self._chunks.aclose)


def fetch_many(
    client: Any,
    rows: Iterable[Given] | AsyncIterable[Given],
    *,
    concurrency: int = 100,
    per_host: int | None = None,
    rate: float | None = None,
    robots: str | None = None,
    settings: Settings | None = None,
    chunk_rows: int = 500,
) -> Fetching:
    """Fetch every row on the workers of a `distributed.Client`, as `aioxide.fetch.fetch_many` does on one machine.

    `concurrency`, `per_host`, `rate` and the pauses that a host's ``robots.txt`` asks for hold for the cluster as a
    whole: the workers that are there at the beginning get equal shares of them. `settings` are those of the workers'
    HTTP clients.

    Rows go out `chunk_rows` at a time, and no more of them are taken than the workers and one waiting chunk need. What
    a worker had under way when it was lost is fetched by another; results that have come are never fetched again.

    Iterating raises ValueError for limits below 1, what `rows` raises, and Dask's KilledWorker for rows that kill each
    worker they are given to.
    """
    for name, value in (("concurrency", concurrency), ("per_host", per_host), ("chunk_rows", chunk_rows)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be 1 or more, not {value}")
    if rate is not None and rate <= 0:
        raise ValueError(f"rate must be more than 0, not {rate}")
    whole = Share(uuid.uuid4().hex, 0, concurrency, per_host, rate, robots, 1, settings or Settings())
    return Fetching(client, _chunks(client, Source(row_maker(), rows), whole, chunk_rows))


async def _chunks(
    client: Any, source: Source, whole: Share, chunk_rows: int
) -> AsyncGenerator[list[FetchResult], None]:
    await client.wait_for_workers(1)
    shares = whole.split(_PLACES_PER_WORKER * len(await client.nthreads()))

    async def fetch(share: Share) -> list[FetchResult] | None:
        chunk = await source.block(chunk_rows)
        return await _fetch_somewhere(client, chunk, share) if chunk else None

    async with aclosing(in_places(shares, fetch)) as chunks:
        async for chunk in chunks:
            yield chunk


async def _fetch_somewhere(client: Any, rows: list[Row], share: Share) -> list[FetchResult]:
    for submission in range(1, _SUBMISSIONS_MAX + 1):
        future = client.submit(fetch_chunk, rows, share, pure=False)
        try:
            results: list[FetchResult] = await future
        except Exception as error:
            # Dask's KilledWorker: the task was on several workers that died, of something else perhaps.
            if type(error).__name__ != "KilledWorker" or submission == _SUBMISSIONS_MAX:
                raise
        else:
            return results
        finally:
            # Whether it is done or nobody wants it any more: the cluster forgets it.
            await client.cancel([future], asynchronous=True)
    raise AssertionError("the last submission has returned or raised")


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[Any]:
    """An asynchronous `distributed.Client` of the scheduler at an address. OSError if it does not answer.

    ValueError without ``distributed``.
    """
    try:
        distributed: Any = importlib.import_module("distributed")
    except ImportError:
        raise ValueError("a Dask cluster needs distributed: pip install 'aioxide[dask]'") from None
    async with distributed.Client(address, asynchronous=True, set_as_default=False) as client:
        yield client


async def dump_timelines(client: Any, path: str) -> list[Path]:
    """Write what each worker's flight recorder has, beside `path`: ``run.html`` gives ``run-0.html`` and so on.

    Gives the files. The formats are those of `aioxide.timeline.dump`.
    """
    name, _, ending = Path(path).name.partition(".")
    snapshots = await client.run(timeline.snapshot)
    files = [Path(path).with_name(f"{name}-{number}.{ending}") for number in range(len(snapshots))]
    for file, snapshot in zip(files, snapshots.values(), strict=True):
        write(file, snapshot)
    return files
