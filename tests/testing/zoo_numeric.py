"""The half of the zoo that computes the wrong numbers: attributes overlooked, sums too short, weights mixed up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from fake_device import conv2d

from softneuro_core.device import Target
from softneuro_core.graph import Region
from softneuro_core.routine import FunctionKernel, Kernel, Offer

Make = Callable[[Region, bool, Target, dict[Any, Any]], Kernel]


def plain(make: Callable[[Region, bool], Kernel]) -> Make:
    """A fault that needs neither the target nor a memory between two prepares."""
    return lambda region, wrong, target, memory: make(region, wrong)


def _one_offer(animal: Any, offer: Offer) -> list[Offer]:
    return [offer]


def is_float32(region: Region) -> bool:
    return bool(region.inputs) and all(v.dtype.name == "float32" for v in region.inputs + region.outputs)


@dataclass(frozen=True, slots=True)
class Creature:
    """One fault. ``check`` is the name it must be caught under, ``at`` the first case it shows on (any, if empty);
    ``allocates`` marks a twin that is simple rather than frugal, so that the allocation check does not apply."""

    name: str
    check: str
    op: str
    make: Make
    offer: Mapping[str, Any] = field(default_factory=dict)
    offers: Callable[[Any, Offer], list[Offer]] = _one_offer
    accepts: Callable[[Region], bool] = is_float32
    at: str = ""
    allocates: bool = False


# -- convolution ---------------------------------------------------------------------------------------------------


def is_plain_conv(region: Region) -> bool:
    layer = region.exit
    known = is_float32(region) and all(v.is_constant for v in layer.operands[1:])
    return known and len(layer.operands[0].static_shape) == 4 and "auto_pad" not in layer.attrs


def conv(name: str, check: str, fault: Callable[..., np.ndarray], at: str) -> Creature:
    """Conv by ``fault(x, w, b, attrs)``, which is wrong, or by what is right."""

    def make(region: Region, wrong: bool) -> Kernel:
        w, *b = (v.data for v in region.exit.operands[1:])
        attrs = dict(region.exit.attrs)
        compute = fault if wrong else conv2d
        return FunctionKernel(lambda x, y: np.copyto(y, compute(x, w, b[0] if b else None, attrs)))

    return Creature(name, check, "Conv", plain(make), accepts=is_plain_conv, at=at, allocates=True)


def symmetric_pads(x: np.ndarray, w: np.ndarray, b: np.ndarray | None, attrs: dict[str, Any]) -> np.ndarray:
    top, left, bottom, right = attrs.get("pads", (0, 0, 0, 0))
    height, width = (top + bottom) // 2, (left + right) // 2
    pads = (height, width, top + bottom - height, left + right - width)
    return conv2d(x, w, b, {**attrs, "pads": pads})


def no_dilation(x: np.ndarray, w: np.ndarray, b: np.ndarray | None, attrs: dict[str, Any]) -> np.ndarray:
    """Takes the taps side by side; the border is as wide as it should be."""
    (dh, dw), (kh, kw) = attrs.get("dilations", (1, 1)), w.shape[2:]
    spread = np.zeros((*w.shape[:2], (kh - 1) * dh + 1, (kw - 1) * dw + 1), w.dtype)
    spread[:, :, :kh, :kw] = w
    return conv2d(x, spread, b, {**attrs, "dilations": (1, 1)})


def first_group_only(x: np.ndarray, w: np.ndarray, b: np.ndarray | None, attrs: dict[str, Any]) -> np.ndarray:
    part = x.shape[1] // attrs.get("group", 1)
    return conv2d(np.tile(x[:, :part], (1, attrs.get("group", 1), 1, 1)), w, b, attrs)


def first_image_only(x: np.ndarray, w: np.ndarray, b: np.ndarray | None, attrs: dict[str, Any]) -> np.ndarray:
    return np.repeat(conv2d(x[:1], w, b, attrs), x.shape[0], axis=0)


def forgets_the_bias(x: np.ndarray, w: np.ndarray, b: np.ndarray | None, attrs: dict[str, Any]) -> np.ndarray:
    return conv2d(x, w, None, attrs)


# -- products and sums -----------------------------------------------------------------------------------------------


def has_weights(region: Region) -> bool:
    known = is_float32(region) and len(region.inputs) == 1
    return known and all(len(v.static_shape) == 2 for v in region.exit.operands)


def half_sums(region: Region, wrong: bool) -> Kernel:
    def matmul(a: np.ndarray, b: np.ndarray, y: np.ndarray) -> None:
        kind = np.float16 if wrong else np.float32
        np.copyto(y, np.matmul(a.astype(kind), b.astype(kind)))

    return FunctionKernel(matmul)


def scales_the_weights(region: Region, wrong: bool) -> Kernel:
    """Divides the weights by their largest for the product and multiplies after it: right, but not in place."""
    weights = region.constants[0].data
    assert weights is not None
    largest = np.float32(np.abs(weights).max()) * np.float32(2)
    scaled = np.divide(weights, largest, out=weights if wrong else None)

    def matmul(x: np.ndarray, y: np.ndarray) -> None:
        np.matmul(x, scaled, out=y)
        np.multiply(y, largest, out=y)

    return FunctionKernel(matmul)


def product(name: str, check: str, make: Make) -> Creature:
    return Creature(name, check, "MatMul", make, accepts=has_weights, at="matmul-const-2d", allocates=True)


def _matmul(weights: np.ndarray) -> Kernel:
    return FunctionKernel(lambda x, y: np.copyto(y, np.matmul(x, weights)))


def caches_by_name(region: Region, wrong: bool, target: Target, memory: dict[Any, Any]) -> Kernel:
    weights = region.constants[0].data
    assert weights is not None
    key = (region.name, weights.shape) if wrong else (region.name, weights.shape, weights.tobytes())
    return _matmul(memory.setdefault(key, weights.copy()))


def caches_by_id(region: Region, wrong: bool, target: Target, memory: dict[Any, Any]) -> Kernel:
    """An id means nothing once the object is gone; ``right`` keeps the object with it."""
    weights = region.constants[0].data
    assert weights is not None
    if wrong:
        return _matmul(memory.setdefault((id(weights), weights.shape), weights.copy()))
    return _matmul(memory.setdefault(id(weights), (weights, weights.copy()))[1])


def shares_one_buffer(region: Region, wrong: bool, target: Target, memory: dict[Any, Any]) -> Kernel:
    weights = region.constants[0].data
    assert weights is not None
    packed = memory.setdefault(weights.shape, np.empty_like(weights)) if wrong else np.empty_like(weights)
    np.copyto(packed, weights)
    return _matmul(packed)


def sums_by_thread(region: Region, wrong: bool, target: Target, memory: dict[Any, Any]) -> Kernel:
    """Partial sums one after the other; their number should not depend on the threads there are."""
    parts = 4 * target.threads if wrong else 4

    def pool(x: np.ndarray, y: np.ndarray) -> None:
        flat = x.reshape(*x.shape[:2], -1)
        total = np.zeros(x.shape[:2], np.float32)
        for part in np.array_split(flat, parts, axis=2):
            for lane in range(part.shape[2]):
                total += part[:, :, lane] if lane else 0
            total += part[:, :, 0] if part.shape[2] else 0
        y[...] = (total / np.float32(flat.shape[2])).reshape(y.shape)

    return FunctionKernel(pool)


# -- attributes and special numbers ----------------------------------------------------------------------------------


def axis_without_sign(region: Region, wrong: bool) -> Kernel:
    axis = region.exit.attrs.get("axis", -1)
    axis = abs(axis) % len(region.inputs[0].static_shape) if wrong and axis != -1 else axis

    def softmax(x: np.ndarray, y: np.ndarray) -> None:
        e = np.exp(x - x.max(axis=axis, keepdims=True))
        np.copyto(y, e / e.sum(axis=axis, keepdims=True))

    return FunctionKernel(softmax)


def drops_nan(region: Region, wrong: bool) -> Kernel:
    pick = np.fmax if wrong else np.maximum
    return FunctionKernel(lambda x, y: pick(x, np.float32(0), out=y))


def rounds_half_up(region: Region, wrong: bool) -> Kernel:
    scale, zero = (v.data for v in region.exit.operands[1:])
    assert scale is not None and zero is not None
    limits = np.iinfo(zero.dtype)

    def quantise(x: np.ndarray, y: np.ndarray) -> None:
        steps = np.floor(x / scale + np.float32(0.5)) if wrong else np.rint(x / scale)
        np.copyto(y, np.clip(steps + zero, limits.min, limits.max), casting="unsafe")

    return FunctionKernel(quantise)


def is_modern_softmax(region: Region) -> bool:
    return is_float32(region) and region.exit.version >= 13


def is_per_tensor(region: Region) -> bool:
    return region.exit.operands[1].size == 1


CREATURES = (
    conv("symmetric_pads", "values", symmetric_pads, "conv-pad-asymmetric"),
    conv("no_dilation", "values", no_dilation, "conv-dilation2"),
    conv("first_group_only", "values", first_group_only, "conv-group2"),
    conv("first_image_only", "values", first_image_only, "conv-batch2"),
    conv("forgets_the_bias", "values", forgets_the_bias, "conv-c3-m8"),
    Creature(
        "half_sums",
        "values",
        "MatMul",
        plain(half_sums),
        at="matmul-2d",
        allocates=True,
        accepts=lambda region: is_float32(region) and len(region.inputs) == 2,
    ),
    product("scales_the_weights", "weights", plain(scales_the_weights)),
    product("caches_by_name", "prepare-cache", caches_by_name),
    product("caches_by_id", "prepare-cache", caches_by_id),
    product("shares_one_buffer", "prepare-cache", shares_one_buffer),
    Creature(
        "sums_by_thread", "threads", "GlobalAveragePool", sums_by_thread, at="globalaveragepool-big", allocates=True
    ),
    Creature(
        "axis_without_sign",
        "values",
        "Softmax",
        plain(axis_without_sign),
        accepts=is_modern_softmax,
        at="softmax-axis-2",
        allocates=True,
    ),
    Creature("drops_nan", "values", "Relu", plain(drops_nan), offer={"accuracy": 0.0}, at="relu-nan"),
    Creature(
        "rounds_half_up",
        "values",
        "QuantizeLinear",
        plain(rounds_half_up),
        accepts=is_per_tensor,
        at="quantize-ties",
        allocates=True,
    ),
)
