"""torch in float32 as one CUDA graph."""

from __future__ import annotations

from benchmarks.engines.torch_ import Torch

ENGINE = Torch("torch-graphs", graphs=True)
