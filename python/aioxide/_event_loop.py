"""The event loop: native where it is hot, asyncio's own where it is cold.

`EventLoop` takes scheduling, timers, descriptors, socket operations, transports and the turn itself from
`_native.Loop`, the watch over child processes from `ChildrenMixin`, and everything else (connecting, serving, pipes,
signals, executors, async generators) from the `asyncio.SelectorEventLoop` of the running Python, so that it behaves as
that version does.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextvars
import errno
import functools
import gc
import os
import selectors
import signal
import socket
import ssl
import sys
import threading
import weakref
from asyncio import constants, events, format_helpers, sslproto, trsock
from collections.abc import Callable
from typing import Any, Final, TypeVar, TypeVarTuple, Unpack, cast

from . import _native, _stock
from . import _waits as _waits  # what the native half asks when a task first waits somewhere
from ._children import ChildrenMixin
from ._executor import submit, takes_items
from ._selector import SelectorView

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

# The last argument of asyncio's methods for serving, where they have it.
_NO_CONTEXT: Final = (None,) if sys.version_info >= (3, 15) else ()
_SERVES_TOP: Final = os.environ.get("AIOXIDE_TOP") == "1"
_OUT_OF_RESOURCES: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class EventLoop(_native.Loop, ChildrenMixin):
    """A drop-in for asyncio's event loop.

    It is used like any other: through `aioxide.run`, or as a loop factory. It belongs to the thread that runs it;
    other threads may only use `call_soon_threadsafe` (and what builds on it).

    Raises `OSError` (``EMFILE``) when no file descriptor is left for it.

    >>> import asyncio, aioxide
    >>> with asyncio.Runner(loop_factory=aioxide.EventLoop) as runner:
    ...     runner.run(asyncio.sleep(0, "done"))
    'done'
    """

    # What asyncio's loop and ours keep in attributes. While a loop's `__dict__` is empty, the interpreter takes methods
    # from the class without a look into it; a name that is missing here is found in the `__dict__` all the same.
    __slots__ = (
        *("_asyncgens", "_asyncgens_shutdown_called", "_clock_resolution", "_coroutine_origin_tracking_enabled"),
        *("_coroutine_origin_tracking_saved_depth", "_csock", "_current_handle", "_default_executor"),
        *("_exception_handler", "_executor_shutdown_called", "_hooks_before", "_internal_fds", "_old_agen_hooks"),
        *("_ready", "_scheduled", "_selector", "_signal_handlers", "_ssock", "_stopping", "_timer_cancelled_count"),
        *("_transports", "_unix_server_sockets", "_wakeup_fd_before", "_watcher", "slow_callback_duration"),
    )

    # The pair of sockets by which signals wake the loop: made when the loop first runs in the main thread.
    _ssock: socket.socket | None
    _csock: socket.socket | None

    def __init__(self, selector: selectors.BaseSelector | None = None) -> None:
        self._ssock = self._csock = None
        self._internal_fds = 0
        super().__init__(cast(selectors.BaseSelector, SelectorView(self, selector)))
        self._hooks_before: Any = None
        self._wakeup_fd_before: int | None = None
        _open_loops.add(self)
        if _SERVES_TOP:
            from .timeline import serve

            serve()

    # -- running ------------------------------------------------------------------------------------------------

    def run_forever(self) -> None:
        """Run until `stop()` is called.

        Raises `RuntimeError` if this loop is closed, or if it or another loop is running in this thread.
        """
        self._run_forever_setup()
        try:
            self._run()
        finally:
            self._run_forever_cleanup()

    # Since 3.13 these two are asyncio's hooks for subclasses that run the loop inside another one.

    def _run_forever_setup(self) -> None:
        self._check_closed()
        self._check_running()
        self._set_coroutine_origin_tracking(self._debug)
        self._hooks_before = sys.get_asyncgen_hooks()
        self._wakeup_fd_before = self._begin_signals()
        self._thread_id = threading.get_ident()
        sys.set_asyncgen_hooks(firstiter=self._asyncgen_firstiter_hook, finalizer=self._asyncgen_finalizer_hook)
        events._set_running_loop(self)

    def _run_forever_cleanup(self) -> None:
        self._thread_id = None
        events._set_running_loop(None)
        self._set_coroutine_origin_tracking(False)
        if self._hooks_before is not None:
            sys.set_asyncgen_hooks(*self._hooks_before)
            self._hooks_before = None
        self._end_signals(self._wakeup_fd_before)

    def close(self) -> None:
        """Free everything that the loop holds. Harmless when it is closed already.

        Raises `RuntimeError` if the loop is running.
        """
        if self.is_running():
            raise RuntimeError("Cannot close a running event loop")
        if self.is_closed():
            return
        super().close()
        self._close()
        _open_loops.discard(self)

    def _renew_after_fork(self) -> None:
        """In a fork's child: have a pair of sockets of our own, or the parent would hear of the child's signals."""
        if self._ssock is None or self._csock is None:
            return
        for mine, inherited in zip(socket.socketpair(), (self._ssock, self._csock), strict=True):
            with mine:
                mine.setblocking(False)
                os.dup2(mine.fileno(), inherited.fileno(), inheritable=False)

    # -- signals ------------------------------------------------------------------------------------------------

    def _begin_signals(self) -> int | None:
        """Let signals wake the loop; give back the descriptor that was to be woken before."""
        if threading.current_thread() is not threading.main_thread():
            return None
        ours = self._need_self_pipe().fileno()
        before = signal.set_wakeup_fd(ours, warn_on_full_buffer=False)
        if before not in (-1, ours):
            # Somebody else wants to hear of signals; we still notice them when they interrupt a wait.
            signal.set_wakeup_fd(before, warn_on_full_buffer=False)
        return before

    def _end_signals(self, before: int | None) -> None:
        if before is None or self._csock is None:
            return
        if self._signal_handlers:
            # Handlers stay in force between runs, as in asyncio.
            return
        signal.set_wakeup_fd(-1 if before == self._csock.fileno() else before)

    def add_signal_handler(self, sig: int, callback: Callable[[Unpack[_Ts]], Any], *args: *_Ts) -> None:
        """Call `callback(*args)` on the loop when the process gets signal `sig`. Main thread only."""
        self._check_closed()
        self._need_self_pipe()
        super().add_signal_handler(sig, callback, *args)

    def remove_signal_handler(self, sig: int) -> bool:
        """Undo `add_signal_handler`; whether there was a handler."""
        removed: bool = super().remove_signal_handler(sig)
        if removed and self.is_running() and self._csock is not None:
            signal.set_wakeup_fd(self._csock.fileno(), warn_on_full_buffer=False)
        return removed

    def _make_self_pipe(self) -> None:
        """Nothing, for `SelectorEventLoop` calls it at once: the driver needs no sockets to be woken."""

    def _need_self_pipe(self) -> socket.socket:
        if self._csock is None:
            super()._make_self_pipe()
        assert self._csock is not None
        return self._csock

    def _close_self_pipe(self) -> None:
        if self._ssock is not None:
            super()._close_self_pipe()

    # -- executors ----------------------------------------------------------------------------------------------

    def run_in_executor(
        self, executor: concurrent.futures.Executor | None, func: Callable[[Unpack[_Ts]], _T], *args: *_Ts
    ) -> asyncio.Future[_T]:
        """Call `func(*args)` on a thread of `executor`, or of the default one; the timeline shows it there.

        Raises `RuntimeError` if the loop is closed or the executor shut down.
        """
        this = cast(Any, self)
        used = this._default_executor if executor is None else executor
        if used is not None and not takes_items(used):
            return super().run_in_executor(executor, func, *args)
        if self._debug:
            this._check_callback(func, "run_in_executor")
        if _native.timeline_level() != "counters":
            func = cast(Callable[[Unpack[_Ts]], _T], _native.ExecutorCall(func))
        if used is None:  # asyncio makes it
            return super().run_in_executor(None, func, *args)
        this._check_closed()
        if executor is None:
            this._check_default_executor()
        return submit(self, used, func, args)

    # -- errors -------------------------------------------------------------------------------------------------

    def _callback_failed(self, handle: Any, exception: BaseException) -> None:
        """Report what a callback raised, as `asyncio.Handle` does."""
        source = format_helpers._format_callback_source(handle._callback, handle._args or ())
        context = {"message": f"Exception in callback {source}", "exception": exception, "handle": handle}
        if handle._source_traceback:
            context["source_traceback"] = handle._source_traceback
        self.call_exception_handler(context)

    def _callback_was_slow(self, what: Any, seconds: float) -> None:
        """Log a slow handle, or a transport whose protocol was slow."""
        shown = repr(what) if isinstance(what, asyncio.BaseTransport) else _stock.format_handle(what)
        _stock.logger().warning("Executing %s took %.3f seconds", shown, seconds)

    # -- transports ---------------------------------------------------------------------------------------------

    def _make_socket_transport(
        self,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[Any] | None = None,
        *,
        extra: dict[str, Any] | None = None,
        server: Any = None,
        context: contextvars.Context | None = None,
    ) -> asyncio.Transport:
        self._ensure_fd_no_transport(sock)
        return cast(asyncio.Transport, _native.SocketTransport(self, sock, protocol, waiter, extra, server, context))

    def _make_datagram_transport(
        self,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        address: Any = None,
        waiter: asyncio.Future[Any] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> asyncio.DatagramTransport:
        self._ensure_fd_no_transport(sock)
        transport = _native.DatagramTransport(self, sock, protocol, address, waiter, extra)
        return cast(asyncio.DatagramTransport, transport)

    def _make_ssl_transport(
        self,
        rawsock: socket.socket,
        protocol: asyncio.BaseProtocol,
        sslcontext: ssl.SSLContext | bool | None,
        waiter: asyncio.Future[Any] | None = None,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        extra: dict[str, Any] | None = None,
        server: Any = None,
        ssl_handshake_timeout: float | None = constants.SSL_HANDSHAKE_TIMEOUT,
        ssl_shutdown_timeout: float | None = constants.SSL_SHUTDOWN_TIMEOUT,
        context: contextvars.Context | None = None,
    ) -> asyncio.Transport:
        tls_context = sslcontext or sslproto._create_transport_context(server_side, server_hostname)
        transport = cast(Any, _native.TlsTransport)(
            self,
            protocol,
            tls_context,
            waiter,
            server_side,
            server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )
        self._make_socket_transport(rawsock, transport, extra=extra, server=server, context=context)
        return cast(asyncio.Transport, transport)

    async def start_tls(
        self,
        transport: asyncio.BaseTransport,
        protocol: asyncio.BaseProtocol,
        sslcontext: ssl.SSLContext,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> asyncio.Transport:
        """Go on with TLS over a connected transport; any that asyncio knows will do, TLS included.

        The result is the transport that `protocol` is to use from now on; its `connection_made` is not called again.

        Raises `TypeError` for a transport or context that does not fit, and whatever ended the handshake:
        `ssl.SSLError` and its kin, `ConnectionError`.
        """
        if not isinstance(sslcontext, ssl.SSLContext):
            raise TypeError(f"sslcontext is expected to be an instance of ssl.SSLContext, got {sslcontext!r}")
        if not getattr(transport, "_start_tls_compatible", False):
            raise TypeError(f"transport {transport!r} is not supported by start_tls()")
        lower = cast(asyncio.Transport, transport)
        waiter = self.create_future()
        tls = cast(Any, _native.TlsTransport)(
            self,
            protocol,
            sslcontext,
            waiter,
            server_side,
            server_hostname,
            call_connection_made=False,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )
        # No data may reach the new protocol before its connection_made().
        lower.pause_reading()
        early = _taken_from_reader(protocol) if server_side else b""
        lower.set_protocol(tls)
        steps = [self.call_soon(tls.connection_made, lower)]
        if early:
            steps.append(self.call_soon(tls.data_received, early))
        steps.append(self.call_soon(lower.resume_reading))
        try:
            await waiter
        except BaseException:
            lower.close()
            for step in steps:
                step.cancel()
            # The exception is the waiter's, and its traceback has this frame: they would keep each other alive.
            del waiter
            raise
        return cast(asyncio.Transport, tls)

    def _ensure_fd_no_transport(self, fd: Any) -> None:
        super()._ensure_fd_no_transport(fd)
        number = fd if isinstance(fd, int) else fd.fileno()
        transport = self._transport_of(number)
        if transport is not None and not transport.is_closing():
            raise RuntimeError(f"File descriptor {fd!r} is used by transport {transport!r}")

    async def _sendfile_native(self, transp: Any, file: Any, offset: int, count: int | None) -> int:
        if not isinstance(transp, _native.SocketTransport):
            return await super()._sendfile_native(transp, file, offset, count)
        was_reading = transp.is_reading()
        transp.pause_reading()
        empty = transp._make_empty_waiter()
        try:
            await empty
            sock: Any = transp._sock
            # A descriptor that belongs to a transport is refused to sock_sendfile(): go through a duplicate.
            with socket.socket(fileno=os.dup(sock.fileno())) as duplicate:
                duplicate.setblocking(False)
                return await self.sock_sendfile(duplicate, file, offset, count, fallback=False)
        finally:
            transp._reset_empty_waiter()
            if was_reading:
                transp.resume_reading()

    # -- serving ------------------------------------------------------------------------------------------------

    def _start_serving(self, protocol_factory: Any, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        # Called again after a pause, in which the server may have been closed.
        if sock.fileno() != -1:
            super()._start_serving(protocol_factory, sock, *args, **kwargs)

    def _accept_connection(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        sock: socket.socket,
        sslcontext: ssl.SSLContext | None = None,
        server: Any = None,
        backlog: int = 100,
        ssl_handshake_timeout: float | None = constants.SSL_HANDSHAKE_TIMEOUT,
        ssl_shutdown_timeout: float | None = constants.SSL_SHUTDOWN_TIMEOUT,
        *context: contextvars.Context | None,
    ) -> None:
        """Accept what waits in the backlog; no connection needs a task of its own, TLS or not.

        Since 3.15 a last argument has the server's `context`, of which each connection gets a copy.
        """
        rest = (sslcontext, server, backlog, ssl_handshake_timeout, ssl_shutdown_timeout, *(context or _NO_CONTEXT))
        given = context[0] if context else None
        make: Callable[..., asyncio.Transport] = self._make_socket_transport
        if sslcontext:
            make = functools.partial(
                self._make_ssl_transport,
                sslcontext=sslcontext,
                server_side=True,
                ssl_handshake_timeout=ssl_handshake_timeout,
                ssl_shutdown_timeout=ssl_shutdown_timeout,
            )
        # Debug mode tells of each connection, and why one was not made.
        is_native = not sslcontext and not self._debug
        for _ in range(backlog + 1):
            if sock.fileno() == -1:
                return  # the last connection's protocol factory has closed the server
            try:
                if is_native:
                    if _native.accept_connection(self, sock, protocol_factory, server, given):
                        continue
                    return
                accepted = self._accept(sock)
            except ConnectionAbortedError:
                continue
            except OSError as error:
                if error.errno not in _OUT_OF_RESOURCES:
                    raise
                self._pause_accepting(error, protocol_factory, sock, *rest)
                return
            if accepted is None:
                return
            conn, address = accepted
            if self._debug:
                _stock.logger().debug("%r got a new connection from %r: %r", server, address, conn)
            # As if each had its task: what its protocol's factory sets in the context is seen by this connection alone.
            own = contextvars.copy_context() if given is None else given.copy()
            for_good = None if given is None else own
            own.run(self._start_connection, protocol_factory, make, conn, address, server, for_good)

    def _pause_accepting(self, error: OSError, factory: Any, sock: socket.socket, *rest: Any) -> None:
        """Out of descriptors: the kernel would report the same connection without end, so look away for a while."""
        self.call_exception_handler(
            {
                "message": "socket.accept() out of system resource",
                "exception": error,
                "socket": trsock.TransportSocket(sock),
            }
        )
        self._remove_reader(sock.fileno())
        self.call_later(constants.ACCEPT_RETRY_DELAY, self._start_serving, factory, sock, *rest)

    def _start_connection(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        make_transport: Callable[..., asyncio.Transport],
        conn: socket.socket,
        address: Any,
        server: Any,
        context: contextvars.Context | None,
    ) -> None:
        made: dict[str, Any] = {}
        try:
            made["protocol"] = protocol = protocol_factory()
            # What becomes of it is the protocol's business; only who debugs hears of a connection that is not made.
            waiter = self.create_future() if self._debug else None
            made["transport"] = make_transport(
                conn, protocol, waiter=waiter, extra={"peername": address}, server=server, context=context
            )
        except (SystemExit, KeyboardInterrupt):
            conn.close()
            raise
        except BaseException as error:  # noqa: BLE001 - it ends this connection alone, as in asyncio
            conn.close()
            self._report_not_made(error, made)
            return
        if waiter is not None:
            waiter.add_done_callback(lambda waiter: self._report_not_made(waiter.exception(), made))

    def _report_not_made(self, error: BaseException | None, made: dict[str, Any]) -> None:
        if self._debug and error is not None:
            message = "Error on transport creation for incoming connection"
            self.call_exception_handler({"message": message, "exception": error, **made})


_native.add_loop_methods(EventLoop)

_open_loops: weakref.WeakSet[EventLoop] = weakref.WeakSet()


def open_loops() -> list[EventLoop]:
    """The loops that are not closed, of all threads."""
    # A set is copied at once, while one that is walked through may change under the walker.
    references: set[weakref.ref[EventLoop]] = _open_loops.data.copy()  # type: ignore[attr-defined]
    return [loop for reference in references if (loop := reference()) is not None]


def _taken_from_reader(protocol: asyncio.BaseProtocol) -> bytes:
    """What a stream's reader was fed before TLS began: the peer's handshake. The reader has it no more.

    Left where it is, it would be read as if it had come encrypted.
    """
    reader = getattr(protocol, "_stream_reader", None) if isinstance(protocol, asyncio.StreamReaderProtocol) else None
    if reader is None:
        return b""
    early = bytes(reader._buffer)
    reader._buffer.clear()
    return early


def _after_fork_in_child() -> None:
    for loop in _open_loops:
        loop._renew_after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)


def _before_fork() -> None:
    global _was_watched
    _was_watched = _native.timeline_unwatch()


def _after_fork_in_parent() -> None:
    if _was_watched:
        _native.timeline_watch()


# The thread that looks at frozen loops would make a fork that of a process with threads.
_was_watched = False
os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent)
atexit.register(_native.timeline_end_watch)
gc.callbacks.append(_native.timeline_collection)


def new_event_loop() -> EventLoop:
    """A new `EventLoop`: the loop factory for `asyncio.Runner`, uvicorn's ``--loop`` and others.

    >>> loop = new_event_loop()
    >>> loop.run_until_complete(asyncio.sleep(0, "done"))
    'done'
    >>> loop.close()
    """
    return EventLoop()
