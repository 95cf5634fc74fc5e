"""An ONNX graph as a torch module, for converters that start from torch: the operators of ``benchmarks.nets``, no more.

Weights become buffers; shapes and single numbers become Python values, so that an export sees them as such. Must not
know what the module is converted to.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor
from torch.nn import functional

Attributes = Mapping[str, Any]
TYPES = {TensorProto.FLOAT: torch.float32, TensorProto.INT64: torch.int64, TensorProto.INT32: torch.int32}


class OnnxModule(torch.nn.Module):
    """Takes the graph's inputs in their order, those named in ``channel_last`` as NHWC; gives its outputs by name.
    Raises NotImplementedError, naming them, for operators not written here."""

    def __init__(self, model: onnx.ModelProto, channel_last: frozenset[str] = frozenset()) -> None:
        super().__init__()
        if missing := sorted({node.op_type for node in model.graph.node} - OPERATORS.keys()):
            raise NotImplementedError(f"no torch form is written of ONNX {', '.join(missing)}")
        self._nodes = [(node, _attributes(node)) for node in model.graph.node]
        self._inputs = [value.name for value in model.graph.input]
        self._outputs = [value.name for value in model.graph.output]
        self._channel_last = channel_last
        self._numbers: dict[str, Any] = {"": None}
        self._buffer_of: dict[str, str] = {}
        scales = {name for node, _ in self._nodes if node.op_type == "Resize" for name in node.input[1:]}
        for weight in model.graph.initializer:
            array = numpy_helper.to_array(weight)
            if array.ndim and weight.data_type == TensorProto.FLOAT and weight.name not in scales:
                self._buffer_of[weight.name] = f"weight{len(self._buffer_of)}"
                self.register_buffer(self._buffer_of[weight.name], torch.from_numpy(array.copy()))
            else:
                self._numbers[weight.name] = array.tolist()

    def forward(self, *inputs: Tensor) -> dict[str, Tensor]:
        values = self._numbers | {name: getattr(self, buffer) for name, buffer in self._buffer_of.items()}
        for name, x in zip(self._inputs, inputs, strict=True):
            values[name] = x.permute(0, 3, 1, 2) if name in self._channel_last else x
        for node, attributes in self._nodes:
            values[node.output[0]] = OPERATORS[node.op_type](attributes, *(values[name] for name in node.input))
        return {name: values[name] for name in self._outputs}


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _window(attributes: Attributes) -> dict[str, Any]:
    """Strides, pads and dilations as torch takes them: one pad an axis, the same on both sides."""
    pads = list(attributes.get("pads", (0, 0, 0, 0)))
    if pads[:2] != pads[2:]:
        raise NotImplementedError(f"pads {pads} that differ between the two sides")
    return {"stride": list(attributes.get("strides", (1, 1))), "padding": pads[:2],
            "dilation": list(attributes.get("dilations", (1, 1)))}  # fmt: skip


def _conv(attributes: Attributes, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    return functional.conv2d(x, w, b, groups=attributes.get("group", 1), **_window(attributes))


def _conv_transpose(attributes: Attributes, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    return functional.conv_transpose2d(x, w, b, groups=attributes.get("group", 1), **_window(attributes))


def _max_pool(attributes: Attributes, x: Tensor) -> Tensor:
    ceil = bool(attributes.get("ceil_mode", 0))
    return functional.max_pool2d(x, list(attributes["kernel_shape"]), ceil_mode=ceil, **_window(attributes))


def _pad(attributes: Attributes, x: Tensor, pads: list[int]) -> Tensor:
    """Zeros. ONNX names all begins, then all ends; torch begin and end of the last axis first."""
    if attributes.get("mode", b"constant") != b"constant":
        raise NotImplementedError(f"Pad {attributes['mode'].decode()}")
    pairs = list(zip(pads[: x.ndim], pads[x.ndim :], strict=True))
    return functional.pad(x, [size for pair in reversed(pairs) for size in pair])


def _gemm(attributes: Attributes, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    if attributes.get("alpha", 1.0) != 1 or attributes.get("beta", 1.0) != 1 or attributes.get("transA", 0):
        raise NotImplementedError("Gemm with a factor or a transposed A")
    return functional.linear(a, b if attributes.get("transB", 0) else b.T, c)


def _hard_sigmoid(attributes: Attributes, x: Tensor) -> Tensor:
    alpha, beta = attributes.get("alpha", 0.2), attributes.get("beta", 0.5)
    if math.isclose(alpha, 1 / 6, rel_tol=1e-6) and beta == 0.5:
        return functional.hardsigmoid(x)
    return torch.clamp(alpha * x + beta, 0, 1)


def _layer_norm(attributes: Attributes, x: Tensor, scale: Tensor, b: Tensor | None = None) -> Tensor:
    return functional.layer_norm(x, scale.shape, scale, b, attributes.get("epsilon", 1e-5))


def _reshape(attributes: Attributes, x: Tensor, shape: list[int]) -> Tensor:
    return x.reshape([size or x.shape[axis] for axis, size in enumerate(shape)])


def _slice(attributes: Attributes, x: Tensor, *limits: list[int]) -> Tensor:
    starts, ends, axes, steps = (*limits, None, None)[:4]
    for number, (start, end) in enumerate(zip(starts or (), ends or (), strict=True)):
        axis = axes[number] % x.ndim if axes else number
        x = x[(slice(None),) * axis + (slice(start, end, steps[number] if steps else 1),)]
    return x


def _resize(attributes: Attributes, x: Tensor, region: None, scales: list[float]) -> Tensor:
    told = " ".join(attributes[key].decode() for key in ("mode", "coordinate_transformation_mode", "nearest_mode"))
    if told != "nearest asymmetric floor":
        raise NotImplementedError(f"Resize {told}")
    return functional.interpolate(x, scale_factor=scales[2:], mode="nearest")


def _gather(attributes: Attributes, table: Tensor, indices: Tensor) -> Tensor:
    if attributes.get("axis", 0) or table.ndim != 2:
        raise NotImplementedError("Gather other than of the rows of a table")
    return functional.embedding(indices, table)


OPERATORS: dict[str, Callable[..., Tensor]] = {
    "Add": lambda _, a, b: a + b,
    "Cast": lambda attributes, x: x.to(TYPES[attributes["to"]]),
    "Clip": lambda _, x, low=None, high=None: torch.clamp(x, low, high),
    "Concat": lambda attributes, *parts: torch.cat(parts, attributes["axis"]),
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Flatten": lambda attributes, x: torch.flatten(x, attributes.get("axis", 1)),
    "Gather": _gather,
    "Gelu": lambda attributes, x: functional.gelu(x, approximate=attributes.get("approximate", b"none").decode()),
    "Gemm": _gemm,
    "GlobalAveragePool": lambda _, x: torch.mean(x, (2, 3), keepdim=True),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": lambda _, x: functional.hardswish(x),
    "LayerNormalization": _layer_norm,
    "MatMul": lambda _, a, b: torch.matmul(a, b),
    "MaxPool": _max_pool,
    "Mul": lambda _, a, b: a * b,
    "Pad": _pad,
    "Relu": lambda _, x: functional.relu(x),
    "Reshape": _reshape,
    "Resize": _resize,
    "Sigmoid": lambda _, x: torch.sigmoid(x),
    "Slice": _slice,
    "Softmax": lambda attributes, x: torch.softmax(x, attributes.get("axis", -1)),
    "Sub": lambda _, a, b: a - b,
    "Tanh": lambda _, x: torch.tanh(x),
    "Transpose": lambda attributes, x: x.permute(attributes["perm"]),
}
"""ONNX operator -> function of (attributes, inputs ...); an input left out is None."""
