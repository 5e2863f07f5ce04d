"""Carries out what a cache's exchange asks for: in blocking code, and on a loop."""

from __future__ import annotations

import logging
from asyncio import Task, _get_running_loop, gather, to_thread
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from .._exceptions import RequestError
from .._steps import carry_out, carry_out_async
from .._transports.trio import in_thread
from .exchange import CacheExchange, Step, Steps

if TYPE_CHECKING:
    from .._async import AsyncClient
    from .._request import Request
    from .._response import Response
    from .._sync import Client
    from .cache import Cache
    from .flights import Flight

_log = logging.getLogger("aioxide.http.cache")


def send_blocking(client: Client, cache: Cache, request: Request, stream: bool) -> Response:
    """The response to the request, from the cache or by the client."""

    def perform(step: Step) -> Any:
        kind, subject, argument = step
        if kind == "upstream":
            return client._send_upstream(subject, stream, argument)
        if kind == "store":
            return cache.call_store(subject, argument)
        if kind == "wait":
            return subject.wait(argument)
        subject.close()
        # What was to be done in the background is not: there is nothing that would carry it out.
        return kind == "close"

    response: Response = carry_out(CacheExchange(cache, request, stream, client._receive).steps(), perform)
    return response


async def send_async(client: AsyncClient, cache: Cache, request: Request, stream: bool) -> Response:
    """The response to the request, from the cache or by the client."""
    return await _carry_out(client, cache, CacheExchange(cache, request, stream, client._receive).steps(), stream)


def _carry_out(client: AsyncClient, cache: Cache, steps: Steps, stream: bool) -> Awaitable[Response]:
    async def perform(step: Step) -> Any:
        kind, subject, argument = step
        if kind == "upstream":
            return await client._send_upstream(subject, stream, argument)
        if kind == "store":
            return await cache.call_store_async(subject, argument)
        if kind == "wait":
            return await _wait(subject, argument)
        if kind == "close":
            return await subject.aclose()
        return _begin(client, cache, subject, argument)

    return carry_out_async(steps, perform)


async def _wait(flight: Flight, seconds: float | None) -> Any:
    if _get_running_loop() is None:
        return await in_thread(partial(flight.wait, seconds))
    return await flight.wait_async(seconds)


async def in_a_thread(call: Callable[..., Any], *arguments: Any) -> Any:
    """What a blocking call gives, on asyncio's loops and under trio."""
    if _get_running_loop() is None:
        return await in_thread(partial(call, *arguments))
    return await to_thread(call, *arguments)


def _begin(client: AsyncClient, cache: Cache, steps: Steps, flight: Flight) -> bool:
    """Have a task of the running loop carry out an exchange, if the loop is asyncio's. The client's end is its end."""
    loop = _get_running_loop()
    if loop is None:
        steps.close()
        return False
    task = loop.create_task(_revalidate(client, cache, steps), name="aioxide cache revalidation")
    client._background.add(task)
    task.add_done_callback(client._background.discard)
    # One that is cancelled before it has begun says nothing itself.
    task.add_done_callback(lambda _: flight.end(("given up", None)))
    return True


async def _revalidate(client: AsyncClient, cache: Cache, steps: Steps) -> None:
    try:
        await _carry_out(client, cache, steps, False)
    except RequestError as error:
        _log.info("a stale response could not be revalidated: %r", error)


async def end_background(tasks: set[Task[None]]) -> None:
    """Cancel what is carried out beside the requests, and wait for what of it is this loop's."""
    loop = _get_running_loop()
    own = [task for task in tasks if task.get_loop() is loop]
    for task in list(tasks):
        if task in own:
            task.cancel()
        else:
            try:
                task.get_loop().call_soon_threadsafe(task.cancel)
            except RuntimeError:
                pass  # that loop is closed, and runs nothing any more
    for outcome in await gather(*own, return_exceptions=True) if own else ():
        if isinstance(outcome, Exception):
            raise outcome
