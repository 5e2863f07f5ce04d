"""The loops under test: Python's own and ours, without debug mode, and ours with it."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Callable, Iterator

import pytest


class Factory:
    """Makes loops of one kind."""

    def __init__(self, name: str, make: Callable[[], asyncio.AbstractEventLoop], debug: bool = False) -> None:
        self.name, self.make, self.debug = name, make, debug

    def __call__(self) -> asyncio.AbstractEventLoop:
        loop = self.make()
        # The tests run under -X dev, which would turn debug mode on for all of them.
        loop.set_debug(self.debug)
        return loop


@pytest.fixture(params=["asyncio", "aioxide", "aioxide-debug"])
def loop_factory(request: pytest.FixtureRequest) -> Factory:
    """What makes a new event loop: a test that asks for it runs on Python's own loop and on ours."""
    if request.param == "asyncio":
        return Factory("asyncio", asyncio.new_event_loop)
    try:
        from aioxide import new_event_loop
    except ImportError:
        if os.environ.get("CI"):
            raise  # there it must have been built: skipping would hide that it was not
        pytest.skip("aioxide's native module is not built")
    return Factory("aioxide", new_event_loop, debug=request.param == "aioxide-debug")


@pytest.fixture
def loop(loop_factory: Factory) -> Iterator[asyncio.AbstractEventLoop]:
    """A loop of each kind, closed in the end."""
    loop = loop_factory()
    yield loop
    loop.close()


@pytest.fixture(autouse=True, scope="module")
def nothing_left_behind() -> Iterator[None]:
    """What a file leaves to the collector is collected in its own time, so that a warning names the right file."""
    yield
    gc.collect()
