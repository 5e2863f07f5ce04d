"""What is stored of a response, and where: the base of stores, and the one in memory."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aioxide._native import CachePolicy

    from .._headers import RawHeaders

VARIANTS_PER_KEY_MAX = 32
_ENTRY_OVERHEAD_BYTES = 512


class CacheEntry:
    """A stored response, with what decides when it may be used again. Not to be changed.

    `headers` are pairs of bytes, `body` is as it came, still encoded. `vary` names the request's fields by which the
    response was chosen, and `selector` stands for the values that they had: requests with the same selector get the
    same response. `requested_at` and `received_at` are seconds of ``time.time()``.
    """

    __slots__ = (
        "_policy",
        "body",
        "headers",
        "http_version",
        "reason",
        "received_at",
        "requested_at",
        "selector",
        "status",
        "vary",
    )

    def __init__(
        self,
        status: int,
        headers: RawHeaders,
        body: bytes,
        *,
        selector: bytes,
        vary: list[str],
        requested_at: float,
        received_at: float,
        reason: bytes = b"",
        http_version: bytes = b"HTTP/1.1",
    ) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.selector = selector
        self.vary = vary
        self.requested_at = requested_at
        self.received_at = received_at
        self.reason = reason
        self.http_version = http_version
        self._policy: tuple[bool, CachePolicy] | None = None

    @property
    def size_bytes(self) -> int:
        """About how much memory it takes."""
        return len(self.body) + sum(len(name) + len(value) for name, value in self.headers) + _ENTRY_OVERHEAD_BYTES

    def policy(self, shared: bool) -> CachePolicy:
        """The rules for it, in a cache that users share or one of a single user."""
        if self._policy is None or self._policy[0] != shared:
            from aioxide._native import CachePolicy

            # That it may be stored was decided when it was; the rest needs nothing of the request.
            policy = CachePolicy(
                "GET",
                [],
                self.status,
                self.headers,
                requested_at=self.requested_at,
                received_at=self.received_at,
                shared=shared,
            )
            self._policy = (shared, policy)
        return self._policy[1]

    def __repr__(self) -> str:
        # No headers: they may be a user's.
        return f"<CacheEntry {self.status}, {len(self.body)} bytes>"


class CacheStore:
    """Base of stores for a Cache. Subclass it with the methods below; they are called from any thread at once.

    A key stands for a URL; under it is one entry for each selector. What they raise is logged and costs no request: a
    store that fails is one without entries.
    """

    blocks = False
    """Whether the methods may wait for something, a disk above all: an AsyncClient then calls them in a thread."""

    def get(self, key: str) -> list[CacheEntry]:
        """All entries of the key."""
        raise NotImplementedError(f"{type(self).__name__} must define get")

    def put(self, key: str, entry: CacheEntry) -> None:
        """Store an entry, in the place of one with the same selector."""
        raise NotImplementedError(f"{type(self).__name__} must define put")

    def delete(self, key: str) -> None:
        """Forget all entries of the key; there may be none."""
        raise NotImplementedError(f"{type(self).__name__} must define delete")

    def clear(self) -> None:
        """Forget everything."""
        raise NotImplementedError(f"{type(self).__name__} must define clear")

    def close(self) -> None:
        """Release what the store holds. May be called again."""


class MemoryCacheStore(CacheStore):
    """Keeps responses in memory, the least recently used of which go first when it is full.

    `max_bytes`: of bodies and headers together. `max_keys`: URLs with an entry. ValueError for limits below 1.

    >>> from aioxide import http
    >>> cache = http.Cache(http.MemoryCacheStore(max_bytes=1_000_000))
    """

    def __init__(self, *, max_bytes: int = 67_108_864, max_keys: int = 10_000) -> None:
        if max_bytes < 1 or max_keys < 1:
            raise ValueError("MemoryCacheStore needs max_bytes and max_keys of at least 1")
        self.max_bytes = max_bytes
        self.max_keys = max_keys
        self._lock = Lock()
        self._entries: OrderedDict[str, dict[bytes, CacheEntry]] = OrderedDict()
        self._bytes = 0

    def get(self, key: str) -> list[CacheEntry]:
        """All entries of the key."""
        with self._lock:
            variants = self._entries.get(key)
            if variants is None:
                return []
            self._entries.move_to_end(key)
            return list(variants.values())

    def put(self, key: str, entry: CacheEntry) -> None:
        """Store an entry, in the place of one with the same selector."""
        size = entry.size_bytes
        if size > self.max_bytes:
            self.delete(key)  # what is there is older
            return
        with self._lock:
            variants = self._entries.setdefault(key, {})
            self._entries.move_to_end(key)
            self._forget(variants.pop(entry.selector, None))
            while len(variants) >= VARIANTS_PER_KEY_MAX:
                self._forget(variants.pop(next(iter(variants))))
            variants[entry.selector] = entry
            self._bytes += size
            while self._bytes > self.max_bytes or len(self._entries) > self.max_keys:
                oldest, its = next(iter(self._entries.items()))
                if oldest == key and len(its) > 1:  # the only key is full of variants
                    self._forget(its.pop(next(iter(its))))
                else:
                    self._forget(*self._entries.pop(oldest).values())

    def _forget(self, *entries: CacheEntry | None) -> None:
        self._bytes -= sum(each.size_bytes for each in entries if each is not None)

    def delete(self, key: str) -> None:
        """Forget all entries of the key."""
        with self._lock:
            self._forget(*self._entries.pop(key, {}).values())

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()
            self._bytes = 0

    def __len__(self) -> int:
        """How many entries there are."""
        with self._lock:
            return sum(map(len, self._entries.values()))

    def __repr__(self) -> str:
        return f"<MemoryCacheStore: {len(self)} entries, {self._bytes} of {self.max_bytes} bytes>"
