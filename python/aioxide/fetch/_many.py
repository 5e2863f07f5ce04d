"""`fetch_many`: an endless stream of requests, with as many under way as are wanted, in memory that does not grow."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias, TypeVar

from aioxide import http
from aioxide.http._gather import gather

from ._robots import Admission, RobotsDisallowedError
from ._rows import Row, row_maker

_Place = TypeVar("_Place")
_Result = TypeVar("_Result")

Given: TypeAlias = str | Row | Mapping[str, Any]

# What has an answer of its own, in place of a response.
ERRORS = (http.HTTPError, http.InvalidURL, RobotsDisallowedError)
# So many rows at least are handed to the native core at once, that its end, where few are under way, is seldom.
_BLOCK_ROWS_MIN = 2000


@dataclass(frozen=True, slots=True)
class FetchResult:
    """A row that is done: its response or its error (the other is None), and how many seconds it took."""

    row: Row
    response: http.Response | None
    error: Exception | None
    seconds: float

    @property
    def status(self) -> int | None:
        """The response's status; None if there was none."""
        return None if self.response is None else self.response.status_code


async def fetch_many(
    rows: Iterable[Given] | AsyncIterable[Given],
    *,
    client: http.AsyncClient | None = None,
    style: Literal["native", "async"] = "native",
    concurrency: int = 100,
    rate: float | None = None,
    robots: str | None = None,
) -> AsyncGenerator[FetchResult, None]:
    """Fetch every row, and give each result as it comes.

    `rows`: URLs, `Row`s, or mappings with ``url`` and maybe ``method``, ``headers``, ``body``; they may be endless, for
    no more are taken than `concurrency` needs, and a consumer that pauses makes the sockets pause.

    `client`: whose settings and connections are used; one of its own if there is none. `style`: ``native`` has plain
    GETs driven in Rust where the client allows it, ``async`` has a task for each. `rate`: requests begun each second at
    most. `robots`: the user agent by which ``robots.txt`` and its crawl delays are heeded.

    A failed row is a result with an `error`; what `rows` itself raises ends the run. ValueError for limits below 1.
    """
    if concurrency < 1:
        raise ValueError(f"concurrency must be 1 or more, not {concurrency}")
    if rate is not None and rate <= 0:
        raise ValueError(f"rate must be more than 0, not {rate}")
    make = row_maker()
    async with AsyncExitStack() as stack:
        if client is None:
            limits = http.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
            client = await stack.enter_async_context(http.AsyncClient(limits=limits))
        results = fetch_rows(Source(make, rows), client, style, concurrency, Admission(client, robots, rate))
        async with aclosing(results):
            async for result in results:
                yield result


def fetch_rows(
    source: Source, client: http.AsyncClient, style: Literal["native", "async"], concurrency: int, admission: Admission
) -> AsyncGenerator[FetchResult, None]:
    """As `fetch_many`, with what that makes first."""
    if style == "native" and admission.is_free:
        return _in_blocks(client, source, concurrency)
    return _in_tasks(client, source, concurrency, admission)


class Source:
    """The rows, taken one at a time by whoever has room."""

    def __init__(self, make: Callable[[Given], Row], rows: Iterable[Given] | AsyncIterable[Given]) -> None:
        self._make = make
        self._lock = asyncio.Lock()
        self._awaited = aiter(rows) if isinstance(rows, AsyncIterable) else None
        self._given = None if isinstance(rows, AsyncIterable) else iter(rows)

    async def next(self) -> Row | None:
        """The next row; None after the last."""
        if self._given is not None:
            given = next(self._given, None)
        else:
            assert self._awaited is not None
            # An async generator serves one at a time.
            async with self._lock:
                given = await anext(self._awaited, None)
        return None if given is None else self._make(given)

    async def block(self, count: int) -> list[Row]:
        """The next rows, `count` of them unless there are no more."""
        rows: list[Row] = []
        while len(rows) < count and (row := await self.next()) is not None:
            rows.append(row)
        return rows


class Admit(Protocol):
    """Whoever says when a row may be fetched."""

    async def admit(self, row: Row) -> dict[str, Any]:
        """Return then, with the request's extensions; one of `ERRORS` if it may not be."""


