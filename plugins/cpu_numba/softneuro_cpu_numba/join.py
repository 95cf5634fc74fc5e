"""One kernel of several that do not depend on each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from softneuro_core.device import Buffer
from softneuro_core.routine import Call
from softneuro_cpu_numba.native import NativeKernel, native_call
from softneuro_cpu_numba.tiles import HEAD_BYTES


@dataclass(frozen=True, slots=True)
class JoinedKernel:
    """The tasks of ``parts`` as those of one step; ``address`` is that of ``emit.join.parts``."""

    address: int
    parts: tuple[NativeKernel, ...]

    @property
    def scratch(self) -> int:
        return max(HEAD_BYTES, *(part.scratch for part in self.parts))

    @property
    def constant_bytes(self) -> int:
        return sum(part.constant_bytes for part in self.parts)

    def bind(self, inputs: Sequence[Any], outputs: Sequence[Any], scratch: Buffer | None) -> Call:
        calls = [part.bind(inputs, outputs, scratch).native for part in self.parts]
        ends = [0, *accumulate(part.tasks for part in self.parts)]
        rows = [
            (call.address, call.args.ctypes.data, *span)
            for call, span in zip(calls, pairwise(ends), strict=True)
            if call is not None
        ]
        args = np.array([len(rows), *(word for row in rows for word in row)], np.int64)
        return native_call(self.address, args, ends[-1], scratch, self.scratch, keep=(self, calls, inputs, outputs))
