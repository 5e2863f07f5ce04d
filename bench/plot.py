"""The results as a picture: how many times less than uvloop we use, with the others and the floor beside."""

from __future__ import annotations

import math
from xml.sax.saxutils import escape

from bench.contenders import FLOOR
from bench.measure import Result
from bench.report import MEASURE, OURS, Measured, ratio_between

WIDTH, LABEL_WIDTH, MARGIN = 900, 380, 30
HEAD_HEIGHT, ROW_HEIGHT, FOOT_HEIGHT = 56, 22, 20
# The scale is logarithmic, so that twice as much and half as much are as far from 1.
LOWEST, HIGHEST = 0.25, 8.0
GRID = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
FASTER, SLOWER, OTHERS, FLOOR_COLOUR, INK, PALE = "#2f7d4f", "#b8442f", "#8a94a6", "#1b1f27", "#1b1f27", "#d9dde4"


def svg(measured: list[Measured]) -> str:
    """The picture of the rows that uvloop was measured in, as SVG."""
    shown = [(row, results) for row, results in measured if speed(results, OURS) is not None]
    height = HEAD_HEIGHT + len(shown) * ROW_HEIGHT + FOOT_HEIGHT
    bottom = height - FOOT_HEIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif"',
        ' font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" rx="6" fill="#ffffff"/>',
        text(12, 20, f"{MEASURE}'s CPU (or memory) over each loop's own: further right is less", weight="bold"),
        legend(),
    ]
    for mark in GRID:
        parts.append(line(place(mark), HEAD_HEIGHT - 4, place(mark), bottom, INK if mark == 1 else PALE))
        parts.append(text(place(mark), HEAD_HEIGHT - 8, f"{mark:g}×", anchor="middle"))
    for number, (row, results) in enumerate(shown):
        parts.append(text(LABEL_WIDTH - 10, HEAD_HEIGHT + number * ROW_HEIGHT + 15, row.title, anchor="end"))
        parts += marks(results, HEAD_HEIGHT + number * ROW_HEIGHT)
    return "\n".join([*parts, "</svg>", ""])


def marks(results: list[Result], top: float) -> list[str]:
    """A row's bar for us, a dot for each other loop, a line for the floor."""
    ours = speed(results, OURS)
    assert ours is not None
    left, right = sorted((place(1), place(ours)))
    colour = FASTER if ours >= 1 else SLOWER
    parts = [f'<rect x="{left:.1f}" y="{top + 4}" width="{right - left:.1f}" height="14" fill="{colour}"/>']
    for result in results:
        other = speed(results, result.contender)
        if other is None or result.contender in (OURS, MEASURE):
            continue
        if result.contender == FLOOR:
            parts.append(line(place(other), top + 2, place(other), top + 20, FLOOR_COLOUR, width=2.5))
        else:
            name = escape(result.contender)
            parts.append(
                f'<circle cx="{place(other):.1f}" cy="{top + 11}" r="3.5" fill="{OTHERS}" stroke="#ffffff">'
                f"<title>{name} {other:.2f}×</title></circle>"
            )
    parts.append(text(WIDTH - 8, top + 15, f"{ours:.2f}×", anchor="end", weight="bold"))
    return parts


def legend() -> str:
    x = WIDTH - 8
    return (
        f'<text x="{x}" y="20" text-anchor="end" fill="{INK}"><tspan fill="{FASTER}">▬</tspan> {OURS}  '
        f'<tspan fill="{OTHERS}">●</tspan> others  <tspan font-weight="bold">|</tspan> floor: no loop, no Python</text>'
    )


def speed(results: list[Result], name: str) -> float | None:
    """How many times what a contender costs uvloop costs."""
    return ratio_between(results, name, MEASURE)


def place(value: float) -> float:
    """Where on the scale a ratio is; what is beyond its ends is at its ends."""
    share = (math.log2(min(max(value, LOWEST), HIGHEST)) - math.log2(LOWEST)) / math.log2(HIGHEST / LOWEST)
    return LABEL_WIDTH + share * (WIDTH - LABEL_WIDTH - MARGIN - 30)


def line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1}" x2="{x2:.1f}" y2="{y2}" stroke="{colour}" stroke-width="{width}"/>'


def text(x: float, y: float, words: str, anchor: str = "start", weight: str = "normal") -> str:
    return (
        f'<text x="{x:.1f}" y="{y}" fill="{INK}" text-anchor="{anchor}" font-weight="{weight}">{escape(words)}</text>'
    )
