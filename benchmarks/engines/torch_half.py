"""torch in float16, eager."""

from __future__ import annotations

from benchmarks.engines.torch_ import Torch

ENGINE = Torch("torch-half", half=True)
