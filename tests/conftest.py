"""Fixtures that every test may ask for."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import sysconfig
from collections.abc import Callable, Iterator

import pytest

# A shell that starts something in the background has it ignore Ctrl-C, and so what it starts in turn; the tests do not.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(params=["asyncio", "aioxide"])
def loop_factory(request: pytest.FixtureRequest) -> Callable[[], asyncio.AbstractEventLoop]:
    """What makes a new event loop: a test that asks for it runs on Python's own loop and on ours."""
    if request.param == "asyncio":
        return asyncio.new_event_loop
    try:
        from aioxide import new_event_loop
    except ImportError:
        if os.environ.get("CI"):
            raise  # there it must have been built: skipping would hide that it was not
        pytest.skip("aioxide's native module is not built")
    return new_event_loop


@pytest.fixture
def runner(loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> Iterator[asyncio.Runner]:
    """An `asyncio.Runner` on a loop of `loop_factory`, closed when the test ends."""
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        yield runner


@pytest.fixture(scope="session", autouse=True)
def gil_stays_off() -> Iterator[None]:
    """On a free-threaded build nothing that the tests import or do may turn the GIL on."""
    yield
    if sysconfig.get_config_var("Py_GIL_DISABLED") and os.environ.get("PYTHON_GIL") != "1":
        assert not sys._is_gil_enabled()
