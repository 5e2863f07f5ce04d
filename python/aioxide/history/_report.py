"""The history in words and numbers: the chapters' lines as they come, the summary table, and JSON for machines."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Sequence
from typing import Any, TextIO

from aioxide import __version__

from ._chapters import Chapter
from ._lines import Abbreviated, Line
from ._measure import ChapterRun, Figures
from ._text import count, plural, ratio, seconds

__all__ = [
    "Console",
    "environment",
    "facts",
    "main_streams",
    "remarks",
    "speed_up",
    "summary_table",
    "switches",
    "to_json",
]

_PROGRESS_EVERY_S = 0.1


def environment() -> dict[str, str]:
    """Where it ran: the Python, the machine, the versions."""
    return {
        "aioxide": __version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processors": str(os.cpu_count()),
    }


def speed_up(run: ChapterRun, runs: Sequence[ChapterRun]) -> float | None:
    """How many times faster than the sequential chapter; None when that was not run."""
    for other in runs:
        if other.chapter.slug == "sequential":
            return other.figures.whole_wall_s / run.figures.whole_wall_s
    return None


def facts(run: ChapterRun, runs: Sequence[ChapterRun]) -> list[str]:
    """What is said below a chapter's lines; `runs` are the chapters so far."""
    figures = run.figures
    lines = [
        f"CPU times: user {seconds(figures.user_s)}, sys: {seconds(figures.system_s)}, total: {seconds(figures.cpu_s)}",
        f"Wall time: {seconds(figures.wall_s)}",
    ]
    lines.append(
        f"{plural(figures.threads, 'thread')}, context switches: {count(figures.voluntary_switches)} voluntary, "
        f"{count(figures.involuntary_switches)} involuntary"
    )
    if run.chapter.slug == "threads":
        lines[-1] += f", sys.getswitchinterval() = {figures.switch_interval_s:g}"
    if run.chapter.slug != "sequential" and (factor := speed_up(run, runs)) is not None:
        lines.append(
            f"Speed-up over sequential: {ratio(factor)}" + (" (extrapolated)" if _from_estimate(run, runs) else "")
        )
    return lines + remarks(run, runs)


def remarks(run: ChapterRun, runs: Sequence[ChapterRun]) -> list[str]:
    """What must not be overlooked in a chapter's numbers; `runs` are the chapters so far."""
    figures, lines = run.figures, []
    if figures.extrapolated:
        lines.append(
            f"Only {figures.requests_run:,} of {figures.requests:,} requests were run; all of them would take about "
            f"{seconds(figures.whole_wall_s)} (extrapolated; --full runs them)"
        )
    if run.chapter.slug == "blocking" and (held := run.others_held_s) is not None:
        line = f"The other requests could not be sent for {seconds(held)}"
        for other in runs:
            if other.chapter.slug == "async" and (usual := other.others_held_s) is not None:
                line += f" (chapter {other.chapter.number}: {seconds(usual)})"
        lines.append(line)
    return lines


def _from_estimate(run: ChapterRun, runs: Sequence[ChapterRun]) -> bool:
    return run.figures.extrapolated or any(
        other.figures.extrapolated for other in runs if other.chapter.slug == "sequential"
    )


