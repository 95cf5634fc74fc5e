"""A Concat whose inputs are written where it would have copied them: who may lie there, and that results stay right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from harness import graph_of, node, random

import softneuro_core as sn
from softneuro_core.costs import CostDatabase
from softneuro_core.executable import Executable
from softneuro_core.program import Program, prepare

CATALOG, PLAIN = sn.load_plugins(only=["cpu_numba"]), sn.load_plugins(only=())
WEIGHTS = {"a": random(32, 16, 1, 1), "b": random(24, 16, 3, 3), "t": random(16, 8, 2, 2), "k": random(32, 32, 1, 1)}
WEIGHTS |= {f"w{n}": random(8, n, 1, 1) for n in (40, 56, 64, 88)}
X = {"x": random(1, 16, 12, 12)}


def conv(x: str, w: str, y: str, pad: int = 0) -> onnx.NodeProto:
    return node("Conv", [x, w], [y], pads=[pad] * 4)


def concat(*names: str, axis: int = 1) -> onnx.NodeProto:
    *inputs, y = names
    return node("Concat", inputs, [y], axis=axis)


A, B = conv("x", "a", "p"), conv("x", "b", "q", 1)


def check(nodes: Sequence[onnx.NodeProto], expect: set[str], threads: int = 1, **more: Any) -> Program:
    """Which values lie inside others, and three runs against the reference: what lay there before must not show."""
    inputs = more.pop("inputs", X)
    graph = graph_of(nodes, inputs, WEIGHTS)
    with CostDatabase(":memory:") as nothing:
        plan = sn.tune(graph, threads=threads, budget_s=0, database=nothing, catalog=CATALOG, **more)
    program = prepare(graph, plan, CATALOG)
    assert {slot.value.name for slot in program.slots.parts} == expect
    executable = Executable(program)
    with sn.Session(graph, threads=1, catalog=PLAIN) as reference:
        for factor in (1, -2, 1):
            fed = {name: array * np.float32(factor) for name, array in inputs.items()}
            (want,) = reference.run(fed).values()
            (made,) = executable.run([fed[v.name] for v in graph.inputs])
            assert np.abs(made - want).max() <= 1e-4 * np.abs(want).max()
    return program


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("forbid", [(), ("cpu/winograd",)])
def test_what_convolutions_make_lies_in_the_result(forbid: tuple[str, ...], threads: int) -> None:
    tail = [node("Relu", "p", "r"), concat("r", "q", "c"), conv("c", "w56", "y")]
    program = check([A, B, *tail], {"r", "q"}, threads, forbid=forbid)
    joined = next(s for s in program.steps if s.parts)
    executable = Executable(program)
    call = joined.kernel.bind(
        *([executable.buffers[slot] for slot in side] for side in (joined.reads, joined.writes)), None
    )
    assert call.native is not None and call.native.tasks == 0


def test_what_a_transposed_convolution_makes() -> None:
    up = node("ConvTranspose", "xt", "u", strides=[2, 2])
    nodes = [up, node("Relu", "u", "r"), conv("s", "a", "p"), concat("p", "r", "y")]
    check(nodes, {"p", "r"}, inputs={**X, "s": random(1, 16, 24, 24)})


def test_planes_of_one_image_lie_there_whoever_makes_them() -> None:
    nodes = [node("Relu", "x", "r"), node("Softmax", "x", "s", axis=3), concat("r", "s", "y")]
    check(nodes, {"r", "s"})


TWO = {"x": random(2, 16, 12, 12)}


def test_what_cannot_lie_there_is_copied() -> None:
    """The caller's own, what somebody reads who wants it dense, what is joined twice, what is a residual's sum."""
    pool = node("MaxPool", "p", "m", kernel_shape=[3, 3], pads=[1] * 4)
    check([B, concat("x", "q", "c"), conv("c", "w40", "y")], {"q"}, inputs=TWO)
    check([A, B, pool, concat("p", "q", "m", "c"), conv("c", "w88", "y")], {"q"}, inputs=TWO)
    check([A, concat("p", "p", "c"), conv("c", "w64", "y")], set(), inputs=TWO)
    total = [conv("m", "k", "n"), node("Add", "nm", "t"), concat("t", "q", "c"), conv("c", "w56", "y")]
    check([A, B, pool, *total], {"q"}, inputs=TWO)


def test_several_images_only_where_pixels_may_lie_apart() -> None:
    check([A, B, concat("p", "q", "c"), conv("c", "w56", "y")], {"p", "q"}, inputs=TWO)
    check([node("Relu", "x", "r"), node("Tanh", "x", "s"), concat("r", "s", "y")], set(), inputs=TWO)
