"""What a loop's ``_selector`` answers to those who look into asyncio's loops."""

from __future__ import annotations

import selectors
import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import _native


class SelectorView:
    """Which descriptors a loop watches, told as a selector tells it.

    asyncio's pipe and datagram transports ask it when they describe themselves. It only looks: the driver waits. A
    selector that was given to the loop is kept, for nothing but to be closed with it.

    >>> import os, asyncio, aioxide
    >>> async def main():
    ...     loop = asyncio.get_running_loop()
    ...     readable, writable = os.pipe()
    ...     loop.add_reader(readable, print)
    ...     watched = loop._selector.get_key(readable).events == selectors.EVENT_READ
    ...     loop.remove_reader(readable)
    ...     os.close(readable), os.close(writable)
    ...     return watched
    >>> aioxide.run(main())
    True
    """

    def __init__(self, event_loop: _native.Loop, given: selectors.BaseSelector | None) -> None:
        # Weak, so that a loop that nobody closes is freed, and says so, as soon as nobody refers to it.
        self._event_loop = weakref.ref(event_loop)
        self._given = given

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        """What is watched for a descriptor, with its (reader, writer) as data. Raises `KeyError` if nothing is."""
        event_loop = self._event_loop()
        fd = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        watchers = None if event_loop is None else event_loop._watchers_of(fd)
        if watchers is None:
            raise KeyError(f"{fileobj!r} is not registered")
        reader, writer = watchers
        events = (selectors.EVENT_READ if reader is not None else 0) | (
            selectors.EVENT_WRITE if writer is not None else 0
        )
        return selectors.SelectorKey(fileobj, fd, events, (reader, writer))

    def close(self) -> None:
        """Close the selector that the loop was given."""
        if self._given is not None:
            self._given.close()
