"""`aioxide fetch`: URLs in, results out, as one line of JSON each."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import itertools
import os
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, Final

import aioxide
from aioxide import http, timeline
from aioxide._arguments import checked
from aioxide.timeline._export import checked_name

from ._journal import Journal, JournalError
from ._many import ERRORS, FetchResult, fetch_many
from ._output import Output, format_of
from ._progress import Progress
from ._robots import BlockingAdmission, is_loopback
from ._rows import Row, count, from_file, from_urls, is_template
from ._settings import Settings
from ._summary import Summary

__all__ = ["add_arguments", "execute"]

_USER_AGENT: Final = f"aioxide/{aioxide.__version__}"
_STYLES: Final = ("sequential", "threads", "async", "native")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to a parser."""
    what = parser.add_argument_group("what to fetch")
    what.add_argument("urls", nargs="*", metavar="URL", help="URLs; {1..100000} in one counts")
    what.add_argument(
        "--from",
        dest="source",
        metavar="FILE",
        help="a file with a URL on each line, or a .csv, .jsonl or .parquet table; - is standard input",
    )
    what.add_argument("--column", default="url", metavar="NAME", help="the table's column of URLs (url)")
    how = parser.add_argument_group("how")
    how.add_argument(
        "--style",
        choices=_STYLES,
        default="native",
        help="how the program is written (native, which is Rust's where nothing is asked of Python for each row)",
    )
    how.add_argument("--concurrency", type=checked(_positive_int), default=100, metavar="N", help="at once (100)")
    how.add_argument("--per-host", type=checked(_positive_int), metavar="N", help="connections to each host at most")
    how.add_argument("--rate", type=checked(_positive), metavar="R", help="requests begun each second at most")
    how.add_argument("--retries", type=checked(_count), default=2, metavar="N", help="more tries of what failed (2)")
    how.add_argument(
        "--timeout",
        type=checked(_positive),
        default=30.0,
        metavar="SECONDS",
        help="for each step of a request: to connect, to send, for each piece of the answer (30)",
    )
    how.add_argument("--header", "-H", action="append", default=[], type=checked(_header), metavar="NAME:VALUE")
    how.add_argument("--method", default="GET", metavar="NAME", help="for URLs without a table that says it (GET)")
    how.add_argument("--data", metavar="TEXT", help="the body of each request; @FILE takes it from there")
    how.add_argument("--http2", action="store_true", help="speak HTTP/2 where the server does")
    how.add_argument("--no-redirects", action="store_true", help="give redirects as they are")
    how.add_argument(
        "--robots",
        action=argparse.BooleanOptionalAction,
        help="heed robots.txt and its crawl delays (default: for templates and files, with hosts of others)",
    )
    how.add_argument(
        "--scheduler", metavar="ADDRESS", help="have a Dask cluster's workers fetch, within the same limits together"
    )
    out = parser.add_argument_group("results")
    out.add_argument(
        "--output",
        "-o",
        metavar="FILE",
        help="NAME.parquet; NAME/ is a folder with a file for each row; else JSON lines, on standard output by default",
    )
    out.add_argument(
        "--bodies",
        choices=("inline", "hash", "rows", "none"),
        help="in the results (usual), or in files named by content or row, in FILE.bodies or the folder",
    )
    out.add_argument(
        "--journal",
        type=Path,
        metavar="FILE",
        help="by which an interrupted run goes on, given the same command again (OUTPUT.journal)",
    )
    out.add_argument(
        "--timeline",
        type=checked(checked_name),
        metavar="FILE",
        help="draw what ran when (the first million records): NAME.html, or another ending that timeline.dump knows",
    )


def _positive_int(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"a whole number from 1 is wanted, not {text!r}")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(f"a whole number from 0 is wanted, not {text!r}")
    return int(text)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ValueError(f"a number above 0 is wanted, not {text!r}")
    return value


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise ValueError(f"NAME:VALUE is wanted, not {text!r}")
    return name.strip(), value.strip()


def execute(arguments: argparse.Namespace) -> int:
    """Run the command; returns the exit status: 1 if a row has no response."""
    if bool(arguments.urls) == bool(arguments.source):
        return _complain("give URLs, or --from FILE")
    if arguments.output is None and (arguments.journal or arguments.bodies in ("hash", "rows")):
        return _complain("--journal and bodies in files need an --output")
    if arguments.scheduler and arguments.style != "native":
        return _complain(f"--scheduler is for the style native, not {arguments.style}")
    try:
        return Run(arguments).execute()
    except (JournalError, ValueError, OSError) as error:
        return _complain(str(error))


def _complain(message: str) -> int:
    print(f"aioxide fetch: {message}", file=sys.stderr)
    return 2


def heeds_robots(arguments: argparse.Namespace) -> bool:
    """Whether hosts are asked what they want; loopback's owner needs no politeness, and who names a URL means it."""
    if arguments.robots is not None:
        return bool(arguments.robots)
    # Of a file nobody knows whose hosts it names; those of this machine are let through there, too.
    return bool(arguments.source) or any(is_template(url) and not is_loopback(url) for url in arguments.urls)


