"""The history as one HTML page that needs nothing else: text, table, and a picture to move about in."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from ._highlight import highlighted
from ._measure import ChapterRun
from ._panes import Crowd, Pane, Row, axis_span, make_pane
from ._report import environment, remarks, speed_up, switches
from ._svg import render_svg
from ._text import count, plural, ratio, seconds

__all__ = ["render_page", "write_page"]

_SCRIPTS = ("axis.js", "paint.js", "folded.js", "main.js")
_STYLES = ("colors.css", "page.css")


def write_page(path: Path, runs: Sequence[ChapterRun], subtitle: str) -> None:
    """Write the page to a file; raises `OSError` when that fails."""
    path.write_text(render_page(runs, subtitle), encoding="utf-8")


def render_page(runs: Sequence[ChapterRun], subtitle: str) -> str:
    """The page's text. Chapters that were not recorded are in the table, without a picture."""
    panes = [(run, make_pane(run.recording, run.began_ns, run.ended_ns)) for run in runs if run.recording is not None]
    explained = _explained(panes)
    data = {
        "closeUp": explained and explained.chapter.number,
        "axis": axis_span([(pane.span_ns, run.dwarfs_the_others) for run, pane in panes]),
        "panes": [_pane_data(run, pane) for run, pane in panes],
    }
    parts = {
        "style": "\n".join(_asset(name) for name in _STYLES),
        "script": "\n".join(_asset(name) for name in _SCRIPTS),
        "subtitle": escape(subtitle) + ".",
        "environment": escape("aioxide {aioxide}, {python}, {system}, {processors} processors".format(**environment())),
        "summary": "\n".join(_summary_row(run, runs) for run in runs),
        "notes": _notes(runs),
        "close_up": _close_up(explained),
        "chapters": "\n".join(_section(run, runs, pane) for run, pane in panes),
        "method": _method([pane for _, pane in panes]),
        "image": render_svg(runs, subtitle),
        # Inside a script element nothing but "<" can have a meaning of its own.
        "data": json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c"),
    }
    return _filled(_asset("page.html"), parts)


def _asset(name: str) -> str:
    return files(__package__).joinpath("page", name).read_text(encoding="utf-8")


def _pane_data(run: ChapterRun, pane: Pane) -> dict[str, Any]:
    names: dict[str, int] = {}
    rows = [_row_data(row, names) for row in pane.rows]
    return {
        "number": run.chapter.number,
        "wall": seconds(run.figures.wall_s),
        "span": pane.span_ns,
        "names": list(names),
        "rows": rows,
        "folds": pane.folds,
        "switches": pane.switches,
        "wakes": pane.wakes,
    }


def _row_data(row: Row | Crowd, names: dict[str, int]) -> dict[str, Any]:
    if isinstance(row, Crowd):
        return {"name": row.name, "kind": row.kind, "size": row.size, "counts": row.counts}
    slices: list[int] = []
    for start, end, state, name in row.slices:
        slices += (start, end, state, names.setdefault(name, len(names)))
    return {"name": row.name, "kind": row.kind, "slices": slices, "marks": row.marks}


def _summary_row(run: ChapterRun, runs: Sequence[ChapterRun]) -> str:
    figures, factor = run.figures, speed_up(run, runs)
    longest = max(other.figures.whole_wall_s for other in runs)
    about = "≈ " if figures.extrapolated else ""
    scale = figures.scale
    style = f"width: {figures.whole_wall_s / longest * 55:.2f}%"
    estimated = ' class="estimated"' if figures.extrapolated else ""
    link = f'<a href="#chapter-{run.chapter.number}">{escape(run.chapter.title)}</a>'
    title = link if run.recording is not None else escape(run.chapter.title)
    cells = (
        about + seconds(figures.cpu_s * scale),
        about + seconds(figures.user_s * scale),
        about + seconds(figures.system_s * scale),
        count(figures.threads),
        about + " / ".join(switches(figures)),
        "–" if factor is None else ratio(factor),
    )
    return (
        f'<tr><th scope="row"><span>{run.chapter.number}</span>{title}</th>'
        f'<td class="wall"><i{estimated} style="{style}"></i>{about}{seconds(figures.whole_wall_s)}</td>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        + "</tr>"
    )


def _notes(runs: Sequence[ChapterRun]) -> str:
    estimated = [run for run in runs if run.figures.extrapolated]
    if not estimated:
        return ""
    figures = estimated[0].figures
    chapters = "Chapter " + " and ".join(str(run.chapter.number) for run in estimated)
    text = (
        f"≈ {chapters}: one request after the other. Only {plural(figures.requests_run, 'request')} of "
        f"{count(figures.requests)} were run there; the times in the table are extrapolated from these, and so is the "
        "speed-up over them."
    )
    return f'<p class="note">{text}</p>'


