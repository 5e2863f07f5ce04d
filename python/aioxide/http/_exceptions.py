"""Every exception of the HTTP client, with httpx's names and httpx's tree.

```
HTTPError
├── RequestError
│   ├── TransportError
│   │   ├── TimeoutException: ConnectTimeout, ReadTimeout, WriteTimeout, PoolTimeout
│   │   ├── NetworkError: ConnectError, ReadError, WriteError, CloseError
│   │   ├── ProtocolError: LocalProtocolError, RemoteProtocolError
│   │   ├── ProxyError
│   │   ├── SSEError
│   │   └── UnsupportedProtocol
│   ├── DecodingError
│   └── TooManyRedirects
├── WebSocketError: WebSocketDisconnect, WebSocketInvalidTypeReceived, WebSocketUpgradeError
└── HTTPStatusError
InvalidURL
CookieConflict
StreamError: StreamConsumed, StreamClosed, ResponseNotRead, RequestNotRead
```

The native core raises these same classes, made from the message alone; the client adds the request. This module imports
nothing of the package, so that the native core can import it from any state of start-up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._request import Request
    from ._response import Response

__all__ = [
    "CloseError",
    "ConnectError",
    "ConnectTimeout",
    "CookieConflict",
    "DecodingError",
    "HTTPError",
    "HTTPStatusError",
    "InvalidURL",
    "LocalProtocolError",
    "NetworkError",
    "PoolTimeout",
    "ProtocolError",
    "ProxyError",
    "ReadError",
    "ReadTimeout",
    "RemoteProtocolError",
    "RequestError",
    "RequestNotRead",
    "ResponseNotRead",
    "SSEError",
    "StreamClosed",
    "StreamConsumed",
    "StreamError",
    "TimeoutException",
    "TooManyRedirects",
    "TransportError",
    "UnsupportedProtocol",
    "WebSocketDisconnect",
    "WebSocketError",
    "WebSocketInvalidTypeReceived",
    "WebSocketUpgradeError",
    "WriteError",
    "WriteTimeout",
]


class HTTPError(Exception):
    """Whatever can go wrong with one request: no answer came, or the answer says that it failed.

    >>> from aioxide import http
    >>> issubclass(http.ConnectTimeout, http.HTTPError)
    True
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self._request: Request | None = None

    @property
    def request(self) -> Request:
        """The request that failed. RuntimeError when the exception was made without one."""
        if self._request is None:
            raise RuntimeError("this exception was raised without a request: .request is not set")
        return self._request

    @request.setter
    def request(self, request: Request) -> None:
        self._request = request

    def __reduce__(self) -> tuple[Any, ...]:
        # Subclasses take keyword-only arguments, which the pickle protocol of BaseException cannot pass.
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(cls: type[HTTPError], args: tuple[Any, ...], state: dict[str, Any]) -> HTTPError:
    error = cls.__new__(cls, *args)
    error.__dict__.update(state)
    return error


class RequestError(HTTPError):
    """No whole response came. The message names the host and the phase that failed."""

    def __init__(self, message: str, *, request: Request | None = None) -> None:
        super().__init__(message)
        self._request = request


class TransportError(RequestError):
    """The failure lies below HTTP's meaning: the network, the protocol's bytes, a limit on time."""


class TimeoutException(TransportError):  # noqa: N818 - httpx's name
    """A limit on time ran out."""


class ConnectTimeout(TimeoutException):
    """No connection was made within ``Timeout.connect`` seconds."""


class ReadTimeout(TimeoutException):
    """No byte of the response came for ``Timeout.read`` seconds, or ``Timeout.total`` ran out while waiting for it."""


class WriteTimeout(TimeoutException):
    """The peer took no byte of the request for ``Timeout.write`` seconds."""


class PoolTimeout(TimeoutException):
    """No connection of the pool became free within ``Timeout.pool`` seconds."""


class NetworkError(TransportError):
    """The operating system reported an error of the connection."""


class ConnectError(NetworkError):
    """The connection could not be made: refused, unreachable, or the name is unknown."""


class ReadError(NetworkError):
    """Receiving failed."""


class WriteError(NetworkError):
    """Sending failed."""


