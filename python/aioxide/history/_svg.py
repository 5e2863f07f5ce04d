"""The history as one SVG image: every chapter on one time axis, and the loop close up."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path

from ._axis import Axis, tick_step
from ._closeup import draw_close_up
from ._marks import LEGEND, Canvas, draw_row, legend_item
from ._measure import ChapterRun
from ._panes import CLEAN_UP, Crowd, Pane, axis_span, make_pane
from ._report import speed_up
from ._text import plural, ratio, seconds

__all__ = ["render_svg", "write_svg"]

WIDTH = 1080
MARGIN = 28
# The plot begins here; before it come the chapter's heading and the lanes' names.
PLOT_LEFT = 356
PLOT_RIGHT = WIDTH - MARGIN - 58
LANE_HEIGHT = 13
CROWD_HEIGHT = 34
PANE_GAP = 20
# A heading needs this much height even beside a single lane.
HEADING_HEIGHT = 38
# The chapters whose close-up explains the loop best.
CLOSE_UPS = ("async", "blocking")


def write_svg(path: Path, runs: Sequence[ChapterRun], subtitle: str) -> None:
    """Write the image to a file; raises `OSError` when that fails."""
    path.write_text(render_svg(runs, subtitle), encoding="utf-8")


def render_svg(runs: Sequence[ChapterRun], subtitle: str) -> str:
    """The image's text. Chapters that were not recorded are left out."""
    panes = [(run, make_pane(run.recording, run.began_ns, run.ended_ns)) for run in runs if run.recording is not None]
    span = axis_span([(pane.span_ns, run.dwarfs_the_others) for run, pane in panes])
    canvas = Canvas(WIDTH)
    y = _draw_head(canvas, subtitle)
    axis = Axis(span, PLOT_LEFT, PLOT_RIGHT - PLOT_LEFT)
    top = y
    y += 22
    body = Canvas(WIDTH)
    for run, pane in panes:
        y = _draw_pane(body, run, runs, pane, axis, y)
    _draw_grid(canvas, axis, top, y - PANE_GAP / 2)
    canvas.extend(body)
    for run, pane in panes:
        if run.chapter.slug in CLOSE_UPS[:1]:
            y = draw_close_up(canvas, run, pane, y + 12, left=MARGIN, right=WIDTH - MARGIN)
    y = _draw_foot(canvas, [pane for _, pane in panes], y)
    assets = files(__package__).joinpath("page")
    style = "".join(assets.joinpath(name).read_text(encoding="utf-8") for name in ("colors.css", "image.css"))
    title = "A brief history of async, measured"
    summary = "; ".join(f"{run.chapter.title}: {seconds(run.figures.whole_wall_s)}" for run, _ in panes)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y:.0f}" viewBox="0 0 {WIDTH} {y:.0f}" '
        f'role="img" aria-labelledby="title description">\n'
        f'<title id="title">{escape(title)}</title>\n<desc id="description">{escape(summary)}</desc>\n'
        f"<style>\n{style}</style>\n{canvas.definitions()}"
        f'<rect class="paper" width="{WIDTH}" height="{y:.0f}"/>\n{canvas.text_of_it()}</svg>\n'
    )


def _draw_head(canvas: Canvas, subtitle: str) -> float:
    canvas.text(MARGIN, 48, "A brief history of async, measured", "h1")
    canvas.text(MARGIN, 70, subtitle + ". Every chapter on one time axis, drawn from what was recorded.", "note")
    x = float(MARGIN)
    for state, label in LEGEND:
        x = legend_item(canvas, x, 94, state, label)
    return 118


def _draw_grid(canvas: Canvas, axis: Axis, top: float, bottom: float) -> None:
    step = tick_step(axis.span_ns, 9)
    for at in range(0, axis.span_ns + 1, step):
        x = axis.x(at)
        canvas.line(x, top + 6, x, bottom, "grid")
        canvas.text(x, top, seconds(at / 1e9) if at else "0", "tick middle")


def _draw_pane(canvas: Canvas, run: ChapterRun, runs: Sequence[ChapterRun], pane: Pane, axis: Axis, y: float) -> float:
    figures, top = run.figures, y
    canvas.text(MARGIN, y + 13, str(run.chapter.number), "number")
    canvas.text(MARGIN + 24, y + 13, run.chapter.title, "h2")
    facts = f"CPU {seconds(figures.cpu_s)}"
    factor = speed_up(run, runs)
    if factor is not None and run.chapter.slug != "sequential":
        facts += f" · {ratio(factor)} as fast"
    if figures.extrapolated:
        facts += f" · {figures.requests_run:,} of {plural(figures.requests, 'request')}"
    canvas.text(MARGIN + 24, y + 30, facts, "note small")
    for row in pane.rows:
        if row.name == CLEAN_UP:  # a sliver at the end of each chapter; the page has it
            continue
        height = CROWD_HEIGHT if isinstance(row, Crowd) else LANE_HEIGHT
        canvas.text(PLOT_LEFT - 10, y + height / 2 + 3.5, _shortened(row.name), "lane end")
        draw_row(canvas, row, axis, pane.span_ns, y + 1.5, height - 3)
        y += height
    end = axis.x(pane.span_ns)
    if pane.span_ns > axis.span_ns:
        canvas.path(f"M{end + 2:.1f} {top + 2:.1f}l6 {(y - top) / 2 - 2:.1f}l-6 {(y - top) / 2 - 2:.1f}z", "beyond")
        end += 6
    else:
        canvas.line(end, top, end, y, "end")
    canvas.text(end + 5, (top + y) / 2 + 4, seconds(figures.wall_s), "wall")
    return max(y, top + HEADING_HEIGHT) + PANE_GAP


def _draw_foot(canvas: Canvas, panes: Sequence[Pane], y: float) -> float:
    error = max((pane.clock_error_ns for pane in panes), default=0)
    dropped = sum(pane.dropped for pane in panes)
    lost = "No event was lost." if dropped == 0 else f"{plural(dropped, 'event')} did not fit and are missing."
    text = (
        "Recorded by aioxide's own timeline with CLOCK_MONOTONIC; one reading of the clock takes "
        f"{error} ns, and no time here is more exact. {lost}"
    )
    canvas.text(MARGIN, y + 14, text, "note small")
    return y + 34


def _shortened(name: str, longest: int = 19) -> str:
    return name if len(name) <= longest else name[: longest - 1] + "…"
