"""LayerNormalization spelled out by mean, difference, variance and root becomes the one ONNX operator."""

from __future__ import annotations

import numpy as np

from softneuro_core.graph import Graph, Layer, Value
from softneuro_core.passes.rewrite import Rewrite, constant, ints, scalar, static_input, sweep, version_of


def spelled_out_layer_norm(graph: Graph) -> Graph:
    """The graph with LayerNormalization for (x - mean) / sqrt(var + eps) [* scale [+ shift]] over trailing axes."""
    return sweep(graph, _match)


def _match(rewrite: Rewrite, layer: Layer) -> bool:
    if layer.type != "Div" or None in layer.inputs or layer.version < 7:
        return False
    core = _core(rewrite, layer)
    if core is None:
        return False
    x, axis, epsilon, inner = core
    shape = x.static_shape[axis:]
    result, scale, layers = layer, None, inner
    scaled = _constant_step(rewrite, result, "Mul", shape)
    if scaled is not None:
        layers, (result, scale) = [*layers, result], scaled
    shifted = _constant_step(rewrite, result, "Add", shape) if scaled is not None else None
    shift: Value | None = None
    if shifted is not None:
        layers, (result, shift) = [*layers, result], shifted
    if not _is_private(rewrite, layers, result):
        return False
    scale = scale or constant(f"{result.name}/scale", np.ones(shape), x.dtype)
    inputs = (x, scale) if shift is None else (x, scale, shift)
    attrs = {"axis": axis - len(x.static_shape), "epsilon": epsilon}
    version = version_of(rewrite.graph, "LayerNormalization", 17)
    new = Layer(result.name, "LayerNormalization", inputs, result.outputs, attrs, version=version)
    rewrite.replace(result, new, also=layers)
    return True


def _is_private(rewrite: Rewrite, layers: list[Layer], result: Layer) -> bool:
    everything = {*layers, result}
    if everything & rewrite.touched:
        return False
    values = [v for layer in layers for v in layer.results]
    return all(v not in rewrite.outputs and everything.issuperset(rewrite.users(v)) for v in values)


def _core(rewrite: Rewrite, div: Layer) -> tuple[Value, int, float, list[Layer]] | None:
    """x, first normalised axis, epsilon, and the layers before ``div``."""
    difference, root = div.inputs
    sub, sqrt = rewrite.producer(difference, "Sub"), rewrite.producer(root, "Sqrt")
    if sub is None or sqrt is None:
        return None
    x, mean_value = sub.inputs
    mean = rewrite.producer(mean_value, "ReduceMean")
    add = rewrite.producer(sqrt.inputs[0], "Add")
    if x is None or mean is None or add is None or mean.inputs[0] is not x or not x.is_static or not x.dtype.is_float:
        return None
    for variance, eps in (add.inputs, add.inputs[::-1]):
        epsilon = scalar(eps)
        average = rewrite.producer(variance, "ReduceMean")
        if epsilon is None or average is None:
            continue
        square = rewrite.producer(average.inputs[0], "Pow", "Mul")
        axis = _trailing_axis(mean, x)
        if square is None or axis is None or axis != _trailing_axis(average, x) or not _is_square(square, difference):
            continue
        return x, axis, epsilon, [mean, sub, square, average, add, sqrt, div][:-1]
    return None


def _is_square(layer: Layer, value: Value | None) -> bool:
    if layer.inputs[0] is not value:
        return False
    return layer.inputs[1] is value if layer.type == "Mul" else scalar(static_input(layer, 1)) == 2.0


def _trailing_axis(layer: Layer, x: Value) -> int | None:
    """The first of the axes a ReduceMean with kept dimensions averages, if they are the last ones."""
    if not layer.attrs.get("keepdims", 1):
        return None
    axes = layer.attrs.get("axes") if layer.version < 18 else ints(static_input(layer, 1))
    rank = len(x.static_shape)
    if not axes:
        return None
    found = sorted(axis % rank for axis in axes)
    return found[0] if found == list(range(found[0], rank)) else None


def _constant_step(rewrite: Rewrite, layer: Layer, type: str, shape: tuple[int, ...]) -> tuple[Layer, Value] | None:
    """The only reader of ``layer`` if it is a Mul or Add with a constant of the normalised shape."""
    value = layer.outputs[0]
    users = () if value is None else rewrite.users(value)
    if len(users) != 1 or users[0].type != type or users[0].domain or value in rewrite.outputs:
        return None
    others = [v for v in users[0].inputs if v is not value]
    if len(others) != 1 or others[0] is None or others[0].data is None or others[0].shape != shape:
        return None
    return users[0], others[0]
