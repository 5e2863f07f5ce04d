"""From a recording to what is drawn of it: rows, switches, and the stretches worth folding away.

Both pictures – the page and the image – are drawn from these panes. A pane holds the lanes of one chapter: the
first ones of each kind as rows of their own, the rest of a kind as one *crowd*, which says how many of them ran,
were ready and waited over time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

__all__ = ["CLEAN_UP", "STATES", "Crowd", "Pane", "Row", "axis_span", "make_pane"]

# What a lane does; the order is that of the page's script, which knows states by number. A loop is a "host" while
# one of its tasks or callbacks runs: the same time is a "run" in that one's lane.
STATES = ("run", "ready", "wait", "park", "host")
# Kinds of lanes in the order in which they are drawn.
KINDS = ("loop", "thread", "task", "callback", "request")
# The row of the tasks that close a loop.
CLEAN_UP = "closing the loop"
# Up to this many lanes of a kind all are drawn; when there are more, only a few and a crowd.
ROWS_MAX = 12
ROWS_BEFORE_CROWD = 5
# A lane with more slices than this is drawn as a crowd of one: which share of the time it spent in what.
SLICES_MAX = 600
# A crowd's numbers are averages over so many equal parts of the chapter's time.
CROWD_BUCKETS = 1200
# A stretch in which nothing changes is worth folding when it takes this share of the chapter's time.
FOLD_SHARE = 1 / 50
# Wake-ups beyond this many are left out, and a path of control with more steps than this is not drawn.
ARROWS_MAX = 4000


@dataclass(slots=True, eq=False)
class Row:
    """One lane. Slices are `(start, end, state, name)` in nanoseconds since the chapter's start, by start."""

    lane: int
    name: str
    kind: str
    thread: int
    slices: list[tuple[int, int, int, str]] = field(default_factory=list)
    marks: list[tuple[int, str]] = field(default_factory=list)

    def total(self, state: str) -> int:
        """Nanoseconds that it spent in a state."""
        number = STATES.index(state)
        return sum(end - start for start, end, which, _ in self.slices if which == number)


@dataclass(slots=True)
class Crowd:
    """Many lanes of one kind: `counts` has, for each state, how many were in it in each part of the time."""

    name: str
    kind: str
    size: int
    counts: list[list[float]]


@dataclass(slots=True)
class Pane:
    """What is drawn of one chapter. All times are nanoseconds since its first moment."""

    span_ns: int
    rows: list[Row | Crowd]
    # (when, from which row, to which row): who made whom runnable.
    wakes: list[tuple[int, int, int]]
    # (when, which row): where control went, on any thread that ran more than one of the rows.
    switches: list[list[tuple[int, int]]]
    folds: list[tuple[int, int]]
    clock_error_ns: int
    dropped: int
    wakes_left_out: int
    lanes: int
    slices: int


def make_pane(recording: Mapping[str, Any], began_ns: int | None = None, ended_ns: int | None = None) -> Pane:
    """Arrange a recording, as `aioxide.timeline` gives it, for drawing.

    What happened before `began_ns` and after `ended_ns`, moments of the monotonic clock, is left out; they default
    to the recording's own beginning and end.

    Raises `ValueError` for a format that this version does not know.
    """
    if recording["format"] != 1:
        raise ValueError(f"unknown timeline format {recording['format']!r}")
    start = int(recording["start_ns"])
    began = 0 if began_ns is None else max(0, began_ns - start)
    ended = int(recording["end_ns"] if ended_ns is None else ended_ns) - start
    span = max(1, ended - began)
    lanes = _read_lanes(recording, began, span)
    woken = [(at - began, source, target) for at, source, target, _ in recording["wakes"] if began <= at <= ended]
    rows = _arrange(lanes, span)
    row_of = {row.lane: number for number, row in enumerate(rows) if isinstance(row, Row)}
    wakes = [
        (at, row_of[source], row_of[target])
        for at, source, target in woken
        if source in row_of and target in row_of and source != target
    ]
    switches = _switches(rows)
    return Pane(
        span_ns=span,
        rows=rows,
        wakes=wakes[:ARROWS_MAX],
        switches=switches,
        folds=_folds(lanes, [wake[0] for wake in woken], span),
        clock_error_ns=int(recording["clock_error_ns"]),
        dropped=int(recording["dropped"]),
        wakes_left_out=max(0, len(wakes) - ARROWS_MAX),
        lanes=len(lanes),
        slices=sum(len(lane.slices) for lane in lanes),
    )


