"""What lets a chapter of the history run by itself: `python examples/history/03_async.py [URL]`.

A chapter's file ends with `example.run(main)`, where `main` takes the URLs to fetch. Without a URL on the
command line they point to an embedded server, which lives as long as the chapter runs.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from functools import partial
from typing import TextIO

from aioxide._arguments import OneLineParser

from ._arguments import add_load, url_argument
from ._failures import describe, is_failure, raising_of_threads
from ._lines import Line, LineTap
from ._target import EmbeddedServer, require_open_files, urls_from
from ._text import seconds

__all__ = ["run"]


def run(main: Callable[[list[str]], None], argv: Sequence[str] | None = None) -> None:
    """Run one chapter from its own command line, and print its CPU and wall time as IPython's `%%time` does.

    `argv` defaults to the process's arguments. Ends the process with `SystemExit`: status 1 and one line on
    standard error when a request fails or the port is in use, 2 for a wrong argument, 130 after Ctrl-C.

    >>> run(lambda urls: print(len(urls), "URLs"), ["--requests", "3"])  # doctest: +ELLIPSIS
    3 URLs
    CPU times: user ..., sys: ..., total: ...
    Wall time: ...
    """
    arguments = _parser(main).parse_args(argv)
    try:
        require_open_files(2 * arguments.requests)
        if arguments.url is not None:
            _timed(main, urls_from(arguments.url, arguments.requests), nullcontext())
            return
        server = EmbeddedServer(latency=arguments.latency, port=arguments.port)
        _timed(main, urls_from(server.url, arguments.requests), server)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except Exception as error:
        if not is_failure(error):
            raise
        print(f"{sys.argv[0]}: {describe(error)}", file=sys.stderr)
        raise SystemExit(1) from error


def _timed(main: Callable[[list[str]], None], urls: list[str], server: AbstractContextManager[object]) -> None:
    # Without this, lines that several threads print at once may run into each other.
    whole_lines = LineTap(partial(_show, sys.stdout))
    # After Ctrl-C, threads that wait for the server end once it is closed, and are waited for then.
    with redirect_stdout(whole_lines), raising_of_threads(), server:
        usage_before, wall_before = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
        main(urls)
        wall, usage = time.monotonic() - wall_before, resource.getrusage(resource.RUSAGE_SELF)
    user, system = usage.ru_utime - usage_before.ru_utime, usage.ru_stime - usage_before.ru_stime
    print(f"CPU times: user {seconds(user)}, sys: {seconds(system)}, total: {seconds(user + system)}")
    print(f"Wall time: {seconds(wall)}")


def _show(stream: TextIO, line: Line) -> None:
    print(line.text, file=stream, flush=True)


def _parser(main: Callable[[list[str]], None]) -> argparse.ArgumentParser:
    parser = OneLineParser(description=sys.modules[main.__module__].__doc__)
    parser.add_argument(
        "url",
        nargs="?",
        type=url_argument,
        metavar="URL",
        help="where to send them; {n} is the number (default: own server)",
    )
    add_load(parser)
    return parser
