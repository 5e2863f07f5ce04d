"""Top-level await in IPython, and in a Jupyter kernel whose loop and whose client's loop are ours."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from jupyter_client.manager import AsyncKernelManager
from tests.ecosystem.processes import run_program

EVERYWHERE = Path(__file__).with_name("everywhere")


@pytest.fixture(autouse=True)
def our_loop_everywhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(EVERYWHERE), os.environ["PYTHONPATH"]]))
    for variable in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / variable))


def test_ipython(tmp_path: Path) -> None:
    output = run_program(Path(__file__).with_name("ipython_program.py"), str(tmp_path))
    assert output.endswith("all cells done\n")


def test_jupyter_kernel(runner: asyncio.Runner) -> None:
    """A kernel talks by ZeroMQ, whose descriptor is watched by `add_reader` and tells of edges only."""

    async def main() -> None:
        manager = AsyncKernelManager(kernel_name="python3")
        await manager.start_kernel()
        client = manager.client()
        try:
            client.start_channels()
            await client.wait_for_ready(timeout=60)

            async def run(cell: str) -> str:
                printed: list[str] = []

                def hear(message: dict) -> None:
                    if message["msg_type"] == "stream":
                        printed.append(message["content"]["text"])

                answer = await client.execute_interactive(cell, timeout=30, output_hook=hear)
                assert answer["content"]["status"] == "ok", answer["content"]
                return "".join(printed)

            await run("import asyncio; loop = asyncio.get_running_loop()")
            assert await run("print(type(loop).__module__, await asyncio.sleep(0.01, 1))") == "aioxide._event_loop 1\n"
            for number in range(50):
                text = "x" * number * 1000
                assert await run(f"print(await asyncio.sleep(0, {text!r}))") == text + "\n"
            assert await run("background = asyncio.create_task(asyncio.sleep(0.05, 'done'))") == ""
            assert await run("print(await background)") == "done\n"
        finally:
            client.stop_channels()
            await manager.shutdown_kernel(now=False)
            manager.context.destroy(linger=0)

    runner.run(main())
