"""Origin: what two URLs have in common that belong to one server."""

from __future__ import annotations

from typing import Any

from ._urls import DEFAULT_PORTS, URL


class Origin:
    """The scheme, host and port of a URL (RFC 6454), to be compared and used as a key. As httpx2 has it.

    `port` is the scheme's own where the URL names none, None for a scheme without one. ValueError for a relative URL,
    InvalidURL for what is no URL.

    >>> Origin("https://example.com/a") == Origin("https://EXAMPLE.com:443/b?c")
    True
    >>> Origin("http://[::0:1]:8000")
    Origin('http://[::1]:8000')
    """

    __slots__ = ("host", "port", "scheme")

    scheme: str
    host: str
    port: int | None

    def __init__(self, url: URL | str) -> None:
        url = URL(url)
        if not url.is_absolute_url:
            raise ValueError(f"a relative URL has no origin: {url!r}")
        host = url.host
        if ":" in host:
            from ipaddress import IPv6Address

            host = str(IPv6Address(host))  # one address has many spellings
        set_once = super().__setattr__
        set_once("scheme", url.scheme)
        set_once("host", host)
        set_once("port", DEFAULT_PORTS.get(url.scheme) if url.port is None else url.port)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"an Origin never changes: {name!r} cannot be set")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"an Origin never changes: {name!r} cannot be deleted")

    def _key(self) -> tuple[str, str, int | None]:
        return self.scheme, self.host, self.port

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, Origin) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    def __reduce__(self) -> tuple[Any, ...]:
        return Origin, (str(self),)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        is_usual = self.port is None or self.port == DEFAULT_PORTS.get(self.scheme)
        return f"{self.scheme}://{host}" if is_usual else f"{self.scheme}://{host}:{self.port}"

    def __repr__(self) -> str:
        return f"Origin({str(self)!r})"
