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

from ._api import delete, gather_get, get, head, options, patch, post, put, request, stream
from ._auth import Auth, BasicAuth, FunctionAuth
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
    StreamClosed,
    StreamConsumed,
    StreamError,
    TimeoutException,
    TooManyRedirects,
    TransportError,
    UnsupportedProtocol,
    WriteError,
    WriteTimeout,
)
from ._headers import Headers
from ._query import QueryParams
from ._request import Request
from ._response import Response
from ._status_codes import codes
from ._sync import Client
from ._urls import URL

if TYPE_CHECKING:
    from ._async import AsyncClient
    from ._gather import Completed, Gather

__all__ = [
    "URL",
    "USE_CLIENT_DEFAULT",
    "AsyncByteStream",
    "AsyncClient",
    "Auth",
    "BasicAuth",
    "ByteStream",
    "Client",
    "CloseError",
    "Completed",
    "ConnectError",
    "ConnectTimeout",
    "CookieConflict",
    "Cookies",
    "DecodingError",
    "FunctionAuth",
    "Gather",
    "HTTPError",
    "HTTPStatusError",
    "Headers",
    "InvalidURL",
    "Limits",
    "LocalProtocolError",
    "NetworkError",
    "PoolTimeout",
    "ProtocolError",
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
    "StreamClosed",
    "StreamConsumed",
    "StreamError",
    "SyncByteStream",
    "Timeout",
    "TimeoutException",
    "TooManyRedirects",
    "TransportError",
    "UnsupportedProtocol",
    "WriteError",
    "WriteTimeout",
    "codes",
    "delete",
    "gather_get",
    "get",
    "head",
    "options",
    "patch",
    "post",
    "put",
    "request",
    "stream",
]


def __getattr__(name: str) -> Any:
    # What needs asyncio is imported when it is asked for: blocking programs do without, and start sooner.
    if name in ("AsyncClient", "Completed", "Gather"):
        from . import _async, _gather

        globals().update(AsyncClient=_async.AsyncClient, Completed=_gather.Completed, Gather=_gather.Gather)
        return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
