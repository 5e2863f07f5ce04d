"""An HTTP client shaped like Tornado's: `HTTPClient` blocks, `AsyncHTTPClient` gives futures, or calls back.

Both send through the engine's own client, and the styles mix: a fetch can be awaited, yielded, or given a callback.

>>> from aioxide._native import HttpServer
>>> with HttpServer() as server:
...     response = HTTPClient().fetch(f"{server.url}/hello")
>>> response.code, response.reason
(200, 'OK')
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast
from weakref import WeakKeyDictionary

from aioxide._tornado.errors import (
    HTTPClientError,
    HTTPConnectError,
    HTTPError,
    HTTPStreamClosedError,
    HTTPTimeoutError,
)
from aioxide._tornado.fetching import Cores, carry_out
from aioxide._tornado.messages import HTTPHeaders, HTTPRequest, HTTPResponse
from aioxide._tornado.rules import Fetch, resolve, translated
from aioxide.http import _exceptions as http
from aioxide.http._request import Request
from aioxide.http._wire import timeouts, wire_url, with_request

if TYPE_CHECKING:
    from aioxide._native import RawResponse

__all__ = [
    "AsyncHTTPClient",
    "HTTPClient",
    "HTTPClientError",
    "HTTPConnectError",
    "HTTPError",
    "HTTPHeaders",
    "HTTPRequest",
    "HTTPResponse",
    "HTTPStreamClosedError",
    "HTTPTimeoutError",
]

_Instances = WeakKeyDictionary[asyncio.AbstractEventLoop, dict[type["AsyncHTTPClient"], "AsyncHTTPClient"]]

MAX_CLIENTS = 10
_NOT_YET = {
    "hostname_mapping": None,
    "max_buffer_size": 104_857_600,
    "resolver": None,
    "max_header_size": None,
    "max_body_size": None,
}


def _open(max_clients: int, settings: dict[str, Any]) -> Cores:
    for name, value in settings.items():
        if name not in _NOT_YET:
            raise TypeError(f"the client has no setting {name!r}")
        if value != _NOT_YET[name]:
            raise NotImplementedError(f"aioxide.httpclient does not support {name}= yet")
    return Cores(max_clients)


def _as_request(request: str | HTTPRequest, kwargs: dict[str, Any]) -> HTTPRequest:
    if not isinstance(request, HTTPRequest):
        return HTTPRequest(request, **kwargs)
    if kwargs:
        raise ValueError(f"a fetch of an HTTPRequest takes no parameters of a request besides it: {sorted(kwargs)}")
    return request


class HTTPClient:
    """A client whose `fetch` blocks the calling thread.

    It works in any thread, several at once, and inside a running event loop too: there it turns only its own request
    and blocks the caller's loop until the response is there, so prefer an AsyncHTTPClient. Ctrl-C interrupts a fetch.
    The parameters are those of AsyncHTTPClient; `async_client_class` is accepted for Tornado's sake if it is
    AsyncHTTPClient or None.
    """

    def __init__(self, async_client_class: type[AsyncHTTPClient] | None = None, **kwargs: Any) -> None:
        self._closed = True
        if async_client_class is not None and async_client_class is not AsyncHTTPClient:
            raise NotImplementedError(
                "HTTPClient does not support async_client_class= yet: it always uses the engine's own"
            )
        settings = {**AsyncHTTPClient._settings, **kwargs}
        self._defaults: dict[str, Any] = settings.pop("defaults", None) or {}
        self._cores = _open(settings.pop("max_clients", MAX_CLIENTS), settings)
        self._closed = False

    def fetch(self, request: str | HTTPRequest, raise_error: bool = True, **kwargs: Any) -> HTTPResponse:
        """Send the request, wait for the whole response and give it.

        Blocks the calling thread, and its loop if it runs one.

        A URL makes an HTTPRequest with the keyword arguments. HTTPClientError is raised when the status is not 2xx,
        unless `raise_error` is False; when no response came, it is raised in any case, with code 599, and is also an
        exception of `aioxide.http`, such as ConnectError. RuntimeError once the client is closed.
        """
        if self._closed:
            raise RuntimeError("the client is closed: nothing can be fetched with it")
        original = _as_request(request, kwargs)
        fetch = Fetch(original, resolve(original, self._defaults))
        if original.body_producer is not None:
            raise NotImplementedError("HTTPClient does not support body_producer= yet: use an AsyncHTTPClient or body=")
        try:
            response = self._carry_out(fetch)
        except Exception as error:
            problem = translated(error)
            if problem is error:
                raise
            raise problem from error
        if raise_error:
            response.rethrow()
        return response

    def _carry_out(self, fetch: Fetch) -> HTTPResponse:
        while True:
            message = fetch.message()
            raw = self._send(message, fetch)
            try:
                if fetch.answers_challenge(raw, message) or fetch.follows(raw):
                    continue
                if not fetch.streams:
                    return fetch.response(raw, fetch.decoded(raw))
                return fetch.response(raw, self._stream(fetch, raw, message))
            finally:
                if fetch.streams:
                    raw.close()

    def _send(self, message: Request, fetch: Fetch) -> RawResponse:
        core, url, body = self._cores.of(fetch.request), wire_url(message), message.content or None
        try:
            return core.fetch_blocking(
                message.method, url, message.headers._list, body, stream=fetch.streams, **timeouts(message)
            )
        except http.RequestError as error:
            raise with_request(error, message) from error.__cause__

    def _stream(self, fetch: Fetch, raw: RawResponse, message: Request) -> bytes:
        """Give the head and the body to the callbacks; what none of them takes is returned."""
        fetch.announce_head(raw)
        decoder = fetch.decoder(raw)
        kept: list[bytes] = []
        take: Callable[[bytes], Any] = fetch.request.streaming_callback or kept.append
        while True:
            try:
                piece = raw.read_chunk_blocking()
            except http.RequestError as error:
                raise with_request(error, message) from error.__cause__
            for data in fetch.pieces(decoder, piece or None):
                if hasattr(take(data), "__await__"):
                    raise TypeError("the streaming_callback of a blocking fetch must not be a coroutine function")
            if not piece:
                return b"".join(kept)

    def close(self) -> None:
        """Close the client and its idle connections. May be called again."""
        if not self._closed:
            self._closed = True
            self._cores.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


class AsyncHTTPClient:
    """A client whose `fetch` gives a future, or calls back.

    ``AsyncHTTPClient()`` gives the running loop's own instance, always the same, unless `force_instance` asks for a new
    one. At most `max_clients` fetches of an instance are under way at once (10 by default); the others wait their turn,
    and time out as if they were connecting. `defaults` are values for parameters of HTTPRequest that are None.

    >>> import asyncio
    >>> from aioxide._native import HttpServer
    >>> async def main(url):
    ...     response = await AsyncHTTPClient().fetch(url)
    ...     return response.code
    >>> with HttpServer() as server:
    ...     asyncio.run(main(server.url))
    200
    """

    _impl: ClassVar[type[AsyncHTTPClient] | None] = None
    _settings: ClassVar[dict[str, Any]] = {}
    # A client has no reference to its loop, so that an entry goes when the loop does.
    _instances: ClassVar[_Instances] = WeakKeyDictionary()

    _closed: bool
    _cores: Cores
    defaults: dict[str, Any]

    def __new__(cls, force_instance: bool = False, **kwargs: Any) -> AsyncHTTPClient:  # noqa: PYI034 - as configured
        """The running loop's instance, or a new one. RuntimeError when no loop is running and none is forced."""
        impl, settings = cls, kwargs
        if cls is AsyncHTTPClient:
            impl, settings = AsyncHTTPClient.configured_class(), {**AsyncHTTPClient._settings, **kwargs}
        instances = {} if force_instance else AsyncHTTPClient._instances.setdefault(_running_loop(), {})
        client = instances.get(impl)
        if client is None:
            client = object.__new__(impl)
            client._closed = False
            client.initialize(**settings)
            instances[impl] = client
            _close_those_of_closed_loops()
        return client

    def initialize(
        self, max_clients: int = MAX_CLIENTS, defaults: dict[str, Any] | None = None, **settings: Any
    ) -> None:
        """Set up a new instance; called once, with the keyword arguments that the instance is made with."""
        self.defaults = dict(defaults or {})
        self._cores = _open(max_clients, settings)

    @classmethod
    def configure(cls, impl: type[AsyncHTTPClient] | str | None, **kwargs: Any) -> None:
        """Say which class AsyncHTTPClient() makes (a subclass, or its dotted name), and with which arguments.

        Instances that are there already stay as they are. None stands for AsyncHTTPClient itself.
        """
        if isinstance(impl, str):
            module, _, name = impl.rpartition(".")
            if not module:
                raise ValueError(f"{impl!r} is not the dotted name of a class")
            impl = cast("type[AsyncHTTPClient]", getattr(import_module(module), name))
        given: Any = impl
        if given is not None and not (isinstance(given, type) and issubclass(given, AsyncHTTPClient)):
            raise ValueError(f"{impl!r} is not a subclass of AsyncHTTPClient")
        AsyncHTTPClient._impl = impl
        AsyncHTTPClient._settings = kwargs

    @classmethod
    def configured_class(cls) -> type[AsyncHTTPClient]:
        """The class that AsyncHTTPClient() makes."""
        return AsyncHTTPClient._impl or AsyncHTTPClient

    def fetch(
        self,
        request: str | HTTPRequest,
        callback: Callable[[HTTPResponse], Any] | None = None,
        raise_error: bool = True,
        **kwargs: Any,
    ) -> asyncio.Future[HTTPResponse]:
        """Send the request; the future that is returned gets the HTTPResponse. Cancelling it drops the request.

        A URL makes an HTTPRequest with the keyword arguments. The future raises HTTPClientError when the status is not
        2xx, unless `raise_error` is False; when no response came it raises it in any case, with code 599, and the error
        is also an exception of `aioxide.http`, such as ConnectError.

        `callback`, which Tornado gave up in version 6, is called on the loop with an HTTPResponse whatever happens:
        with code 599 and `error` set when no response came. What it raises goes to the loop's exception handler.

        Needs a running loop, and is to be called on its thread: RuntimeError otherwise, and once the client is closed.
        """
        if self._closed:
            raise RuntimeError("the client is closed: nothing can be fetched with it")
        loop = _running_loop()
        original = _as_request(request, kwargs)
        fetch = Fetch(original, resolve(original, self.defaults))
        task = loop.create_task(self._fetch(fetch, raise_error))
        if callback is not None:
            task.add_done_callback(partial(_call_back, loop, callback, fetch))
        return task

    async def _fetch(self, fetch: Fetch, raise_error: bool) -> HTTPResponse:
        try:
            response = await carry_out(self._cores, fetch)
        except Exception as error:
            problem = translated(error)
            if problem is error:
                raise
            raise problem from error
        if raise_error:
            response.rethrow()
        return response

    def statistics(self) -> dict[str, int]:
        """What the client holds now: connections open and idle, requests in flight and waiting."""
        return self._cores.statistics()

    def close(self) -> None:
        """Close the client and its idle connections; the loop's next AsyncHTTPClient() is a new one.

        May be called again.
        """
        if not self._closed:
            self._closed = True
            for instances in list(AsyncHTTPClient._instances.values()):
                if instances.get(type(self)) is self:
                    del instances[type(self)]
            self._cores.close()


