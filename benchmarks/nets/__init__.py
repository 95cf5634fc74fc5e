"""The networks the benchmark makes itself: random weights of trained scale, a seeded input, nothing downloaded.

To add one: a function ``(Builder) -> output names`` in a module here, and a line in ``NETS``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto

from benchmarks.inputs import drawn
from benchmarks.nets.builder import Builder
from benchmarks.nets.mobilenet import efficientnet_b0, mobilenet_v2, mobilenet_v3_large
from benchmarks.nets.resnet import resnet50
from benchmarks.nets.squeezenet import squeezenet1_1
from benchmarks.nets.transformers import bert_4, vit_tiny
from benchmarks.nets.unet import unet_small
from benchmarks.nets.vgg import csrnet, vgg16
from benchmarks.nets.yolo import yolo_tiny

Network = Callable[[Builder], list[str]]
NETS: dict[str, Network] = {
    net.__name__: net
    for net in (
        vgg16, resnet50, mobilenet_v2, mobilenet_v3_large, squeezenet1_1, efficientnet_b0, unet_small, vit_tiny, bert_4,
        yolo_tiny, csrnet,
    )
}  # fmt: skip


def build(name: str, folder: Path, batch: int = 1) -> Path:
    """NAME.onnx in ``folder``, NAME-bBATCH.onnx for several images at once, written now unless it is there already.
    Raises ValueError for a network that is written for one image."""
    path = folder / f"{_title(name, batch)}.onnx"
    if path.exists():
        return path
    builder = Builder(path.stem, batch)
    return builder.save(folder, *NETS[name](builder))


def _title(name: str, batch: int) -> str:
    return name if batch == 1 else f"{name}-b{batch}"


def macs(name: str, batch: int = 1) -> int:
    """Multiply-adds of one run: Conv, ConvTranspose, Gemm and MatMul. Raises ValueError as :func:`build` does."""
    builder = Builder(_title(name, batch), batch)
    NETS[name](builder)
    return builder.macs


def sample(path: Path) -> dict[str, np.ndarray]:
    """The same standard normal image, or token numbers and a mask, every time."""
    random = np.random.default_rng(7)
    feeds: dict[str, np.ndarray] = {}
    for value in onnx.load(path, load_external_data=False).graph.input:
        shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        is_float = value.type.tensor_type.elem_type == TensorProto.FLOAT
        feeds[value.name] = drawn(random, value.name, shape, is_float=is_float)
    return feeds
