"""From what a caller passes as a body to the bytes and the headers that say what they are."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Iterable, Iterator, Mapping
from typing import Any, Union

from ._exceptions import StreamClosed, StreamConsumed
from ._multipart import RequestFiles, Segment, encode_multipart, given_boundary
from ._query import encode_form, primitive_to_str

RequestContent = str | bytes | Iterable[bytes] | AsyncIterable[bytes]
RequestData = Mapping[str, Any]
Body = Union[bytes, "SyncByteStream", "AsyncByteStream", None]

_FILE_PIECE_BYTES = 65_536


class SyncByteStream:
    """A body that blocking code reads piece by piece.

    Subclass it with ``__iter__`` and, where there is something to release, ``close``.
    """

    def __iter__(self) -> Iterator[bytes]:
        raise NotImplementedError(f"{type(self).__name__} must define __iter__")

    def close(self) -> None:
        """Release what the body holds; called once it is read, or given up."""


class AsyncByteStream:
    """A body that async code reads piece by piece.

    Subclass it with ``__aiter__`` and, where there is something to release, ``aclose``.
    """

    def __aiter__(self) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must define __aiter__")

    async def aclose(self) -> None:
        """Release what the body holds; called once it is read, or given up."""


class ByteStream(SyncByteStream, AsyncByteStream):
    """A body that is there already."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __iter__(self) -> Iterator[bytes]:
        yield self._data

    async def __aiter__(self) -> Any:
        yield self._data


class IteratorByteStream(SyncByteStream):
    """A body made from an iterable of bytes, or from an open binary file, from where it stands.

    An iterator can be read once, and so can a file that cannot go back.
    """

    def __init__(self, stream: Iterable[bytes]) -> None:
        self._pieces = stream
        self.is_used_up = False
        self._file_start: int | None = None

    def __iter__(self) -> Iterator[bytes]:
        if self.is_used_up:
            raise StreamConsumed
        pieces: Any = self._pieces
        if hasattr(pieces, "read"):
            # As an iterable it would come line by line.
            self._find_start(pieces)
            yield from read_pieces(pieces)
            return
        self.is_used_up = iter(pieces) is pieces
        yield from pieces

    def _find_start(self, file: Any) -> None:
        try:
            if self._file_start is None:
                self._file_start = file.tell()
            else:
                file.seek(self._file_start)
        except (AttributeError, OSError):
            self.is_used_up = True


class SegmentedBody(SyncByteStream, AsyncByteStream):
    """Bytes and open binary files, one after the other. A file is read from its beginning, as often as it can go back.

    `length` is how many bytes they are together, None where a file does not tell.
    """

    def __init__(self, segments: list[Segment]) -> None:
        self._segments = segments
        self.is_used_up = False
        lengths = [len(each) if isinstance(each, bytes) else _length_of_all(each) for each in segments]
        self.length = None if None in lengths else sum(length for length in lengths if length is not None)

    def __iter__(self) -> Iterator[bytes]:
        if self.is_used_up:
            raise StreamConsumed
        for segment in self._segments:
            if isinstance(segment, bytes):
                yield segment
                continue
            try:
                segment.seek(0)
            except (AttributeError, OSError):  # a pipe
                self.is_used_up = True
            yield from read_pieces(segment)

    async def __aiter__(self) -> Any:
        for piece in self:
            yield piece


def read_pieces(file: Any) -> Iterator[bytes]:
    """What is left in an open file, piece by piece. TypeError when it is text."""
    while piece := file.read(_FILE_PIECE_BYTES):
        if isinstance(piece, str):
            raise TypeError("a file to upload must be opened in binary mode, not in text mode")
        yield piece


