"""The user's context is honoured whole: callbacks, certificates, sessions, key log; and its errors are CPython's."""

from __future__ import annotations

import asyncio
import ssl
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.tls.conftest import at_version
from tests.tls.peers import Echo, Recorder, connect, echo, finish, run, serving, streaming


async def exchange(port: int, context: ssl.SSLContext, **options: Any) -> ssl.SSLObject:
    """A message there and back; gives the client's SSLObject."""
    reader, writer = await connect(port, context, **options)
    try:
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
    finally:
        await finish(writer)
    ssl_object: ssl.SSLObject = writer.get_extra_info("ssl_object")
    return ssl_object


def test_alpn(runner: asyncio.Runner, server_context: ssl.SSLContext, client_context: ssl.SSLContext) -> None:
    server_context.set_alpn_protocols(["h2", "http/1.1"])
    client_context.set_alpn_protocols(["http/1.1"])

    async def main() -> None:
        async with streaming(echo, server_context) as port:
            assert (await exchange(port, client_context)).selected_alpn_protocol() == "http/1.1"

    run(runner, main())


def test_sni_callback_may_change_the_context(
    runner: asyncio.Runner, server_context: ssl.SSLContext, client_context: ssl.SSLContext, folder: Path
) -> None:
    other = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    other.load_cert_chain(folder / "other.pem")
    seen: list[tuple[Any, str | None]] = []

    def choose(ssl_object: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> int | None:
        assert context is server_context
        seen.append((ssl_object, name))
        if name == "other.test":
            ssl_object.context = other
        return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME if name == "refused.test" else None

    server_context.sni_callback = choose

    async def main() -> None:
        async with streaming(echo, server_context) as port:
            await exchange(port, client_context)
            await exchange(port, client_context, server_hostname="other.test")
            # asyncio keeps the alert to itself, and closes; ours sends it.
            is_ours = type(asyncio.get_running_loop()).__module__.startswith("aioxide")
            with pytest.raises(ssl.SSLError if is_ours else ConnectionError) as caught:
                await exchange(port, client_context, server_hostname="refused.test")
            assert not is_ours or "UNRECOGNIZED_NAME" in str(caught.value).upper().replace(" ", "_")

    run(runner, main())
    assert [name for _, name in seen] == ["localhost", "other.test", "refused.test"]
    assert all(isinstance(each, ssl.SSLObject) for each, _ in seen)


def test_key_log(
    runner: asyncio.Runner,
    server_context: ssl.SSLContext,
    client_context: ssl.SSLContext,
    version: ssl.TLSVersion,
    tmp_path: Path,
) -> None:
    client_context.keylog_filename = str(tmp_path / "client")
    server_context.keylog_filename = str(tmp_path / "server")

    async def main() -> None:
        async with streaming(echo, server_context) as port:
            await exchange(port, client_context)

    with at_version(version, server_context, client_context):
        run(runner, main())
    label = "CLIENT_RANDOM" if version is ssl.TLSVersion.TLSv1_2 else "CLIENT_TRAFFIC_SECRET_0"
    lines = [
        [line for line in (tmp_path / name).read_text().splitlines() if label in line] for name in ("client", "server")
    ]
    assert lines[0] == lines[1] != []


def test_message_callback(
    runner: asyncio.Runner, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    heard: list[Any] = []
    client_context._msg_callback = lambda *message: heard.append(message)  # type: ignore[attr-defined]

    async def main() -> None:
        async with streaming(echo, server_context) as port:
            await exchange(port, client_context)

    run(runner, main())
    assert {message[1] for message in heard} == {"read", "write"}
    assert isinstance(heard[0][0], ssl.SSLObject)


@pytest.mark.parametrize("brings_one", [True, False])
def test_client_certificates(
    runner: asyncio.Runner,
    server_context: ssl.SSLContext,
    client_context: ssl.SSLContext,
    version: ssl.TLSVersion,
    folder: Path,
    brings_one: bool,
) -> None:
    server_context.verify_mode = ssl.CERT_REQUIRED
    server_context.load_verify_locations(folder / "ca.pem")
    if brings_one:
        client_context.load_cert_chain(folder / "client.pem")
    names: list[Any] = []

    class Server(Echo):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            names.append(transport.get_extra_info("peercert")["subjectAltName"])

    async def main() -> None:
        async with serving(Server, server_context) as port:
            if brings_one:
                await exchange(port, client_context)
                return
            # In TLS 1.3 the client's handshake is over before the server has seen that there is no certificate. The
            # alert may be lost to the reset that follows it.
            with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
                await exchange(port, client_context)

    with at_version(version, server_context, client_context):
        run(runner, main())
    assert names == ([(("email", "client@example.test"),)] if brings_one else [])


def test_post_handshake_authentication(
    runner: asyncio.Runner, server_context: ssl.SSLContext, client_context: ssl.SSLContext, folder: Path
) -> None:
    server_context.load_verify_locations(folder / "ca.pem")
    server_context.verify_mode = ssl.CERT_OPTIONAL
    for context in (server_context, client_context):
        context.post_handshake_auth = True
    client_context.load_cert_chain(folder / "client.pem")

    async def main() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            ssl_object = writer.get_extra_info("ssl_object")
            assert ssl_object.getpeercert() is None
            await reader.readexactly(1)
            ssl_object._sslobj.verify_client_post_handshake()
            writer.write(b"1")
            await reader.readexactly(1)
            writer.write(b"2" if ssl_object.getpeercert() else b"0")
            await reader.read()
            await finish(writer)

        async with streaming(serve, server_context) as port:
            reader, writer = await connect(port, client_context)
            writer.write(b"a")
            assert await reader.readexactly(1) == b"1"
            writer.write(b"b")
            assert await reader.readexactly(1) == b"2"
            await finish(writer)

    run(runner, main())


def test_sessions_are_resumed(
    runner: asyncio.Runner, server_context: ssl.SSLContext, client_context: ssl.SSLContext, version: ssl.TLSVersion
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with streaming(echo, server_context) as port:
            first = await exchange(port, client_context)
            assert not first.session_reused
            assert first.session is not None
            wrap_bio = client_context.wrap_bio
            # asyncio has no parameter for it; those who resume do it so.
            client_context.wrap_bio = lambda *args, **kwargs: wrap_bio(*args, session=first.session, **kwargs)  # type: ignore[method-assign]
            second = await exchange(port, client_context)
            assert second.session_reused
            assert loop is asyncio.get_running_loop()

    with at_version(version, server_context, client_context):
        run(runner, main())


@pytest.mark.skipif(sys.version_info < (3, 13), reason="pre-shared keys came in Python 3.13")
@pytest.mark.skipif(not getattr(ssl, "HAS_PSK", False), reason="this ssl module has no pre-shared keys")
def test_pre_shared_keys(runner: asyncio.Runner, version: ssl.TLSVersion) -> None:
    key = bytes(range(32))
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    asked: list[Any] = []

    def for_client(hint: str | None) -> tuple[str, bytes]:
        asked.append(hint)
        return "someone", key

    def for_server(identity: str | None) -> bytes:
        asked.append(identity)
        return key

    client.set_psk_client_callback(for_client)  # type: ignore[attr-defined]
    server.set_psk_server_callback(for_server, "hint")  # type: ignore[attr-defined]
    for context in (client, server):
        if version is ssl.TLSVersion.TLSv1_2:
            context.set_ciphers("PSK")

    async def main() -> None:
        async with streaming(echo, server) as port:
            await exchange(port, client)

    with at_version(version, client, server):
        run(runner, main())
    assert "someone" in asked


def test_verification_errors_are_those_of_the_ssl_module(
    runner: asyncio.Runner, complaints: list[dict[str, Any]], server_context: ssl.SSLContext, folder: Path
) -> None:
    stranger = ssl.create_default_context()

    async def main() -> None:
        async with serving(Recorder, server_context) as port:
            with pytest.raises(ssl.SSLCertVerificationError) as caught:
                await connect(port, stranger)
            assert type(caught.value) is ssl.SSLCertVerificationError
            assert caught.value.verify_code in (19, 20, 21)
            assert "local issuer" in caught.value.verify_message or "self-signed" in caught.value.verify_message
            assert caught.value.reason == "CERTIFICATE_VERIFY_FAILED"
            known = ssl.create_default_context(cafile=str(folder / "ca.pem"))
            with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
                await connect(port, known, server_hostname="wrong.test")
            await asyncio.sleep(0.01)

    run(runner, main())


def test_verify_flags(runner: asyncio.Runner, server_context: ssl.SSLContext, client_context: ssl.SSLContext) -> None:
    client_context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF

    async def main() -> None:
        async with serving(Recorder, server_context) as port:
            with pytest.raises(ssl.SSLCertVerificationError, match="(?i)CRL"):
                await connect(port, client_context)
            await asyncio.sleep(0.01)

    run(runner, main())


def test_no_common_version(
    runner: asyncio.Runner, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    server_context.minimum_version = ssl.TLSVersion.TLSv1_3
    client_context.maximum_version = ssl.TLSVersion.TLSv1_2

    async def main() -> None:
        async with serving(Recorder, server_context) as port:
            with pytest.raises((ssl.SSLError, ConnectionResetError)):
                await connect(port, client_context)
            await asyncio.sleep(0.01)

    run(runner, main())


def test_a_context_with_its_own_class_of_objects(
    runner: asyncio.Runner, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    class Checked(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            done.append(self)

    done: list[ssl.SSLObject] = []
    client_context.sslobject_class = Checked

    async def main() -> None:
        async with streaming(echo, server_context) as port:
            assert isinstance(await exchange(port, client_context), Checked)

    run(runner, main())
    assert len(done) == 1


def test_ssl_true_makes_a_context(runner: asyncio.Runner, server_context: ssl.SSLContext) -> None:
    async def main() -> None:
        async with serving(Recorder, server_context) as port:
            loop = asyncio.get_running_loop()
            with pytest.raises(ssl.SSLCertVerificationError):
                await loop.create_connection(Recorder, "127.0.0.1", port, ssl=True)
            with pytest.raises(ValueError, match="server_hostname is only meaningful with ssl"):
                await loop.create_connection(Recorder, "127.0.0.1", port, server_hostname="localhost")
            await asyncio.sleep(0.01)

    run(runner, main())
