"""MaxPool and AveragePool over one or two spatial axes. Global pooling is a reduction (``reduce.py``)."""

from __future__ import annotations

from collections.abc import Iterable

from softneuro_core.device import Target
from softneuro_core.graph import Region
from softneuro_core.routine import EXACT, SUMS, Kernel, Offer, Routine
from softneuro_core.spec import NHWC
from softneuro_cpu_numba.native import In, NativeKernel, Out, address_of
from softneuro_cpu_numba.windows import NCHW_F32, NHWC_F32, Window, is_f32, window_of


class Pool(Routine):
    """Pooling, float32, with any kernel, stride, dilation, padding and ceil_mode."""

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
            for spec in (NHWC_F32, NCHW_F32):
                yield Offer((spec,), (spec,), accuracy=EXACT if self.kind == "max" else SUMS)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        window = self._window(region)
        assert window is not None
        channels_last = offer.outputs[0].layout == NHWC
        outer = window.batch if channels_last else window.batch * window.channels
        count_pads = int(region.exit.attrs.get("count_include_pad", 0))
        return NativeKernel(
            address_of("depthwise", "pool_nhwc" if channels_last else "pool_nchw", kind=self.kind),
            (
                *(In(0), Out(0), outer, *window.size, *window.out, *window.kernel, *window.strides),
                *(*window.dilations, *window.pads, count_pads, window.channels),
            ),
            window.batch * window.out[0] if channels_last else outer,
        )
