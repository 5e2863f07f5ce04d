"""HTTP for every style of concurrency: httpx's surface over the engine's own client.

Blocking code and threads use `get` and its kin or a `Client`; coroutines an `AsyncClient`; many GETs at once
`gather_get`.

>>> from aioxide import http
>>> from aioxide._native import HttpServer
>>> with HttpServer() as server:
...     response = http.get(f"{server.url}/hello")
>>> response.status_code, response.reason_phrase
(200, 'OK')
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aioxide._native import Completed

from ._alias import alias_httpx
from ._api import delete, gather_get, get, head, options, patch, post, put, query, request, stream
from ._auth import Auth, BasicAuth, FunctionAuth, NetRCAuth
from ._config import USE_CLIENT_DEFAULT, Limits, Timeout
from ._content import AsyncByteStream, ByteStream, SyncByteStream
from ._cookies import Cookies
from ._exceptions import (
    CloseError,
    ConnectError,
    ConnectTimeout,
    CookieConflict,
    DecodingError,
    HTTPError,
    HTTPStatusError,
    InvalidURL,
    LocalProtocolError,
    NetworkError,
    PoolTimeout,
    ProtocolError,
    ProxyError,
    ReadError,
    ReadTimeout,
    RemoteProtocolError,
    RequestError,
    RequestNotRead,
    ResponseNotRead,
    SSEError,
    StreamClosed,
    StreamConsumed,
    StreamError,
    TimeoutException,
    TooManyRedirects,
    TransportError,
    UnsupportedProtocol,
    WebSocketDisconnect,
    WebSocketError,
    WebSocketInvalidTypeReceived,
    WebSocketUpgradeError,
    WriteError,
    WriteTimeout,
)
from ._headers import Headers
from ._proxies import Proxy
from ._query import QueryParams
from ._request import Request
from ._response import Response
from ._retry import Retry
from ._status_codes import codes
from ._sync import Client
from ._tls import create_ssl_context
from ._transports.base import AsyncBaseTransport, BaseTransport
from ._transports.default import HTTPTransport
from ._transports.mock import MockTransport
from ._urls import URL
from ._websocket import AsyncWebSocketSession, WebSocketSession

if TYPE_CHECKING:
    from ._async import AsyncClient
    from ._cache.cache import Cache
    from ._cache.sqlite import SQLiteCacheStore
    from ._cache.stores import CacheEntry, CacheStore, MemoryCacheStore
    from ._digest import DigestAuth
    from ._gather import Gather
    from ._origin import Origin
    from ._sse import EventSource, ServerSentEvent
    from ._transports.asgi import ASGITransport
    from ._transports.default_async import AsyncHTTPTransport
    from ._transports.wsgi import WSGITransport

__all__ = [
    "URL",
    "USE_CLIENT_DEFAULT",
    "ASGITransport",
    "AsyncBaseTransport",
    "AsyncByteStream",
    "AsyncClient",
    "AsyncHTTPTransport",
    "AsyncWebSocketSession",
    "Auth",
    "BaseTransport",
    "BasicAuth",
    "ByteStream",
    "Cache",
    "CacheEntry",
    "CacheStore",
    "Client",
    "CloseError",
    "Completed",
    "ConnectError",
    "ConnectTimeout",
    "CookieConflict",
    "Cookies",
    "DecodingError",
    "DigestAuth",
    "EventSource",
    "FunctionAuth",
    "Gather",
    "HTTPError",
    "HTTPStatusError",
    "HTTPTransport",
    "Headers",
    "InvalidURL",
    "Limits",
    "LocalProtocolError",
    "MemoryCacheStore",
    "MockTransport",
    "NetRCAuth",
    "NetworkError",
    "Origin",
    "PoolTimeout",
    "ProtocolError",
    "Proxy",
    "ProxyError",
    "QueryParams",
    "ReadError",
    "ReadTimeout",
    "RemoteProtocolError",
    "Request",
    "RequestError",
    "RequestNotRead",
    "Response",
    "ResponseNotRead",
    "Retry",
    "SQLiteCacheStore",
    "SSEError",
    "ServerSentEvent",
    "StreamClosed",
    "StreamConsumed",
    "StreamError",
    "SyncByteStream",
    "Timeout",
    "TimeoutException",
    "TooManyRedirects",
    "TransportError",
    "UnsupportedProtocol",
    "WSGITransport",
    "WebSocketDisconnect",
    "WebSocketError",
    "WebSocketInvalidTypeReceived",
    "WebSocketSession",
    "WebSocketUpgradeError",
    "WriteError",
    "WriteTimeout",
    "alias_httpx",
    "codes",
    "create_ssl_context",
    "delete",
    "gather_get",
    "get",
    "head",
    "options",
    "patch",
    "post",
    "put",
    "query",
    "request",
    "stream",
]


# What needs asyncio, or is rarely used, is imported when it is asked for: blocking programs start sooner.
_LAZY = {
    "ASGITransport": "_transports.asgi",
    "AsyncClient": "_async",
    "AsyncHTTPTransport": "_transports.default_async",
    "Cache": "_cache.cache",
    "CacheEntry": "_cache.stores",
    "CacheStore": "_cache.stores",
    "DigestAuth": "_digest",
    "EventSource": "_sse",
    "Gather": "_gather",
    "MemoryCacheStore": "_cache.stores",
    "Origin": "_origin",
    "SQLiteCacheStore": "_cache.sqlite",
    "ServerSentEvent": "_sse",
    "WSGITransport": "_transports.wsgi",
}


def __getattr__(name: str) -> Any:
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(f"{__name__}.{module}"), name)
    return value
