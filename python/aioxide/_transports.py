"""The classes that native transports say they are of.

A native class cannot inherit asyncio's Python classes, whose instances are laid out differently. So a transport's
``__class__`` names one of these, and `isinstance` answers as for asyncio's own transports.
"""

from __future__ import annotations

import asyncio
from asyncio import transports


class SocketTransport(transports._FlowControlMixin, asyncio.Transport):
    """What ``__class__`` of a native stream transport is; no instance is made of it.

    >>> issubclass(SocketTransport, asyncio.Transport)
    True
    """

    __slots__ = ()


class DatagramTransport(transports._FlowControlMixin, asyncio.Transport, asyncio.DatagramTransport):
    """What ``__class__`` of a native datagram transport is; asyncio's own is an `asyncio.Transport`, too.

    >>> issubclass(DatagramTransport, asyncio.DatagramTransport)
    True
    """

    __slots__ = ()


SocketTransport.__module__ = "aioxide"
DatagramTransport.__module__ = "aioxide"
