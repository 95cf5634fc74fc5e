"""Routine descriptors: SoftNeuro's grammar."""

import pytest

from softneuro_core.descriptor import parse
from softneuro_core.errors import InputError
from softneuro_core.graph import Graph, Layer, Value
from softneuro_core.routine import Offer
from softneuro_core.spec import FLOAT32

NCHW, NHWC = "cpu:float32:NCHW", "cpu:float32:NHWC"


def _graph() -> Graph:
    values = [Value(f"v{i}", FLOAT32, (1, 2)) for i in range(4)]
    layers = [
        Layer(name, op, (values[i],), (values[i + 1],))
        for i, (name, op) in enumerate([("first", "Conv"), ("second", "Relu"), ("third", "Conv")])
    ]
    return Graph(tuple(layers), (values[0],), (values[3],))


@pytest.mark.parametrize(
    ("text", "routine", "spec", "expected"),
    [
        ("cpu", "cpu/im2col", NCHW, True),
        ("cpu/im2col", "cpu/im2col", NCHW, True),
        ("cpu/im2*", "cpu/im2col", NCHW, True),
        ("cpu/direct", "cpu/im2col", NCHW, False),
        ("opencl", "cpu/im2col", NCHW, False),
        ("cpu:float32:NHWC", "cpu/im2col", NCHW, False),
        ("cpu:float32:NHWC", "cpu/im2col", NHWC, True),
        ("cpu:float16", "cpu/im2col", NHWC, False),
    ],
)
def test_matching(text: str, routine: str, spec: str, expected: bool) -> None:
    assert parse(text).matches_offer(routine, Offer((spec,), (spec,))) is expected


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("cpu", {"first", "second", "third"}),
        ("cpu@1", {"second"}),
        ("cpu/x@0..1", {"first", "second"}),
        ("cpu@Conv", {"first", "third"}),
        ("cpu@th*,0", {"first", "third"}),
    ],
)
def test_layers(text: str, names: set[str]) -> None:
    assert {layer.name for layer in parse(text).selects(_graph())} == names


@pytest.mark.parametrize("text", ["a:b:c:d", "cpu@7", "cpu@2..1", "cpu@nowhere"])
def test_errors_name_the_cause(text: str) -> None:
    with pytest.raises(InputError):
        parse(text).selects(_graph())
