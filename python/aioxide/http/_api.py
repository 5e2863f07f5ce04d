"""One request, without a client: `get`, `post` and the others, and `gather_get` for many at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ._auth import AuthTypes
from ._config import DEFAULT_LIMITS, DEFAULT_TIMEOUT_CONFIG, Limits, TimeoutTypes
from ._content import RequestContent, RequestData
from ._cookies import CookieTypes
from ._headers import HeaderTypes
from ._multipart import RequestFiles
from ._query import QueryParamTypes
from ._response import Response
from ._sync import Client
from ._urls import URLTypes

if TYPE_CHECKING:
    from ._gather import Gather


def request(
    method: str,
    url: URLTypes,
    *,
    content: RequestContent | None = None,
    data: RequestData | None = None,
    files: RequestFiles | None = None,
    json: Any = None,
    params: QueryParamTypes | None = None,
    headers: HeaderTypes | None = None,
    cookies: CookieTypes | None = None,
    auth: AuthTypes | None = None,
    proxy: Any = None,
    follow_redirects: bool = False,
    verify: Any = True,
    timeout: TimeoutTypes = DEFAULT_TIMEOUT_CONFIG,
    trust_env: bool = True,
) -> Response:
    """Send one request, blocking, and give the response, its body read.

    Works from any thread; blocks a running event loop.

    Every call makes its own connection: use a Client for several requests to one host. `Client` says what the
    parameters mean and what is raised.

    >>> from aioxide import http
    >>> from aioxide._native import HttpServer
    >>> with HttpServer() as server:
    ...     http.request("GET", f"{server.url}/hello").status_code
    200
    """
    with Client(cookies=cookies, proxy=proxy, verify=verify, timeout=timeout, trust_env=trust_env) as client:
        return client.request(
            method,
            url,
            content=content,
            data=data,
            files=files,
            json=json,
            params=params,
            headers=headers,
            auth=auth,
            follow_redirects=follow_redirects,
        )


@contextmanager
def stream(
    method: str,
    url: URLTypes,
    *,
    content: RequestContent | None = None,
    data: RequestData | None = None,
    files: RequestFiles | None = None,
    json: Any = None,
    params: QueryParamTypes | None = None,
    headers: HeaderTypes | None = None,
    cookies: CookieTypes | None = None,
    auth: AuthTypes | None = None,
    proxy: Any = None,
    follow_redirects: bool = False,
    verify: Any = True,
    timeout: TimeoutTypes = DEFAULT_TIMEOUT_CONFIG,
    trust_env: bool = True,
) -> Iterator[Response]:
    """As ``with http.stream("GET", url) as response:``, the response is given as soon as its head has come.

    Its body is read piece by piece.

    >>> from aioxide import http
    >>> from aioxide._native import HttpServer
    >>> with HttpServer() as server, http.stream("GET", f"{server.url}/bytes/1000") as response:
    ...     sum(len(piece) for piece in response.iter_bytes())
    1000
    """
    with (
        Client(cookies=cookies, proxy=proxy, verify=verify, timeout=timeout, trust_env=trust_env) as client,
        client.stream(
            method,
            url,
            content=content,
            data=data,
            files=files,
            json=json,
            params=params,
            headers=headers,
            auth=auth,
            follow_redirects=follow_redirects,
        ) as response,
    ):
        yield response


def get(
    url: URLTypes,
    *,
    params: QueryParamTypes | None = None,
    headers: HeaderTypes | None = None,
    cookies: CookieTypes | None = None,
    auth: AuthTypes | None = None,
    proxy: Any = None,
    follow_redirects: bool = False,
    verify: Any = True,
    timeout: TimeoutTypes = DEFAULT_TIMEOUT_CONFIG,
    trust_env: bool = True,
) -> Response:
    """Send one GET request. See `request`."""
    return request(
        "GET",
        url,
        params=params,
        headers=headers,
        cookies=cookies,
        auth=auth,
        proxy=proxy,
        follow_redirects=follow_redirects,
        verify=verify,
        timeout=timeout,
        trust_env=trust_env,
    )


def options(
    url: URLTypes,
    *,
    params: QueryParamTypes | None = None,
    headers: HeaderTypes | None = None,
    cookies: CookieTypes | None = None,
    auth: AuthTypes | None = None,
    proxy: Any = None,
    follow_redirects: bool = False,
    verify: Any = True,
    timeout: TimeoutTypes = DEFAULT_TIMEOUT_CONFIG,
    trust_env: bool = True,
) -> Response:
    """Send one OPTIONS request. See `request`."""
    return request(
        "OPTIONS",
        url,
        params=params,
        headers=headers,
        cookies=cookies,
        auth=auth,
        proxy=proxy,
        follow_redirects=follow_redirects,
        verify=verify,
        timeout=timeout,
        trust_env=trust_env,
    )


def head(
    url: URLTypes,
    *,
    params: QueryParamTypes | None = None,
    headers: HeaderTypes | None = None,
    cookies: CookieTypes | None = None,
    auth: AuthTypes | None = None,
    proxy: Any = None,
    follow_redirects: bool = False,
    verify: Any = True,
    timeout: TimeoutTypes = DEFAULT_TIMEOUT_CONFIG,
    trust_env: bool = True,
) -> Response:
    """Send one HEAD request; the response has no body. See `request`."""
    return request(
        "HEAD",
        url,
        params=params,
        headers=headers,
        cookies=cookies,
        auth=auth,
        proxy=proxy,
        follow_redirects=follow_redirects,
        verify=verify,
        timeout=timeout,
        trust_env=trust_env,
    )


def delete(
    url: URLTypes,
    *,
    params: QueryParamTypes | None = None,
    headers: HeaderTypes | None = None,
    cookies: CookieTypes | None = None,
    auth: AuthTypes | None = None,
    proxy: Any = None,
    follow_redirects: bool = False,
    verify: Any = True,
    timeout: TimeoutTypes = DEFAULT_TIMEOUT_CONFIG,
    trust_env: bool = True,
) -> Response:
    """Send one DELETE request. See `request`."""
    return request(
        "DELETE",
        url,
        params=params,
        headers=headers,
        cookies=cookies,
        auth=auth,
        proxy=proxy,
        follow_redirects=follow_redirects,
        verify=verify,
        timeout=timeout,
        trust_env=trust_env,
    )


def post(
    url: URLTypes,
    *,
    content: RequestContent | None = None,
    data: RequestData | None = None,
    files: RequestFiles | None = None,
    json: Any = None,
    params: QueryParamTypes | None = None,
    headers: HeaderTypes | None = None,
    cookies: CookieTypes | None = None,
    auth: AuthTypes | None = None,
    proxy: Any = None,
    follow_redirects: bool = False,
    verify: Any = True,
    timeout: TimeoutTypes = DEFAULT_TIMEOUT_CONFIG,
    trust_env: bool = True,
) -> Response:
    """Send one POST request. See `request`."""
    return request(
        "POST",
        url,
        content=content,
        data=data,
        files=files,
        json=json,
        params=params,
        headers=headers,
        cookies=cookies,
        auth=auth,
        proxy=proxy,
        follow_redirects=follow_redirects,
        verify=verify,
        timeout=timeout,
        trust_env=trust_env,
    )


def put(
    url: URLTypes,
    *,
    content: RequestContent | None = None,
    data: RequestData | None = None,
    files: RequestFiles | None = None,
    json: Any = None,
    params: QueryParamTypes | None = None,
    headers: HeaderTypes | None = None,
    cookies: CookieTypes | None = None,
    auth: AuthTypes | None = None,
    proxy: Any = None,
    follow_redirects: bool = False,
    verify: Any = True,
    timeout: TimeoutTypes = DEFAULT_TIMEOUT_CONFIG,
    trust_env: bool = True,
) -> Response:
    """Send one PUT request. See `request`."""
    return request(
        "PUT",
        url,
        content=content,
        data=data,
        files=files,
        json=json,
        params=params,
        headers=headers,
        cookies=cookies,
        auth=auth,
        proxy=proxy,
        follow_redirects=follow_redirects,
        verify=verify,
        timeout=timeout,
        trust_env=trust_env,
    )


def patch(
    url: URLTypes,
    *,
    content: RequestContent | None = None,
    data: RequestData | None = None,
    files: RequestFiles | None = None,
    json: Any = None,
    params: QueryParamTypes | None = None,
    headers: HeaderTypes | None = None,
    cookies: CookieTypes | None = None,
    auth: AuthTypes | None = None,
    proxy: Any = None,
    follow_redirects: bool = False,
    verify: Any = True,
    timeout: TimeoutTypes = DEFAULT_TIMEOUT_CONFIG,
    trust_env: bool = True,
) -> Response:
    """Send one PATCH request. See `request`."""
    return request(
        "PATCH",
        url,
        content=content,
        data=data,
        files=files,
        json=json,
        params=params,
        headers=headers,
        cookies=cookies,
        auth=auth,
        proxy=proxy,
        follow_redirects=follow_redirects,
        verify=verify,
        timeout=timeout,
        trust_env=trust_env,
    )


def query(
    url: URLTypes,
    *,
    content: RequestContent | None = None,
    data: RequestData | None = None,
    files: RequestFiles | None = None,
    json: Any = None,
    params: QueryParamTypes | None = None,
    headers: HeaderTypes | None = None,
    cookies: CookieTypes | None = None,
    auth: AuthTypes | None = None,
    proxy: Any = None,
    follow_redirects: bool = False,
    verify: Any = True,
    timeout: TimeoutTypes = DEFAULT_TIMEOUT_CONFIG,
    trust_env: bool = True,
) -> Response:
    """Send one QUERY request: it changes nothing, as a GET, and says in its body what it asks for. See `request`."""
    return request(
        "QUERY",
        url,
        content=content,
        data=data,
        files=files,
        json=json,
        params=params,
        headers=headers,
        cookies=cookies,
        auth=auth,
        proxy=proxy,
        follow_redirects=follow_redirects,
        verify=verify,
        timeout=timeout,
        trust_env=trust_env,
    )


def gather_get(
    urls: Iterable[URLTypes],
    *,
    limit: int = 100,
    return_exceptions: bool = False,
    headers: HeaderTypes | None = None,
    cookies: CookieTypes | None = None,
    timeout: TimeoutTypes = DEFAULT_TIMEOUT_CONFIG,
    limits: Limits = DEFAULT_LIMITS,
) -> Gather:
    """GET many URLs at once, driven wholly in Rust.

    No task and no coroutine per request, at most `limit` of them under way.

    ``await gather_get(urls)`` gives the responses in the order of the URLs; the first error is raised and the rest is
    dropped, unless `return_exceptions` puts errors in the list. ``async for`` gives a Completed as each request
    completes, errors as values. See Gather. Redirects are not followed. InvalidURL is raised at once, before anything
    is sent.

    >>> import asyncio
    >>> from aioxide import http
    >>> from aioxide._native import HttpServer
    >>> async def main(url):
    ...     responses = await http.gather_get([f"{url}/{n}" for n in range(3)], limit=2)
    ...     return [response.url.path for response in responses]
    >>> with HttpServer() as server:
    ...     asyncio.run(main(server.url))
    ['/0', '/1', '/2']
    """
    from ._async import AsyncClient

    client = AsyncClient(cookies=cookies, timeout=timeout, limits=limits)
    gather = client.gather_get(urls, limit=limit, return_exceptions=return_exceptions, headers=headers)
    gather.owns_client = True
    return gather
