"""Undoing a body's Content-Encoding, and cutting text into lines."""

from __future__ import annotations

import re
from typing import Any, Protocol

from ._exceptions import DecodingError

SUPPORTED = "gzip, deflate"


class ContentDecoder(Protocol):
    """Undoes an encoding: `decode` takes each piece, `flush` the end. DecodingError for data that is not valid."""

    def decode(self, data: bytes) -> bytes: ...
    def flush(self) -> bytes: ...


class _Gzip:
    """gzip (RFC 1952), several members one after the other included."""

    def __init__(self) -> None:
        import zlib

        self._zlib = zlib
        self._new()
        self._fed = False

    def _new(self) -> None:
        self._stream: Any = self._zlib.decompressobj(self._zlib.MAX_WBITS | 16)

    def decode(self, data: bytes) -> bytes:
        self._fed = self._fed or bool(data)
        out = []
        try:
            while data:
                out.append(self._stream.decompress(data))
                data = self._stream.unused_data
                if data:
                    self._new()
        except self._zlib.error as error:
            raise DecodingError(f"the body is not valid gzip: {error}") from error
        return b"".join(out)

    def flush(self) -> bytes:
        if self._fed and not self._stream.eof:
            raise DecodingError("the body's gzip data ends too early")
        return b""


class _Deflate:
    """zlib (RFC 1950), or the bare deflate data (RFC 1951) that some servers send under this name."""

    def __init__(self) -> None:
        import zlib

        self._zlib = zlib
        self._head = b""
        self._stream: Any = None

    def decode(self, data: bytes) -> bytes:
        if self._stream is None:
            # The first two bytes tell which of both it is.
            data = self._head + data
            if len(data) < 2:
                self._head = data
                return b""
            is_zlib = data[0] & 0x0F == 8 and (data[0] << 8 | data[1]) % 31 == 0
            self._stream = self._zlib.decompressobj(self._zlib.MAX_WBITS if is_zlib else -self._zlib.MAX_WBITS)
        try:
            return bytes(self._stream.decompress(data))
        except self._zlib.error as error:
            raise DecodingError(f"the body is not valid deflate data: {error}") from error

    def flush(self) -> bytes:
        if self._head if self._stream is None else not self._stream.eof:
            raise DecodingError("the body's deflate data ends too early")
        return b""


class _Chain:
    """Several encodings, the last applied undone first."""

    def __init__(self, decoders: list[ContentDecoder]) -> None:
        self._decoders = decoders

    def decode(self, data: bytes) -> bytes:
        for decoder in self._decoders:
            data = decoder.decode(data)
        return data

    def flush(self) -> bytes:
        data = b""
        for decoder in self._decoders:
            data = decoder.decode(data) + decoder.flush()
        return data


def content_decoder(encodings: list[str]) -> ContentDecoder | None:
    """What undoes the encodings, None when there is nothing to undo. DecodingError for one that is not there yet."""
    decoders: list[ContentDecoder] = []
    for encoding in encodings:
        name = encoding.strip().lower()
        if name in ("gzip", "x-gzip"):
            decoders.append(_Gzip())
        elif name == "deflate":
            decoders.append(_Deflate())
        elif name in ("br", "zstd", "compress"):
            raise DecodingError(
                f"the body is encoded as {name}, which is not supported yet; the client asks for {SUPPORTED}"
            )
        # Anything else is no encoding that HTTP knows: the bytes stay as they are, as with httpx.
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
