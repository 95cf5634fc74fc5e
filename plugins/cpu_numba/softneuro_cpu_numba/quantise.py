"""QuantizeLinear and DequantizeLinear between float32 and small integers, by tensor or by axis."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from softneuro_core.device import Target
from softneuro_core.graph import Region
from softneuro_core.routine import SUMS, Kernel, Offer, Routine
from softneuro_core.spec import FLOAT32, NCHW, NHWC, TensorSpec
from softneuro_cpu_numba.elementwise import Leaf, map_kernel
from softneuro_cpu_numba.native import In

INTEGERS = ("int8", "uint8", "int16", "uint16")


class Quantise(Routine):
    """One of the two operators, with constant scale and zero point. ONNX's meaning: float32 division, round half to
    even, saturate."""

    def __init__(self, operator: str) -> None:
        self.name, self.pattern = f"cpu/{operator.lower()}", (operator,)
        self._to_integer = operator == "QuantizeLinear"

    def _numbers(self, region: Region) -> tuple[np.ndarray, np.ndarray] | None:
        """Scale and zero point as float32, shaped to broadcast."""
        layer = region.exit
        scale, zero = layer.inputs[1], layer.inputs[2] if len(layer.inputs) > 2 else None
        x, y = layer.inputs[0], layer.results[0]
        if x is None or scale is None or scale.data is None or (zero is not None and zero.data is None):
            return None
        real, integer = (x, y) if self._to_integer else (y, x)
        if real.dtype is not FLOAT32 or scale.dtype is not FLOAT32 or not x.is_static or 0 in x.static_shape:
            return None
        allowed = INTEGERS if self._to_integer else (*INTEGERS, "int32")
        if integer.dtype.name not in allowed or layer.attrs.get("block_size") or layer.attrs.get("precision"):
            return None
        rank = len(x.static_shape)
        shape: tuple[int, ...] = ()
        if scale.size > 1:
            axis = int(layer.attrs.get("axis", 1)) % max(1, rank)
            if len(scale.static_shape) != 1 or scale.size != x.static_shape[axis]:
                return None
            shape = tuple(scale.size if a == axis else 1 for a in range(rank))
        zeros = np.zeros(scale.static_shape) if zero is None else zero.data
        assert zeros is not None
        return scale.data.reshape(shape), zeros.astype(np.float32).reshape(shape)

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        if len(region.inputs) != 1 or self._numbers(region) is None:
            return
        x, y = region.inputs[0], region.outputs[0]
        for layout in (NHWC, NCHW) if len(x.static_shape) >= 3 else (NCHW,):
            specs = [TensorSpec("cpu", v.dtype, layout) for v in (x, y)]
            yield Offer((specs[0],), (specs[1],), accuracy=0.0 if self._to_integer else SUMS)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        numbers = self._numbers(region)
        assert numbers is not None
        layout, shape, out = offer.inputs[0].layout, region.inputs[0].static_shape, region.outputs[0].dtype
        leaves = [Leaf(shape, layout, region.inputs[0].dtype.name, In(0))]
        same_rank = len(numbers[0].shape) >= 3
        leaves += [Leaf(n.shape, layout if same_rank else NCHW, "float32", n) for n in numbers]
        if not self._to_integer:
            return map_kernel(shape, layout, "float32", leaves, ("r = (f(a0) - a2) * a1",))
        limits = np.iinfo(out.numpy)
        text = "r = act_clip(rint(a0 / a1) + a2, p0, p1)"
        return map_kernel(shape, layout, out.name, leaves, (text,), (float(limits.min), float(limits.max)))
