"""Where the benchmark's Rust programs are built."""

from __future__ import annotations

import os
from pathlib import Path

RELEASE = Path(os.environ.get("CARGO_TARGET_DIR", Path(__file__).resolve().parents[1] / "target")) / "release"
LOADGEN = RELEASE / "aioxide-loadgen"
FLOOR = RELEASE / "aioxide-floor"