class AsyncIteratorByteStream(AsyncByteStream):
    """A body made from an async iterable of bytes. An async iterator can be read once."""

    def __init__(self, stream: AsyncIterable[bytes]) -> None:
        self._pieces = stream
        self.is_used_up = False

    async def __aiter__(self) -> Any:
        if self.is_used_up:
            raise StreamConsumed
        pieces = self._pieces
        self.is_used_up = pieces.__aiter__() is pieces
        read = getattr(pieces, "aread", None)
        if read is not None:
            while piece := await read(_FILE_PIECE_BYTES):
                yield piece
            return
        iterator: Any = pieces.__aiter__()
        try:
            async for piece in iterator:
                yield piece
        finally:
            if hasattr(iterator, "aclose"):
                await iterator.aclose()


class LostBody(SyncByteStream, AsyncByteStream):
    """The body of a message that was pickled before it was read."""

    def __iter__(self) -> Iterator[bytes]:
        raise StreamClosed

    async def __aiter__(self) -> Any:
        raise StreamClosed
        yield b""  # an async generator


def body_stream(content: Any) -> SyncByteStream | AsyncByteStream:
    """The stream for what was passed as content. TypeError when it is nothing that can be read."""
    if isinstance(content, (SyncByteStream, AsyncByteStream)):
        return content
    if isinstance(content, AsyncIterable):
        return AsyncIteratorByteStream(content)
    if isinstance(content, Iterable) and not isinstance(content, Mapping):
        return IteratorByteStream(content)
    raise TypeError(f"content= is bytes, str or an iterable of bytes, not {type(content).__name__}")


def _length_of_all(file: Any) -> int | None:
    left = length_of(file)
    return None if left is None else left + int(file.tell())


def length_of(content: Any) -> int | None:
    """How many bytes are left in an open file, where that can be told; None for anything else."""
    try:
        here = content.tell()
        end: int = content.seek(0, os.SEEK_END)
        content.seek(here)
    except (AttributeError, OSError):
        return None
    return end - int(here)


def encode_body(
    content: RequestContent | None,
    data: RequestData | None,
    files: RequestFiles | None,
    json: Any,
    content_type: str | None,
) -> tuple[str | None, Body]:
    """The Content-Type that the body has by itself, and the body.

    At most one of content, data with files, and json counts.
    """
    if data is not None and not isinstance(data, Mapping):
        given: Any = data
        if content is not None or not isinstance(given, (str, bytes, Iterable, AsyncIterable)):
            raise TypeError(f"data= is a mapping of form fields, not {type(given).__name__}")
        import warnings

        warnings.warn("raw bytes and text are passed as content=, not as data=", DeprecationWarning, stacklevel=4)
        content, data = given, None
    if content is not None:
        return None, _raw_body(content)
    if files:
        kind, segments = encode_multipart(data or {}, files, given_boundary(content_type) if content_type else None)
        return kind, _joined(segments)
    if data:
        pairs = []
        for name, value in data.items():
            for item in value if isinstance(value, (list, tuple)) else [value]:
                pairs.append((str(name), item.decode() if isinstance(item, bytes) else primitive_to_str(item)))
        return "application/x-www-form-urlencoded", encode_form(pairs).encode("ascii")
    if json is not None:
        from json import dumps

        return "application/json", dumps(json, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    return None, None


def _joined(segments: list[Segment]) -> Body:
    whole = [segment for segment in segments if isinstance(segment, bytes)]
    return b"".join(whole) if len(whole) == len(segments) else SegmentedBody(segments)


def _raw_body(content: Any) -> Body:
    if isinstance(content, str):
        return content.encode()
    if isinstance(content, (bytes, bytearray, memoryview)):
        return bytes(content)
    return body_stream(content)


def encode_response_body(content: Any, text: str | None, html: str | None, json: Any) -> tuple[str | None, Any]:
    """The Content-Type that the body of a response has by itself, and the body; at most one of them counts."""
    if content is not None:
        return None, content.encode() if isinstance(content, str) else content
    if text is not None:
        return "text/plain; charset=utf-8", text.encode()
    if html is not None:
        return "text/html; charset=utf-8", html.encode()
    if json is not None:
        from json import dumps

        return "application/json", dumps(json, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    return None, None
