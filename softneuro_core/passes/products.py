"""Reads a tree of Mul and Div as one product: a constant times some values. The base of the canonical spellings."""

from __future__ import annotations

from dataclasses import dataclass, field

from softneuro_core.graph import Layer, Value
from softneuro_core.passes.rewrite import Rewrite, scalar


@dataclass(slots=True)
class Product:
    """``factor`` times the product of ``values``; ``layers`` compute it."""

    factor: float = 1.0
    values: list[Value] = field(default_factory=list)
    layers: list[Layer] = field(default_factory=list)


def product_of(rewrite: Rewrite, layer: Layer, keep: frozenset[Value] = frozenset()) -> Product:
    """The product a Mul or Div makes, inner Muls that only it reads taken apart; ``keep`` are left whole."""
    found = Product()
    _take(rewrite, layer, found, keep)
    return found


def factors_of(rewrite: Rewrite, value: Value, user: Layer, keep: frozenset[Value] = frozenset()) -> Product:
    """``value`` as a product, as far as ``user`` alone reads what makes it."""
    maker = rewrite.producer(value, "Mul", "Div")
    if maker is None or value in keep or not rewrite.is_private(value, user):
        return Product(1.0, [value])
    return product_of(rewrite, maker, keep)


def _take(rewrite: Rewrite, layer: Layer, into: Product, keep: frozenset[Value]) -> None:
    into.layers.append(layer)
    left, right = layer.inputs
    assert left is not None and right is not None
    if layer.type == "Div" and (scalar(right) or 0.0) == 0.0:
        into.values.append(layer.outputs[0])  # type: ignore[arg-type]
        into.layers.pop()
        return
    for value, inverse in ((left, False), (right, layer.type == "Div")):
        number = scalar(value)
        if number is not None:
            into.factor *= 1.0 / number if inverse else number
            continue
        inner = rewrite.producer(value, "Mul", "Div")
        if inner is not None and value not in keep and rewrite.is_private(value, layer):
            _take(rewrite, inner, into, keep)
        else:
            into.values.append(value)
