"""Runs one chapter and measures it: time, CPU, threads, context switches, what it printed, what the timeline saw."""

from __future__ import annotations

import contextlib
import gc
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

from aioxide import timeline

from ._chapters import Chapter
from ._failures import RequestsLostError, raising_of_threads
from ._lines import Line, LineTap, Transcript
from ._target import EmbeddedServer, ServerUsage

__all__ = ["ChapterRun", "Figures", "run_chapter"]

# So many requests one after the other can be shown in whole beside one chapter's requests at once.
REQUESTS_ON_THE_AXIS = 6


@dataclass(frozen=True, slots=True)
class Figures:
    """What one chapter took. CPU times and context switches are the process's, less the embedded server's."""

    requests: int
    requests_run: int
    wall_s: float
    user_s: float
    system_s: float
    threads: int
    voluntary_switches: int
    involuntary_switches: int
    switch_interval_s: float

    @property
    def extrapolated(self) -> bool:
        """Whether fewer requests were run than asked for."""
        return self.requests_run < self.requests

    @property
    def scale(self) -> float:
        """What to multiply with for all the requests."""
        return self.requests / self.requests_run

    @property
    def whole_wall_s(self) -> float:
        """The wall time of all requests: measured, or extrapolated from those that were run."""
        return self.wall_s * self.scale

    @property
    def cpu_s(self) -> float:
        """User and system time together, of the requests that were run."""
        return self.user_s + self.system_s


@dataclass(frozen=True, slots=True)
class ChapterRun:
    """One chapter, measured. `recording` is the timeline's dictionary, or None when none was recorded.

    `began_ns` and `ended_ns` are the moments between which it was measured, by the monotonic clock.
    """

    chapter: Chapter
    figures: Figures
    transcript: Transcript
    recording: dict[str, Any] | None
    began_ns: int
    ended_ns: int

    @property
    def dwarfs_the_others(self) -> bool:
        """Whether it sent so many requests one after the other that the other chapters are slivers beside it."""
        return self.chapter.one_after_another and self.figures.requests_run > REQUESTS_ON_THE_AXIS

    @property
    def others_held_s(self) -> float | None:
        """The median time from the first request's sending to the others'; None for a single request."""
        sent = self.transcript.sent_ns
        others = [at - sent[1] for n, at in sent.items() if n != 1] if 1 in sent else []
        return median(others) / 1e9 if others else None


@dataclass(frozen=True, slots=True)
class _Usage:
    """What this process had used at a moment, less what the embedded server had."""

    wall_ns: int
    cpu: float
    user: float
    system: float
    voluntary: int
    involuntary: int

    @classmethod
    def now(cls, server: EmbeddedServer | None) -> _Usage:
        own = resource.getrusage(resource.RUSAGE_SELF)
        served = server.usage() if server is not None else ServerUsage()
        return cls(
            time.monotonic_ns(),
            time.process_time() - served.user - served.system,
            own.ru_utime - served.user,
            own.ru_stime - served.system,
            own.ru_nvcsw - served.voluntary_switches,
            own.ru_nivcsw - served.involuntary_switches,
        )


def run_chapter(
    chapter: Chapter,
    urls: list[str],
    *,
    requests: int,
    server: EmbeddedServer | None,
    record: bool,
    show: Callable[[Line], None],
) -> ChapterRun:
    """Run a chapter over `urls`, a part of the `requests` asked for; `show` gets each line that it prints.

    While it runs, `sys.stdout` belongs to it. Raises what the chapter raised, in whichever of its threads, and
    `RequestsLostError` when it ended without an answer to each request. Call from the main thread.
    """
    main = chapter.load()
    transcript = Transcript()

    def on_line(line: Line) -> None:
        transcript.add(line)
        if record:
            timeline.mark(line.text)
        show(line)

    gc.collect()  # the garbage of the chapter before is not this one's to clear
    with contextlib.ExitStack() as stack:
        stack.enter_context(_watch_threads(record, server))
        stack.enter_context(contextlib.redirect_stdout(LineTap(on_line)))
        recording = stack.enter_context(timeline.record()) if record else None
        before = _Usage.now(server)
        with timeline.thread_lane(threading.current_thread().name) if record else contextlib.nullcontext():
            main(urls)
        after = _Usage.now(server)
    user, system = _user_and_system(before, after)
    if lost := len(urls) - len(transcript.received_ns):
        raise RequestsLostError(f"{lost} of {len(urls)} requests got no answer")
    return ChapterRun(
        chapter=chapter,
        figures=Figures(
            requests=requests,
            requests_run=len(urls),
            wall_s=(after.wall_ns - before.wall_ns) / 1e9,
            user_s=user,
            system_s=system,
            threads=len(transcript.threads | {threading.get_native_id()}),
            voluntary_switches=max(0, after.voluntary - before.voluntary),
            involuntary_switches=max(0, after.involuntary - before.involuntary),
            switch_interval_s=sys.getswitchinterval(),
        ),
        transcript=transcript,
        recording=recording.to_dict() if recording is not None else None,
        began_ns=before.wall_ns,
        ended_ns=after.wall_ns,
    )


def _user_and_system(before: _Usage, after: _Usage) -> tuple[float, float]:
    """User and system time between two moments, in seconds.

    Their sum is exact; how it divides is known only as closely as the kernel's clock ticks.
    """
    total = max(0.0, after.cpu - before.cpu)
    user, system = max(0.0, after.user - before.user), max(0.0, after.system - before.system)
    share = user / (user + system) if user + system > 0 else 1.0
    return total * share, total * (1 - share)


@contextlib.contextmanager
def _watch_threads(record: bool, server: EmbeddedServer | None) -> Iterator[None]:
    """Give every thread that starts its lane on the timeline, with its joins, and raise what threads raise.

    When the body fails – after Ctrl-C for one – the server is closed, so that threads which still wait for
    its answers end before this does: nothing of a chapter outlives it.
    """
    original_run, original_join = threading.Thread.run, threading.Thread.join

    def run(thread: threading.Thread) -> None:
        with timeline.thread_lane(thread.name) if record else contextlib.nullcontext():
            original_run(thread)

    def join(thread: threading.Thread, timeout: float | None = None) -> None:
        with timeline.waiting(f"join {thread.name}") if record else contextlib.nullcontext():
            original_join(thread, timeout)

    threading.Thread.run = run  # type: ignore[method-assign, assignment]
    threading.Thread.join = join  # type: ignore[method-assign, assignment]
    with raising_of_threads():
        try:
            yield
        except BaseException:
            if server is not None:
                server.close()
            raise
        finally:
            threading.Thread.run = original_run  # type: ignore[method-assign]
            threading.Thread.join = original_join  # type: ignore[method-assign]
