"""Cookies: a jar that stores what servers set and sends it where it belongs.

Cookies set by a server without a Domain go back to that host alone, those with a Domain to the host's domain and below
it; Path, Secure, Max-Age and Expires are kept to. A Domain that is a public suffix (``co.uk``, ``github.io``) is
refused, since anybody may register a name below it: RFC 6265, section 5.3, by Mozilla's list.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, MutableMapping
from threading import Lock
from typing import TYPE_CHECKING, Any, Union

from ._exceptions import CookieConflict

if TYPE_CHECKING:
    from http.cookiejar import CookieJar

    from ._request import Request
    from ._response import Response
    from ._urls import URL

CookieTypes = Union["Cookies", "CookieJar", dict[str, str], list[tuple[str, str]]]

MAX_COOKIES_PER_JAR = 3_000
MAX_COOKIE_BYTES = 4_096

_DATE = re.compile(
    r"(?P<day>\d{1,2})[ -](?P<month>[A-Za-z]{3})[a-z]*[ -](?P<year>\d{2,4})\s+"
    r"(?P<hour>\d{1,2}):(?P<minute>\d{2}):(?P<second>\d{2})"
)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MAX_AGE = re.compile(r"-?\d{1,18}")


class _Cookie:
    __slots__ = ("domain", "expires", "host_only", "name", "path", "secure", "value")

    def __init__(self, name: str, value: str, domain: str, path: str, host_only: bool = False) -> None:
        self.name = name
        self.value = value
        self.domain = domain  # without a leading dot; empty: any host
        self.path = path
        self.host_only = host_only
        self.secure = False
        self.expires: float | None = None  # seconds of time.time(); None: as long as the jar

    def matches(self, host: str, path: str, secure: bool, now: float) -> bool:
        if self.expires is not None and self.expires <= now:
            return False
        if self.secure and not secure:
            return False
        if self.domain and host != self.domain and (self.host_only or not _is_subdomain(host, self.domain)):
            return False
        return _path_matches(path, self.path)


def _is_subdomain(host: str, domain: str) -> bool:
    return host.endswith("." + domain) and not _is_ip_address(host)


def _is_ip_address(host: str) -> bool:
    return host.replace(".", "").isdigit()


def _path_matches(path: str, prefix: str) -> bool:
    return path == prefix or (path.startswith(prefix) and (prefix.endswith("/") or path[len(prefix)] == "/"))


class Cookies(MutableMapping[str, str]):
    """A cookie jar, usable as a mapping of names to values. Safe to use from several threads.

    >>> jar = Cookies({"theme": "dark"})
    >>> jar["theme"]
    'dark'
    >>> jar.set("id", "1", domain="a.example")
    >>> jar.set("id", "2", domain="b.example")
    >>> jar.get("id", domain="b.example")
    '2'
    """

    def __init__(self, cookies: CookieTypes | None = None) -> None:
        self._lock = Lock()
        self._cookies: dict[tuple[str, str, str], _Cookie] = {}
        self.update(cookies)

    def set(self, name: str, value: str, domain: str = "", path: str = "/") -> None:
        """Store a cookie. Without a domain it is sent to every host."""
        self._store(_Cookie(name, value, domain.lower().lstrip("."), path or "/"))

    def _store(self, cookie: _Cookie) -> None:
        key = (cookie.domain, cookie.path, cookie.name)
        with self._lock:
            self._cookies.pop(key, None)
            if cookie.expires is not None and cookie.expires <= time.time():
                return
            if len(self._cookies) >= MAX_COOKIES_PER_JAR:
                del self._cookies[next(iter(self._cookies))]  # the one that was set longest ago
            self._cookies[key] = cookie

    def _alive(self) -> list[_Cookie]:
        now = time.time()
        with self._lock:
            return [cookie for cookie in self._cookies.values() if cookie.expires is None or cookie.expires > now]

    def _find(self, name: str, domain: str | None, path: str | None) -> list[_Cookie]:
        wanted = None if domain is None else domain.lower().lstrip(".")
        return [
            cookie
            for cookie in self._alive()
            if cookie.name == name and wanted in (None, cookie.domain) and path in (None, cookie.path)
        ]

    def get(  # type: ignore[override]
        self, name: str, default: str | None = None, domain: str | None = None, path: str | None = None
    ) -> str | None:
        """The value of the cookie.

        CookieConflict when several have this name and neither domain nor path tells them apart.
        """
        found = self._find(name, domain, path)
        if len(found) > 1:
            where = ", ".join(f"{cookie.domain or '*'}{cookie.path}" for cookie in found)
            raise CookieConflict(f"several cookies are named {name!r}: {where}")
        return found[0].value if found else default

    def delete(self, name: str, domain: str | None = None, path: str | None = None) -> None:
        """Remove every cookie of this name (and domain, and path).

        KeyError when a domain and path are given and there is none.
        """
        found = self._find(name, domain, path)
        if not found and domain is not None and path is not None:
            raise KeyError(name)
        with self._lock:
            for cookie in found:
                self._cookies.pop((cookie.domain, cookie.path, cookie.name), None)

    def clear(self, domain: str | None = None, path: str | None = None) -> None:
        """Remove all cookies, or those of a domain, or those of a domain and a path."""
        wanted = None if domain is None else domain.lower().lstrip(".")
        with self._lock:
            for key in list(self._cookies):
                if wanted in (None, key[0]) and path in (None, key[1]):
                    del self._cookies[key]

    def update(self, cookies: CookieTypes | None = None) -> None:  # type: ignore[override]
        """Add the cookies of another jar (the standard library's too), a dict or a list of pairs."""
        if cookies is None:
            return
        if isinstance(cookies, Cookies):
            for cookie in cookies._alive():
                self._store(cookie)
            return
        pairs: Any = cookies.items() if isinstance(cookies, Mapping) else cookies
        for pair in pairs:
            if hasattr(pair, "domain"):
                self._store(_from_standard(pair))
            else:
                self.set(*pair)

    @property
    def jar(self) -> CookieJar:
        """The cookies as the standard library has them: a copy, from which no change comes back."""
        from ._standard_cookies import to_standard

        return to_standard(self._alive())

    def extract_cookies(self, response: Response) -> None:
        """Store what the response sets for the URL of its request. Cookies that the host may not set are left out."""
        url = response.request.url
        for text in response.headers.get_list("set-cookie"):
            cookie = parse_set_cookie(text, url)
            if cookie is not None:
                self._store(cookie)

    def set_cookie_header(self, request: Request) -> None:
        """Set the request's Cookie header to what belongs to its URL.

        Nothing happens when the jar has nothing for it.
        """
        header = self._header_for(request.url)
        if header:
            request.headers["Cookie"] = header

    def _header_for(self, url: URL) -> str:
        if not self._cookies:
            return ""
        host, path, secure, now = url.raw_host.decode("ascii"), url.path, url.scheme in ("https", "wss"), time.time()
        with self._lock:
            found = [cookie for cookie in self._cookies.values() if cookie.matches(host, path, secure, now)]
        found.sort(key=lambda cookie: -len(cookie.path))  # RFC 6265, section 5.4: longer paths first
        return "; ".join(f"{cookie.name}={cookie.value}" for cookie in found)

    def __getitem__(self, name: str) -> str:
        value = self.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def __setitem__(self, name: str, value: str) -> None:
        self.set(name, value)

    def __delitem__(self, name: str) -> None:
        if not self._find(name, None, None):
            raise KeyError(name)
        self.delete(name)

    def __len__(self) -> int:
        return len(self._alive())

    def __iter__(self) -> Iterator[str]:
        return iter([cookie.name for cookie in self._alive()])

    def __bool__(self) -> bool:
        return bool(self._alive())

    def __repr__(self) -> str:
        # Values are left out: a session's cookie is a password.
        shown = ", ".join(f"{cookie.name} for {cookie.domain or '*'}{cookie.path}" for cookie in self._alive())
        return f"<Cookies[{shown}]>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self._alive(),)


def _from_standard(given: Any) -> _Cookie:
    """The cookie that an `http.cookiejar.Cookie` is."""
    domain = given.domain.lower().lstrip(".")
    cookie = _Cookie(
        given.name, given.value or "", domain, given.path or "/", bool(domain) and not given.domain_specified
    )
    cookie.secure = bool(given.secure)
    cookie.expires = given.expires
    return cookie


def _restore(cookies: list[_Cookie]) -> Cookies:
    jar = Cookies()
    for cookie in cookies:
        jar._store(cookie)
    return jar


def parse_set_cookie(text: str, url: URL) -> _Cookie | None:
    """The cookie that a Set-Cookie field sets (RFC 6265, section 5.2 and 5.3); None when it is to be left out."""
    pair, *attributes = text.split(";")
    name, equals, value = pair.partition("=")
    name, value = name.strip(), value.strip()
    if not equals or not name or len(text) > MAX_COOKIE_BYTES:
        return None
    host = url.raw_host.decode("ascii")
    cookie = _Cookie(name, value, host, _default_path(url.path), host_only=True)
    max_age: float | None = None
    for attribute in attributes:
        key, _, argument = attribute.partition("=")
        key, argument = key.strip().lower(), argument.strip()
        if key == "secure":
            cookie.secure = True
        elif key == "path":
            cookie.path = argument if argument.startswith("/") else _default_path(url.path)
        elif key == "expires" and (moment := _parse_date(argument)) is not None:
            cookie.expires = moment
        elif key == "max-age" and _MAX_AGE.fullmatch(argument):
            max_age = float(argument)
        elif key == "domain" and argument:
            from aioxide._native import is_public_suffix

            domain = argument.lower().lstrip(".")
            if domain != host and not _is_subdomain(host, domain):
                return None
            if not is_public_suffix(domain):
                cookie.domain, cookie.host_only = domain, _is_ip_address(domain)
            elif domain != host:
                return None
    if max_age is not None:  # goes before Expires
        cookie.expires = time.time() + max_age if max_age > 0 else 0.0
    if cookie.secure and url.scheme not in ("https", "wss"):
        return None  # else a plain-text answer could overwrite what TLS protects
    return cookie


def _default_path(path: str) -> str:
    return path[: path.rfind("/")] or "/"


def _parse_date(text: str) -> float | None:
    found = _DATE.search(text)
    if found is None or found["month"].lower() not in _MONTHS:
        return None
    year = int(found["year"])
    if year < 100:
        year += 2000 if year < 70 else 1900
    month = _MONTHS.index(found["month"].lower()) + 1
    try:
        from datetime import UTC, datetime

        return datetime(
            year, month, int(found["day"]), int(found["hour"]), int(found["minute"]), int(found["second"]), tzinfo=UTC
        ).timestamp()
    except ValueError:
        return None
