"""`fetch_many` on a Dask cluster: rows split over the workers, each of which fetches natively on a loop of ours.

Needs ``distributed`` where it is called, and aioxide on the workers. `aioxide.dask.worker.Worker` is a worker whose own
process runs on our loop.
"""

from __future__ import annotations

from ._fetching import Fetching, connected, dump_timelines, fetch_many

__all__ = ["Fetching", "connected", "dump_timelines", "fetch_many"]
