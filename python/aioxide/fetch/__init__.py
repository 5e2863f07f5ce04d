"""`aioxide fetch`: many URLs, politely, resumably; and `fetch_many`, the same for programs.

>>> import asyncio
>>> from aioxide.fetch import fetch_many
>>> from aioxide._native import HttpServer
>>> async def main(url):
...     return sorted([result.status async for result in fetch_many([f"{url}/status/200", f"{url}/status/404"])])
>>> with HttpServer() as server:
...     asyncio.run(main(server.url))
[200, 404]
"""

from __future__ import annotations

from ._many import FetchResult, fetch_many
from ._robots import RobotsDisallowedError
from ._rows import Row
from ._settings import Settings

__all__ = ["FetchResult", "RobotsDisallowedError", "Row", "Settings", "fetch_many"]
