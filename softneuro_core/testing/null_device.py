"""A device that computes nothing: it records what the core asked of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from softneuro_core.device import Buffer, Device


class NullDevice(Device):
    """Memory is a byte count, transfers move nothing, the clock counts how often it was read.

    ``calls`` lists (method, argument) in order: what a test of placement or of memory planning looks at.
    """

    name = "null"
    supports_views = False
    clock_name = "null"

    def __init__(self, name: str = "null") -> None:
        self.name = name
        self.calls: list[tuple[str, Any]] = []
        self._ticks = 0

    def alloc(self, nbytes: int) -> int:
        self.calls.append(("alloc", nbytes))
        return nbytes

    def upload(self, buffer: Buffer, array: np.ndarray) -> None:
        self.calls.append(("upload", buffer.shape))

    def download(self, buffer: Buffer, array: np.ndarray) -> None:
        self.calls.append(("download", buffer.shape))
        array.fill(0)

    def synchronize(self) -> None:
        self.calls.append(("synchronize", None))

    def now_ns(self) -> int:
        self._ticks += 1
        return self._ticks
