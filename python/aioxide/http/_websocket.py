"""WebSockets: sessions that a client's `websocket` method opens, with the names of httpx2 and httpx-ws."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from ._exceptions import WebSocketDisconnect, WebSocketInvalidTypeReceived

if TYPE_CHECKING:
    from aioxide._native import RawWebSocket, WebSocketOperation

    from ._response import Response

T = TypeVar("T")

JSONMode = Literal["text", "binary"]

DEFAULT_MAX_MESSAGE_SIZE_BYTES = 16 * 1024 * 1024
DEFAULT_QUEUE_SIZE = 512
DEFAULT_KEEPALIVE_PING_INTERVAL_SECONDS = 20.0
DEFAULT_KEEPALIVE_PING_TIMEOUT_SECONDS = 20.0
DEFAULT_CLOSE_TIMEOUT_SECONDS = 10.0

_NORMAL_ENDS = (1000, 1001)


class WebSocketSettings:
    """How a WebSocket is to be, by the names that the core has."""

    __slots__ = (
        "close_timeout",
        "max_message_bytes",
        "ping_interval",
        "ping_timeout",
        "queue_messages_max",
        "subprotocols",
    )

    def __init__(
        self,
        subprotocols: list[str] | None,
        max_message_size_bytes: int,
        queue_size: int,
        keepalive_ping_interval_seconds: float | None,
        keepalive_ping_timeout_seconds: float | None,
        close_timeout_seconds: float,
    ) -> None:
        if isinstance(subprotocols, str):
            raise TypeError("subprotocols is a list of names, not one name")
        self.subprotocols = list(subprotocols or ())
        self.max_message_bytes = max_message_size_bytes
        self.queue_messages_max = queue_size
        self.ping_interval = keepalive_ping_interval_seconds
        self.ping_timeout = keepalive_ping_timeout_seconds
        self.close_timeout = close_timeout_seconds


class _Session:
    """What both kinds of session have in common."""

    def __init__(self, raw: RawWebSocket, response: Response) -> None:
        self._raw = raw
        self.response = response
        """The server's answer to the handshake."""
        self.subprotocol = raw.subprotocol
        """The subprotocol that the server chose; None if none."""

    @property
    def close_code(self) -> int | None:
        """The code with which it was closed, None while it is open. See WebSocketDisconnect."""
        closed = self._raw.closed
        return None if closed is None else closed[0]

    @property
    def close_reason(self) -> str | None:
        """The reason that was given with the code; None while it is open."""
        closed = self._raw.closed
        return None if closed is None else closed[1]

    @property
    def is_closed(self) -> bool:
        """Whether it has ended. What came before may still be received."""
        return self._raw.closed is not None

    def abort(self) -> None:
        """End it at once, without waiting for the server."""
        self._raw.abort()

    def __repr__(self) -> str:
        code = self.close_code
        state = "open" if code is None else f"closed with {code}"
        return f"<{type(self).__name__} {self.response.url} {state}>"


class AsyncWebSocketSession(_Session):
    """A WebSocket on a loop.

    Tasks may share it: any may send, and each message goes to one of those that receive. A receive that is cancelled
    loses no message, and a send that is cancelled has sent its message whole or not at all. Messages that nobody asks
    for wait, as many as `queue_size`; then the server has to. Pings are answered, and sent, by themselves.

    Once it has ended, everything raises WebSocketDisconnect, and a message that the server sends against the rules of
    the protocol ends it.
    """

    async def send_text(self, data: str) -> None:
        """Send a text message; it waits while the server does not take what was sent before."""
        if not isinstance(data, str):
            raise TypeError(f"send_text sends str, not {type(data).__name__}")
        await self._raw.send(data)

    async def send_bytes(self, data: bytes | bytearray | memoryview) -> None:
        """Send a binary message; it waits while the server does not take what was sent before."""
        await self._raw.send(_binary(data))

    async def send_json(self, data: Any, mode: JSONMode = "text") -> None:
        """Send JSON, as a text message or as a binary one."""
        await self._raw.send(_to_json(data, mode))

    async def receive(self, timeout: float | None = None) -> str | bytes:
        """The next message: str for text, bytes for a binary one. TimeoutError after so many seconds."""
        operation = self._raw.receive()
        if timeout is None:
            message: str | bytes = await operation
            return message
        from asyncio import timeout as limit

        async with limit(timeout):
            message = await operation
        return message

    async def receive_text(self, timeout: float | None = None) -> str:
        """The next message, which must be text: WebSocketInvalidTypeReceived if it is not. See `receive`."""
        return _expect(await self.receive(timeout), str)

    async def receive_bytes(self, timeout: float | None = None) -> bytes:
        """The next message, which must be binary: WebSocketInvalidTypeReceived if it is not. See `receive`."""
        return _expect(await self.receive(timeout), bytes)

    async def receive_json(self, timeout: float | None = None, mode: JSONMode = "text") -> Any:
        """The next message parsed as JSON; `mode` is of what kind it must be. See `receive`."""
        return _from_json(await self.receive(timeout), mode)

    def __aiter__(self) -> Self:
        """The messages as they come. They end when it is closed with 1000 or 1001, with WebSocketDisconnect else."""
        return self

    async def __anext__(self) -> str | bytes:
        try:
            return await self.receive()
        except WebSocketDisconnect as end:
            if end.code in _NORMAL_ENDS:
                raise StopAsyncIteration from None
            raise

    async def ping(self, payload: bytes = b"") -> AsyncPong:
        """Send a ping, and give what its answer can be awaited by; without a `payload` it has one of its own.

        >>> async def latency(session: AsyncWebSocketSession) -> float:
        ...     return await (await session.ping()).wait()
        """
        return AsyncPong(self._raw.ping(payload))

    async def close(self, code: int = 1000, reason: str | None = None) -> None:
        """Close it, once what was sent is on its way, and wait until the server has answered, or had its time.

        May be called again, then only waits. ValueError for a code that may not be sent, or a reason of more than 123
        bytes. When the wait is cancelled, the connection ends at once.
        """
        closing = self._raw.close(code, reason or "")
        try:
            await closing
        except BaseException:
            self._raw.abort()
            raise


