"""A pytest plugin: whatever imports httpx or httpx2 after it gets aioxide.http. It is to be named first."""

from __future__ import annotations

import sys

from aioxide import http

http.alias_httpx()
assert "respx" not in sys.modules and "pytest_httpx" not in sys.modules
