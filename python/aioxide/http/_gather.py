"""Gather: many requests as one, driven by the native core."""

from __future__ import annotations

from asyncio import get_running_loop
from collections.abc import AsyncIterator, Callable, Generator, Iterable
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from aioxide._native import Completed

from ._auth import authenticate_once
from ._config import USE_CLIENT_DEFAULT, TimeoutTypes, UseClientDefault
from ._exceptions import RequestError
from ._response import Response
from ._wire import timeouts, wire_url, with_request

if TYPE_CHECKING:
    from aioxide._native import FetchMany, HttpClient, RawResponse

    from ._async import AsyncClient
    from ._headers import HeaderTypes
    from ._plain import Plain
    from ._request import Request
    from ._urls import URLTypes


class Gather:
    """Requests under way together: await it for all responses in order, or iterate to get each as it completes.

    Once only, on one loop.

    Nothing is sent before that. Ending it early drops the requests that are left, with their connections: cancelling
    the task that awaits it, leaving ``async with``, or `aclose()`; after a ``break`` out of ``async for`` use one of
    the latter two.

    >>> import asyncio
    >>> from aioxide import http
    >>> from aioxide._native import HttpServer
    >>> async def main(url):
    ...     urls = [f"{url}/status/200", f"{url}/close"]
    ...     async with http.gather_get(urls) as requests:
    ...         return sorted([(done.index, done.error is None) async for done in requests])
    >>> with HttpServer() as server:
    ...     asyncio.run(main(server.url))
    [(0, True), (1, False)]
    """

    def __init__(
        self, client: AsyncClient, core: HttpClient, requests: list[Request], *, limit: int, return_exceptions: bool
    ) -> None:
        if limit < 1:
            raise ValueError(f"limit= is how many requests may be under way at once: at least 1, not {limit}")
        self._client = client
        self._core = core
        self._requests = requests
        self._limit = limit
        self._return_exceptions = return_exceptions
        self.owns_client = False  # whether the client is closed with it
        self._started = 0.0
        self._many: FetchMany | None = None
        self._used = False
        self._refused: list[Completed] = []

    def __len__(self) -> int:
        """How many requests there are."""
        return len(self._requests)

    def _use(self) -> None:
        if self._used:
            raise RuntimeError("a Gather can be awaited or iterated once only")
        self._used = True

    def _start(self) -> None:
        self._use()
        sent: list[tuple[str, str, Any, Any]] = []
        self._places: list[int] = []
        for index, request in enumerate(self._requests):
            try:
                sent.append((request.method, wire_url(request), request.headers._list, request.content or None))
                self._places.append(index)
            except RequestError as error:
                self._refused.append(Completed(index, request.url, None, error))
        if sent:
            self._started = perf_counter()
            # All come from one client with one timeout.
            limits = timeouts(self._requests[0])
            self._many = self._core.fetch_many(
                get_running_loop(), sent, limit=self._limit, hedge_after=self._client._hedge_after, **limits
            )

    def __aiter__(self) -> AsyncIterator[Completed]:
        self._start()
        return self

    def _source(self) -> AsyncIterator[Completed]:
        """What to iterate over for who closes this in any case."""
        return self

    async def __anext__(self) -> Completed:
        if self._refused:
            return self._refused.pop(0)
        if self._many is None:
            await self.aclose()
            raise StopAsyncIteration
        try:
            item: Any = await self._many.__anext__()
        except BaseException:
            # The end as well as a cancellation.
            await self.aclose()
            raise
        return self._completed(item)

    def _completed(self, item: Any) -> Completed:
        place, outcome = item
        index = self._places[place]
        request = self._requests[index]
        if isinstance(outcome, Exception):
            if isinstance(outcome, RequestError):
                with_request(outcome, request)
            return Completed(index, request.url, None, outcome)
        try:
            client = self._client
            response = Response._from_core(
                outcome, request, self._started, client._default_encoding, None, client._max_decoded_bytes
            )
            client._finish_plain(response)
        except RequestError as error:
            return Completed(index, request.url, None, with_request(error, request))
        return Completed(index, request.url, response, None)

    def __await__(self) -> Generator[Any, None, list[Any]]:
        return self._all().__await__()

    async def _all(self) -> list[Any]:
        results: list[Any] = [None] * len(self)
        async with self:
            async for done in self._source():
                error = done.error
                if error is not None and not self._return_exceptions:
                    raise error
                results[done.index] = done.response if error is None else error
        return results

    async def aclose(self) -> None:
        """Drop the requests that are still under way. May be called again."""
        self._used = True
        self._refused = []
        many, self._many = self._many, None
        if many is not None:
            many.close()
        if self.owns_client:
            await self._client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


