"""What a suspended task waits for, told from the coroutine that is suspended in it: the names of waits in the timeline.

A name has a kind, by which the picture colours it, and says who waits: ``lock: Lock.acquire``.
"""

from __future__ import annotations

import asyncio
from types import CodeType
from typing import Any, Final

# The end of a coroutine's module and its qualified name, and what it waits for.
_COROUTINES: Final = {
    ("asyncio/tasks.py", "sleep"): "timer",
    ("asyncio/tasks.py", "_wait"): "tasks",
    ("asyncio/tasks.py", "wait_for"): "tasks",
    ("asyncio/tasks.py", "_wait_for_one"): "tasks",
    ("asyncio/taskgroups.py", "TaskGroup._aexit"): "tasks",
    ("asyncio/taskgroups.py", "TaskGroup.__aexit__"): "tasks",
    ("asyncio/locks.py", "Lock.acquire"): "lock",
    ("asyncio/locks.py", "Event.wait"): "lock",
    ("asyncio/locks.py", "Condition.wait"): "lock",
    ("asyncio/locks.py", "Semaphore.acquire"): "lock",
    ("asyncio/locks.py", "Barrier._block"): "lock",
    ("asyncio/locks.py", "Barrier._wait"): "lock",
    ("asyncio/queues.py", "Queue.get"): "queue",
    ("asyncio/queues.py", "Queue.put"): "queue",
    ("asyncio/queues.py", "Queue.join"): "queue",
    ("asyncio/threads.py", "to_thread"): "executor",
    ("asyncio/streams.py", "StreamReader._wait_for_data"): "socket read",
    ("asyncio/streams.py", "StreamWriter.wait_closed"): "socket close",
    ("asyncio/streams.py", "FlowControlMixin._drain_helper"): "socket write",
    ("asyncio/base_events.py", "BaseEventLoop.getaddrinfo"): "DNS",
    ("asyncio/base_events.py", "BaseEventLoop.getnameinfo"): "DNS",
    ("asyncio/base_events.py", "BaseEventLoop.create_connection"): "connect",
    ("asyncio/base_events.py", "BaseEventLoop._create_connection_transport"): "connect",
    ("asyncio/base_events.py", "BaseEventLoop.shutdown_default_executor"): "executor",
    ("asyncio/base_events.py", "Server.serve_forever"): "connections",
    ("asyncio/base_subprocess.py", "BaseSubprocessTransport._wait"): "subprocess",
    ("asyncio/selector_events.py", "BaseSelectorEventLoop.sock_connect"): "connect",
    ("asyncio/selector_events.py", "BaseSelectorEventLoop.sock_accept"): "connections",
    ("asyncio/selector_events.py", "BaseSelectorEventLoop.sock_recv"): "socket read",
    ("asyncio/selector_events.py", "BaseSelectorEventLoop.sock_recv_into"): "socket read",
    ("asyncio/selector_events.py", "BaseSelectorEventLoop.sock_sendall"): "socket write",
    ("asyncio/unix_events.py", "_UnixSelectorEventLoop._sock_sendfile_native"): "socket write",
}
_DEPTH_MAX: Final = 64
# Classes whose objects are awaited directly.
_AWAITED: Final = {
    ("aioxide", "SocketOperation"): "socket",
    ("aioxide", "StreamOperation"): "socket read",
}


def describe(code: CodeType, awaited: type, future: type) -> str:
    """The name of a wait: of the innermost coroutine's `code`, what that awaits, and the `future` behind it.

    >>> import asyncio
    >>> describe(asyncio.sleep.__code__, object, asyncio.Future)
    'timer: sleep'
    >>> describe(describe.__code__, object, asyncio.Task)
    'task: describe'
    """
    kind = _AWAITED.get((awaited.__module__, awaited.__name__))
    if kind is None:
        module = "/".join(code.co_filename.split("/")[-2:])
        kind = _COROUTINES.get((module, code.co_qualname))
    if kind is None and "/aioxide/http/" in code.co_filename:
        kind = "HTTP"
    if kind is None:
        kind = "task" if hasattr(future, "get_coro") else "tasks" if future.__name__ == "_GatheringFuture" else "future"
    return f"{kind}: {code.co_qualname}"


def of_task(task: asyncio.Task[Any]) -> str | None:
    """The name of what `task` waits for now; None if it does not wait. The recorder does the same natively.

    >>> async def main():
    ...     task = asyncio.create_task(asyncio.sleep(1))
    ...     await asyncio.sleep(0)
    ...     return of_task(task)
    >>> asyncio.run(main())
    'timer: sleep'
    """
    future = getattr(task, "_fut_waiter", None)
    code, current = None, task.get_coro()
    if future is None or current is None:
        return None
    for _ in range(_DEPTH_MAX):
        own = _first_of(current, "cr_code", "gi_code", "ag_code")
        code = own or code
        next_one = _first_of(current, "cr_await", "gi_yieldfrom", "ag_await")
        if own is None or next_one is None:
            break
        current = next_one
    return None if code is None else describe(code, type(current), type(future))


def _first_of(found: object, *names: str) -> Any:
    return next((value for name in names if (value := getattr(found, name, None)) is not None), None)
