"""A pytest plugin: ``pytest --aioxide-freeze=50ms`` fails a test whose code blocks an aioxide loop for that long."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from ._arguments import seconds

if TYPE_CHECKING:
    from .timeline import Freeze


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.getgroup("aioxide").addoption(
        "--aioxide-freeze",
        metavar="DURATION",
        type=seconds,
        help="fail a test whose code blocks an aioxide event loop for so long, such as 50ms",
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Run a test, and fail it if it froze a loop."""
    threshold: float | None = item.config.getoption("--aioxide-freeze")
    if threshold is None:
        return (yield)
    from . import timeline

    freezes: list[Freeze] = []
    before = timeline.freeze_threshold()
    remove = timeline.on_freeze(freezes.append)
    timeline.set_freeze_threshold(threshold)
    try:
        result = yield
    finally:
        timeline.set_freeze_threshold(before)
        remove()
    faults = [freeze for freeze in freezes if freeze.is_own_fault]
    if faults:
        pytest.fail("\n".join(map(str, faults)), pytrace=False)
    return result
