"""URL: an immutable, normalised URL, absolute or relative (RFC 3986)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Union

from ._exceptions import InvalidURL
from ._query import QueryParams, QueryParamTypes
from ._quoting import FRAGMENT_SAFE, HOST_SAFE, PATH_SAFE, QUERY_SAFE, USERINFO_SAFE, quote, unquote

if TYPE_CHECKING:
    from ._origin import Origin

URLTypes = Union["URL", str]

MAX_URL_LENGTH = 65_536
DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443, "ftp": 21}

# The common URL, all of whose characters stand as they are: no further work is needed.
_PLAIN = re.compile(
    r"(https?)://([a-z0-9](?:[a-z0-9.-]*[a-z0-9])?)(?::(\d{1,5}))?"
    r"((?:/[A-Za-z0-9_~!$&'()*+,;=:@-][A-Za-z0-9._~!$&'()*+,;=:@-]*)*/?)"
    r"(?:\?([A-Za-z0-9._~!$&'()*+,;=:@/?-]*))?"
)
# RFC 3986, appendix B.
_REFERENCE = re.compile(r"(?:([A-Za-z][A-Za-z0-9+.-]*)?:)?(?://([^/?#]*))?([^?#]*)(?:\?([^#]*))?(?:#(.*))?", re.DOTALL)
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)?")
_HOST_FORBIDDEN = re.compile(r"[\x00-\x20\x7f\"#%/:<>?@\[\\\]^`{|}\ud800-\udfff]")
_IPV6 = re.compile(r"[0-9a-f:.]+(?:%25[a-z0-9._~-]+)?")
_LOOKS_IPV4 = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+")
_IPV4 = re.compile(r"(?:(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])(?:\.(?!$)|$)){4}")

_COMPONENTS: dict[str, type | tuple[type, ...]] = {
    "scheme": str,
    "username": str,
    "password": str,
    "userinfo": bytes,
    "host": str,
    "port": int,
    "netloc": bytes,
    "path": str,
    "query": bytes,
    "raw_path": bytes,
    "fragment": str,
    "params": object,
}


class URL:
    """A URL, kept in its normalised, percent-encoded form.

    The scheme and the host are lower case, a scheme's default port is dropped, dot segments of an absolute URL's path
    are resolved, and characters that may not stand in a URL are percent-encoded. Components can be replaced by keyword.

    Raises InvalidURL when the text cannot be understood.

    >>> url = URL("HTTP://Example.com:80/a/../b c?q=1")
    >>> str(url)
    'http://example.com/b%20c?q=1'
    >>> url.host, url.port, url.path
    ('example.com', None, '/b c')
    >>> str(url.join("/other"))
    'http://example.com/other'
    """

    __slots__ = ("_fragment", "_host", "_netloc_bytes", "_path", "_port", "_query", "_scheme", "_text", "_userinfo")

    _scheme: str
    _userinfo: str
    _host: str | None  # None: the URL has no authority. IPv6 addresses stand without brackets.
    _port: int | None
    _path: str
    _query: str | None
    _fragment: str | None
    _text: str | None
    _netloc_bytes: bytes | None  # once it was asked for

    def __init__(self, url: URLTypes = "", **kwargs: Any) -> None:
        if type(url) is str:
            self._parse(url)
        elif isinstance(url, URL):
            for name in URL.__slots__:
                setattr(self, name, getattr(url, name))
        elif isinstance(url, str):
            self._parse(str(url))
        else:
            raise TypeError(f"a URL is a str or a URL, not {type(url).__name__}: {url!r}")
        if kwargs:
            self._replace(kwargs)

    def _parse(self, text: str) -> None:
        match = _PLAIN.fullmatch(text)
        if match is not None and len(text) <= MAX_URL_LENGTH:
            self._scheme, self._host, port, self._path, self._query = match.groups()
            self._userinfo = ""
            self._fragment = self._netloc_bytes = None
            self._port = _port(port, self._scheme) if port else None
            if self._host[-1].isdigit():
                _check_ipv4(self._host)
            # The text is already the normal form, unless it writes a default port or leading zeros.
            self._text = text if port is None or str(self._port) == port else None
            return
        _check_text(text, "URL")
        match = _REFERENCE.fullmatch(text)
        if match is None:  # the pattern matches every text; this is for the type checker
            raise InvalidURL(f"not a URL: {text!r}")
        scheme, authority, path, query, fragment = match.groups()
        self._build(scheme or "", authority, path, query, fragment)

    def _build(self, scheme: str, authority: str | None, path: str, query: str | None, fragment: str | None) -> None:
        self._text = self._netloc_bytes = None
        self._scheme = scheme.lower()
        self._userinfo, self._host, self._port = _authority(authority, self._scheme) if authority else ("", None, None)
        self._path = self._checked_path(quote(path, PATH_SAFE))
        self._query = None if query is None else quote(query, QUERY_SAFE)
        self._fragment = None if fragment is None else quote(fragment, FRAGMENT_SAFE)

    def _checked_path(self, path: str) -> str:
        if self._host is not None:
            if path and not path.startswith("/"):
                raise InvalidURL(f"the path of an absolute URL must be empty or begin with '/': {path!r}")
        elif not self._scheme:
            if path.startswith("//"):
                raise InvalidURL("the path of a relative URL cannot begin with '//'")
            if path.startswith(":"):
                raise InvalidURL("the path of a relative URL cannot begin with ':'")
        return _remove_dot_segments(path) if self._scheme or self._host is not None else path

    def _replace(self, kwargs: dict[str, Any]) -> None:
        for name, value in kwargs.items():
            expected = _COMPONENTS.get(name)
            if expected is None:
                raise TypeError(f"{name!r} is not a component of a URL")
            if value is not None and not isinstance(value, expected):
                raise TypeError(f"{name} must be {expected}, not {type(value).__name__}")
            if isinstance(value, bytes):
                kwargs[name] = value.decode("ascii")
            if isinstance(kwargs[name], str):
                _check_text(kwargs[name], name)
        self._text = self._netloc_bytes = None
        if kwargs.get("scheme") is not None:
            if _SCHEME.fullmatch(kwargs["scheme"]) is None:
                raise InvalidURL(f"not a scheme: {kwargs['scheme']!r}")
            port = self._port or DEFAULT_PORTS.get(self._scheme)
            self._scheme = kwargs["scheme"].lower()
            # A port that was the old scheme's default stays unwritten; one that was written stays, unless it is now the
            # default.
            self._port = None if self._port is None or DEFAULT_PORTS.get(self._scheme) == port else port
        self._replace_authority(kwargs)
        path, query, fragment = kwargs.get("path"), kwargs.get("query"), kwargs.get("fragment")
        if "raw_path" in kwargs:
            path, mark, query_text = (kwargs["raw_path"] or "").partition("?")
            self._query = quote(query_text, QUERY_SAFE) if mark else None
        if path is not None:
            # A given path is text, in which only the raw form may hold escapes; both keep those that are there.
            self._path = self._checked_path(quote(path, PATH_SAFE))
        if "params" in kwargs:
            params = QueryParams(kwargs["params"]) if kwargs["params"] else None
            self._query = str(params) if params else None
        elif "query" in kwargs:
            self._query = None if query is None else quote(query, QUERY_SAFE)
        if "fragment" in kwargs:
            self._fragment = None if fragment is None else quote(fragment, FRAGMENT_SAFE)

    def _replace_authority(self, kwargs: dict[str, Any]) -> None:
        if "netloc" in kwargs:
            netloc = kwargs["netloc"]
            userinfo = self._userinfo
            self._userinfo, self._host, self._port = _authority(netloc, self._scheme) if netloc else ("", None, None)
            self._userinfo = self._userinfo or userinfo
        if "host" in kwargs:
            host = kwargs["host"]
            if host is not None:
                host = _host(host[1:-1] if host.startswith("[") and host.endswith("]") else host, self._scheme)
            self._host = host
        if "port" in kwargs:
            port = kwargs["port"]
            self._port = None if port is None else _port(str(port), self._scheme)
        if "userinfo" in kwargs:
            self._userinfo = _userinfo(kwargs["userinfo"] or "")
        if "username" in kwargs or "password" in kwargs:
            username = kwargs.get("username", self.username) or ""
            password = kwargs.get("password") or ""
            self._userinfo = quote(username, USERINFO_SAFE) + (":" + quote(password, USERINFO_SAFE) if password else "")
        if self._host is None and (self._userinfo or self._port is not None):
            self._host = ""
        if "path" not in kwargs and "raw_path" not in kwargs:
            self._path = self._checked_path(self._path)

    @property
    def _uri_reference(self) -> Any:
        """The parts as they were given, where libraries such as respx look for them in httpx's URLs."""
        from types import SimpleNamespace

        names = ("scheme", "userinfo", "host", "port", "path", "query", "fragment")
        return SimpleNamespace(**{name: getattr(self, f"_{name}") for name in names})

    @property
    def scheme(self) -> str:
        """The scheme in lower case, or the empty string."""
        return self._scheme

    @property
    def raw_scheme(self) -> bytes:
        """The scheme as bytes."""
        return self._scheme.encode("ascii")

    @property
    def userinfo(self) -> bytes:
        """The user and the password as they stand in the URL, percent-encoded."""
        return self._userinfo.encode("ascii")

    @property
    def username(self) -> str:
        """The user, decoded."""
        return unquote(self._userinfo.partition(":")[0])

    @property
    def password(self) -> str:
        """The password, decoded."""
        return unquote(self._userinfo.partition(":")[2])

    @property
    def host(self) -> str:
        """The host as people write it: lower case, international names decoded, IPv6 addresses without brackets."""
        host = self._host or ""
        if "xn--" in host:
            from aioxide._native import domain_to_unicode

            return domain_to_unicode(host)
        return host

    @property
    def raw_host(self) -> bytes:
        """The host as it goes over the wire."""
        return (self._host or "").encode("ascii")

    @property
    def port(self) -> int | None:
        """The port, None when it is the scheme's own."""
        return self._port

    @property
    def netloc(self) -> bytes:
        """``host:port`` as in a Host header; the port only when it is not the scheme's own."""
        netloc = self._netloc_bytes
        if netloc is None:
            netloc = self._netloc_bytes = self._netloc().encode("ascii")
        return netloc

    def _netloc(self) -> str:
        host = self._host or ""
        if ":" in host:
            host = f"[{host}]"
        return host if self._port is None else f"{host}:{self._port}"

    @property
    def path(self) -> str:
        """The path with escapes decoded; ``"/"`` when it is empty."""
        return unquote(self._path or "/")

    @property
    def query(self) -> bytes:
        """The query as it stands in the URL, without the ``?``."""
        return (self._query or "").encode("ascii")

    @property
    def params(self) -> QueryParams:
        """The query's parameters, decoded."""
        return QueryParams(self._query or "")

    @property
    def raw_path(self) -> bytes:
        """The path and the query as in a request line."""
        path = self._path or "/"
        return (path if self._query is None else f"{path}?{self._query}").encode("ascii")

    @property
    def fragment(self) -> str:
        """What stands after the ``#``, decoded."""
        return unquote(self._fragment or "")

    @property
    def origin(self) -> Origin:
        """Scheme, host and port, to be compared. ValueError for a relative URL."""
        from ._origin import Origin

        return Origin(self)

    @property
    def is_absolute_url(self) -> bool:
        """Whether there is both a scheme and a host."""
        return bool(self._scheme and self._host)

    @property
    def is_relative_url(self) -> bool:
        """Whether the scheme or the host is missing."""
        return not self.is_absolute_url

    def copy_with(self, **kwargs: Any) -> URL:
        """A copy with components replaced.

        Scheme, username, password, userinfo, host, port, netloc, path, query, raw_path, fragment, params.
        """
        return URL(self, **kwargs)

    def copy_set_param(self, key: str, value: Any = None) -> URL:
        """A copy in whose query the name has this one value."""
        return self.copy_with(params=self.params.set(key, value))

    def copy_add_param(self, key: str, value: Any = None) -> URL:
        """A copy in whose query the name has this value too."""
        return self.copy_with(params=self.params.add(key, value))

    def copy_remove_param(self, key: str) -> URL:
        """A copy without the name in its query."""
        return self.copy_with(params=self.params.remove(key))

    def copy_merge_params(self, params: QueryParamTypes) -> URL:
        """A copy with the parameters merged into its query."""
        return self.copy_with(params=self.params.merge(params))

    def join(self, url: URLTypes) -> URL:
        """The reference `url` resolved against this URL (RFC 3986, section 5.2)."""
        reference = URL(url)
        if reference._scheme:
            return reference
        result = URL(reference)
        result._text = result._netloc_bytes = None
        result._scheme = self._scheme
        if reference._host is not None:
            result._path = _remove_dot_segments(reference._path)
            return result
        result._userinfo, result._host, result._port = self._userinfo, self._host, self._port
        if not reference._path:
            result._path = self._path
            if reference._query is None:
                result._query = self._query
        elif reference._path.startswith("/"):
            result._path = _remove_dot_segments(reference._path)
        else:
            base = self._path or ("/" if self._host is not None else "")
            result._path = _remove_dot_segments(base[: base.rfind("/") + 1] + reference._path)
        return result

    def __str__(self) -> str:
        text = self._text
        if text is None:
            text = self._text = self._compose(self._userinfo)
        return text

    def _compose(self, userinfo: str) -> str:
        authority = "" if self._host is None else f"//{userinfo}{'@' if userinfo else ''}{self._netloc()}"
        return (
            (f"{self._scheme}:" if self._scheme else "")
            + authority
            + self._path
            + ("" if self._query is None else f"?{self._query}")
            + ("" if self._fragment is None else f"#{self._fragment}")
        )

    def __repr__(self) -> str:
        userinfo = self._userinfo
        if ":" in userinfo:
            userinfo = userinfo.partition(":")[0] + ":[secure]"
        return f"URL({self._compose(userinfo)!r})"

    def __hash__(self) -> int:
        return hash(str(self))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (URL, str)):
            return NotImplemented
        try:
            return str(self) == str(URL(other))
        except InvalidURL:
            return False


