"""How a fetch goes: settings and defaults, what is sent, where a redirect leads, what the response says.

No input or output happens here.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from io import BytesIO
from typing import TYPE_CHECKING, Any

from aioxide.http import _exceptions as http
from aioxide.http._auth import basic_header
from aioxide.http._content import SyncByteStream
from aioxide.http._core import user_agent
from aioxide.http._decoders import ContentDecoder, content_decoder
from aioxide.http._headers import Headers
from aioxide.http._redirects import same_origin
from aioxide.http._request import Request
from aioxide.http._urls import URL

from .errors import NO_RESPONSE, in_both_families
from .messages import HTTPHeaders, HTTPRequest, HTTPResponse

if TYPE_CHECKING:
    from aioxide._native import RawResponse

DEFAULTS: dict[str, Any] = {
    "connect_timeout": 20.0,
    "request_timeout": 20.0,
    "follow_redirects": True,
    "max_redirects": 5,
    "decompress_response": True,
    "allow_nonstandard_methods": False,
    "validate_cert": True,
}
"""What a parameter that is None stands for."""

# The values that say no more than what happens anyway.
_HARMLESS: dict[str, tuple[Any, ...]] = {
    "network_interface": (None,),
    "prepare_curl_callback": (None,),
    "allow_ipv6": (None, True),
}
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"})
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_TIME_INFO = {
    "queue": "queue",
    "dns": "namelookup",
    "connect": "connect",
    "tls": "appconnect",
    "sent": "pretransfer",
    "first_byte": "starttransfer",
    "total": "total",
}


def resolve(request: HTTPRequest, client_defaults: dict[str, Any]) -> HTTPRequest:
    """A copy in which every default is filled in. NotImplementedError for what is asked for and not there yet."""
    resolved = _copy(request)
    for name, value in ({**DEFAULTS, **client_defaults} if client_defaults else DEFAULTS).items():
        if getattr(resolved, name, None) is None:
            setattr(resolved, name, value)
    for name, harmless in _HARMLESS.items():
        value = getattr(resolved, name)
        if value not in harmless:
            shown = "" if "password" in name else f"={value!r}"
            raise NotImplementedError(f"aioxide.httpclient does not support {name}{shown} yet")
    return resolved


class Fetch:
    """One fetch: the request with its defaults filled in, where redirects have led it, and when it must end."""

    def __init__(self, original: HTTPRequest, resolved: HTTPRequest, max_body_bytes: int = sys.maxsize) -> None:
        if resolved.auth_mode not in (None, "basic", "digest"):
            raise ValueError(f"unsupported auth_mode {resolved.auth_mode}")
        self.original = original
        self.max_body_bytes = max_body_bytes
        self._body_bytes = 0
        self._challenged = False
        self._authorization: str | None = None
        self.request = resolved
        self.started = time.perf_counter()
        self.start_time = time.time()
        self.redirects_left: int = resolved.max_redirects or 0
        self._deadline = self.started + resolved.request_timeout if resolved.request_timeout else None

    @property
    def streams(self) -> bool:
        """Whether callbacks want the response as it comes."""
        return self.request.streaming_callback is not None or self.request.header_callback is not None

    def seconds_left(self) -> float | None:
        """The seconds until request_timeout, 0 when it has run out, None when there is no limit."""
        return None if self._deadline is None else max(0.0, self._deadline - time.perf_counter())

    def message(self) -> Request:
        """What is sent now. ValueError when method and body do not go together."""
        request = self.request
        has_body = request.body is not None or request.body_producer is not None
        if not request.allow_nonstandard_methods:
            if request.method not in _METHODS:
                raise ValueError(f"unknown method {request.method!r} (allow_nonstandard_methods would let it pass)")
            if (request.method in _WITH_BODY) != has_body:
                needs = "must not be None" if request.method in _WITH_BODY else "must be None"
                raise ValueError(f"body {needs} for {request.method} (allow_nonstandard_methods would let it pass)")
        url = URL(request.url)
        headers = Headers(request.headers)
        if url._userinfo:
            headers["Authorization"] = basic_header(url.username, url.password)
        elif self._authorization is not None:
            headers["Authorization"] = self._authorization
        elif request.auth_username is not None and request.auth_mode != "digest":
            headers["Authorization"] = basic_header(request.auth_username, request.auth_password or "")
        if request.user_agent:
            headers["User-Agent"] = request.user_agent
        elif headers._first(b"user-agent") is None:
            headers._list.append((b"User-Agent", user_agent().encode("ascii")))
        if request.expect_100_continue:
            headers["Expect"] = "100-continue"
        if request.if_modified_since is not None:
            headers["If-Modified-Since"] = _http_date(request.if_modified_since)
        if request.method == "POST" and headers._first(b"content-type") is None:
            headers._list.append((b"Content-Type", b"application/x-www-form-urlencoded"))
        if request.decompress_response and headers._first(b"accept-encoding") is None:
            headers._list.append((b"Accept-Encoding", b"gzip"))
        if request.body is not None:
            message = Request(request.method, url, headers=headers, content=request.body)
        elif has_body:
            if headers._first(b"content-length") is None:
                headers["Transfer-Encoding"] = "chunked"
            # Whoever sends it has the producer.
            message = Request(request.method, url, headers=headers, stream=SyncByteStream())
        else:
            message = Request._bare(request.method, url, headers._list, {})
        message.extensions["timeout"] = self._timeout(message)
        return message

    def _timeout(self, message: Request) -> dict[str, float | None]:
        left = self.seconds_left()
        if left == 0:
            raise http.ReadTimeout(
                f"{message.url.host}: request_timeout ran out before the request was sent", request=message
            )
        connect = self.request.connect_timeout or None
        waiting = connect if left is None else left if connect is None else min(connect, left)
        return {"connect": connect, "pool": waiting, "read": None, "write": None, "total": left}

    def answers_challenge(self, raw: RawResponse, message: Request) -> bool:
        """Whether the server asks for digest authentication, which the request is for: then it is sent once more."""
        request = self.request
        if raw.status != 401 or request.auth_mode != "digest" or request.auth_username is None or self._challenged:
            return False
        offered = Headers._adopt(raw.headers).get_list("www-authenticate")
        header = next((each for each in offered if each.lower().startswith("digest ")), None)
        if header is None:
            return False
        from aioxide.http._digest import DigestAuth, parse_challenge

        auth = DigestAuth(request.auth_username, request.auth_password or "")
        self._authorization = auth._build_auth_header(message, parse_challenge(header, message))
        self._challenged = True
        return True

    def follows(self, raw: RawResponse) -> bool:
        """Whether this is a redirect, and is followed: then the fetch's request is the next one.

        ValueError for a bad Location.
        """
        request = self.request
        if raw.status not in (301, 302, 303, 307, 308) or not request.follow_redirects or not self.redirects_left:
            return False
        location = Headers._adopt(raw.headers).get("location")
        if not location:
            return False
        old = URL(request.url)
        new = old.copy_with(userinfo=None).join(location)
        self.redirects_left -= 1
        following = _copy(request)
        following.headers = request.headers  # a copy
        del_headers(following.headers, "Host")
        self._authorization = None  # a digest is for one URL
        self._challenged = False
        if not same_origin(old, new):
            following.auth_username = following.auth_password = None
            del_headers(following.headers, "Authorization", "Cookie", "Proxy-Authorization")
        following.url = str(new)
        if (raw.status == 303 and request.method != "HEAD") or (raw.status in (301, 302) and request.method == "POST"):
            following.method = "GET"
            following.body = None
            following.body_producer = None
            del_headers(following.headers, "Content-Length", "Content-Type", "Content-Encoding", "Transfer-Encoding")
        self.request = following
        return True

    def announce_head(self, raw: RawResponse) -> None:
        """Call the header_callback, if there is one, with each line of the head."""
        callback = self.request.header_callback
        if callback is not None:
            callback(f"{raw.http_version} {raw.status} {raw.reason}\r\n")
            for name, value in HTTPHeaders._adopt(raw.headers).get_all():
                callback(f"{name}: {value}\r\n")
            callback("\r\n")

    def decoder(self, raw: RawResponse) -> ContentDecoder | None:
        """What undoes the body's encoding, if that is wanted and there is one."""
        headers = Headers._adopt(raw.headers)
        if not self.request.decompress_response or headers._first(b"content-encoding") is None:
            return None
        return content_decoder(headers.get_list("content-encoding", split_commas=True))

    def decoded(self, raw: RawResponse) -> bytes:
        """The body that came whole, decoded."""
        body, decoder = raw.body or b"", self.decoder(raw)
        return b"".join([*self.pieces(decoder, body), *self.pieces(decoder, None)])

    def pieces(self, decoder: ContentDecoder | None, data: bytes | None) -> Iterator[bytes]:
        """The pieces that a piece of the body decodes to; None stands for its end. ReadError for too large a body."""
        if data is None:
            if decoder is not None:
                decoder.finish()
            return
        for piece in (data,) if decoder is None else decoder.pieces(data):
            self._body_bytes += len(piece)
            if self._body_bytes > self.max_body_bytes:
                raise http.ReadError(f"{self.request.url}: the body has more than {self.max_body_bytes} bytes")
            yield piece

    def response(self, raw: RawResponse, body: bytes) -> HTTPResponse:
        """The answer, whole."""
        timings = raw.timings
        return HTTPResponse(
            self.original,
            raw.status,
            headers=HTTPHeaders._adopt(raw.headers),
            buffer=BytesIO(body),
            effective_url=self.request.url,
            request_time=time.perf_counter() - self.started,
            time_info={name: timings[known] for known, name in _TIME_INFO.items() if known in timings},
            reason=raw.reason,
            start_time=self.start_time,
        )

    def seconds_since_start(self) -> float:
        """The seconds that the fetch has taken until now."""
        return time.perf_counter() - self.started

    def failure(self, error: BaseException) -> HTTPResponse:
        """No response came: code 599, and why."""
        return HTTPResponse(
            self.original,
            NO_RESPONSE,
            error=error,
            effective_url=self.request.url,
            request_time=time.perf_counter() - self.started,
            start_time=self.start_time,
        )


def _copy(request: HTTPRequest) -> HTTPRequest:
    """A shallow copy, made without the detours that copy.copy() takes for any object."""
    new = object.__new__(type(request))
    new.__dict__.update(request.__dict__)
    return new


def translated(error: Exception) -> Exception:
    """The error as a fetch raises it."""
    if isinstance(error, (http.RequestError, http.InvalidURL)):
        return in_both_families(error)
    return error


def del_headers(headers: Headers, *names: str) -> None:
    """Remove the fields of these names, where there are any."""
    for name in names:
        headers.pop(name, None)


def _http_date(moment: Any) -> str:
    from calendar import timegm
    from email.utils import formatdate

    # A datetime without a zone counts as UTC, as in Tornado.
    seconds = moment if isinstance(moment, (int, float)) else timegm(moment.utctimetuple())
    return formatdate(seconds, usegmt=True)
