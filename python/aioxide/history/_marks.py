"""The image's marks: bars for what lanes did, hatching, arrows, text."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from ._axis import Axis
from ._panes import STATES, Crowd, Row
from ._text import seconds

__all__ = ["LEGEND", "Canvas", "draw_row", "legend_item", "text_width"]

LEGEND = (
    ("run", "runs"),
    ("host", "the loop runs one of the tasks"),
    ("ready", "ready, something else runs"),
    ("wait", "waits"),
    ("park", "the loop is parked: nothing to do"),
    ("mark", "a line printed"),
)

# Nothing that happened may vanish because the axis is long: a bar is at least this wide.
BAR_MIN = 1.6
# A crowd's outline has a step at most every so many units.
CROWD_STEP = 2.0


class Canvas:
    """A list of SVG elements in drawing order."""

    def __init__(self, width: float) -> None:
        self.width = width
        self._parts: list[str] = []

    def text(self, x: float, y: float, text: str, style: str) -> None:
        """Some text, its baseline at y."""
        self._parts.append(f'<text x="{x:.1f}" y="{y:.1f}" class="{style}">{escape(text)}</text>')

    def line(self, x1: float, y1: float, x2: float, y2: float, style: str) -> None:
        """A straight line."""
        self._parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{style}"/>')

    def rectangle(self, x: float, y: float, width: float, height: float, style: str, radius: float = 0) -> None:
        """A rectangle."""
        self._parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="{radius:g}" class="{style}"/>'
        )

    def path(self, path: str, style: str) -> None:
        """A path in SVG's own language."""
        self._parts.append(f'<path d="{path}" class="{style}"/>')

    def extend(self, other: Canvas) -> None:
        """Put another canvas's elements on top."""
        self._parts.extend(other._parts)

    def definitions(self) -> str:
        """What the elements refer to."""
        return (
            '<defs><pattern id="parked" width="5" height="5" patternUnits="userSpaceOnUse" '
            'patternTransform="rotate(45)"><rect class="back" width="5" height="5"/>'
            '<line class="hatch" x1="0" y1="0" x2="0" y2="5"/></pattern></defs>\n'
        )

    def text_of_it(self) -> str:
        """All elements, one a line."""
        return "".join(part + "\n" for part in self._parts)


def text_width(text: str, size: float) -> float:
    """About how wide a text is; fonts differ, so this is on the generous side."""
    return len(text) * size * 0.56


def legend_item(canvas: Canvas, x: float, y: float, state: str, label: str) -> float:
    """Draw one entry of the legend at x; returns where the next one begins."""
    if state == "mark":
        _tick(canvas, x + 6, y - 7)
    else:
        canvas.rectangle(x, y - 9, 18, 10, state, 2)
    canvas.text(x + (14 if state == "mark" else 25), y, label, "note small")
    return x + (14 if state == "mark" else 25) + text_width(label, 11.5) + 18


def draw_row(canvas: Canvas, row: Row | Crowd, axis: Axis, span_ns: int, y: float, height: float) -> None:
    """Draw one lane or crowd of a chapter that took `span_ns`, its top at y."""
    if isinstance(row, Crowd):
        _draw_crowd(canvas, row, axis, span_ns, y, height)
        return
    for state in ("wait", "park", "ready", "host", "run"):
        number = STATES.index(state)
        of_state = ((start, end) for start, end, which, _ in row.slices if which == number)
        minimum = BAR_MIN if state in ("run", "ready", "host") else 0.4
        if path := _bars(of_state, axis, y, height, minimum):
            canvas.path(path, state)
    for start, end, which, name in row.slices:
        left, right = axis.x(start), axis.x(end)
        if STATES[which] == "wait" and right - left > text_width(name, 9.5) + 24 and height >= 10:
            canvas.text(left + 8, y + height / 2 + 3.3, name, "in-wait")
        if STATES[which] == "run" and row.kind != "loop" and end - start > span_ns / 5:
            label = f"{seconds((end - start) / 1e9)} without giving way"
            if right - left > text_width(label, 9.5) + 16 and row.kind == "task":
                canvas.text(left + 8, y + height / 2 + 3.3, label, "in-run")
    last = -10.0
    for at, _ in row.marks:
        x = axis.x(at)
        if x - last >= 3:  # closer ones would be one black bar
            _tick(canvas, x, y - 1.5)
            last = x


def _tick(canvas: Canvas, x: float, y: float) -> None:
    canvas.path(f"M{x - 3.2:.1f} {y:.1f}h6.4l-3.2 5z", "mark")


def _bars(slices: Iterable[tuple[int, int]], axis: Axis, y: float, height: float, minimum: float) -> str:
    """Rectangles as one path, those that touch as one."""
    bars: list[list[float]] = []
    for start, end in slices:
        left = axis.x(start)
        right = max(axis.x(end), left + minimum)
        if bars and left <= bars[-1][1] + 0.2:
            bars[-1][1] = max(bars[-1][1], right)
        else:
            bars.append([left, right])
    return "".join(f"M{left:.2f} {y:.1f}h{right - left:.2f}v{height:.1f}h-{right - left:.2f}z" for left, right in bars)


def _draw_crowd(canvas: Canvas, crowd: Crowd, axis: Axis, span_ns: int, y: float, height: float) -> None:
    """The crowd's numbers, stacked: how many ran, were ready, waited."""
    width = axis.x(span_ns) - axis.x(0)
    counts = [_averaged(of_state, max(1, int(width / CROWD_STEP))) for of_state in crowd.counts]
    base = [0.0] * len(counts[0])
    if crowd.size > 1:
        canvas.rectangle(axis.x(0), y, width, height, "empty")
    for state in ("run", "host", "ready", "wait", "park"):
        level = [below + here for below, here in zip(base, counts[STATES.index(state)], strict=True)]
        if level == base:
            continue
        upper = _steps(level, crowd.size, axis, span_ns, y, height)
        lower = _steps(base, crowd.size, axis, span_ns, y, height)
        canvas.path("M" + "L".join(upper) + "L" + "L".join(reversed(lower)) + "z", state)
        base = level


def _averaged(values: list[float], at_most: int) -> list[float]:
    """The values, so many neighbours taken together that no more than `at_most` are left."""
    together = -(-len(values) // at_most)
    groups = (values[first : first + together] for first in range(0, len(values), together))
    return [sum(group) / len(group) for group in groups]


def _steps(level: list[float], size: int, axis: Axis, span_ns: int, y: float, height: float) -> list[str]:
    """The outline of a crowd's numbers: corners of steps, those of equal height joined."""
    points: list[str] = []
    begin, before = 0, None
    for bucket, here in enumerate([*level, None]):
        top = None if here is None else round(y + height * (1 - here / size), 1)
        if top != before:
            if before is not None:
                left, right = (axis.x(span_ns * edge / len(level)) for edge in (begin, bucket))
                points += [f"{left:.1f} {before}", f"{right:.1f} {before}"]
            begin, before = bucket, top
    return points
