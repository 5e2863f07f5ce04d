"""Request: what is to be sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ._content import (
    AsyncByteStream,
    ByteStream,
    LostBody,
    RequestContent,
    RequestData,
    SegmentedBody,
    SyncByteStream,
    encode_body,
    length_of,
)
from ._cookies import Cookies, CookieTypes
from ._exceptions import RequestNotRead
from ._headers import Headers, HeaderTypes, RawHeaders
from ._multipart import RequestFiles
from ._query import QueryParamTypes
from ._urls import URL, URLTypes

_BODY_METHODS = ("POST", "PUT", "PATCH")


class Request:
    """A request: `method`, `url`, `headers`, a body, and `extensions` (``timeout`` among them.

    See ``Timeout.as_dict``).

    The body is one of `content` (bytes, str, or an iterable of bytes, such as an open file, which is sent as it is
    read), `data` (form fields), `files` (with `data`: multipart), `json`, or `stream`. The headers Host, Content-Length
    or Transfer-Encoding, and Content-Type are set unless given.

    InvalidURL when the URL cannot be understood, TypeError for a body of another kind.

    >>> request = Request("POST", "http://example.com/", json={"a": 1})
    >>> request.content, request.headers["content-type"]
    (b'{"a":1}', 'application/json')
    """

    # Whether somebody has begun to read the stream: then it cannot be sent once more.
    _stream_begun = False

    def __init__(
        self,
        method: str,
        url: URLTypes,
        *,
        params: QueryParamTypes | None = None,
        headers: HeaderTypes | None = None,
        cookies: CookieTypes | None = None,
        content: RequestContent | None = None,
        data: RequestData | None = None,
        files: RequestFiles | None = None,
        json: Any = None,
        stream: SyncByteStream | AsyncByteStream | None = None,
        extensions: Mapping[str, Any] | None = None,
    ) -> None:
        self.method = method.upper()
        self.url = URL(url) if params is None else URL(url, params=params)
        self.headers = Headers(headers)
        self.extensions: dict[str, Any] = {} if extensions is None else dict(extensions)
        if cookies:
            Cookies(cookies).set_cookie_header(self)
        self._content: bytes | None = None
        self._stream: Any = None
        if stream is not None:
            if content is not None or data is not None or files is not None or json is not None:
                raise TypeError("stream= goes with none of content=, data=, files=, json=")
            self._stream = stream
            self._fill_headers(None)
            return
        if content is None and data is None and files is None and json is None:
            self._content = b""
            self._fill_headers(None)
            return
        content_type, body = encode_body(content, data, files, json, self.headers.get("content-type"))
        if isinstance(body, bytes) or body is None:
            self._content = body or b""
        else:
            self._stream = body
            length = body.length if isinstance(body, SegmentedBody) else length_of(content)
            if length is not None:
                self.headers.setdefault("Content-Length", str(length))
            elif "content-length" not in self.headers:
                self.headers.setdefault("Transfer-Encoding", "chunked")
        self._fill_headers(content_type)

    @classmethod
    def _bare(cls, method: str, url: URL, fields: RawHeaders, extensions: dict[str, Any]) -> Request:
        """A request without a body, which takes over what it is given: the common case, made quickly."""
        self = cls.__new__(cls)
        self.method = method.upper()
        self.url = url
        self.headers = Headers._adopt(fields)
        self.extensions = extensions
        self._content = b""
        self._stream = None
        if self.method in _BODY_METHODS:
            self._fill_headers(None)
        elif self.headers._first(b"host") is None:
            fields.insert(0, (b"Host", url.netloc))
        return self

    def _fill_headers(self, content_type: str | None) -> None:
        fields = self.headers._list
        present = {name.lower() for name, _ in fields}
        if b"host" not in present:
            fields.insert(0, (b"Host", self.url.netloc))
        if content_type is not None and b"content-type" not in present:
            fields.append((b"Content-Type", content_type.encode("ascii")))
        if self._content is not None and b"content-length" not in present and b"transfer-encoding" not in present:
            if self._content or self.method in _BODY_METHODS:
                fields.append((b"Content-Length", b"%d" % len(self._content)))

    @property
    def content(self) -> bytes:
        """The body. RequestNotRead when it is a stream that ``read()`` has not read yet."""
        if self._content is None:
            raise RequestNotRead
        return self._content

    @property
    def stream(self) -> Any:
        """The body as a stream of pieces."""
        return self._stream if self._content is None else ByteStream(self._content)

    def read(self) -> bytes:
        """Read the body whole. RuntimeError when only async code can read it."""
        if self._content is None:
            if not isinstance(self._stream, SyncByteStream):
                raise RuntimeError("the request's body is an async iterable: blocking code cannot read it")
            try:
                self._content = b"".join(self._stream)
            finally:
                self._stream.close()
        return self._content

    async def aread(self) -> bytes:
        """Read the body whole. RuntimeError when only blocking code can read it."""
        if self._content is None:
            if not isinstance(self._stream, AsyncByteStream):
                raise RuntimeError("the request's body is a blocking iterable: async code cannot read it")
            try:
                self._content = b"".join([piece async for piece in self._stream])
            finally:
                await self._stream.aclose()
        return self._content

    def __repr__(self) -> str:
        url = self.url.copy_with(userinfo=None) if self.url._userinfo else self.url  # no secret in a repr
        return f"<Request({self.method!r}, {str(url)!r})>"

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_stream", "extensions")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._stream = LostBody()
        self.extensions = {}