def summary_table(runs: Sequence[ChapterRun]) -> list[str]:
    """One line per chapter, its numbers in columns; `≈` marks what is extrapolated."""
    head = ("", "chapter", "wall", "CPU", "user", "sys", "threads", "switches v/i", "speed-up")
    rows = [head]
    for run in runs:
        figures, factor = run.figures, speed_up(run, runs)
        about = "≈ " if figures.extrapolated else ""
        estimated = _from_estimate(run, runs) and run.chapter.slug != "sequential"
        faster = "–" if factor is None else ("≈ " if estimated else "") + ratio(factor)
        rows.append(
            (
                str(run.chapter.number),
                run.chapter.title,
                about + seconds(figures.whole_wall_s),
                about + seconds(figures.cpu_s * figures.scale),
                about + seconds(figures.user_s * figures.scale),
                about + seconds(figures.system_s * figures.scale),
                count(figures.threads),
                about + "/".join(switches(figures)),
                faster,
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = [
        "  ".join(
            cell.ljust(width) if column == 1 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    lines.insert(1, "─" * max(map(len, lines)))
    if any(run.figures.extrapolated for run in runs):
        lines.append("≈ extrapolated from fewer requests; --full runs them all")
    return lines


def switches(figures: Figures) -> tuple[str, str]:
    """Context switches of all requests, voluntary and involuntary, as text."""
    counts = (figures.voluntary_switches, figures.involuntary_switches)
    voluntary, involuntary = (count(round(switched * figures.scale)) for switched in counts)
    return voluntary, involuntary


def to_json(runs: Sequence[ChapterRun], *, target: str, latency_s: float | None, requests: int) -> dict[str, Any]:
    """All figures for machines; times in seconds. `extrapolated_wall_s` is there where not all requests were run."""
    chapters = []
    for run in runs:
        figures = run.figures
        entry: dict[str, Any] = {
            "number": run.chapter.number,
            "name": run.chapter.slug,
            "title": run.chapter.title,
            "example": run.chapter.example,
            "requests": figures.requests,
            "requests_run": figures.requests_run,
            "responses": len(run.transcript.received_ns),
            "wall_s": figures.wall_s,
            "cpu_user_s": figures.user_s,
            "cpu_system_s": figures.system_s,
            "threads": figures.threads,
            "voluntary_context_switches": figures.voluntary_switches,
            "involuntary_context_switches": figures.involuntary_switches,
            "switch_interval_s": figures.switch_interval_s,
            "speed_up_over_sequential": speed_up(run, runs),
        }
        if figures.extrapolated:
            entry["extrapolated_wall_s"] = figures.whole_wall_s
        if run.chapter.slug == "blocking":
            entry["others_held_s"] = run.others_held_s
        chapters.append(entry)
    return {
        "format": 1,
        "environment": environment(),
        "target": target,
        "latency_s": latency_s,
        "requests": requests,
        "chapters": chapters,
    }


class Console:
    """Writes the chapters to a terminal or a file as they run.

    `out` gets the report, or nothing when it is None; progress goes to standard error, and only to a terminal.
    """

    def __init__(self, out: TextIO | None, progress: TextIO) -> None:
        self._out = out
        self._progress = progress if progress.isatty() else None
        self._bold = out is not None and out.isatty() and "NO_COLOR" not in os.environ
        self._abbreviated = Abbreviated(self.print)
        self._broken: BrokenPipeError | None = None
        self._label = ""
        self._received = 0
        self._expected = 0
        self._progress_at = 0.0
        self._progress_shown = False

    def print(self, text: str = "") -> None:
        """Write one line of the report."""
        self._clear_progress()
        if self._out is None:
            return
        try:
            print(text, file=self._out, flush=True)
        except BrokenPipeError as error:
            # This may be in the middle of a chapter's callback, where nobody could handle it: tell it later.
            self._out, self._broken = None, error

    def check(self) -> None:
        """Raise `BrokenPipeError` when the report's reader has gone away."""
        if self._broken is not None:
            raise self._broken

    def heading(self, text: str) -> None:
        """Write a line that stands out."""
        self.print(f"\x1b[1m{text}\x1b[0m" if self._bold else text)

    def begin(self, chapter: Chapter, requests: int, progress: str) -> None:
        """Announce a chapter; `progress` says how far the whole run is."""
        self.heading(f"{chapter.number}. {chapter.title}")
        self.print(f"   {chapter.example}")
        self._abbreviated = Abbreviated(lambda text: self.print(f"   {text}"))
        self._label, self._received, self._expected = f"[{progress}] {chapter.title}", 0, requests
        self._progress_at = 0.0
        self._show_progress()

    def line(self, line: Line) -> None:
        """Take a line that the chapter printed; runs in the chapter's threads, one at a time."""
        self._abbreviated.add(line.text)
        if line.text.startswith("--- response"):
            self._received += 1
        self._show_progress()

    def end(self, lines: Sequence[str]) -> None:
        """Write what a chapter took."""
        self._abbreviated.finish()
        for line in lines:
            self.print(f"   {line}")
        self.print()

    def close(self) -> None:
        """Take the progress away."""
        self._clear_progress()

    def _show_progress(self) -> None:
        if self._progress is None or time.monotonic() < self._progress_at:
            return
        self._progress_at = time.monotonic() + _PROGRESS_EVERY_S
        self._progress_shown = True
        self._progress.write(f"\r\x1b[K{self._label}: {self._received:,} of {self._expected:,} responses")
        self._progress.flush()

    def _clear_progress(self) -> None:
        if self._progress is not None and self._progress_shown:
            self._progress_shown = False
            self._progress.write("\r\x1b[K")
            self._progress.flush()


def main_streams() -> tuple[TextIO, TextIO]:
    """Standard output and error, made ready for characters that their encoding may lack."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    return sys.stdout, sys.stderr
