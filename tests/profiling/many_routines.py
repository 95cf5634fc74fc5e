"""A plugin with one routine in very many cheap variants; ``SOFTNEURO_TEST_LOG`` names a file that gets a line for
every one prepared."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable

import numpy as np

from softneuro_core.device import Target
from softneuro_core.graph import Region
from softneuro_core.hookspecs import hookimpl
from softneuro_core.routine import EXACT, FunctionKernel, Kernel, Offer, Routine
from softneuro_core.spec import FLOAT32, host


def relu(x: np.ndarray, y: np.ndarray) -> None:
    np.maximum(x, 0, out=y)


class Many(Routine):
    name = "cpu/many"
    pattern = ("Relu",)

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        for variant in range(int(os.environ.get("SOFTNEURO_TEST_VARIANTS", "30"))):
            yield Offer((host(FLOAT32),), (host(FLOAT32),), {"variant": variant}, EXACT)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        if log := os.environ.get("SOFTNEURO_TEST_LOG"):
            with open(log, "a", encoding="utf-8") as file:
                file.write(f"{offer.params['variant']}\n")
        time.sleep(0.01)
        return FunctionKernel(relu)


@hookimpl
def softneuro_routines() -> list[Routine]:
    return [Many()]
