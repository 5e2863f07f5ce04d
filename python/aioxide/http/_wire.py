"""From a Request to what the native core takes, and from its errors back to the request they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ._exceptions import RequestError, UnsupportedProtocol

if TYPE_CHECKING:
    from ._request import Request

_NO_TIMEOUT: dict[str, float | None] = {}


def wire_url(request: Request) -> str:
    """The URL as the core takes it: absolute, without credentials and fragment.

    UnsupportedProtocol for what is no http URL.
    """
    url = request.url
    if url._scheme not in ("http", "https"):
        missing = (
            "the URL has no http:// or https://" if not url._scheme else f"the scheme {url._scheme!r} is not supported"
        )
        raise UnsupportedProtocol(f"{missing}: {url!r}", request=request)
    if not url._host:
        raise UnsupportedProtocol(f"the URL has no host: {url!r}", request=request)
    if url._userinfo or url._fragment is not None:
        url = url.copy_with(userinfo=None, fragment=None)
    return str(url)


def terms(request: Request) -> dict[str, Any]:
    """The request's limits on time, whom its server must prove to be, and when it is hedged, by the core's names."""
    given = timeouts(request)
    if (name := request.extensions.get("sni_hostname")) is not None:
        given["server_name"] = name.decode("ascii") if isinstance(name, bytes) else name
    if (delay := request.extensions.get("hedge_after")) is not None:
        given["hedge_after"] = delay
    return given


def timeouts(request: Request) -> dict[str, Any]:
    """The limits on time of the request, by the names that the core has for them."""
    limits: Mapping[str, float | None] = request.extensions.get("timeout") or _NO_TIMEOUT
    return {
        "connect_timeout": limits.get("connect"),
        "read_timeout": limits.get("read"),
        "write_timeout": limits.get("write"),
        "pool_timeout": limits.get("pool"),
        "total_timeout": limits.get("total"),
    }


def with_request(error: RequestError, request: Request) -> RequestError:
    """The error, now knowing which request it belongs to."""
    if error._request is None:
        error.request = request
    return error
