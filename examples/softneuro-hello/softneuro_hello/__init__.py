"""A SoftNeuro plugin: the operator hello::Snake with its routine, and one more routine for ONNX's Relu."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from onnx.parser import parse_function

from softneuro_core import FunctionKernel, Offer, Operator, Region, Routine, Target, hookimpl

if TYPE_CHECKING:
    from softneuro_core.testing.case import Case

# What the operator means, in ONNX's own words: shapes, the reference and every other tool follow from it.
SNAKE = """
<domain: "hello", opset_import: ["": 18]>
Snake <alpha: float = 1.0> (x) => (y)
{
    constant = Constant <value_float: float = @alpha> ()
    a = CastLike (constant, x)
    ax = Mul (a, x)
    s = Sin (ax)
    s2 = Mul (s, s)
    wave = Div (s2, a)
    y = Add (x, wave)
}
"""


def layouts(region: Region) -> list[str]:
    """Storage these routines can read: any dense one, since they treat every element alike."""
    (x,) = region.inputs
    if x.dtype.name != "float32":
        return []
    return ["cpu:float32:NCHW"] + (["cpu:float32:NHWC"] if len(x.static_shape) > 2 else [])


class Snake(Routine):
    """Five passes of numpy over the output. No ``inplace``: x is read again after y was written."""

    name, pattern = "cpu/hello_snake", ("hello::Snake",)

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        return [Offer((spec,), (spec,)) for spec in layouts(region)]

    def prepare(self, region: Region, offer: Offer, target: Target) -> FunctionKernel:
        alpha = np.float32(region.exit.attrs.get("alpha", 1.0))
        scale = np.float32(1) / alpha

        def snake(x: np.ndarray, y: np.ndarray) -> None:
            np.multiply(x, alpha, out=y)
            np.sin(y, out=y)
            np.multiply(y, y, out=y)
            np.multiply(y, scale, out=y)
            np.add(y, x, out=y)

        return FunctionKernel(snake)


class Relu(Routine):
    """One pass of numpy; right whether or not y lies in the memory of x, so it may be done in place."""

    name, pattern = "cpu/hello_relu", ("Relu",)

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        return [Offer((spec,), (spec,), accuracy=0.0, inplace=0) for spec in layouts(region)]

    def prepare(self, region: Region, offer: Offer, target: Target) -> FunctionKernel:
        return FunctionKernel(lambda x, y: np.maximum(x, np.float32(0), out=y))


@hookimpl
def softneuro_layers() -> list[Operator]:
    return [Operator("hello", "Snake", function=parse_function(SNAKE))]


@hookimpl
def softneuro_routines() -> list[Routine]:
    return [Snake(), Relu()]


def softneuro_conformance_cases() -> list[Case]:
    """What the kit cannot know: inputs for an operator of our own. Relu has its cases already."""
    from softneuro_core.testing.case import normal, single

    shapes = [(1,), (3, 17), (2, 7, 16), (1, 17, 5, 3), (2, 8, 32, 33)]
    return [
        single(f"snake-{'x'.join(map(str, shape))}-a{alpha}", "Snake", normal(*shape), domain="hello", alpha=alpha)
        for shape in shapes
        for alpha in (1.0, 0.25)
    ]
