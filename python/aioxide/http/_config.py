"""What a client can be configured with: limits on time and on connections."""

from __future__ import annotations

from typing import Any, Final, Union


class UseClientDefault:
    """The type of USE_CLIENT_DEFAULT."""

    def __repr__(self) -> str:
        return "USE_CLIENT_DEFAULT"


USE_CLIENT_DEFAULT: Final = UseClientDefault()
"""The default of a request's `auth`, `timeout` and `follow_redirects`: as the client says. None switches the client's
setting off.
"""


class _Unset:
    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = _Unset()

TimeoutTypes = Union[
    float,
    None,
    tuple[float | None, float | None, float | None, float | None],
    "Timeout",
]


class Timeout:
    """Limits on time, all in seconds; None means without limit.

    `connect`: to make a connection. `read`: between two pieces of the response, and to its first byte. `write`: between
    two pieces of the request that the peer takes. `pool`: to get a connection of the pool. `total`: for the whole of
    one request, its body included (beyond httpx; a streamed body as well).

    Each defaults to `timeout`, except `total`, which is None unless given. Without `timeout`, the four others must all
    be given: ValueError.

    >>> Timeout(5.0, connect=1.0)
    Timeout(connect=1.0, read=5.0, write=5.0, pool=5.0)
    >>> Timeout(5.0, total=30)
    Timeout(timeout=5.0, total=30)
    """

    __slots__ = ("connect", "pool", "read", "total", "write")

    connect: float | None
    read: float | None
    write: float | None
    pool: float | None
    total: float | None

    def __init__(
        self,
        timeout: TimeoutTypes | _Unset = UNSET,
        *,
        connect: float | _Unset | None = UNSET,
        read: float | _Unset | None = UNSET,
        write: float | _Unset | None = UNSET,
        pool: float | _Unset | None = UNSET,
        total: float | _Unset | None = UNSET,
    ) -> None:
        default: Any = timeout
        parts: dict[str, Any] = {"connect": connect, "read": read, "write": write, "pool": pool}
        self.total = None if isinstance(total, _Unset) else total
        if isinstance(timeout, Timeout):
            if any(part is not UNSET for part in parts.values()):
                raise TypeError("a Timeout made from another Timeout takes no connect, read, write or pool")
            for name in parts:
                setattr(self, name, getattr(timeout, name))
            if isinstance(total, _Unset):
                self.total = timeout.total
            return
        if isinstance(timeout, tuple):
            if not 2 <= len(timeout) <= 4:
                raise ValueError("a tuple of timeouts is (connect, read, write, pool), the last two optional")
            for name, value in zip(parts, (*timeout, None, None), strict=False):
                setattr(self, name, value)
            return
        if timeout is UNSET and any(part is UNSET for part in parts.values()):
            raise ValueError("Timeout needs a default, or all four of connect, read, write and pool")
        for name, value in parts.items():
            setattr(self, name, default if value is UNSET else value)

    def as_dict(self) -> dict[str, float | None]:
        """The five limits by name, as they stand in ``request.extensions["timeout"]``."""
        return {"connect": self.connect, "read": self.read, "write": self.write, "pool": self.pool, "total": self.total}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Timeout) and self.as_dict() == other.as_dict()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        total = "" if self.total is None else f", total={self.total}"
        if len({self.connect, self.read, self.write, self.pool}) == 1:
            return f"Timeout(timeout={self.connect}{total})"
        return f"Timeout(connect={self.connect}, read={self.read}, write={self.write}, pool={self.pool}{total})"


class Limits:
    """Limits on connections, per loop (and per thread for blocking calls); None means without limit.

    `max_connections`: open at once. `max_keepalive_connections`: kept open while idle. `keepalive_expiry`: for how many
    seconds. `max_connections_per_host`: open at once to one scheme, host and port (beyond httpx).

    Requests that find no connection wait, first come, first served; one whose host has all the connections that it may
    have does not hold up those for others.

    >>> Limits(max_connections=10)
    Limits(max_connections=10, max_keepalive_connections=None, keepalive_expiry=5.0)
    >>> Limits(max_connections_per_host=2)
    Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=5.0, max_connections_per_host=2)
    """

    __slots__ = ("keepalive_expiry", "max_connections", "max_connections_per_host", "max_keepalive_connections")

    def __init__(
        self,
        *,
        max_connections: int | None = None,
        max_keepalive_connections: int | None = None,
        keepalive_expiry: float | None = 5.0,
        max_connections_per_host: int | None = None,
    ) -> None:
        self.max_connections = max_connections
        self.max_keepalive_connections = max_keepalive_connections
        self.keepalive_expiry = keepalive_expiry
        self.max_connections_per_host = max_connections_per_host

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Limits)
            and self.max_connections == other.max_connections
            and self.max_keepalive_connections == other.max_keepalive_connections
            and self.keepalive_expiry == other.keepalive_expiry
            and self.max_connections_per_host == other.max_connections_per_host
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        per_host = self.max_connections_per_host
        return (
            f"Limits(max_connections={self.max_connections}, "
            f"max_keepalive_connections={self.max_keepalive_connections}, keepalive_expiry={self.keepalive_expiry}"
            + (")" if per_host is None else f", max_connections_per_host={per_host})")
        )


DEFAULT_TIMEOUT_CONFIG: Final = Timeout(5.0)
DEFAULT_LIMITS: Final = Limits(max_connections=100, max_keepalive_connections=20)
DEFAULT_MAX_REDIRECTS: Final = 20
