"""Response bodies that are still on their way.

The native core's, read by blocking code or on a loop, and those of any iterable.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ._content import AsyncByteStream, SyncByteStream
from ._exceptions import RequestError, StreamConsumed

if TYPE_CHECKING:
    from aioxide._native import RawResponse

    from ._request import Request


class BlockingBody(SyncByteStream):
    """The body of an answer that a blocking call asked for."""

    def __init__(self, raw: RawResponse, request: Request) -> None:
        self._raw = raw
        self._request = request

    def __iter__(self) -> Iterator[bytes]:
        read = self._raw.read_chunk_blocking
        try:
            while piece := read():
                yield piece
        except RequestError as error:
            error.request = self._request
            raise

    def close(self) -> None:
        """Release the connection."""
        self._raw.close()


class AsyncBody(AsyncByteStream):
    """The body of an answer that was asked for on a loop."""

    def __init__(self, raw: RawResponse, request: Request) -> None:
        self._raw = raw
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        read = self._raw.read_chunk
        try:
            while piece := await read():
                yield piece
        except RequestError as error:
            error.request = self._request
            raise

    async def aclose(self) -> None:
        """Release the connection."""
        self._raw.close()


class IterableBody(SyncByteStream):
    """The body of a response made from an iterable."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces: Iterable[bytes] | None = pieces

    def __iter__(self) -> Iterator[bytes]:
        pieces, self._pieces = self._pieces, None
        if pieces is None:
            raise StreamConsumed
        return iter(pieces)


class AsyncIterableBody(AsyncByteStream):
    """The body of a response made from an async iterable."""

    def __init__(self, pieces: AsyncIterable[bytes]) -> None:
        self._pieces: AsyncIterable[bytes] | None = pieces

    def __aiter__(self) -> Any:
        pieces, self._pieces = self._pieces, None
        if pieces is None:
            raise StreamConsumed
        return pieces.__aiter__()


def body_stream(content: Any) -> SyncByteStream | AsyncByteStream:
    """The stream for what was passed as a response's content."""
    if isinstance(content, (SyncByteStream, AsyncByteStream)):
        return content
    if isinstance(content, AsyncIterable):
        return AsyncIterableBody(content)
    if isinstance(content, Iterable) and not isinstance(content, dict):
        return IterableBody(content)
    raise TypeError(f"content= is bytes, str or an iterable of bytes, not {type(content).__name__}")


class Rechunker:
    """Cuts data that comes in pieces of any size into pieces of one size; without a size, passes it on."""

    def __init__(self, size: int | None) -> None:
        if size is not None and size < 1:
            raise ValueError(f"the size of a chunk must be positive, not {size}")
        self._size = size
        self._held: Any = None

    def feed(self, data: Any) -> list[Any]:
        """The pieces that are full now. `data` is bytes or str."""
        if not data:
            return []
        if self._size is None:
            return [data]
        if self._held:
            data = self._held + data
        full = len(data) - len(data) % self._size
        self._held = data[full:]
        return [data[at : at + self._size] for at in range(0, full, self._size)]

    def flush(self) -> list[Any]:
        """What is left over."""
        held, self._held = self._held, None
        return [held] if held else []
