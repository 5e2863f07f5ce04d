"""Every code block of the documentation runs, and prints what the page says that it prints.

A `python` block is a program; one with a title is a file that later blocks of its page use. In a `console` block each
line after a prompt is a command, and what follows it is its output. A `text` block is the output of the program before
it; ``...`` stands for anything. `sh` blocks are the project's own make targets, which CI runs. A comment before a block
says what is unusual: ``<!-- serve -->`` (it goes on while the rest of the page runs), ``<!-- fails: 1 -->``.

``https://example.com`` is the engine's own server here, ports 8000 and 8001 are free ones.
"""

from __future__ import annotations

import doctest
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.ecosystem.processes import ROOT, Server, accepts, free_port, wait_until

from aioxide._native import HttpServer

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
KINDS = {"python", "console", "text", "json", "sh", "toml", "ini"}
SECONDS_MAX = 100

BLOCK = re.compile(
    r"^(?:<!-- (?P<note>[^\n]*) -->\n)?```(?P<kind>\w*)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    kind: str
    title: str | None
    note: str
    text: str


def blocks_of(page: Path) -> list[Block]:
    found = BLOCK.finditer(page.read_text())
    return [Block(each["kind"], each["title"], each["note"] or "", each["text"]) for each in found]


class PageRun:
    """A page's blocks, run one after the other in a folder of their own."""

    def __init__(self, folder: Path, url: str, stack: ExitStack) -> None:
        self._folder = folder
        self._url = url
        self._port, self._other_port = free_port(), free_port()
        self._stack = stack
        self._outputs: tuple[str, ...] = ()
        commands = folder / ".bin"
        commands.mkdir()
        # As installing the package makes them.
        (commands / "aioxide").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m aioxide "$@"\n')
        (commands / "aioxide").chmod(0o755)
        paths = [str(commands), str(Path(sys.executable).parent), os.environ["PATH"]]
        self._env = {
            **os.environ,
            "PATH": os.pathsep.join(paths),
            "PYTEST_PLUGINS": "aioxide.pytest_plugin",
            **{f"JUPYTER_{name}_DIR": str(folder / name) for name in ("RUNTIME", "CONFIG", "DATA")},
            "IPYTHONDIR": str(folder / "ipython"),
        }

    def run(self, block: Block) -> None:
        text = block.text.replace("https://example.com", self._url).replace("8000", str(self._port))
        text = text.replace("8001", str(self._other_port))
        if block.title is not None:
            path = self._folder / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        elif block.kind == "python":
            program = self._folder / "block.py"
            program.write_text(text)
            self._outputs = self._call([sys.executable, "-W", "error::ResourceWarning", str(program)], 0)
        elif block.kind == "text":
            assert self._outputs, "there is no program before it"
            self._compare(text, *self._outputs)
            self._outputs = ()
        elif block.kind == "console" and block.note == "serve":
            self._serve(text.removeprefix("$ ").strip())
        elif block.kind == "console":
            status = int(block.note.removeprefix("fails: ")) if block.note else 0
            for command in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
                line, _, expected = command.partition("\n")
                output, errors = self._call(["bash", "-c", line], status)
                self._compare(expected, output, errors + output)

    def _call(self, command: list[str], status: int) -> tuple[str, str]:
        done = subprocess.run(
            command,
            cwd=self._folder,
            env=self._env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
        )
        assert done.returncode == status, f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        return done.stdout, done.stderr

    def _compare(self, expected: str, *outputs: str) -> None:
        """One of the outputs is what was expected."""
        flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        check = doctest.OutputChecker().check_output
        same = not expected.strip() or any(check(expected, output, flags) for output in outputs)
        assert same, f"expected:\n{expected}\nprinted:\n" + "\nor:\n".join(outputs)

    def _serve(self, command: str) -> None:
        log = self._stack.enter_context(tempfile.TemporaryFile())
        process = subprocess.Popen(
            ["bash", "-c", f"exec {command}"],
            cwd=self._folder,
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        server = Server(process, log)
        self._stack.callback(server.destroy)
        # Who needs no port of its own, as a worker does, needs the one of before.
        wait_until(lambda: accepts(self._port) or not server.running(), f"the start of {command}")
        assert server.running(), server.log()


@pytest.fixture(scope="module")
def site() -> Iterator[HttpServer]:
    with HttpServer() as server:
        yield server


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_page(page: Path, site: HttpServer, tmp_path: Path) -> None:
    blocks = blocks_of(page)
    assert {block.kind for block in blocks} <= KINDS, "a kind of block that nobody would run"
    assert len(blocks) == len(re.findall(r"^```", page.read_text(), re.MULTILINE)) / 2, "a block that is not understood"
    with ExitStack() as stack:
        run = PageRun(tmp_path, site.url, stack)
        for block in blocks:
            if included := re.findall(r"^--8<-- \"(.*)\"$", block.text, re.MULTILINE):
                # The examples have tests of their own.
                assert all((ROOT / path).is_file() for path in included)
            else:
                run.run(block)
