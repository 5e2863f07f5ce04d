"""The native core behind both clients: made here, with the package's own settings."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from ._tls import context_source

if TYPE_CHECKING:
    from aioxide._native import HttpClient

    from ._config import Limits
    from ._proxies import Proxy
    from ._tls import ContextSource

HTTP1_PROTOCOLS = ("http/1.1",)


def open_core(limits: Limits, tls: ContextSource, proxy: Proxy | None = None) -> HttpClient:
    """New connection pools with these limits, for any thread and any loop.

    `tls` gives the context of connections for https. All go through the proxy, if there is one.
    """
    from aioxide._native import HttpClient

    return HttpClient(
        max_connections=limits.max_connections,
        max_connections_per_host=getattr(limits, "max_connections_per_host", None),  # httpx's Limits has none
        max_keepalive_connections=limits.max_keepalive_connections,
        keepalive_expiry=limits.keepalive_expiry,
        ssl_context=tls,
        **({} if proxy is None else _proxy_settings(proxy)),
    )


def _proxy_settings(proxy: Proxy) -> dict[str, Any]:
    return {
        "proxy": str(proxy.url),
        "proxy_auth": proxy.raw_auth,
        "proxy_headers": proxy.headers._list,
        "proxy_tunnel": proxy.tunnel,
        "proxy_ssl_context": context_source(
            True if proxy.ssl_context is None else proxy.ssl_context, None, True, HTTP1_PROTOCOLS
        ),
    }


@cache
def user_agent() -> str:
    """What the client calls itself."""
    from aioxide import __version__

    return f"aioxide/{__version__}"
