"""What `test_distributed.py` has Dask's workers do, in a module that they can import."""

from __future__ import annotations

import hashlib
import time
from typing import Any


def loop_of(dask_worker: Any) -> str:
    return type(dask_worker.loop.asyncio_loop).__module__


def digest(data: bytes, number: int) -> str:
    return hashlib.sha256(data + str(number).encode()).hexdigest()


def fail(number: int) -> None:
    raise ZeroDivisionError(number)


def slow_double(number: int) -> int:
    time.sleep(0.02)
    return number * 2
