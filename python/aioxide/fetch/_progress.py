"""A line on the terminal that says how far a run is."""

from __future__ import annotations

import time
from typing import TextIO

_EVERY_SECONDS = 0.1
_BAR = 24


class Progress:
    """Shows rows done, rate, errors, and how long the rest will take; nothing where `stream` is no terminal."""

    def __init__(self, stream: TextIO, done: int, total: int | None) -> None:
        self._stream = stream if stream.isatty() else None
        self._begin = time.monotonic()
        self._done_before = done
        self._done = done
        self._total = total
        self._errors = 0
        self._next = 0.0

    def add(self, *, failed: bool) -> None:
        """One more row is done."""
        self._done += 1
        self._errors += failed
        if self._stream is not None and (now := time.monotonic()) >= self._next:
            self._next = now + _EVERY_SECONDS
            self._stream.write(f"\r{self.line(now - self._begin)}\x1b[K")
            self._stream.flush()

    def line(self, seconds: float) -> str:
        """What is shown after so many seconds."""
        rate = (self._done - self._done_before) / max(seconds, 1e-9)
        parts = [f"{self._done:,}", f"{rate:,.0f}/s", f"{self._errors:,} errors"]
        if self._total:
            filled = min(_BAR, _BAR * self._done // self._total)
            left = (self._total - self._done) / rate if rate else 0
            parts[0] = f"[{'█' * filled}{'·' * (_BAR - filled)}] {self._done:,}/{self._total:,}"
            parts.append(f"{left // 60:.0f}:{left % 60:02.0f} left")
        return "  ".join(parts)

    def end(self) -> None:
        """Remove the line."""
        if self._stream is not None:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
