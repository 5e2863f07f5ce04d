"""The errors of `aioxide.httpclient`.

Tornado's programs catch HTTPClientError (code 599 when no response came), OSError or ValueError; programs of every
other style catch the classes of `aioxide.http`. An error that comes out of a fetch is an instance of both, so it may
cross from one style into another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aioxide.http import _exceptions as http
from aioxide.http._status_codes import codes

if TYPE_CHECKING:
    from .messages import HTTPResponse

NO_RESPONSE = 599


class HTTPClientError(Exception):
    """A fetch failed: the status is not one of success (2xx), or no response came, which is code 599.

    `code` is the status, `message` its reason or what went wrong, `response` the HTTPResponse, None when there is none.

    >>> str(HTTPClientError(404))
    'HTTP 404: Not Found'
    """

    def __init__(self, code: int, message: str | None = None, response: HTTPResponse | None = None) -> None:
        Exception.__init__(self, code, message, response)
        self.code = code
        self.message = message or codes.get_reason_phrase(code) or "Unknown"
        self.response = response

    def __str__(self) -> str:
        return f"HTTP {self.code}: {self.message}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.code}, {self.message!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return HTTPClientError, (self.code, self.message, None)


HTTPError = HTTPClientError


class NoResponseError(HTTPClientError):
    """No response came. Made from the error that says why, which is its ``__cause__``; `request` is what was sent."""

    def __init__(self, cause: Exception) -> None:
        HTTPClientError.__init__(self, NO_RESPONSE, str(cause))
        self._request = getattr(cause, "_request", None)
        self.__cause__ = cause

    def __str__(self) -> str:
        return self.message


class HTTPTimeoutError(NoResponseError):
    """`connect_timeout` or `request_timeout` ran out."""


class HTTPStreamClosedError(NoResponseError):
    """The connection ended before the response was whole."""


class HTTPConnectError(NoResponseError, ConnectionError):
    """The connection could not be made; also an OSError."""


class HTTPValueError(NoResponseError, ValueError):
    """The request cannot be sent as it is; also a ValueError."""


class ConnectTimeoutError(HTTPTimeoutError, http.ConnectTimeout): ...


class ReadTimeoutError(HTTPTimeoutError, http.ReadTimeout): ...


class WriteTimeoutError(HTTPTimeoutError, http.WriteTimeout): ...


class PoolTimeoutError(HTTPTimeoutError, http.PoolTimeout): ...


class ConnectError(HTTPConnectError, http.ConnectError): ...


class ReadError(HTTPStreamClosedError, http.ReadError): ...


class WriteError(HTTPStreamClosedError, http.WriteError): ...


class CloseError(HTTPStreamClosedError, http.CloseError): ...


class RemoteProtocolError(HTTPStreamClosedError, http.RemoteProtocolError): ...


class LocalProtocolError(HTTPValueError, http.LocalProtocolError): ...


class UnsupportedProtocolError(HTTPValueError, http.UnsupportedProtocol): ...


class InvalidURLError(HTTPValueError, http.InvalidURL): ...


class DecodingError(NoResponseError, http.DecodingError): ...


class RequestError(NoResponseError, http.RequestError): ...


_BOTH: dict[type[Exception], type[NoResponseError]] = {
    http.ConnectTimeout: ConnectTimeoutError,
    http.ReadTimeout: ReadTimeoutError,
    http.WriteTimeout: WriteTimeoutError,
    http.PoolTimeout: PoolTimeoutError,
    http.ConnectError: ConnectError,
    http.ReadError: ReadError,
    http.WriteError: WriteError,
    http.CloseError: CloseError,
    http.RemoteProtocolError: RemoteProtocolError,
    http.LocalProtocolError: LocalProtocolError,
    http.UnsupportedProtocol: UnsupportedProtocolError,
    http.InvalidURL: InvalidURLError,
    http.DecodingError: DecodingError,
}


def in_both_families(error: http.RequestError | http.InvalidURL) -> HTTPClientError:
    """The error as one that Tornado's programs catch and that still is of its own class."""
    return _BOTH.get(type(error), RequestError)(error)
