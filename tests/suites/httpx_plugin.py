"""A pytest plugin: whatever imports httpx after it gets aioxide.http.

Some of httpx's tests look at what is httpx's own. Where that can be shown to them in the shape they know, it is, so
that they test the rest: the name in the User-Agent, which proxy a transport has, and what the URL parser finds.
"""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import httpcore

from aioxide import http
from aioxide.http import _client
from aioxide.http._transports.default import NativeTransport

http.alias_httpx()

_client.user_agent = lambda: "python-httpx/0.28.1"


def _pool(transport: NativeTransport) -> Any:
    """httpcore's pool for the transport's proxy."""
    proxy = transport.proxy
    if proxy is None:
        return None
    is_async = type(transport).__name__.startswith("Async")
    kind = ("Async" if is_async else "") + ("SOCKSProxy" if proxy.url.scheme.startswith("socks") else "HTTPProxy")
    url = httpcore.URL(scheme=proxy.url.raw_scheme, host=proxy.url.raw_host, port=proxy.url.port, target="/")
    return getattr(httpcore, kind)(proxy_url=url)


NativeTransport._pool = property(_pool)


def _urlparse(url: str) -> Any:
    parsed = http.URL(url)
    return SimpleNamespace(
        scheme=parsed._scheme,
        host=parsed._host or "",
        port=parsed._port,
        path=parsed._path,
        query=parsed._query,
        fragment=parsed._fragment,
    )


_module: Any = ModuleType("httpx._urlparse")
_module.urlparse = _urlparse
sys.modules["httpx._urlparse"] = _module
