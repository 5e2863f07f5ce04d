"""Child processes: their exit is noticed by a pidfd, on every Python and whatever the application does with SIGCHLD."""

from __future__ import annotations

import asyncio
import functools
import os
import sys
from asyncio import events, tasks, unix_events
from typing import Any

from . import _stock


class SubprocessTransport(_stock.SubprocessTransport):
    """asyncio's own, which before 3.15 leaves the pipes open when connecting them fails or is cancelled."""

    _begun = False

    async def _connect_pipes(self, waiter: asyncio.Future[None]) -> None:
        self._begun = True
        connected = self._loop.create_future()
        await super()._connect_pipes(connected)
        error = connected.exception()
        if error is not None:
            self._close_pipes()
        if waiter.cancelled():
            return
        if error is None:
            waiter.set_result(None)
        else:
            waiter.set_exception(error)

    def abandoned(self) -> None:
        """The start was cancelled, and the child has ended: close what its task, if it never ran, cannot close."""
        if not self._begun:
            self._close_pipes()

    def _close_pipes(self) -> None:
        for connection in self._pipes.values():
            if connection is not None:
                connection.pipe.close()
        for pipe in (self._proc.stdin, self._proc.stdout, self._proc.stderr):
            if pipe is not None:
                pipe.close()


class ChildrenMixin(_stock.SelectorEventLoop):
    """Starts child processes, and waits for each by its pidfd.

    asyncio does so from Python 3.12 on, at the price of asking its policy for a watcher each time; before, it has a
    thread wait for each child. A watcher that the application chose, and a kernel without pidfds, are left to asyncio.
    """

    async def _make_subprocess_transport(
        self,
        protocol: Any,
        args: Any,
        shell: bool,
        stdin: Any,
        stdout: Any,
        stderr: Any,
        bufsize: int,
        extra: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        if not _has_pidfds() or _watcher_was_chosen():
            return await super()._make_subprocess_transport(
                protocol, args, shell, stdin, stdout, stderr, bufsize, extra, **kwargs
            )
        waiter = self.create_future()
        transport = SubprocessTransport(
            self, protocol, args, shell, stdin, stdout, stderr, bufsize, waiter=waiter, extra=extra, **kwargs
        )
        try:
            pidfd = os.pidfd_open(transport.get_pid())
        except OSError:
            # Nothing could tell of its exit: undo the start.
            transport.close()
            transport._process_exited(transport._proc.wait())
            raise
        exited = self.create_future()
        self._add_reader(pidfd, self._child_exited, pidfd, transport, exited)
        try:
            await waiter
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            # The task that connects the pipes may have been cancelled as well: then the transport never finishes, and
            # only the child's own end can be waited for.
            transport.close()
            await tasks.shield(exited)
            transport.abandoned()
            raise
        return transport

    def _child_exited(self, pidfd: int, transport: Any, exited: asyncio.Future[None]) -> None:
        self._remove_reader(pidfd)
        os.close(pidfd)
        pid = transport.get_pid()
        try:
            returncode = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        except ChildProcessError:
            returncode = 255
            _stock.logger().warning(
                "child process pid %d exit status already read:  will report returncode %d", pid, returncode
            )
        if not exited.done():
            exited.set_result(None)
        transport._process_exited(returncode)


@functools.cache
def _has_pidfds() -> bool:
    """Whether the kernel has them, and no sandbox forbids them."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        return False
    return True


if sys.version_info >= (3, 14):

    def _watcher_was_chosen() -> bool:
        return False

else:
    # What the policy makes itself when it is first asked.
    _DEFAULT_WATCHERS = (type(None), unix_events.PidfdChildWatcher, unix_events.ThreadedChildWatcher)

    def _watcher_was_chosen() -> bool:
        watcher = getattr(events.get_event_loop_policy(), "_watcher", None)
        return type(watcher) not in _DEFAULT_WATCHERS
