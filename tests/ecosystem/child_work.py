"""What the processes of `test_multiprocessing.py` do, in a module that a spawned one can import."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import aioxide


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        writer.write(b"%d " % os.getpid() + line)
    writer.close()


async def talk(port: int, lines: int) -> set[int]:
    """Exchange lines with an `echo` server; the processes that answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answered = set()
    for number in range(lines):
        writer.write(b"line %d\n" % number)
        pid, _, line = (await reader.readline()).partition(b" ")
        assert line == b"line %d\n" % number
        answered.add(int(pid))
    writer.close()
    await writer.wait_closed()
    return answered


async def talk_much(port: int) -> set[int]:
    answers = await asyncio.gather(*(talk(port, 30) for _ in range(10)))
    echoed = await asyncio.create_subprocess_exec("echo", "from a grandchild", stdout=asyncio.subprocess.PIPE)
    assert await echoed.communicate() == (b"from a grandchild\n", None)
    return set().union(*answers)


def client(port: int, results: Any = None) -> set[int]:
    """Run a loop of this process's own against a server elsewhere."""
    result = aioxide.run(talk_much(port))
    if results is not None:
        results.send(result)
    return result


def wait_for_signal(ready: Any) -> None:
    """Run a loop until SIGTERM, which its handler hears of."""

    async def main() -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        ready.send(True)
        await stop.wait()

    aioxide.run(main())
    ready.send("heard")
