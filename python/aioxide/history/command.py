"""`aioxide history`: runs the chapters, prints what they took, and draws them."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from aioxide._arguments import checked

from ._arguments import add_load, url_argument
from ._chapters import Chapter, all_chapters, select
from ._failures import describe, is_failure
from ._measure import ChapterRun, run_chapter
from ._page import write_page
from ._report import Console, environment, facts, main_streams, summary_table, to_json
from ._svg import write_svg
from ._target import EmbeddedServer, require_open_files, urls_from
from ._text import plural, seconds

__all__ = ["add_arguments", "execute", "requests_to_run"]

DEFAULT_PICTURE = "history.html"
# Requests one after the other are run only as many as take about this long, or as many as
# are a fair sample of a site whose latency nobody knows; `--full` runs them all.
ONE_AFTER_ANOTHER_SECONDS = 5.0
ONE_AFTER_ANOTHER_REQUESTS = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to a parser."""
    add_load(parser)
    parser.add_argument(
        "--url",
        type=url_argument,
        metavar="TEMPLATE",
        help="send the requests to a real site; {n} stands for the request's number (default: the embedded server)",
    )
    parser.add_argument(
        "--chapters",
        type=checked(select),
        metavar="LIST",
        help="run only these, by number, range or name: 1-3,gen (default: all)",
    )
    parser.add_argument(
        "--full",
        action="store_true",
        help="run all requests of the chapters that send one after the other, however long that takes",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(DEFAULT_PICTURE),
        metavar="FILE",
        help=f"the picture's file (default: {DEFAULT_PICTURE})",
    )
    parser.add_argument("--svg", type=Path, metavar="FILE", help="write the picture as one SVG image too")
    parser.add_argument("--no-picture", action="store_true", help="record and draw nothing")
    parser.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        help="write the figures as JSON: to FILE, or to standard output in place of the report",
    )


def execute(arguments: argparse.Namespace) -> int:
    """Run the command; returns its exit status. `KeyboardInterrupt` is left to the caller."""
    # The blocking chapters freeze the loop on purpose, and the picture shows it.
    logging.getLogger("aioxide.freeze").setLevel(logging.CRITICAL)
    out, err = main_streams()
    console = Console(None if arguments.json == "-" else out, err)
    try:
        runs, target = _run_all(arguments, console)
        for path in _write_pictures(arguments, runs, target):
            console.print(f"Picture: {path}")
        if arguments.json is not None:
            _write_json(arguments, runs, target)
    except BrokenPipeError:
        raise
    except Exception as error:
        if not is_failure(error):
            raise
        console.close()
        print(f"aioxide history: {describe(error)}", file=err)
        return 1
    finally:
        console.close()
    return 0


def _run_all(arguments: argparse.Namespace, console: Console) -> tuple[list[ChapterRun], str]:
    chapters: Sequence[Chapter] = arguments.chapters or all_chapters()
    runs: list[ChapterRun] = []
    with ExitStack() as stack:
        require_open_files((1 if arguments.url else 2) * arguments.requests)
        server = None
        if arguments.url is None:
            server = stack.enter_context(EmbeddedServer(latency=arguments.latency, port=arguments.port))
        template = arguments.url or server.url  # type: ignore[union-attr]
        target = _describe_target(arguments)
        console.heading(f"A brief history of async: {plural(arguments.requests, 'request')} to {target}")
        console.print("aioxide {aioxide}, {python}, {system}, {processors} processors".format(**environment()))
        console.print()
        for position, chapter in enumerate(chapters, start=1):
            urls = urls_from(template, requests_to_run(chapter, arguments))
            console.begin(chapter, len(urls), f"{position}/{len(chapters)}")
            run = _run_one(chapter, urls, arguments, server, console)
            runs.append(run)
            console.end(facts(run, runs))
            console.check()
    for line in summary_table(runs):
        console.print(line)
    console.print()
    return runs, target


def _run_one(
    chapter: Chapter, urls: list[str], arguments: argparse.Namespace, server: EmbeddedServer | None, console: Console
) -> ChapterRun:
    try:
        return run_chapter(
            chapter,
            urls,
            requests=arguments.requests,
            server=server,
            record=not arguments.no_picture,
            show=console.line,
        )
    except Exception as error:
        error.add_note(f"in chapter {chapter.number}, {chapter.title}")
        raise


def requests_to_run(chapter: Chapter, arguments: argparse.Namespace) -> int:
    """All requests, or as many as a chapter that sends one after the other gets through in good time."""
    requests: int = arguments.requests
    if not chapter.one_after_another or arguments.full:
        return requests
    if arguments.url is not None:
        return min(requests, ONE_AFTER_ANOTHER_REQUESTS)
    # A request to loopback takes about a millisecond beside the latency.
    affordable = int(ONE_AFTER_ANOTHER_SECONDS / (arguments.latency + 0.001))
    return min(requests, max(2, affordable))


def _describe_target(arguments: argparse.Namespace) -> str:
    if arguments.url is not None:
        return str(arguments.url)
    return f"the embedded server, which answers after {seconds(arguments.latency)}"


def _write_pictures(arguments: argparse.Namespace, runs: Sequence[ChapterRun], target: str) -> list[Path]:
    """Write the picture's files; returns those that were written."""
    if arguments.no_picture:
        return []
    subtitle = f"{plural(arguments.requests, 'request')} to {target}"
    write_page(arguments.out, runs, subtitle)
    if arguments.svg is None:
        return [arguments.out]
    write_svg(arguments.svg, runs, subtitle)
    return [arguments.out, arguments.svg]


def _write_json(arguments: argparse.Namespace, runs: Sequence[ChapterRun], target: str) -> None:
    document: dict[str, Any] = to_json(
        runs,
        target=target if arguments.url is not None else "embedded",
        latency_s=None if arguments.url is not None else arguments.latency,
        requests=arguments.requests,
    )
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    if arguments.json == "-":
        sys.stdout.write(text)
    else:
        Path(arguments.json).write_text(text, encoding="utf-8")
