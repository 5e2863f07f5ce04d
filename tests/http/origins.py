"""Origins without a network: transports that answer by a function, and keep the requests."""

from __future__ import annotations

from collections.abc import Callable

from aioxide import http

Answer = Callable[[http.Request], http.Response]


class Origin(http.BaseTransport, http.AsyncBaseTransport):
    """Answers by a function, and keeps the requests."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.requests: list[http.Request] = []

    def handle_request(self, request: http.Request) -> http.Response:
        self.requests.append(request)
        return self.answer(request)

    async def handle_async_request(self, request: http.Request) -> http.Response:
        return self.handle_request(request)

    def sent(self) -> int:
        count = len(self.requests)
        self.requests.clear()
        return count


def fresh(request: http.Request) -> http.Response:
    return http.Response(200, headers={"Cache-Control": "max-age=60"}, text="shared")
