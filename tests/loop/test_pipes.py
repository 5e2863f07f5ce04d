"""Pipes and terminals as transports, executors, async generators and tasks."""

from __future__ import annotations

import asyncio
import contextvars
import os
import pty
import sys
import tty
from typing import Any

import pytest
from tests.loop.support import LoopFactory, Recorder


class PipeProtocol(Recorder):
    """As a Recorder, of a transport of one direction."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.note("connection_made")


def test_a_pipe(runner: asyncio.Runner) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        read_end, write_end = (os.fdopen(fd, mode, 0) for fd, mode in zip(os.pipe(), ("rb", "wb"), strict=True))
        reading, reader = await loop.connect_read_pipe(PipeProtocol, read_end)
        writing, writer = await loop.connect_write_pipe(PipeProtocol, write_end)
        assert isinstance(reading, asyncio.ReadTransport)
        assert isinstance(writing, asyncio.WriteTransport)
        assert reading.get_extra_info("pipe") is read_end
        assert writing.get_extra_info("pipe") is write_end
        data = os.urandom(1_000_000)
        writing.write(data)
        assert writing.get_write_buffer_size() > 0
        await reader.until(lambda: len(reader.data) == len(data))
        assert reader.data == data
        reading.pause_reading()
        writing.write(b"more")
        await asyncio.sleep(0.002)
        assert len(reader.data) == len(data)
        reading.resume_reading()
        await reader.until(lambda: len(reader.data) == len(data) + 4)
        writing.write_eof()
        await reader.lost
        await writer.lost
        assert "eof_received" in reader.calls
        assert reader.error is writer.error is None

    runner.run(main())


def test_the_reader_of_a_pipe_goes_away(runner: asyncio.Runner) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        read_end, write_end = os.pipe()
        writing, writer = await loop.connect_write_pipe(PipeProtocol, os.fdopen(write_end, "wb", 0))
        writing.write(b"x" * 1_000_000)
        os.close(read_end)
        await asyncio.wait_for(writer.lost, 5)
        assert isinstance(writer.error, BrokenPipeError)

    runner.run(main())


@pytest.mark.parametrize("descriptors", ["one", "two"])
def test_a_terminal_in_both_directions(runner: asyncio.Runner, descriptors: str) -> None:
    """One terminal is read and written at once, by one descriptor as both pipes, too."""
    amount = 200_000

    async def main() -> None:
        loop = asyncio.get_running_loop()
        controller, terminal = pty.openpty()
        tty.setraw(terminal)
        read_end = os.fdopen(controller, "r+b", 0)
        write_end = read_end if descriptors == "one" else os.fdopen(os.dup(controller), "wb", 0)
        reading, reader = await loop.connect_read_pipe(PipeProtocol, read_end)
        writing, writer = await loop.connect_write_pipe(PipeProtocol, write_end)

        def talk() -> bytes:
            os.write(terminal, b"from the terminal")
            heard = bytearray()
            while len(heard) < amount:
                heard += os.read(terminal, amount)
            os.write(terminal, b"; heard you")
            return bytes(heard)

        data = os.urandom(amount)
        writing.write(data)
        assert writing.get_write_buffer_size() > 0
        assert await asyncio.wait_for(asyncio.to_thread(talk), 10) == data
        await reader.until(lambda: reader.data == b"from the terminal; heard you")
        assert writing.get_write_buffer_size() == 0
        assert reader.calls[0] == writer.calls[0] == "connection_made"
        writing.close()
        reading.close()
        await reader.lost
        await writer.lost
        assert reader.error is writer.error is None
        os.close(terminal)

    runner.run(main())


def test_files_are_no_pipes(runner: asyncio.Runner, tmp_path: Any) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with (tmp_path / "file").open("wb") as file:
            with pytest.raises(ValueError, match="Pipe transport is"):
                await loop.connect_write_pipe(PipeProtocol, file)
            with pytest.raises(ValueError, match="Pipe transport is"):
                await loop.connect_read_pipe(PipeProtocol, file)

    runner.run(main())


def test_async_generators_are_closed(loop_factory: LoopFactory) -> None:
    ended: list[str] = []

    async def numbers(name: str) -> Any:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0.001)
            ended.append(name)

    kept: list[Any] = []

    async def main() -> None:
        kept.append(numbers("kept"))
        await kept[0].__anext__()
        dropped = numbers("dropped")
        await dropped.__anext__()
        del dropped
        async with asyncio.timeout(10):
            while not ended:
                await asyncio.sleep(0.001)
        assert ended == ["dropped"]

    hooks = sys.get_asyncgen_hooks()
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())
        assert sys.get_asyncgen_hooks() == hooks
    assert ended == ["dropped", "kept"]


def test_tasks(runner: asyncio.Runner) -> None:
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable")

    async def value() -> Any:
        await asyncio.sleep(0)
        return variable.get(None), asyncio.current_task().get_name()  # type: ignore[union-attr]

    async def main() -> None:
        loop = asyncio.get_running_loop()
        context = contextvars.copy_context()
        context.run(variable.set, 5)
        task = loop.create_task(value(), name="named", context=context)
        assert isinstance(task, asyncio.Task)
        assert await task == (5, "named")
        made: list[Any] = []

        def factory(loop: Any, coroutine: Any, **kwargs: Any) -> asyncio.Task[Any]:
            made.append(kwargs)
            return asyncio.Task(coroutine, loop=loop, **kwargs)

        loop.set_task_factory(factory)
        assert loop.get_task_factory() is factory
        assert (await loop.create_task(value()))[0] is None
        assert (await loop.create_task(value(), context=context))[0] == 5
        assert "eager_start" not in made[0]
        assert made[1]["context"] is context
        loop.set_task_factory(None)
        with pytest.raises(TypeError):
            loop.set_task_factory(1)  # type: ignore[arg-type]
        assert isinstance(loop.create_future(), asyncio.Future)

    runner.run(main())


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
def test_eager_tasks(runner: asyncio.Runner) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(asyncio.eager_task_factory)
        steps: list[str] = []

        async def body() -> str:
            steps.append("at once")
            await asyncio.sleep(0)
            steps.append("later")
            return "done"

        task = loop.create_task(body())
        assert steps == ["at once"]
        assert await task == "done"
        assert steps == ["at once", "later"]

    runner.run(main())


@pytest.mark.skipif(sys.version_info < (3, 14), reason="create_task takes it since Python 3.14")
def test_a_task_may_be_eager_by_itself(runner: asyncio.Runner) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        steps: list[str] = []

        async def body(step: str) -> None:
            steps.append(step)
            await asyncio.sleep(0)

        tasks = [
            loop.create_task(body("later")),
            loop.create_task(body("at once"), name="eager", eager_start=True),
            loop.create_task(body("later, too"), eager_start=False),
        ]
        assert steps == ["at once"]
        assert tasks[1].get_name() == "eager"
        loop.set_task_factory(asyncio.eager_task_factory)
        tasks.append(loop.create_task(body("at the factory's wish")))
        tasks.append(loop.create_task(body("last"), eager_start=False))
        assert steps == ["at once", "at the factory's wish"]
        await asyncio.gather(*tasks)
        assert steps == ["at once", "at the factory's wish", "later", "later, too", "last"]

    runner.run(main())
