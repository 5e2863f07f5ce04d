"""Coroutines written as generators with `yield from`: `@asyncio.coroutine`, which Python 3.11 removed.

From Python 3.4 on a generator could hand its caller over to another one with `yield from` and take its result with
`return`, and asyncio's coroutines were written so until `async def` came with 3.5. `aioxide.coroutine` brings
them back, beside and mixed with native ones.

    >>> import asyncio
    >>> from aioxide.coroutines import coroutine
    >>> async def native(n):
    ...     return n + 1
    >>> @coroutine
    ... def inner(n):
    ...     yield from asyncio.sleep(0.001)
    ...     return (yield from native(n))
    >>> @coroutine
    ... def main():
    ...     task = asyncio.create_task(inner(1))
    ...     return (yield from inner(10)), (yield from task)
    >>> asyncio.run(main())
    (11, 2)
"""

from __future__ import annotations

import asyncio
import collections.abc
import functools
import inspect
import sys
import types
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, Generic, ParamSpec, TypeVar, overload

__all__ = ["GeneratorCoroutine", "coroutine"]

_T = TypeVar("_T")
_T_co = TypeVar("_T_co", covariant=True)
_P = ParamSpec("_P")


class GeneratorCoroutine(Coroutine[Any, Any, _T_co], Generic[_T_co]):
    """What a function decorated with `coroutine` returns: a generator that asyncio accepts as a coroutine.

    Since Python 3.12 asyncio takes no generators for coroutines, so this stands around one. `yield from` and `await`
    reach through to the generator itself. Like a native coroutine it can be run once, and a warning tells if it never
    was.

    Raises:
        RuntimeError: when it is awaited, yielded from or made a task after it has ended.

    Example:
        >>> @coroutine
        ... def one():
        ...     yield
        ...     return 1
        >>> asyncio.iscoroutine(one_of_them := one()), asyncio.run(one_of_them)
        (True, 1)
    """

    __slots__ = ("__name__", "__qualname__", "__weakref__", "_begun", "_generator")

    def __init__(self, generator: types.GeneratorType[Any, Any, _T_co], name: str, qualname: str) -> None:
        self._begun = False
        self._generator = generator
        self.__name__ = name
        self.__qualname__ = qualname

    def send(self, value: Any, /) -> Any:
        """Resume it with `value`, up to the next `yield`; see `collections.abc.Coroutine`."""
        return self._unfinished().send(value)

    def throw(self, typ: Any, val: Any = None, tb: types.TracebackType | None = None, /) -> Any:
        """Raise an exception at the `yield` where it is suspended; see `collections.abc.Coroutine`."""
        generator = self._unfinished()
        if val is None and tb is None:
            return generator.throw(typ)
        # The form with three arguments is deprecated for generators.
        exc: BaseException = val if isinstance(val, BaseException) else typ() if val is None else typ(val)
        return generator.throw(exc if tb is None else exc.with_traceback(tb))

    def close(self) -> None:
        """Raise `GeneratorExit` where it is suspended, or keep it from ever starting; see `generator.close`."""
        self._begun = True
        self._generator.close()

    def __await__(self) -> Generator[Any, Any, _T_co]:
        # Python refuses generators with the flag that `types.coroutine` sets here, and native ones inside without it.
        return _delegate(self._unfinished())

    def __iter__(self) -> Generator[Any, Any, _T_co]:
        return self._unfinished()

    def _unfinished(self) -> types.GeneratorType[Any, Any, _T_co]:
        self._begun = True
        # A generator that has ended ends again at once, with None; a coroutine says that something is wrong.
        if self._generator.gi_frame is None:
            raise RuntimeError(f"cannot reuse the coroutine {self.__qualname__!r}: it has ended")
        return self._generator

    # What debuggers, asyncio's own representation of tasks and its stacks ask of a coroutine.

    @property
    def cr_await(self) -> Any:
        """What it is suspended in by `yield from`, or None."""
        return self._generator.gi_yieldfrom

    @property
    def cr_code(self) -> types.CodeType:
        """The generator's code."""
        return self._generator.gi_code

    @property
    def cr_frame(self) -> types.FrameType | None:
        """The generator's frame; None when it has ended."""
        return self._generator.gi_frame

    @property
    def cr_running(self) -> bool:
        """Whether it is running at this moment."""
        return self._generator.gi_running

    def __repr__(self) -> str:
        return f"<coroutine object {self.__qualname__} at {id(self):#x}>"

    def __del__(self) -> None:
        if not self._begun:
            warnings.warn(f"coroutine {self.__qualname__!r} was never awaited", RuntimeWarning, 2, source=self)


