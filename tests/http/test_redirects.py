"""Where redirects lead, what goes along, and what does not."""

from __future__ import annotations

import pytest

from aioxide import http

from .conftest import ScriptedServer


@pytest.mark.parametrize(
    ("status", "method", "followed_by"),
    [
        (301, "GET", "GET"),
        (301, "POST", "GET"),
        (301, "PUT", "PUT"),
        (302, "POST", "GET"),
        (302, "PUT", "GET"),
        (302, "HEAD", "HEAD"),
        (303, "POST", "GET"),
        (303, "DELETE", "GET"),
        (303, "HEAD", "HEAD"),
        (307, "POST", "POST"),
        (308, "PUT", "PUT"),
    ],
)
def test_the_method(scripted: ScriptedServer, status: int, method: str, followed_by: str) -> None:
    scripted.answer("/", "Location: /next", status=f"{status} Redirect")
    scripted.answer("/next")
    body = b"body" if method in ("POST", "PUT") else None
    with http.Client(follow_redirects=True) as client:
        response = client.request(method, scripted.url, content=body, headers={"Content-Type": "x/y"} if body else None)
    assert (response.status_code, [each.status_code for each in response.history]) == (200, [status])
    first, second = scripted.requests
    assert (first.method, second.method) == (method, followed_by)
    keeps_body = body is not None and followed_by == method
    assert second.body == (body if keeps_body else b"")
    assert ("content-type" in second.headers) == keeps_body
    assert ("content-length" in second.headers) == keeps_body


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/next", "/next"),
        ("next", "/dir/next"),
        ("../next?q=1", "/next?q=1"),
        ("?q", "/dir/page?q"),
        ("/n é", "/n%20%C3%A9"),
        ("http:/next", "/next"),
    ],
)
def test_the_location(scripted: ScriptedServer, location: str, target: str) -> None:
    scripted.answer("/dir/page", f"Location: {location}", status="302 Found")
    scripted.answer(target)
    response = http.get(f"{scripted.url}/dir/page#fragment", follow_redirects=True)
    assert response.status_code == 200
    assert response.url == f"{scripted.url}{target}#fragment"
    assert scripted.requests[1].path == target


@pytest.mark.parametrize("location", ["http://h:port/", "http://exa mple/", "http://h/\t"])
def test_a_location_that_is_no_url(scripted: ScriptedServer, location: str) -> None:
    scripted.answer("/", f"Location: {location}x", status="302 Found")
    with pytest.raises(http.RemoteProtocolError, match="Location") as caught:
        http.get(scripted.url, follow_redirects=True)
    assert caught.value.request.url == scripted.url


def test_a_location_of_another_protocol(scripted: ScriptedServer) -> None:
    scripted.answer("/", "Location: ftp://h/", status="302 Found")
    with pytest.raises(http.UnsupportedProtocol):
        http.get(scripted.url, follow_redirects=True)


def test_a_redirect_without_location_or_of_another_kind_is_an_answer(scripted: ScriptedServer) -> None:
    scripted.answer("/a", status="302 Found")
    scripted.answer("/b", "Location: /x", status="304 Not Modified")
    with http.Client(follow_redirects=True) as client:
        assert client.get(f"{scripted.url}/a").status_code == 302
        response = client.get(f"{scripted.url}/b")
        assert (response.status_code, response.is_redirect, response.has_redirect_location) == (304, True, False)


def test_credentials_stay_with_their_origin(scripted: ScriptedServer, other_scripted: ScriptedServer) -> None:
    scripted.answer("/", f"Location: {other_scripted.url}/there", "Set-Cookie: own=1", status="307 Redirect")
    other_scripted.answer("/there", f"Location: {scripted.url}/back", "Set-Cookie: other=2", status="307 Redirect")
    scripted.answer("/back")
    with http.Client(follow_redirects=True, auth=("user", "pass")) as client:
        client.get(scripted.url, headers={"Cookie": "mine=3", "X-Kept": "yes", "Proxy-Authorization": "p"})
    first, back = scripted.requests
    (there,) = other_scripted.requests
    assert first.headers["authorization"].startswith("Basic")
    assert first.headers["cookie"] == "mine=3"
    assert "authorization" not in there.headers
    assert "proxy-authorization" not in there.headers
    assert "cookie" not in there.headers or "mine" not in there.headers["cookie"]
    assert there.headers["x-kept"] == "yes"
    assert there.headers["host"] == f"127.0.0.1:{other_scripted.port}"
    assert "authorization" not in back.headers


def test_credentials_of_the_url_do_not_leak(scripted: ScriptedServer, other_scripted: ScriptedServer) -> None:
    scripted.answer("/", f"Location: {other_scripted.url}/there", status="302 Found")
    other_scripted.answer("/there")
    response = http.get(scripted.url.replace("//", "//user:secret@"), follow_redirects=True)
    assert scripted.requests[0].headers["authorization"].startswith("Basic")
    assert "authorization" not in other_scripted.requests[0].headers
    assert response.url.userinfo == b""


def test_cookies_on_the_way(scripted: ScriptedServer) -> None:
    scripted.answer(
        "/", "Location: /next", "Set-Cookie: a=1; Path=/next", "Set-Cookie: b=2; Path=/else", status="302 Found"
    )
    scripted.answer("/next", "Set-Cookie: a=; Path=/next; Max-Age=0")
    with http.Client(follow_redirects=True, cookies={"c": "3"}) as client:
        response = client.get(scripted.url)
        assert scripted.requests[0].headers["cookie"] == "c=3"
        assert scripted.requests[1].headers["cookie"] == "a=1; c=3"
        assert sorted(client.cookies) == ["b", "c"]
        assert sorted(response.history[0].cookies) == ["a", "b"]
        client.get(f"{scripted.url}/next")
        assert scripted.requests[2].headers["cookie"] == "c=3"


def test_too_many(url: str) -> None:
    with http.Client(base_url=url, max_redirects=3, follow_redirects=True) as client:
        assert client.get("/redirect/3").status_code == 200
        with pytest.raises(http.TooManyRedirects, match="more than 3") as caught:
            client.get("/redirect/4")
        assert caught.value.request.url.path.startswith("/redirect/")
        assert client.statistics()["requests_in_flight"] == 0
