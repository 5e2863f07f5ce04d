"""Response bodies of the native core that are still on their way, read by blocking code or on a loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Iterator
from typing import TYPE_CHECKING, Any

from ._content import AsyncByteStream, SyncByteStream
from ._exceptions import RequestError

if TYPE_CHECKING:
    from aioxide._native import RawResponse

    from ._request import Request


class NetworkStream:
    """The connection that a response came by. What is known of it, not what is read from it or written to it."""

    def __init__(self, raw: RawResponse) -> None:
        self._raw = raw

    def get_extra_info(self, info: str) -> Any:
        """``ssl_object`` (the connection's own `ssl.SSLObject`), ``client_addr``, ``server_addr``; None for others.

        Behind a proxy the address is the proxy's.
        """
        return self._raw.connection_info(info)


class BlockingBody(SyncByteStream):
    """The body of an answer that a blocking call asked for."""

    def __init__(self, raw: RawResponse, request: Request) -> None:
        self._raw = raw
        self._request = request

    def __iter__(self) -> Iterator[bytes]:
        read = self._raw.read_chunk_blocking
        progress = Downloaded(self._raw, self._request)
        try:
            while piece := read():
                progress.add(piece)
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
        from asyncio import _get_running_loop

        raw = self._raw
        progress = Downloaded(raw, self._request)
        try:
            while piece := await (raw.read_chunk() if _get_running_loop() is not None else _read_under_trio(raw)):
                progress.add(piece)
                yield piece
        except RequestError as error:
            error.request = self._request
            raise

    async def aclose(self) -> None:
        """Release the connection."""
        self._raw.close()


def _read_under_trio(raw: RawResponse) -> Awaitable[bytes]:
    from ._transports.trio import in_thread

    return in_thread(raw.read_chunk_blocking)


class Downloaded:
    """Tells the request's ``download_progress`` how much of the body is there: of how much, if the server said."""

    def __init__(self, raw: RawResponse, request: Request) -> None:
        self._progress = request.extensions.get("download_progress")
        if self._progress is not None:
            announced = [value for name, value in raw.headers if name == b"content-length"]
            self._total = int(announced[0]) if announced and announced[0].isdigit() else None
            self._received = 0

    def add(self, piece: bytes) -> None:
        """Another piece is there."""
        if self._progress is not None:
            self._received += len(piece)
            self._progress(self._received, self._total)


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


def pieces(content: bytes, size: int | None) -> Iterator[bytes]:
    """The content, cut into pieces of one size if there is one."""
    chunker = Rechunker(size)
    yield from chunker.feed(content)
    yield from chunker.flush()
