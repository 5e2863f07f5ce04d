"""Random input for whatever of HTTP is read, or put together, in Python.

What is right is read right however it is cut, and nothing raises anything but what its documentation says.
``AIOXIDE_FUZZ_RUNS=100000`` runs more; a failure names its seed, which ``AIOXIDE_FUZZ_SEED`` begins with. What is read
in Rust has a test of its own (crates/engine/tests/http_fuzz.rs).
"""

from __future__ import annotations

import email.parser
import email.policy
import os
import random
import zlib
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from urllib.robotparser import RobotFileParser

from aioxide import http
from aioxide.http._cookies import Cookies
from aioxide.http._decoders import content_decoder
from aioxide.http._digest import parse_challenge
from aioxide.http._multipart import encode_multipart
from aioxide.http._quoting import FORM_SAFE, PATH_SAFE, parse_form, quote, quote_form, unquote
from aioxide.http._retry import parse_retry_after
from aioxide.http._sse import EventDecoder, ServerSentEvent

REQUEST = http.Request("GET", "http://a.test/b?c")
# What no header holds that comes over the wire, and what it may.
NEVER_SENT = ["\r", "\n", "\r\n", "\0", "\ud800"]
SENT = [" ", "\t", '"', "\\", ";", ",", "=", ":", "%", "%41", "%zz", "é", "𝄞", "\ufeff", "\x0b", "\x0c", "\x1c", "\x85"]
SENT += ["\u2028", "9" * 20, "9" * 5000, "-1", "0", "1e999", "NaN", "A", "a", "+", "&", "#", "/"]


class Dice(random.Random):
    def text(self, most: int, more: list[str] | None = None) -> str:
        return "".join(self.choice(NEVER_SENT + SENT + (more or []) * 4) for _ in range(self.randrange(most)))

    def damaged(self, text: str) -> str:
        for _ in range(self.randrange(4)):
            at, length = self.randrange(len(text) + 1), self.randrange(6)
            text = text[:at] + self.choice([self.choice(SENT), text[at : at + length] * 2, ""]) + text[at + length :]
        return text

    def cut(self, whole: Any) -> list[Any]:
        pieces = []
        while whole:
            length = self.randint(1, self.choice([1, 3, len(whole)]))
            pieces.append(whole[:length])
            whole = whole[length:]
        return pieces


def fuzz(runs: int) -> Callable[[Callable[[Dice], None]], Callable[[], None]]:
    def decorate(one_run: Callable[[Dice], None]) -> Callable[[], None]:
        def test() -> None:
            first = int(os.environ.get("AIOXIDE_FUZZ_SEED", "1"))
            for seed in range(first, first + int(os.environ.get("AIOXIDE_FUZZ_RUNS", runs))):
                try:
                    one_run(Dice(seed))
                except BaseException as failure:
                    failure.add_note(f"AIOXIDE_FUZZ_SEED={seed} AIOXIDE_FUZZ_RUNS=1 runs it again")
                    raise

        test.__name__ = one_run.__name__
        return test

    return decorate


@fuzz(600)
def test_server_sent_events(dice: Dice) -> None:
    lines = [
        "data: ",
        "data",
        "data:",
        "event: x",
        "id: 1",
        "id:",
        "retry: ",
        "retry: 10",
        ": comment",
        "\n",
        "\n",
        "\n",
    ]
    text = dice.text(40, lines)
    whole = EventDecoder().feed(text)
    decoder = EventDecoder()
    assert [event for piece in dice.cut(text) for event in decoder.feed(piece)] == whole
    for event in whole:
        assert isinstance(event, ServerSentEvent) and "\r" not in event.data and event.event
        assert event.retry is None or event.retry >= 0


