"""One request's way through the cache, without input or output of its own: a generator that yields steps."""

from __future__ import annotations

from collections.abc import Callable, Generator
from copy import copy
from hashlib import blake2b
from time import monotonic
from typing import TYPE_CHECKING, Any

from .._content import ByteStream
from .._exceptions import InvalidURL, ReadTimeout, RequestError, TransportError
from .._headers import Headers
from .._redirects import same_origin
from .._request import Request
from .._response import Response
from .bodies import BodyKeeper
from .flights import Flight
from .stores import CacheEntry

if TYPE_CHECKING:
    from .._urls import URL
    from .cache import Cache

Step = tuple[str, Any, Any]
"""What an exchange asks for: ("upstream", request, BodyKeeper) gives a response, whose body is kept; ("store", method,
arguments) what that method of the store gives; ("wait", flight, seconds) what `Flight.wait` does; ("background", steps,
flight) whether these are now carried out beside this exchange; ("close", response, None).
"""
Steps = Generator[Step, Any, Any]

# Whatever Vary says: what one user may see is not given to another, nor one host's to another.
_ALWAYS_SELECTING = ["host", "authorization"]
# Requests that differ in these are not sent as one, since their responses may differ.
_EQUAL_IN = [*_ALWAYS_SELECTING, "accept", "accept-encoding", "accept-language", "cache-control", "cookie", "pragma"]
_ERRORS = frozenset({500, 502, 503, 504})


