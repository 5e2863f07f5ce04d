"""Politeness: what hosts ask of robots, and how often they want to be asked."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import time
from urllib.robotparser import RobotFileParser

from aioxide import http

_ROBOTS_BYTES_MAX = 500 * 1024
_CRAWL_DELAY = re.compile(r"^(\s*crawl-delay\s*:\s*)(\d+(?:\.\d*)?|\.\d+)", re.IGNORECASE | re.MULTILINE)


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


class Robots:
    """Each host's ``robots.txt`` (RFC 9309), read once, and the pauses that it asks for.

    A host that has none, or does not let it be read by a client error, allows all; one whose server fails allows
    nothing, as the RFC has it.
    """

    def __init__(self, client: http.AsyncClient, user_agent: str) -> None:
        self._client = client
        self._user_agent = user_agent
        self._rules: dict[str, asyncio.Task[RobotFileParser]] = {}
        self._next: dict[str, float] = {}

    async def admit(self, url: str) -> None:
        """Wait until the URL may be fetched.

        RobotsDisallowedError if it may not, http.InvalidURL if it is none.
        """
        if is_loopback(url):
            return
        parts = http.URL(url)
        origin = f"{parts.scheme}://{parts.netloc.decode('ascii')}"
        if origin not in self._rules:
            self._rules[origin] = asyncio.create_task(self._read(origin))
        rules = await asyncio.shield(self._rules[origin])
        if not rules.can_fetch(self._user_agent, url):
            raise RobotsDisallowedError(f"{origin}/robots.txt asks not to fetch {url}; --no-robots fetches it anyway")
        delay = rules.crawl_delay(self._user_agent)
        if delay:
            now = time.monotonic()
            at = max(now, self._next.get(origin, now))
            self._next[origin] = at + int(delay) / 1000
            await asyncio.sleep(at - now)

    async def _read(self, origin: str) -> RobotFileParser:
        rules = RobotFileParser()
        try:
            response = await self._client.get(f"{origin}/robots.txt", follow_redirects=True)
        except http.HTTPError:
            rules.parse(["User-agent: *", "Disallow: /"])
            return rules
        if response.status_code >= 500:
            rules.parse(["User-agent: *", "Disallow: /"])
        elif response.is_success:
            text = response.content[:_ROBOTS_BYTES_MAX].decode("utf-8", "replace")
            # The parser understands whole numbers only: it gets milliseconds.
            rules.parse(_CRAWL_DELAY.sub(lambda found: f"{found[1]}{float(found[2]) * 1000:.0f}", text).splitlines())
        else:
            rules.parse([])
        return rules
