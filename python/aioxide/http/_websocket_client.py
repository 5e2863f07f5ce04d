"""What a client does to open a WebSocket: a request like any other, whose answer is one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any

from ._auth import AuthTypes
from ._client import BaseClient, Exchange
from ._config import USE_CLIENT_DEFAULT, TimeoutTypes, UseClientDefault
from ._cookies import CookieTypes
from ._exceptions import RequestError, WebSocketUpgradeError
from ._headers import HeaderTypes
from ._query import QueryParamTypes
from ._request import Request
from ._response import Response
from ._streams import AsyncBody, BlockingBody
from ._urls import URL, URLTypes
from ._websocket import (
    DEFAULT_CLOSE_TIMEOUT_SECONDS,
    DEFAULT_KEEPALIVE_PING_INTERVAL_SECONDS,
    DEFAULT_KEEPALIVE_PING_TIMEOUT_SECONDS,
    DEFAULT_MAX_MESSAGE_SIZE_BYTES,
    DEFAULT_QUEUE_SIZE,
    AsyncWebSocketSession,
    WebSocketSession,
    WebSocketSettings,
)
from ._wire import with_request

_HTTP = {"ws": "http", "wss": "https"}


class _Opening(BaseClient):
    def _websocket_request(self, url: URLTypes, settings: WebSocketSettings, extensions: Any, **given: Any) -> Request:
        """The handshake. What holds for http and https holds for ws and wss: cookies, proxies, authentication."""
        asked = URL(url)
        if asked.scheme in _HTTP:
            asked = asked.copy_with(scheme=_HTTP[asked.scheme])
        request = self.build_request("GET", asked, extensions={**(extensions or {}), "websocket": settings}, **given)
        self._check_open()
        return request

    def _start_websocket(
        self,
        request: Request,
        auth: AuthTypes | UseClientDefault | None,
        follow_redirects: bool | UseClientDefault,
    ) -> Exchange:
        follow = self.follow_redirects if isinstance(follow_redirects, UseClientDefault) else follow_redirects
        return self._exchange(request, self._request_auth(request, auth), follow)

    def _websocket_response(self, raw: Any, request: Request, started: float, kind: Any) -> Response:
        """The handshake's answer, which has no body if it is what was asked for."""
        websocket = raw.take_websocket()
        response = Response._from_core(
            raw,
            request,
            started,
            self._default_encoding,
            kind if websocket is None else None,
            self._max_decoded_bytes,
        )
        if websocket is not None:
            response.extensions["websocket"] = websocket
        return response


class AsyncWebSocketOpening(_Opening):
    """The method of an AsyncClient."""

    @asynccontextmanager
    async def websocket(
        self,
        url: URLTypes,
        *,
        subprotocols: list[str] | None = None,
        max_message_size_bytes: int = DEFAULT_MAX_MESSAGE_SIZE_BYTES,
        queue_size: int = DEFAULT_QUEUE_SIZE,
        keepalive_ping_interval_seconds: float | None = DEFAULT_KEEPALIVE_PING_INTERVAL_SECONDS,
        keepalive_ping_timeout_seconds: float | None = DEFAULT_KEEPALIVE_PING_TIMEOUT_SECONDS,
        close_timeout_seconds: float = DEFAULT_CLOSE_TIMEOUT_SECONDS,
        params: QueryParamTypes | None = None,
        headers: HeaderTypes | None = None,
        cookies: CookieTypes | None = None,
        auth: AuthTypes | UseClientDefault | None = USE_CLIENT_DEFAULT,
        follow_redirects: bool | UseClientDefault = USE_CLIENT_DEFAULT,
        timeout: TimeoutTypes | UseClientDefault = USE_CLIENT_DEFAULT,
        extensions: Mapping[str, Any] | None = None,
    ) -> AsyncIterator[AsyncWebSocketSession]:
        """Open a WebSocket, to be used as ``async with client.websocket("wss://example.com/chat") as session:``.

        The handshake is a request of the client's, with its headers, cookies, authentication, proxies, limits on time
        and connections; `url` may begin with ``ws://``, ``wss://``, ``http://`` or ``https://``, or be relative. It
        needs HTTP/1.1, which is spoken for it whatever `http2` says.

        A message of more than `max_message_size_bytes` ends the connection. `queue_size` messages wait to be received.
        Every `keepalive_ping_interval_seconds` the server is sent a ping (None: never); if then nothing comes from it,
        and it takes nothing, for `keepalive_ping_timeout_seconds`, the connection is given up.

        Leaving the block closes it with 1000, or 1011 if an exception was raised, and waits at most
        `close_timeout_seconds` for the server. A cancelled block does not wait.

        WebSocketUpgradeError when the server does not agree; what a request raises else.
        """
        settings = WebSocketSettings(
            subprotocols,
            max_message_size_bytes,
            queue_size,
            keepalive_ping_interval_seconds,
            keepalive_ping_timeout_seconds,
            close_timeout_seconds,
        )
        request = self._websocket_request(
            url, settings, extensions, params=params, headers=headers, cookies=cookies, timeout=timeout
        )
        response = await self._carry_out(self._start_websocket(request, auth, follow_redirects), True)
        raw = response.extensions.pop("websocket", None)
        if raw is None:
            try:
                await response.aread()
            finally:
                await response.aclose()
            raise WebSocketUpgradeError(response)
        session = AsyncWebSocketSession(raw, response)
        try:
            yield session
        except Exception:
            await session.close(1011)
            raise
        else:
            await session.close()
        finally:
            raw.abort()

    if TYPE_CHECKING:

        def _carry_out(self, exchange: Exchange, stream: bool) -> Awaitable[Response]: ...

    async def _upgrade_one(self, request: Request, stream: bool) -> Response:
        from ._transports.default_async import is_native

        transport = self._transport_for_url(request.url)
        started = perf_counter()
        try:
            if not is_native(transport):
                return self._adopt_response(await transport.handle_async_request(request), request, started)
            return self._websocket_response(await transport._open_websocket(request), request, started, AsyncBody)
        except RequestError as error:
            raise with_request(error, request) from error.__cause__


