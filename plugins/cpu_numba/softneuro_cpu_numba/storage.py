"""float32 values stored as bfloat16 between routines, where the user allows it: how, how exact, on which CPUs.

Arithmetic stays float32: elements are widened when they are loaded and rounded to the nearest when they are stored.
"""

from __future__ import annotations

from softneuro_core.device import Target
from softneuro_core.spec import BFLOAT16, NCHW, NHWC, TensorSpec
from softneuro_core.windows import NCHW_F32, NHWC_F32

NCHW_BF16, NHWC_BF16 = TensorSpec("cpu", BFLOAT16, NCHW), TensorSpec("cpu", BFLOAT16, NHWC)
BFLOAT_ERROR = 4e-3
"""Rounding a result to bfloat16 is 2^-8 of the element."""


def stores_bfloat(target: Target) -> bool:
    """Whether bfloat16 storage is worth offering: one instruction rounds to it; elsewhere rounding takes seven."""
    return "AVX512BF16" in target.isa.split(",")


def image_specs(target: Target) -> list[tuple[TensorSpec, float]]:
    """Ways to store float32 images, with the rounding of each."""
    narrow = [(NHWC_BF16, BFLOAT_ERROR)] if stores_bfloat(target) else []
    return [(NHWC_F32, 0.0), (NCHW_F32, 0.0), *narrow]
