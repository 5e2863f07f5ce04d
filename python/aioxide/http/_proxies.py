"""Which requests go through which proxy: what a caller says, and what the environment says."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, Union

from ._headers import Headers, HeaderTypes
from ._urls import URL, URLTypes

if TYPE_CHECKING:
    from ssl import SSLContext

ProxyTypes = Union[URLTypes, "Proxy"]
PROXY_SCHEMES = ("http", "https", "socks5", "socks5h")


class Proxy:
    """A proxy: its `url`, `auth` (user and password, also taken from the URL), and `headers` that are for it alone.

    By ``http://`` it forwards requests for http URLs and makes tunnels (CONNECT) for the others; with `tunnel` True it
    makes a tunnel for every request. ``socks5://`` and ``socks5h://`` both leave it to the proxy to look names up, as
    httpx does. ValueError for another scheme.

    >>> Proxy("http://user:secret@proxy.example:8080")
    Proxy('http://proxy.example:8080', auth=('user', '********'))
    """

    def __init__(
        self,
        url: URLTypes,
        *,
        ssl_context: SSLContext | None = None,
        auth: tuple[str, str] | None = None,
        headers: HeaderTypes | None = None,
        tunnel: bool | None = None,
    ) -> None:
        url = URL(url)
        if url.scheme not in PROXY_SCHEMES:
            raise ValueError(f"the proxy {url!r} has none of the schemes {', '.join(PROXY_SCHEMES)}")
        if url.username or url.password:
            auth = (url.username, url.password)
            url = url.copy_with(userinfo=None)
        self.url = url
        self.auth = auth
        self.headers = Headers(headers)
        self.ssl_context = ssl_context
        self.tunnel = tunnel

    @property
    def raw_auth(self) -> tuple[bytes, bytes] | None:
        """User and password as they are sent."""
        return None if self.auth is None else (self.auth[0].encode(), self.auth[1].encode())

    def __repr__(self) -> str:
        auth = f", auth={(self.auth[0], '********')!r}" if self.auth else ""
        # What a header for a proxy holds is often a credential.
        headers = f", headers=<{', '.join(self.headers)}>" if self.headers else ""
        return f"Proxy({str(self.url)!r}{auth}{headers})"


def build_proxy(proxy: Any) -> Proxy | None:
    """From what a caller may pass as proxy= to a Proxy. TypeError when it is none of them."""
    if proxy is None or isinstance(proxy, Proxy):
        return proxy
    return Proxy(proxy)


def get_environment_proxies() -> dict[str, str | None]:
    """What HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY say: proxies by URL pattern, None for no proxy.

    A name in lower case goes before one in capitals. A CGI program ignores HTTP_PROXY, which a client could set by a
    header named ``Proxy`` there.
    """
    mounts: dict[str, str | None] = {}
    for scheme in ("http", "https", "all"):
        proxy = _variable(f"{scheme}_proxy")
        if proxy:
            mounts[f"{scheme}://"] = proxy if "://" in proxy else f"http://{proxy}"
    for host in (_variable("no_proxy") or "").split(","):
        host = host.strip()
        if host == "*":
            return {}
        if host:
            mounts[_exception_pattern(host)] = None
    return mounts


def _variable(name: str) -> str | None:
    value = os.environ.get(name)
    if value is None and not (name == "http_proxy" and "REQUEST_METHOD" in os.environ):
        value = os.environ.get(name.upper())
    return value


def _exception_pattern(host: str) -> str:
    if "://" in host:
        return host
    address = host.partition("/")[0]
    if re.fullmatch(r"\d{1,3}(\.\d{1,3}){3}", address) or host.lower() == "localhost":
        return f"all://{host}"
    if ":" in address and _is_ipv6(address):
        return f"all://[{host}]"
    return f"all://*{host}"


def _is_ipv6(text: str) -> bool:
    import socket

    try:
        socket.inet_pton(socket.AF_INET6, text)
    except OSError:
        return False
    return True


class URLPattern:
    """The URLs that a mount is for: ``scheme://host:port``, each part optional.

    ``all://`` is every scheme; ``*.example.com`` is what lies below example.com, ``*example.com`` that host as well.
    Patterns sort from the most to the least specific. ValueError for a scheme without ``://``.

    >>> URLPattern("all://*example.com").matches(URL("https://www.example.com/"))
    True
    """

    def __init__(self, pattern: str) -> None:
        if pattern and ":" not in pattern:
            raise ValueError(f"the pattern {pattern!r} is no URL: a scheme is written {pattern + '://'!r}")
        # A network in NO_PROXY, such as 10.0.0.0/8, reads as a host with a path.
        url = URL(pattern)
        self.pattern = pattern
        self.scheme = "" if url.scheme == "all" else url.scheme
        self.host = "" if url.host == "*" else url.host
        self.port = url.port
        self._network = _network(self.host, url.path)

    def matches(self, url: URL) -> bool:
        """Whether the pattern is for this URL."""
        if self.scheme and self.scheme != url.scheme:
            return False
        if self.port is not None and self.port != url.port:
            return False
        return not self.host or self._matches_host(url.host)

    def _matches_host(self, host: str) -> bool:
        if self._network is not None:
            from ipaddress import ip_address

            try:
                return ip_address(host) in self._network
            except ValueError:
                return False
        if self.host.startswith("*."):
            return host.endswith(self.host[1:]) and len(host) > len(self.host) - 1
        if self.host.startswith("*"):
            return host == self.host[1:] or host.endswith("." + self.host[1:])
        return host == self.host

    @property
    def priority(self) -> tuple[int, int, int]:
        """What patterns are sorted by: with a port first, then by the length of the host, then of the scheme."""
        return (0 if self.port is not None else 1, -len(self.host), -len(self.scheme))

    def __lt__(self, other: URLPattern) -> bool:
        return self.priority < other.priority

    def __eq__(self, other: object) -> bool:
        return isinstance(other, URLPattern) and self.pattern == other.pattern

    def __hash__(self) -> int:
        return hash(self.pattern)

    def __repr__(self) -> str:
        return f"URLPattern({self.pattern!r})"


def _network(host: str, path: str) -> Any:
    """The network that ``address/bits`` names, None for anything else."""
    bits = path[1:]
    if not (bits.isascii() and bits.isdigit()):
        return None
    from ipaddress import ip_network

    try:
        return ip_network(f"{host}/{bits}", strict=False)
    except ValueError:
        return None
