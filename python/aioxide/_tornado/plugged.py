"""The native core as an implementation of Tornado's own AsyncHTTPClient, for applications that run on Tornado."""

from __future__ import annotations

import asyncio
import io
import unicodedata
from collections.abc import Callable
from ssl import SSLError
from typing import Any

from tornado.httpclient import AsyncHTTPClient, HTTPRequest, HTTPResponse
from tornado.httputil import HTTPHeaders
from tornado.log import app_log
from tornado.simple_httpclient import HTTPStreamClosedError, HTTPTimeoutError

from aioxide.http import _exceptions as http

from . import messages
from .errors import NO_RESPONSE
from .fetching import Cores, carry_out
from .rules import Fetch, resolve

_COPIED = (
    "url method auth_username auth_password auth_mode connect_timeout request_timeout "
    "follow_redirects max_redirects user_agent network_interface prepare_curl_callback proxy_host proxy_port "
    "proxy_username proxy_password proxy_auth_mode allow_nonstandard_methods validate_cert ca_certs allow_ipv6 "
    "client_key client_cert body_producer expect_100_continue decompress_response ssl_options body"
).split()


class NativeAsyncHTTPClient(AsyncHTTPClient):
    """A client for Tornado, to be named in its configuration.

    .. code-block:: python

        tornado.httpclient.AsyncHTTPClient.configure("aioxide.httpclient.NativeAsyncHTTPClient")

    Works on every loop that Tornado runs on; on aioxide's a fetch runs on the loop's own thread. `max_clients` fetches
    are under way at once, `max_body_size` (by default `max_buffer_size`) limits a body, in bytes.
    NotImplementedError for `hostname_mapping`, `resolver` and `max_header_size`.
    """

    def initialize(  # type: ignore[override]
        self,
        max_clients: int = 10,
        hostname_mapping: dict[Any, Any] | None = None,
        max_buffer_size: int = 104_857_600,
        resolver: Any = None,
        defaults: dict[str, Any] | None = None,
        max_header_size: int | None = None,
        max_body_size: int | None = None,
    ) -> None:
        """Set up a new instance; called once, with the keyword arguments that the instance is made with."""
        super().initialize(defaults=defaults)
        for name, value in (
            ("hostname_mapping", hostname_mapping),
            ("resolver", resolver),
            ("max_header_size", max_header_size),
        ):
            if value is not None:
                raise NotImplementedError(f"aioxide's client for Tornado does not support {name}=")
        self.max_clients = max_clients
        self._max_body_bytes = max_buffer_size if max_body_size is None else max_body_size
        self._cores = Cores(max_clients)
        self._tasks: set[asyncio.Task[None]] = set()

    def fetch_impl(self, request: HTTPRequest, callback: Callable[[HTTPResponse], None]) -> None:
        """Tornado's way in: start the fetch, and call back with what comes of it."""
        loop: Any = self.io_loop
        task = loop.asyncio_loop.create_task(self._fetch(request, callback))
        # A loop refers weakly to its tasks.
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _fetch(self, request: Any, callback: Callable[[HTTPResponse], None]) -> None:
        original = request.request if hasattr(request, "request") else request
        fetch: Fetch | None = None
        try:
            ours = _ours(request)
            fetch = Fetch(ours, resolve(ours, {}), self._max_body_bytes)
            response = _theirs(original, await carry_out(self._cores, fetch))
        except Exception as error:  # noqa: BLE001 - the callback gets it
            response = HTTPResponse(original, NO_RESPONSE, error=_their_error(error), request_time=_seconds(fetch))
        callback(response)

    def close(self) -> None:
        """Close the client and its idle connections."""
        super().close()
        self._cores.close()


def _seconds(fetch: Fetch | None) -> float:
    return 0.0 if fetch is None else fetch.seconds_since_start()


def _ours(request: Any) -> messages.HTTPRequest:
    ours = messages.HTTPRequest(request.url)
    for name in _COPIED:
        setattr(ours, name, getattr(request, name))
    for name, value in request.headers.get_all():
        ours.headers._list.append((_encoded(name), _encoded(value)))
    for name in ("auth_username", "auth_password"):
        text = getattr(ours, name)
        if text is not None:
            # As RFC 7617 asks for.
            setattr(ours, name, unicodedata.normalize("NFC", text if isinstance(text, str) else text.decode()))
    for name in ("streaming_callback", "header_callback"):
        callback = getattr(request, name)
        if callback is not None:
            setattr(ours, name, _guarded(callback))
    return ours


def _encoded(text: str | bytes) -> bytes:
    """Tornado's headers are Latin-1; what does not fit is sent as UTF-8."""
    if isinstance(text, bytes):
        return text
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode()


def _guarded(callback: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """What the application's callback raises is logged, and ends the fetch, as in Tornado."""

    def failed() -> http.ReadError:
        app_log.error("Uncaught exception in the callback of a fetch", exc_info=True)
        return http.ReadError("the callback of the fetch failed")

    async def finish(result: Any) -> None:
        try:
            await result
        except (Exception, asyncio.CancelledError):  # noqa: BLE001 - logged, and told by the fetch
            raise failed() from None

    def call(argument: Any) -> Any:
        try:
            result = callback(argument)
        except Exception:  # noqa: BLE001 - logged, and told by the fetch
            raise failed() from None
        return finish(result) if hasattr(result, "__await__") else None

    return call


def _theirs(original: HTTPRequest, response: messages.HTTPResponse) -> HTTPResponse:
    headers = HTTPHeaders()
    for name, value in response.headers.get_all():
        headers.add(name, value)
    return HTTPResponse(
        original,
        response.code,
        headers=headers,
        buffer=io.BytesIO(response.body),
        effective_url=response.effective_url,
        request_time=response.request_time,
        time_info=response.time_info,
        reason=response.reason,
        start_time=response.start_time,
    )


def _their_error(error: Exception) -> Exception:
    """The error as Tornado's own client gives it."""
    if isinstance(error, http.PoolTimeout):
        return HTTPTimeoutError("Timeout in request queue")
    if isinstance(error, http.ConnectTimeout):
        peer, _, rest = str(error).partition(": ")
        in_handshake = rest.endswith("in the TLS handshake")
        return HTTPTimeoutError(
            f"Timeout during TLS handshake with {peer}" if in_handshake else "Timeout while connecting"
        )
    if isinstance(error, http.TimeoutException):
        return HTTPTimeoutError("Timeout during request")
    if isinstance(error, http.ConnectError) and isinstance(error.__cause__, SSLError):
        return error.__cause__
    if isinstance(error, http.ConnectError):
        return ConnectionError(str(error))
    if isinstance(error, (http.UnsupportedProtocol, http.InvalidURL, http.LocalProtocolError)):
        return ValueError(str(error))
    if isinstance(error, http.RequestError):
        return HTTPStreamClosedError(str(error))
    return error
