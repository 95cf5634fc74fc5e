"""Trains the demo's CNN on scikit-learn's digits with numpy alone and writes ``digits.onnx`` and ``heldout.npz``.

Usage: python train.py [--epochs 20]   (needs scikit-learn for the data; takes under a minute)

Owns the network, its training and its export. Knows nothing of SoftNeuro: the file is ordinary ONNX.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from numpy.lib.stride_tricks import sliding_window_view
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).parent
HELD_OUT = 360
SEED = 7
EPSILON = 1e-5


class Block:
    """One differentiable part: ``forward`` keeps what ``backward`` needs; ``params`` and ``grads`` share keys."""

    def __init__(self) -> None:
        self.params: dict[str, np.ndarray] = {}
        self.grads: dict[str, np.ndarray] = {}

    def forward(self, x: np.ndarray, training: bool) -> np.ndarray:
        raise NotImplementedError

    def backward(self, grad: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def node(self, name: str, source: str) -> tuple[onnx.NodeProto, dict[str, np.ndarray]]:
        """The ONNX node computing this block from ``source`` into ``name``, and its weights."""
        raise NotImplementedError


class Conv(Block):
    """3x3 (pad 1) or 1x1 convolution, [n, c, h, w]; ``depthwise`` gives each channel a filter of its own."""

    def __init__(self, rng: np.random.Generator, c_in: int, c_out: int, size: int, depthwise: bool = False) -> None:
        super().__init__()
        self.depthwise, self.pad = depthwise, size // 2
        fan_in = size * size * (1 if depthwise else c_in)
        shape = (c_out, 1 if depthwise else c_in, size, size)
        self.params["w"] = rng.normal(0, np.sqrt(2 / fan_in), shape).astype(np.float32)

    def _windows(self, x: np.ndarray) -> np.ndarray:
        """View [n, c, h, w, kh, kw] of the padded input."""
        p, k = self.pad, self.params["w"].shape[2]
        return sliding_window_view(np.pad(x, ((0, 0), (0, 0), (p, p), (p, p))), (k, k), axis=(2, 3))

    def _correlate(self, x: np.ndarray, w: np.ndarray) -> np.ndarray:
        if self.depthwise:
            return np.einsum("nchwkl,ckl->nchw", self._windows(x), w[:, 0], optimize=True)
        return np.tensordot(self._windows(x), w, axes=([1, 4, 5], [1, 2, 3])).transpose(0, 3, 1, 2)

    def forward(self, x: np.ndarray, training: bool) -> np.ndarray:
        self.x = x
        return self._correlate(x, self.params["w"])

    def backward(self, grad: np.ndarray) -> np.ndarray:
        windows = self._windows(self.x)
        flipped = self.params["w"][:, :, ::-1, ::-1]
        if self.depthwise:
            self.grads["w"] = np.einsum("nchwkl,nchw->ckl", windows, grad, optimize=True)[:, None]
            return self._correlate(grad, flipped)
        self.grads["w"] = np.tensordot(grad, windows, axes=([0, 2, 3], [0, 2, 3]))
        return self._correlate(grad, flipped.transpose(1, 0, 2, 3))

    def node(self, name: str, source: str) -> tuple[onnx.NodeProto, dict[str, np.ndarray]]:
        w, p = self.params["w"], self.pad
        group = w.shape[0] if self.depthwise else 1
        node = helper.make_node(
            "Conv", [source, f"{name}.w"], [name], name, kernel_shape=w.shape[2:], pads=[p] * 4, group=group
        )
        return node, {f"{name}.w": w}


class BatchNorm(Block):
    """Normalises every channel; at inference by running averages, as the ONNX operator does."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.params = {"scale": np.ones(channels, np.float32), "bias": np.zeros(channels, np.float32)}
        self.mean, self.var = np.zeros(channels, np.float32), np.ones(channels, np.float32)

    def forward(self, x: np.ndarray, training: bool) -> np.ndarray:
        mean, var = (x.mean((0, 2, 3)), x.var((0, 2, 3))) if training else (self.mean, self.var)
        if training:
            self.mean = (0.9 * self.mean + 0.1 * mean).astype(np.float32)
            self.var = (0.9 * self.var + 0.1 * var).astype(np.float32)
        self.scale = (1 / np.sqrt(var + EPSILON))[:, None, None]
        self.normal = (x - mean[:, None, None]) * self.scale
        return self.normal * self.params["scale"][:, None, None] + self.params["bias"][:, None, None]

    def backward(self, grad: np.ndarray) -> np.ndarray:
        self.grads = {"scale": (grad * self.normal).sum((0, 2, 3)), "bias": grad.sum((0, 2, 3))}
        count = grad.size // grad.shape[1]
        by_channel = {key: value[:, None, None] for key, value in self.grads.items()}
        inner = grad - (by_channel["bias"] + self.normal * by_channel["scale"]) / count
        return inner * self.scale * self.params["scale"][:, None, None]

    def node(self, name: str, source: str) -> tuple[onnx.NodeProto, dict[str, np.ndarray]]:
        weights = {"scale": self.params["scale"], "bias": self.params["bias"], "mean": self.mean, "var": self.var}
        named = {f"{name}.{key}": value for key, value in weights.items()}
        return helper.make_node("BatchNormalization", [source, *named], [name], name, epsilon=EPSILON), named


