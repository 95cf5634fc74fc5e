"""A plugin whose Relu is wrong by a hundredth, for what must notice it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from softneuro_core.device import Target
from softneuro_core.graph import Region
from softneuro_core.hookspecs import hookimpl
from softneuro_core.routine import FunctionKernel, Kernel, Offer, Routine


class OffByABit(Routine):
    name = "cpu/off_by_a_bit"
    pattern = ("Relu",)

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        yield Offer(("cpu:float32:NCHW",), ("cpu:float32:NCHW",))

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        def relu(x: np.ndarray, y: np.ndarray) -> None:
            np.maximum(x, 0, out=y)
            y.flat[0] += 0.01

        return FunctionKernel(relu)


@hookimpl
def softneuro_routines() -> Iterable[Routine]:
    return [OffByABit()]
