"""The sampler of a recording: which thread had the GIL, and what the threads it saw are called."""

from __future__ import annotations

import sys
import threading
from typing import Any, Final

from .. import _native

__all__ = ["Samples"]


# The sampler sees numbers; a thread that lives longer than this is seen by its name too.
_NAMES_EVERY_S: Final = 0.01


class _Namer(threading.Thread):
    """Notes how the program's threads are called, since those that have ended cannot be asked."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.names: dict[int, str] = {}
        self.is_over = threading.Event()

    def run(self) -> None:
        while True:
            self.names |= {thread.native_id: thread.name for thread in threading.enumerate() if thread.native_id}
            if self.is_over.wait(_NAMES_EVERY_S):
                return


class Samples:
    """A sampler from `begin` to `end`."""

    def begin(self) -> None:
        """Start it, if it can be."""
        self._namer = _Namer(name="aioxide-thread-names", daemon=True)
        self._namer.start()
        is_free = not getattr(sys, "_is_gil_enabled", lambda: True)()
        self._why_not = _native.timeline_sample(is_free)
        self._what = None if self._why_not else "cpu" if is_free else "gil"

    def end(self) -> dict[str, Any]:
        """End it; gives what `Recording.to_dict` documents as ``sampled``."""
        self._namer.is_over.set()
        self._namer.join()
        exactness = _native.timeline_sampled() if self._what else None
        samples, median_ns, p95_ns = exactness or (0, 0, 0)
        return {
            "what": self._what,
            "why_not": self._why_not,
            "samples": samples,
            "median_ns": median_ns,
            "p95_ns": p95_ns,
        }

    def name_threads(self, data: dict[str, Any]) -> None:
        """Put the threads' names in place of the numbers by which the sampler knows them."""
        called = {f"thread {number}": name for number, name in self._namer.names.items()}
        data["names"] = [called.get(name, name) for name in data["names"]]
        for lane in data["lanes"]:
            if lane["kind"] == "cpu":
                lane["name"] = f"on a CPU: {called.get(lane['name'], lane['name'])}"
