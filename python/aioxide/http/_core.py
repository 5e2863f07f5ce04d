"""What the package asks of the native core, as types, and the loading of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from typing import TYPE_CHECKING, Protocol, cast

from ._headers import RawHeaders

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future

    from ._config import Limits


class RawResponse(Protocol):
    """An answer as the core gives it; see the native module for the meaning of each part."""

    @property
    def status(self) -> int: ...
    @property
    def reason(self) -> str: ...
    @property
    def http_version(self) -> str: ...
    @property
    def headers(self) -> RawHeaders: ...
    @property
    def url(self) -> str: ...
    @property
    def body(self) -> bytes | None: ...
    @property
    def timings(self) -> dict[str, float]: ...
    def read_chunk(self) -> Future[bytes]: ...
    def read_chunk_blocking(self) -> bytes: ...
    def close(self) -> None: ...


class FetchMany(Protocol):
    """A running set of requests."""

    def __aiter__(self) -> AsyncIterator[tuple[int, RawResponse | Exception]]: ...
    def __anext__(self) -> Awaitable[tuple[int, RawResponse | Exception]]: ...
    def close(self) -> None: ...


class Core(Protocol):
    """Connection pools behind one handle."""

    def fetch(
        self,
        loop: AbstractEventLoop,
        method: str,
        url: str,
        headers: RawHeaders,
        body: bytes | None,
        *,
        connect_timeout: float | None,
        read_timeout: float | None,
        write_timeout: float | None,
        pool_timeout: float | None,
        total_timeout: float | None,
        max_redirects: int = 0,
        stream: bool = False,
    ) -> Future[RawResponse]: ...
    def fetch_blocking(
        self,
        method: str,
        url: str,
        headers: RawHeaders,
        body: bytes | None,
        *,
        connect_timeout: float | None,
        read_timeout: float | None,
        write_timeout: float | None,
        pool_timeout: float | None,
        total_timeout: float | None,
        max_redirects: int = 0,
        stream: bool = False,
    ) -> RawResponse: ...
    def fetch_many(
        self,
        loop: AbstractEventLoop,
        requests: list[tuple[str, str, RawHeaders, bytes | None]],
        *,
        limit: int,
        connect_timeout: float | None,
        read_timeout: float | None,
        write_timeout: float | None,
        pool_timeout: float | None,
        total_timeout: float | None,
    ) -> FetchMany: ...
    def close(self) -> None: ...
    def statistics(self) -> dict[str, int]: ...


def open_core(limits: Limits) -> Core:
    """New pools with these limits."""
    from aioxide import _native

    core = _native.HttpClient(
        max_connections=limits.max_connections,
        max_keepalive_connections=limits.max_keepalive_connections,
        keepalive_expiry=limits.keepalive_expiry,
    )
    return cast("Core", core)


def user_agent() -> str:
    """What the client calls itself."""
    from aioxide import __version__

    return f"aioxide/{__version__}"
