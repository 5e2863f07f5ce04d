"""Context managers that also decorate functions and coroutine functions."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, cast

__all__ = ["Decorating"]

_P = ParamSpec("_P")
_R = TypeVar("_R")


class Decorating:
    """A context manager that can stand before a function: it then surrounds each call, or each run of a coroutine."""

    def __enter__(self) -> Self:
        raise NotImplementedError

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        raise NotImplementedError

    def __call__(self, function: Callable[_P, _R]) -> Callable[_P, _R]:
        """Surround every call of `function`, or every run of the coroutines that it makes."""

        @functools.wraps(function)
        def surround_call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            with self:
                return function(*args, **kwargs)

        @functools.wraps(function)
        async def surround_coroutine(*args: _P.args, **kwargs: _P.kwargs) -> Any:
            with self:
                return await cast(Any, function)(*args, **kwargs)

        return cast(Callable[_P, _R], surround_coroutine) if inspect.iscoroutinefunction(function) else surround_call
