"""Carries out what a generator asks for, step by step: it decides, and whoever carries it out waits.

So the same decisions serve blocking code and coroutines.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import Any, TypeVar

_Step = TypeVar("_Step")
_Result = TypeVar("_Result")


def carry_out(steps: Generator[_Step, Any, _Result], perform: Callable[[_Step], Any]) -> _Result:
    """What `steps` returns in the end. Each step gets what `perform` gives for it, or what that raises."""
    try:
        step = next(steps)
        while True:
            try:
                result = perform(step)
            except BaseException as error:  # noqa: BLE001 - the steps decide, and raise it again
                step = steps.throw(error)
            else:
                step = steps.send(result)
    except StopIteration as stop:
        returned: _Result = stop.value
        return returned


async def carry_out_async(steps: Generator[_Step, Any, _Result], perform: Callable[[_Step], Awaitable[Any]]) -> _Result:
    """As `carry_out`, by a `perform` that is awaited."""
    try:
        step = next(steps)
        while True:
            try:
                result = await perform(step)
            except BaseException as error:  # noqa: BLE001 - the steps decide, and raise it again
                step = steps.throw(error)
            else:
                step = steps.send(result)
    except StopIteration as stop:
        returned: _Result = stop.value
        return returned