class CacheExchange:
    """A request, and how its response is found. `receive` hears of the server's responses that are not given out."""

    def __init__(self, cache: Cache, request: Request, streamed: bool, receive: Callable[[Response], None]) -> None:
        from aioxide._native import CacheRequest

        self._cache = cache
        self._request = request
        self._streamed = streamed
        self._receive = receive
        self._asked = CacheRequest(request.method, request.headers.raw)
        self._key = key_of(request.url)
        self._began = monotonic()
        # What is stored and was chosen for this request, fresh or not.
        self._entry: CacheEntry | None = None
        # What the server's answer led to.
        self._gained: CacheEntry | None = None
        self._stood_in = False
        self._varies: set[str] = set()

    def steps(self) -> Steps:
        """Find the response: from the store, from another request, or from the server."""
        if not self._asked.is_answerable or self._request._content != b"":
            return (yield from self._pass_by())
        yield from self._look_up()
        entry = self._entry
        if entry is not None:
            reuse = self._policy(entry).reuse(self._asked, self._cache.now())
            if reuse in ("fresh", "stale"):
                return self._answer(entry, "hit" if reuse == "fresh" else "stale")
            if reuse == "stale-while-revalidate" and (yield from self._revalidates_meanwhile()):
                return self._answer(entry, "stale")
        if self._asked.only_if_cached:
            return Response(504, request=self._request, extensions={"cache": "miss"})
        if self._request.method == "HEAD":
            return (yield from self._pass_by())
        return (yield from self._coalesced())

    # What is stored.

    def _look_up(self) -> Steps:
        found: list[CacheEntry] | None = yield "store", "get", (self._key,)
        for entry in found or ():
            self._varies.update(entry.vary)
            is_newer = self._entry is None or entry.received_at > self._entry.received_at
            if is_newer and entry.selector == self._selector(entry.vary):
                self._entry = entry

    def _selector(self, vary: list[str]) -> bytes:
        """Stands for the values of these fields, which are nowhere stored: they may be secret."""
        return blake2b(self._asked.selecting(_ALWAYS_SELECTING + vary), digest_size=16).digest()

    def _policy(self, entry: CacheEntry) -> Any:
        return entry.policy(self._cache.shared)

    def _answer(self, entry: CacheEntry, outcome: str) -> Response:
        age = b"%d" % self._policy(entry).age(self._cache.now())
        fields = [(name, value) for name, value in entry.headers if name.lower() != b"age"]
        self._cache.count(outcome)
        return Response(
            entry.status,
            headers=Headers._adopt([*fields, (b"Age", age)]),
            stream=ByteStream(b"" if self._request.method == "HEAD" else entry.body),
            request=self._request,
            extensions={"http_version": entry.http_version, "reason_phrase": entry.reason, "cache": outcome},
        )

    # Equal requests at once.

    def _flight_key(self) -> tuple[Any, ...]:
        limits = self._request.extensions.get("timeout") or {}
        selecting = self._asked.selecting(sorted({*_EQUAL_IN, *self._varies}))
        return self._key, selecting, tuple(sorted(limits.items()))

    def _coalesced(self) -> Steps:
        """Ask the server, or wait for an equal request that does."""
        while self._cache.coalesce:
            flight, leads = self._cache.flights.join(self._flight_key(), may_lead=not self._streamed)
            if flight is None:
                break
            if leads:
                return (yield from self._lead(flight))
            ended = yield "wait", flight, self._seconds_left()
            if ended is None:
                break
            if not ended:
                raise ReadTimeout(
                    f"{self._request.url.host}: an equal request was not answered in time", request=self._request
                )
            kind, value = flight.result()
            if kind == "error":
                # Each who waited gets an exception of its own, whose request is theirs.
                error: RequestError = copy(value)
                error.request = self._request
                return self._stand_in(error)
            if kind == "stand-in" and self._may_stand_in(value):
                return self._answer(value, "stale")
            if kind == "entry":
                if value is not None and self._is_for_us(value):
                    return self._answer(value, "shared")
                break  # the response is that request's own, as those of all others will be
            # Nobody asks any more: one of those who waited does now.
        return (yield from self._ask_or_stand_in())

    def _is_for_us(self, entry: CacheEntry) -> bool:
        is_chosen = entry.selector == self._selector(entry.vary)
        return is_chosen and self._policy(entry).reuse(self._asked, self._cache.now()) == "fresh"

    def _seconds_left(self) -> float | None:
        total: float | None = (self._request.extensions.get("timeout") or {}).get("total")
        return None if total is None else max(0.0, total - (monotonic() - self._began))

    def _lead(self, flight: Flight) -> Steps:
        try:
            response = yield from self._ask()
        except RequestError as error:
            flight.end(("error", error))
            return self._stand_in(error)
        except BaseException:
            # Cancelled, or a mistake of this caller's: the others are not to lose by it.
            flight.end(("given up", None))
            raise
        flight.end(("stand-in", self._entry) if self._stood_in else ("entry", self._gained))
        return response

    def _revalidates_meanwhile(self) -> Steps:
        flight, leads = self._cache.flights.join(self._flight_key(), may_lead=True)
        if not leads or flight is None:
            return True
        background = CacheExchange(self._cache, self._request, False, self._receive)
        background._entry, background._varies = self._entry, self._varies
        try:
            begun: bool = yield "background", background._lead_aside(flight), flight
        except BaseException:
            flight.end(("given up", None))
            raise
        if not begun:
            flight.end(("given up", None))
        return begun

    def _lead_aside(self, flight: Flight) -> Steps:
        response = yield from self._lead(flight)
        self._receive(response)
        return response

    # The server.

    def _ask_or_stand_in(self) -> Steps:
        try:
            return (yield from self._ask())
        except RequestError as error:
            return self._stand_in(error)

    def _stand_in(self, error: RequestError) -> Response:
        """What is stored, if it may be given though the server could not be asked; else the error."""
        if isinstance(error, TransportError) and self._may_stand_in(self._entry):
            assert self._entry is not None
            return self._answer(self._entry, "stale")
        raise error

    def _may_stand_in(self, entry: CacheEntry | None) -> bool:
        return entry is not None and self._policy(entry).may_stand_in(self._asked, self._cache.now())

    def _ask(self) -> Steps:
        """Ask the server: whether what is stored still holds, if something is."""
        entry = self._entry
        conditions = [] if entry is None else self._policy(entry).conditions()
        while True:
            keeper = BodyKeeper(self._cache.max_body_bytes if self._streamed else None)
            requested_at = self._cache.now()
            try:
                response: Response = yield "upstream", self._sent(conditions), keeper
            except RequestError as error:
                error.request = self._request
                raise
            received_at = self._cache.now()
            if response.status_code != 304 or not conditions or entry is None:
                break
            yield "close", response, None
            self._receive(response)
            if self._policy(entry).is_confirmed_by(response.headers.raw):
                self._gained = _updated(entry, response, requested_at, received_at)
                yield "store", "put", (self._key, self._gained)
                return self._answer(self._gained, "revalidated")
            # It confirms what is not stored here: asked anew, without conditions.
            conditions = []
        response.request = self._request
        if response.status_code in _ERRORS and self._may_stand_in(entry):
            assert entry is not None
            yield "close", response, None
            self._receive(response)
            self._stood_in = True
            return self._answer(entry, "stale")
        return (yield from self._keep(response, keeper, requested_at, received_at))

    def _sent(self, conditions: list[tuple[bytes, bytes]]) -> Request:
        """The request as it goes to the server: with these fields, and the time that is left of its limit."""
        request, left = self._request, self._seconds_left()
        if not conditions and left is None:
            return request
        extensions = dict(request.extensions)
        if left is not None:
            extensions["timeout"] = {**extensions["timeout"], "total": left}
        headers = Headers._adopt([*request.headers.raw, *conditions])
        return Request(request.method, request.url, headers=headers, extensions=extensions)

    def _keep(self, response: Response, keeper: BodyKeeper, requested_at: float, received_at: float) -> Steps:
        """Store the response, if that is allowed; one that is streamed, once its body was read."""
        from aioxide._native import CachePolicy, cache_storable_fields

        response.extensions["cache"] = "miss"
        self._cache.count("miss")
        fields = response.headers.raw
        policy = CachePolicy(
            "GET",
            self._request.headers.raw,
            response.status_code,
            fields,
            requested_at=requested_at,
            received_at=received_at,
            shared=self._cache.shared,
        )
        if not policy.is_storable:
            return response
        cache, key = self._cache, self._key
        vary = policy.vary

        def entry_with(body: bytes) -> CacheEntry:
            return CacheEntry(
                response.status_code,
                cache_storable_fields(fields),
                body,
                selector=self._selector(vary),
                vary=vary,
                requested_at=requested_at,
                received_at=received_at,
                reason=response.extensions.get("reason_phrase", b""),
                http_version=response.extensions.get("http_version", b"HTTP/1.1"),
            )

        if keeper.body is None:
            keeper.when_whole = lambda body: cache.call_store("put", (key, entry_with(body)))
            keeper.when_whole_async = lambda body: cache.call_store_async("put", (key, entry_with(body)))
            return response
        self._gained = entry_with(keeper.body)
        if len(keeper.body) <= cache.max_body_bytes:
            yield "store", "put", (key, self._gained)
        return response

    def _pass_by(self) -> Steps:
        """Send a request that the cache has no answer for, and forget what it may have changed (section 4.4)."""
        response: Response = yield "upstream", self._request, None
        response.extensions["cache"] = "bypass"
        self._cache.count("bypass")
        if self._asked.is_unsafe and 200 <= response.status_code < 400:
            for url in _changed(self._request.url, response):
                yield "store", "delete", (key_of(url),)
        return response


def key_of(url: URL) -> str:
    """What stands for a URL in the store: what is sent of it."""
    text = str(url)
    return str(url.copy_with(userinfo=None, fragment=None)) if url.userinfo or "#" in text else text


def _changed(url: URL, response: Response) -> list[URL]:
    """The URLs that an unsafe request changed: its own, and those of its origin that the response names."""
    changed = [url]
    for name in ("location", "content-location"):
        text = response.headers.get(name)
        if text is not None:
            try:
                named = url.join(text)
            except InvalidURL:
                continue  # whoever follows it hears of that
            if same_origin(named, url):
                changed.append(named)
    return changed


def _updated(entry: CacheEntry, response: Response, requested_at: float, received_at: float) -> CacheEntry:
    """The entry after a 304 (section 3.2)."""
    from aioxide._native import cache_merged_fields

    return CacheEntry(
        entry.status,
        cache_merged_fields(entry.headers, response.headers.raw),
        entry.body,
        selector=entry.selector,
        vary=entry.vary,
        requested_at=requested_at,
        received_at=received_at,
        reason=entry.reason,
        http_version=entry.http_version,
    )