def _section(run: ChapterRun, runs: Sequence[ChapterRun], pane: Pane) -> str:
    chapter, number = run.chapter, run.chapter.number
    description = (
        f"Timeline of chapter {number}, {chapter.title}: {plural(pane.lanes, 'lane')}, {seconds(pane.span_ns / 1e9)}. "
        "Arrow keys walk through it, Enter zooms to a slice, plus and minus zoom, 0 shows all, F folds."
    )
    canvas = (
        f'<canvas class="pane" id="pane-{number}" tabindex="0" role="application" aria-label="{escape(description)}">'
    )
    source = f"<pre><code>{highlighted(chapter.source())}</code></pre>"
    return f"""<section class="chapter" id="chapter-{number}" aria-labelledby="title-{number}">
<header><h3 id="title-{number}"><span>{number}</span>{escape(chapter.title)}</h3>
<div class="time">{seconds(run.figures.wall_s)}</div></header>
<p class="caption">{_prose(chapter.caption)}</p>
<ul class="facts">{_facts(run, runs)}</ul>
{canvas}</canvas>
<details><summary>{escape(chapter.example)}</summary>{source}</details>
</section>"""


def _facts(run: ChapterRun, runs: Sequence[ChapterRun]) -> str:
    figures, factor = run.figures, speed_up(run, runs)
    voluntary, involuntary = count(figures.voluntary_switches), count(figures.involuntary_switches)
    facts = [
        f"<b>{seconds(figures.cpu_s)}</b> CPU (user {seconds(figures.user_s)}, sys {seconds(figures.system_s)})",
        f"<b>{count(figures.threads)}</b> {'thread' if figures.threads == 1 else 'threads'}",
        f"<b>{voluntary}</b> voluntary and <b>{involuntary}</b> involuntary context switches",
    ]
    if run.chapter.slug == "threads":
        facts.append(f"<code>sys.getswitchinterval()</code> = <b>{figures.switch_interval_s:g}</b>")
    if factor is not None and run.chapter.slug != "sequential":
        facts.append(f"<b>{ratio(factor)}</b> as fast as sequential")
    lines = "".join(f"<li>{fact}</li>" for fact in facts)
    return lines + "".join(f'<li class="remark">{_prose(remark)}</li>' for remark in remarks(run, runs))


def _explained(panes: Sequence[tuple[ChapterRun, Pane]]) -> ChapterRun | None:
    """The chapter that is shown close up: the one about async, or else the first on a loop."""
    on_loops = [run for run, pane in panes if any(row.kind == "loop" for row in pane.rows)]
    return next((run for run in on_loops if run.chapter.slug == "async"), on_loops[0] if on_loops else None)


def _close_up(run: ChapterRun | None) -> str:
    if run is None:
        return ""
    label = f"The loop in chapter {run.chapter.number}, close up. Arrow keys walk through it."
    return f"""<figure class="close-up">
<figcaption><h3>The loop, close up</h3>
<p>Chapter {run.chapter.number} with its long waits folded. The loop runs whatever is ready, one thing at a time. A task
keeps the thread until it awaits something that is not there yet; then control goes to the next one. When nothing is
ready, the loop is parked in the kernel until a socket or a timer wakes it.</p></figcaption>
<canvas class="pane" id="pane-close-up" tabindex="0" role="application" aria-label="{label}"></canvas>
</figure>"""


def _prose(text: str) -> str:
    """HTML of a text in which backticks are around code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _method(panes: Sequence[Pane]) -> str:
    dropped = sum(pane.dropped for pane in panes)
    left_out = sum(pane.wakes_left_out for pane in panes)
    words = {
        "slices": plural(sum(pane.slices for pane in panes), "slice"),
        "lanes": plural(sum(pane.lanes for pane in panes), "lane"),
        "error": count(max((pane.clock_error_ns for pane in panes), default=0)),
        "lost": "No event was lost." if dropped == 0 else f"{plural(dropped, 'event')} did not fit and are missing.",
        "left_out": f"{plural(left_out, 'wake-up')} are not drawn as arrows: there are too many." if left_out else "",
    }
    return _filled(_asset("method.html"), words)


def _filled(template: str, parts: dict[str, str]) -> str:
    """The template with its `{{names}}` replaced, in one pass: what is put in is never searched for names."""
    first, *pieces = template.split("{{")
    filled = first
    for piece in pieces:
        name, _, rest = piece.partition("}}")
        filled += parts[name] + rest
    return filled
