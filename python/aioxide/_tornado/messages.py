"""HTTPRequest and HTTPResponse, with Tornado's parameters and attributes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from io import BytesIO
from typing import Any

from aioxide.http._headers import Headers
from aioxide.http._status_codes import codes

from .errors import HTTPClientError


class HTTPHeaders(Headers):
    """Header fields as Tornado has them: names are written ``Like-This``, and fields can be added one by one.

    >>> headers = HTTPHeaders({"content-type": "text/plain"})
    >>> headers.add("Set-Cookie", "a=1")
    >>> headers.add("set-cookie", "b=2")
    >>> list(headers.get_all())
    [('Content-Type', 'text/plain'), ('Set-Cookie', 'a=1'), ('Set-Cookie', 'b=2')]
    """

    __slots__ = ()

    def add(self, name: str, value: str) -> None:
        """Add a field, also where there is one of this name."""
        self._list.append((name.encode("ascii"), value.encode("utf-8")))
        self._reconsider_encoding()

    def get_all(self) -> Iterator[tuple[str, str]]:
        """Every field, repeated ones each time."""
        encoding = self.encoding
        for name, value in self._list:
            yield _title(name), value.decode(encoding)

    def _items(self) -> dict[str, str]:
        merged: dict[str, str] = {}
        for name, value in self.get_all():
            merged[name] = f"{merged[name]},{value}" if name in merged else value
        return merged

    def copy(self) -> HTTPHeaders:
        """A copy that can be changed by itself."""
        return HTTPHeaders(self)


def _title(name: bytes) -> str:
    return "-".join([part.capitalize() for part in name.decode("ascii", "replace").split("-")])


class HTTPRequest:
    """A request for `AsyncHTTPClient.fetch` or `HTTPClient.fetch`, with every parameter that Tornado's has.

    `connect_timeout` and `request_timeout` are in seconds, 20 by default, 0 for no limit; `request_timeout` is for the
    whole fetch, redirects included. `max_redirects` is 5. `streaming_callback` gets the body's pieces, which are then
    not kept; `header_callback` each line of the head. `body_producer` is called with a function `write` and gives an
    awaitable; what it writes is sent as the server takes it, and what ``write`` gives is to be awaited for that. None
    stands for the default of each.

    `auth_mode` is ``"basic"`` or ``"digest"``. With `expect_100_continue` the body waits for the server's word, a
    second at most.

    `proxy_host` and `proxy_port` name an HTTP proxy.

    For https: `validate_cert` False checks no certificate, `ca_certs` names a file of authorities, `client_cert` and
    `client_key` the client's own certificate. `ssl_options` takes the place of them all: an `ssl.SSLContext`, or a dict
    with the ``certfile``, ``keyfile``, ``cert_reqs``, ``ca_certs``, ``ciphers`` and ``ssl_version`` of Tornado's.

    Not there yet, and refused by ``fetch`` with NotImplementedError unless left at its default: `network_interface`,
    `prepare_curl_callback`, and `allow_ipv6` as False.

    >>> HTTPRequest("http://example.com/", method="POST", body="text").body
    b'text'
    """

    def __init__(
        self,
        url: str,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes | str | None = None,
        auth_username: str | None = None,
        auth_password: str | None = None,
        auth_mode: str | None = None,
        connect_timeout: float | None = None,
        request_timeout: float | None = None,
        if_modified_since: float | datetime | None = None,
        follow_redirects: bool | None = None,
        max_redirects: int | None = None,
        user_agent: str | None = None,
        use_gzip: bool | None = None,
        network_interface: str | None = None,
        streaming_callback: Callable[[bytes], Any] | None = None,
        header_callback: Callable[[str], None] | None = None,
        prepare_curl_callback: Callable[[Any], None] | None = None,
        proxy_host: str | None = None,
        proxy_port: int | None = None,
        proxy_username: str | None = None,
        proxy_password: str | None = None,
        proxy_auth_mode: str | None = None,
        allow_nonstandard_methods: bool | None = None,
        validate_cert: bool | None = None,
        ca_certs: str | None = None,
        allow_ipv6: bool | None = None,
        client_key: str | None = None,
        client_cert: str | None = None,
        body_producer: Callable[[Callable[[bytes], Any]], Any] | None = None,
        expect_100_continue: bool = False,
        decompress_response: bool | None = None,
        ssl_options: Any = None,
    ) -> None:
        self.url = url
        self.method = method
        self.headers = headers
        self.body = body
        self.auth_username = auth_username
        self.auth_password = auth_password
        self.auth_mode = auth_mode
        self.connect_timeout = connect_timeout
        self.request_timeout = request_timeout
        self.if_modified_since = if_modified_since
        self.follow_redirects = follow_redirects
        self.max_redirects = max_redirects
        self.user_agent = user_agent
        # use_gzip is the older name.
        self.decompress_response = use_gzip if decompress_response is None else decompress_response
        self.network_interface = network_interface
        self.streaming_callback = streaming_callback
        self.header_callback = header_callback
        self.prepare_curl_callback = prepare_curl_callback
        self.proxy_host = proxy_host
        self.proxy_port = proxy_port
        self.proxy_username = proxy_username
        self.proxy_password = proxy_password
        self.proxy_auth_mode = proxy_auth_mode
        self.allow_nonstandard_methods = allow_nonstandard_methods
        self.validate_cert = validate_cert
        self.ca_certs = ca_certs
        self.allow_ipv6 = allow_ipv6
        self.client_key = client_key
        self.client_cert = client_cert
        self.body_producer = body_producer
        self.expect_100_continue = expect_100_continue
        self.ssl_options = ssl_options
        self.start_time = time.time()

    @property
    def headers(self) -> HTTPHeaders:
        """The header fields; a mapping that is set here is copied."""
        return self._headers

    @headers.setter
    def headers(self, value: Mapping[str, str] | None) -> None:
        self._headers = HTTPHeaders(value)

    @property
    def body(self) -> bytes | None:
        """The body; text that is set here is encoded as UTF-8."""
        return self._body

    @body.setter
    def body(self, value: bytes | str | None) -> None:
        self._body = value.encode() if isinstance(value, str) else value

    def __repr__(self) -> str:
        return f"HTTPRequest({self.url!r}, method={self.method!r})"


class HTTPResponse:
    """What a fetch gives.

    `code` and `reason` are the status, 599 when no response came; `headers`; `body` as bytes, `buffer` as a file;
    `error` is None or the exception that says why the fetch failed, which `rethrow` raises; `request` is the
    HTTPRequest, `effective_url` where redirects led. `request_time` is in seconds, from the fetch to its end;
    `start_time` is its start by the wall clock. `time_info` has seconds since the request was made, by Tornado's names,
    those known of ``queue``, ``namelookup``, ``connect``, ``pretransfer`` (sent), ``starttransfer`` (first byte),
    ``total``.

    >>> HTTPResponse(HTTPRequest("http://example.com/"), 404).error
    HTTPClientError(404, 'Not Found')
    """

    def __init__(
        self,
        request: HTTPRequest,
        code: int,
        headers: HTTPHeaders | None = None,
        buffer: BytesIO | None = None,
        effective_url: str | None = None,
        error: BaseException | None = None,
        request_time: float | None = None,
        time_info: dict[str, float] | None = None,
        reason: str | None = None,
        start_time: float | None = None,
    ) -> None:
        self.request = request
        self.code = code
        self.reason = reason or codes.get_reason_phrase(code) or "Unknown"
        self.headers = HTTPHeaders() if headers is None else headers
        self.buffer = buffer
        self.effective_url = request.url if effective_url is None else effective_url
        self.request_time = request_time
        self.start_time = start_time
        self.time_info = time_info or {}
        self.error = error
        self._body: bytes | None = None
        # raise_error=False lets a bad status pass, and no other error.
        self._error_is_response_code = error is None and not 200 <= code < 300
        if self._error_is_response_code:
            self.error = HTTPClientError(code, self.reason, self)

    @property
    def body(self) -> bytes:
        """The body, empty when there is none or when a streaming_callback got it."""
        if self._body is None:
            self._body = b"" if self.buffer is None else self.buffer.getvalue()
        return self._body

    def rethrow(self) -> None:
        """Raise `error`, if there is one."""
        if self.error is not None:
            raise self.error

    def __repr__(self) -> str:
        return f"HTTPResponse({self.code}, {self.effective_url!r}, error={self.error!r})"
