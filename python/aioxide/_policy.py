"""`EventLoopPolicy`, for programs that still choose their loop that way."""

from __future__ import annotations

import asyncio

from ._event_loop import EventLoop


class EventLoopPolicy(asyncio.DefaultEventLoopPolicy):
    """An asyncio policy whose loops are `aioxide.EventLoop`s.

    Policies are deprecated since Python 3.14; prefer a loop factory: ``asyncio.Runner(loop_factory=...)``.

    >>> import asyncio, aioxide
    >>> policy = aioxide.EventLoopPolicy()
    >>> loop = policy.new_event_loop()
    >>> isinstance(loop, aioxide.EventLoop)
    True
    >>> loop.close()
    """

    def _loop_factory(self) -> asyncio.AbstractEventLoop:
        return EventLoop()
