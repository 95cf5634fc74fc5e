"""Activations exporters spell out become the one ONNX operator: Gelu (Erf and tanh forms), Swish, HardSwish.

The operator may be newer than the model's opset: the layer then carries the version that defines it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from softneuro_core.graph import Graph, Layer, Value
from softneuro_core.passes.products import Product, factors_of, product_of
from softneuro_core.passes.rewrite import Rewrite, is_near, scalar, static_input, sweep, version_of

FIRST_VERSION = {"Gelu": 20, "Swish": 24, "HardSwish": 14}


def canonical_activations(graph: Graph) -> Graph:
    """The graph with each spelled-out activation as one layer, named like the last of those it replaces."""
    return sweep(graph, _match, reverse=True)


def _match(rewrite: Rewrite, layer: Layer) -> bool:
    if layer.type not in ("Mul", "Div") or len(layer.inputs) != 2 or None in layer.inputs:
        return False
    left, right = layer.inputs
    assert left is not None and right is not None
    if not (left.dtype.is_float and right.dtype.is_float) or layer.version < 7:
        return False
    found = product_of(rewrite, layer)
    candidates = list(found.values)
    if len(candidates) == 2 and candidates[0] is not candidates[1]:
        return any(
            _gelu(rewrite, layer, found, x, gate)
            or _swish(rewrite, layer, found, x, gate)
            or _hard_swish(rewrite, layer, found, x, gate)
            for x, gate in (candidates, candidates[::-1])
        )
    return False


def _replaced(
    rewrite: Rewrite, layer: Layer, kind: str, x: Value, attrs: dict[str, object], inner: Sequence[Layer]
) -> bool:
    """Puts one activation in place of ``layer`` if nothing else reads what the ``inner`` layers make."""
    everything = {layer, *inner}
    for one in everything - {layer}:
        value = one.outputs[0]
        if value is None or value in rewrite.outputs or not everything.issuperset(rewrite.users(value)):
            return False
    if any(one in rewrite.touched for one in everything):
        return False
    version = version_of(rewrite.graph, kind, FIRST_VERSION[kind])
    new = Layer(layer.name, kind, (x,), layer.outputs, attrs, version=version)
    rewrite.replace(layer, new, also=everything - {layer})
    return True


def _plus_one(rewrite: Rewrite, value: Value, *types: str) -> tuple[Layer, Layer] | None:
    """The Add of 1, and the layer of one of these types it is added to."""
    add = rewrite.producer(value, "Add")
    if add is None:
        return None
    for one, other in (add.inputs, add.inputs[::-1]):
        inner = rewrite.producer(other, *types)
        if inner is not None and scalar(one) == 1.0:
            return add, inner
    return None


def _gelu(rewrite: Rewrite, layer: Layer, found: Product, x: Value, gate: Value) -> bool:
    """0.5 x (1 + erf(x / sqrt 2)), or with tanh(sqrt(2/pi) (x + 0.044715 x^3)) in place of erf."""
    if not is_near(found.factor, 0.5, x.dtype):
        return False
    match = _plus_one(rewrite, gate, "Erf", "Tanh")
    if match is None:
        return False
    add, function = match
    argument = function.inputs[0]
    assert argument is not None
    scaled = factors_of(rewrite, argument, function)
    layers = [*found.layers, add, function, *scaled.layers]
    if function.type == "Erf":
        if scaled.values != [x] or not is_near(scaled.factor, math.sqrt(0.5), x.dtype):
            return False
        return _replaced(rewrite, layer, "Gelu", x, {}, layers)
    if not is_near(scaled.factor, math.sqrt(2 / math.pi), x.dtype):
        return False
    inner = _cubic(rewrite, scaled, function, x)
    return inner is not None and _replaced(rewrite, layer, "Gelu", x, {"approximate": "tanh"}, [*layers, *inner])


def _cubic(rewrite: Rewrite, scaled: Product, user: Layer, x: Value) -> list[Layer] | None:
    """The layers of x + 0.044715 x^3, spelled so or as x (1 + 0.044715 x^2); None if it is something else."""
    rest = [v for v in scaled.values if v is not x]
    if len(rest) != 1 or len(scaled.values) - len(rest) > 1:
        return None
    add = rewrite.producer(rest[0], "Add")
    if add is None:
        return None
    factored = len(scaled.values) == 2
    for plain, power in (add.inputs, add.inputs[::-1]):
        if power is None or (scalar(plain) != 1.0 if factored else plain is not x):
            continue
        term = factors_of(rewrite, power, add)
        count, extra = _power(rewrite, term.values, x)
        if count == (2 if factored else 3) and is_near(term.factor, 0.044715, x.dtype):
            return [add, *term.layers, *extra]
    return None


def _power(rewrite: Rewrite, values: Sequence[Value], x: Value) -> tuple[int, list[Layer]]:
    """How often x stands in a product, Pow(x, n) and x * x counted; 0 if there is anything else."""
    count, layers = 0, []
    for value in values:
        if value is x:
            count += 1
            continue
        pow_layer = rewrite.producer(value, "Pow")
        if pow_layer is not None and pow_layer.inputs[0] is x:
            exponent = scalar(static_input(pow_layer, 1))
            if exponent in (2.0, 3.0):
                count += int(exponent)
                layers.append(pow_layer)
                continue
        return 0, []
    return count, layers


def _swish(rewrite: Rewrite, layer: Layer, found: Product, x: Value, gate: Value) -> bool:
    """x sigmoid(alpha x)."""
    sigmoid = rewrite.producer(gate, "Sigmoid")
    if sigmoid is None or found.factor != 1.0:
        return False
    argument = sigmoid.inputs[0]
    assert argument is not None
    scaled = Product(1.0, [x]) if argument is x else factors_of(rewrite, argument, sigmoid)
    if scaled.values != [x]:
        return False
    attrs: dict[str, object] = {} if scaled.factor == 1.0 else {"alpha": scaled.factor}
    return _replaced(rewrite, layer, "Swish", x, attrs, [*found.layers, sigmoid, *scaled.layers])


def _hard_swish(rewrite: Rewrite, layer: Layer, found: Product, x: Value, gate: Value) -> bool:
    """x HardSigmoid(x) with slope 1/6 and offset 1/2, or x clip(x + 3, 0, 6) / 6."""
    hard = rewrite.producer(gate, "HardSigmoid")
    if hard is not None:
        slope, offset = hard.attrs.get("alpha", 0.2), hard.attrs.get("beta", 0.5)
        fits = is_near(slope, 1 / 6, x.dtype) and is_near(offset, 0.5, x.dtype) and found.factor == 1.0
        return fits and hard.inputs[0] is x and _replaced(rewrite, layer, "HardSwish", x, {}, [*found.layers, hard])
    clip = rewrite.producer(gate, "Clip")
    if clip is None or not is_near(found.factor, 1 / 6, x.dtype) or clip_limits(clip) != (0.0, 6.0):
        return False
    add = rewrite.producer(clip.inputs[0], "Add")
    if add is None:
        return False
    for a, b in (add.inputs, add.inputs[::-1]):
        if a is x and scalar(b) == 3.0:
            return _replaced(rewrite, layer, "HardSwish", x, {}, [*found.layers, clip, add])
    return False


def clip_limits(layer: Layer) -> tuple[float, float] | None:
    """The limits of a Clip of any version, infinite where absent; None if they are not constant."""
    if layer.version < 11:
        return float(layer.attrs.get("min", -math.inf)), float(layer.attrs.get("max", math.inf))
    limits = []
    for position, absent in ((1, -math.inf), (2, math.inf)):
        value = static_input(layer, position)
        number = absent if value is None else scalar(value)
        if number is None:
            return None
        limits.append(number)
    return limits[0], limits[1]
