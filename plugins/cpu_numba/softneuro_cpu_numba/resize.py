"""Resize and Upsample over the last two axes (``softneuro_core.resizing``)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from softneuro_core.device import Target
from softneuro_core.graph import Region
from softneuro_core.resizing import Resizing, resizing_of
from softneuro_core.routine import EXACT, SUMS, Kernel, Offer, Routine
from softneuro_core.spec import NHWC, Layout
from softneuro_core.windows import is_f32
from softneuro_cpu_numba.native import Argument, In, NativeKernel, Out, address_of, aligned
from softneuro_cpu_numba.storage import image_specs


def resize_kernel(
    found: Resizing, layout: Layout, element: str, out: str = "same", finish: Sequence[Argument] = ()
) -> NativeKernel:
    """The prepared step on pixels of ``element``; ``out`` and ``finish`` as ``kernels.resize.pixels`` has them."""
    (n, c, h, w), (_, _, oh, ow) = found.shape, found.made
    channels_last = layout == NHWC
    tables = [aligned(t) for t in (*found.rows, *found.columns)]
    params: dict[str, object] = {"linear": not found.is_nearest}
    if channels_last:
        params |= {"element": element, "out": out}
    return NativeKernel(
        address_of("resize", "pixels" if channels_last else "planes", **params),
        (In(0), Out(0), h, w, oh, ow, *tables, c, *finish),
        n * oh if channels_last else n * c,
    )


class Resize(Routine):
    """Resize (opset 10 on) or Upsample of a float32 image, N and C unchanged; copied pixels may be bfloat16."""

    def __init__(self, operator: str) -> None:
        self.name, self.pattern = f"cpu/{operator.lower()}", (operator,)

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        if len(region.inputs) != 1 or not is_f32(*region.inputs, *region.outputs):
            return
        found = resizing_of(region.exit)
        if found is None:
            return
        exact = found.is_nearest
        for spec, rounding in image_specs(target):
            if exact or not rounding:
                yield Offer((spec,), (spec,), accuracy=EXACT if exact else SUMS)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        found, spec = resizing_of(region.exit), offer.inputs[0]
        assert found is not None
        return resize_kernel(found, spec.layout, "uint16" if spec.dtype.itemsize == 2 else "float32")
