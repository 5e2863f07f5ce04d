"""Runs Tornado's tests of its simple client with aioxide's client in its place, on aioxide's loop.

Its arguments are names of modules, classes or tests. It writes a JSON object to the file that comes first: each test by
its id, with what it failed with, or null.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import unittest
import warnings
from pathlib import Path
from typing import Any

import tornado.httpclient
import tornado.simple_httpclient

import aioxide
from aioxide import httpclient, timeline


class Result(unittest.TestResult):
    """Keeps how each test ended; skipped ones are left out."""

    def __init__(self) -> None:
        super().__init__()
        self.outcomes: dict[str, str | None] = {}

    def _fail(self, test: unittest.TestCase, error: Any) -> None:
        self.outcomes[test.id()] = f"{error[0].__name__}: {error[1]}".partition("\n")[0]

    def addSuccess(self, test: unittest.TestCase) -> None:
        self.outcomes.setdefault(test.id(), None)

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:
        self._fail(test, err)

    def addError(self, test: unittest.TestCase, err: Any) -> None:
        self._fail(test, err)

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any) -> None:
        if err is not None:
            self._fail(test, err)


def main() -> None:
    """See the module."""
    # Tornado's tests fail when something is logged that they do not expect, and a busy machine freezes every loop.
    timeline.set_freeze_threshold(None)
    warnings.simplefilter("ignore", DeprecationWarning)
    tornado.simple_httpclient.SimpleAsyncHTTPClient = httpclient.NativeAsyncHTTPClient
    tornado.httpclient.AsyncHTTPClient.configure("aioxide.httpclient.NativeAsyncHTTPClient")
    asyncio.set_event_loop_policy(aioxide.EventLoopPolicy())
    # Some tests look at what is logged, which needs somebody who takes it.
    logging.basicConfig(stream=sys.stderr)
    logging.getLogger("tornado.access").setLevel(logging.CRITICAL)
    result = Result()
    unittest.defaultTestLoader.loadTestsFromNames(sys.argv[2:]).run(result)
    Path(sys.argv[1]).write_text(json.dumps(result.outcomes))


if __name__ == "__main__":
    main()
