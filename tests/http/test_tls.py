"""https: whom the client trusts, on every path that a request can take, with either way to the TLS library."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.http.proxies import Proxy
from tests.http.secure import SecureServer, serving

from aioxide import build_info, http

Get = Callable[..., http.Response]


@pytest.fixture(params=["libssl", "stdlib"], autouse=True)
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Either way to the TLS library."""
    chosen: str = request.param
    monkeypatch.setenv("AIOXIDE_TLS", chosen)
    if not build_info()["tls"].startswith(chosen):
        pytest.skip(f"the {chosen} way cannot be had here: {build_info()['tls']}")
    return chosen


@pytest.fixture
def secure(certificates: Path) -> Iterator[SecureServer]:
    with serving(certificates) as running:
        yield running


def on_loop(factory: Callable[[], asyncio.AbstractEventLoop] | None) -> Get:
    def get(url: str, **settings: Any) -> http.Response:
        async def main() -> http.Response:
            extensions = settings.pop("extensions", None)
            async with http.AsyncClient(**settings) as client:
                return await client.get(url, extensions=extensions)

        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(main())

    return get


def blocking(url: str, **settings: Any) -> http.Response:
    extensions = settings.pop("extensions", None)
    with http.Client(**settings) as client:
        return client.get(url, extensions=extensions)


def streaming(url: str, **settings: Any) -> http.Response:
    extensions = settings.pop("extensions", None)
    with http.Client(**settings) as client, client.stream("GET", url, extensions=extensions) as response:
        response.read()
        return response


@pytest.fixture(params=["own loop", "foreign loop", "blocking", "blocking stream"])
def get(request: pytest.FixtureRequest) -> Get:
    """One GET on each of the paths that a request may take."""
    from aioxide import new_event_loop

    return {
        "own loop": on_loop(new_event_loop),
        "foreign loop": on_loop(asyncio.new_event_loop),
        "blocking": blocking,
        "blocking stream": streaming,
    }[request.param]


def test_a_context_of_the_users(get: Get, secure: SecureServer, trusting: ssl.SSLContext) -> None:
    response = get(f"{secure.url}/hello", verify=trusting)
    assert (response.status_code, response.text, response.http_version) == (200, "/hello", "HTTP/1.1")
    steps = [response.timeline[name] for name in ("queue", "connect", "tls", "first_byte", "total")]
    assert steps == sorted(steps) and response.timeline["tls"] > response.timeline["connect"]


def test_large_bodies_both_ways(get: Get, secure: SecureServer, trusting: ssl.SSLContext) -> None:
    secure.answer = lambda message: bytes(range(256)) * 8192
    response = get(f"{secure.url}/large", verify=trusting)
    assert response.content == bytes(range(256)) * 8192


def test_uploads(secure: SecureServer, trusting: ssl.SSLContext) -> None:
    secure.answer = lambda message: message.body[::-1]
    body = bytes(range(251)) * 20_000
    with http.Client(verify=trusting) as client:
        for length in (0, 1, 16_000, 16_384, 70_000, len(body)):
            assert client.post(secure.url, content=body[:length]).content == body[:length][::-1]
    assert len(secure.resumed) == 1, "one connection serves them all"


def test_nobody_is_trusted_without_reason(
    get: Get, secure: SecureServer, eventually: Callable[[Callable[[], bool]], None]
) -> None:
    with pytest.raises(http.ConnectError, match=r"127\.0\.0\.1:\d+: .*CERTIFICATE_VERIFY_FAILED.*handshake") as caught:
        get(secure.url)
    assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
    assert caught.value.__cause__.verify_code != 0
    assert str(caught.value.request.url) == secure.url
    # The server is told why.
    eventually(lambda: any("UNKNOWN_CA" in each for each in secure.handshake_errors))


def test_the_name_must_fit(get: Get, certificates: Path, trusting: ssl.SSLContext) -> None:
    with serving(certificates, "other") as server:
        with pytest.raises(http.ConnectError, match="IP address mismatch"):
            get(server.url, verify=trusting)
        assert get(server.url, verify=trusting, extensions={"sni_hostname": "other.test"}).status_code == 200
        assert server.names[-1] == "other.test"


