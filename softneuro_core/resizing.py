"""What Resize and Upsample do to an image, nearest and linear, in any coordinate mode but cropping: tables of taps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from softneuro_core.graph import Layer
from softneuro_core.windows import text

COORDINATES = ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")
ROUNDING: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}

Taps = tuple[np.ndarray, np.ndarray]
"""Two source positions of each output position (int64 [m, 2]), and the weight of the second (float32 [m])."""


def _scales(layer: Layer, shape: tuple[int, ...], made: tuple[int, ...]) -> list[float] | None:
    """Output over input size of every axis, as the layer says or as the sizes are."""
    if layer.op == "Upsample":
        given = layer.inputs[1] if len(layer.inputs) > 1 else None
        listed = layer.attrs.get("scales") if given is None else given.data
    elif layer.version < 11:
        listed = None if layer.inputs[1] is None else layer.inputs[1].data
    else:
        given = layer.inputs[2] if len(layer.inputs) > 2 else None
        listed = None if given is None else given.data
        if given is None or (listed is not None and np.asarray(listed).size == 0):
            return [m / n for n, m in zip(shape, made, strict=True)]
    return None if listed is None else [float(v) for v in np.asarray(listed).reshape(-1)]


def _taps(n: int, m: int, scale: float, coordinates: str, rounding: str | None) -> Taps:
    """Two source positions of each output position, and the weight of the second."""
    out = np.arange(m, dtype=np.float64)
    length = n * scale  # the exact, fractional one, rounded as the reference rounds it
    if coordinates == "asymmetric":
        at = out / scale
    elif coordinates == "align_corners":
        at = out * (n - 1) / (length - 1) if length > 1 else out * 0
    elif coordinates == "pytorch_half_pixel" and length == 1:
        at = out * 0
    else:
        at = (out + 0.5) / scale - 0.5
    if rounding is not None:
        near = np.clip(ROUNDING[rounding](at), 0, n - 1).astype(np.int64)
        return np.stack([near, near], axis=1), np.zeros(m, np.float32)
    at = np.clip(at, 0, n - 1)
    low = np.minimum(np.floor(at), n - 1).astype(np.int64)
    high = np.minimum(low + 1, n - 1)
    return np.stack([low, high], axis=1), (at - low).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Resizing:
    """What a Resize or Upsample does to an image: ``scales`` of its two axes, coordinate mode, rounding of nearest."""

    shape: tuple[int, ...]
    made: tuple[int, ...]
    scales: tuple[float, float]
    coordinates: str
    rounding: str | None

    @property
    def is_nearest(self) -> bool:
        return self.rounding is not None

    @property
    def rows(self) -> Taps:
        """Of every output row."""
        return _taps(self.shape[2], self.made[2], self.scales[0], self.coordinates, self.rounding)

    @property
    def columns(self) -> Taps:
        """Of every output column."""
        return _taps(self.shape[3], self.made[3], self.scales[1], self.coordinates, self.rounding)


def resizing_of(layer: Layer) -> Resizing | None:
    """How the layer resizes its input, N and C unchanged; None where that is not covered."""
    x, y, mode = layer.inputs[0], layer.results[0], _mode(layer)
    if x is None or x.is_constant or not x.is_static or mode is None:
        return None
    shape, made = x.static_shape, y.static_shape
    scales = _scales(layer, shape, made) if len(shape) == 4 and shape[:2] == made[:2] else None
    if scales is None or len(scales) != 4 or scales[:2] != [1.0, 1.0]:
        return None
    return Resizing(shape, made, (scales[2], scales[3]), *mode)


def _mode(layer: Layer) -> tuple[str, str | None] | None:
    """Coordinate mode and rounding of nearest (None: linear), None where not covered."""
    attrs = layer.attrs
    mode = text(attrs.get("mode", "nearest"))
    old = layer.op == "Upsample" or layer.version < 11
    coordinates = "asymmetric" if old else text(attrs.get("coordinate_transformation_mode", "half_pixel"))
    rounding = "floor" if old else text(attrs.get("nearest_mode", "round_prefer_floor"))
    if mode not in ("nearest", "linear") or coordinates not in COORDINATES or rounding not in ROUNDING:
        return None
    if (
        attrs.get("antialias")
        or attrs.get("axes")
        or text(attrs.get("keep_aspect_ratio_policy", "stretch")) != "stretch"
    ):
        return None
    return coordinates, rounding if mode == "nearest" else None
