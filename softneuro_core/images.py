"""Pictures to tensors, as ``--image`` says. Needs Pillow, which is imported when the first picture is read."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from softneuro_core.errors import InputError
from softneuro_core.graph import Value

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
KEYS = ("size", "mean", "scale", "order", "layout")


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """``value = (pixel - mean) * scale`` per channel, pixels 0..255, after resizing to ``size`` (height, width;
    None: the model's). ``order`` is that of the channels, ``layout`` ``nchw``, ``nhwc`` or None to see it in the
    model's shape."""

    size: tuple[int, int] | None = None
    mean: tuple[float, ...] = (0.0,)
    scale: tuple[float, ...] = (1.0,)
    order: str = "rgb"
    layout: str | None = None

    @staticmethod
    def parse(text: str) -> ImageSpec:
        """``size=224x224,mean=123.7,116.3,103.5,scale=0.017,order=bgr,layout=nhwc``: one number or three for mean and
        scale, a fraction allowed (``scale=1/255``). Raises :class:`InputError`."""
        given = _entries(text)
        try:
            return ImageSpec(
                _size(given["size"]) if "size" in given else None,
                _numbers(given.get("mean", "0")),
                _numbers(given.get("scale", "1")),
                _one_of(given.get("order", "rgb"), "order", ("rgb", "bgr")),
                _one_of(given["layout"], "layout", ("nchw", "nhwc")) if "layout" in given else None,
            )
        except ValueError as error:
            raise InputError(f"--image {text!r}: {error}", remedy=_EXAMPLE) from None


_EXAMPLE = "like --image size=224x224,mean=127,scale=0.0078125,order=rgb"


def is_picture(path: str | os.PathLike[str]) -> bool:
    """True if the file's name says it is a picture."""
    return Path(path).suffix.lower() in SUFFIXES


def image_tensor(path: str | os.PathLike[str], value: Value, spec: ImageSpec | None) -> np.ndarray:
    """The picture as an array for input ``value`` (one picture: batch 1), in its dtype; integers are rounded and
    saturated. Raises :class:`InputError` without a ``spec``, for an input that is no image, or an unreadable file."""
    if spec is None:
        raise InputError(f"{path} is a picture: say how it becomes input {value.name!r}", remedy=_EXAMPLE)
    layout, channels, size = _target(value, spec)
    pixels = _pixels(path, size, channels)
    if spec.order == "bgr" and channels == 3:
        pixels = pixels[:, :, ::-1]
    tensor = (pixels - _per_channel(spec.mean, channels, "mean")) * _per_channel(spec.scale, channels, "scale")
    if layout == "nchw":
        tensor = tensor.transpose(2, 0, 1)
    if len(value.shape or ()) == 4:
        tensor = tensor[np.newaxis]
    return _cast(tensor, value)


def _cast(tensor: np.ndarray, value: Value) -> np.ndarray:
    dtype = value.dtype.numpy
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        tensor = np.clip(np.rint(tensor), limits.min, limits.max)
    return np.ascontiguousarray(tensor.astype(dtype))


def _target(value: Value, spec: ImageSpec) -> tuple[str, int, tuple[int, int]]:
    """Layout, channels and (height, width) of the tensor."""
    shape = value.shape or ()
    if len(shape) not in (3, 4):
        raise InputError(f"input {value.name!r} of shape {value.shape} takes no picture")
    inner = shape[-3:]
    layout = spec.layout or _layout_of(value, inner)
    channels, height, width = inner if layout == "nchw" else (inner[2], inner[0], inner[1])
    if channels not in (1, 3):
        raise InputError(f"input {value.name!r} has {channels} channels in {layout}; a picture gives 1 or 3")
    size = spec.size or ((height, width) if isinstance(height, int) and isinstance(width, int) else None)
    if size is None:
        raise InputError(f"the height and width of input {value.name!r} are free", remedy="add size=224x224 to --image")
    return layout, int(channels), size


def _layout_of(value: Value, inner: tuple[Any, ...]) -> str:
    first, last = inner[0] in (1, 3), inner[2] in (1, 3)
    if first == last:
        raise InputError(
            f"input {value.name!r} of shape {value.shape} does not show its layout",
            remedy="add layout=nchw or layout=nhwc to --image",
        )
    return "nchw" if first else "nhwc"


def _pixels(path: str | os.PathLike[str], size: tuple[int, int], channels: int) -> np.ndarray:
    """float64 [height, width, channels], 0..255, bilinear."""
    try:
        from PIL import Image
    except ImportError:
        raise InputError(f"{path}: reading pictures needs Pillow", remedy="pip install pillow") from None
    try:
        with Image.open(path) as picture:
            converted = picture.convert("L" if channels == 1 else "RGB")
            resized = converted.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        cause = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise InputError(f"{path}: cannot be read as a picture: {cause}") from None
    return np.asarray(resized, np.float64).reshape(*size, channels)


def _per_channel(numbers: tuple[float, ...], channels: int, what: str) -> np.ndarray:
    if len(numbers) not in (1, channels):
        raise InputError(f"--image {what} has {len(numbers)} numbers for {channels} channels")
    return np.asarray(numbers, np.float64)


def _entries(text: str) -> Mapping[str, str]:
    """``key=value`` by key; a part without ``=`` belongs to the key before it."""
    given: dict[str, str] = {}
    key = ""
    for part in text.split(","):
        name, equals, rest = part.partition("=")
        if equals:
            key = name.strip().lower()
            if key not in KEYS:
                raise InputError(f"--image does not know {key!r}", remedy="keys are " + ", ".join(KEYS))
            given[key] = rest.strip()
        elif key:
            given[key] += "," + part.strip()
        elif part.strip():
            raise InputError(f"--image {text!r} is not KEY=VALUE,...", remedy=_EXAMPLE)
    return given


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if not match or "0" in (match[1], match[2]):
        raise ValueError(f"size {text!r} is not HEIGHTxWIDTH")
    return int(match[1]), int(match[2])


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(_number(part) for part in text.split(","))


def _number(text: str) -> float:
    over, slash, under = text.partition("/")
    number = float(over) / (float(under) if slash else 1.0) if not slash or float(under) else float("nan")
    if not np.isfinite(number):
        raise ValueError(f"{text!r} is not a number")
    return number


def _one_of(text: str, key: str, allowed: tuple[str, ...]) -> str:
    if text.lower() not in allowed:
        raise ValueError(f"{key} {text!r} is not one of {', '.join(allowed)}")
    return text.lower()