def _close_those_of_closed_loops() -> None:
    """Let go of the clients of loops that are closed and that something still refers to."""
    for loop, instances in list(AsyncHTTPClient._instances.items()):
        if loop.is_closed():
            for client in list(instances.values()):
                client.close()


def _running_loop() -> asyncio.AbstractEventLoop:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            "an AsyncHTTPClient works on a running event loop, and none is running here: use it in a coroutine or in a "
            "callback of the loop, or use an HTTPClient"
        ) from None


def _call_back(
    loop: asyncio.AbstractEventLoop,
    callback: Callable[[HTTPResponse], Any],
    fetch: Fetch,
    task: asyncio.Future[HTTPResponse],
) -> None:
    error = asyncio.CancelledError() if task.cancelled() else task.exception()
    if error is None:
        response = task.result()
    elif isinstance(error, HTTPClientError) and error.response is not None:
        response = error.response
    else:
        response = fetch.failure(error)
    try:
        callback(response)
    except Exception as problem:  # noqa: BLE001 - whatever the callback raises is the loop's to report
        loop.call_exception_handler(
            {
                "message": f"exception in the callback of a fetch of {fetch.original.url}",
                "exception": problem,
                "future": task,
            }
        )


def __getattr__(name: str) -> Any:
    # It is a subclass of Tornado's own class, so it takes Tornado.
    if name == "NativeAsyncHTTPClient":
        from aioxide._tornado.plugged import NativeAsyncHTTPClient

        return NativeAsyncHTTPClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
