"""How requests are made, in a form that travels: the clients themselves hold connections and locks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aioxide import http


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of HTTP clients: headers of every request, seconds for each step, redirects, further tries, HTTP/2.

    >>> Settings(retries=1).of_client(10, None)["retry"].attempts
    2
    """

    headers: tuple[tuple[str, str], ...] = ()
    timeout: float = 30.0
    follow_redirects: bool = False
    retries: int = 0
    http2: bool = False

    def of_client(self, concurrency: int, per_host: int | None) -> dict[str, Any]:
        """What a client is made with that may have so many connections, so many of them to one host."""
        return {
            "headers": list(self.headers),
            "timeout": http.Timeout(self.timeout),
            "follow_redirects": self.follow_redirects,
            "retry": http.Retry(attempts=self.retries + 1) if self.retries else None,
            "http2": self.http2,
            "limits": http.Limits(
                max_connections=concurrency,
                max_keepalive_connections=concurrency,
                max_connections_per_host=per_host,
            ),
        }
