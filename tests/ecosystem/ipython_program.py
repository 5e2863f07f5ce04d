"""Top-level await in an IPython shell, which chooses its own loop: the test gives this process ours as the default."""

from __future__ import annotations

import os
import sys

os.environ["IPYTHONDIR"] = sys.argv[1]

from IPython.core.interactiveshell import InteractiveShell  # noqa: E402

CELLS = """
import asyncio, aioxide
---
assert await asyncio.sleep(0.01, "slept") == "slept"
first = asyncio.get_running_loop()
assert type(first) is aioxide.EventLoop
---
async def echo(reader, writer):
    writer.write((await reader.readline()).upper())
    writer.close()
server = await asyncio.start_server(echo, "127.0.0.1", 0)
port = server.sockets[0].getsockname()[1]
---
async def ask(number):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"cell %d\\n" % number)
    answer = await reader.read()
    writer.close()
    return answer
answers = await asyncio.gather(*(ask(number) for number in range(50)))
assert answers == [b"CELL %d\\n" % number for number in range(50)]
---
child = await asyncio.create_subprocess_exec("echo", "hi", stdout=asyncio.subprocess.PIPE)
assert [line async for line in child.stdout] == [b"hi\\n"] and await child.wait() == 0
async with server, asyncio.timeout(5):
    assert asyncio.get_running_loop() is first
"""

shell = InteractiveShell.instance()
shell.history_manager.enabled = False
for cell in CELLS.split("---\n"):
    shell.run_cell(cell, store_history=False).raise_error()
print("all cells done")
shell.user_ns["first"].close()
