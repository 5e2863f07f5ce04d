"""Fixtures of the TLS tests: certificates made for the occasion, and loops of three kinds."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.tls.certificates import make_certificates

KINDS = ("asyncio", "aioxide-libssl", "aioxide-stdlib")


@pytest.fixture(params=KINDS)
def loop_factory(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], asyncio.AbstractEventLoop]:
    """Python's own loop, and ours with either way to the TLS library."""
    if request.param == "asyncio":
        return asyncio.new_event_loop
    from aioxide import build_info, new_event_loop

    engine = request.param.removeprefix("aioxide-")
    monkeypatch.setenv("AIOXIDE_TLS", engine)
    assert build_info()["tls"].startswith(engine)
    return new_event_loop


@pytest.fixture
def kind(request: pytest.FixtureRequest) -> str:
    """Which of the loops it is."""
    chosen: str = request.node.callspec.params["loop_factory"]
    return chosen


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates and keys as files: ``ca.pem``, ``localhost.pem``, ``other.pem``, ``client.pem``."""
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def version(request: pytest.FixtureRequest) -> ssl.TLSVersion:
    chosen: ssl.TLSVersion = request.param
    return chosen


@pytest.fixture
def server_context(folder: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "localhost.pem")
    return context


@pytest.fixture
def client_context(folder: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(folder / "ca.pem"))


@pytest.fixture
def complaints(runner: asyncio.Runner) -> Iterator[list[dict[str, object]]]:
    """What the loop's exception handler is told."""
    told: list[dict[str, object]] = []
    runner.get_loop().set_exception_handler(lambda _loop, context: told.append(context))
    yield told


@contextlib.contextmanager
def at_version(version: ssl.TLSVersion, *contexts: ssl.SSLContext) -> Iterator[None]:
    """Contexts that speak this version alone."""
    for context in contexts:
        context.minimum_version = context.maximum_version = version
    yield
