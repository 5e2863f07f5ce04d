"""FastAPI's TestClient, which is a client of httpx's shape with a transport of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Cookie, FastAPI, File, Form, HTTPException, Response, UploadFile, WebSocket
from fastapi.responses import RedirectResponse, StreamingResponse
from fastapi.testclient import TestClient

from aioxide import http

states: list[str] = []


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    states.append("up")
    yield
    states.append("down")


app = FastAPI(lifespan=lifespan)


@app.get("/items/{number}")
async def item(number: int, q: str | None = None) -> dict[str, object]:
    if number == 0:
        raise HTTPException(404, "nothing there")
    return {"number": number, "q": q}


@app.post("/files")
async def files(file: Annotated[UploadFile, File()], note: Annotated[str, Form()]) -> dict[str, object]:
    return {"name": file.filename, "length": len(await file.read()), "note": note}


@app.get("/login")
async def login(response: Response) -> str:
    response.set_cookie("session", "7")
    return "in"


@app.get("/me")
async def me(session: Annotated[str | None, Cookie()] = None) -> str | None:
    return session


@app.get("/old")
async def old() -> RedirectResponse:
    return RedirectResponse("/items/1")


@app.get("/stream")
async def stream() -> StreamingResponse:
    async def pieces() -> AsyncIterator[bytes]:
        for number in range(3):
            yield b"%d\n" % number

    return StreamingResponse(pieces())


@app.websocket("/ws")
async def ws(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(f"echo {await websocket.receive_text()}")
    await websocket.close()


def test_client() -> None:
    states.clear()
    with TestClient(app) as client:
        assert isinstance(client, http.Client)
        assert client.get("/items/3", params={"q": "x"}).json() == {"number": 3, "q": "x"}
        missing = client.get("/items/0")
        assert (missing.status_code, missing.json()["detail"]) == (404, "nothing there")
        assert client.get("/items/no").status_code == 422
        sent = client.post("/files", files={"file": ("a.txt", b"12345")}, data={"note": "n"})
        assert sent.json() == {"name": "a.txt", "length": 5, "note": "n"}
        assert client.get("/me").json() is None
        client.get("/login")
        assert client.get("/me").json() == "7"
        assert client.get("/old").json()["number"] == 1
        assert client.get("/old", follow_redirects=False).status_code == 307
        with client.stream("GET", "/stream") as response:
            assert list(response.iter_lines()) == ["0", "1", "2"]
        with client.websocket_connect("/ws") as websocket:
            websocket.send_text("hello")
            assert websocket.receive_text() == "echo hello"
    assert states == ["up", "down"]
