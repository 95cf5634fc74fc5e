"""A plugin with two ways to compute Relu: at once with a megabyte of constants, and late without."""

from __future__ import annotations

import time
from collections.abc import Iterable

import numpy as np

from softneuro_core.device import Target
from softneuro_core.graph import Region
from softneuro_core.hookspecs import hookimpl
from softneuro_core.routine import EXACT, FunctionKernel, Kernel, Offer, Routine
from softneuro_core.spec import FLOAT32, host

FAT_BYTES = 1 << 20


def at_once(x: np.ndarray, table: np.ndarray, y: np.ndarray) -> None:
    np.maximum(x, table[0], out=y)


def late(x: np.ndarray, y: np.ndarray) -> None:
    time.sleep(0.002)
    np.maximum(x, 0, out=y)


class Planted(Routine):
    """Relu of float32, ``fat`` or lean."""

    pattern = ("Relu",)

    def __init__(self, fat: bool) -> None:
        self.name, self.fat = "cpu/fat" if fat else "cpu/lean", fat

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        yield Offer((host(FLOAT32),), (host(FLOAT32),), accuracy=EXACT)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        return FunctionKernel(at_once, (np.zeros(FAT_BYTES // 4, np.float32),)) if self.fat else FunctionKernel(late)


@hookimpl
def softneuro_routines() -> list[Routine]:
    return [Planted(True), Planted(False)]
