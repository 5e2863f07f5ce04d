"""`EventLoopPolicy`, for programs that still choose their loop that way."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from ._event_loop import EventLoop

if TYPE_CHECKING or sys.version_info < (3, 14):
    from asyncio import DefaultEventLoopPolicy
else:
    # Its public name warns from 3.14 on; `aioxide.EventLoopPolicy` does so itself, in the name of whoever asks for it.
    from asyncio.unix_events import _DefaultEventLoopPolicy as DefaultEventLoopPolicy


class EventLoopPolicy(DefaultEventLoopPolicy):
    """An asyncio policy whose loops are `aioxide.EventLoop`s.

    Policies are deprecated since Python 3.14; prefer a loop factory: ``asyncio.Runner(loop_factory=...)``.

    >>> policy = EventLoopPolicy()
    >>> loop = policy.new_event_loop()
    >>> isinstance(loop, EventLoop)
    True
    >>> loop.close()
    """

    def _loop_factory(self) -> asyncio.AbstractEventLoop:
        return EventLoop()
