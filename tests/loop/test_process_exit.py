"""The end of the interpreter with everything still open, sub-interpreters, and what is left of a thousand loops."""

from __future__ import annotations

import asyncio
import gc
import resource
import subprocess
import sys
import weakref
from typing import Any

import pytest
from tests.loop.conftest import Factory
from tests.loop.support import LoopFactory, open_descriptors, program_text, run_program, tcp_pair

EVERYTHING_OPEN = """
async def forever():
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        pass

async def numbers():
    yield 1
    yield 2

async def open_everything():
    loop = asyncio.get_running_loop()
    kept = []
    server = await asyncio.start_server(lambda r, w: kept.append((r, w)), "127.0.0.1", 0)
    kept.append(server)
    for _ in range(5):
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(bytes(10_000_000))
        kept.append((reader, writer, loop.create_task(reader.read())))
    kept.append(await asyncio.create_subprocess_exec("sleep", "0.3", stdin=asyncio.subprocess.PIPE))
    kept.append(await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)))
    one, other = socket.socketpair()
    loop.add_reader(one, int)
    loop.add_writer(one, int)
    loop.add_signal_handler(signal.SIGUSR1, int)
    loop.call_later(1000, int)
    loop.call_soon(int)
    loop.call_soon_threadsafe(int)
    kept += [one, other, loop.create_task(forever()), loop.run_in_executor(None, time.sleep, 0.05)]
    generator = numbers()
    await generator.__anext__()
    kept.append(generator)
    await asyncio.sleep(0.01)
    return kept
"""

