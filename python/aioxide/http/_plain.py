"""Plain requests: a URL and nothing else, of a client that has nothing to decide about them.

Most requests are. One costs no Request and no headers of its own: the native core makes it of what all of the client's
have in common, and a Request is made only if somebody asks the response, or an error, for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeGuard

from aioxide._native import Template, are_plain_urls

from ._exceptions import RequestError
from ._request import Request
from ._urls import URL
from ._wire import with_request

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from aioxide._native import FetchMany, HttpClient, PendingResponse, RawResponse

    from ._config import Timeout
    from ._headers import RawHeaders


class Plain:
    """What a client's plain requests start from, for as long as the client's settings are those it was made of."""

    __slots__ = ("core", "fields", "limits", "template", "transport")

    def __init__(self, transport: Any, fields: RawHeaders, timeout: Timeout) -> None:
        self.transport = transport
        self.core: HttpClient = transport._core
        self.fields = fields.copy()
        self.limits = _limits(timeout)
        names = ("connect_timeout", "read_timeout", "write_timeout", "pool_timeout", "total_timeout")
        # None if there is a header that cannot be sent: whoever sends it as usual hears why.
        self.template: Template | None = Template.of(fields, **dict(zip(names, self.limits, strict=True)))

    def fits(self, transport: Any, fields: RawHeaders, timeout: Timeout) -> bool:
        """Whether nothing has changed."""
        return self.transport is transport and self.fields == fields and self.limits == _limits(timeout)

    def request(self, method: str, url: str) -> Request:
        """The request as everybody else sees it."""
        names = ("connect", "read", "write", "pool", "total")
        return Request._bare(
            method, URL(url), self.fields.copy(), {"timeout": dict(zip(names, self.limits, strict=True))}
        )

    def fetch(self, loop: AbstractEventLoop | None, method: str, url: str) -> PendingResponse | None:
        """Begin a request. None if the URL is not plain, or if there is no loop of asyncio's."""
        template = self.template
        return None if loop is None or template is None else self.core.fetch_plain(loop, method, url, template)

    def fetch_blocking(self, method: str, url: str) -> RawResponse | None:
        """The core's answer. None if the URL is not plain."""
        template = self.template
        try:
            return None if template is None else self.core.fetch_plain_blocking(method, url, template)
        except RequestError as error:
            raise with_request(error, self.request(method, url)) from error.__cause__

    def can_fetch(self, urls: list[Any]) -> TypeGuard[list[str]]:
        """Whether all of these URLs are plain."""
        return self.template is not None and are_plain_urls(urls)

    def fetch_many(
        self, loop: AbstractEventLoop, urls: list[str], limit: int, respond: Callable[..., Any]
    ) -> FetchMany:
        """Begin requests of many URLs that `can_fetch` has seen."""
        assert self.template is not None, "can_fetch says so"
        return self.core.fetch_many_plain(loop, urls, limit=limit, template=self.template, respond=respond)

    def give_up(self, pending: PendingResponse, error: BaseException, method: str, url: str) -> None:
        """Drop a request that is waited for no more, and tell an error of its own which request it belongs to."""
        pending.close()
        if isinstance(error, RequestError):
            with_request(error, self.request(method, url))


def _limits(timeout: Timeout) -> tuple[float | None, ...]:
    return timeout.connect, timeout.read, timeout.write, timeout.pool, timeout.total
