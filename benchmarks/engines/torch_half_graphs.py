"""torch in float16 as one CUDA graph."""

from __future__ import annotations

from benchmarks.engines.torch_ import Torch

ENGINE = Torch("torch-half-graphs", half=True, graphs=True)
