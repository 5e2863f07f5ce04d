"""huggingface_hub's client against a hub of our own: metadata, a download that is kept and checked, errors."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi, close_session, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, RepositoryNotFoundError
from huggingface_hub.utils import get_session

from aioxide import http

CONTENT = b'{"model_type": "tiny"}' * 10_000
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = self.path.partition("?")[0]
        if path.startswith("/api/models/us/tiny/tree/"):
            entry = {"type": "file", "path": "config.json", "size": len(CONTENT), "oid": COMMIT}
            self._send(200, json.dumps([entry]).encode())
        elif path.startswith("/api/models/us/tiny"):
            siblings = [{"rfilename": "config.json"}]
            self._send(200, json.dumps({"id": "us/tiny", "sha": COMMIT, "siblings": siblings, "tags": []}).encode())
        elif path.endswith("/config.json") and path.startswith("/us/tiny/resolve/"):
            etag = hashlib.sha1(CONTENT, usedforsecurity=False).hexdigest()
            self._send(200, CONTENT, ("ETag", f'"{etag}"'), ("X-Repo-Commit", COMMIT), ("Accept-Ranges", "bytes"))
        elif path.startswith("/us/tiny/resolve/"):
            self._send(404, b"", ("X-Error-Code", "EntryNotFound"), ("X-Repo-Commit", COMMIT))
        elif "/broken" in path:
            self._send(400, b'{"error": "broken"}')
        else:
            self._send(401, b'{"error": "Repository not found"}', ("X-Error-Code", "RepoNotFound"))

    def _send(self, status: int, body: bytes, *headers: tuple[str, str]) -> None:
        self.send_response(status)
        for name, value in [("Content-Type", "application/json"), ("Content-Length", str(len(body))), *headers]:
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_arguments: Any) -> None:
        """Say nothing."""


@pytest.fixture
def endpoint() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        close_session()
        server.shutdown()
        thread.join()


def test_the_hub(endpoint: str, tmp_path: Path) -> None:
    assert isinstance(get_session(), http.Client)
    api = HfApi(endpoint=endpoint, token=False)
    info = api.model_info("us/tiny")
    assert (info.id, info.sha) == ("us/tiny", COMMIT)
    assert api.list_repo_files("us/tiny") == ["config.json"]
    for _ in range(2):  # the second time it is there already
        path = hf_hub_download("us/tiny", "config.json", endpoint=endpoint, cache_dir=tmp_path, token=False)
        assert Path(path).read_bytes() == CONTENT
    with pytest.raises(EntryNotFoundError):
        hf_hub_download("us/tiny", "other.json", endpoint=endpoint, cache_dir=tmp_path, token=False)
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("nobody/nothing")
    with pytest.raises(HfHubHTTPError, match="broken"):
        api.model_info("us/broken")
