"""SoftNeuro on the CPU alone, whatever other devices there are."""

from __future__ import annotations

from benchmarks.engines.ours import SoftNeuro

ENGINE = SoftNeuro("softneuro-cpu", force=("cpu",))