def _check_text(text: str, what: str) -> None:
    if len(text) > MAX_URL_LENGTH:
        raise InvalidURL(f"the {what} has {len(text)} characters; the limit is {MAX_URL_LENGTH}")
    found = _UNPRINTABLE.search(text)
    if found is not None:
        raise InvalidURL(
            f"the {what} has a control character, {found.group()!r} at position {found.start()}: {text[:200]!r}"
        )


def _authority(authority: str, scheme: str) -> tuple[str, str | None, int | None]:
    userinfo, _, netloc = authority.rpartition("@")
    match = re.fullmatch(r"(?:\[([^\]]*)\]|([^:]*))(?::(.*))?", netloc, re.DOTALL)
    if match is None:
        raise InvalidURL(f"not a host and port: {netloc!r}")
    v6, name, port = match.groups()
    if v6 is not None:
        if ":" not in v6 or _IPV6.fullmatch(v6.lower()) is None:
            raise InvalidURL(f"not an IPv6 address: {v6!r}")
        host = _host(v6, scheme)
    else:
        host = _host(name, scheme)
    return _userinfo(userinfo), host, _port(port, scheme) if port else None


def _userinfo(userinfo: str) -> str:
    username, colon, password = userinfo.partition(":")
    # A colon within the password may stand as it is.
    return quote(username, USERINFO_SAFE) + colon + quote(password, USERINFO_SAFE + ":")