def axis_span(spans: Sequence[tuple[int, bool]]) -> int:
    """How much time the shared axis shows, given each chapter's and whether that dwarfs the others'.

    That is all, but chapters that dwarf the others run off the edge.

    >>> axis_span([(800, False), (400, False)]), axis_span([(800, True), (400, False)]), axis_span([(9000, True)])
    (800, 500, 9000)
    """
    longest = max((span for span, _ in spans), default=1)
    others = max((span for span, dwarfing in spans if not dwarfing), default=longest)
    return min(longest, int(others * 1.25))


def _read_lanes(recording: Mapping[str, Any], began: int, span: int) -> list[Row]:
    """The lanes in which something happened in the chapter's time, in the order they are drawn."""
    lanes = {
        lane["id"]: Row(lane["id"], _short(str(lane["name"])), str(lane["kind"]), int(lane["thread"]))
        for lane in recording["lanes"]
    }
    # The tasks in which `asyncio.Runner` puts the loop in order at its end are of one kind: one row for them all.
    clean_up = None
    for lane in recording["lanes"]:
        if "BaseEventLoop.shutdown_" in lane["name"]:
            clean_up = clean_up or Row(lane["id"], CLEAN_UP, "callback", int(lane["thread"]))
            lanes[lane["id"]] = clean_up
    names = recording["names"]
    for lane, start, end, name, state in recording["slices"]:
        begin, stop = max(0, start - began), min(span, end - began)
        if state in STATES and begin < stop:
            lanes[lane].slices.append((begin, stop, STATES.index(state), names[name]))
    for at, lane, text in recording["marks"]:
        if lane in lanes and 0 <= at - began <= span:
            lanes[lane].marks.append((at - began, text))
    # A thread that runs a loop is drawn as that loop.
    loop_threads = {lane.thread for lane in lanes.values() if lane.kind == "loop" and lane.slices}
    drawn = [
        lane
        for lane in {id(lane): lane for lane in lanes.values()}.values()
        if (lane.slices or lane.marks) and not (lane.kind == "thread" and lane.thread in loop_threads)
    ]
    for lane in drawn:
        lane.slices.sort()
        lane.marks.sort()
    _mark_hosting(drawn)
    for thread in lanes.values():
        if thread.kind == "thread" and thread.thread in loop_threads:
            _add_what_surrounds_the_loop(thread, [lane for lane in drawn if lane.kind == "loop"])
    return sorted(drawn, key=lambda lane: (KINDS.index(lane.kind) if lane.kind in KINDS else len(KINDS), lane.lane))


def _add_what_surrounds_the_loop(thread: Row, loops: Sequence[Row]) -> None:
    """Show in the loop's row what its thread did before the loop ran and after: making it and closing it."""
    loop = next(loop for loop in loops if loop.thread == thread.thread)
    begin, end = loop.slices[0][0], max(stop for _, stop, _, _ in loop.slices)
    for start, stop, state, _ in thread.slices:
        if start < begin:
            loop.slices.append((start, min(stop, begin), state, "before the loop runs"))
        if stop > end:
            loop.slices.append((max(start, end), stop, state, "after the loop"))
    loop.slices.sort()


def _short(name: str) -> str:
    """A task's name without the way to its coroutine: `Task-3 Client.fetch.<locals>.step` is `Task-3 step`."""
    title, space, coroutine = name.partition(" ")
    if not space or not re.fullmatch(r"[\w.<>]+", coroutine):
        return name
    return f"{title} {coroutine.rpartition('.')[2]}"


def _mark_hosting(lanes: Sequence[Row]) -> None:
    """Turn a loop's runs into "host" where the run belongs to another lane of its thread."""
    run, host = STATES.index("run"), STATES.index("host")
    for loop in lanes:
        if loop.kind != "loop":
            continue
        elsewhere = {
            (start, end)
            for lane in lanes
            if lane is not loop and lane.kind != "thread" and lane.thread == loop.thread
            for start, end, state, _ in lane.slices
            if state == run
        }
        loop.slices = [
            (start, end, host if state == run and (start, end) in elsewhere else state, name)
            for start, end, state, name in loop.slices
        ]


