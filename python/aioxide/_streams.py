"""asyncio's stream classes, with the work of each message done natively.

Nobody makes instances of these: a transport gives these classes to asyncio's own streams, and to no subclass of them.
State and behaviour are those of the base classes.
"""

from __future__ import annotations

import asyncio

from . import _native


class StreamReader(asyncio.StreamReader):
    """An `asyncio.StreamReader`."""

    __slots__ = ()


class StreamReaderProtocol(asyncio.StreamReaderProtocol):
    """An `asyncio.StreamReaderProtocol`."""

    __slots__ = ()


_native.add_stream_methods(StreamReader, StreamReaderProtocol)
