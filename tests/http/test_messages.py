"""Headers, Timeout, Limits, codes, Cookies, Request and Response, without a network."""

from __future__ import annotations

import gzip
import io
import pickle
import zlib
from typing import Any

import pytest

from aioxide import http


def test_headers() -> None:
    headers = http.Headers([("A", "1"), ("b", "2"), ("a", "3")])
    assert headers["a"] == "1, 3"
    assert headers.get_list("A") == ["1", "3"]
    assert http.Headers({"x": "1, 2,3"}).get_list("x", split_commas=True) == ["1", "2", "3"]
    assert headers.raw == [(b"A", b"1"), (b"b", b"2"), (b"a", b"3")]
    assert list(headers) == ["a", "b"]
    assert len(headers) == 3
    assert headers.multi_items() == [("a", "1"), ("b", "2"), ("a", "3")]
    headers["A"] = "4"
    assert headers.raw == [(b"A", b"4"), (b"b", b"2")]
    headers.update({"B": "5", "c": "6"})
    assert dict(headers) == {"a": "4", "b": "5", "c": "6"}
    del headers["a"]
    assert "A" not in headers
    assert headers.get("a", "none") == "none"
    with pytest.raises(KeyError):
        headers["a"]
    with pytest.raises(KeyError):
        del headers["a"]
    with pytest.raises(TypeError):
        http.Headers({"a": 1})  # type: ignore[dict-item]
    assert http.Headers({"A": "1"}) == {"a": "1"}
    assert http.Headers({"A": "1"}) != {"a": "2"}
    assert headers.copy() == headers


def test_headers_show_no_secret_and_read_any_encoding() -> None:
    assert "top" not in repr(http.Headers({"Authorization": "top secret"}))
    assert http.Headers([(b"a", "é".encode())])["a"] == "é"
    assert http.Headers([(b"a", b"\xe9")])["a"] == "é"
    assert http.Headers([(b"a", b"\xe9")]).encoding == "iso-8859-1"


def test_timeout() -> None:
    assert http.Timeout(5) == http.Timeout(connect=5, read=5, write=5, pool=5)
    assert http.Timeout(None).as_dict() == dict.fromkeys(("connect", "read", "write", "pool", "total"))
    assert http.Timeout(5, read=None, total=9).as_dict() == {
        "connect": 5,
        "read": None,
        "write": 5,
        "pool": 5,
        "total": 9,
    }
    assert http.Timeout((1, 2)).as_dict()["pool"] is None
    assert http.Timeout(http.Timeout(1), total=2).total == 2
    with pytest.raises(ValueError, match="all four"):
        http.Timeout(connect=1)


def test_codes() -> None:
    assert http.codes.OK == 200
    assert http.codes.get_reason_phrase(404) == "Not Found"
    assert http.codes.get_reason_phrase(499) == ""
    assert http.codes.is_client_error(404)
    assert not http.codes.is_error(302)
    assert getattr(http.codes, "not_found") == 404


def response_of(url: str, *set_cookie: str) -> http.Response:
    return http.Response(200, headers=[("Set-Cookie", each) for each in set_cookie], request=http.Request("GET", url))


def sent_to(jar: http.Cookies, url: str) -> str:
    request = http.Request("GET", url)
    jar.set_cookie_header(request)
    return str(request.headers.get("cookie", ""))


def test_cookies_go_where_they_belong() -> None:
    jar = http.Cookies()
    jar.extract_cookies(
        response_of(
            "http://www.a.example/dir/page",
            "host=1",
            "domain=2; Domain=.a.example; Path=/",
            "root=3; Path=/; HttpOnly",
            "old=4; Max-Age=0",
            "past=5; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
            "later=6; Expires=Wed, 21-Oct-2099 07:28:00 GMT",
            "foreign=7; Domain=b.example",
            "top=8; Domain=example",
            "secure=9; Secure",
            "=nameless",
            "broken",
        )
    )
    assert sorted(jar) == ["domain", "host", "later", "root"]
    assert sent_to(jar, "http://www.a.example/dir/other") == "host=1; later=6; domain=2; root=3"
    assert sent_to(jar, "http://www.a.example/directory") == "domain=2; root=3"
    assert sent_to(jar, "http://a.example/") == "domain=2"
    assert sent_to(jar, "http://xa.example/") == ""
    jar.extract_cookies(response_of("http://www.a.example/", "root=; Path=/; Max-Age=-1"))
    assert "root" not in jar


