"""Undoing a body's Content-Encoding, and cutting text into lines."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import Any, Protocol

from ._exceptions import DecodingError

SUPPORTED = "gzip, deflate, br, zstd"
MAX_ENCODINGS = 5
PIECE_BYTES_MAX = 256 * 1024


class ContentDecoder(Protocol):
    """Undoes an encoding: `pieces` takes each piece of the body, `finish` its end.

    What comes out comes in pieces of at most PIECE_BYTES_MAX, however much a little data decodes to. DecodingError for
    data that is not valid.
    """

    def pieces(self, data: bytes) -> Iterator[bytes]: ...
    def finish(self) -> None: ...


class _Gzip:
    """gzip (RFC 1952), several members one after the other included."""

    name = "gzip"

    def __init__(self) -> None:
        import zlib

        self._zlib = zlib
        self._stream: Any = None
        self._fed = False

    def _open(self, data: bytes) -> bytes:
        """Begin a stream, if `data` is enough for that; what of the data is to be fed to it."""
        self._stream = self._zlib.decompressobj(self._zlib.MAX_WBITS | 16)
        return data

    def pieces(self, data: bytes) -> Iterator[bytes]:
        self._fed = self._fed or bool(data)
        try:
            while data:
                if self._stream is None or self._stream.eof:
                    data = self._open(data)
                    if not data:
                        return
                piece = self._stream.decompress(data, PIECE_BYTES_MAX)
                data = self._stream.unconsumed_tail or self._stream.unused_data
                if piece:
                    yield piece
            while self._stream is not None and not self._stream.eof:
                # What the stream holds back when a piece was full.
                piece = self._stream.decompress(b"", PIECE_BYTES_MAX)
                if not piece:
                    return
                yield piece
        except self._zlib.error as error:
            raise DecodingError(f"the body is not valid {self.name} data: {error}") from error

    def finish(self) -> None:
        if self._fed and (self._stream is None or not self._stream.eof):
            raise DecodingError(f"the body's {self.name} data ends too early")


class _Deflate(_Gzip):
    """zlib (RFC 1950), or the bare deflate data (RFC 1951) that some servers send under this name."""

    name = "deflate"

    def __init__(self) -> None:
        super().__init__()
        self._head = b""

    def _open(self, data: bytes) -> bytes:
        if self._stream is not None:
            return b""  # what follows the end is left alone
        # The first two bytes tell which of both it is.
        data = self._head + data
        if len(data) < 2:
            self._head = data
            return b""
        is_zlib = data[0] & 0x0F == 8 and (data[0] << 8 | data[1]) % 31 == 0
        self._stream = self._zlib.decompressobj(self._zlib.MAX_WBITS if is_zlib else -self._zlib.MAX_WBITS)
        return data


class _Native:
    """br (RFC 7932) and zstd (RFC 8878), undone by the native module."""

    def __init__(self, name: str) -> None:
        from aioxide._native import BodyDecoder

        self._name = name
        self._decoder = BodyDecoder(name)
        self._fed = False

    def pieces(self, data: bytes) -> Iterator[bytes]:
        if not data:
            return
        self._fed = True
        try:
            self._decoder.feed(data)
            while piece := self._decoder.take(PIECE_BYTES_MAX):
                yield piece
        except ValueError as error:
            raise DecodingError(f"the body is not valid {self._name} data: {error}") from None

    def finish(self) -> None:
        if self._fed and not self._decoder.is_complete():
            raise DecodingError(f"the body's {self._name} data ends too early")


class _Chain:
    """Several encodings, the last applied undone first."""

    def __init__(self, decoders: list[ContentDecoder]) -> None:
        self._first, *rest = decoders
        self._rest: ContentDecoder = rest[0] if len(rest) == 1 else _Chain(rest)

    def pieces(self, data: bytes) -> Iterator[bytes]:
        for piece in self._first.pieces(data):
            yield from self._rest.pieces(piece)

    def finish(self) -> None:
        self._first.finish()
        self._rest.finish()


def content_decoder(encodings: list[str]) -> ContentDecoder | None:
    """What undoes the encodings, None when there is nothing to undo. DecodingError for more than MAX_ENCODINGS."""
    decoders: list[ContentDecoder] = []
    for encoding in encodings:
        name = encoding.strip().lower()
        if name in ("gzip", "x-gzip"):
            decoders.append(_Gzip())
        elif name == "deflate":
            decoders.append(_Deflate())
        elif name in ("br", "zstd"):
            decoders.append(_Native(name))
        # Anything else is no encoding that HTTP knows: the bytes stay as they are, as with httpx.
    if len(decoders) > MAX_ENCODINGS:
        raise DecodingError(f"the body is encoded {len(decoders)} times; at most {MAX_ENCODINGS} are undone")
    if len(decoders) <= 1:
        return decoders[0] if decoders else None
    return _Chain(decoders[::-1])


_LINE_END = re.compile("\r\n|[\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029]")


class LineDecoder:
    r"""Cuts text that comes in pieces at the places where str.splitlines() would cut it whole.

    >>> lines = LineDecoder()
    >>> lines.feed("a\r"), lines.feed("\nb"), lines.flush()
    ([], ['a'], ['b'])
    """

    def __init__(self) -> None:
        self._pending: list[str] = []
        self._return_held = False

    def feed(self, text: str) -> list[str]:
        """The lines that are complete now."""
        if self._return_held:
            text = "\r" + text
            self._return_held = False
        if text.endswith("\r"):
            # A "\n" that belongs to it may come next.
            text, self._return_held = text[:-1], True
        if not text:
            return []
        lines = _LINE_END.split(text)
        if len(lines) == 1:
            self._pending.append(lines[0])
            return []
        lines[0] = "".join(self._pending) + lines[0]
        last = lines.pop()
        self._pending = [last] if last else []
        return lines

    def flush(self) -> list[str]:
        """The last line, when it has no end or a lone return at its end."""
        if not self._pending and not self._return_held:
            return []
        lines = ["".join(self._pending)]
        self._pending = []
        self._return_held = False
        return lines


def is_text_codec(name: str) -> bool:
    """Whether Python knows a codec of this name by which bytes are text."""
    try:
        # Codecs such as hex or zlib are none of text.
        return bool(codecs.lookup(name)._is_text_encoding)
    except LookupError:
        return False
