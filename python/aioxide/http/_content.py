"""From what a caller passes as a body to the bytes and the headers that say what they are."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Iterator, Mapping
from typing import Any

from ._multipart import RequestFiles, encode_multipart, given_boundary
from ._query import encode_form, primitive_to_str

RequestContent = str | bytes | Iterable[bytes] | AsyncIterable[bytes]
RequestData = Mapping[str, Any]
Body = bytes | Iterable[bytes] | AsyncIterable[bytes] | None

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
        return encode_multipart(data or {}, files, given_boundary(content_type) if content_type else None)
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


def _raw_body(content: Any) -> Body:
    if isinstance(content, str):
        return content.encode()
    if isinstance(content, (bytes, bytearray, memoryview)):
        return bytes(content)
    if isinstance(content, Mapping) or not isinstance(content, (Iterable, AsyncIterable)):
        raise TypeError(f"content= is bytes, str or an iterable of bytes, not {type(content).__name__}")
    body: Body = content
    return body


def pieces_of(body: Iterable[bytes]) -> Iterator[bytes]:
    """The pieces of an iterable body; files are read by size, not by line."""
    read = getattr(body, "read", None)
    if read is None:
        yield from body
        return
    while piece := read(_FILE_PIECE_BYTES):
        yield piece