def test_cookies_of_a_tls_host_stay_with_tls() -> None:
    jar = http.Cookies()
    jar.extract_cookies(response_of("https://a.example/", "s=1; Secure"))
    assert sent_to(jar, "https://a.example/") == "s=1"
    assert sent_to(jar, "http://a.example/") == ""


@pytest.mark.parametrize(
    ("host", "domain", "sent_to_host", "sent_below"),
    [
        ("shop.example.co.uk", "example.co.uk", True, True),
        ("shop.example.co.uk", "co.uk", False, False),
        ("me.github.io", ".github.io", False, False),
        ("me.github.io", "me.github.io", True, True),
        ("github.io", "github.io", True, False),  # a suffix may keep a cookie to itself
        ("a.xn--55qx5d.cn", "xn--55qx5d.cn", False, False),
        ("b.a.ck", "a.ck", False, False),  # by the rule *.ck
        ("b.www.ck", "www.ck", True, True),  # by the exception from it
        ("localhost", "localhost", True, False),
        ("a.localhost", "localhost", False, False),
        ("example.com", "com", False, False),
        ("127.0.0.1", "127.0.0.1", True, False),
        ("127.0.0.1", "0.0.1", False, False),
        ("a.example", "b.example", False, False),
    ],
)
def test_no_cookie_is_set_for_a_public_suffix(host: str, domain: str, sent_to_host: bool, sent_below: bool) -> None:
    jar = http.Cookies()
    jar.extract_cookies(response_of(f"http://{host}/", f"a=1; Domain={domain}"))
    assert sent_to(jar, f"http://{host}/") == ("a=1" if sent_to_host else "")
    assert sent_to(jar, f"http://below.{host}/") == ("a=1" if sent_below else "")
    assert sent_to(jar, "http://other.co.uk/") == sent_to(jar, "http://other.github.io/") == ""


def test_cookie_jar_as_a_mapping() -> None:
    jar = http.Cookies({"a": "1"})
    jar["b"] = "2"
    jar.set("a", "3", domain="x.example")
    with pytest.raises(http.CookieConflict):
        jar["a"]
    assert jar.get("a", domain="x.example") == "3"
    jar.delete("a", domain="x.example")
    assert dict(jar) == {"a": "1", "b": "2"}
    with pytest.raises(KeyError):
        jar["c"]
    with pytest.raises(KeyError):
        jar.delete("c", domain="d", path="/")
    del jar["b"]
    assert len(jar) == 1
    assert "1" not in repr(jar).replace("127", "")
    assert dict(pickle.loads(pickle.dumps(jar))) == {"a": "1"}
    jar.clear()
    assert not jar


def test_request_bodies() -> None:
    def request(**kwargs: Any) -> tuple[bytes, str | None, str | None]:
        made = http.Request("POST", "http://h/", **kwargs)
        return made.content, made.headers.get("content-type"), made.headers.get("content-length")

    assert request() == (b"", None, "0")
    assert request(content="é") == ("é".encode(), None, "2")
    assert request(content=bytearray(b"ab")) == (b"ab", None, "2")
    form = "application/x-www-form-urlencoded"
    assert request(data={"a": "x y", "b": [1, None], "c": True}) == (b"a=x+y&b=1&b=&c=true", form, "19")
    assert request(json={"a": [1, "é"]}) == ('{"a":[1,"é"]}'.encode(), "application/json", "14")
    assert request(json=[], headers={"Content-Type": "x/y"}) == (b"[]", "x/y", "2")
    assert "content-length" not in http.Request("GET", "http://h/").headers
    assert http.Request("get", "http://h:81/").headers["host"] == "h:81"
    with pytest.raises(TypeError):
        request(content=1)
    with pytest.raises(TypeError):
        request(data=1)
    with pytest.warns(DeprecationWarning, match="content="):
        assert request(data=b"raw")[0] == b"raw"
    with pytest.raises(ValueError, match="JSON"):
        request(json=float("nan"))


