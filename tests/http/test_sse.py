"""Server-sent events, cut in every way a network can cut them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from aioxide import http
from aioxide.http._sse import EventDecoder

STREAM = (
    "\ufeff: a comment\n"
    "data: one\rdata:two\r\ndata\n\n"
    'event: named\nid: 7\nretry: 1500\ndata: {"a": "\u2028\u00e4"}\n\n'
    "id: bad\0id\nretry: soon\nunknown: x\ndata:  spaced\r\n\r\n"
    "event: without data\n\n"
    "data: last\n"
)
EVENTS = [
    http.ServerSentEvent("message", "one\ntwo\n"),
    http.ServerSentEvent("named", '{"a": "\u2028\u00e4"}', "7", 1500),
    http.ServerSentEvent("message", " spaced", "7"),
]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_pieces_of_any_size(size: int) -> None:
    decoder = EventDecoder()
    events = [event for at in range(0, len(STREAM), size) for event in decoder.feed(STREAM[at : at + size])]
    assert events == EVENTS, "the last is not complete, and is dropped"
    assert events[1].json() == {"a": "\u2028\u00e4"}


def test_from_a_server(runner: asyncio.Runner, scripted: Any) -> None:
    scripted.answer("/events", "Content-Type: text/event-stream; charset=latin-1", body=STREAM.encode())
    scripted.answer("/other", "Content-Type: text/plain", body=b"data: x\n\n")
    with http.Client() as client:
        with client.stream("GET", f"{scripted.url}/events") as response:
            assert list(http.EventSource(response)) == EVENTS
        with client.stream("GET", f"{scripted.url}/other") as response:
            with pytest.raises(http.SSEError, match="text/plain") as caught:
                next(iter(http.EventSource(response)))
        assert caught.value.request.url.path == "/other"

    async def main() -> None:
        async with http.AsyncClient() as client:
            async with client.stream("GET", f"{scripted.url}/events") as response:
                assert [event async for event in http.EventSource(response)] == EVENTS

    runner.run(main())


def test_an_endless_event_is_refused() -> None:
    for endless in ("data: x", "data: x\n", "data: \u00e4"):
        decoder = EventDecoder(1000)
        with pytest.raises(http.SSEError, match="1000 bytes"):
            for _ in range(1000):
                decoder.feed(endless)
    unlimited = EventDecoder(None)
    for _ in range(1000):
        assert unlimited.feed("data: x") == []


def test_events_of_a_client(runner: asyncio.Runner, scripted: Any) -> None:
    scripted.answer("/events", "Content-Type: text/event-stream", body=STREAM.encode())
    scripted.answer("/failed", "Content-Type: application/json", status="500 Oh", body=b"{}")
    with http.Client() as client:
        with client.sse(f"{scripted.url}/events", headers={"X-A": "1"}) as events:
            assert list(events) == EVENTS and events.response.status_code == 200
        assert events.response.is_closed
        sent = scripted.requests[0].headers
        assert (sent["accept"], sent["cache-control"], sent["x-a"]) == ("text/event-stream", "no-store", "1")
        with client.sse(f"{scripted.url}/failed", method="POST") as events:
            assert events.response.status_code == 500
            with pytest.raises(http.SSEError, match="application/json") as caught:
                list(events)
        assert caught.value.request.method == "POST"
        with client.sse(f"{scripted.url}/events", max_event_size=10) as events:
            with pytest.raises(http.SSEError, match="more than 10 bytes") as caught:
                list(events)
        assert caught.value.request.url.path == "/events"

    async def main() -> None:
        async with http.AsyncClient() as client:
            async with client.sse(f"{scripted.url}/events") as events:
                assert [event async for event in events] == EVENTS
            assert events.response.is_closed

    runner.run(main())