def _delegate(generator: Generator[Any, Any, _T]) -> Generator[Any, Any, _T]:
    return (yield from generator)


@overload
def coroutine(func: Callable[_P, Generator[Any, Any, _T]]) -> Callable[_P, GeneratorCoroutine[_T]]: ...


@overload
def coroutine(  # type: ignore[overload-overlap]  # an awaitable too, but comes back unchanged
    func: Callable[_P, Coroutine[Any, Any, _T]],
) -> Callable[_P, Coroutine[Any, Any, _T]]: ...


@overload
def coroutine(func: Callable[_P, Awaitable[_T]]) -> Callable[_P, GeneratorCoroutine[_T]]: ...


@overload
def coroutine(func: Callable[_P, _T]) -> Callable[_P, GeneratorCoroutine[_T]]: ...


def coroutine(func: Callable[..., Any]) -> Callable[..., Any]:
    """Make a generator function a coroutine function, as `asyncio.coroutine` did.

    In the generator, `yield from` waits for a future, a task, a native coroutine, another such coroutine, or any other
    awaitable that has `__iter__`; a bare `yield` lets the loop take one turn; `return` gives the result. Nothing runs
    until the coroutine is awaited, yielded from or made a task: `asyncio.run`, `create_task`, `gather` and the others
    take it as they take native coroutines, and cancellation reaches it as `asyncio.CancelledError` at its `yield from`.

    To write `yield future` where `yield from future` is meant is a mistake that asyncio reports by a `RuntimeError`,
    "yield was used instead of yield from", raised at that `yield`. (In a `gen.coroutine` it is right.)

    Type checkers follow all of it but one: they know `yield from` of a native coroutine only below `types.coroutine`.

    A function that is no generator may be decorated too: it is called when the coroutine runs, and if it returns a
    generator or an awaitable, that is waited for. An `async def` function is returned as it is.

    Raises:
        TypeError: on decorating an asynchronous generator function.

    Example:
        >>> @coroutine
        ... def answer():
        ...     value = yield from asyncio.sleep(0, result=41)
        ...     return value + 1
        >>> asyncio.run(answer())
        42
    """
    if inspect.isasyncgenfunction(func):
        raise TypeError(f"{func!r} is an asynchronous generator function: iterate it with `async for`")
    if inspect.iscoroutinefunction(func):
        return func
    # The flag that `types.coroutine` gives the generators lets them `yield from` native coroutines.
    generator_function: Callable[..., types.GeneratorType[Any, Any, Any]] = types.coroutine(
        func if inspect.isgeneratorfunction(func) else _calling(func)
    )
    name = getattr(func, "__name__", type(func).__name__)
    qualname = getattr(func, "__qualname__", name)

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> GeneratorCoroutine[Any]:
        return GeneratorCoroutine(generator_function(*args, **kwargs), name, qualname)

    return _marked(wrapper)


def _calling(func: Callable[..., Any]) -> Callable[..., Generator[Any, Any, Any]]:
    """A generator function that calls `func`, which is none, and waits for what that returns if it can be."""

    def call(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        result = func(*args, **kwargs)
        if inspect.isgenerator(result) or asyncio.isfuture(result):
            return (yield from result)
        if isinstance(result, collections.abc.Awaitable):
            return (yield from result.__await__())
        return result

    return call


if sys.version_info >= (3, 12):
    _marked = inspect.markcoroutinefunction
else:
    from asyncio.coroutines import _is_coroutine  # type: ignore[attr-defined]

    def _marked(func: Callable[..., Any]) -> Callable[..., Any]:
        """Let `asyncio.iscoroutinefunction` say yes to `func`."""
        func.__dict__["_is_coroutine"] = _is_coroutine
        return func
