"""When a request that failed is sent once more, and after which pause. Beyond httpx."""

from __future__ import annotations

import time
from collections.abc import Collection
from threading import Lock
from typing import TYPE_CHECKING

from ._exceptions import (
    ConnectError,
    ConnectTimeout,
    LocalProtocolError,
    PoolTimeout,
    TransportError,
    UnsupportedProtocol,
)

if TYPE_CHECKING:
    from ._request import Request
    from ._response import Response

IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "QUERY"})
_NEVER_SENT = (ConnectError, ConnectTimeout, PoolTimeout)
_NEVER_RETRIED = (LocalProtocolError, UnsupportedProtocol)
_BUDGET_MAX = 10.0


class Retry:
    """A client's ``retry=``: how often a request may be sent, and what is waited for in between.

    `attempts`: at most so many times in all. A request is sent again when its connection could not be made, and, if its
    method is one of `methods` (the idempotent ones), when it failed on the way or was answered with one of `statuses`.
    A body that was streamed is never sent again.

    The pause before the second attempt is `backoff` seconds, then twice as long each time, `max_pause` at most; a
    random part of it, up to the share `jitter`, is left out, so that clients which failed together do not come back
    together. What a ``Retry-After`` header says goes before it, unless that is more than `max_pause`: then the response
    is given as it is. ``Timeout.total`` is for all attempts together.

    `budget` is for all requests of the client: the share of them that may be retries, in the long run; ten more are
    free at the start. So a server that is down is not asked `attempts` times as much as one that works.

    ValueError for values out of range. One object may be used by several clients, which then share the budget.

    >>> Retry(attempts=4, backoff=0.2)
    Retry(attempts=4, backoff=0.2, max_pause=30.0, jitter=0.5, budget=0.2)
    """

    def __init__(
        self,
        attempts: int = 3,
        *,
        backoff: float = 0.5,
        max_pause: float = 30.0,
        jitter: float = 0.5,
        methods: Collection[str] = IDEMPOTENT,
        statuses: Collection[int] = (429, 502, 503, 504),
        budget: float = 0.2,
    ) -> None:
        if attempts < 1 or backoff < 0 or max_pause < 0 or not 0 <= jitter <= 1 or budget < 0:
            raise ValueError("Retry needs attempts >= 1, 0 <= jitter <= 1, and nothing else below 0")
        self.attempts = attempts
        self.backoff = backoff
        self.max_pause = max_pause
        self.jitter = jitter
        self.methods = frozenset(method.upper() for method in methods)
        self.statuses = frozenset(statuses)
        self.budget = budget
        self._lock = Lock()
        self._tokens = _BUDGET_MAX

    def count_request(self) -> None:
        """A request begins: it earns the budget its share."""
        with self._lock:
            self._tokens = min(_BUDGET_MAX, self._tokens + self.budget)

    def pause_after_error(self, request: Request, error: TransportError, attempt: int) -> float | None:
        """How many seconds to wait before the next attempt; None when the error stands."""
        if isinstance(error, _NEVER_RETRIED) or not _can_be_sent_again(request):
            return None
        if not isinstance(error, _NEVER_SENT) and request.method not in self.methods:
            return None
        return self._pause(attempt, None)

    def pause_after_response(self, request: Request, response: Response, attempt: int) -> float | None:
        """How many seconds to wait before the next attempt; None when the response stands."""
        if response.status_code not in self.statuses or request.method not in self.methods:
            return None
        if not _can_be_sent_again(request):
            return None
        return self._pause(attempt, response.headers.get("retry-after"))

    def _pause(self, attempt: int, retry_after: str | None) -> float | None:
        if attempt >= self.attempts:
            return None
        asked = None if retry_after is None else parse_retry_after(retry_after)
        if asked is not None and asked > self.max_pause:
            return None
        with self._lock:
            if self._tokens < 1:
                return None
            self._tokens -= 1
        if asked is not None:
            return asked
        from random import random

        return float(min(self.max_pause, self.backoff * 2 ** (attempt - 1)) * (1 - self.jitter * random()))

    def __repr__(self) -> str:
        return (
            f"Retry(attempts={self.attempts}, backoff={self.backoff}, max_pause={self.max_pause}, "
            f"jitter={self.jitter}, budget={self.budget})"
        )


def parse_retry_after(text: str) -> float | None:
    """The seconds that a ``Retry-After`` header says, from now; None when it cannot be understood.

    >>> parse_retry_after("120"), parse_retry_after("soon")
    (120.0, None)
    """
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def _can_be_sent_again(request: Request) -> bool:
    """Whether the body is there as a whole."""
    return request._content is not None or not request._stream_begun