class AsyncPong:
    """A ping's answer to come."""

    def __init__(self, operation: WebSocketOperation) -> None:
        self._operation = operation

    async def wait(self) -> float:
        """Wait for it: the seconds that it took since the ping was sent. To be called once."""
        took: float = await self._operation
        return took


class WebSocketSession(_Session):
    """A WebSocket for blocking code, from any number of threads at once; see AsyncWebSocketSession for what they share.

    Its bytes are moved by a thread of the package, so that pings are answered whatever the program is doing. Ctrl-C
    interrupts a call.
    """

    def send_text(self, data: str) -> None:
        """Send a text message; it waits while the server does not take what was sent before."""
        if not isinstance(data, str):
            raise TypeError(f"send_text sends str, not {type(data).__name__}")
        self._raw.send(data).wait()

    def send_bytes(self, data: bytes | bytearray | memoryview) -> None:
        """Send a binary message; it waits while the server does not take what was sent before."""
        self._raw.send(_binary(data)).wait()

    def send_json(self, data: Any, mode: JSONMode = "text") -> None:
        """Send JSON, as a text message or as a binary one."""
        self._raw.send(_to_json(data, mode)).wait()

    def receive(self, timeout: float | None = None) -> str | bytes:
        """The next message: str for text, bytes for a binary one. TimeoutError after so many seconds."""
        message: str | bytes = self._raw.receive().wait(timeout)
        return message

    def receive_text(self, timeout: float | None = None) -> str:
        """The next message, which must be text: WebSocketInvalidTypeReceived if it is not. See `receive`."""
        return _expect(self.receive(timeout), str)

    def receive_bytes(self, timeout: float | None = None) -> bytes:
        """The next message, which must be binary: WebSocketInvalidTypeReceived if it is not. See `receive`."""
        return _expect(self.receive(timeout), bytes)

    def receive_json(self, timeout: float | None = None, mode: JSONMode = "text") -> Any:
        """The next message parsed as JSON; `mode` is of what kind it must be. See `receive`."""
        return _from_json(self.receive(timeout), mode)

    def __iter__(self) -> Iterator[str | bytes]:
        """The messages as they come. They end when it is closed with 1000 or 1001, with WebSocketDisconnect else."""
        while True:
            try:
                message = self.receive()
            except WebSocketDisconnect as end:
                if end.code in _NORMAL_ENDS:
                    return
                raise
            yield message

    def ping(self, payload: bytes = b"") -> Pong:
        """Send a ping, and give what its answer can be waited for by; without a `payload` it has one of its own."""
        return Pong(self._raw.ping(payload))

    def close(self, code: int = 1000, reason: str | None = None) -> None:
        """As `AsyncWebSocketSession.close`."""
        closing = self._raw.close(code, reason or "")
        try:
            closing.wait()
        except BaseException:
            self._raw.abort()
            raise


class Pong:
    """A ping's answer to come."""

    def __init__(self, operation: WebSocketOperation) -> None:
        self._operation = operation

    def wait(self, timeout: float | None = None) -> float:
        """Wait for it: the seconds that it took since the ping was sent. TimeoutError after so many seconds."""
        took: float = self._operation.wait(timeout)
        return took


def _binary(data: Any) -> bytes:
    if isinstance(data, str):
        raise TypeError("send_bytes sends bytes, not str")
    return data if type(data) is bytes else bytes(memoryview(data))


def _to_json(data: Any, mode: JSONMode) -> str | bytes:
    from json import dumps

    text = dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text if _checked(mode) == "text" else text.encode()


def _from_json(message: str | bytes, mode: JSONMode) -> Any:
    from json import loads

    return loads(_expect(message, str) if _checked(mode) == "text" else _expect(message, bytes))


def _checked(mode: JSONMode) -> JSONMode:
    if mode not in ("text", "binary"):
        raise ValueError(f"mode is 'text' or 'binary', not {mode!r}")
    return mode


def _expect(message: object, kind: type[T]) -> T:
    if not isinstance(message, kind):
        raise WebSocketInvalidTypeReceived(message)
    return message
