"""The loop close up: one chapter with its long waits folded away, and where control went."""

from __future__ import annotations

from ._axis import Axis
from ._marks import Canvas, draw_row, text_width
from ._measure import ChapterRun
from ._panes import Crowd, Pane, Row
from ._text import seconds

__all__ = ["draw_close_up"]

LABELS_WIDTH = 128
ROW_HEIGHT = 30
BAR_HEIGHT = 13
CROWD_HEIGHT = 44
PADDING = 20
# Below this distance two arrows to the same row cannot be told from each other.
ARROW_DISTANCE = 3.0
# The width of the gap where a stretch is folded.
TEAR = 12
# Printed lines are written on so many levels above the rows.
LEVELS = 3


def draw_close_up(canvas: Canvas, run: ChapterRun, pane: Pane, y: float, *, left: float, right: float) -> float:
    """Draw the panel with its top at y; returns the y below it."""
    axis = Axis(pane.span_ns, left + PADDING + LABELS_WIDTH, right - left - 2 * PADDING - LABELS_WIDTH, pane.folds)
    heights = [CROWD_HEIGHT if isinstance(row, Crowd) else ROW_HEIGHT for row in pane.rows]
    top = y + 106
    bottom = top + sum(heights)
    canvas.rectangle(left, y, right - left, bottom - y + 42, "panel", 10)
    canvas.text(left + PADDING, y + 30, f"The loop, close up: {run.chapter.title.lower()}", "h2")
    canvas.text(left + PADDING, y + 49, "The same recording with the long waits folded.", "note small")
    few = not any(isinstance(row, Crowd) for row in pane.rows)  # with many, the arrows would hide everything
    if few:
        _draw_key(
            canvas, left + PADDING + text_width("The same recording with the long waits folded.", 11.5) + 14, y + 49
        )
    middles = []
    row_top = top
    for row, height in zip(pane.rows, heights, strict=True):
        middles.append(row_top + height / 2)
        canvas.text(
            axis.left - 12,
            row_top + height / 2 + 4,
            row.name if len(row.name) < 21 else row.name[:19] + "…",
            "lane end",
        )
        if isinstance(row, Crowd):
            draw_row(canvas, row, axis, pane.span_ns, row_top + 4, height - 8)
        else:
            draw_row(canvas, row, axis, pane.span_ns, row_top + (height - BAR_HEIGHT) / 2, BAR_HEIGHT)
        row_top += height
    for fold in pane.folds:
        _draw_fold(canvas, axis, fold, top - 8, bottom + 4)
    if few:
        _draw_switches(canvas, axis, pane, middles)
        _draw_wakes(canvas, axis, pane, middles)
    _draw_printed(canvas, axis, pane, top - 14)
    _draw_times(canvas, axis, pane, bottom + 22)
    return bottom + 62


def _draw_key(canvas: Canvas, x: float, y: float) -> None:
    canvas.path(f"M{x:.1f} {y - 4:.1f}h20", "switch")
    canvas.text(x + 27, y, "where control went", "note small")
    x += 27 + text_width("where control went", 11.5) + 14
    canvas.path(f"M{x:.1f} {y - 4:.1f}h16", "wake")
    canvas.path(f"M{x + 22:.1f} {y - 4:.1f}l-6 -3.2v6.4z", "wake-head")
    canvas.text(x + 29, y, "who made whom runnable", "note small")


def _draw_fold(canvas: Canvas, axis: Axis, fold: tuple[int, int], top: float, bottom: float) -> None:
    """A torn gap in the rows, with the time that is left out above it."""
    middle = (axis.x(fold[0]) + axis.x(fold[1])) / 2
    teeth = max(1, round((bottom - top) / 9))
    height = (bottom - top) / teeth
    for side in (-1, 1):
        edge = middle + side * TEAR / 2
        zigzag = f"M{edge:.1f} {top:.1f}" + "".join(
            f"l{3 if tooth % 2 == 0 else -3} {height:.2f}" for tooth in range(teeth)
        )
        if side < 0:
            back = "".join(f"l{-3 if (teeth - 1 - tooth) % 2 == 0 else 3} {-height:.2f}" for tooth in range(teeth))
            canvas.path(f"{zigzag}h{TEAR}{back}z", "fold")
        canvas.path(zigzag, "fold-line")
    canvas.text(middle, top - 7, seconds((fold[1] - fold[0]) / 1e9), "fold-time middle")


def _draw_switches(canvas: Canvas, axis: Axis, pane: Pane, middles: list[float]) -> None:
    for path in pane.switches:
        at, row = path[0]
        steps = f"M{axis.x(at):.1f} {middles[row]:.1f}"
        for at, row in path[1:]:
            steps += f"H{axis.x(at):.1f}V{middles[row]:.1f}"
        loop = pane.rows[path[-1][1]]
        end = loop.slices[-1][1] if isinstance(loop, Row) and loop.slices else pane.span_ns
        canvas.path(steps + f"H{axis.x(end):.1f}", "switch")


def _draw_wakes(canvas: Canvas, axis: Axis, pane: Pane, middles: list[float]) -> None:
    last: dict[tuple[int, int], float] = {}
    for at, source, target in pane.wakes:
        x = axis.x(at)
        if x - last.get((source, target), -100.0) < ARROW_DISTANCE:
            continue
        last[source, target] = x
        down = 1 if target > source else -1
        y1, y2 = middles[source] + down * BAR_HEIGHT / 2, middles[target] - down * BAR_HEIGHT / 2
        bend = min(22.0, 6 + abs(y2 - y1) / 6)
        canvas.path(f"M{x:.1f} {y1:.1f}q{bend:.1f} {(y2 - y1) / 2:.1f} 0 {y2 - y1 - down * 4:.1f}", "wake")
        canvas.path(f"M{x:.1f} {y2:.1f}l-3.2 {-down * 6}h6.4z", "wake-head")


def _draw_printed(canvas: Canvas, axis: Axis, pane: Pane, y: float) -> None:
    """The printed lines above the rows, as many as there is room for, each with a thin line to its mark."""
    until = [-1.0] * LEVELS
    marks = sorted((at, text) for row in pane.rows if isinstance(row, Row) for at, text in row.marks)
    gaps = [(axis.x(start) - 6, axis.x(end) + 6) for start, end in pane.folds]
    for at, text in marks:
        x, label = axis.x(at), text.removeprefix("--- ")
        end = x + text_width(label, 10.5) + 8
        level = next((level for level in range(LEVELS) if x >= until[level]), None)
        if level is None or any(x < right and end > left for left, right in gaps):
            continue
        canvas.line(x, y - 11 * level + 2, x, y + 12, "lead")
        canvas.text(x + 3, y - 11 * level, label, "tick")
        until[level] = end


def _draw_times(canvas: Canvas, axis: Axis, pane: Pane, y: float) -> None:
    """When each shown stretch begins, and when the last one ends."""
    moments = [0, *(fold[1] for fold in pane.folds), pane.span_ns]
    for moment in moments:
        anchor = "start" if moment == 0 else "end" if moment == pane.span_ns else "middle"
        canvas.text(axis.x(moment), y, seconds(moment / 1e9) if moment else "0", f"tick {anchor}")
