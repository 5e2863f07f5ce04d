"""What the native half asks Python for when somebody looks: representations, stacks, log lines. All of it is cold."""

from __future__ import annotations

import sys
import traceback
from asyncio import format_helpers
from asyncio.log import logger
from typing import Any


def caller_stack() -> traceback.StackSummary:
    """The stack of whoever called the native method that asks."""
    return format_helpers.extract_stack(sys._getframe(1))


def handle_repr(handle: Any) -> str:
    """A handle as `asyncio` shows it: what it calls, and in debug mode where it was made."""
    if handle._repr is not None:
        return str(handle._repr)
    info = [type(handle).__name__]
    if handle._cancelled:
        info.append("cancelled")
    if hasattr(handle, "when"):
        info.append(f"when={handle.when()}")
    if handle._callback is not None:
        info.append(format_helpers._format_callback_source(handle._callback, handle._args or ()))
    if handle._source_traceback:
        frame = handle._source_traceback[-1]
        info.append(f"created at {frame[0]}:{frame[1]}")
    return "<{}>".format(" ".join(info))


def log_transport_error(transport: Any, message: str, error: BaseException) -> None:
    """A network error ends a connection quietly; in debug mode the log says why."""
    logger.debug("%r: %s", transport, message, exc_info=error)
