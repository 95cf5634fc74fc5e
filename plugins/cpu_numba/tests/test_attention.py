"""Attention in one kernel: as exporters spell it, at awkward sizes, with masks, infinities and NaN."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from harness import ROUTINES, check, graph_of, node, random

from softneuro_core.graph import Region

NAME = "cpu/attention"
Case = tuple[list[onnx.NodeProto], dict[str, np.ndarray], dict[str, np.ndarray]]


def exported(batch: int, queries: int, keys: int, heads: int, depth: int, mask: tuple[int, ...] | None = None) -> Case:
    """Q, K, V as [batch, sequence, heads * depth], as BERT's exporters write it; K turned in one Transpose."""
    nodes = []
    inputs, constants = {}, {"scale": np.float32(depth**-0.5).reshape(())}
    orders = {"q": (queries, [0, 2, 1, 3]), "k": (keys, [0, 2, 3, 1]), "v": (keys, [0, 2, 1, 3])}
    for seed, (name, (length, order)) in enumerate(orders.items()):
        inputs[name] = random(batch, length, heads * depth, seed=seed)
        constants[f"{name}s"] = np.array([batch, length, heads, depth], np.int64)
        nodes += [
            node("Reshape", [name, f"{name}s"], [f"{name}r"]),
            node("Transpose", [f"{name}r"], [f"{name}t"], perm=order),
        ]
    nodes += [node("MatMul", ["qt", "kt"], ["s"]), node("Mul", ["s", "scale"], ["m"])]
    last = "m"
    if mask is not None:
        inputs["mask"] = np.where(random(*mask, seed=9) > 0.8, np.float32(-3e38), random(*mask, seed=10))
        nodes += [node("Add", ["m", "mask"], ["a"])]
        last = "a"
    nodes += [node("Softmax", [last], ["p"], axis=-1), node("MatMul", ["p", "vt"], ["o"])]
    nodes += [node("Transpose", ["o"], ["ot"], perm=[0, 2, 1, 3]), node("Reshape", ["ot", "ys"], ["y"])]
    constants["ys"] = np.array([batch, queries, heads * depth], np.int64)
    return nodes, inputs, constants


def plain(q: tuple[int, ...], k: tuple[int, ...], v: tuple[int, ...]) -> Case:
    nodes = [node("MatMul", "qk", "s"), node("Softmax", "s", "p"), node("MatMul", "pv", "y")]
    return nodes, {"q": random(*q), "k": random(*k, seed=1), "v": random(*v, seed=2)}, {}


@pytest.mark.parametrize(
    "batch, queries, keys, heads, depth", [(2, 7, 7, 3, 8), (1, 1, 19, 2, 5), (1, 33, 17, 2, 20), (2, 3, 1, 2, 16)]
)
@pytest.mark.parametrize("mask", [None, "row", "full"])
def test_as_exported(batch: int, queries: int, keys: int, heads: int, depth: int, mask: str | None) -> None:
    shape = {None: None, "row": (batch, 1, 1, keys), "full": (heads, queries, keys)}[mask]
    made = check(*exported(batch, queries, keys, heads, depth, shape), expect=[NAME])
    assert [name for name, _ in made].count(NAME) == 1


@pytest.mark.parametrize(
    "q, k, v",
    [
        ((5, 4), (4, 6), (6, 3)),
        ((2, 3, 13, 8), (2, 3, 8, 40), (2, 3, 40, 24)),
        ((2, 3, 9, 8), (1, 3, 8, 11), (3, 11, 4)),
        ((1, 70, 64), (1, 64, 1100), (1, 1100, 17)),
    ],
)
def test_without_moves(q: tuple[int, ...], k: tuple[int, ...], v: tuple[int, ...]) -> None:
    check(*plain(q, k, v), expect=[NAME])


def test_scales_before_the_product_and_division_after_it() -> None:
    nodes = [
        *(node("Mul", "qc", ["qm"]), node("Transpose", "k", ["kt"], perm=[0, 2, 1]), node("Mul", ["kt", "c"], ["km"])),
        *(node("MatMul", ["qm", "km"], "s"), node("Div", "sd", ["sc"]), node("Add", ["mask", "sc"], ["a"])),
        *(node("Softmax", "a", "p"), node("Transpose", "v", ["vt"], perm=[0, 2, 1]), node("MatMul", ["p", "vt"], "y")),
    ]
    inputs = {"q": random(2, 9, 8), "k": random(2, 12, 8, seed=1), "v": random(2, 5, 12, seed=2)}
    constants = {"c": np.float32([0.5]), "d": np.float32(1.7).reshape(()), "mask": random(9, 12, seed=4)}
    check(nodes, inputs, constants, expect=[NAME])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["q", "k", "v", "mask"])
def test_what_is_not_finite_spreads_as_in_the_reference(where: str, bad: float) -> None:
    nodes, inputs, constants = exported(2, 6, 11, 2, 8, (2, 1, 6, 11))
    inputs[where][0, 0, 0] = bad
    check(nodes, inputs, constants, expect=[NAME])


def test_a_row_masked_completely() -> None:
    nodes, inputs, constants = exported(1, 5, 9, 2, 8, (1, 1, 5, 9))
    inputs["mask"][0, 0, 2] = -np.inf
    check(nodes, inputs, constants, expect=[NAME])


def test_values_others_read_are_left_alone() -> None:
    """The probabilities are asked for too: only the core cannot be fused, and no region reaches over a shared value."""
    nodes, inputs, constants = exported(1, 6, 6, 2, 8)
    shared = graph_of([*nodes, node("Identity", ["p"], ["z"]), node("Identity", ["z"], ["zz"])], inputs, constants)
    assert not any(True for layer in shared.layers for _ in ROUTINES[NAME].regions(shared, layer))
    shared = graph_of([*nodes, node("Identity", ["qr"], ["z"])], inputs, constants)
    exits = [layer for layer in shared.layers if layer.op == "Reshape"]
    found = [Region(shared, tuple(r)) for r in ROUTINES[NAME].regions(shared, exits[-1])]
    assert found and all(r.is_legal() for r in found)
    assert all(layer.outputs[0] is not None and layer.outputs[0].name != "qr" for r in found for layer in r.layers)
