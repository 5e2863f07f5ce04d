"""How much is stressed: a little in every run, as much as one likes with ``make stress``."""

from __future__ import annotations

import os
import random
import resource
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def rounds() -> int:
    """How many times the work of a routine run is done: `AIOXIDE_STRESS_ROUNDS`."""
    return int(os.environ.get("AIOXIDE_STRESS_ROUNDS", "1"))


@pytest.fixture
def rng() -> random.Random:
    """A source of chance whose seed is printed; `AIOXIDE_STRESS_SEED` sets it."""
    seed = int(os.environ.get("AIOXIDE_STRESS_SEED", random.randrange(1 << 32)))
    print(f"AIOXIDE_STRESS_SEED={seed}")
    return random.Random(seed)


@pytest.fixture
def many_descriptors() -> Iterator[int]:
    """Raise the limit of open descriptors as far as it goes, and say how far that is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 30_000 if hard == resource.RLIM_INFINITY else min(hard, 30_000)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield wanted
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