@fuzz(600)
def test_quoting(dice: Dice) -> None:
    text = dice.text(15)
    readable = text.encode("utf-8", "replace").decode()
    assert unquote(quote_form(readable).replace("+", " ")) == readable
    assert parse_form(f"{quote_form(readable)}={quote_form(readable)}") == [(readable, readable)]
    for safe in (PATH_SAFE, FORM_SAFE):
        quoted = quote(text, safe)
        assert quoted.isascii() and quote(quoted, safe) == quoted
    pairs = parse_qsl(quote_form(readable) + "=1", keep_blank_values=True, max_num_fields=10)
    assert pairs == [(readable, "1")]
    assert http.QueryParams(str(http.QueryParams([(readable, readable)]))) == http.QueryParams([(readable, readable)])


URL_PARTS = [
    "http",
    "https",
    "://",
    "//",
    "?",
    "@",
    "[::1]",
    "a.test",
    "127.0.0.1",
    ":80",
    "..",
    "%2e",
    "[",
    "]",
    "^",
    "{",
]


@fuzz(1500)
def test_urls(dice: Dice) -> None:
    text = dice.choice(["http://a.test", ""]) + dice.text(8, URL_PARTS)
    try:
        url = http.URL(text)
    except http.InvalidURL:
        return
    assert str(url).isascii()
    for part in (url.raw_host, url.raw_path, url.query, url.netloc, url.userinfo):
        assert not any(byte in part for byte in b"\r\n\0 \t")
    if url.is_absolute_url:
        assert http.URL(str(url)) == url
        other = urlsplit(str(url))
        assert (other.scheme, other.netloc.rpartition("@")[2]) == (url.scheme, url.netloc.decode())
    base = http.URL("http://base.test/a/b?c#d")
    try:
        joined = base.join(text)
    except http.InvalidURL:
        return
    assert str(joined).isascii()


@fuzz(400)
def test_multipart(dice: Dice) -> None:
    def part() -> str:
        return dice.text(6).encode("utf-8", "replace").decode()

    data = {part() or "x": part() for _ in range(dice.randrange(3))}
    files = [(part() or "x", (part(), os.urandom(dice.randrange(100)))) for _ in range(dice.randrange(1, 3))]
    kind, segments = encode_multipart(data, files, None)
    body = b"".join(segment if isinstance(segment, bytes) else segment.read() for segment in segments)
    boundary = kind.rpartition("boundary=")[2].encode()
    parts = body.split(b"--" + boundary)
    # Whatever names hold, nothing of them ends a head, or makes another part.
    assert parts[0] == b"" and parts[-1] == b"--\r\n" and len(parts) == len(data) + len(files) + 2
    for piece, (_, content) in zip(parts[1 + len(data) : -1], [file for _, file in files], strict=True):
        head, _, rest = piece.partition(b"\r\n\r\n")
        assert rest == content + b"\r\n"
        parsed = email.parser.BytesHeaderParser(policy=email.policy.compat32).parsebytes(head.lstrip())
        assert set(parsed.keys()) <= {"Content-Disposition", "Content-Type"}


@fuzz(600)
def test_digest_challenges(dice: Dice) -> None:
    header = 'Digest realm="r, \\"x\\"", nonce="n", qop="auth,auth-int", opaque="o", algorithm=SHA-256'
    header = dice.damaged(header)
    try:
        challenge = parse_challenge(header, REQUEST)
    except http.ProtocolError as error:
        assert error.request is REQUEST
        return
    auth = http.DigestAuth("user", "secret")
    try:
        answer = auth._build_auth_header(http.Request("GET", "http://a.test/b?c"), challenge)
    except (http.ProtocolError, NotImplementedError):
        return
    assert answer.startswith('Digest username="user"') and "secret" not in answer


