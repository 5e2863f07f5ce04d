"""aioxide.http under httpx's name. Each test in a process of its own: it changes what can be imported."""

from __future__ import annotations

import subprocess
import sys

import pytest


def run(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout


def test_programs_that_import_httpx_get_ours() -> None:
    out = run(
        "import importlib.util\n"
        "from aioxide import http\n"
        "http.alias_httpx(); http.alias_httpx()\n"
        "import httpx, httpx._transports.default as default\n"
        "from httpx import *\n"
        "from httpx._client import BaseClient, USE_CLIENT_DEFAULT, UseClientDefault\n"
        "from httpx._types import URLTypes, TimeoutTypes, AuthTypes, ProxyTypes, SyncByteStream\n"
        "from httpx._config import DEFAULT_TIMEOUT_CONFIG\n"
        "from httpx._models import Response as Same\n"
        "assert httpx.Client is Client is http.Client and Same is http.Response\n"
        "assert default.AsyncHTTPTransport is http.AsyncHTTPTransport\n"
        "assert importlib.util.find_spec('httpx') is not None\n"
        "assert httpx._client.Client is Client\n"
        "print(httpx.__version__, issubclass(httpx.ConnectError, httpx.HTTPError))\n"
        "try: httpx.nothing\n"
        "except AttributeError as error: print(error)\n"
    )
    assert out == "0.28.1 True\nmodule 'httpx', which is aioxide.http, has no attribute 'nothing'\n"


def test_it_comes_before_the_real_one_or_not_at_all() -> None:
    pytest.importorskip("httpx")
    out = run(
        "import httpx\n"
        "from aioxide import http\n"
        "try: http.alias_httpx()\n"
        "except RuntimeError as error: print(error)\n"
        "import httpx as again\n"
        "assert again is httpx and httpx.Client is not http.Client\n"
    )
    assert "imported already" in out
