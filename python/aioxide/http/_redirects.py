"""Which request follows a redirect: its method, where it goes, and what it may carry there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._exceptions import InvalidURL, RemoteProtocolError
from ._headers import Headers
from ._request import Request
from ._urls import DEFAULT_PORTS, URL

if TYPE_CHECKING:
    from ._cookies import Cookies
    from ._response import Response

_BODY_HEADERS = (b"content-length", b"transfer-encoding", b"content-type", b"content-encoding")
_CREDENTIALS = (b"authorization", b"proxy-authorization")


def redirected_request(response: Response, cookies: Cookies) -> Request:
    """The request that follows; RemoteProtocolError when the Location cannot be understood.

    The Cookie header is made anew from the jar: what was sent to one host says nothing about the next.
    """
    request = response.request
    method = _method(request.method, response.status_code)
    url = _url(request, response.headers["location"])
    dropped = {b"host", b"cookie"}
    keeps_body = method == request.method or method != "GET"
    if not keeps_body:
        dropped.update(_BODY_HEADERS)
    if not same_origin(url, request.url) and not _is_upgrade(request.url, url):
        dropped.update(_CREDENTIALS)
    fields = [(name, value) for name, value in request.headers._list if name.lower() not in dropped]
    follower = Request(
        method,
        url,
        headers=Headers._adopt(fields),
        content=request._content if keeps_body and request._content else None,
        # One that was sent and cannot be sent again says so when it is read.
        stream=request._stream if keeps_body and request._content is None else None,
        extensions=request.extensions,
    )
    header = cookies._header_for(url)
    if header:
        follower.headers["Cookie"] = header
    return follower


def _method(method: str, status: int) -> str:
    """RFC 9110, section 15.4, with what browsers do for 301 and 302."""
    if status in (302, 303) and method != "HEAD":
        return "GET"
    if status == 301 and method == "POST":
        return "GET"
    return method


def _url(request: Request, location: str) -> URL:
    try:
        url = URL(location)
        if url.scheme and not url._host:  # "http:/path", which some servers send, means the same host
            url = url.copy_with(host=request.url.host, port=request.url.port)
        url = request.url.copy_with(userinfo=None).join(url)
    except InvalidURL as error:
        raise RemoteProtocolError(
            f"{request.url.host}: the redirect's Location is not a URL: {error}", request=request
        ) from None
    if request.url.fragment and not url.fragment:
        url = url.copy_with(fragment=request.url.fragment)
    return url


def _port_of(url: URL) -> int | None:
    return url.port if url.port is not None else DEFAULT_PORTS.get(url.scheme)


def same_origin(one: URL, other: URL) -> bool:
    """Whether scheme, host and port are the same (RFC 6454)."""
    return one.scheme == other.scheme and one.raw_host == other.raw_host and _port_of(one) == _port_of(other)


def _is_upgrade(old: URL, new: URL) -> bool:
    """Whether this only goes from http to https on one host's default ports, so that credentials may go along."""
    return (
        old.raw_host == new.raw_host
        and (old.scheme, new.scheme) == ("http", "https")
        and (_port_of(old), _port_of(new)) == (80, 443)
    )
