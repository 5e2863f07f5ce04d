"""The OpenAI SDK against a server of our own: answers, streamed answers, uploads, retries, errors."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import openai
import pytest

import aioxide
from aioxide import http

MESSAGES: list[Any] = [{"role": "user", "content": "hello"}]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    failures = 0
    seen: list[dict[str, Any]]

    def do_POST(self) -> None:
        body = self._body()
        self.seen.append({"path": self.path, "headers": self.headers, "body": body})
        if self.path == "/v1/files":
            return self._json(200, {"id": "file-1", "object": "file", "bytes": len(body), "filename": "f"})
        asked = json.loads(body)
        if asked["model"] == "unknown":
            return self._json(404, {"error": {"message": "no such model", "code": "model_not_found"}})
        if asked["model"] == "flaky" and Handler.failures < 2:
            Handler.failures += 1
            return self._json(503, {"error": {"message": "later"}}, ("Retry-After", "0"))
        if asked.get("stream"):
            return self._stream()
        message = {"role": "assistant", "content": "hello back"}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        self._json(200, {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]})

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        pieces = []
        while size := int(self.rfile.readline(), 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _json(self, status: int, value: Any, *headers: tuple[str, str]) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        for name, text in [("Content-Type", "application/json"), ("Content-Length", str(len(body))), *headers]:
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(body)

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for word in ("hello", " ", "back", None):
            chunk = {"index": 0, "delta": {"content": word} if word else {}, "finish_reason": None if word else "stop"}
            event = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [chunk]}
            self._chunk(b"data: %s\n\n" % json.dumps(event).encode())
        self._chunk(b"data: [DONE]\n\n")
        self._chunk(b"")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def log_message(self, *_arguments: Any) -> None:
        """Say nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    Handler.seen, Handler.failures = [], 0
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()
        thread.join()


def test_blocking(url: str) -> None:
    with openai.OpenAI(api_key="secret", base_url=url) as client:
        assert isinstance(client._client, http.Client)
        answer = client.chat.completions.create(model="m", messages=MESSAGES)
        assert answer.choices[0].message.content == "hello back"
        assert Handler.seen[-1]["headers"]["Authorization"] == "Bearer secret"
        pieces = client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
        assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == "hello back"
        assert client.chat.completions.create(model="flaky", messages=MESSAGES).id == "1"
        assert Handler.failures == 2
        with pytest.raises(openai.NotFoundError, match="no such model"):
            client.chat.completions.create(model="unknown", messages=MESSAGES)
        uploaded = client.files.create(file=("f.jsonl", b"x" * 100_000), purpose="batch")
        assert uploaded.bytes is not None and uploaded.bytes > 100_000
        raw = client.chat.completions.with_raw_response.create(model="m", messages=MESSAGES)
        assert raw.status_code == 200 and raw.parse().id == "1"


def test_async(url: str) -> None:
    async def main() -> None:
        async with openai.AsyncOpenAI(api_key="secret", base_url=url) as client:
            assert isinstance(client._client, http.AsyncClient)
            asked = [client.chat.completions.create(model="m", messages=MESSAGES) for _ in range(20)]
            assert {answer.choices[0].message.content for answer in await asyncio.gather(*asked)} == {"hello back"}
            pieces = await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
            assert "".join([piece.choices[0].delta.content or "" async for piece in pieces]) == "hello back"
            with pytest.raises(openai.NotFoundError):
                await client.chat.completions.create(model="unknown", messages=MESSAGES)

    with asyncio.Runner(loop_factory=aioxide.new_event_loop) as runner:
        runner.run(main())


def test_nobody_there() -> None:
    with openai.OpenAI(api_key="secret", base_url="http://127.0.0.1:9/v1", max_retries=1) as client:
        with pytest.raises(openai.APIConnectionError) as caught:
            client.chat.completions.create(model="m", messages=MESSAGES)
        assert isinstance(caught.value.__cause__, http.ConnectError)
        with pytest.raises(openai.APITimeoutError):
            with openai.OpenAI(api_key="secret", base_url="http://127.0.0.1:9/v1", max_retries=0) as impatient:
                impatient._client._transport = http.MockTransport(_times_out)
                impatient.chat.completions.create(model="m", messages=MESSAGES)


def _times_out(request: http.Request) -> http.Response:
    raise http.ReadTimeout("too slow", request=request)
