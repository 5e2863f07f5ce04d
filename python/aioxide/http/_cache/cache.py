"""Cache: a client's stored responses."""

from __future__ import annotations

import logging
from time import time
from types import TracebackType
from typing import Any, Self

from .flights import Flights
from .stores import CacheStore, MemoryCacheStore

_log = logging.getLogger("aioxide.http.cache")
OUTCOMES = ("hit", "miss", "revalidated", "stale", "shared", "bypass")


class Cache:
    """A client's ``cache=``: responses are stored, and used again as RFC 9111 says.

    A GET is answered from the store while its response is fresh; later the server is asked whether it still holds, by
    ETag and Last-Modified. Cache-Control of both sides, Expires, Age, Vary and Pragma are heeded; where nothing is
    said, a response is fresh for a tenth of the time since its Last-Modified, a week at most. So are ``stale-if-
    error`` and ``stale-while-revalidate``, for which blocking code asks first. A request that changes something
    (POST, PUT, DELETE, PATCH) has its URL forgotten. Requests for a part, with conditions of their own, or with a
    body pass by. A request's Cache-Control decides too: ``no-store`` (it passes by), ``no-cache``, ``max-age``,
    ``max-stale``, ``min-fresh``, ``only-if-cached`` (a 504 when nothing is stored).

    ``response.extensions["cache"]`` says what happened: ``"hit"``; ``"miss"``, the server answered, which is stored if
    it may be; ``"revalidated"``, by a 304; ``"stale"``, by leave of the server or the request; ``"shared"``, an equal
    request's response; ``"bypass"``.

    `coalesce`: of equal GETs that are under way at once, one is sent; the others get its response, if that may be used
    again, or its error. If the one that is sent is cancelled, another is sent in its stead. They are equal if URL,
    limits on time and what responses commonly vary by agree. Streamed ones are never sent for others.

    A cache is one user's: what is private is stored, and a response is only given to requests with the same
    Authorization. `shared`: users share it, and what is private is left out. `store` is where responses are kept, in
    memory (64 MiB) unless given; bodies of more than `max_body_bytes` are not. A cache may serve several clients,
    threads and loops, and outlives them: close it if its store needs that. ValueError for a limit below 0.

    >>> from aioxide import http
    >>> transport = http.MockTransport(lambda request: http.Response(200, headers={"Cache-Control": "max-age=60"}))
    >>> with http.Client(cache=http.Cache(), transport=transport) as client:
    ...     [client.get("http://example.com/").extensions["cache"] for _ in range(2)]
    ['miss', 'hit']
    """

    def __init__(
        self,
        store: CacheStore | None = None,
        *,
        shared: bool = False,
        coalesce: bool = True,
        max_body_bytes: int = 8_388_608,
    ) -> None:
        if max_body_bytes < 0:
            raise ValueError("Cache needs max_body_bytes of at least 0")
        self.store = MemoryCacheStore() if store is None else store
        self.shared = shared
        self.coalesce = coalesce
        self.max_body_bytes = max_body_bytes
        self.flights = Flights()
        self.now = time
        self._counts = dict.fromkeys(OUTCOMES, 0)

    def statistics(self) -> dict[str, int]:
        """How many requests ended how, by the names of ``extensions["cache"]``. With several threads: about so many."""
        return dict(self._counts)

    def count(self, outcome: str) -> None:
        """A request ended so."""
        self._counts[outcome] += 1

    def clear(self) -> None:
        """Forget all responses."""
        self.store.clear()

    def close(self) -> None:
        """Close the store. May be called again."""
        self.store.close()

    def call_store(self, method: str, arguments: tuple[Any, ...]) -> Any:
        """What this method of the store gives; None when it fails, which costs no request and is logged."""
        try:
            return getattr(self.store, method)(*arguments)
        except Exception as error:  # noqa: BLE001 - whatever a store raises, a request does without it
            _log.warning("the cache's store %r failed to %s: %r", self.store, method, error)
            return None

    async def call_store_async(self, method: str, arguments: tuple[Any, ...]) -> Any:
        """As `call_store`; in a thread if the store may wait for something."""
        if not self.store.blocks:
            return self.call_store(method, arguments)
        from .steps import in_a_thread

        return await in_a_thread(self.call_store, method, arguments)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Cache{' shared' * self.shared} in {self.store!r}>"


def build_cache(given: Cache | bool | None) -> Cache | None:
    """The cache that a client's ``cache=`` means. TypeError for what is none."""
    if given is None or isinstance(given, Cache):
        return given
    if isinstance(given, bool):
        return Cache() if given else None
    raise TypeError(f"cache= is a Cache, True or False, not {type(given).__name__}")