class Relu(Block):
    def forward(self, x: np.ndarray, training: bool) -> np.ndarray:
        self.mask = x > 0
        return x * self.mask

    def backward(self, grad: np.ndarray) -> np.ndarray:
        return grad * self.mask

    def node(self, name: str, source: str) -> tuple[onnx.NodeProto, dict[str, np.ndarray]]:
        return helper.make_node("Relu", [source], [name], name), {}


class MaxPool(Block):
    """2x2, stride 2; height and width are even."""

    def forward(self, x: np.ndarray, training: bool) -> np.ndarray:
        n, c, h, w = x.shape
        tiles = x.reshape(n, c, h // 2, 2, w // 2, 2)
        best = tiles.max((3, 5), keepdims=True)
        self.mask = tiles == best
        self.mask = (self.mask / self.mask.sum((3, 5), keepdims=True)).astype(np.float32)
        return best.reshape(n, c, h // 2, w // 2)

    def backward(self, grad: np.ndarray) -> np.ndarray:
        n, c, h, w = grad.shape
        return (self.mask * grad.reshape(n, c, h, 1, w, 1)).reshape(n, c, 2 * h, 2 * w)

    def node(self, name: str, source: str) -> tuple[onnx.NodeProto, dict[str, np.ndarray]]:
        return helper.make_node("MaxPool", [source], [name], name, kernel_shape=[2, 2], strides=[2, 2]), {}


class Flatten(Block):
    def forward(self, x: np.ndarray, training: bool) -> np.ndarray:
        self.shape = x.shape
        return x.reshape(len(x), -1)

    def backward(self, grad: np.ndarray) -> np.ndarray:
        return grad.reshape(self.shape)

    def node(self, name: str, source: str) -> tuple[onnx.NodeProto, dict[str, np.ndarray]]:
        return helper.make_node("Flatten", [source], [name], name), {}


class Gemm(Block):
    def __init__(self, rng: np.random.Generator, n_in: int, n_out: int) -> None:
        super().__init__()
        self.params["w"] = rng.normal(0, np.sqrt(2 / n_in), (n_out, n_in)).astype(np.float32)
        self.params["b"] = np.zeros(n_out, np.float32)

    def forward(self, x: np.ndarray, training: bool) -> np.ndarray:
        self.x = x
        return x @ self.params["w"].T + self.params["b"]

    def backward(self, grad: np.ndarray) -> np.ndarray:
        self.grads = {"w": grad.T @ self.x, "b": grad.sum(0)}
        return grad @ self.params["w"]

    def node(self, name: str, source: str) -> tuple[onnx.NodeProto, dict[str, np.ndarray]]:
        weights = {f"{name}.w": self.params["w"], f"{name}.b": self.params["b"]}
        return helper.make_node("Gemm", [source, *weights], [name], name, transB=1), weights


def network(rng: np.random.Generator) -> dict[str, Block]:
    """Two plain convolutions, a depthwise-separable one, two dense layers: 54,000 weights in all."""
    return {
        "conv1": Conv(rng, 1, 24, 3),
        "norm1": BatchNorm(24),
        "relu1": Relu(),
        "conv2": Conv(rng, 24, 48, 3),
        "norm2": BatchNorm(48),
        "relu2": Relu(),
        "pool2": MaxPool(),
        "depthwise3": Conv(rng, 48, 48, 3, depthwise=True),
        "norm3": BatchNorm(48),
        "relu3": Relu(),
        "pointwise4": Conv(rng, 48, 96, 1),
        "norm4": BatchNorm(96),
        "relu4": Relu(),
        "pool4": MaxPool(),
        "flatten": Flatten(),
        "dense5": Gemm(rng, 384, 96),
        "relu5": Relu(),
        "dense6": Gemm(rng, 96, 10),
    }


def forward(net: dict[str, Block], x: np.ndarray, training: bool = False) -> np.ndarray:
    for block in net.values():
        x = block.forward(x, training)
    return x


def shifted(rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
    """Every image moved by up to one pixel: the only augmentation."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    rows, columns = rng.integers(0, 3, (2, len(x)))
    return np.stack([p[:, r : r + 8, c : c + 8] for p, r, c in zip(padded, rows, columns, strict=True)])


def batches(rng: np.random.Generator, count: int, size: int) -> Iterator[np.ndarray]:
    order = rng.permutation(count)
    yield from np.array_split(order, -(-count // size))


def train(x: np.ndarray, y: np.ndarray, epochs: int) -> dict[str, Block]:
    """Softmax cross-entropy, Adam, a cosine learning rate from 2e-3; prints one line per five epochs."""
    rng = np.random.default_rng(SEED)
    net = network(rng)
    moments = {(name, key): [0.0, 0.0] for name, block in net.items() for key in block.params}
    step = 0
    for epoch in range(epochs):
        rate, losses = 1e-3 * (1 + np.cos(np.pi * epoch / epochs)), []
        for picked in batches(rng, len(x), 64):
            step += 1
            losses.append(_learn(net, shifted(rng, x[picked]), y[picked]))
            _adam(net, moments, rate, step)
        if (epoch + 1) % 5 == 0:
            print(f"epoch {epoch + 1:3d}  loss {np.mean(losses):.4f}", flush=True)
    return net


def _learn(net: dict[str, Block], x: np.ndarray, y: np.ndarray) -> float:
    """One forward and backward pass; gradients stay in the blocks. Returns the mean loss."""
    logits = forward(net, x, training=True)
    exponents = np.exp(logits - logits.max(1, keepdims=True))
    p = exponents / exponents.sum(1, keepdims=True)
    loss = float(-np.log(p[np.arange(len(y)), y] + 1e-12).mean())
    p[np.arange(len(y)), y] -= 1
    grad = p / len(y)
    for block in reversed(net.values()):
        grad = block.backward(grad)
    return loss


def _adam(net: dict[str, Block], moments: dict[tuple[str, str], list], rate: float, step: int) -> None:
    for (name, key), moment in moments.items():
        grad = net[name].grads[key]
        moment[0] = 0.9 * moment[0] + 0.1 * grad
        moment[1] = 0.999 * moment[1] + 0.001 * grad**2
        mean, spread = moment[0] / (1 - 0.9**step), moment[1] / (1 - 0.999**step)
        net[name].params[key] = (net[name].params[key] - rate * mean / (np.sqrt(spread) + 1e-8)).astype(np.float32)


def export(net: dict[str, Block], path: Path) -> None:
    """ONNX opset 17: ``image`` float32 [n, 1, 8, 8] in 0..1 to ``probabilities`` float32 [n, 10]."""
    nodes: list[onnx.NodeProto] = []
    weights: dict[str, np.ndarray] = {}
    source = "image"
    for name, block in net.items():
        node, own = block.node(name, source)
        nodes.append(node)
        weights |= own
        source = name
    nodes.append(helper.make_node("Softmax", [source], ["probabilities"], "softmax", axis=1))
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 1, 8, 8])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 10])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="softneuro examples")
    model.ir_version = 8
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def main() -> None:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--epochs", type=int, default=20)
    epochs = options.parse_args().epochs
    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 1, 8, 8).astype(np.uint8)  # pixels 0..16, as published
    x_train, x_test, y_train, y_test = train_test_split(
        images, labels.astype(np.uint8), test_size=HELD_OUT, stratify=labels, random_state=SEED
    )
    net = train(x_train / np.float32(16), y_train, epochs)
    right = forward(net, x_test / np.float32(16)).argmax(1) == y_test
    print(f"held out: {right.sum()} of {len(right)} right ({right.mean():.2%})")
    export(net, HERE / "digits.onnx")
    np.savez_compressed(HERE / "heldout.npz", x=x_test, y=y_test)
    for name in ("digits.onnx", "heldout.npz"):
        print(f"wrote {name}: {(HERE / name).stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
