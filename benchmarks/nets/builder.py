"""Writes float32 networks as ONNX: names, He-initialised weights, the usual blocks.

Owns shapes and multiply-add counts while a network grows. Must not know any particular network.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET, IR_VERSION = 17, 8
"""As old as the oldest reader among the engines asks for."""
SEED = 20261120
GAIN = {None: 1.0, "relu": 2.0, "relu6": 2.0, "silu": 2.8, "hardswish": 2.5}
"""Variance of a convolution's weights times their fan-in, so that what follows the activation keeps its scale."""
RESIDUAL_GAIN = 0.2
"""Last layer of a residual branch: a trained BatchNorm scales it down; without that the sums grow with depth."""
ERF_SCALE = 1 / math.sqrt(2)


class Builder:
    """One network of ``batch`` images. Every method adds nodes and returns the name of the value made; ``shape`` knows
    its shape, ``macs`` counts multiply-adds of all Conv, Gemm and MatMul so far."""

    def __init__(self, name: str, batch: int = 1) -> None:
        self.name, self.batch = name, batch
        self.macs = 0
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._random = np.random.default_rng(SEED)
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, shape: Sequence[int], dtype: int = TensorProto.FLOAT) -> str:
        """``shape`` is that of one image, with its axis of images."""
        shape = (self.batch * shape[0], *shape[1:])
        self._inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        self.shapes[name] = tuple(shape)
        return name

    def channels(self, x: str) -> int:
        return self.shapes[x][1]

    def constant(self, array: np.ndarray) -> str:
        name = f"w{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(array, name))
        self.shapes[name] = array.shape
        return name

    def weights(self, shape: Sequence[int], deviation: float) -> str:
        return self.constant(self._random.standard_normal(shape, np.float32) * np.float32(deviation))

    def bias(self, count: int) -> str:
        return self.weights((count,), 0.05)

    def node(self, op: str, inputs: Sequence[str], shape: Sequence[int], **attributes: object) -> str:
        """One node of one output, whose shape the caller knows."""
        name = f"{op.lower()}{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, list(inputs), [name], name=f"/{name}", **attributes))
        self.shapes[name] = tuple(shape)
        return name

    def same(self, op: str, *inputs: str, **attributes: object) -> str:
        """An operator whose output has its inputs' broadcast shape."""
        shape = np.broadcast_shapes(*(self.shapes[x] for x in inputs))
        return self.node(op, inputs, shape, **attributes)

    def conv(
        self,
        x: str,
        filters: int,
        kernel: int = 3,
        stride: int = 1,
        *,
        groups: int = 1,
        dilation: int = 1,
        pad: int | None = None,
        act: str | None = "relu",
        gain: float | None = None,
    ) -> str:
        """Conv with bias (BatchNorm folded in) and its activation; 'same' padding unless ``pad`` says otherwise."""
        images, channels, height, width = self.shapes[x]
        margin = dilation * (kernel - 1) // 2 if pad is None else pad
        reach = dilation * (kernel - 1) + 1
        out = [(size + 2 * margin - reach) // stride + 1 for size in (height, width)]
        fan_in = channels // groups * kernel * kernel
        w = self.weights(
            (filters, channels // groups, kernel, kernel), math.sqrt((GAIN[act] if gain is None else gain) / fan_in)
        )
        self.macs += images * fan_in * filters * out[0] * out[1]
        made = self.node(
            "Conv",
            [x, w, self.bias(filters)],
            (images, filters, *out),
            kernel_shape=[kernel] * 2,
            strides=[stride] * 2,
            pads=[margin] * 4,
            dilations=[dilation] * 2,
            group=groups,
        )
        return self.act(made, act)

    def depthwise(self, x: str, kernel: int, stride: int = 1, act: str | None = "relu") -> str:
        return self.conv(x, self.channels(x), kernel, stride, groups=self.channels(x), act=act)

    def act(self, x: str, kind: str | None) -> str:
        """The activation as the torch exporter writes it."""
        match kind:
            case None:
                return x
            case "relu":
                return self.same("Relu", x)
            case "relu6":
                limits = [self.constant(np.array(v, np.float32)) for v in (0, 6)]
                return self.node("Clip", [x, *limits], self.shapes[x])
            case "silu":
                return self.same("Mul", x, self.same("Sigmoid", x))
            case "hardswish":
                return self.same("HardSwish", x)
            case "hardsigmoid":
                return self.same("HardSigmoid", x, alpha=1 / 6, beta=0.5)
            case "gelu":
                inner = self.same("Erf", self.scaled(x, ERF_SCALE))
                one = self.same("Add", inner, self.constant(np.array(1, np.float32)))
                return self.scaled(self.same("Mul", x, one), 0.5)
        return self.same({"sigmoid": "Sigmoid"}[str(kind)], x)

    def scaled(self, x: str, factor: float) -> str:
        return self.same("Mul", x, self.constant(np.array(factor, np.float32)))

    def max_pool(self, x: str, kernel: int, stride: int, pad: int = 0, *, ceil: bool = False) -> str:
        up = stride - 1 if ceil else 0
        images, channels, *sizes = self.shapes[x]
        out = [(size + 2 * pad - kernel + up) // stride + 1 for size in sizes]
        return self.node("MaxPool", [x], (images, channels, *out), kernel_shape=[kernel] * 2, strides=[stride] * 2,
                         pads=[pad] * 4, ceil_mode=int(ceil))  # fmt: skip

    def global_pool(self, x: str) -> str:
        return self.node("GlobalAveragePool", [x], (self.shapes[x][0], self.channels(x), 1, 1))

    def flat(self, x: str) -> str:
        return self.node("Flatten", [x], (self.shapes[x][0], math.prod(self.shapes[x][1:])), axis=1)

    def gemm(self, x: str, features: int, act: str | None = None) -> str:
        """A fully connected layer on [images, n]."""
        images, fan_in = self.shapes[x]
        w = self.weights((features, fan_in), math.sqrt((GAIN[act]) / fan_in))
        self.macs += images * fan_in * features
        return self.act(self.node("Gemm", [x, w, self.bias(features)], (images, features), transB=1), act)

    def linear(self, x: str, features: int, gain: float = 1.0) -> str:
        """A fully connected layer over the last axis, as MatMul and Add."""
        *front, fan_in = self.shapes[x]
        w = self.weights((fan_in, features), math.sqrt(gain / fan_in))
        self.macs += math.prod(front) * fan_in * features
        return self.same("Add", self.node("MatMul", [x, w], (*front, features)), self.bias(features))

    def matmul(self, a: str, b: str) -> str:
        *front, rows, depth = self.shapes[a]
        columns = self.shapes[b][-1]
        self.macs += math.prod(front) * rows * depth * columns
        return self.node("MatMul", [a, b], (*front, rows, columns))

    def reshape(self, x: str, shape: Sequence[int]) -> str:
        """Raises ValueError in a batch: networks that reshape are written for one image."""
        if self.batch != 1:
            raise ValueError(f"{self.name} is written for batch 1")
        return self.node("Reshape", [x, self.constant(np.array(shape, np.int64))], shape)

    def transpose(self, x: str, order: Sequence[int]) -> str:
        return self.node("Transpose", [x], [self.shapes[x][i] for i in order], perm=list(order))

    def concat(self, *inputs: str, axis: int = 1) -> str:
        shape = list(self.shapes[inputs[0]])
        shape[axis] = sum(self.shapes[x][axis] for x in inputs)
        return self.node("Concat", inputs, shape, axis=axis)

    def upsample(self, x: str, factor: int = 2) -> str:
        """Nearest neighbour, as YOLO necks do it."""
        images, channels, height, width = self.shapes[x]
        scales = self.constant(np.array([1, 1, factor, factor], np.float32))
        return self.node("Resize", [x, "", scales], (images, channels, height * factor, width * factor), mode="nearest",
                         coordinate_transformation_mode="asymmetric", nearest_mode="floor")  # fmt: skip

    def up_conv(self, x: str, filters: int) -> str:
        """ConvTranspose of kernel 2 and stride 2."""
        images, channels, height, width = self.shapes[x]
        w = self.weights((channels, filters, 2, 2), math.sqrt(1 / channels))
        self.macs += images * channels * filters * 4 * height * width
        return self.node("ConvTranspose", [x, w, self.bias(filters)], (images, filters, height * 2, width * 2),
                         kernel_shape=[2, 2], strides=[2, 2])  # fmt: skip

    def squeeze_excite(self, x: str, hidden: int, inner: str, gate: str) -> str:
        squeezed = self.conv(self.global_pool(x), hidden, 1, act=inner)
        return self.same("Mul", x, self.act(self.conv(squeezed, self.channels(x), 1, act=None), gate))

    def layer_norm(self, x: str) -> str:
        size = self.shapes[x][-1]
        scale = self.constant(np.ones(size, np.float32))
        return self.node("LayerNormalization", [x, scale, self.bias(size)], self.shapes[x], axis=-1, epsilon=1e-6)

    def save(self, folder: Path, *outputs: str) -> Path:
        """Checks the model and writes it as NAME.onnx; a half-written file never takes that name."""
        made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, self.shapes[name]) for name in outputs]
        graph = helper.make_graph(self._nodes, self.name, self._inputs, made, self._weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        onnx.checker.check_model(model, full_check=True)
        folder.mkdir(parents=True, exist_ok=True)
        path, part = folder / f"{self.name}.onnx", folder / f"{self.name}.part"
        onnx.save(model, part)
        part.replace(path)
        return path