def test_verify_may_be_switched_off(get: Get, secure: SecureServer) -> None:
    assert get(f"{secure.url}/x", verify=False).text == "/x"


def test_names_are_told_and_addresses_are_not(secure: SecureServer, trusting: ssl.SSLContext) -> None:
    with http.Client(verify=trusting) as client:
        client.get(f"https://localhost:{secure.port}/")
        client.get(secure.url)
    assert secure.names == ["localhost", None]


def test_connections_are_shared_only_where_scheme_and_name_are_the_same(
    secure: SecureServer, trusting: ssl.SSLContext
) -> None:
    with http.Client(verify=trusting) as client:
        for _ in range(3):
            client.get(secure.url)
        assert len(secure.peers) == 1
        client.get(secure.url, extensions={"sni_hostname": "named.test"})
        client.get(secure.url)
        assert len(secure.peers) == 2
        with pytest.raises(http.TransportError):
            client.get(f"http://127.0.0.1:{secure.port}/")


@pytest.mark.skipif(not socket.has_ipv6, reason="there is no IPv6 here")
def test_ipv6_addresses(certificates: Path, trusting: ssl.SSLContext) -> None:
    with serving(certificates, host="::1") as server, http.Client(verify=trusting) as client:
        assert client.get(server.url).status_code == 200


def test_the_environment_names_authorities(
    secure: SecureServer, certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates / "ca.pem"))
    assert blocking(secure.url).status_code == 200
    with pytest.raises(http.ConnectError):
        blocking(secure.url, trust_env=False)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates / "none.pem"))
    with pytest.raises(http.ConnectError) as caught:
        blocking(secure.url)
    assert isinstance(caught.value.__cause__, FileNotFoundError)


def test_client_certificates(get: Get, secure: SecureServer, certificates: Path) -> None:
    secure.context.load_verify_locations(certificates / "ca.pem")
    secure.context.verify_mode = ssl.CERT_REQUIRED
    pair = (str(certificates / "client.crt"), str(certificates / "client.key"))
    for cert in (str(certificates / "client.pem"), pair):
        get(secure.url, verify=str(certificates / "ca.pem"), cert=cert)
        assert secure.peers[-1] and ("email", "client@example.test") in secure.peers[-1]["subjectAltName"]
    with pytest.raises((http.ReadError, http.ConnectError, http.WriteError, http.RemoteProtocolError)) as caught:
        get(secure.url, verify=str(certificates / "ca.pem"))
    assert isinstance(caught.value.__cause__, (ssl.SSLError, type(None)))


def test_a_key_log_is_written(get: Get, secure: SecureServer, trusting: ssl.SSLContext, tmp_path: Path) -> None:
    trusting.keylog_filename = str(tmp_path / "keys.log")
    get(secure.url, verify=trusting)
    assert "CLIENT_HANDSHAKE_TRAFFIC_SECRET" in (tmp_path / "keys.log").read_text()


