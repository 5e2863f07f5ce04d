"""AsyncClient: requests from coroutines, on any loop."""

from __future__ import annotations

from asyncio import _get_running_loop, sleep
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from ._auth import AuthTypes
from ._client import EventHook, Exchange, Step, methods_gone_round
from ._config import (
    DEFAULT_LIMITS,
    DEFAULT_MAX_REDIRECTS,
    DEFAULT_TIMEOUT_CONFIG,
    USE_CLIENT_DEFAULT,
    Limits,
    TimeoutTypes,
    UseClientDefault,
)
from ._content import AsyncByteStream, RequestContent, RequestData
from ._cookies import CookieTypes
from ._exceptions import RequestError
from ._gather import Gather, gather
from ._headers import HeaderTypes
from ._multipart import RequestFiles
from ._proxies import ProxyTypes
from ._query import QueryParamTypes
from ._request import Request
from ._response import Encoding, Response
from ._retry import Retry
from ._steps import carry_out_async
from ._streams import AsyncBody
from ._transports.base import AsyncBaseTransport
from ._transports.default_async import AsyncHTTPTransport, is_native
from ._urls import URLTypes
from ._verbs import AsyncVerbs
from ._websocket_client import AsyncWebSocketOpening
from ._wire import with_request

if TYPE_CHECKING:
    from asyncio import Task

    from aioxide._native import RawResponse

    from ._cache.bodies import BodyKeeper
    from ._cache.cache import Cache