def test_request_body_from_an_iterable() -> None:
    request = http.Request("POST", "http://h/", content=iter([b"a", b"b"]))
    assert request.headers["transfer-encoding"] == "chunked"
    with pytest.raises(http.RequestNotRead):
        request.content
    assert request.read() == b"ab"
    file = io.BytesIO(b"before x\ny")
    file.seek(7)
    request = http.Request("POST", "http://h/", content=file)
    assert request.headers["content-length"] == "3"
    assert request.read() == b"x\ny"

    def fails() -> Any:
        yield b"a"
        raise ZeroDivisionError

    request = http.Request("POST", "http://h/", content=fails())
    with pytest.raises(ZeroDivisionError):
        request.read()
    with pytest.raises(http.StreamConsumed):
        request.read()


def test_multipart() -> None:
    request = http.Request(
        "POST",
        "http://h/",
        data={"field": ["1", b"2"], 'quo"te\r\n': 3},
        files=[
            ("one", b"bytes"),
            ("two", ('na"me.txt', io.BytesIO(b"file"))),
            ("three", ("x.bin", "text", "image/png", {"X-Part": "y"})),
            ("four", (None, b"plain")),
        ],
        headers={"Content-Type": "multipart/form-data; boundary=mark"},
    )
    assert request.read().decode() == (
        '--mark\r\nContent-Disposition: form-data; name="field"\r\n\r\n1\r\n'
        '--mark\r\nContent-Disposition: form-data; name="field"\r\n\r\n2\r\n'
        '--mark\r\nContent-Disposition: form-data; name="quo%22te%0D%0A"\r\n\r\n3\r\n'
        '--mark\r\nContent-Disposition: form-data; name="one"; filename="upload"\r\n'
        "Content-Type: application/octet-stream\r\n\r\nbytes\r\n"
        '--mark\r\nContent-Disposition: form-data; name="two"; filename="na%22me.txt"\r\n'
        "Content-Type: text/plain\r\n\r\nfile\r\n"
        '--mark\r\nContent-Disposition: form-data; name="three"; filename="x.bin"\r\n'
        "X-Part: y\r\nContent-Type: image/png\r\n\r\ntext\r\n"
        '--mark\r\nContent-Disposition: form-data; name="four"\r\n\r\nplain\r\n'
        "--mark--\r\n"
    )
    with pytest.raises(TypeError, match="binary"):
        http.Request("POST", "http://h/", files={"f": io.StringIO("text")})
    with pytest.raises(ValueError, match="line break"):
        http.Request("POST", "http://h/", files={"f": ("n", b"", "a/b\r\nX: y")})


def test_response_by_hand() -> None:
    response = http.Response(404, text="né")
    assert (response.text, response.content, response.charset_encoding) == ("né", "né".encode(), "utf-8")
    assert (response.reason_phrase, response.http_version, response.timeline) == ("Not Found", "HTTP/1.1", {})
    assert (response.is_client_error, response.is_error, response.is_success) == (True, True, False)
    assert http.Response(200, html="<b>").headers["content-type"] == "text/html; charset=utf-8"
    assert http.Response(200, content=b"x").read() == b"x"
    assert http.Response(200, content=iter([b"x", b"y"])).read() == b"xy"
    assert repr(response) == "<Response [404 Not Found]>"
    with pytest.raises(RuntimeError):
        response.request
    with pytest.raises(RuntimeError):
        response.raise_for_status()
    with pytest.raises(RuntimeError):
        http.Response(200, content=iter([b"x"])).elapsed
    with pytest.raises(AttributeError):
        response.colour


@pytest.mark.parametrize(
    ("status", "kind"),
    [(101, "Informational response"), (302, "Redirect response"), (404, "Client error"), (500, "Server error")],
)
def test_raise_for_status(status: int, kind: str) -> None:
    request = http.Request("GET", "http://user:secret@h/x")
    assert http.Response(204, request=request).raise_for_status().status_code == 204
    with pytest.raises(http.HTTPStatusError, match=f"{kind} '{status}") as caught:
        http.Response(status, request=request).raise_for_status()
    assert caught.value.request is request
    assert caught.value.response.status_code == status
    assert "secret" not in str(caught.value)