@fuzz(1500)
def test_digest_answers_break_no_head(dice: Dice) -> None:
    """What a server says goes back in a header of ours: as a field of the response it came without line breaks."""
    value = dice.damaged('Digest realm="r", nonce="n", opaque="o", qop="auth"').encode()
    seen: list[http.Request] = []

    def answer(request: http.Request) -> http.Response:
        seen.append(request)
        return http.Response(401, headers=[(b"WWW-Authenticate", value)])

    with http.Client(transport=http.MockTransport(answer)) as client:
        try:
            client.get("http://a.test/", auth=http.DigestAuth("u", "p"))
        except (http.ProtocolError, NotImplementedError):
            return
    assert len(seen) <= 2
    for name, field in seen[-1].headers.raw:
        assert b"\r" not in name + field and b"\n" not in name + field


@fuzz(1500)
def test_retry_after(dice: Dice) -> None:
    text = dice.damaged(
        dice.choice(["120", "Wed, 21 Oct 2035 07:28:00 GMT", "Mon, 01 Jan 0001 00:00:00 -0000", "soon"])
    )
    seconds = parse_retry_after(text)
    assert seconds is None or seconds >= 0


@fuzz(1000)
def test_cookies(dice: Dice) -> None:
    line = "a=b; Domain=a.test; Path=/x; Max-Age=10; Expires=Wed, 21 Oct 2035 07:28:00 GMT; Secure; HttpOnly"
    value = dice.damaged(line).encode()
    response = http.Response(200, headers=[(b"Set-Cookie", value)], request=http.Request("GET", "https://w.a.test/x/y"))
    jar = Cookies()
    jar.extract_cookies(response)
    assert len(jar) <= 1
    header = jar._header_for(http.URL("https://w.a.test/x/y"))
    assert not header or not any(character in header for character in "\r\n\0;")
    for other in ("https://other.test/", "https://a.test.evil.test/x/y", "https://xa.test/x"):
        assert not jar._header_for(http.URL(other))


@fuzz(1000)
def test_content_types(dice: Dice) -> None:
    kind = dice.damaged('text/html; charset="utf-8"; boundary=x').encode()
    body = bytes(dice.randrange(256) for _ in range(20))
    response = http.Response(200, headers=[(b"Content-Type", kind)], content=body)
    assert isinstance(response.text, str)


@fuzz(300)
def test_encoded_bodies(dice: Dice) -> None:
    plain = b"what is said " * dice.randrange(200)
    name, window = dice.choice([("gzip", 31), ("deflate", 15), ("deflate", -15)])
    compressor = zlib.compressobj(wbits=window)
    coded = bytearray(compressor.compress(plain) + compressor.flush())
    is_damaged = dice.random() < 0.5
    if is_damaged:
        for _ in range(dice.randrange(1, 4)):
            coded[dice.randrange(len(coded)) :][:1] = bytes([dice.randrange(256)])
            del coded[dice.randrange(len(coded) + 1) :][:1]
            coded[dice.randrange(len(coded))] ^= dice.randrange(1, 256)
    decoder = content_decoder([name])
    assert decoder is not None
    try:
        decoded = b"".join(part for piece in dice.cut(bytes(coded)) for part in decoder.pieces(piece))
        decoder.finish()
    except Exception as error:
        # The client makes a DecodingError of it.
        assert is_damaged and isinstance(error, (zlib.error, ValueError, EOFError, http.DecodingError)), repr(error)
        return
    assert is_damaged or decoded == plain


@fuzz(400)
def test_robots(dice: Dice) -> None:
    from aioxide.fetch._robots import _lines

    text = dice.damaged("User-agent: *\nDisallow: /a\nCrawl-delay: 0.5\nRequest-rate: 1/5\nAllow: /\n")
    text = text.replace("0.5", dice.choice(["0.5", "9" * 5000, "²", "1e5", "٣", "nan", ".5 # x"]))
    rules = RobotFileParser()
    rules.parse(_lines(http.Response(200, content=text.encode())))
    rules.modified()
    assert isinstance(rules.can_fetch("aioxide", "http://a.test/a"), bool)
    delay = rules.crawl_delay("aioxide")
    assert delay is None or float(delay) >= 0
