"""asyncio's own event loop, with what aioxide's loop uses of its inside written down for type checkers.

These names have been the same in every Python from 3.11 on; `make conformance` notices where a newer one differs.
"""

from __future__ import annotations

import asyncio
from asyncio import base_events
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import logging
    import socket
    from collections.abc import AsyncGenerator, Callable

    class SelectorEventLoop(asyncio.SelectorEventLoop):
        """The running Python's `asyncio.SelectorEventLoop`."""

        _debug: bool
        _thread_id: int | None
        _signal_handlers: dict[int, asyncio.Handle]

        def _check_closed(self) -> None: ...
        def _check_running(self) -> None: ...
        def _set_coroutine_origin_tracking(self, enabled: bool) -> None: ...
        def _asyncgen_firstiter_hook(self, agen: AsyncGenerator[Any, Any]) -> None: ...
        def _asyncgen_finalizer_hook(self, agen: AsyncGenerator[Any, Any]) -> None: ...
        def _make_self_pipe(self) -> None: ...
        def _close_self_pipe(self) -> None: ...
        def _ensure_fd_no_transport(self, fd: Any) -> None: ...
        async def _sendfile_native(self, transp: Any, file: Any, offset: int, count: int | None) -> int: ...
        def _start_serving(self, protocol_factory: Any, sock: socket.socket, *args: Any, **kwargs: Any) -> None: ...
        async def _make_subprocess_transport(self, protocol: Any, *args: Any, **kwargs: Any) -> Any: ...
        def _add_reader(self, fd: Any, callback: Callable[..., Any], *args: Any) -> asyncio.Handle: ...
        def _remove_reader(self, fd: Any) -> bool: ...
        def _accept_connection(self, protocol_factory: Any, sock: socket.socket, *args: Any, **kwargs: Any) -> None: ...

    class SubprocessTransport(asyncio.SubprocessTransport):
        """The running Python's transport of a child process."""

        _loop: asyncio.AbstractEventLoop
        _proc: Any
        _pipes: dict[int, Any]

        def __init__(self, loop: asyncio.AbstractEventLoop, *args: Any, **kwargs: Any) -> None: ...
        async def _connect_pipes(self, waiter: asyncio.Future[None]) -> None: ...
        def _process_exited(self, returncode: int) -> None: ...

    format_handle: Callable[[object], str]
else:
    SelectorEventLoop = asyncio.SelectorEventLoop
    SubprocessTransport = asyncio.unix_events._UnixSubprocessTransport
    format_handle = base_events._format_handle


def logger() -> logging.Logger:
    """The logger of asyncio, from where its own loop takes it."""
    return cast("logging.Logger", cast(Any, base_events).logger)
