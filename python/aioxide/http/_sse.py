"""Server-sent events: a response of type ``text/event-stream`` as the events that come in it (WHATWG HTML, 9.2)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

from ._exceptions import SSEError
from ._verbs import MAX_EVENT_BYTES

if TYPE_CHECKING:
    from ._response import Response

# A thousand years have 14; Python refuses to read thousands of them.
MAX_RETRY_DIGITS = 18


class ServerSentEvent:
    """One event: its type `event` (``"message"`` unless the server names one), `data`, `id`, and `retry`.

    `id` is the last that the server has given. `retry` is the pause in milliseconds that it asks for before a new
    connection, None if it asks for none with this event.
    """

    __slots__ = ("data", "event", "id", "retry")

    def __init__(self, event: str = "message", data: str = "", id: str = "", retry: int | None = None) -> None:  # noqa: A002
        self.event = event
        self.data = data
        self.id = id
        self.retry = retry

    def json(self, **kwargs: Any) -> Any:
        """The data parsed as JSON; keyword arguments go to ``json.loads``."""
        from json import loads

        return loads(self.data, **kwargs)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ServerSentEvent):
            return NotImplemented
        return (self.event, self.data, self.id, self.retry) == (other.event, other.data, other.id, other.retry)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"ServerSentEvent(event={self.event!r}, data={self.data!r}, id={self.id!r}, retry={self.retry!r})"


class EventDecoder:
    r"""Cuts text that comes in pieces into events.

    >>> decoder = EventDecoder()
    >>> decoder.feed("data: a\ndata: b\n\nevent: x\r\nda")
    [ServerSentEvent(event='message', data='a\nb', id='', retry=None)]
    >>> decoder.feed("ta: c\n\n")
    [ServerSentEvent(event='x', data='c', id='', retry=None)]
    """

    def __init__(self, max_event_bytes: int | None = MAX_EVENT_BYTES) -> None:
        self._max_event_bytes = max_event_bytes
        self._line: list[str] = []
        self._line_length = 0
        self._after_return = False
        self._at_start = True
        self._data: list[str] = []
        self._data_length = 0
        self._event = ""
        self._id = ""
        self._retry: int | None = None

    def feed(self, text: str) -> list[ServerSentEvent]:
        """The events that are complete now. SSEError for one that is longer than `max_event_bytes`."""
        if self._at_start and text:
            text = text.removeprefix("\ufeff")
            self._at_start = False
        events = []
        for piece in text.splitlines(keepends=True) if _is_plain(text) else _split(text):
            if self._after_return:
                self._after_return = False
                if piece == "\n":
                    continue  # of the "\r\n" whose "\r" came before
            line = piece.rstrip("\r\n")
            self._line.append(line)
            self._line_length += _bytes_of(line)
            limit = self._max_event_bytes
            if limit is not None and self._line_length + self._data_length > limit:
                raise SSEError(f"an event of the stream has more than {limit} bytes")
            if len(line) == len(piece):
                continue  # its end has not come yet
            self._after_return = piece.endswith("\r")
            whole, self._line, self._line_length = "".join(self._line), [], 0
            event = self._take_line(whole)
            if event is not None:
                events.append(event)
        return events

    def _take_line(self, line: str) -> ServerSentEvent | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
            self._data_length += _bytes_of(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and value.isascii() and value.isdigit() and len(value) <= MAX_RETRY_DIGITS:
            self._retry = int(value)
        return None  # anything else, comments among it, is ignored

    def _dispatch(self) -> ServerSentEvent | None:
        data, event, retry = self._data, self._event, self._retry
        self._data, self._data_length, self._event, self._retry = [], 0, "", None
        if not data:
            return None
        return ServerSentEvent(event or "message", "\n".join(data), self._id, retry)


def _bytes_of(text: str) -> int:
    # Some of Python's codecs give lone surrogates.
    return len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))


def _is_plain(text: str) -> bool:
    """Whether str.splitlines() cuts it where an event stream is cut: at carriage returns and line feeds alone."""
    return text.isascii() and not any(end in text for end in "\x0b\x0c\x1c\x1d\x1e")


def _split(text: str) -> list[str]:
    import re

    return re.findall(r"[^\r\n]*(?:\r\n|[\r\n])|[^\r\n]+", text)


class EventSource:
    r"""The events of a streamed response, which is `response`.

    SSEError, when they are read, if the response's Content-Type is not ``text/event-stream``, or if an event has more
    than `max_event_size` bytes; None is no limit.

    >>> from aioxide import http
    >>> body = "event: greeting\ndata: hello\n\n"
    >>> response = http.Response(200, headers={"Content-Type": "text/event-stream"}, content=iter([body.encode()]))
    >>> [(event.event, event.data) for event in EventSource(response)]
    [('greeting', 'hello')]
    """

    def __init__(self, response: Response, max_event_size: int | None = MAX_EVENT_BYTES) -> None:
        self.response = response
        self._max_event_size = max_event_size

    def __iter__(self) -> Iterator[ServerSentEvent]:
        """The events as they come, of a Client's response."""
        decoder, text = self._decoder(), _utf8()
        for piece in self.response.iter_bytes():
            yield from self._fed(decoder, text.decode(piece))

    async def __aiter__(self) -> AsyncIterator[ServerSentEvent]:
        """The events as they come, of an AsyncClient's response."""
        decoder, text = self._decoder(), _utf8()
        async for piece in self.response.aiter_bytes():
            for event in self._fed(decoder, text.decode(piece)):
                yield event

    def _decoder(self) -> EventDecoder:
        kind = self.response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "text/event-stream":
            raise SSEError(
                f"a response of type {kind or 'unknown'!r} is no stream of events", request=self.response._request
            )
        return EventDecoder(self._max_event_size)

    def _fed(self, decoder: EventDecoder, text: str) -> list[ServerSentEvent]:
        try:
            return decoder.feed(text)
        except SSEError as error:
            error._request = self.response._request
            raise


def _utf8() -> Any:
    """An event stream is UTF-8, whatever its Content-Type says."""
    import codecs

    return codecs.getincrementaldecoder("utf-8")(errors="replace")
