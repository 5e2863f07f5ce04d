"""Which exceptions are the world's fault, and how to say so in one line."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

from aioxide import http, httpclient

__all__ = ["RequestsLostError", "describe", "is_failure", "raising_of_threads"]


class RequestsLostError(Exception):
    """A chapter ended without an answer to each of its requests."""


def is_failure(error: BaseException) -> bool:
    """Whether the network, the site or the machine failed, rather than the program."""
    if isinstance(error, (http.HTTPError, http.InvalidURL, httpclient.HTTPError, RequestsLostError)):
        return True
    # What `Thread.start` raises when the system has no more threads to give.
    no_threads = isinstance(error, RuntimeError) and "can't start new thread" in str(error)
    return isinstance(error, OSError) or no_threads


def describe(error: BaseException) -> str:
    """One line that says what failed; never empty."""
    if isinstance(error, OSError) and error.strerror and error.filename is None:
        text = str(error.strerror)
    else:
        text = str(error)
    return " ".join(text.split()) or type(error).__name__


@contextlib.contextmanager
def raising_of_threads() -> Iterator[list[BaseException]]:
    """Collect what threads raise in a `with` block, and raise the first of it at the block's end.

    Python would print it and let the program end well. When the block itself fails, after Ctrl-C for one, the
    threads that it started are waited for, so that none is left to complain.
    """
    before = set(threading.enumerate())
    errors: list[BaseException] = []

    def hook(arguments: threading.ExceptHookArgs) -> None:
        if arguments.exc_value is not None:
            errors.append(arguments.exc_value)

    original, threading.excepthook = threading.excepthook, hook
    try:
        yield errors
    except BaseException:
        _await_end({thread for thread in threading.enumerate() if not thread.daemon} - before)
        raise
    finally:
        threading.excepthook = original
    if errors:
        raise errors[0]


def _await_end(threads: set[threading.Thread]) -> None:
    # Not by `join`: up to Python 3.12, one that Ctrl-C interrupts takes its thread for ended, and so does every later
    # one. A thread leaves this list after its last word.
    while not threads.isdisjoint(threading.enumerate()):
        time.sleep(0.002)
