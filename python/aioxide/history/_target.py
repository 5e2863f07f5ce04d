"""What the chapters send their requests to: the embedded server, or a real site given as a URL template."""

from __future__ import annotations

import os
import re
import resource
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from aioxide import _native

__all__ = [
    "DEFAULT_LATENCY",
    "DEFAULT_REQUESTS",
    "MAX_LATENCY_SECONDS",
    "MAX_REQUESTS",
    "EmbeddedServer",
    "ServerUsage",
    "duration",
    "request_count",
    "require_open_files",
    "url_template",
    "urls_from",
]

DEFAULT_REQUESTS = 2
DEFAULT_LATENCY = "400ms"
MAX_REQUESTS = 10_000
# The chapters use their clients' own defaults, and the shortest of those timeouts is 5 s.
MAX_LATENCY_SECONDS = 4.0
# Files that the interpreter, the loops and the picture need beside the requests' sockets.
SPARE_FILES = 64

_DURATION = re.compile(r"(?P<number>\d+(?:\.\d*)?|\.\d+)\s*(?P<unit>us|µs|ms|s|)\Z")
_SECONDS = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "": 1.0}


def duration(text: str) -> float:
    """Read a duration such as `400ms`, `0.4s` or `0.4`, in seconds.

    Raises `ValueError` when the text is none, or longer than `MAX_LATENCY_SECONDS`.

    >>> duration("400ms"), duration("1.5s"), duration("0.25")
    (0.4, 1.5, 0.25)
    """
    match = _DURATION.match(text.strip())
    if match is None:
        raise ValueError(f"not a duration: {text!r} (write 400ms or 0.4s)")
    seconds = float(match["number"]) * _SECONDS[match["unit"]]
    if seconds > MAX_LATENCY_SECONDS:
        raise ValueError(f"{text} is too long: at most {MAX_LATENCY_SECONDS:g}s, for the clients give up after 5s")
    return seconds


def request_count(text: str) -> int:
    """Read the number of requests; raises `ValueError` when it is not between 1 and `MAX_REQUESTS`.

    >>> request_count("1000")
    1000
    """
    try:
        count = int(text)
    except ValueError:
        raise ValueError(f"not a number of requests: {text!r}") from None
    if not 1 <= count <= MAX_REQUESTS:
        raise ValueError(f"{count} is out of range: from 1 to {MAX_REQUESTS} requests")
    return count


def url_template(text: str) -> str:
    """Check an absolute http(s) URL, in which `{n}` stands for the request's number; raises `ValueError`.

    Whether the scheme is supported is the client's to say.

    >>> url_template("http://127.0.0.1:8000/items/{n}")
    'http://127.0.0.1:8000/items/{n}'
    """
    try:
        parts = urlsplit(text)
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError as error:
        raise ValueError(f"bad URL {text!r}: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_valid:
        raise ValueError(f"bad URL {text!r}: write http://host[:port]/path, with {{n}} for the request's number")
    if any(character.isspace() for character in text):
        raise ValueError(f"bad URL {text!r}: it has white space in it")
    return text


def urls_from(template: str, count: int) -> list[str]:
    """The URLs of requests 1 to `count`: `{n}` replaced by the number, or the number as last part of the path.

    >>> urls_from("http://localhost/a", 2)
    ['http://localhost/a/1', 'http://localhost/a/2']
    >>> urls_from("http://localhost/?page={n}", 2)
    ['http://localhost/?page=1', 'http://localhost/?page=2']
    """
    if "{n}" not in template:
        template = template.rstrip("/") + "/{n}"
    return [template.replace("{n}", str(n)) for n in range(1, count + 1)]


def require_open_files(count: int) -> None:
    """Raise this process's soft limit of open files to `count` plus some spare ones.

    Raises `OSError` when the hard limit does not allow it.
    """
    needed = count + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise OSError(f"so many requests need about {needed} open files and the limit is {hard} (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


@dataclass(frozen=True, slots=True)
class ServerUsage:
    """What the embedded server's own threads have used so far: CPU seconds and context switches."""

    user: float = 0.0
    system: float = 0.0
    voluntary_switches: int = 0
    involuntary_switches: int = 0


class EmbeddedServer(AbstractContextManager["EmbeddedServer"]):
    """The engine's HTTP server on loopback, in a thread of its own, and what that thread has used.

    Raises `OSError` when the port is in use. `close()` may be called more than once.
    """

    def __init__(self, *, latency: float, port: int = 0) -> None:
        before = _thread_ids()
        self._server = _native.HttpServer(port=port, latency=latency)
        self._thread_ids = _thread_ids() - before
        self._closed = False
        self.url: str = self._server.url

    def usage(self) -> ServerUsage:
        """What the server's threads have used since they began."""
        user, system = self._server.cpu_time()
        voluntary = involuntary = 0
        for thread_id in self._thread_ids:
            switches = _context_switches(thread_id)
            voluntary += switches[0]
            involuntary += switches[1]
        return ServerUsage(user, system, voluntary, involuntary)

    def requests_served(self) -> int:
        """How many requests were answered so far."""
        return self._server.requests_served()

    def close(self) -> None:
        """Stop the server and drop its connections."""
        if not self._closed:
            self._closed = True
            self._server.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        self.close()


def _thread_ids() -> set[int]:
    """The kernel's ids of this process's threads; none where there is no /proc."""
    try:
        return {int(name) for name in os.listdir("/proc/self/task")}
    except OSError:
        return set()


def _context_switches(thread_id: int) -> tuple[int, int]:
    """One thread's context switches so far, voluntary and involuntary; zeros once it has ended."""
    counts = {"voluntary_ctxt_switches": 0, "nonvoluntary_ctxt_switches": 0}
    try:
        with open(f"/proc/self/task/{thread_id}/status", encoding="ascii", errors="replace") as status:
            for line in status:
                name, _, value = line.partition(":")
                if name in counts:
                    counts[name] = int(value)
    except OSError:
        pass  # the thread ended between two looks: it switches no more
    return counts["voluntary_ctxt_switches"], counts["nonvoluntary_ctxt_switches"]
