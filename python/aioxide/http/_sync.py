"""Client: requests from blocking code, from any number of threads at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
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
from ._content import RequestContent, RequestData, SyncByteStream
from ._cookies import CookieTypes
from ._exceptions import RequestError
from ._headers import HeaderTypes
from ._multipart import RequestFiles
from ._proxies import ProxyTypes
from ._query import QueryParamTypes
from ._request import Request
from ._response import Encoding, Response
from ._retry import Retry
from ._steps import carry_out
from ._streams import BlockingBody
from ._transports.base import BaseTransport
from ._transports.default import HTTPTransport, is_native
from ._urls import URLTypes
from ._verbs import BlockingVerbs
from ._websocket_client import WebSocketOpening
from ._wire import with_request

if TYPE_CHECKING:
    from ._cache.bodies import BodyKeeper
    from ._cache.cache import Cache


class Client(BlockingVerbs, WebSocketOpening):
    """An HTTP client for blocking code, with httpx's parameters. Connections are kept and used again.

    One client serves any number of threads at once; the interpreter is free for others while a call waits. Inside a
    running event loop a call works too, but blocks that loop: use an AsyncClient there. Ctrl-C interrupts a call.

    `params`, `headers`, `cookies`, `auth`, `timeout`, `follow_redirects` hold for every request that does not say
    otherwise; relative URLs are appended to `base_url`. `transport` takes the place of the native core, `mounts` does
    so for the URLs of a pattern, `proxy` is the proxy of all requests; else the environment names proxies, unless
    `trust_env` is False. `verify` and `cert` are for https, as `create_ssl_context` says; an `ssl.SSLContext` is
    honoured whole. With `http2` that protocol is spoken where a server chooses it in the TLS handshake, and with every
    server if `http1` is False; one connection then serves many requests at once. Beyond httpx: a body that
    decodes to more than `max_decoded_bytes` raises DecodingError, which is what a decompression bomb needs; `retry`
    says when a request is sent once more; `cache` (True, or a Cache) stores responses and uses them again.

    `json_dumps` and `json_loads` take the place of the standard library's for ``json=`` and ``Response.json()``.

    `hedge_after`: a request that has not been answered after so many seconds is sent a second time, on another
    connection, and the sooner answer is taken, if sending it twice is harmless (an idempotent method, no streamed body)
    and a connection can be had at once; ``Response.timeline`` then has the time of ``hedge``. A request's own is its
    extension ``hedge_after``, None for never. In the long run at most the share `hedge_budget` of the requests that may
    be hedged is; ten more are free. Only the native core does that, not a custom `transport`.

    Calls raise an HTTPError's subclass when no whole response came, InvalidURL, and RuntimeError once the client is
    closed.

    >>> from aioxide import http
    >>> from aioxide._native import HttpServer
    >>> with HttpServer() as server, http.Client(base_url=server.url) as client:
    ...     response = client.get("/hello")
    >>> response.status_code
    200
    """

    _native_transport = HTTPTransport
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
        mounts: Mapping[str, BaseTransport | None] | None = None,
        timeout: TimeoutTypes = DEFAULT_TIMEOUT_CONFIG,
        follow_redirects: bool = False,
        limits: Limits = DEFAULT_LIMITS,
        max_redirects: int = DEFAULT_MAX_REDIRECTS,
        event_hooks: Mapping[str, list[EventHook]] | None = None,
        base_url: URLTypes = "",
        transport: BaseTransport | None = None,
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

    def request(
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
        return self.send(request, auth=auth, follow_redirects=follow_redirects)

    @contextmanager
    def stream(
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
    ) -> Iterator[Response]:
        """Send a request and give the response as soon as its head has come.

        To be used as ``with client.stream("GET", url) as response:``; read the body with the ``iter_`` methods.
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
        response = self.send(request, auth=auth, follow_redirects=follow_redirects, stream=True)
        try:
            yield response
        finally:
            response.close()

    def get(
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
            and (raw := plain.fetch_blocking("GET", url := self._absolute(url))) is not None
        ):
            return self._respond(raw, (plain, "GET", url))
        return self.request(
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

    def send(
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
            response = self.send(request, stream=True, auth=auth, follow_redirects=follow_redirects)
            try:
                response.read()
            finally:
                response.close()
            return response
        self._check_open()
        self._set_timeout(request)
        follow = self.follow_redirects if isinstance(follow_redirects, UseClientDefault) else follow_redirects
        chosen = self._request_auth(request, auth)
        if self._is_plain(follow, chosen):
            return self._finish_plain(self._send_one(request, stream))
        return self._carry_out(self._exchange(request, chosen, follow), stream)

    def _carry_out(self, exchange: Exchange, stream: bool) -> Response:
        return carry_out(exchange, lambda step: self._perform(step, stream))

    def _perform(self, step: Step, stream: bool) -> Any:
        kind, subject, argument = step
        if kind == "send":
            return (self._upgrade_one if "websocket" in subject.extensions else self._send_one)(subject, stream)
        if kind == "hook":
            return subject(argument)
        if kind == "sleep":
            from time import sleep

            return sleep(subject)
        if kind == "flow":
            return subject.sync_auth_flow(argument)
        if kind == "next":
            try:
                return next(subject) if argument is None else subject.send(argument)
            except StopIteration:
                return None
        return subject.read() if kind == "read" else subject.close()

    def _send_one(self, request: Request, stream: bool) -> Response:
        if self._cache is None:
            return self._send_upstream(request, stream, None)
        from ._cache.steps import send_blocking

        started = perf_counter()
        response = send_blocking(self, self._cache, request, stream)
        return self._read_unless(stream, self._adopt_response(response, request, started))

    def _send_upstream(self, request: Request, stream: bool, keeper: BodyKeeper | None) -> Response:
        """Hand the request to its transport; the keeper, if there is one, gets the response's body."""
        transport = self._transport_for_url(request.url)
        started = perf_counter()
        if is_native(transport):
            raw = transport._fetch(request, stream)
            response = Response._from_core(
                raw,
                request,
                started,
                self._default_encoding,
                BlockingBody if stream else None,
                self._max_decoded_bytes,
            )
            if keeper is not None:
                keeper.watch(response, SyncByteStream)
            return response
        if not isinstance(request.stream, SyncByteStream):
            raise RuntimeError("the request's body is an async iterable: blocking code cannot send it")
        try:
            response = self._adopt_response(transport.handle_request(request), request, started)
        except RequestError as error:
            raise with_request(error, request) from error.__cause__
        if keeper is not None:
            keeper.watch(response, SyncByteStream)
        return self._read_unless(stream, response)

    def _read_unless(self, stream: bool, response: Response) -> Response:
        """The response, with its body unless that is left to be streamed."""
        if not stream:
            try:
                response.read()
            except BaseException as error:
                response.close()
                if isinstance(error, RequestError):
                    with_request(error, response.request)
                raise
        return response

    def close(self) -> None:
        """Close the client and its idle connections. Calls that are under way in other threads are not cut off.

        May be called again.
        """
        if not self._closed:
            self._closed = True
            for transport in self._transports():
                transport.close()

    def __enter__(self) -> Self:
        self._enter()
        for transport in self._transports():
            transport.__enter__()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        self._closed = True
        for transport in self._transports():
            transport.__exit__(exc_type, exc, traceback)


Client._methods = methods_gone_round(Client)
