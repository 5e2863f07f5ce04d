"""A response's body, kept as it is read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from .._content import AsyncByteStream, ByteStream, SyncByteStream

if TYPE_CHECKING:
    from .._response import Response


class BodyKeeper:
    """Keeps what is read of one body; of one that is longer than `max_bytes` nothing is left.

    `body` is there once it was read to its end.
    """

    def __init__(self, max_bytes: int | None) -> None:
        self.body: bytes | None = None
        self.when_whole: Callable[[bytes], None] | None = None
        """Called with the body when blocking code has read it to its end."""
        self.when_whole_async: Callable[[bytes], Awaitable[None]] | None = None
        """Awaited with the body when async code has read it to its end."""
        self._max_bytes = max_bytes
        self._pieces: list[bytes] = []
        self._received = 0

    def watch(self, response: Response, kind: type[SyncByteStream | AsyncByteStream]) -> None:
        """Keep the body of a response that nobody has begun to read, and which will be read as a stream of `kind`."""
        raw = response._raw
        if raw is not None and (whole := raw.body) is not None:
            self._settle(whole)
            return
        stream = response.stream
        if isinstance(stream, ByteStream):
            self._settle(stream._data)
        elif kind is SyncByteStream and isinstance(stream, SyncByteStream):
            response.stream = _Blocking(stream, self)
        elif kind is AsyncByteStream and isinstance(stream, AsyncByteStream):
            response.stream = _Async(stream, self)

    def _settle(self, whole: bytes) -> None:
        if self._fits(len(whole)):
            self.body = whole

    def _fits(self, size: int) -> bool:
        return self._max_bytes is None or size <= self._max_bytes

    def _add(self, piece: bytes) -> None:
        self._received += len(piece)
        if self._fits(self._received):
            self._pieces.append(piece)
        else:
            self._pieces = []

    def _end(self) -> None:
        if self._fits(self._received):
            self.body = b"".join(self._pieces)
        self._pieces = []


class _Blocking(SyncByteStream):
    def __init__(self, stream: SyncByteStream, keeper: BodyKeeper) -> None:
        self._stream = stream
        self._keeper = keeper

    def __iter__(self) -> Any:
        keeper = self._keeper
        for piece in self._stream:
            keeper._add(piece)
            yield piece
        keeper._end()
        if keeper.when_whole is not None and keeper.body is not None:
            keeper.when_whole(keeper.body)

    def close(self) -> None:
        self._stream.close()


class _Async(AsyncByteStream):
    def __init__(self, stream: AsyncByteStream, keeper: BodyKeeper) -> None:
        self._stream = stream
        self._keeper = keeper

    async def __aiter__(self) -> Any:
        keeper = self._keeper
        async for piece in self._stream:
            keeper._add(piece)
            yield piece
        keeper._end()
        if keeper.when_whole_async is not None and keeper.body is not None:
            await keeper.when_whole_async(keeper.body)

    async def aclose(self) -> None:
        await self._stream.aclose()
