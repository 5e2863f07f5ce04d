"""URL and QueryParams."""

from __future__ import annotations

import pytest

from aioxide import http


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("http://example.com", "http://example.com"),
        ("HTTP://EXAMPLE.com:80/", "http://example.com/"),
        ("https://example.com:443/a", "https://example.com/a"),
        ("http://example.com:8080/a", "http://example.com:8080/a"),
        ("http://example.com:080/", "http://example.com/"),
        ("http://example.com/a/./b/../c", "http://example.com/a/c"),
        ("http://example.com/../..", "http://example.com/"),
        ("http://example.com/a b?c d#e f", "http://example.com/a%20b?c%20d#e%20f"),
        ("http://example.com/%7Euser%2fx", "http://example.com/%7Euser%2fx"),
        ("http://example.com/é?é", "http://example.com/%C3%A9?%C3%A9"),
        ("http://[::1]:81/", "http://[::1]:81/"),
        ("http://exämple.com/", "http://xn--exmple-cua.com/"),
        ("http://Straße.de/", "http://xn--strae-oqa.de/"),
        ("mongodb://a_1,b%2C/", "mongodb://a_1,b%2C/"),
        ("http://u:p@h@example.com/", "http://u:p%40h@example.com/"),
        ("/relative/path?q", "/relative/path?q"),
        ("", ""),
    ],
)
def test_normal_form(text: str, normal: str) -> None:
    assert str(http.URL(text)) == normal
    assert str(http.URL(normal)) == normal


@pytest.mark.parametrize(
    "text",
    [
        "http://example.com:99999/",
        "http://example.com:x/",
        "http://exa mple.com/",
        "http://example.com/\r\nX: y",
        "http://example.com/\0",
        "http://[::1",
        "http://[zz]/",
        "http://1.2.3.400/",
        "http://010.1.1.1/",
        "http://a<b>/",
        "http://ü%41/",
        "http://example.com/" + "x" * 70_000,
    ],
)
def test_what_cannot_be_understood(text: str) -> None:
    with pytest.raises(http.InvalidURL):
        http.URL(text)


def test_parts() -> None:
    url = http.URL("https://user%40x:pa%3Ass@Example.com:8443/a%20b/c?q=1&q=2&r=x+y#frag%20ment")
    assert (url.scheme, url.raw_scheme) == ("https", b"https")
    assert (url.username, url.password, url.userinfo) == ("user@x", "pa:ss", b"user%40x:pa%3Ass")
    assert (url.host, url.raw_host, url.port, url.netloc) == ("example.com", b"example.com", 8443, b"example.com:8443")
    assert (url.path, url.raw_path) == ("/a b/c", b"/a%20b/c?q=1&q=2&r=x+y")
    assert (url.query, url.fragment) == (b"q=1&q=2&r=x+y", "frag ment")
    assert url.params.multi_items() == [("q", "1"), ("q", "2"), ("r", "x y")]
    assert url.is_absolute_url
    assert not url.is_relative_url
    assert "pa%3Ass" not in repr(url)


def test_copies_with_other_parts() -> None:
    url = http.URL("http://example.com:81/a?b=1#c")
    assert str(url.copy_with(scheme="https", host="Other.example")) == "https://other.example:81/a?b=1#c"
    assert str(url.copy_with(port=80)) == "http://example.com/a?b=1#c"
    assert str(url.copy_with(path="/x y")) == "http://example.com:81/x%20y?b=1#c"
    assert str(url.copy_with(raw_path=b"/z?w")) == "http://example.com:81/z?w#c"
    assert str(url.copy_with(query=None, fragment=None)) == "http://example.com:81/a"
    assert str(url.copy_with(username="u", password="p@")) == "http://u:p%40@example.com:81/a?b=1#c"
    assert str(url.copy_with(netloc=b"h:9")) == "http://h:9/a?b=1#c"
    assert str(url.copy_merge_params({"d": "e"})) == "http://example.com:81/a?b=1&d=e#c"
    assert str(url.copy_set_param("b", 2)) == "http://example.com:81/a?b=2#c"
    assert str(url.copy_add_param("b", 2)) == "http://example.com:81/a?b=1&b=2#c"
    assert str(url.copy_remove_param("b")) == "http://example.com:81/a#c"
    assert str(url) == "http://example.com:81/a?b=1#c"
    with pytest.raises(TypeError):
        url.copy_with(colour="red")
    with pytest.raises(TypeError):
        url.copy_with(port="80")
    with pytest.raises(http.InvalidURL):
        url.copy_with(path="no-slash")
    with pytest.raises(http.InvalidURL):
        url.copy_with(host="a/b")
    with pytest.raises(TypeError):
        http.URL(b"http://example.com/")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("reference", "target"),
    [
        # RFC 3986, section 5.4.
        ("g:h", "g:h"),
        ("g", "http://a/b/c/g"),
        ("./g", "http://a/b/c/g"),
        ("g/", "http://a/b/c/g/"),
        ("/g", "http://a/g"),
        ("//g", "http://g"),
        ("?y", "http://a/b/c/d;p?y"),
        ("g?y", "http://a/b/c/g?y"),
        ("#s", "http://a/b/c/d;p?q#s"),
        (";x", "http://a/b/c/;x"),
        ("", "http://a/b/c/d;p?q"),
        (".", "http://a/b/c/"),
        ("..", "http://a/b/"),
        ("../g", "http://a/b/g"),
        ("../..", "http://a/"),
        ("../../../g", "http://a/g"),
        ("g;x=1/../y", "http://a/b/c/y"),
        ("g?y/../x", "http://a/b/c/g?y/../x"),
    ],
)
def test_references_are_resolved(reference: str, target: str) -> None:
    assert str(http.URL("http://a/b/c/d;p?q").join(reference)) == target


def test_equality_and_hash() -> None:
    assert http.URL("http://a:80/") == "HTTP://A/"
    assert http.URL("http://a/") != "http://a:x/"
    assert http.URL("http://a/") != 1
    assert len({http.URL("http://a:80/"), http.URL("http://a/")}) == 1


def test_query_params() -> None:
    params = http.QueryParams([("a", 1), ("a", 2), ("b", None), ("c", True), ("d", "x y&é/%20")])
    assert str(params) == "a=1&a=2&b=&c=true&d=x+y%26%C3%A9%2F%2520"
    assert http.QueryParams(str(params)) == params
    assert params["a"] == "1"
    assert params.get_list("a") == ["1", "2"]
    assert params.get("z") is None
    assert ("a" in params, "z" in params, len(params)) == (True, False, 4)
    assert dict(params.items())["d"] == "x y&é/%20"
    assert str(http.QueryParams({"a": [1, 2]}).merge({"a": 3, "b": 4})) == "a=3&b=4"
    assert str(http.QueryParams(a=1)) == "a=1"
    assert str(http.QueryParams(b"a=1&b")) == "a=1&b="
    assert not http.QueryParams()
    with pytest.raises(RuntimeError):
        params["a"] = "1"
    with pytest.raises(RuntimeError):
        params.update({})
    with pytest.raises(TypeError):
        http.QueryParams({"a": 1}, b=2)
