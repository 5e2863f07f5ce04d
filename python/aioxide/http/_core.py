"""The native core behind both clients: made here, with the package's own settings."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Any

from ._tls import context_source

if TYPE_CHECKING:
    from aioxide._native import HttpClient

    from ._config import Limits
    from ._proxies import Proxy
    from ._tls import ContextSource

HTTP1_PROTOCOLS = ("http/1.1",)


def protocols(http1: bool, http2: bool) -> tuple[str, ...]:
    """What the TLS handshake offers to speak. ValueError when that is nothing."""
    if not (http1 or http2):
        raise ValueError("http1 and http2 cannot both be False: no protocol would be left")
    return ("h2",) * http2 + HTTP1_PROTOCOLS * http1


def open_core(
    limits: Limits,
    tls: ContextSource,
    proxy: Proxy | None = None,
    *,
    http1: bool = True,
    http2: bool = False,
    uds: str | None = None,
    local_address: str | None = None,
    socket_options: Iterable[tuple[int, int, Any]] | None = None,
    hedge_budget: float = 0.1,
) -> HttpClient:
    """New connection pools with these limits, for any thread and any loop.

    `tls` gives the context of connections for https. All go through the proxy, if there is one. `http2` is spoken where
    a server chooses it in the TLS handshake, and with every server unless `http1`. The others are
    those of an HTTPTransport.
    """
    from aioxide._native import HttpClient

    return HttpClient(
        max_connections=limits.max_connections,
        max_connections_per_host=getattr(limits, "max_connections_per_host", None),  # httpx's Limits has none
        max_keepalive_connections=limits.max_keepalive_connections,
        keepalive_expiry=limits.keepalive_expiry,
        ssl_context=tls,
        unix_path=uds,
        local_address=local_address,
        socket_options=[_socket_option(*each) for each in socket_options or ()],
        http1=http1,
        http2=http2,
        hedge_budget=hedge_budget,
        **({} if proxy is None else _proxy_settings(proxy)),
    )


def _socket_option(level: int, name: int, value: Any) -> tuple[int, int, bytes]:
    """An option as the kernel reads it: an int of C, or bytes."""
    return level, name, value.to_bytes(4, sys.byteorder, signed=True) if isinstance(value, int) else bytes(value)


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
