"""A plugin of routines that misbehave, each in one way, beside good ones. Worker processes load it: no pytest here."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Callable, Iterable

import numpy as np

from softneuro_core.device import Target
from softneuro_core.graph import Region
from softneuro_core.hookspecs import hookimpl
from softneuro_core.routine import EXACT, FunctionKernel, Kernel, Offer, Routine
from softneuro_core.spec import FLOAT32, host

Compute = Callable[[np.ndarray, np.ndarray], None]


def relu(x: np.ndarray, y: np.ndarray) -> None:
    np.maximum(x, 0, out=y)


def wrong(x: np.ndarray, y: np.ndarray) -> None:
    relu(x, y)
    y[..., -1] += 0.01


def not_a_number(x: np.ndarray, y: np.ndarray) -> None:
    relu(x, y)
    y.reshape(-1)[3] = np.nan


def leaves_out(x: np.ndarray, y: np.ndarray) -> None:
    y[..., :-1] = np.maximum(x[..., :-1], 0)


def strays(x: np.ndarray, y: np.ndarray) -> None:
    relu(x, y)
    ctypes.memset(y.ctypes.data + y.nbytes, 0, 4)


def spoils_input(x: np.ndarray, y: np.ndarray) -> None:
    np.maximum(x, 0, out=x)
    y[...] = x


def segfaults(x: np.ndarray, y: np.ndarray) -> None:
    ctypes.memset(0, 0, 1)


def hangs(x: np.ndarray, y: np.ndarray) -> None:
    while True:
        time.sleep(1)


def hangs_with_the_lock(x: np.ndarray, y: np.ndarray) -> None:
    ctypes.PyDLL(None).sleep(1000)  # PyDLL keeps the interpreter's lock


def raises(x: np.ndarray, y: np.ndarray) -> None:
    raise ArithmeticError("no more numbers")


def exits(x: np.ndarray, y: np.ndarray) -> None:
    sys.exit("enough")


def leaves(x: np.ndarray, y: np.ndarray) -> None:
    os._exit(3)


def prints(x: np.ndarray, y: np.ndarray) -> None:
    print('{"done": true, "cost": {"status": "ok", "time_ns": 1, "samples": 1}}', flush=True)
    os.write(1, b"and past Python's own buffers\n")
    relu(x, y)


def reads(x: np.ndarray, y: np.ndarray) -> None:
    assert sys.stdin.read() == "" and os.read(0, 1) == b""
    relu(x, y)


def slow(x: np.ndarray, y: np.ndarray) -> None:
    time.sleep(0.002)
    relu(x, y)


class WrongLater:
    """Right the first time only."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self, x: np.ndarray, y: np.ndarray) -> None:
        self.runs += 1
        relu(x, y)
        if self.runs > 1:
            y += 1


class Planted(Routine):
    """Relu of float32 by ``compute``."""

    pattern = ("Relu",)

    def __init__(self, name: str, compute: Compute | None) -> None:
        self.name, self.compute = f"cpu/{name}", compute

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        if all(v.is_static and v.dtype is FLOAT32 for v in region.inputs):
            yield Offer((host(FLOAT32),), (host(FLOAT32),), accuracy=EXACT)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        if self.compute is None:
            raise RuntimeError("cannot compile\nand a second line nobody needs")
        return FunctionKernel(self.compute)


@hookimpl
def softneuro_routines() -> list[Routine]:
    bad = [wrong, not_a_number, leaves_out, strays, spoils_input, segfaults, hangs, raises, exits, leaves]
    good = [relu, prints, reads, slow]
    plain: list[Routine] = [Planted(f.__name__, f) for f in [*bad, *good, hangs_with_the_lock]]
    return [*plain, Planted("fails_to_prepare", None), Planted("wrong_later", WrongLater())]
