"""What both clients share: their settings, how they make a request of them, and the exchange that a request leads to.

An exchange (redirects, authentication, hooks) is decided here, in a generator that does no input or output itself: it
yields steps, which the blocking client carries out on the calling thread and the other on the running loop.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from operator import attrgetter
from time import monotonic
from typing import TYPE_CHECKING, Any

from ._auth import Auth, AuthTypes, BasicAuth, build_auth
from ._config import USE_CLIENT_DEFAULT, Timeout, TimeoutTypes, UseClientDefault
from ._content import RequestContent, RequestData
from ._cookies import Cookies, CookieTypes
from ._core import user_agent
from ._decoders import SUPPORTED
from ._exceptions import TooManyRedirects, TransportError
from ._headers import Headers, HeaderTypes, RawHeaders
from ._multipart import RequestFiles
from ._plain import Plain
from ._proxies import ProxyTypes, URLPattern, get_environment_proxies
from ._query import QueryParams, QueryParamTypes
from ._redirects import redirected_request
from ._request import Request
from ._response import SET_COOKIE, Encoding, Response
from ._retry import Retry
from ._transports.default import NativeTransport
from ._urls import URL, URLTypes

if TYPE_CHECKING:
    from aioxide._native import RawResponse

    from ._cache.cache import Cache

EventHook = Callable[..., Any]
Step = tuple[str, Any, Any]
"""What an exchange asks for: ("send", request, None), ("read", response, None), ("close", response, None), ("hook",
hook, argument), ("sleep", seconds, None); and of an authentication its ("flow", auth, request), that flow's ("next",
flow, response), which gives None at its end, and ("end", flow, None).
"""
Exchange = Generator[Step, Any, Response]


# What `extensions["cache"]` says of a response that was not just sent by its server.
_FROM_CACHE = ("hit", "revalidated", "shared", "stale")
_KNOWN_URLS_MAX = 256
_KNOWN_URL_LENGTH_MAX = 1024

# The methods that a plain request goes round. Who replaced or overrode one of them expects it to be called.
_GONE_ROUND = ("request", "send", "build_request", "_transport_for_url")
methods_gone_round = attrgetter(*_GONE_ROUND)


class BaseClient:
    """Settings that every request of the client starts from. Requests may come from any thread and any loop at once."""

    def __init__(
        self,
        *,
        auth: AuthTypes | None,
        params: QueryParamTypes | None,
        headers: HeaderTypes | None,
        cookies: CookieTypes | None,
        timeout: TimeoutTypes,
        follow_redirects: bool,
        max_redirects: int,
        event_hooks: Mapping[str, list[EventHook]] | None,
        base_url: URLTypes,
        trust_env: bool,
        default_encoding: Encoding,
        transport: Any,
        mounts: Mapping[str, Any] | None,
        proxy: ProxyTypes | None,
        max_decoded_bytes: int | None,
        retry: Retry | None,
        cache: Cache | bool | None,
        hedge_after: float | None,
        hedge_budget: float,
        json_dumps: Callable[[Any], str | bytes] | None,
        json_loads: Callable[[bytes], Any] | None,
        native: dict[str, Any],
    ) -> None:
        self._base_url = _with_trailing_slash(URL(base_url))
        self._known_urls: dict[str, URL] = {}
        self._auth = build_auth(auth)
        self._params = QueryParams(params)
        self.headers = Headers(headers)
        self._cookies = Cookies(cookies)
        self._timeout = Timeout(timeout)
        self.follow_redirects = follow_redirects
        self.max_redirects = max_redirects
        self._event_hooks: dict[str, list[EventHook]] = {"request": [], "response": []}
        self.event_hooks = dict(event_hooks or {})
        self._trust_env = trust_env
        self._default_encoding = default_encoding
        self._max_decoded_bytes = max_decoded_bytes
        self._retry = retry
        self._cache: Cache | None = None
        if cache is not None and cache is not False:
            from ._cache.cache import build_cache

            self._cache = build_cache(cache)
        self._hedge_after = hedge_after
        self._json_dumps = json_dumps
        self._json_loads = json_loads
        self._used = False
        self._closed = False
        native.update(trust_env=trust_env, hedge_budget=hedge_budget)
        self._plain: Plain | None = None
        self._transport: Any = self._native_transport(**native) if transport is None else transport
        self._mounts: dict[URLPattern, Any] = {}
        self._mount(proxy, trust_env and transport is None, mounts, native)

    _native_transport: type[Any]
    _is_native: Callable[[Any], bool]
    _methods: tuple[Any, ...]
    """The class's own `methods_gone_round`."""

    def _mount(
        self, proxy: ProxyTypes | None, reads_env: bool, mounts: Mapping[str, Any] | None, native: dict[str, Any]
    ) -> None:
        """Find out which URLs go through another transport than `_transport`; None stands for that one itself."""
        proxies: Mapping[str, ProxyTypes | None] = {}
        if proxy is not None:
            proxies = {"all://": proxy}
        elif reads_env:
            proxies = get_environment_proxies()
        for pattern, through in proxies.items():
            opened = None if through is None else self._native_transport(**native, proxy=through)
            self._mounts[URLPattern(pattern)] = opened
        if mounts:
            self._mounts.update({URLPattern(pattern): mounted for pattern, mounted in mounts.items()})
        if self._mounts:
            self._mounts = dict(sorted(self._mounts.items()))

    def _transport_for_url(self, url: URL) -> Any:
        for pattern, transport in self._mounts.items():
            if pattern.matches(url):
                return self._transport if transport is None else transport
        return self._transport

    def _transports(self) -> list[Any]:
        """All of them, each once."""
        unique = {id(each): each for each in (self._transport, *self._mounts.values()) if each is not None}
        return list(unique.values())

    @property
    def is_closed(self) -> bool:
        """Whether the client was closed; requests then raise RuntimeError."""
        return self._closed

    @property
    def trust_env(self) -> bool:
        """Whether the environment may name proxies: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY."""
        return self._trust_env

    @property
    def timeout(self) -> Timeout:
        """The limits on time of requests that give none."""
        return self._timeout

    @timeout.setter
    def timeout(self, timeout: TimeoutTypes) -> None:
        self._timeout = Timeout(timeout)

    @property
    def event_hooks(self) -> dict[str, list[EventHook]]:
        """Functions that are called with each request and each response, by the names ``request`` and ``response``.

        A request hook is called before the request is sent, a response hook before the response is given out; redirects
        count each. An AsyncClient awaits what they return.
        """
        return self._event_hooks

    @event_hooks.setter
    def event_hooks(self, event_hooks: Mapping[str, list[EventHook]]) -> None:
        unknown = set(event_hooks) - {"request", "response"}
        if unknown:
            raise ValueError(f"there are hooks for 'request' and 'response', not for {sorted(unknown)}")
        self._event_hooks = {name: list(event_hooks.get(name, [])) for name in ("request", "response")}

    @property
    def auth(self) -> Auth | None:
        """The authentication of requests that give none."""
        return self._auth

    @auth.setter
    def auth(self, auth: AuthTypes | None) -> None:
        self._auth = build_auth(auth)

    @property
    def base_url(self) -> URL:
        """What relative URLs are appended to; its path always ends with a slash."""
        return self._base_url

    @base_url.setter
    def base_url(self, url: URLTypes) -> None:
        self._base_url = _with_trailing_slash(URL(url))
        self._known_urls = {}

    @property
    def headers(self) -> Headers:
        """The headers of every request; those of a request go before them."""
        return self._headers

    @headers.setter
    def headers(self, headers: HeaderTypes | None) -> None:
        fields: RawHeaders = [
            (b"Accept", b"*/*"),
            (b"Accept-Encoding", SUPPORTED.encode("ascii")),
            (b"Connection", b"keep-alive"),
            (b"User-Agent", user_agent().encode("ascii")),
        ]
        merged = Headers._adopt(fields)
        merged.update(headers)
        self._headers = merged

    @property
    def cookies(self) -> Cookies:
        """The jar: cookies that servers set are stored here and sent back where they belong."""
        return self._cookies

    @cookies.setter
    def cookies(self, cookies: CookieTypes | None) -> None:
        self._cookies = Cookies(cookies)

    @property
    def params(self) -> QueryParams:
        """Query parameters of every request; those of a request go before them."""
        return self._params

    @params.setter
    def params(self, params: QueryParamTypes | None) -> None:
        self._params = QueryParams(params)

    def statistics(self) -> dict[str, int]:
        """What the native pools hold now: connections open and idle, requests in flight and waiting."""
        total: dict[str, int] = {}
        for transport in self._transports():
            if isinstance(transport, NativeTransport):
                for core in transport._cores:
                    for name, value in core.statistics().items():
                        total[name] = total.get(name, 0) + value
        return total

    def build_request(
        self,
        method: str,
        url: URLTypes,
        *,
        content: RequestContent | None = None,
        data: RequestData | None = None,
        files: RequestFiles | None = None,
        json: Any = None,
        params: QueryParamTypes | None = None,
        headers: HeaderTypes | None = None,
        cookies: CookieTypes | None = None,
        timeout: TimeoutTypes | UseClientDefault = USE_CLIENT_DEFAULT,
        extensions: Mapping[str, Any] | None = None,
    ) -> Request:
        """The request that `request` would send: the client's settings, with the given ones before them."""
        merged_url = self._merge_url(url)
        if params or self._params:
            merged_url = merged_url.copy_with(params=self._params.merge(params))
        elif params is not None:
            merged_url = merged_url.copy_with(params=None)
        if extensions is None or "timeout" not in extensions:
            limits = self._timeout if timeout is USE_CLIENT_DEFAULT else Timeout(timeout)  # type: ignore[arg-type]
            extensions = {"timeout": limits.as_dict(), **extensions} if extensions else {"timeout": limits.as_dict()}
        merged_headers = Headers._adopt(self._headers._list.copy())
        if headers is not None:
            merged_headers.update(headers)
        jar = self._cookies
        if cookies:
            jar = Cookies(self._cookies)
            jar.update(cookies)
        cookie_header = jar._header_for(merged_url)
        if cookie_header:
            merged_headers["Cookie"] = cookie_header
        if content is None and data is None and files is None and json is None:
            return Request._bare(method, merged_url, merged_headers._list, dict(extensions))
        if json is not None and self._json_dumps is not None and content is None and data is None and files is None:
            merged_headers.setdefault("Content-Type", "application/json")
            content, json = self._json_dumps(json), None
        return Request(
            method,
            merged_url,
            headers=merged_headers,
            content=content,
            data=data,
            files=files,
            json=json,
            extensions=extensions,
        )

    def _merge_url(self, url: URLTypes) -> URL:
        # A URL never changes, and few programs ask for many: most requests find theirs parsed already.
        if type(url) is str:
            known = self._known_urls.get(url)
            if known is not None:
                return known
        merged = url if isinstance(url, URL) else URL(url)
        base = self._base_url
        if not merged.is_absolute_url and (base._scheme or base._path or base._host):
            merged = base.copy_with(raw_path=base.raw_path + merged.raw_path.lstrip(b"/"))
        if type(url) is str and len(url) <= _KNOWN_URL_LENGTH_MAX:
            if len(self._known_urls) >= _KNOWN_URLS_MAX:
                self._known_urls.clear()
            self._known_urls[url] = merged
        return merged

    # The exchange.

    def _set_timeout(self, request: Request) -> None:
        """A request that was not made by this client gets the client's limits on time."""
        if "timeout" not in request.extensions:
            request.extensions["timeout"] = self._timeout.as_dict()
        if self._hedge_after is not None:
            request.extensions.setdefault("hedge_after", self._hedge_after)

    def _request_auth(self, request: Request, auth: AuthTypes | UseClientDefault | None) -> Auth | None:
        chosen = self._auth if isinstance(auth, UseClientDefault) else build_auth(auth)
        if chosen is None and request.url._userinfo:
            return BasicAuth(request.url.username, request.url.password)
        return chosen

    def _is_plain(self, follow_redirects: bool, auth: Auth | None) -> bool:
        """Whether an exchange is one request and its response, so that nothing has to be decided in between."""
        return not (
            follow_redirects
            or auth is not None
            or self._retry is not None
            or self._cache is not None
            or self._hedge_after is not None
            or self._json_loads is not None
            or self._event_hooks["request"]
            or self._event_hooks["response"]
        )

    def _find_plain(self) -> Plain | None:
        """What plain requests start from; None while something has to be decided about each request."""
        transport = self._transport
        if (
            self._closed
            or self._mounts
            or self._params._dict
            or self._cookies._cookies
            or not self._is_plain(self.follow_redirects, self._auth)
            or not self._is_native(transport)
            or transport._retries
            or methods_gone_round(type(self)) != self._methods
            or not self.__dict__.keys().isdisjoint(_GONE_ROUND)
        ):
            return None
        plain = self._plain
        if plain is None or not plain.fits(transport, self._headers._list, self._timeout):
            plain = self._plain = Plain(transport, self._headers._list, self._timeout)
        self._used = True
        return plain

    def _absolute(self, url: str) -> str:
        """The text of a URL, appended to the base URL if there is one."""
        return url if self._base_url._host is None else str(self._merge_url(url))

    def _respond(self, raw: RawResponse, plain: tuple[Plain, str, str]) -> Response:
        """The response to a plain request."""
        if raw.notable or self._max_decoded_bytes is not None:
            request = plain[0].request(plain[1], plain[2])
            response = Response._from_core(raw, request, 0.0, self._default_encoding, None, self._max_decoded_bytes)
            return self._finish_plain(response)
        response = Response._from_plain(raw, plain)
        if self._default_encoding != "utf-8":
            response.default_encoding = self._default_encoding
        return response

    def _exchange(self, request: Request, auth: Auth | None, follow_redirects: bool) -> Exchange:
        if auth is None:
            return (yield from self._with_redirects(request, follow_redirects, []))
        flow = yield "flow", auth, request
        try:
            history: list[Response] = []
            following: Request | None = yield "next", flow, None
            if following is None:
                raise RuntimeError(f"{type(auth).__name__} gave no request to send")
            while True:
                response = yield from self._with_redirects(following, follow_redirects, history)
                try:
                    following = yield "next", flow, response
                    if following is None:
                        return response
                    response.history = list(history)
                    yield "read", response, None
                    history.append(response)
                except BaseException:
                    yield "close", response, None
                    raise
        finally:
            yield "end", flow, None

    def _with_redirects(self, request: Request, follow_redirects: bool, history: list[Response]) -> Exchange:
        """One request and the redirects it leads to; `history` gains those that were followed."""
        redirects = 0
        while True:
            if redirects > self.max_redirects:
                raise TooManyRedirects(
                    f"{request.url.host}: more than {self.max_redirects} redirects in a row, the last to "
                    f"{request.url.path}",
                    request=request,
                )
            for hook in self._event_hooks["request"]:
                yield "hook", hook, request
            response = yield from self._attempts(request)
            try:
                self._receive(response)
                for hook in self._event_hooks["response"]:
                    yield "hook", hook, response
                response.history = list(history)
                if not response.has_redirect_location:
                    return response
                following = redirected_request(response, self._cookies)
                if not follow_redirects:
                    response.next_request = following
                    return response
                yield "read", response, None
            except BaseException:
                yield "close", response, None
                raise
            history.append(response)
            request = following
            redirects += 1

    def _attempts(self, request: Request) -> Exchange:
        """One request, sent again as the client's Retry says."""
        retry = self._retry
        if retry is None:
            response: Response = yield "send", request, None
            return response
        retry.count_request()
        total = (request.extensions.get("timeout") or {}).get("total")
        due = None if total is None else monotonic() + total
        # Whoever has sent it already, as fetch_many does, says which attempt this is.
        attempt: int = request.extensions.get("attempt", 1)
        while True:
            try:
                response = yield "send", request, None
            except TransportError as error:
                pause = retry.pause_after_error(request, error, attempt)
                if pause is None or (due is not None and monotonic() + pause >= due):
                    raise
            else:
                pause = retry.pause_after_response(request, response, attempt)
                if pause is None or (due is not None and monotonic() + pause >= due):
                    response.num_retries = attempt - 1
                    return response
                yield "close", response, None
            yield "sleep", pause, None
            attempt += 1
            if due is not None:
                limits = {**request.extensions["timeout"], "total": max(0.0, due - monotonic())}
                request.extensions = {**request.extensions, "timeout": limits}

    def _receive(self, response: Response) -> None:
        """Store the cookies that it sets; a response from the cache did so before. JSON is read as the client says."""
        if response._has_field(SET_COOKIE, "set-cookie") and response.extensions.get("cache") not in _FROM_CACHE:
            self._cookies.extract_cookies(response)
        if self._json_loads is not None:
            response._json_loads = self._json_loads

    def _finish_plain(self, response: Response) -> Response:
        self._receive(response)
        if response.has_redirect_location:
            response.next_request = redirected_request(response, self._cookies)
        return response

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("the client is closed: no request can be sent with it")
        self._used = True

    def _enter(self) -> None:
        if self._closed:
            raise RuntimeError("the client is closed: it cannot be opened again")
        if self._used:
            raise RuntimeError("the client is open already: it can be entered only once, and before its first request")
        self._used = True

    def _adopt_response(self, response: Any, request: Request, started: float) -> Response:
        """Make what a custom transport gave the response to the request. TypeError when it is none."""
        if not isinstance(response, Response):
            raise TypeError(f"a transport must give a Response, not {type(response).__name__}")
        response.request = request
        response.default_encoding = self._default_encoding
        response._decoded_left = self._max_decoded_bytes
        response._started = started
        if response.is_closed:
            response._mark_closed()
        return response


def _with_trailing_slash(url: URL) -> URL:
    if url.raw_path.endswith(b"/"):
        return url
    return url.copy_with(raw_path=url.raw_path + b"/")
