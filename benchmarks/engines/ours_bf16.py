"""SoftNeuro allowed to store and compute in bfloat16 where that is faster."""

from __future__ import annotations

from benchmarks.engines.ours import SoftNeuro

ENGINE = SoftNeuro("softneuro-bf16", allow=("bfloat16",))
