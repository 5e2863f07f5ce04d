"""Equal requests that are under way at once: one of them is sent, the others wait for what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from threading import Event, Lock, get_ident
from typing import Any, Literal

Outcome = tuple[Literal["entry", "stand-in", "error", "given up"], Any]
"""What came of a flight: an entry that may be stored, or None for a response that others must not get; a stale entry
that stands in for an error; an exception; nothing, since its leader was cancelled.
"""


class Flight:
    """A request that others wait for, in any thread, on any loop."""

    def __init__(self, flights: Flights, key: Hashable) -> None:
        self.outcome: Outcome | None = None
        self.leader_thread = get_ident()
        self._flights = flights
        self._key = key
        self._waiting: dict[int, Callable[[], None]] = {}

    def end(self, outcome: Outcome) -> None:
        """It is over: wake all who wait. Later ones find no flight, or this outcome."""
        with self._flights.lock:
            if self.outcome is not None:
                return
            self.outcome = outcome
            self._flights.under_way.pop(self._key, None)
            waiting, self._waiting = self._waiting, {}
        for wake in waiting.values():
            wake()

    def result(self) -> Outcome:
        """What came of it. RuntimeError before its end."""
        if self.outcome is None:
            raise RuntimeError("the request that others wait for is still under way")
        return self.outcome

    def wait(self, seconds: float | None) -> bool | None:
        """Wait for the end, blocking. False when the time is over; None where waiting could not end."""
        if self.leader_thread == get_ident():
            return None  # the leader cannot go on before this returns
        ended = Event()
        with self._waiter(ended.set) as waits:
            return not waits or ended.wait(seconds)

    async def wait_async(self, seconds: float | None) -> bool | None:
        """Wait for the end on the running asyncio loop. False when the time is over."""
        from asyncio import get_running_loop, wait_for

        loop = get_running_loop()
        ended = loop.create_future()

        def wake() -> None:
            try:
                loop.call_soon_threadsafe(_resolve, ended)
            except RuntimeError:
                pass  # the loop was closed, and with it whoever waited here

        with self._waiter(wake) as waits:
            if waits:
                try:
                    await wait_for(ended, seconds)
                except TimeoutError:
                    return False
        return True

    def _waiter(self, wake: Callable[[], None]) -> _Waiter:
        return _Waiter(self, wake)


class _Waiter:
    """Registers somebody who waits, as long as the block is run. Gives whether there is something to wait for."""

    def __init__(self, flight: Flight, wake: Callable[[], None]) -> None:
        self._flight = flight
        self._wake = wake

    def __enter__(self) -> bool:
        with self._flight._flights.lock:
            if self._flight.outcome is not None:
                return False
            self._flight._waiting[id(self)] = self._wake
            return True

    def __exit__(self, *_: object) -> None:
        with self._flight._flights.lock:
            self._flight._waiting.pop(id(self), None)


def _resolve(future: Any) -> None:
    if not future.done():
        future.set_result(None)


class Flights:
    """The flights of a cache."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.under_way: dict[Hashable, Flight] = {}

    def join(self, key: Hashable, may_lead: bool) -> tuple[Flight | None, bool]:
        """The flight of this key, and whether the caller leads it and has to end it. None: there is none."""
        with self.lock:
            flight = self.under_way.get(key)
            if flight is not None or not may_lead:
                return flight, False
            flight = self.under_way[key] = Flight(self, key)
            return flight, True