def test_callbacks_of_a_subclass_are_called(get: Get, secure: SecureServer, certificates: Path) -> None:
    class Counting(ssl.SSLContext):
        made = 0

        def wrap_bio(self, *arguments: Any, **options: Any) -> ssl.SSLObject:
            type(self).made += 1
            return super().wrap_bio(*arguments, **options)

    context = Counting(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(certificates / "ca.pem")
    assert get(secure.url, verify=context).status_code == 200
    assert Counting.made == 1


def test_the_response_tells_of_its_connection(get: Get, secure: SecureServer, trusting: ssl.SSLContext) -> None:
    trusting.maximum_version = ssl.TLSVersion.TLSv1_2
    response = get(secure.url, verify=trusting)
    stream = response.extensions["network_stream"]
    ssl_object = stream.get_extra_info("ssl_object")
    assert isinstance(ssl_object, ssl.SSLObject)
    assert ssl_object.version() == "TLSv1.2" and ssl_object.getpeercert(True)
    assert ("DNS", "localhost") in (ssl_object.getpeercert() or {})["subjectAltName"]
    assert ssl_object.selected_alpn_protocol() is None
    assert stream.get_extra_info("server_addr") == ("127.0.0.1", secure.port)
    assert stream.get_extra_info("client_addr")[0] == "127.0.0.1"
    assert stream.get_extra_info("nothing") is None


def test_alpn_offers_http_1(get: Get, secure: SecureServer, trusting: ssl.SSLContext) -> None:
    secure.context.set_alpn_protocols(["h2", "http/1.1"])
    stream = get(secure.url, verify=trusting).extensions["network_stream"]
    assert stream.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"


def test_the_handshake_counts_as_connecting(get: Get, secure: SecureServer) -> None:
    secure.stalls.set()
    with pytest.raises(http.ConnectTimeout, match="0.2 s in the TLS handshake"):
        get(secure.url, timeout=http.Timeout(5, connect=0.2))


@pytest.mark.parametrize(("answer", "cause"), [(b"HTTP/1.1 400 Bad Request\r\n\r\n", ssl.SSLError), (b"", None)])
def test_a_server_without_tls(get: Get, answer: bytes, cause: type[Exception] | None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            connection, _ = listener.accept()
            connection.recv(10_000)
            connection.sendall(answer)
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(http.ConnectError, match="handshake") as caught:
            get(f"https://127.0.0.1:{listener.getsockname()[1]}/")
        thread.join()
    assert cause is None or isinstance(caught.value.__cause__, cause)


def test_a_connection_that_the_server_closed_is_not_used(secure: SecureServer, trusting: ssl.SSLContext) -> None:
    with http.Client(verify=trusting) as client:
        client.get(secure.url)
        assert client.statistics()["connections_idle"] == 1
        # The records of TLS 1.3's tickets do not count as something that nobody asked for.
        threading.Event().wait(0.05)
        client.post(secure.url, content=b"x")
        assert len(secure.peers) == 1
        secure.hang_up()
        threading.Event().wait(0.05)
        # What may not be sent twice is not sent on a connection that looks closed.
        client.post(secure.url, content=b"x")
        assert len(secure.peers) == 2


@pytest.mark.parametrize("scheme", ["http", "socks5"])
def test_through_a_proxy(get: Get, secure: SecureServer, trusting: ssl.SSLContext, scheme: str) -> None:
    proxy = Proxy(credentials=("user", "secret"))
    try:
        target = f"https://named.test:{secure.port}/behind"
        response = get(target, verify=trusting, proxy=f"{scheme}://user:secret@{proxy.address}")
        assert response.text == "/behind"
        assert proxy.targets == [("named.test", secure.port)] and secure.names == ["named.test"]
        assert "proxy-authorization" not in secure.requests[0].headers
    finally:
        proxy.close()


def test_a_proxy_that_is_spoken_to_by_tls(
    get: Get, secure: SecureServer, certificates: Path, trusting: ssl.SSLContext, url: str
) -> None:
    proxy = Proxy(certificate=certificates / "localhost.pem")
    try:
        settings = http.Proxy(f"https://{proxy.address}", ssl_context=trusting)
        # TLS in TLS, and what is forwarded.
        assert get(f"{secure.url}/deep", verify=trusting, proxy=settings).text == "/deep"
        assert get(f"{url}/hello", proxy=settings).status_code == 200
        assert proxy.heads[0].startswith(b"CONNECT 127.0.0.1") and proxy.heads[1].startswith(b"GET http://")
        with pytest.raises(http.ConnectError, match=f"the proxy {proxy.address}.*CERTIFICATE_VERIFY_FAILED"):
            get(secure.url, verify=trusting, proxy=f"https://{proxy.address}")
    finally:
        proxy.close()


def test_redirects_between_the_schemes(secure: SecureServer, scripted: Any, trusting: ssl.SSLContext) -> None:
    scripted.answer("/to", f"Location: {secure.url}/arrived", status="302 Found")
    with http.Client(verify=trusting, follow_redirects=True) as client:
        response = client.get(f"{scripted.url}/to", headers={"Authorization": "Basic x"})
        assert response.text == "/arrived" and "authorization" not in secure.requests[-1].headers


def test_cancelled_handshakes_leave_nothing(
    runner: asyncio.Runner, secure: SecureServer, eventually: Callable[[Callable[[], bool]], None]
) -> None:
    secure.stalls.set()

    async def main() -> None:
        async with http.AsyncClient() as client:
            tasks = [asyncio.ensure_future(client.get(secure.url)) for _ in range(10)]
            await asyncio.sleep(0.05)
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(result, asyncio.CancelledError) for result in results)
            # On another loop than ours the background engine drops them.
            eventually(lambda: client.statistics()["connections_open"] == 0)

    runner.run(main())
    gc.collect()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_sessions_are_resumed(
    secure: SecureServer, trusting: ssl.SSLContext, version: ssl.TLSVersion, certificates: Path
) -> None:
    trusting.minimum_version = trusting.maximum_version = version

    class Own(ssl.SSLContext):
        pass

    own = Own(ssl.PROTOCOL_TLS_CLIENT)
    own.load_verify_locations(certificates / "ca.pem")
    for context, resumed in ((trusting, [False, True, True]), (own, [False] * 3)):
        secure.resumed.clear()
        with http.Client(verify=context) as client:
            for n in range(3):
                response = client.get(secure.url, headers={"Connection": "close"})
                ssl_object = response.extensions["network_stream"].get_extra_info("ssl_object")
                assert ssl_object.getpeercert() and ssl_object.session_reused == resumed[n]
                secure.hang_up()
        assert secure.resumed == resumed


def test_many_threads_and_one_client(secure: SecureServer, trusting: ssl.SSLContext) -> None:
    secure.answer = lambda message: message.path.encode() * 5000
    failures: list[BaseException] = []
    with http.Client(verify=trusting) as client:

        def work(number: int) -> None:
            try:
                for turn in range(20):
                    path = f"/{number}/{turn}"
                    assert client.get(secure.url + path).text == path * 5000
                    with client.stream("GET", secure.url + path) as response:
                        ssl_object = response.extensions["network_stream"].get_extra_info("ssl_object")
                        assert ssl_object.cipher() and response.read()
            except BaseException as error:  # noqa: BLE001 - told in the main thread
                failures.append(error)

        threads = [threading.Thread(target=work, args=[number]) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []


def test_ends_of_the_input(get: Get, certificates: Path, trusting: ssl.SSLContext) -> None:
    """A body whose length is known must be whole; one that ends with the connection may end without close_notify."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates / "localhost.pem")
    answers = [b"HTTP/1.1 200 OK\r\n\r\nall", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"]
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for answer in answers:
                with context.wrap_socket(listener.accept()[0], server_side=True) as connection:
                    connection.recv(10_000)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/"
        assert get(url, verify=trusting).text == "all"
        with pytest.raises(http.RemoteProtocolError, match="before the body was whole"):
            get(url, verify=trusting)
        thread.join()


def test_exit_while_the_background_engine_is_in_a_handshake(secure: SecureServer, engine: str) -> None:
    secure.stalls.set()
    program = f"""
import threading
from aioxide import http
client = http.Client(verify=False)
def get():
    with client.stream("GET", {secure.url!r}, timeout=None) as response:
        response.read()
for _ in range(3):
    threading.Thread(target=get, daemon=True).start()
threading.Event().wait(0.3)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")


def test_history_against_a_site_with_tls(
    secure: SecureServer, certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates / "ca.pem"))
    command = [sys.executable, "-m", "aioxide", "history", "--url", f"{secure.url}/{{n}}", "--no-picture"]
    done = subprocess.run([*command, "--chapters", "2,3,5,9"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert sorted(message.path for message in secure.requests) == ["/1"] * 4 + ["/2"] * 4


Awaited = Awaitable[http.Response]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_many_at_once_on_a_loop(
    runner: asyncio.Runner, secure: SecureServer, trusting: ssl.SSLContext, version: ssl.TLSVersion
) -> None:
    trusting.minimum_version = trusting.maximum_version = version

    async def main() -> None:
        async with http.AsyncClient(verify=trusting, limits=http.Limits(max_connections=8)) as client:
            requests: list[Awaited] = [client.get(f"{secure.url}/{n}") for n in range(100)]
            responses = await asyncio.gather(*requests)
            assert [response.text for response in responses] == [f"/{n}" for n in range(100)]
            responses = await client.gather_get([f"{secure.url}/{n}" for n in range(50)], limit=4)
            assert len(responses) == 50

    runner.run(main())
    assert len(secure.peers) <= 8
