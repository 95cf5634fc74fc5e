"""MaxPool and AveragePool over one or two spatial axes. Global pooling is a reduction (``reduce.py``)."""

from __future__ import annotations

from collections.abc import Iterable

from softneuro_core.device import Target
from softneuro_core.graph import Region
from softneuro_core.routine import EXACT, SUMS, Kernel, Offer, Routine
from softneuro_core.spec import NHWC
from softneuro_core.windows import Window, is_f32, window_of
from softneuro_cpu_numba.emit.isa import isa_of
from softneuro_cpu_numba.native import In, NativeKernel, Out, address_of, emitted_address
from softneuro_cpu_numba.slides import plan_slide
from softneuro_cpu_numba.storage import image_specs


class Pool(Routine):
    """Pooling, float32 stored so or as bfloat16, with any kernel, stride, dilation, padding and ceil_mode."""

    def __init__(self, operator: str, kind: str) -> None:
        self.name, self.pattern = f"cpu/{kind}_pool", (operator,)
        self.kind = kind

    def _window(self, region: Region) -> Window | None:
        layer = region.exit
        x = layer.inputs[0]
        if len(layer.results) != 1 or x is None or not is_f32(x, *region.outputs) or x.is_constant:
            return None
        return window_of(layer, x.static_shape, layer.results[0].static_shape, layer.attrs["kernel_shape"])

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        if self._window(region) is not None:
            for spec, rounding in image_specs(target):
                yield Offer((spec,), (spec,), accuracy=EXACT if self.kind == "max" else max(SUMS, rounding))

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        window = self._window(region)
        assert window is not None
        count_pads = bool(region.exit.attrs.get("count_include_pad", 0))
        if offer.outputs[0].layout == NHWC:
            stored = offer.outputs[0].dtype
            plan = plan_slide(window, target, stored.itemsize)
            params = {"kind": self.kind, "right": window.pads[3], "count_pads": count_pads, "stored": stored.name}
            params |= plan.params
            address = emitted_address("pool", "nhwc", isa_of(target), **params)
            return NativeKernel(address, (*plan.args, window.pads[2]), plan.tasks)
        planes = window.batch * window.channels
        return NativeKernel(
            address_of("pool", "nchw", kind=self.kind),
            (
                *(In(0), Out(0), planes, *window.size, *window.out, *window.kernel, *window.strides),
                *(*window.dilations, *window.pads, int(count_pads)),
            ),
            planes,
        )
