"""Politeness: what hosts ask of robots, and how often they want to be asked."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import re
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.robotparser import RobotFileParser

from aioxide import http

from ._rows import Row

_ROBOTS_BYTES_MAX = 500 * 1024
_SECONDS = re.compile(r"[0-9]{1,9}(?:\.[0-9]*)?|\.[0-9]+")


class RobotsDisallowedError(Exception):
    """The host's ``robots.txt`` asks robots not to fetch this URL."""


def is_loopback(url: str) -> bool:
    """Whether a URL is of this machine, whose owner needs no politeness."""
    try:
        host = http.URL(url).host
    except http.InvalidURL:
        return False
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


class Rules:
    """What one host asks for: its ``robots.txt`` (RFC 9309), and the pauses between requests to it.

    A host that has none, or does not let it be read by a client error, allows all; one whose server fails (there is
    no response, or one that says so) allows nothing, as the RFC has it.
    """

    def __init__(self, origin: str, user_agent: str, response: http.Response | None, parts: int = 1) -> None:
        self._origin = origin
        self._user_agent = user_agent
        self._parser = RobotFileParser()
        self._parser.parse(_lines(response))
        delay = self._parser.crawl_delay(user_agent)
        self._turns = Turns(parts * int(delay) / 1000 if delay else 0.0)

    def pause(self, url: str) -> float:
        """How many seconds to wait before the URL is fetched. RobotsDisallowedError if it must not be."""
        if not self._parser.can_fetch(self._user_agent, url):
            raise RobotsDisallowedError(
                f"{self._origin}/robots.txt asks not to fetch {url}; --no-robots fetches it anyway"
            )
        return self._turns.pause()


def _lines(response: http.Response | None) -> list[str]:
    if response is None or response.status_code >= 500:
        return ["User-agent: *", "Disallow: /"]
    if not response.is_success:
        return []
    text = response.content[:_ROBOTS_BYTES_MAX].decode("utf-8", "replace")
    return [_readable(line) for line in text.splitlines()]


def _readable(line: str) -> str:
    """The line as the standard library's parser bears it: whole numbers only, of few digits, and no request rates.

    The number of a crawl delay is one of milliseconds then.
    """
    name, _, value = line.partition("#")[0].partition(":")
    name = name.strip().lower()
    if name == "crawl-delay" and _SECONDS.fullmatch(value.strip()):
        return f"crawl-delay: {float(value) * 1000:.0f}"
    return "#" if name in ("crawl-delay", "request-rate") else line


class Turns:
    """Begins at even intervals, for any number of threads."""

    def __init__(self, every_seconds: float) -> None:
        self._every = every_seconds
        self._next = 0.0
        self._lock = threading.Lock()

    def pause(self) -> float:
        """Take the next turn; gives how many seconds it is away."""
        with self._lock:
            now = time.monotonic()
            at = max(now, self._next)
            self._next = at + self._every
        return at - now


def _origin(url: str) -> str:
    """The scheme, host and port of a URL; http.InvalidURL if it is none."""
    parts = http.URL(url)
    return f"{parts.scheme}://{parts.netloc.decode('ascii')}"


class Admission:
    """Whether, and when, a request may begin: by the hosts' ``robots.txt`` if there is a `user_agent`, by a `rate`.

    `parts`: of so many that ask the same hosts this is one.
    """

    def __init__(self, client: http.AsyncClient, user_agent: str | None, rate: float | None, parts: int = 1) -> None:
        self._client = client
        self._parts = parts
        self._user_agent = user_agent
        self._pace = Turns(1 / rate) if rate else None
        self._rules: dict[str, asyncio.Task[Rules]] = {}

    @property
    def is_free(self) -> bool:
        """Whether every request may begin at once."""
        return self._user_agent is None and self._pace is None

    async def admit(self, row: Row) -> dict[str, Any]:
        """Return when the row may be fetched, with its request's extensions, which are none.

        RobotsDisallowedError if it may not, http.InvalidURL for such a one.
        """
        url = row.url
        if self._user_agent is not None and not is_loopback(url):
            origin = _origin(url)
            if origin not in self._rules:
                self._rules[origin] = asyncio.create_task(self._read(origin, self._user_agent))
            rules = await asyncio.shield(self._rules[origin])
            await asyncio.sleep(rules.pause(url))
        if self._pace is not None:
            await asyncio.sleep(self._pace.pause())
        return {}

    async def _read(self, origin: str, user_agent: str) -> Rules:
        try:
            response = await self._client.get(f"{origin}/robots.txt", follow_redirects=True)
        except http.HTTPError:
            response = None
        return Rules(origin, user_agent, response, self._parts)


class BlockingAdmission:
    """The same for threads that wait, which have connections of their own: hence the limit for a host is kept here."""

    def __init__(
        self, client: http.Client, user_agent: str | None, rate: float | None, per_host: int | None = None
    ) -> None:
        self._client = client
        self._user_agent = user_agent
        self._pace = Turns(1 / rate) if rate else None
        self._rules: dict[str, Rules] = {}
        self._per_host = per_host
        self._places: dict[str, threading.Semaphore] = {}
        # A host is asked once; meanwhile the others wait, too.
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def admitted(self, url: str) -> Iterator[None]:
        """Wait until the URL may be fetched, which is done in the `with` block; raises as `Admission.admit`."""
        with self._place(url):
            self._admit(url)
            yield

    def _place(self, url: str) -> contextlib.AbstractContextManager[object]:
        if self._per_host is None:
            return contextlib.nullcontext()
        with self._lock:
            return self._places.setdefault(_origin(url), threading.Semaphore(self._per_host))

    def _admit(self, url: str) -> None:
        if self._user_agent is not None and not is_loopback(url):
            origin = _origin(url)
            with self._lock:
                if origin not in self._rules:
                    self._rules[origin] = self._read(origin, self._user_agent)
                rules = self._rules[origin]
            time.sleep(rules.pause(url))
        if self._pace is not None:
            time.sleep(self._pace.pause())

    def _read(self, origin: str, user_agent: str) -> Rules:
        try:
            response = self._client.get(f"{origin}/robots.txt", follow_redirects=True)
        except http.HTTPError:
            response = None
        return Rules(origin, user_agent, response)
