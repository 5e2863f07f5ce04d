"""Response: what came back."""

from __future__ import annotations

import codecs
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from time import perf_counter
from typing import TYPE_CHECKING, Any

from ._content import AsyncByteStream, ByteStream, LostBody, SyncByteStream, body_stream, encode_response_body
from ._cookies import Cookies
from ._decoders import ContentDecoder, LineDecoder, content_decoder, is_text_codec
from ._exceptions import DecodingError, HTTPStatusError, ResponseNotRead, StreamClosed, StreamConsumed
from ._headers import Headers, HeaderTypes, parse_links
from ._status_codes import codes
from ._streams import NetworkStream, Rechunker, pieces

if TYPE_CHECKING:
    from datetime import timedelta

    from aioxide._native import RawResponse

    from ._plain import Plain
    from ._request import Request
    from ._urls import URL

Encoding = str | Callable[[bytes], str]

# The bits of RawResponse.notable.
SET_COOKIE, _CONTENT_ENCODING, _LOCATION = 1, 2, 4
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_KINDS = {1: "Informational response", 3: "Redirect response", 4: "Client error", 5: "Server error"}


class Response:
    """An answer.

    `status_code`, `headers`, the body as `content`, `text`, `json()`, or in pieces through the `iter_` methods.

    Responses come from a client; made by hand they serve tests. The body is one of `content` (bytes, str, an iterable
    of bytes), `text`, `html`, `json`, or `stream`. A response belongs to one thread or task at a time.

    >>> response = Response(200, json={"ok": True})
    >>> response.json(), response.reason_phrase, response.is_success
    ({'ok': True}, 'OK', True)
    """

    status_code: int
    default_encoding: Encoding = "utf-8"
    next_request: Request | None = None
    """The request that would follow this redirect, when redirects are not followed."""
    is_closed: bool = False
    """Whether the connection was released: the body was read to its end, or the response closed."""
    num_retries: int = 0
    """How many times the request was sent again before this response; see Retry."""
    is_stream_consumed: bool = False
    """Whether somebody has begun to read the body."""

    # What most responses never set stays on the class: there is one of these per request.
    _raw: RawResponse | None = None
    _plain: tuple[Plain, str, str] | None = None
    """What the request is made of once somebody asks for it, its method and its URL."""
    _request: Request | None = None
    _history: list[Response] | None = None
    _headers: Headers | None = None
    _stream: Any = None
    _content: bytes | None = None
    _received = 0
    _elapsed: float | None = None
    _started: float | None = None
    _encoding: str | None = None
    _extensions: dict[str, Any] | None = None
    _decoded_left: int | None = None
    _json_loads: Callable[[bytes], Any] | None = None

    def __init__(
        self,
        status_code: int,
        *,
        headers: HeaderTypes | None = None,
        content: Any = None,
        text: str | None = None,
        html: str | None = None,
        json: Any = None,
        stream: SyncByteStream | AsyncByteStream | None = None,
        request: Request | None = None,
        extensions: Mapping[str, Any] | None = None,
        history: list[Response] | None = None,
        default_encoding: Encoding = "utf-8",
    ) -> None:
        self.status_code = int(status_code)
        self._headers = Headers(headers)
        self._request = request
        self.default_encoding = default_encoding
        self._extensions = {} if extensions is None else dict(extensions)
        self.history = [] if history is None else list(history)
        if stream is not None:
            self.stream = stream
            return
        content_type, body = encode_response_body(content, text, html, json)
        if body is not None and not isinstance(body, bytes):
            self.stream = body_stream(body)
            if "content-length" not in self.headers and "transfer-encoding" not in self.headers:
                self.headers["Transfer-Encoding"] = "chunked"
            return
        self.stream = ByteStream(body or b"")
        if body is not None:
            if "content-length" not in self.headers:
                self.headers["Content-Length"] = str(len(body))
            if content_type and "content-type" not in self.headers:
                self.headers["Content-Type"] = content_type
        if not isinstance(content, (bytes, str)) or "content-encoding" not in self.headers:
            self._settle(body or b"")
        else:
            self.read()

    @classmethod
    def _from_plain(cls, raw: RawResponse, plain: tuple[Plain, str, str]) -> Response:
        """Wrap the core's answer to a plain request: its body is there, and there is nothing notable about it."""
        self = cls.__new__(cls)
        self.status_code = raw.status
        self._raw = raw
        self._plain = plain
        self._content = raw.body
        self.is_closed = True
        self.is_stream_consumed = True
        return self

    @classmethod
    def _from_core(
        cls,
        raw: RawResponse,
        request: Request,
        started: float,
        default_encoding: Encoding,
        stream_type: type[Any] | None,
        max_decoded_bytes: int | None = None,
    ) -> Response:
        """Wrap the core's answer; `stream_type` is None when its body is there already."""
        self = cls.__new__(cls)
        self.status_code = raw.status
        self._request = request
        self.default_encoding = default_encoding
        self._raw = raw
        if max_decoded_bytes is not None:
            self._decoded_left = max_decoded_bytes
        if stream_type is not None:
            self.stream = stream_type(raw, request)
            self._started = started
            return self
        body = raw.body or b""
        if not raw.notable & _CONTENT_ENCODING:
            self._settle(body)
        else:
            decoder = self._decoder()
            self._settle(b"".join([*self._decoded(decoder, body), *self._decoded(decoder, None)]))
        return self

    def _settle(self, content: bytes) -> None:
        """The body is there, whole and decoded."""
        self._content = content
        self.is_closed = True
        self.is_stream_consumed = True
        if self._started is not None:
            self._elapsed = perf_counter() - self._started

    # What the status line and the headers say.

    @property
    def headers(self) -> Headers:
        """The headers."""
        if self._headers is None:
            # Made when somebody asks: there is an answer of the core's then.
            self._headers = Headers._adopt([] if self._raw is None else self._raw.headers)
        return self._headers

    @headers.setter
    def headers(self, headers: HeaderTypes) -> None:
        self._headers = headers if isinstance(headers, Headers) else Headers(headers)

    @property
    def stream(self) -> Any:
        """The body as a stream of pieces; that of a body that came whole is made when it is asked for."""
        if self._stream is None:
            self._stream = LostBody() if self._content is None else ByteStream(self._content)
        return self._stream

    @stream.setter
    def stream(self, stream: Any) -> None:
        self._stream = stream

    def _has_field(self, bit: int, name: str) -> bool:
        """Whether there is a header of this name, without making the headers where the core knows."""
        if self._headers is None and self._raw is not None:
            return bool(self._raw.notable & bit)
        return name in self.headers

    @property
    def request(self) -> Request:
        """The request that this answers. RuntimeError when the response was made without one."""
        if self._request is None:
            if self._plain is None:
                raise RuntimeError("this response was made without a request: .request is not set")
            self._request = self._plain[0].request(*self._plain[1:])
        return self._request

    @request.setter
    def request(self, request: Request) -> None:
        self._request = request

    @property
    def _has_request(self) -> bool:
        return self._request is not None or self._plain is not None

    @property
    def history(self) -> list[Response]:
        """The redirects that led here, oldest first."""
        self._history = [] if self._history is None else self._history
        return self._history

    @history.setter
    def history(self, history: list[Response]) -> None:
        self._history = history

    @property
    def url(self) -> URL:
        """The URL that was answered, after any redirects."""
        return self.request.url

    @property
    def extensions(self) -> dict[str, Any]:
        """What does not fit elsewhere.

        ``http_version`` and ``reason_phrase`` as bytes; ``network_stream``, whose `get_extra_info` tells of the
        connection; with a client's ``cache=`` ``cache``, which says what that did (see Cache).
        """
        if self._extensions is None:
            self._extensions = {}
            if self._raw is not None:
                self._extensions["http_version"] = self._raw.http_version.encode("ascii", "replace")
                self._extensions["reason_phrase"] = self._raw.reason.encode("ascii", "replace")
                self._extensions["network_stream"] = NetworkStream(self._raw)
        return self._extensions

    @extensions.setter
    def extensions(self, value: dict[str, Any]) -> None:
        self._extensions = value

    @property
    def http_version(self) -> str:
        """The protocol's version, as ``"HTTP/1.1"``."""
        version: bytes = self.extensions.get("http_version", b"HTTP/1.1")
        return version.decode("ascii", "replace")

    @property
    def reason_phrase(self) -> str:
        """The phrase that came with the status, or the registered one."""
        phrase = self.extensions.get("reason_phrase")
        return codes.get_reason_phrase(self.status_code) if phrase is None else str(phrase.decode("ascii", "replace"))

    @property
    def timeline(self) -> dict[str, float]:
        """Where the time went: seconds since the request was made, by event.

        Those known of ``queue``, ``dns``, ``connect``, ``tls``, ``sent``, ``first_byte``, ``total``, and ``hedge``,
        when it was sent again: this answers that if ``queue`` came later. Empty if made by hand, or from a cache.
        """
        return {} if self._raw is None else dict(self._raw.timings)

    @property
    def elapsed(self) -> timedelta:
        """From sending the request to having the whole body, or closing the response. RuntimeError before that."""
        if self._elapsed is None and self._started is None and self._raw is not None:
            self._elapsed = self._raw.timings.get("total")  # the core has read the body
        if self._elapsed is None:
            raise RuntimeError("elapsed is known only once the response has been read or closed")
        from datetime import timedelta

        return timedelta(seconds=self._elapsed)

    @property
    def num_bytes_downloaded(self) -> int:
        """The bytes of the body that have come, before decoding."""
        whole = None if self._raw is None else self._raw.body
        return self._received if whole is None else len(whole)

    @property
    def cookies(self) -> Cookies:
        """The cookies that this response sets."""
        jar = Cookies()
        if self._has_request:
            jar.extract_cookies(self)
        return jar

    @property
    def links(self) -> dict[str | None, dict[str, str]]:
        """The Link header, by each link's relation or URL."""
        header = self.headers.get("link")
        return {} if header is None else {link.get("rel") or link.get("url"): link for link in parse_links(header)}

    @property
    def is_informational(self) -> bool:
        """Whether the status is 1xx."""
        return 100 <= self.status_code <= 199

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status_code <= 299

    @property
    def is_redirect(self) -> bool:
        """Whether the status is 3xx; `has_redirect_location` says whether there is somewhere to go."""
        return 300 <= self.status_code <= 399

    @property
    def is_client_error(self) -> bool:
        """Whether the status is 4xx."""
        return 400 <= self.status_code <= 499

    @property
    def is_server_error(self) -> bool:
        """Whether the status is 5xx."""
        return 500 <= self.status_code <= 599

    @property
    def is_error(self) -> bool:
        """Whether the status is 4xx or 5xx."""
        return 400 <= self.status_code <= 599

    @property
    def has_redirect_location(self) -> bool:
        """Whether this is a redirect that can be followed: 301, 302, 303, 307 or 308 with a Location."""
        return self.status_code in _REDIRECTS and self._has_field(_LOCATION, "location")

    def raise_for_status(self) -> Response:
        """HTTPStatusError unless the status is 2xx; gives the response itself, so that calls can be chained."""
        if not self._has_request:
            raise RuntimeError("raise_for_status() needs the request, and this response was made without one")
        if self.is_success:
            return self
        request = self.request
        kind = _KINDS.get(self.status_code // 100, "Invalid status")
        url = request.url.copy_with(userinfo=None) if request.url._userinfo else request.url
        message = f"{kind} '{self.status_code} {self.reason_phrase}' for url '{url}'"
        if self.has_redirect_location:
            message += f", which redirects to {self.headers['location']!r}"
        raise HTTPStatusError(message, request=request, response=self)

    # The body, whole.

    @property
    def content(self) -> bytes:
        """The body, decoded. ResponseNotRead for a streamed response before ``read()`` or ``aread()``."""
        if self._content is None:
            raise ResponseNotRead
        return self._content

    @property
    def charset_encoding(self) -> str | None:
        """The charset that the Content-Type names, as it stands there."""
        header = self.headers.get("content-type")
        if header is not None:
            for parameter in header.split(";")[1:]:
                name, _, value = parameter.partition("=")
                if name.strip().lower() == "charset":
                    return str(value.strip().strip("'\"")) or None
        return None

    @property
    def encoding(self) -> str:
        """The charset by which `text` is decoded.

        The one set, else the Content-Type's if Python knows it, else the default.
        """
        if self._encoding is None:
            encoding = self.charset_encoding
            if encoding is None or not is_text_codec(encoding):
                if isinstance(self.default_encoding, str):
                    encoding = self.default_encoding
                elif self._content is not None:
                    encoding = self.default_encoding(self._content)
                else:
                    return "utf-8"
            self._encoding = encoding
        return self._encoding

    @encoding.setter
    def encoding(self, value: str) -> None:
        if "_text" in self.__dict__:
            raise ValueError("the encoding cannot be set any more: .text has been used")
        self._encoding = value

    @property
    def text(self) -> str:
        """The body as text; what does not decode becomes U+FFFD."""
        text: str | None = self.__dict__.get("_text")
        if text is None:
            text = self._text = self.content.decode(self.encoding or "utf-8", "replace")
        return text

    def json(self, **kwargs: Any) -> Any:
        """The body parsed by the client's `json_loads` (``json.loads``); json.JSONDecodeError when it is no JSON."""
        from json import loads

        return (self._json_loads or loads)(self.content, **kwargs)

    def read(self) -> bytes:
        """Read the body whole, blocking, and give it."""
        if self._content is None:
            self._settle(b"".join(self.iter_bytes()))
        return self.content

    async def aread(self) -> bytes:
        """Read the body whole and give it."""
        if self._content is None:
            self._settle(b"".join([piece async for piece in self.aiter_bytes()]))
        return self.content

    # The body, piece by piece. Leaving a loop over it midway is fine; close the response then, as ``with
    # client.stream(...)`` does.

    def iter_raw(self, chunk_size: int | None = None) -> Iterator[bytes]:
        """The pieces of the body as they come, not decoded.

        All of `chunk_size` bytes but the last, when that is given.
        """
        chunker = Rechunker(chunk_size)
        stream = self._start_stream(
            SyncByteStream, "blocking code cannot read a response of an AsyncClient: use the aiter_ methods"
        )
        for piece in stream:
            self._received += len(piece)
            yield from chunker.feed(piece)
        yield from chunker.flush()
        self.close()

    async def aiter_raw(self, chunk_size: int | None = None) -> AsyncIterator[bytes]:
        """The pieces of the body as they come, not decoded.

        All of `chunk_size` bytes but the last, when that is given.
        """
        chunker = Rechunker(chunk_size)
        stream = self._start_stream(
            AsyncByteStream, "async code cannot read a response of a Client: use the iter_ methods"
        )
        async for piece in stream:
            self._received += len(piece)
            for full in chunker.feed(piece):
                yield full
        for rest in chunker.flush():
            yield rest
        await self.aclose()

    def _start_stream(self, kind: type, refusal: str) -> Any:
        if self.is_stream_consumed:
            raise StreamConsumed
        if self.is_closed:
            raise StreamClosed
        if not isinstance(self.stream, kind):
            raise RuntimeError(refusal)
        self.is_stream_consumed = True
        return self.stream

    def iter_bytes(self, chunk_size: int | None = None) -> Iterator[bytes]:
        """The pieces of the body, decoded."""
        if self._content is not None:
            yield from pieces(self._content, chunk_size)
            return
        decoder, chunker = self._decoder(), Rechunker(chunk_size)
        for coded in self.iter_raw():
            for piece in self._decoded(decoder, coded):
                yield from chunker.feed(piece)
        for piece in self._decoded(decoder, None):
            yield from chunker.feed(piece)
        yield from chunker.flush()

    async def aiter_bytes(self, chunk_size: int | None = None) -> AsyncIterator[bytes]:
        """The pieces of the body, decoded."""
        if self._content is not None:
            for piece in pieces(self._content, chunk_size):
                yield piece
            return
        decoder, chunker = self._decoder(), Rechunker(chunk_size)
        async for coded in self.aiter_raw():
            for piece in self._decoded(decoder, coded):
                for full in chunker.feed(piece):
                    yield full
        for piece in self._decoded(decoder, None):
            for full in chunker.feed(piece):
                yield full
        for rest in chunker.flush():
            yield rest

    def iter_text(self, chunk_size: int | None = None) -> Iterator[str]:
        """The pieces of the body as text, no character ever cut; `chunk_size` counts characters."""
        text, chunker = self._text_decoder(), Rechunker(chunk_size)
        for piece in self.iter_bytes():
            yield from chunker.feed(text.decode(piece))
        yield from chunker.feed(text.decode(b"", True))
        yield from chunker.flush()

    async def aiter_text(self, chunk_size: int | None = None) -> AsyncIterator[str]:
        """The pieces of the body as text, no character ever cut; `chunk_size` counts characters."""
        text, chunker = self._text_decoder(), Rechunker(chunk_size)
        async for piece in self.aiter_bytes():
            for full in chunker.feed(text.decode(piece)):
                yield full
        for rest in chunker.feed(text.decode(b"", True)) + chunker.flush():
            yield rest

    def iter_lines(self) -> Iterator[str]:
        """The lines of the body, without their ends."""
        lines = LineDecoder()
        for piece in self.iter_text():
            yield from lines.feed(piece)
        yield from lines.flush()

    async def aiter_lines(self) -> AsyncIterator[str]:
        """The lines of the body, without their ends."""
        lines = LineDecoder()
        async for piece in self.aiter_text():
            for line in lines.feed(piece):
                yield line
        for line in lines.flush():
            yield line

    def _decoder(self) -> ContentDecoder | None:
        try:
            return content_decoder(self.headers.get_list("content-encoding", split_commas=True))
        except DecodingError as error:
            raise self._with_request(error) from None

    def _decoded(self, decoder: ContentDecoder | None, data: bytes | None) -> Iterator[bytes]:
        """The pieces that this piece of the body decodes to; None stands for its end."""
        if decoder is None:
            return iter((data,) if data else ())
        return self._decoded_pieces(decoder, data)

    def _decoded_pieces(self, decoder: ContentDecoder, data: bytes | None) -> Iterator[bytes]:
        try:
            if data is None:
                decoder.finish()
                return
            for piece in decoder.pieces(data):
                if self._decoded_left is not None:
                    self._decoded_left -= len(piece)
                    if self._decoded_left < 0:
                        raise DecodingError("the body decodes to more bytes than max_decoded_bytes allows")
                yield piece
        except DecodingError as error:
            raise self._with_request(error) from None

    def _with_request(self, error: DecodingError) -> DecodingError:
        if self._has_request:
            error.request = self.request
        return error

    def _text_decoder(self) -> codecs.IncrementalDecoder:
        return codecs.getincrementaldecoder(self.encoding or "utf-8")(errors="replace")

    def close(self) -> None:
        """Release the connection: it goes back to the pool if the body was read to its end, and is closed if not."""
        if isinstance(self.stream, AsyncByteStream) and not isinstance(self.stream, SyncByteStream):
            raise RuntimeError("blocking code cannot close a response of an AsyncClient: use aclose()")
        if not self.is_closed:
            self._mark_closed()
            self.stream.close()

    async def aclose(self) -> None:
        """Release the connection: it goes back to the pool if the body was read to its end, and is closed if not."""
        if isinstance(self.stream, SyncByteStream) and not isinstance(self.stream, AsyncByteStream):
            raise RuntimeError("async code cannot close a response of a Client: use close()")
        if not self.is_closed:
            self._mark_closed()
            await self.stream.aclose()

    def _mark_closed(self) -> None:
        self.is_closed = True
        if self._started is not None and self._elapsed is None:
            self._elapsed = perf_counter() - self._started

    def __repr__(self) -> str:
        return f"<Response [{self.status_code} {self.reason_phrase}]>"

    def __getstate__(self) -> dict[str, Any]:
        # The core's answer stays behind, so what it says is copied first.
        extensions = {name: value for name, value in self.extensions.items() if name != "network_stream"}
        said = {"_headers": self.headers, "_extensions": extensions, "_received": self.num_bytes_downloaded}
        said["_request"] = self.request if self._has_request else None
        if self._started is None and self._raw is not None:
            said["_elapsed"] = self._raw.timings.get("total")
        dropped = ("_stream", "_raw", "_plain", "is_closed", "_started", "next_request")
        return {name: value for name, value in self.__dict__.items() if name not in dropped} | said

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._raw = self._started = self.next_request = None
        self.is_closed = True
