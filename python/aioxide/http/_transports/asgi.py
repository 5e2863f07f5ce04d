"""A transport that calls an ASGI application, without a network in between."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from .._content import AsyncByteStream, ByteStream
from .._response import Response
from .base import AsyncBaseTransport
from .trio import running_trio

if TYPE_CHECKING:
    from .._request import Request

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


class ASGITransport(AsyncBaseTransport):
    """Answers requests by an ASGI 3.0 application (https://asgi.readthedocs.io), for tests and for calls in-process.

    The application has ended when the response is there, with its body. `raise_app_exceptions`: what the application
    raises comes out of the request; else the response is what was sent until then, or a 500. `root_path` and `client`
    (host and port) are what the application is told of where it is mounted and who asks.

    >>> import asyncio
    >>> from aioxide import http
    >>> async def app(scope, receive, send):
    ...     await send({"type": "http.response.start", "status": 200, "headers": []})
    ...     await send({"type": "http.response.body", "body": scope["path"].encode()})
    >>> async def main():
    ...     async with http.AsyncClient(transport=ASGITransport(app), base_url="http://app") as client:
    ...         return (await client.get("/a")).text
    >>> asyncio.run(main())
    '/a'
    """

    def __init__(
        self,
        app: Application,
        raise_app_exceptions: bool = True,
        root_path: str = "",
        client: tuple[str, int] = ("127.0.0.1", 123),
    ) -> None:
        self.app = app
        self.raise_app_exceptions = raise_app_exceptions
        self.root_path = root_path
        self.client = client

    async def handle_async_request(self, request: Request) -> Response:
        """Call the application. RuntimeError when it ends without an answer, or breaks ASGI's order of messages."""
        call = _Call(request)
        try:
            await self.app(self._scope(request), call.receive, call.send)
        except Exception:
            if self.raise_app_exceptions:
                raise
            if call.status is None:
                call.status = 500
            call.complete.set()
        if call.status is None or not call.complete.is_set():
            raise RuntimeError(f"the ASGI application returned before its answer to {request.url} was complete")
        return Response(call.status, headers=call.headers, stream=ByteStream(b"".join(call.body)))

    def _scope(self, request: Request) -> dict[str, Any]:
        url = request.url
        return {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": request.method,
            "headers": [(name.lower(), value) for name, value in request.headers.raw],
            "scheme": url.scheme,
            "path": url.path,
            "raw_path": url.raw_path.partition(b"?")[0],
            "query_string": url.query,
            "server": (url.host, url.port),
            "client": self.client,
            "root_path": self.root_path,
        }


class _Call:
    """One call of an application: what it gets and what it sends."""

    def __init__(self, request: Request) -> None:
        stream = request.stream
        if not isinstance(stream, AsyncByteStream):
            raise RuntimeError("the request's body is a blocking iterable: an ASGI application cannot read it")
        self._pieces = stream.__aiter__()
        self._request_over = False
        self._keeps_body = request.method != "HEAD"
        self.status: int | None = None
        self.headers: Any = None
        self.body: list[bytes] = []
        self.complete = _event()

    async def receive(self) -> Message:
        if self._request_over:
            await self.complete.wait()
            return {"type": "http.disconnect"}
        try:
            return {"type": "http.request", "body": await self._pieces.__anext__(), "more_body": True}
        except StopAsyncIteration:
            self._request_over = True
            return {"type": "http.request", "body": b"", "more_body": False}

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start":
            if self.status is not None:
                raise RuntimeError("the ASGI application started its answer twice")
            self.status, self.headers = message["status"], message.get("headers", [])
        elif kind == "http.response.body":
            if self.complete.is_set():
                raise RuntimeError("the ASGI application sent more after the end of its answer")
            body = message.get("body", b"")
            if body and self._keeps_body:
                self.body.append(body)
            if not message.get("more_body", False):
                self.complete.set()


def _event() -> Any:
    """An event of the library that runs this coroutine."""
    trio = running_trio()
    if trio is not None:
        return trio.Event()
    import asyncio

    return asyncio.Event()
