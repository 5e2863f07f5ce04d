"""What hosts notice of `aioxide fetch`: how many requests at once, how soon again, whether ``robots.txt`` is heeded."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from aioxide.__main__ import main
from aioxide.fetch import _robots

STYLES = ("sequential", "threads", "async", "native")
ROBOTS = b"User-agent: *\nDisallow: /private\n"


class Counting(ThreadingHTTPServer):
    """Counts requests under way, and asks for a pause where it is told to."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock = threading.Lock()
        self.under_way = self.most = 0
        self.times: dict[str, list[float]] = {}
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Counting

    def do_GET(self) -> None:
        server = self.server
        with server.lock:
            server.under_way += 1
            server.most = max(server.most, server.under_way)
            asked = server.times.setdefault(self.path, [])
            asked.append(time.monotonic())
            is_first = len(asked) == 1
        time.sleep(0.02)
        with server.lock:
            server.under_way -= 1
        body = ROBOTS if self.path == "/robots.txt" else b"text"
        if self.path == "/busy" and is_first:
            self.send_response(503)
            self.send_header("Retry-After", "1")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is written."""


@pytest.fixture
def server() -> Iterator[Counting]:
    with Counting() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("style", STYLES)
def test_no_more_at_once_than_a_host_is_allowed(server: Counting, tmp_path: Path, style: str) -> None:
    output = str(tmp_path / "out.jsonl")
    command = ["fetch", f"{server.url}/{{1..60}}", "--style", style, "--concurrency", "20", "--per-host", "3"]
    assert main([*command, "-o", output]) == 0
    assert server.most == (1 if style == "sequential" else 3)


@pytest.mark.parametrize("style", STYLES)
def test_retry_after_is_waited_for(server: Counting, tmp_path: Path, style: str) -> None:
    output = str(tmp_path / "out.jsonl")
    assert main(["fetch", f"{server.url}/busy", "--style", style, "-o", output]) == 0
    first, second = server.times["/busy"]
    assert second - first >= 1
    assert [json.loads(line)["status"] for line in Path(output).read_text().splitlines()] == [200]


@pytest.mark.parametrize("style", STYLES)
def test_robots_are_asked_once_by_default_for_templates_with_hosts_of_others(
    server: Counting, tmp_path: Path, style: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out.jsonl"
    template = f"{server.url}/{{1..5}}"
    assert main(["fetch", template, "--style", style, "-o", str(tmp_path / "own.jsonl")]) == 0
    assert "/robots.txt" not in server.times
    # The only host of others that there is.
    for module in ("aioxide.fetch.command", "aioxide.fetch._robots"):
        monkeypatch.setattr(f"{module}.is_loopback", lambda url: False)
    assert _robots.is_loopback("http://127.0.0.1/") is False
    assert main(["fetch", template, f"{server.url}/private/1", "--style", style, "-o", str(output)]) == 1
    assert len(server.times["/robots.txt"]) == 1
    assert "/private/1" not in server.times
    errors = [line["error"]["type"] for line in map(json.loads, output.read_text().splitlines()) if "error" in line]
    assert errors == ["RobotsDisallowedError"]