class AsyncClient(AsyncVerbs, AsyncWebSocketOpening):
    """An HTTP client for coroutines, with httpx's parameters. Connections are kept and used again.

    On aioxide's loop a request runs as a Rust future on the loop's own thread; on another asyncio loop it runs on a
    background thread, which costs two hops between threads. One client may be used from several loops in several
    threads at once; each has its own connections. Cancelling a task that waits drops its request and connection.

    The parameters are those of Client, and so is what is raised.

    >>> import asyncio
    >>> from aioxide import http
    >>> from aioxide._native import HttpServer
    >>> async def main(url):
    ...     async with http.AsyncClient(base_url=url) as client:
    ...         responses = await asyncio.gather(client.get("/1"), client.get("/2"))
    ...         return [response.status_code for response in responses]
    >>> with HttpServer() as server:
    ...     asyncio.run(main(server.url))
    [200, 200]
    """

    _native_transport = AsyncHTTPTransport
    _is_native = staticmethod(is_native)

    def __init__(
        self,
        *,
        auth: AuthTypes | None = None,
        params: QueryParamTypes | None = None,
        headers: HeaderTypes | None = None,
        cookies: CookieTypes | None = None,
        verify: Any = True,
        cert: Any = None,
        trust_env: bool = True,
        http1: bool = True,
        http2: bool = False,
        proxy: ProxyTypes | None = None,
        mounts: Mapping[str, AsyncBaseTransport | None] | None = None,
        timeout: TimeoutTypes = DEFAULT_TIMEOUT_CONFIG,
        follow_redirects: bool = False,
        limits: Limits = DEFAULT_LIMITS,
        max_redirects: int = DEFAULT_MAX_REDIRECTS,
        event_hooks: Mapping[str, list[EventHook]] | None = None,
        base_url: URLTypes = "",
        transport: AsyncBaseTransport | None = None,
        default_encoding: Encoding = "utf-8",
        max_decoded_bytes: int | None = None,
        retry: Retry | None = None,
        cache: Cache | bool | None = None,
        hedge_after: float | None = None,
        hedge_budget: float = 0.1,
        json_dumps: Callable[[Any], str | bytes] | None = None,
        json_loads: Callable[[bytes], Any] | None = None,
    ) -> None:
        super().__init__(
            auth=auth,
            params=params,
            headers=headers,
            cookies=cookies,
            timeout=timeout,
            follow_redirects=follow_redirects,
            max_redirects=max_redirects,
            event_hooks=event_hooks,
            base_url=base_url,
            trust_env=trust_env,
            default_encoding=default_encoding,
            transport=transport,
            mounts=mounts,
            proxy=proxy,
            max_decoded_bytes=max_decoded_bytes,
            retry=retry,
            cache=cache,
            hedge_after=hedge_after,
            native={"verify": verify, "cert": cert, "http1": http1, "http2": http2, "limits": limits},
            hedge_budget=hedge_budget,
            json_dumps=json_dumps,
            json_loads=json_loads,
        )
        self._background: set[Task[None]] = set()  # stale responses of the cache are revalidated

    async def request(
        self,
        method: str,
        url: URLTypes,
        *,
        content: RequestContent | None = None,
        data: RequestData | None = None,
        files: RequestFiles | None = None,
        json: Any = None,
        params: QueryParamTypes | None = None,
        headers: HeaderTypes | None = None,
        cookies: CookieTypes | None = None,
        auth: AuthTypes | UseClientDefault | None = USE_CLIENT_DEFAULT,
        follow_redirects: bool | UseClientDefault = USE_CLIENT_DEFAULT,
        timeout: TimeoutTypes | UseClientDefault = USE_CLIENT_DEFAULT,
        extensions: Mapping[str, Any] | None = None,
    ) -> Response:
        """Send a request and give the response, its body read.

        The other methods say `method` by their name and are alike.

        The body is one of `content`, `data`, `files` (with `data`: multipart), `json`. See the class for what is
        raised.
        """
        request = self.build_request(
            method,
            url,
            content=content,
            data=data,
            files=files,
            json=json,
            params=params,
            headers=headers,
            cookies=cookies,
            timeout=timeout,
            extensions=extensions,
        )
        return await self.send(request, auth=auth, follow_redirects=follow_redirects)

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        url: URLTypes,
        *,
        content: RequestContent | None = None,
        data: RequestData | None = None,
        files: RequestFiles | None = None,
        json: Any = None,
        params: QueryParamTypes | None = None,
        headers: HeaderTypes | None = None,
        cookies: CookieTypes | None = None,
        auth: AuthTypes | UseClientDefault | None = USE_CLIENT_DEFAULT,
        follow_redirects: bool | UseClientDefault = USE_CLIENT_DEFAULT,
        timeout: TimeoutTypes | UseClientDefault = USE_CLIENT_DEFAULT,
        extensions: Mapping[str, Any] | None = None,
    ) -> AsyncIterator[Response]:
        """Send a request and give the response as soon as its head has come.

        To be used as ``async with client.stream("GET", url) as response:``; read the body with the ``aiter_`` methods.
        Leaving the block closes the response, wherever its reading stands.
        """
        request = self.build_request(
            method,
            url,
            content=content,
            data=data,
            files=files,
            json=json,
            params=params,
            headers=headers,
            cookies=cookies,
            timeout=timeout,
            extensions=extensions,
        )
        response = await self.send(request, auth=auth, follow_redirects=follow_redirects, stream=True)
        try:
            yield response
        finally:
            await response.aclose()

    async def get(
        self,
        url: URLTypes,
        *,
        params: QueryParamTypes | None = None,
        headers: HeaderTypes | None = None,
        cookies: CookieTypes | None = None,
        auth: AuthTypes | UseClientDefault | None = USE_CLIENT_DEFAULT,
        follow_redirects: bool | UseClientDefault = USE_CLIENT_DEFAULT,
        timeout: TimeoutTypes | UseClientDefault = USE_CLIENT_DEFAULT,
        extensions: Mapping[str, Any] | None = None,
    ) -> Response:
        """Send a GET request. See `request`."""
        if (
            type(url) is str
            and params is headers is cookies is extensions is None
            and auth is follow_redirects is timeout is USE_CLIENT_DEFAULT
            and (plain := self._find_plain()) is not None
            and (pending := plain.fetch(_get_running_loop(), "GET", url := self._absolute(url))) is not None
        ):
            try:
                raw = await pending.future
            except BaseException as error:
                plain.give_up(pending, error, "GET", url)
                raise
            return self._respond(raw, (plain, "GET", url))
        return await self.request(
            "GET",
            url,
            params=params,
            headers=headers,
            cookies=cookies,
            auth=auth,
            follow_redirects=follow_redirects,
            timeout=timeout,
            extensions=extensions,
        )

    async def send(
        self,
        request: Request,
        *,
        stream: bool = False,
        auth: AuthTypes | UseClientDefault | None = USE_CLIENT_DEFAULT,
        follow_redirects: bool | UseClientDefault = USE_CLIENT_DEFAULT,
    ) -> Response:
        """Send a request made by `build_request` or by hand.

        With `stream` the body is left unread, and the response must be closed.
        """
        if not stream and "download_progress" in request.extensions:
            response = await self.send(request, stream=True, auth=auth, follow_redirects=follow_redirects)
            try:
                await response.aread()
            finally:
                await response.aclose()
            return response
        self._check_open()
        self._set_timeout(request)
        follow = self.follow_redirects if isinstance(follow_redirects, UseClientDefault) else follow_redirects
        chosen = self._request_auth(request, auth)
        if self._is_plain(follow, chosen):
            transport = self._transport_for_url(request.url)
            if is_native(transport):
                # As _send_one would, without a coroutine of its own.
                started = perf_counter()
                try:
                    raw = await transport._fetch(request, stream)
                except RequestError as error:
                    raise with_request(error, request) from error.__cause__
                return self._finish_plain(self._wrap(raw, request, started, stream))
            return self._finish_plain(await self._send_one(request, stream))
        return await self._carry_out(self._exchange(request, chosen, follow), stream)

    def _carry_out(self, exchange: Exchange, stream: bool) -> Awaitable[Response]:
        return carry_out_async(exchange, lambda step: self._perform(step, stream))

    async def _perform(self, step: Step, stream: bool) -> Any:
        kind, subject, argument = step
        if kind == "send":
            return await (self._upgrade_one if "websocket" in subject.extensions else self._send_one)(subject, stream)
        if kind == "hook":
            result = subject(argument)
            return await result if hasattr(result, "__await__") else result
        if kind == "sleep":
            return await sleep(subject)
        if kind == "flow":
            return subject.async_auth_flow(argument)
        if kind == "next":
            try:
                return await (subject.__anext__() if argument is None else subject.asend(argument))
            except StopAsyncIteration:
                return None
        return await (subject.aread() if kind == "read" else subject.aclose())

    async def _send_one(self, request: Request, stream: bool) -> Response:
        if self._cache is None:
            return await self._send_upstream(request, stream, None)
        from ._cache.steps import send_async

        started = perf_counter()
        response = await send_async(self, self._cache, request, stream)
        return await self._read_unless(stream, self._adopt_response(response, request, started))

    async def _send_upstream(self, request: Request, stream: bool, keeper: BodyKeeper | None) -> Response:
        """Hand the request to its transport; the keeper, if there is one, gets the response's body."""
        transport = self._transport_for_url(request.url)
        started = perf_counter()
        if is_native(transport):
            try:
                raw = await transport._fetch(request, stream)
            except RequestError as error:
                raise with_request(error, request) from error.__cause__
            response = self._wrap(raw, request, started, stream)
            if keeper is not None:
                keeper.watch(response, AsyncByteStream)
            return response
        if not isinstance(request.stream, AsyncByteStream):
            raise RuntimeError("the request's body is a blocking iterable: async code cannot send it")
        try:
            response = self._adopt_response(await transport.handle_async_request(request), request, started)
        except RequestError as error:
            raise with_request(error, request) from error.__cause__
        if keeper is not None:
            keeper.watch(response, AsyncByteStream)
        return await self._read_unless(stream, response)

    async def _read_unless(self, stream: bool, response: Response) -> Response:
        """The response, with its body unless that is left to be streamed."""
        if not stream:
            try:
                await response.aread()
            except BaseException as error:
                await response.aclose()
                if isinstance(error, RequestError):
                    with_request(error, response.request)
                raise
        return response

    def _wrap(self, raw: RawResponse, request: Request, started: float, stream: bool) -> Response:
        kind = AsyncBody if stream else None
        return Response._from_core(raw, request, started, self._default_encoding, kind, self._max_decoded_bytes)

    def gather_get(
        self,
        urls: Iterable[URLTypes],
        *,
        limit: int = 100,
        return_exceptions: bool = False,
        headers: HeaderTypes | None = None,
        timeout: TimeoutTypes | UseClientDefault = USE_CLIENT_DEFAULT,
    ) -> Gather:
        """As `aioxide.http.gather_get`, over this client's settings and connections.

        The requests are driven in Rust if there is nothing to decide about each. Each is a task that sends it as the
        client does if that follows redirects, retries, has a cache or event hooks, if its `auth` may need several
        requests, and where URLs go through a custom transport or several proxies.
        """
        self._check_open()
        urls = list(urls)
        if not (self.follow_redirects or self._retry is not None or self._cache is not None):
            try:
                return gather(
                    self, urls, limit=limit, return_exceptions=return_exceptions, headers=headers, timeout=timeout
                )
            except NotImplementedError:
                pass
        from ._gather_tasks import TaskGather

        requests = [self.build_request("GET", url, headers=headers, timeout=timeout) for url in urls]
        return TaskGather(self, requests, limit=limit, return_exceptions=return_exceptions)

    async def aclose(self) -> None:
        """Close the client and its idle connections. Requests that are under way are not cut off.

        May be called again.
        """
        if not self._closed:
            self._closed = True
            await self._end_background()
            for transport in self._transports():
                await transport.aclose()

    async def _end_background(self) -> None:
        if self._background:
            from ._cache.steps import end_background

            await end_background(self._background)

    async def __aenter__(self) -> Self:
        self._enter()
        for transport in self._transports():
            await transport.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        self._closed = True
        await self._end_background()
        for transport in self._transports():
            await transport.__aexit__(exc_type, exc, traceback)


AsyncClient._methods = methods_gone_round(AsyncClient)
