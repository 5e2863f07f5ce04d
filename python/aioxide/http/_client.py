"""What both clients share: their settings, how they make a request of them, and the exchange that a request leads to.

An exchange (redirects, authentication, hooks) is decided here, in a generator that does no input or output itself: it
yields steps, which the blocking client carries out on the calling thread and the other on the running loop.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any

from ._auth import Auth, AuthTypes, BasicAuth, build_auth
from ._config import (
    CLIENT_DEFAULTS,
    USE_CLIENT_DEFAULT,
    Limits,
    Timeout,
    TimeoutTypes,
    UseClientDefault,
    refuse_unsupported,
)
from ._content import RequestContent, RequestData
from ._cookies import Cookies, CookieTypes
from ._core import open_core, user_agent
from ._decoders import SUPPORTED
from ._exceptions import RequestError, TooManyRedirects, UnsupportedProtocol
from ._headers import Headers, HeaderTypes, RawHeaders
from ._multipart import RequestFiles
from ._query import QueryParams, QueryParamTypes
from ._redirects import redirected_request
from ._request import Request
from ._response import Encoding, Response
from ._urls import URL, URLTypes

EventHook = Callable[..., Any]
Step = tuple[str, Any, Any]
"""What an exchange asks for: ("send", request, None), ("read", response, None), ("close", response, None), ("hook",
hook, argument).
"""
Exchange = Generator[Step, Any, Response]

NO_TIMEOUT: dict[str, float | None] = {}


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
        limits: Limits,
        max_redirects: int,
        event_hooks: Mapping[str, list[EventHook]] | None,
        base_url: URLTypes,
        trust_env: bool,
        default_encoding: Encoding,
        not_yet: dict[str, Any],
    ) -> None:
        refuse_unsupported(not_yet, CLIENT_DEFAULTS)
        self._base_url = _with_trailing_slash(URL(base_url))
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
        self._used = False
        self._closed = False
        self._core = open_core(limits)

    @property
    def is_closed(self) -> bool:
        """Whether the client was closed; requests then raise RuntimeError."""
        return self._closed

    @property
    def trust_env(self) -> bool:
        """Whether the environment may configure the client. Nothing is read from it yet, neither proxies nor netrc."""
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
        """What the pools hold now: connections open and idle, requests in flight and waiting."""
        return self._core.statistics()

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
            limits = self._timeout if isinstance(timeout, UseClientDefault) else Timeout(timeout)
            extensions = {"timeout": limits.as_dict(), **(extensions or {})}
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
        merged = url if isinstance(url, URL) else URL(url)
        base = self._base_url
        if merged.is_absolute_url or not (base._scheme or base._path or base._host):
            return merged
        return base.copy_with(raw_path=base.raw_path + merged.raw_path.lstrip(b"/"))

    # The exchange.

    def _set_timeout(self, request: Request) -> None:
        """A request that was not made by this client gets the client's limits on time."""
        if "timeout" not in request.extensions:
            request.extensions["timeout"] = self._timeout.as_dict()

    def _request_auth(self, request: Request, auth: AuthTypes | UseClientDefault | None) -> Auth | None:
        chosen = self._auth if isinstance(auth, UseClientDefault) else build_auth(auth)
        if chosen is None and request.url._userinfo:
            return BasicAuth(request.url.username, request.url.password)
        return chosen

    def _is_plain(self, follow_redirects: bool, auth: Auth | None) -> bool:
        """Whether an exchange is one request and its response, so that nothing has to be decided in between."""
        return not (
            follow_redirects or auth is not None or self._event_hooks["request"] or self._event_hooks["response"]
        )

    def _exchange(self, request: Request, auth: Auth | None, follow_redirects: bool) -> Exchange:
        if auth is None:
            return (yield from self._with_redirects(request, follow_redirects, []))
        if auth.requires_request_body:
            yield "read", request, None
        flow = auth.auth_flow(request)
        try:
            history: list[Response] = []
            request = next(flow)
            while True:
                response = yield from self._with_redirects(request, follow_redirects, history)
                try:
                    if auth.requires_response_body:
                        yield "read", response, None
                    try:
                        following = flow.send(response)
                    except StopIteration:
                        return response
                    response.history = list(history)
                    yield "read", response, None
                    request = following
                    history.append(response)
                except BaseException:
                    yield "close", response, None
                    raise
        finally:
            flow.close()

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
            response: Response = yield "send", request, None
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

    def _receive(self, response: Response) -> None:
        """Store the cookies that the response sets."""
        if response.headers._first(b"set-cookie") is not None:
            self._cookies.extract_cookies(response)

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

    def _close(self) -> None:
        if not self._closed:
            self._closed = True
            self._core.close()


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


def timeouts(request: Request) -> dict[str, Any]:
    """The limits on time of the request, by the names that the core has for them."""
    limits: Mapping[str, float | None] = request.extensions.get("timeout") or NO_TIMEOUT
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


def _with_trailing_slash(url: URL) -> URL:
    if url.raw_path.endswith(b"/"):
        return url
    return url.copy_with(raw_path=url.raw_path + b"/")