class Run:
    """One run of the command: its rows, its journal, and what has come of them."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self._summary = Summary()

    def execute(self) -> int:
        arguments = self._arguments
        with contextlib.ExitStack() as stack:
            journal = None
            if arguments.output is not None:
                path = arguments.journal or Path(arguments.output.rstrip("/") + ".journal")
                journal = stack.enter_context(contextlib.closing(Journal(path, self._fingerprint())))
            output = Output(arguments.output, journal, arguments.bodies)
            stack.callback(output.close)
            done = 0 if journal is None else journal.done
            if done:
                print(f"aioxide fetch: {done:,} rows are done already", file=sys.stderr)
            progress = Progress(sys.stderr, done, self._total())
            stack.callback(progress.end)
            rows = self._rows() if journal is None else (row for row in self._rows() if not journal.is_done(row.index))
            # However it ends, what has come is kept.
            stack.callback(output.commit)
            if arguments.timeline:
                stack.enter_context(timeline.record(to=arguments.timeline))
            self._fetch(rows, output, progress)
        print(self._summary, file=sys.stderr)
        return 1 if self._summary.errors else 0

    def _fingerprint(self) -> str:
        """What makes a run another one: what is fetched and what is kept of it, not how fast."""
        arguments = self._arguments
        parts = [*arguments.urls, arguments.source, arguments.column, arguments.method, arguments.data]
        parts += [format_of(arguments.output), arguments.bodies, arguments.no_redirects, *sorted(arguments.header)]
        digest = hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
        return f"{arguments.source or arguments.urls[0]} {digest}"

    def _rows(self) -> Iterator[Row]:
        arguments = self._arguments
        rows = from_file(arguments.source, arguments.column) if arguments.source else from_urls(arguments.urls)
        body = _body(arguments.data)
        for row in rows:
            # A table's own word goes before the command line's.
            if row.is_plain and (arguments.method != "GET" or body is not None):
                row = Row(row.index, row.url, arguments.method.upper(), row.headers, body)
            yield row

    def _total(self) -> int | None:
        """How many rows there are, where that is known beforehand."""
        arguments = self._arguments
        if arguments.source:
            return None
        return sum(map(count, arguments.urls))

    def _settings(self) -> Settings:
        arguments = self._arguments
        return Settings(
            headers=(("user-agent", _USER_AGENT), *arguments.header),
            timeout=arguments.timeout,
            follow_redirects=not arguments.no_redirects,
            retries=arguments.retries,
            http2=arguments.http2,
        )

    def _of_client(self) -> dict[str, Any]:
        return self._settings().of_client(self._arguments.concurrency, self._arguments.per_host)

    def _fetch(self, rows: Iterator[Row], output: Output, progress: Progress) -> None:
        def keep(result: FetchResult) -> None:
            self._summary.add(result)
            progress.add(failed=result.response is None)
            output.add(result)

        style = self._arguments.style
        if self._arguments.scheduler:
            aioxide.run(self._fetch_on_cluster(rows, keep))
            return
        if style in ("async", "native"):
            aioxide.run(self._fetch_on_loop(rows, keep))
            return
        fetched = self._in_sequence(rows) if style == "sequential" else self._in_threads(rows)
        with contextlib.closing(fetched):
            for result in fetched:
                keep(result)

    async def _fetch_on_loop(self, rows: Iterator[Row], keep: Callable[[FetchResult], None]) -> None:
        arguments = self._arguments
        async with http.AsyncClient(**self._of_client()) as client:
            results = fetch_many(
                rows,
                client=client,
                style=arguments.style,
                concurrency=arguments.concurrency,
                rate=arguments.rate,
                robots=self._robots(),
            )
            async with contextlib.aclosing(results):
                async for result in results:
                    keep(result)

    async def _fetch_on_cluster(self, rows: Iterator[Row], keep: Callable[[FetchResult], None]) -> None:
        from aioxide import dask

        arguments = self._arguments
        async with dask.connected(arguments.scheduler) as client:
            results = dask.fetch_many(
                client,
                rows,
                concurrency=arguments.concurrency,
                per_host=arguments.per_host,
                rate=arguments.rate,
                robots=self._robots(),
                settings=self._settings(),
            )
            async for result in results:
                keep(result)
            if arguments.timeline:
                await dask.dump_timelines(client, arguments.timeline)

    def _robots(self) -> str | None:
        """The name by which hosts are asked what they want; None if they are not."""
        return _USER_AGENT if heeds_robots(self._arguments) else None

    @contextlib.contextmanager
    def _blocking(self) -> Iterator[Callable[[Row], FetchResult]]:
        """What fetches a row and waits for it, in any thread."""
        arguments = self._arguments
        with http.Client(**self._of_client()) as client:
            admission = BlockingAdmission(client, self._robots(), arguments.rate, arguments.per_host)

            def fetch(row: Row) -> FetchResult:
                try:
                    with admission.admitted(row.url):
                        response = client.request(row.method, row.url, headers=row.headers, content=row.body)
                except ERRORS as error:
                    return FetchResult(row, None, error, 0.0)
                return FetchResult(row, response, None, response.elapsed.total_seconds())

            yield fetch

    def _in_sequence(self, rows: Iterator[Row]) -> Generator[FetchResult, None, None]:
        with self._blocking() as fetch, timeline.thread_lane("sequential"):
            yield from map(fetch, rows)

    def _in_threads(self, rows: Iterator[Row]) -> Generator[FetchResult, None, None]:
        concurrency = self._arguments.concurrency
        with self._blocking() as fetch, ThreadPoolExecutor(concurrency, "thread") as threads:

            def fetch_in_lane(row: Row) -> FetchResult:
                with timeline.thread_lane(threading.current_thread().name):
                    return fetch(row)

            pending: set[Future[FetchResult]] = set()
            try:
                while True:
                    for row in itertools.islice(rows, 2 * concurrency - len(pending)):
                        pending.add(threads.submit(fetch_in_lane, row))
                    if not pending:
                        return
                    finished, pending = wait(pending, return_when=FIRST_COMPLETED)
                    for future in finished:
                        yield future.result()
            finally:
                for future in pending:
                    future.cancel()


def _body(data: str | None) -> bytes | None:
    if data is None:
        return None
    return Path(data[1:]).read_bytes() if data.startswith("@") else os.fsencode(data)