class WebSocketOpening(_Opening):
    """The method of a Client."""

    @contextmanager
    def websocket(
        self,
        url: URLTypes,
        *,
        subprotocols: list[str] | None = None,
        max_message_size_bytes: int = DEFAULT_MAX_MESSAGE_SIZE_BYTES,
        queue_size: int = DEFAULT_QUEUE_SIZE,
        keepalive_ping_interval_seconds: float | None = DEFAULT_KEEPALIVE_PING_INTERVAL_SECONDS,
        keepalive_ping_timeout_seconds: float | None = DEFAULT_KEEPALIVE_PING_TIMEOUT_SECONDS,
        close_timeout_seconds: float = DEFAULT_CLOSE_TIMEOUT_SECONDS,
        params: QueryParamTypes | None = None,
        headers: HeaderTypes | None = None,
        cookies: CookieTypes | None = None,
        auth: AuthTypes | UseClientDefault | None = USE_CLIENT_DEFAULT,
        follow_redirects: bool | UseClientDefault = USE_CLIENT_DEFAULT,
        timeout: TimeoutTypes | UseClientDefault = USE_CLIENT_DEFAULT,
        extensions: Mapping[str, Any] | None = None,
    ) -> Iterator[WebSocketSession]:
        """Open a WebSocket, to be used as ``with client.websocket("wss://example.com/chat") as session:``.

        As the AsyncClient's. A KeyboardInterrupt does not wait for the server.
        """
        settings = WebSocketSettings(
            subprotocols,
            max_message_size_bytes,
            queue_size,
            keepalive_ping_interval_seconds,
            keepalive_ping_timeout_seconds,
            close_timeout_seconds,
        )
        request = self._websocket_request(
            url, settings, extensions, params=params, headers=headers, cookies=cookies, timeout=timeout
        )
        response = self._carry_out(self._start_websocket(request, auth, follow_redirects), True)
        raw = response.extensions.pop("websocket", None)
        if raw is None:
            try:
                response.read()
            finally:
                response.close()
            raise WebSocketUpgradeError(response)
        session = WebSocketSession(raw, response)
        try:
            yield session
        except Exception:
            session.close(1011)
            raise
        else:
            session.close()
        finally:
            raw.abort()

    if TYPE_CHECKING:

        def _carry_out(self, exchange: Exchange, stream: bool) -> Response: ...

    def _upgrade_one(self, request: Request, stream: bool) -> Response:
        from ._transports.default import is_native

        transport = self._transport_for_url(request.url)
        started = perf_counter()
        try:
            if not is_native(transport):
                return self._adopt_response(transport.handle_request(request), request, started)
            return self._websocket_response(transport._open_websocket(request), request, started, BlockingBody)
        except RequestError as error:
            raise with_request(error, request) from error.__cause__