class CloseError(NetworkError):
    """Closing the connection failed."""


class ProxyError(TransportError):
    """The proxy refused to carry the request."""


class SSEError(TransportError):
    """A response is no stream of server-sent events, or one of its events is too long."""


class UnsupportedProtocol(TransportError):  # noqa: N818 - httpx's name
    """The URL's scheme is missing, or is one that the client does not speak."""


class ProtocolError(TransportError):
    """A message breaks the protocol."""


class LocalProtocolError(ProtocolError):
    """Our request would break the protocol, for example a header value with a line break in it; it was not sent."""


class RemoteProtocolError(ProtocolError):
    """The server's answer is not HTTP, or ended before it was whole."""


class DecodingError(RequestError):
    """The response's body does not follow its own ``Content-Encoding``."""


class TooManyRedirects(RequestError):  # noqa: N818 - httpx's name
    """More redirects than ``max_redirects`` were answered in a row."""


class WebSocketError(HTTPError):
    """Whatever can go wrong with a WebSocket, beyond what can with every request."""


class WebSocketUpgradeError(WebSocketError):
    """The server did not agree to a WebSocket; `response` is what it answered instead, its body read."""

    def __init__(self, response: Response) -> None:
        super().__init__(f"{response.url.host}: the server answered {response.status_code} instead of a WebSocket")
        self._request = response.request
        self.response = response


class WebSocketDisconnect(WebSocketError):  # noqa: N818 - httpx2's name
    """The WebSocket has ended.

    `code` is that of the server's close frame: 1000 for a normal end, 1001 for a server that goes away, and so on (RFC
    6455, section 7.4); 1005 when that has none, 1006 when the connection broke without one. 1002, 1007 and 1009 also
    stand for what the server did wrong, and was told. `reason` is the server's, or says what was wrong.
    """

    def __init__(self, code: int = 1000, reason: str | None = None) -> None:
        super().__init__(f"the WebSocket is closed ({code}{': ' if reason else ''}{reason or ''})")
        self.code = code
        self.reason = reason or ""


class WebSocketInvalidTypeReceived(WebSocketError):  # noqa: N818 - httpx2's name
    """The message, which is in `message`, is not of the type that was asked for."""

    def __init__(self, message: object) -> None:
        super().__init__(f"a message of type {type(message).__name__} was not expected")
        self.message = message


class HTTPStatusError(HTTPError):
    """Raised by ``Response.raise_for_status()`` when the status is not one of success (2xx)."""

    def __init__(self, message: str, *, request: Request, response: Response) -> None:
        super().__init__(message)
        self._request = request
        self.response = response


class InvalidURL(Exception):  # noqa: N818 - httpx's name
    """The URL cannot be understood."""

    def __init__(self, message: str) -> None:
        super().__init__(message)


class CookieConflict(Exception):  # noqa: N818 - httpx's name
    """A cookie was looked up by a name that several cookies of the jar have; give the domain or the path as well."""

    def __init__(self, message: str) -> None:
        super().__init__(message)


class StreamError(RuntimeError):
    """A body was used in a way that its state forbids: a mistake in the program, not on the wire."""

    def __init__(self, message: str) -> None:
        super().__init__(message)


class StreamConsumed(StreamError):  # noqa: N818 - httpx's name
    """The streamed body was read already; it can be read once."""

    def __init__(self, message: str = "the body was streamed already, and can be streamed only once") -> None:
        super().__init__(message)


class StreamClosed(StreamError):  # noqa: N818 - httpx's name
    """The response was closed before its body was read."""

    def __init__(self, message: str = "the response is closed: its body can no longer be read") -> None:
        super().__init__(message)


class ResponseNotRead(StreamError):  # noqa: N818 - httpx's name
    """``content`` was asked of a streamed response before ``read()`` or ``aread()``."""

    def __init__(self, message: str = "the streamed response's body has not been read: call read() first") -> None:
        super().__init__(message)


class RequestNotRead(StreamError):  # noqa: N818 - httpx's name
    """``content`` was asked of a streaming request before ``read()`` or ``aread()``."""

    def __init__(self, message: str = "the streaming request's body has not been read: call read() first") -> None:
        super().__init__(message)
