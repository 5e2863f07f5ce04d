"""Request bodies that are sent as they come: what reads them, piece by piece, as the peer takes them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, closing
from typing import TYPE_CHECKING, Any, cast

from ._content import AsyncByteStream, ByteStream, SyncByteStream
from ._exceptions import RequestError, StreamConsumed

if TYPE_CHECKING:
    from aioxide._native import RawResponse, Upload

    from ._request import Request

Progress = Callable[[int, int | None], Any]
"""Called with the bytes that are done, and with those that there are in all, where that is known."""

_PIECE_BYTES = 65_536


def is_streamed(request: Request) -> bool:
    """Whether the body is to be sent piece by piece: it is a stream, or somebody wants to see its progress."""
    return request._stream is not None or "upload_progress" in request.extensions


class Source:
    """A request's body, the native object that takes its pieces, and who hears of the progress."""

    def __init__(self, request: Request) -> None:
        from aioxide._native import Upload

        announced = request.headers.get("content-length", "")
        self.length = int(announced) if announced.isascii() and announced.isdigit() else None
        self.upload: Upload = Upload(self.length)
        self.progress: Progress | None = request.extensions.get("upload_progress")
        self._reported = -1
        self.request = request
        self.stream: Any = request._stream if request._content is None else _Cut(request._content)
        # Said before anything is sent: a server that hangs up meanwhile would hide it.
        if getattr(self.stream, "is_used_up", False):
            raise StreamConsumed

    def report(self) -> None:
        """Say how much the connection has taken, if that was not said yet."""
        if self.progress is not None and (taken := self.upload.taken) != self._reported:
            self._reported = taken
            self.progress(taken, self.length)


class _Cut(ByteStream):
    """A body that is there already, in pieces."""

    def __iter__(self) -> Iterator[bytes]:
        for at in range(0, len(self._data), _PIECE_BYTES):
            yield self._data[at : at + _PIECE_BYTES]

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self:
            yield piece


class BlockingUpload(Source):
    """Gives the pieces in the thread that waits for the response: the core calls it whenever there is room."""

    def __init__(self, request: Request, pieces: Iterator[bytes] | None = None) -> None:
        super().__init__(request)
        if pieces is None and not isinstance(self.stream, SyncByteStream):
            raise RuntimeError("the request's body is an async iterable: blocking code cannot send it")
        self._pieces = pieces
        self._finished = False

    def __call__(self) -> bool:
        """Put one piece. Whether there may be another."""
        if self._pieces is not None:
            self.report()
        if self._finished or self.upload.is_over:
            return False
        if self._pieces is None:
            self.request._stream_begun = True
            self._pieces = iter(self.stream)
        try:
            self.upload.put(next(self._pieces))
        except StopIteration:
            self._finished = True
            self.upload.finish()
        return True

    def close(self) -> None:
        """Release the body, whether or not it was sent whole."""
        if hasattr(self._pieces, "close"):
            with closing(cast("Any", self._pieces)):
                pass
        if isinstance(self.stream, SyncByteStream):
            self.stream.close()


class AsyncUpload:
    """A task that gives the pieces while the request is under way.

    `feed` puts them: it is called once the request asks for its body, and waits for room after each.
    """

    def __init__(self, upload: Upload, feed: Callable[[], Awaitable[None]]) -> None:
        self.upload = upload
        self._loop = asyncio.get_running_loop()
        self._feed = feed
        self._task = self._loop.create_task(self._run())

    @classmethod
    def of(cls, request: Request) -> AsyncUpload:
        """What sends the body of `request`. RuntimeError when only blocking code can read it."""
        source = Source(request)
        if not isinstance(source.stream, AsyncByteStream):
            raise RuntimeError("the request's body is a blocking iterable: async code cannot send it")
        return cls(source.upload, lambda: _feed_stream(source))

    async def _run(self) -> None:
        try:
            await self.upload.room(self._loop)
            if not self.upload.is_over:
                await self._feed()
                self.upload.finish()
        except BaseException:
            self.upload.fail()
            raise

    async def carry(self, start: Callable[[], Awaitable[RawResponse]]) -> RawResponse:
        """The answer to the request that `start` begins, once its head is there.

        What the body's source raises goes before what the request does.

        If the server says yes before it has the whole body, the rest is sent while the answer is read; if it says no,
        the rest is not read from its source.
        """
        try:
            raw = await start()
        except BaseException as error:
            problem = await self.stop()
            if problem is None or not isinstance(error, RequestError):
                raise
            raise problem from None
        if raw.status < 300 and not self._task.done():
            return cast("RawResponse", _StillSending(raw, self))
        problem = await self.stop()
        if problem is not None:
            raw.close()
            raise problem
        return raw

    async def stop(self) -> BaseException | None:
        """Give no more pieces. What their source failed with, if it did."""
        if not self.upload.is_finished or self.upload.is_full:
            self._task.cancel()
        # Else it only has the last of the progress to tell.
        await asyncio.wait([self._task])
        return None if self._task.cancelled() else self._task.exception()

    def cancel(self) -> None:
        """As `stop`, without waiting until the source is closed."""
        self._task.add_done_callback(lambda task: task.cancelled() or task.exception())
        self._task.cancel()


async def _feed_stream(source: Source) -> None:
    upload, loop = source.upload, asyncio.get_running_loop()
    source.request._stream_begun = True
    try:
        async with aclosing(source.stream.__aiter__()) as pieces:
            async for piece in pieces:
                upload.put(piece)
                if upload.is_full:
                    await upload.room(loop)
                source.report()
                if upload.is_over:
                    return
        upload.finish()
        if source.progress is not None:
            await upload.room(loop)
            source.report()
    finally:
        if source.request._content is None:
            await source.stream.aclose()


class _StillSending:
    """An answer whose request is still being sent. Else as a RawResponse."""

    def __init__(self, raw: RawResponse, uploading: AsyncUpload) -> None:
        self._raw = raw
        self._uploading = uploading

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)

    async def read_chunk(self) -> bytes:
        """See RawResponse. What the body's source raises goes before what the answer does."""
        try:
            piece = await self._raw.read_chunk()
        except RequestError:
            problem = await self._uploading.stop()
            if problem is None:
                raise
            raise problem from None
        if not piece:
            # The answer is whole: what the body's source may still fail with changes nothing.
            await self._uploading.stop()
        return piece

    def close(self) -> None:
        """See RawResponse."""
        self._raw.close()
        self._uploading.cancel()
