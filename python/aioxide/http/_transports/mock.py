"""A transport for tests: a function answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from .base import AsyncBaseTransport, BaseTransport

if TYPE_CHECKING:
    from .._request import Request
    from .._response import Response


class MockTransport(BaseTransport, AsyncBaseTransport):
    """Answers each request with what `handler` returns for it; for Client and AsyncClient alike.

    The handler gets the request with its body read. An AsyncClient also takes a coroutine function.

    >>> from aioxide import http
    >>> transport = MockTransport(lambda request: http.Response(200, json={"path": request.url.path}))
    >>> http.Client(transport=transport).get("http://example.com/a").json()
    {'path': '/a'}
    """

    def __init__(self, handler: Callable[[Request], Response] | Callable[[Request], Awaitable[Response]]) -> None:
        self.handler: Callable[[Request], Any] = handler

    def handle_request(self, request: Request) -> Response:
        """Have the handler answer. TypeError when it is a coroutine function."""
        request.read()
        response = self.handler(request)
        if hasattr(response, "__await__"):
            response.close()
            raise TypeError("a coroutine function cannot answer blocking code: use an AsyncClient")
        answer: Response = response
        return answer

    async def handle_async_request(self, request: Request) -> Response:
        """Have the handler answer."""
        await request.aread()
        response = self.handler(request)
        answer: Response = await response if hasattr(response, "__await__") else response
        return answer