class PlainGather(Gather):
    """A Gather of plain requests: nothing of Python's is made for one before it is done, and then by the core."""

    def __init__(
        self, client: AsyncClient, plain: Plain, urls: list[str], *, limit: int, return_exceptions: bool
    ) -> None:
        super().__init__(client, plain.core, [], limit=limit, return_exceptions=return_exceptions)
        self._plain = plain
        self._urls = urls

    def __len__(self) -> int:
        """How many requests there are."""
        return len(self._urls)

    def _start(self) -> None:
        self._use()
        if self._urls:
            self._many = self._plain.fetch_many(
                get_running_loop(), self._urls, self._limit, _responder(self._client, self._plain)
            )

    def __aiter__(self) -> AsyncIterator[Completed]:
        self._start()
        # A client of its own is closed after the last one.
        return self if self._many is None or self.owns_client else self._many

    def _source(self) -> AsyncIterator[Completed]:
        if not self._urls:
            return self
        self._start()
        return self if self._many is None else self._many

    def _completed(self, item: Any) -> Completed:
        completed: Completed = item
        return completed


def _responder(client: AsyncClient, plain: Plain) -> Callable[[RawResponse | Exception, str], Response | Exception]:
    """What makes a response of an answer to a plain request, and has an error know its request."""

    def respond(outcome: RawResponse | Exception, url: str) -> Response | Exception:
        try:
            if not isinstance(outcome, Exception):
                return client._respond(outcome, (plain, "GET", url))
            if not isinstance(outcome, RequestError):
                return outcome
            error = outcome
        except RequestError as undecoded:
            error = undecoded
        return with_request(error, plain.request("GET", url))

    return respond


def gather(
    client: AsyncClient,
    urls: Iterable[URLTypes],
    *,
    limit: int,
    return_exceptions: bool = False,
    headers: HeaderTypes | None = None,
    timeout: TimeoutTypes | UseClientDefault = USE_CLIENT_DEFAULT,
) -> Gather:
    """As `AsyncClient.gather_get`, each URL asked once, in Rust, for a caller who sees to redirects and retries.

    NotImplementedError where more is to be decided than Rust can.
    """
    client._check_open()
    if any(client._event_hooks.values()):
        raise NotImplementedError("event hooks are called by tasks")
    urls = list(urls)
    if headers is None and timeout is USE_CLIENT_DEFAULT and (plain := client._find_plain()) is not None:
        if plain.can_fetch(urls):
            return PlainGather(client, plain, urls, limit=limit, return_exceptions=return_exceptions)
    requests = [client.build_request("GET", url, headers=headers, timeout=timeout) for url in urls]
    for request in requests:
        authenticate_once(request, client._request_auth(request, USE_CLIENT_DEFAULT))
    transports = {id(each): each for each in map(client._transport_for_url, [each.url for each in requests])}
    transport = next(iter(transports.values()), client._transport)
    if len(transports) > 1 or not client._is_native(transport):
        raise NotImplementedError("custom transports, or several at once, are used by tasks")
    return Gather(client, transport._core, requests, limit=limit, return_exceptions=return_exceptions)
