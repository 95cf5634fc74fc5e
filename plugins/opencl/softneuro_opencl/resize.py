"""Resize and Upsample of images, NHWC (``resized`` in ``kernels/movement.cl``)."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from softneuro_core.device import Target
from softneuro_core.graph import Region
from softneuro_core.resizing import resizing_of
from softneuro_core.routine import EXACT, SUMS, Kernel, Offer
from softneuro_core.spec import NHWC
from softneuro_core.windows import is_f32
from softneuro_opencl.launches import Constant, In, Launch, OpenCLKernel, Out
from softneuro_opencl.movement import FILE
from softneuro_opencl.routine import OpenCLRoutine, accuracy_in, storage


class Resize(OpenCLRoutine):
    """Resize (opset 10 on) and Upsample of a float32 image, nearest and linear, N and C unchanged."""

    def __init__(self, device: str, operator: str) -> None:
        self.algorithm, self.pattern = operator.lower(), (operator,)
        super().__init__(device)

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        if len(region.inputs) != 1 or not is_f32(*region.inputs, *region.outputs):
            return
        if (found := resizing_of(region.exit)) is not None:
            for spec in self.storages(NHWC):
                accuracy = EXACT if found.is_nearest else accuracy_in(spec, SUMS)
                yield Offer([spec], [spec], accuracy=accuracy)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        device, found = self.opencl(target), resizing_of(region.exit)
        assert found is not None
        (n, c, h, w), (_, _, oh, ow) = found.shape, found.made
        tables = [Constant(device, t.astype(np.int32 if t.dtype.kind == "i" else np.float32))
                  for t in (*found.rows, *found.columns)]  # fmt: skip
        defines = {"TYPE": "uint", "AXES": 1, **storage(offer.outputs[0])}
        defines |= {} if found.is_nearest else {"LINEAR": ""}
        arguments = (In(0), Out(0), *tables, c, h, w, oh, ow)
        return OpenCLKernel(device, (Launch(FILE, "resized", defines, arguments, (ow, n * oh), (1, 1)),))
