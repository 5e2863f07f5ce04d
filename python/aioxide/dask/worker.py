"""Dask workers whose processes run our loop.

`Worker` is for ``dask worker --worker-class``, `Nanny` for the `worker_class` of a ``LocalCluster`` of processes.
Importing this module makes aioxide's loop the one of the process.
"""

from __future__ import annotations

from typing import Any

from distributed import Nanny as DaskNanny
from distributed import Worker as DaskWorker

from .loop import install

__all__ = ["Nanny", "Worker"]

# The process of a worker imports this module to find the class, before it makes its loop.
install()


class Worker(DaskWorker):  # type: ignore[misc]
    """`distributed.Worker`; what is different is only the loop that it finds."""


class Nanny(DaskNanny):  # type: ignore[misc]
    """`distributed.Nanny`, the workers of which are of the class `Worker`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"worker_class": Worker, **kwargs})