def _port(text: str, scheme: str) -> int | None:
    # Python refuses to read a number of thousands of digits.
    digits = text.lstrip("0") or "0"
    if not (text.isascii() and text.isdigit()) or len(digits) > 5 or int(digits) > 65_535:
        raise InvalidURL(f"not a port: {text!r}")
    port = int(digits)
    return None if DEFAULT_PORTS.get(scheme) == port else port


def _host(host: str, scheme: str) -> str:
    if scheme and scheme not in DEFAULT_PORTS and ":" not in host:
        # What a host is, only that scheme knows: it is kept as it is, and quoted.
        return quote(host, HOST_SAFE)
    host = host.lower()
    if ":" in host:
        import socket

        address = host.partition("%25")[0]
        try:
            socket.inet_pton(socket.AF_INET6, address)
        except OSError:
            raise InvalidURL(f"not an IPv6 address: {host!r}") from None
        return host
    if host[-1:].isdigit():
        _check_ipv4(host)
    if not host.isascii():
        from aioxide._native import domain_to_ascii

        coded = None if _HOST_FORBIDDEN.search(host) is not None else domain_to_ascii(host)
        if coded is None:
            raise InvalidURL(f"not an international host name: {host!r}")
        host = coded
    if _HOST_FORBIDDEN.search(host) is not None:
        raise InvalidURL(f"the host has a character that no host name has: {host!r}")
    return host


def _check_ipv4(host: str) -> None:
    # A part with a leading zero is octal to some resolvers and decimal to others, so it is refused.
    if _IPV4.fullmatch(host) is None and _LOOKS_IPV4.fullmatch(host) is not None:
        raise InvalidURL(f"not an IPv4 address: {host!r}")


def _remove_dot_segments(path: str) -> str:
    """RFC 3986, section 5.2.4."""
    if "/." not in path and not path.startswith("."):
        return path
    out: list[str] = []
    segments = path.split("/")
    for segment in segments:
        if segment == "..":
            if len(out) > 1 or (out and out[0] != ""):
                out.pop()
        elif segment != ".":
            out.append(segment)
    if segments[-1] in (".", ".."):
        out.append("")
    return "/".join(out)
