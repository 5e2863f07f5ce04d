"""The workers' side: a chunk of rows is fetched on an aioxide loop, by a client that is kept for the next chunk."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import ClassVar, Final

import aioxide
from aioxide import http
from aioxide.fetch import FetchResult, Row
from aioxide.fetch._many import Source, fetch_rows
from aioxide.fetch._robots import Admission
from aioxide.fetch._rows import row_maker
from aioxide.fetch._settings import Settings

# A client that no chunk has asked for is closed after so long.
_IDLE_SECONDS_MAX = 10.0


@dataclass(frozen=True, slots=True)
class Share:
    """What one chunk at a time may do: its part of the limits that hold for the whole cluster.

    `run` is the run's name and `place` the number of the part; all parts together are the whole.
    """

    run: str
    place: int
    concurrency: int
    per_host: int | None
    rate: float | None
    robots: str | None
    parts: int
    settings: Settings

    def split(self, parts: int) -> list[Share]:
        """So many parts, or fewer if the limits do not suffice for so many.

        >>> [share.per_host for share in Share("", 0, 100, 5, None, None, 1, Settings()).split(3)]
        [2, 2, 1]
        >>> len(Share("", 0, 100, 2, None, None, 1, Settings()).split(8))
        2
        """
        parts = min(parts, self.concurrency, self.per_host or parts)
        return [
            dataclasses.replace(
                self,
                place=place,
                concurrency=_part(self.concurrency, parts, place),
                per_host=None if self.per_host is None else _part(self.per_host, parts, place),
                rate=None if self.rate is None else self.rate / parts,
                parts=parts,
            )
            for place in range(parts)
        ]


def _part(whole: int, parts: int, place: int) -> int:
    return whole // parts + (place < whole % parts)


def fetch_chunk(rows: list[Row], share: Share) -> list[FetchResult]:
    """Fetch the rows, as a Dask task: in a thread of the worker's, which waits for the loop's."""
    return asyncio.run_coroutine_threadsafe(_fetch(rows, share), _loop()).result()


async def _fetch(rows: list[Row], share: Share) -> list[FetchResult]:
    kept = _Kept.of(share)
    async with kept.in_use():
        results = fetch_rows(Source(row_maker(), rows), kept.client, "native", share.concurrency, kept.admission)
        async with aclosing(results):
            return [result async for result in results]


class _Kept:
    """The client of a part of a run, with its connections, and what it knows of the hosts."""

    _all: ClassVar[dict[tuple[str, int], _Kept]] = {}

    def __init__(self, share: Share) -> None:
        self._key = (share.run, share.place)
        self.client = http.AsyncClient(**share.settings.of_client(share.concurrency, share.per_host))
        self.admission = Admission(self.client, share.robots, share.rate, share.parts)
        # A part is one chunk at a time, even if Dask has given up a worker that lives and gives its chunk out again.
        self._lock = asyncio.Lock()
        self._idle: asyncio.Task[None] | None = None

    @classmethod
    def of(cls, share: Share) -> _Kept:
        """The part's, from chunk to chunk."""
        key = (share.run, share.place)
        if key not in cls._all:
            cls._all[key] = cls(share)
        return cls._all[key]

    @asynccontextmanager
    async def in_use(self) -> AsyncIterator[None]:
        """Only one chunk at a time has it."""
        async with self._lock:
            # Not before: who has waited for the lock finds what the last one has begun.
            if self._idle is not None:
                self._idle.cancel()
            try:
                yield
            finally:
                self._idle = asyncio.create_task(self._close_when_idle())

    async def _close_when_idle(self) -> None:
        await asyncio.sleep(_IDLE_SECONDS_MAX)
        del self._all[self._key]
        await self.client.aclose()


_starting: Final = threading.Lock()
_running: asyncio.AbstractEventLoop | None = None


def _loop() -> asyncio.AbstractEventLoop:
    """The process's loop for fetching, in a thread of its own: the worker's tasks do not wait for each other."""
    global _running
    with _starting:
        if _running is None:
            _running = aioxide.new_event_loop()
            threading.Thread(target=_running.run_forever, name="aioxide-fetch", daemon=True).start()
        return _running