def _arrange(lanes: Sequence[Row], span: int) -> list[Row | Crowd]:
    rows: list[Row | Crowd] = []
    kinds = list(dict.fromkeys(lane.kind for lane in lanes))
    for kind in kinds:
        of_kind = [lane for lane in lanes if lane.kind == kind]
        shown = of_kind if len(of_kind) <= ROWS_MAX else _most_telling(of_kind)
        for lane in shown:
            dense = len(lane.slices) > SLICES_MAX
            rows.append(Crowd(lane.name, kind, 1, _counts([lane], span)) if dense else lane)
        known = set(shown)
        if rest := [lane for lane in of_kind if lane not in known]:
            rows.append(Crowd(f"… and {len(rest):,} more", kind, len(rest), _counts(rest, span)))
    return rows


def _most_telling(lanes: Sequence[Row]) -> list[Row]:
    """A few of many lanes, in their order: the first one, and then rather those that printed something."""
    first, *others = lanes
    chosen = [first, *sorted(others, key=lambda lane: not lane.marks)[: ROWS_BEFORE_CROWD - 1]]
    return [lane for lane in lanes if lane in chosen]


def _counts(lanes: Iterable[Row], span: int) -> list[list[float]]:
    """For each state, the average number of lanes in it, over equal parts of the time."""
    width = span / CROWD_BUCKETS
    counts = [[0.0] * (CROWD_BUCKETS + 1) for _ in STATES]
    # Whole parts are counted as differences – one up where a slice begins, one down where it ends – and its
    # ragged ends apart, so that a long slice costs no more than a short one.
    change = [[0.0] * (CROWD_BUCKETS + 2) for _ in STATES]
    for lane in lanes:
        for start, end, state, _ in lane.slices:
            first, last = start / width, min(end / width, CROWD_BUCKETS)
            whole_first, whole_last = int(first), int(last)
            if whole_first == whole_last:
                counts[state][whole_first] += last - first
                continue
            counts[state][whole_first] += whole_first + 1 - first
            counts[state][whole_last] += last - whole_last
            change[state][whole_first + 1] += 1
            change[state][whole_last] -= 1
    for state in range(len(STATES)):
        level = 0.0
        for bucket in range(CROWD_BUCKETS):
            level += change[state][bucket]
            counts[state][bucket] = round(counts[state][bucket] + level, 2)
    return [of_state[:CROWD_BUCKETS] for of_state in counts]


def _switches(rows: Sequence[Row | Crowd]) -> list[list[tuple[int, int]]]:
    """Where control went on each thread that runs a loop: the loop's row while it is parked or works for itself."""
    paths = []
    run, wait = STATES.index("run"), STATES.index("wait")
    for number, loop in enumerate(rows):
        if not isinstance(loop, Row) or loop.kind != "loop":
            continue
        steps = [(start, number) for start, _, state, _ in loop.slices if state != wait]
        # A task's steps are in the loop's lane too; its own row is the better place to show them.
        better = {
            start: other
            for other, row in enumerate(rows)
            if isinstance(row, Row) and row.kind in ("task", "callback") and row.thread == loop.thread
            for start, _, state, _ in row.slices
            if state == run
        }
        path: list[tuple[int, int]] = []
        for start, own in steps:
            row = better.get(start, own)
            if not path or path[-1][1] != row:
                path.append((start, row))
        if 1 < len(path) <= ARROWS_MAX:
            paths.append(path)
    return paths


def _folds(lanes: Sequence[Row], wakes: Iterable[int], span: int) -> list[tuple[int, int]]:
    """The long stretches in which no lane changes."""
    moments = {0, span}
    for lane in lanes:
        for start, end, _, _ in lane.slices:
            moments.update((start, end))
        moments.update(at for at, _ in lane.marks)
    moments.update(wakes)
    ordered = sorted(moment for moment in moments if 0 <= moment <= span)
    longest = span * FOLD_SHARE
    gaps = [(before, after) for before, after in pairwise(ordered) if after - before >= longest]
    # Leave a little of each stretch on both sides: what waits should be seen to wait.
    kept = span - sum(after - before for before, after in gaps)
    margin = max(1, kept // 24)
    return [(before + margin, after - margin) for before, after in gaps if after - before > 4 * margin]
