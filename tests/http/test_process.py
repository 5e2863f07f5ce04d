"""What concerns the whole process: signals, exit, fork."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from aioxide import http, httpclient

HEAD = """
import asyncio, os, sys, threading, time
import aioxide
from aioxide import http, httpclient
url = sys.argv[1]
"""


def run(program: str, url: str) -> str:
    """What the program prints. It must end by itself, with code 0 and nothing on stderr."""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", HEAD + program, url],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


class InterruptedBySignalError(Exception):
    """What the signal's handler raises."""


@pytest.fixture
def alarm() -> Iterator[Callable[[float], None]]:
    """Have a signal interrupt the main thread after so many seconds."""

    def interrupt(*_: Any) -> None:
        raise InterruptedBySignalError

    # What an exception in a finalizer meets is nobody's: let no garbage of earlier tests be collected under the alarm.
    gc.collect()
    previous = signal.signal(signal.SIGALRM, interrupt)
    yield lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds) and None
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, previous)


def test_a_signal_interrupts_a_blocking_call(url: str, alarm: Callable[[float], None]) -> None:
    with http.Client(base_url=url) as client:
        started = time.perf_counter()
        alarm(0.1)
        with pytest.raises(InterruptedBySignalError):
            client.get("/delay/5000")
        alarm(0.1)
        with pytest.raises(InterruptedBySignalError), client.stream("GET", "/stream/2/10/5000") as response:
            response.read()
        alarm(0.1)
        with pytest.raises(InterruptedBySignalError), httpclient.HTTPClient() as other:
            other.fetch(f"{url}/delay/5000")
        assert time.perf_counter() - started < 2
        assert client.get("/after").text == "/after"


def test_a_signal_interrupts_a_blocking_call_inside_a_loop(
    runner: asyncio.Runner, url: str, alarm: Callable[[float], None]
) -> None:
    async def main() -> None:
        alarm(0.1)
        with pytest.raises(InterruptedBySignalError):
            http.get(f"{url}/delay/5000")
        async with http.AsyncClient() as client:
            assert (await client.get(f"{url}/after")).text == "/after"

    runner.run(main())


@pytest.mark.parametrize(
    "program",
    [
        # Requests under way, and streams half read, on a loop that is left without a word.
        """
loop = {factory}()
client = http.AsyncClient()
async def main():
    tasks = [asyncio.ensure_future(client.get(url + "/delay/3000")) for _ in range(3)]
    response = await client.send(client.build_request("GET", url + "/stream/100/10/50"), stream=True)
    await asyncio.sleep(0.1)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    print("left", flush=True)
    return response
response = loop.run_until_complete(main())
loop.close()
""",
        # Idle connections in a loop's pool, in a thread's, and a client that nobody closes.
        """
client = http.AsyncClient()
asyncio.Runner(loop_factory={factory}).run(client.get(url))
http.Client().get(url)
httpclient.HTTPClient().fetch(url)
print("left")
""",
        # A daemon thread that waits for an answer while the interpreter exits.
        """
thread = threading.Thread(target=http.get, args=(url + "/delay/3000",), daemon=True)
thread.start()
async def main():
    requests = http.gather_get([url, url + "/delay/3000"])
    async for done in requests:
        break
    await requests.aclose()
asyncio.Runner(loop_factory={factory}).run(main())
print("left")
""",
        # Daemon threads that wait for answers while the interpreter takes its time to exit.
        """
client = http.Client()
def stream():
    with client.stream("GET", url + "/delay/3000") as response:
        response.read()
for work in (stream, stream, lambda: client.get(url + "/delay/3000")):
    threading.Thread(target=work, daemon=True).start()
class Slow:
    sleep = staticmethod(time.sleep)
    def __del__(self):
        self.sleep(0.5)
sys.kept = Slow()
time.sleep(0.2)
print("left", flush=True)
""",
    ],
)
@pytest.mark.parametrize("factory", ["asyncio.new_event_loop", "aioxide.new_event_loop"])
def test_exiting_midway(url: str, program: str, factory: str) -> None:
    # A runner that is never closed would warn of its loop: that is the loop's affair, not the client's.
    program = program.replace("asyncio.Runner(loop_factory={factory}).run(", "run(")
    program = (
        "def run(main):\n    with asyncio.Runner(loop_factory={factory}) as runner:\n        return runner.run(main)\n"
        + program
    )
    assert run(program.replace("{factory}", factory), url) == "left"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_has_its_own_connections(url: str) -> None:
    program = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of a fork with threads
client = http.Client(base_url=url)
other = http.AsyncClient(base_url=url)
async def both():
    return [response.text for response in await asyncio.gather(other.get("/a"), other.get("/b"))]
assert client.get("/parent").text == "/parent"
assert asyncio.run(both()) == ["/a", "/b"]
with client.stream("GET", "/hello") as response:
    response.read()
child = os.fork()
if child == 0:
    try:
        assert client.get("/child").text == "/child"
        assert asyncio.run(both()) == ["/a", "/b"]
        assert http.get(url + "/child").text == "/child"
        with client.stream("GET", "/hello") as response:
            assert response.read() == b"/hello"
    except BaseException as problem:
        print("the child failed:", repr(problem), flush=True)
        os._exit(1)
    os._exit(0)
for n in range(20):
    assert client.get(f"/{n}").text == f"/{n}"
    assert asyncio.run(both()) == ["/a", "/b"]
print(os.waitpid(child, 0)[1])
"""
    assert run(program, url) == "0"