def test_text_of_any_charset() -> None:
    def text(content: bytes, content_type: str, **kwargs: Any) -> str:
        return http.Response(200, content=content, headers={"Content-Type": content_type}, **kwargs).text

    assert text(b"\xe9", "text/plain; charset=iso-8859-1") == "é"
    assert text("é".encode(), "text/plain; charset=no-such") == "é"
    assert text("é".encode(), "text/plain; charset=hex") == "é"
    assert text(b"\xff", "text/plain") == "\ufffd"
    assert text(b"\xe9", "text/plain", default_encoding="latin-1") == "é"
    assert text(b"\xe9", "text/plain", default_encoding=lambda content: "latin-1") == "é"
    response = http.Response(200, content=b"\xe9")
    response.encoding = "latin-1"
    assert response.text == "é"
    with pytest.raises(ValueError, match="encoding"):
        response.encoding = "utf-8"


def test_compressed_bodies() -> None:
    data = b"hello " * 1000
    bare = zlib.compressobj(wbits=-15)
    for encoding, body in [
        ("gzip", gzip.compress(data)),
        ("x-gzip", gzip.compress(data[:10]) + gzip.compress(data[10:])),
        ("deflate", zlib.compress(data)),
        ("deflate", bare.compress(data) + bare.flush()),
        ("deflate, gzip", gzip.compress(zlib.compress(data))),
        ("identity", data),
    ]:
        headers = {"Content-Encoding": encoding}
        assert http.Response(200, headers=headers, content=body).content == data
        pieces = iter([body[at : at + 1] for at in range(len(body))])
        assert http.Response(200, headers=headers, content=pieces).read() == data
    for encoding, body in [
        ("gzip", b"not gzip"),
        ("gzip", gzip.compress(data)[:-9]),
        ("deflate", b"\xff\xff\xff"),
        ("deflate", zlib.compress(data)[:-9]),
        ("br", b"x"),
    ]:
        with pytest.raises(http.DecodingError):
            http.Response(200, headers={"Content-Encoding": encoding}, content=iter([body])).read()


def test_iterating_over_a_body() -> None:
    def response() -> http.Response:
        return http.Response(200, content=iter(["é\r".encode()[:1], "é\r".encode()[1:], b"\nzw", b"ei\n\n", b"drei"]))

    assert list(response().iter_bytes(4)) == ["é\r\n".encode(), b"zwei", b"\n\ndr", b"ei"]
    assert "".join(response().iter_text()) == "é\r\nzwei\n\ndrei"
    assert list(response().iter_text(5)) == ["é\r\nzw", "ei\n\nd", "rei"]
    assert list(response().iter_lines()) == ["é", "zwei", "", "drei"]
    once = response()
    assert list(once.iter_raw())
    assert once.num_bytes_downloaded == 14
    with pytest.raises(http.StreamConsumed):
        list(once.iter_raw())
    with pytest.raises(http.ResponseNotRead):
        once.content
    closed = response()
    closed.close()
    with pytest.raises(http.StreamClosed):
        closed.read()
    with pytest.raises(ValueError, match="positive"):
        list(response().iter_bytes(0))
    whole = http.Response(200, content=b"abc")
    assert list(whole.iter_bytes(2)) == [b"ab", b"c"]
    assert list(whole.iter_bytes(2)) == [b"ab", b"c"]


def test_links() -> None:
    header = '<http://h/2>; rel="next", <http://h/9>; rel=last'
    links = http.Response(200, headers={"Link": header}).links
    assert links == {"next": {"url": "http://h/2", "rel": "next"}, "last": {"url": "http://h/9", "rel": "last"}}


def test_pickling() -> None:
    request = http.Request("POST", "http://h/", json=1)
    response = http.Response(200, json={"a": 1}, request=request)
    again = pickle.loads(pickle.dumps(response))
    assert (again.json(), again.status_code, again.request.method) == ({"a": 1}, 200, "POST")
    unread = pickle.loads(pickle.dumps(http.Response(200, content=iter([b"x"]))))
    with pytest.raises(http.ResponseNotRead):
        unread.content
    with pytest.raises(http.StreamClosed):
        unread.read()
    error = pickle.loads(pickle.dumps(http.HTTPStatusError("no", request=request, response=response)))
    assert (str(error), error.response.status_code) == ("no", 200)
    timeout = pickle.loads(pickle.dumps(http.ReadTimeout("late", request=request)))
    assert timeout.request.method == "POST"


def test_exceptions() -> None:
    with pytest.raises(RuntimeError, match="request"):
        http.ConnectError("no").request
    assert issubclass(http.ConnectTimeout, http.TimeoutException)
    assert issubclass(http.StreamClosed, RuntimeError)
    assert not issubclass(http.InvalidURL, http.HTTPError)
