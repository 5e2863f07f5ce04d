"""Gather for a client that has something to decide about each request: a task of the loop sends each."""

from __future__ import annotations

from asyncio import Queue, Task, gather, get_running_loop
from collections.abc import Iterator
from typing import TYPE_CHECKING

from aioxide._native import Completed

from ._gather import Gather

if TYPE_CHECKING:
    from ._async import AsyncClient
    from ._request import Request


class TaskGather(Gather):
    """As Gather, by the client's own `send`: redirects, retries, authentication, hooks, cache, custom transports."""

    def __init__(self, client: AsyncClient, requests: list[Request], *, limit: int, return_exceptions: bool) -> None:
        super().__init__(client, client._transport, requests, limit=limit, return_exceptions=return_exceptions)
        self._left = len(requests)
        self._tasks: list[Task[None]] = []
        # What is completed waits here to be asked for; those who send wait too while there is so much of it.
        self._completed_ones: Queue[Completed] = Queue(limit)

    def _start(self) -> None:
        self._use()
        requests = iter(enumerate(self._requests))
        loop = get_running_loop()
        self._tasks = [loop.create_task(self._send(requests)) for _ in range(min(self._limit, len(self._requests)))]

    async def _send(self, requests: Iterator[tuple[int, Request]]) -> None:
        for index, request in requests:
            try:
                done = Completed(index, request.url, await self._client.send(request), None)
            except Exception as error:  # noqa: BLE001 - whoever asks for this one gets it
                done = Completed(index, request.url, None, error)
            await self._completed_ones.put(done)

    async def __anext__(self) -> Completed:
        if self._left == 0:
            await self.aclose()
            raise StopAsyncIteration
        try:
            done = await self._completed_ones.get()
        except BaseException:
            await self.aclose()
            raise
        self._left -= 1
        return done

    async def aclose(self) -> None:
        """Drop the requests that are still under way. May be called again."""
        self._left = 0
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await gather(*tasks, return_exceptions=True)
        await super().aclose()
