"""Runs a Python program in this process as `python` itself would: its `__main__`, arguments, path, tracebacks, exit."""

from __future__ import annotations

import asyncio
import builtins
import io
import os
import pkgutil
import runpy
import sys
from collections.abc import Sequence
from importlib.machinery import SourceFileLoader
from types import CodeType, ModuleType, TracebackType
from typing import Any, cast

from .._policy import EventLoopPolicy

__all__ = ["run_module", "run_script", "use_our_loops"]


def use_our_loops() -> None:
    """Have `asyncio.run`, `asyncio.Runner` and `asyncio.new_event_loop` make aioxide's loops in this process."""
    # From 3.14 on the public function warns: the program did not ask for a policy, so it should not hear of one.
    set_policy = getattr(asyncio.events, "_set_event_loop_policy", asyncio.set_event_loop_policy)
    set_policy(EventLoopPolicy())


def run_script(path: str, arguments: Sequence[str]) -> None:
    """Run a file, or a folder or zip file with a ``__main__.py``.

    Raises `OSError` if it cannot be read, and whatever the program does, `SystemExit` included.
    """
    sys.argv[:] = [path, *arguments]
    if pkgutil.get_importer(path) is not None:
        if sys.flags.safe_path:
            sys.path.insert(0, "")  # the program itself is found there even so
        sys.path[0] = os.path.abspath(path)
        _new_main()
        _call_main("__main__", is_module=False)
        return
    whole = os.path.join(os.getcwd(), path)
    code = _code(whole)
    _set_first_path(os.path.dirname(os.path.realpath(whole)))
    main = _new_main()
    main.__file__ = whole
    main.__loader__ = SourceFileLoader("__main__", whole)
    try:
        exec(code, main.__dict__)
    except BaseException as error:
        _hide_our_frames(error)
        raise


def run_module(name: str, arguments: Sequence[str]) -> None:
    """Run a module as ``python -m`` does.

    Raises whatever the program does, `SystemExit` included.
    """
    sys.argv[:] = ["-m", *arguments]
    _set_first_path(os.getcwd())
    _new_main()
    _call_main(name, is_module=True)


def _call_main(name: str, *, is_module: bool) -> None:
    try:
        # What the interpreter itself calls.
        cast(Any, runpy)._run_module_as_main(name, is_module)
    except BaseException as error:
        _hide_our_frames(error)
        raise


def _set_first_path(folder: str) -> None:
    if not sys.flags.safe_path:
        # In front is the folder of whoever started us: of our own script, or the current one.
        sys.path[0] = folder


def _new_main() -> ModuleType:
    """A `__main__` that knows nothing of us."""
    main = sys.modules["__main__"] = ModuleType("__main__")
    main.__dict__["__builtins__"] = builtins
    return main


def _code(path: str) -> CodeType:
    try:
        with io.open_code(path) as file:
            compiled: CodeType | None = cast(Any, pkgutil).read_code(file)
        if compiled is not None:
            return compiled
        with io.open_code(path) as file:
            source = file.read()
    except IsADirectoryError:
        raise FileNotFoundError(f"can't find '__main__' module in {path!r}") from None
    try:
        return compile(source, path, "exec", dont_inherit=True)
    except BaseException as error:  # a SyntaxError
        _hide_our_frames(error)
        raise


def _hide_our_frames(error: BaseException) -> None:
    """Have the interpreter show a traceback that begins in the program, as it would if it ran the program itself."""
    shown = error.__traceback__
    while shown is not None and shown.tb_frame.f_globals.get("__name__") == __name__:
        shown = shown.tb_next
    hook = sys.excepthook

    def show(kind: type[BaseException], value: BaseException, traceback: TracebackType | None) -> None:
        sys.excepthook = hook
        if value is error:
            traceback = shown
            value.__traceback__ = shown
        hook(kind, value, traceback)

    sys.excepthook = show
