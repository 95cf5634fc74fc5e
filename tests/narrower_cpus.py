"""Processors of fewer instructions than this one, which it can play."""

import pytest

from softneuro_core.device import Device, Target

FORCED = {
    "avx512": "AVX512F,AVX512VL,AVX512BW,AVX512DQ",
    "avx512 with dots": "AVX512F,AVX512VL,AVX512BW,AVX512DQ,AVX512VNNI",
    "avx2": "AVX2,FMA3",
    "avx2 with dots": "AVX2,FMA3,AVX_VNNI",
    "sse": "SSE2",
}
"""Feature lists by name; ``with dots``: words of four bytes are multiplied in one instruction."""


def played(device: Device, name: str, threads: int = 1) -> Target:
    """Such a processor, or the test is skipped."""
    if not set(FORCED[name].split(",")) <= set(device.isa.split(",")):
        pytest.skip(f"this CPU has no {name}")
    return Target(device, threads, FORCED[name])
