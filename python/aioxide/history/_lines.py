"""What the chapters print: each line is marked on the timeline, counted, and shown; many are abbreviated."""

from __future__ import annotations

import io
import re
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["Abbreviated", "Line", "LineTap", "Transcript"]

# How many lines are shown from the beginning and from the end of a chapter that prints more than both.
SHOWN_FIRST = 4
SHOWN_LAST = 4

_REQUEST = re.compile(r"--- request (\d+) sent\Z")
_RESPONSE = re.compile(r"--- response (\d+) received\Z")


@dataclass(frozen=True, slots=True)
class Line:
    """One printed line, when it was complete, and the thread that printed it."""

    at_ns: int
    thread: int
    text: str


@dataclass(slots=True)
class Transcript:
    """All that a chapter printed. Times are nanoseconds of the monotonic clock."""

    lines: list[Line] = field(default_factory=list)
    sent_ns: dict[int, int] = field(default_factory=dict)
    received_ns: dict[int, int] = field(default_factory=dict)

    def add(self, line: Line) -> None:
        """Keep a line, and note the request or response it tells of."""
        self.lines.append(line)
        if request := _REQUEST.match(line.text):
            self.sent_ns[int(request[1])] = line.at_ns
        elif response := _RESPONSE.match(line.text):
            self.received_ns[int(response[1])] = line.at_ns

    @property
    def unanswered(self) -> int:
        """How many requests were sent and got no response."""
        return len(self.sent_ns.keys() - self.received_ns.keys())

    @property
    def threads(self) -> set[int]:
        """The kernel's ids of the threads that printed."""
        return {line.thread for line in self.lines}


class LineTap(io.TextIOBase):
    """A stand-in for `sys.stdout` that gives every complete line to `on_line`, from whichever thread printed it.

    Writes of several threads do not mix within a line. `on_line` runs in the printing thread, one at a time.
    """

    def __init__(self, on_line: Callable[[Line], None]) -> None:
        super().__init__()
        self._on_line = on_line
        self._lock = threading.Lock()
        self._unfinished: dict[int, str] = {}

    def writable(self) -> bool:
        """Always true."""
        return True

    def write(self, text: str, /) -> int:
        """Take some text; what follows the last line's end waits for more from the same thread."""
        thread = threading.get_native_id()
        with self._lock:
            *complete, rest = (self._unfinished.pop(thread, "") + text).split("\n")
            for line in complete:
                self._on_line(Line(time.monotonic_ns(), thread, line))
            if rest:
                self._unfinished[thread] = rest
        return len(text)


class Abbreviated:
    """Shows the first lines at once and, at the end, the last ones with how many were left out between.

    >>> shown = Abbreviated(print)
    >>> for n in range(100):
    ...     shown.add(str(n))
    0
    1
    2
    3
    >>> shown.finish()
    … 92 more lines …
    96
    97
    98
    99
    """

    def __init__(self, show: Callable[[str], object]) -> None:
        self._show = show
        self._count = 0
        self._last: deque[str] = deque(maxlen=SHOWN_LAST)

    def add(self, text: str) -> None:
        """Take one line."""
        self._count += 1
        if self._count <= SHOWN_FIRST:
            self._show(text)
        else:
            self._last.append(text)

    def finish(self) -> None:
        """Show what is still to be shown. Call once, after the last line."""
        left_out = self._count - SHOWN_FIRST - len(self._last)
        if left_out > 0:
            self._show(f"… {left_out:,} more lines …" if left_out > 1 else "… 1 more line …")
        for text in self._last:
            self._show(text)
