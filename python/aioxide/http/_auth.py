"""Who asks: authentication as a flow of requests."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncGenerator, Callable, Generator
from typing import TYPE_CHECKING, Any, Union

if TYPE_CHECKING:
    from ._request import Request
    from ._response import Response

AuthFlow = Generator["Request", "Response", None]
AuthTypes = Union[tuple[str | bytes, str | bytes], Callable[["Request"], "Request"], "Auth"]


class Auth:
    """Base of every kind of authentication.

    A subclass defines `auth_flow`: it yields the request, gets the response, and may yield again.

    `requires_response_body` has the response read before the flow gets it, `requires_request_body` the request. A
    subclass that does input and output of its own defines `sync_auth_flow` or `async_auth_flow` instead.

    >>> class Token(Auth):
    ...     def auth_flow(self, request):
    ...         request.headers["X-Token"] = "abc"
    ...         yield request
    """

    requires_request_body = False
    requires_response_body = False

    def auth_flow(self, request: Request) -> AuthFlow:
        """Yield what is to be sent, get its response, and return when no other request has to follow."""
        yield request

    def sync_auth_flow(self, request: Request) -> AuthFlow:
        """The flow as a Client goes through it: `auth_flow`, with the bodies read that it requires."""
        if self.requires_request_body:
            request.read()
        flow = self.auth_flow(request)
        try:
            request = next(flow)
            while True:
                response = yield request
                if self.requires_response_body:
                    response.read()
                try:
                    request = flow.send(response)
                except StopIteration:
                    return
        finally:
            flow.close()

    async def async_auth_flow(self, request: Request) -> AsyncGenerator[Request, Response]:
        """The flow as an AsyncClient goes through it."""
        if self.requires_request_body:
            await request.aread()
        flow = self.auth_flow(request)
        try:
            request = next(flow)
            while True:
                response = yield request
                if self.requires_response_body:
                    await response.aread()
                try:
                    request = flow.send(response)
                except StopIteration:
                    return
        finally:
            flow.close()


class FunctionAuth(Auth):
    """A function that takes the request and gives it back with credentials."""

    def __init__(self, func: Callable[[Request], Request]) -> None:
        self._func = func

    def auth_flow(self, request: Request) -> AuthFlow:
        """Send what the function gives."""
        yield self._func(request)


class BasicAuth(Auth):
    """User and password in the ``Authorization`` header (RFC 7617), encoded as UTF-8.

    >>> from aioxide import http
    >>> request = next(BasicAuth("user", "secret").auth_flow(http.Request("GET", "http://h/")))
    >>> request.headers["authorization"]
    'Basic dXNlcjpzZWNyZXQ='
    """

    def __init__(self, username: str | bytes, password: str | bytes) -> None:
        self._header = basic_header(username, password)

    def auth_flow(self, request: Request) -> AuthFlow:
        """Send the request with the Authorization header."""
        request.headers["Authorization"] = self._header
        yield request


class NetRCAuth(Auth):
    """User and password from a netrc file, by the request's host; none where the file has none for it.

    `file` is by default ``~/.netrc``. It is read once, here: OSError when it is missing, netrc.NetrcParseError when it
    cannot be understood.
    """

    def __init__(self, file: str | None = None) -> None:
        from netrc import netrc

        self._netrc = netrc(file)

    def auth_flow(self, request: Request) -> AuthFlow:
        """Send the request, with the Authorization header if the host is known."""
        found = self._netrc.authenticators(request.url.host)
        if found is not None and found[2]:
            request.headers["Authorization"] = basic_header(found[0], found[2])
        yield request


def basic_header(username: str | bytes, password: str | bytes) -> str:
    """The value of an Authorization header for user and password."""
    raw = (username.encode() if isinstance(username, str) else username) + b":"
    raw += password.encode() if isinstance(password, str) else password
    return "Basic " + b64encode(raw).decode("ascii")


def build_auth(auth: Any) -> Auth | None:
    """From what a caller may pass as auth= to an Auth. TypeError when it is none of them."""
    if auth is None or isinstance(auth, Auth):
        return auth
    if isinstance(auth, tuple):
        if len(auth) != 2:
            raise TypeError(f"auth= as a tuple is (user, password), not {len(auth)} items")
        return BasicAuth(*auth)
    if callable(auth):
        return FunctionAuth(auth)
    raise TypeError(
        f"auth= is a (user, password) tuple, a function of the request, or an Auth, not {type(auth).__name__}"
    )


def authenticate_once(request: Request, auth: Auth | None) -> None:
    """Put the credentials on a request that is sent once.

    NotImplementedError for an Auth that may want to see a response.
    """
    if auth is None:
        return
    if not isinstance(auth, (BasicAuth, FunctionAuth)) or next(auth.auth_flow(request)) is not request:
        raise NotImplementedError(f"{type(auth).__name__} may need several requests: send them one by one")