class Postponed:
    """Rows that Rust has sent once, and when they may be sent again."""

    def __init__(self) -> None:
        self._due: dict[int, float] = {}

    def add(self, row: Row, pause: float) -> None:
        """The row may be sent again in so many seconds."""
        self._due[row.index] = time.monotonic() + pause

    async def admit(self, row: Row) -> dict[str, Any]:
        """Wait until then; the client has to know of the first try."""
        if (due := self._due.get(row.index)) is None:
            return {}
        await asyncio.sleep(due - time.monotonic())
        return {"attempt": 2}


async def fetch_row(client: http.AsyncClient, row: Row, admission: Admit) -> FetchResult:
    """Fetch one row, once it is admitted."""
    begin = time.monotonic()
    try:
        extensions = await admission.admit(row)
        begin = time.monotonic()
        response = await client.request(
            row.method, row.url, headers=row.headers, content=row.body, extensions=extensions
        )
    except ERRORS as error:
        return FetchResult(row, None, error, time.monotonic() - begin)
    return FetchResult(row, response, None, time.monotonic() - begin)


def _in_tasks(
    client: http.AsyncClient, source: Source, concurrency: int, admission: Admit
) -> AsyncGenerator[FetchResult, None]:
    """A task for each place, which takes a row and fetches it."""

    async def fetch_next(_place: int) -> FetchResult | None:
        row = await source.next()
        return None if row is None else await fetch_row(client, row, admission)

    return in_places(range(concurrency), fetch_next)


async def in_places(
    places: Iterable[_Place], fetch: Callable[[_Place], Awaitable[_Result | None]]
) -> AsyncGenerator[_Result, None]:
    """A task for each place calls `fetch` for one result after the other, until that gives None.

    It waits until its result is taken before it goes on.
    """
    results: asyncio.Queue[_Result | BaseException | None] = asyncio.Queue(1)

    async def work(place: _Place) -> None:
        try:
            while (result := await fetch(place)) is not None:
                await results.put(result)
        except Exception as error:  # noqa: BLE001 - the consumer gets it
            await results.put(error)
        else:
            await results.put(None)

    workers = [asyncio.create_task(work(place)) for place in places]
    try:
        left = len(workers)
        while left:
            result = await results.get()
            if isinstance(result, BaseException):
                raise result
            if result is None:
                left -= 1
            else:
                yield result
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


async def _in_blocks(client: http.AsyncClient, source: Source, concurrency: int) -> AsyncGenerator[FetchResult, None]:
    """Blocks of rows are driven in Rust; what needs more than that is fetched by tasks after its block."""
    while rows := await source.block(max(_BLOCK_ROWS_MIN, 20 * concurrency)):
        plain = [row for row in rows if row.is_plain]
        rest = [row for row in rows if not row.is_plain]
        postponed = Postponed()
        try:
            requests = gather(client, [row.url for row in plain], limit=concurrency)
        except (NotImplementedError, http.InvalidURL):
            rest = rows
        else:
            async with requests:
                async for done in requests:
                    row = plain[done.index]
                    if (pause := _pause_before_retry(client, done)) is not None:
                        postponed.add(row, pause)
                        rest.append(row)
                    elif client.follow_redirects and done.response and done.response.has_redirect_location:
                        rest.append(row)
                    else:
                        seconds = 0.0 if done.response is None else done.response.elapsed.total_seconds()
                        yield FetchResult(row, done.response, done.error, seconds)
        async with aclosing(_in_tasks(client, Source(row_maker(), rest), concurrency, postponed)) as results:
            async for result in results:
                yield result


def _pause_before_retry(client: http.AsyncClient, done: http.Completed) -> float | None:
    """How many seconds later the client sends a row again; None if what came stands."""
    retry = client._retry
    if retry is None:
        return None
    retry.count_request()
    if done.response is not None:
        if done.response.status_code not in retry.statuses:
            return None
        return retry.pause_after_response(done.response.request, done.response, 1)
    if isinstance(done.error, http.TransportError):
        return retry.pause_after_error(done.error.request, done.error, 1)
    return None