ENDINGS = {
    "falls off the end": "kept = loop.run_until_complete(open_everything())",
    "sys.exit in a callback": """
async def main():
    global kept
    kept = await open_everything()
    loop.call_soon(sys.exit, 0)
    await asyncio.sleep(10)
loop.run_until_complete(main())
""",
    "in a cycle": """
class Knot: ...
knot = Knot()
knot.loop, knot.kept, knot.knot = loop, loop.run_until_complete(open_everything()), knot
del loop, knot
""",
    "closed at once": "kept = loop.run_until_complete(open_everything()); loop.close()",
    "in a thread": """
thread = threading.Thread(target=lambda: loop.run_until_complete(asyncio.sleep(100)), daemon=True)
kept = loop.run_until_complete(open_everything())
loop.remove_signal_handler(signal.SIGUSR1)
thread.start()
time.sleep(0.02)
""",
    "busy in a thread": """
kept = loop.run_until_complete(open_everything())
loop.remove_signal_handler(signal.SIGUSR1)
def spin():
    loop.call_soon(spin)
    for _ in range(200): pass
loop.call_soon(spin)
threading.Thread(target=loop.run_forever, daemon=True).start()
time.sleep(0.02)
""",
    "waking up in threads": """
kept = loop.run_until_complete(open_everything())
async def tick():
    while True:
        await asyncio.sleep(0.0001)
        await asyncio.to_thread(int)
for _ in range(5):
    threading.Thread(target=lambda: asyncio.Runner(loop_factory=new_event_loop).run(tick()), daemon=True).start()
time.sleep(0.05)
""",
    "called back in a thread": """
kept = loop.run_until_complete(open_everything())
class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
        transport.set_write_buffer_limits(0)
        transport.write(b"x")
    def data_received(self, data):
        for _ in range(200): pass
        self.transport.write(data)
    def pause_writing(self):
        for _ in range(200): pass
    resume_writing = pause_writing
async def echo():
    loop = asyncio.get_running_loop()
    for one in socket.socketpair():
        one.setblocking(False)
        await loop.connect_accepted_socket(Echo, one)
    await asyncio.sleep(100)
threading.Thread(target=lambda: asyncio.Runner(loop_factory=new_event_loop).run(echo()), daemon=True).start()
time.sleep(0.05)
""",
    "used by atexit": """
import atexit
kept = loop.run_until_complete(open_everything())
atexit.register(lambda: loop.run_until_complete(asyncio.sleep(0.01)))
""",
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_interpreter_ends_with_everything_open(loop_factory: LoopFactory, ending: str) -> None:
    """There may be warnings, and must be no crash and no hang."""
    program = EVERYTHING_OPEN + "loop = new_event_loop()\n" + ENDINGS[ending]
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", program_text(loop_factory, program)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for sign in ("panicked", "Fatal Python error", "SystemError", "Segmentation"):
        assert sign not in done.stderr, done.stderr


def test_a_clean_end_says_nothing(loop_factory: LoopFactory) -> None:
    program = """
async def main():
    server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        await reader.read()
        writer.close()
        await writer.wait_closed()
    process = await asyncio.create_subprocess_exec("true")
    await process.wait()
    await asyncio.to_thread(int)

with asyncio.Runner(loop_factory=new_event_loop) as runner:
    runner.run(main())
print("done")
"""
    assert run_program(loop_factory, program) == "done"


def use_everything(loop: asyncio.AbstractEventLoop) -> None:
    async def main() -> None:
        one, other = tcp_pair()
        reader, writer = await asyncio.open_connection(sock=one)
        peer_reader, peer = await asyncio.open_connection(sock=other)
        writer.write(b"x" * 1000)
        assert len(await peer_reader.readexactly(1000)) == 1000
        peer.close()
        assert await reader.read() == b""
        writer.close()
        await asyncio.gather(writer.wait_closed(), peer.wait_closed(), return_exceptions=True)
        asyncio.get_running_loop().call_later(1000, int)
        asyncio.get_running_loop().call_soon_threadsafe(int)

    loop.run_until_complete(main())


def test_a_thousand_loops_leave_nothing(loop_factory: Factory) -> None:
    def make_and_close(count: int) -> None:
        for _ in range(count):
            loop = loop_factory()
            use_everything(loop)
            loop.close()
        gc.collect()

    make_and_close(50)
    descriptors = open_descriptors()
    objects, memory = len(gc.get_objects()), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    make_and_close(1000 if loop_factory.name == "aioxide" and not loop_factory.debug else 100)
    assert open_descriptors() == descriptors
    assert len(gc.get_objects()) - objects < 500
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
    assert grown_kib < 4096, grown_kib


def test_a_closed_loop_that_is_kept_holds_no_descriptor(loop_factory: LoopFactory) -> None:
    before = open_descriptors()
    loops = [loop_factory() for _ in range(10)]
    for loop in loops:
        use_everything(loop)
        loop.close()
    assert open_descriptors() == before


def collected(make: Any) -> bool:
    """Whether the collector finds what `make` returns a weak reference to."""
    seen = make()
    gc.collect()
    return seen() is None


@pytest.mark.parametrize("where", ["soon", "later", "threadsafe", "reader", "exception handler", "signal-free run"])
def test_a_loop_in_a_cycle_is_collected(loop_factory: LoopFactory, where: str) -> None:
    def make() -> Any:
        loop = loop_factory()
        one, other = tcp_pair()
        match where:
            case "soon":
                loop.call_soon(loop.close)
            case "later":
                loop.call_later(1000, loop.close)
            case "threadsafe":
                loop.call_soon_threadsafe(loop.close)
            case "reader":
                loop.add_reader(one, loop.close, one, other)
            case "exception handler":
                loop.set_exception_handler(lambda *_: loop.close())
            case _:
                loop.mine = loop  # type: ignore[attr-defined]
                loop.call_soon(loop.stop)
                loop.run_forever()
        one.close()
        other.close()
        return weakref.ref(loop)

    with pytest.warns(ResourceWarning, match="unclosed event loop"):
        seen = make()
        gc.collect()
    # The warning that was recorded names the loop as its source; since Python 3.15 weak references see that.
    gc.collect()
    assert seen() is None


def test_handles_in_cycles_are_collected(loop_factory: LoopFactory) -> None:
    class Owner:
        def method(self) -> None: ...

    loop = loop_factory()

    def make() -> Any:
        owner = Owner()
        owner.handle = loop.call_later(1000, owner.method)  # type: ignore[attr-defined]
        owner.handle.cancel()  # type: ignore[attr-defined]
        owner.done = loop.call_soon(owner.method)  # type: ignore[attr-defined]
        loop.call_soon(loop.stop)
        loop.run_forever()
        return weakref.ref(owner)

    assert collected(make)
    loop.close()


def test_closed_connections_in_cycles_are_collected(runner: asyncio.Runner) -> None:
    from tests.loop.support import Recorder, connected

    async def main() -> list[Any]:
        transport, protocol, accepted, peer = await connected()
        protocol.itself, protocol.other = protocol, accepted
        transport.close()
        await protocol.lost
        await peer.lost
        return [weakref.ref(thing) for thing in (transport, protocol, accepted, peer)]

    seen = runner.run(main())
    runner.run(asyncio.sleep(0))
    gc.collect()
    assert Recorder
    assert [each() for each in seen] == [None] * 4


def test_servers_are_collected(runner: asyncio.Runner) -> None:
    async def main() -> Any:
        server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        await reader.read()
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        server.itself = server  # type: ignore[attr-defined]
        return weakref.ref(server)

    seen = runner.run(main())
    runner.run(asyncio.sleep(0.01))
    gc.collect()
    assert seen() is None


def test_the_collector_may_run_at_any_allocation(loop_factory: LoopFactory) -> None:
    """A transport that was being made was once met by the collector before it was filled."""
    program = """
import gc

async def main():
    server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
    gc.set_threshold(1, 2, 2)
    for _ in range(20):
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
    gc.set_threshold(700)
    server.close()
    await server.wait_closed()
    await asyncio.sleep(0.05)
    print("done")

with asyncio.Runner(loop_factory=new_event_loop) as runner:
    runner.run(main())
"""
    assert run_program(loop_factory, program) == "done"
