"""A block of a transformer, calibrated: it runs in integers from end to end, and is as exact as its grids."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import softneuro_core as sn
from softneuro_core.accuracy.metrics import noise_of
from softneuro_core.accuracy.trial import outputs_of
from softneuro_core.calibration.apply import lay_grids
from softneuro_core.calibration.collect import calibrate
from softneuro_core.catalog import load_plugins
from softneuro_core.graph import Graph

CATALOG = load_plugins()
TOKENS, WIDTH, HEADS = 13, 48, 3
INTEGERS = ("cpu/qgemm", "cpu/qmatmul", "cpu/qsoftmax", "cpu/qlayernorm", "cpu/qfunction", "cpu/qmove")
SAMPLES = [{"x": np.random.default_rng(n).standard_normal((1, TOKENS, WIDTH)).astype("f4")} for n in range(6)]


class Block:
    """x + attention(norm(x)), then x + mlp(norm(x)), as exporters write it."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(2)
        self.nodes, self.stored = [], []
        x = self.layer("Add", "x", self.attention(self.norm("x")))
        hidden = self.layer("Gelu", self.linear(self.norm(x), 2 * WIDTH))
        self.layer("Add", x, self.linear(hidden, WIDTH, 2 * WIDTH), result="y")

    def constant(self, array: np.ndarray) -> str:
        self.stored.append(numpy_helper.from_array(array, f"c{len(self.stored)}"))
        return self.stored[-1].name

    def layer(self, op: str, *operands: str, result: str = "", **attrs: object) -> str:
        name = result or f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, operands, [name], f"{op}{len(self.nodes)}", **attrs))
        return name

    def norm(self, x: str) -> str:
        return self.layer("LayerNormalization", x, *[self.constant(np.full(WIDTH, v, "f4")) for v in (1.1, 0.1)])

    def linear(self, x: str, out: int, depth: int = WIDTH) -> str:
        weights = self.constant((self.rng.standard_normal((depth, out)) / depth**0.5).astype("f4"))
        bias = self.constant(self.rng.standard_normal(out).astype("f4") / 4)
        return self.layer("Add", self.layer("MatMul", x, weights), bias)

    def heads(self, x: str, order: list[int]) -> str:
        shape = self.constant(np.array([1, TOKENS, HEADS, WIDTH // HEADS]))
        return self.layer("Transpose", self.layer("Reshape", x, shape), perm=order)

    def attention(self, x: str) -> str:
        q, k, v = (self.heads(self.linear(x, WIDTH), [0, 2, last, 4 - last]) for last in (1, 3, 1))
        scores = self.layer("Mul", self.layer("MatMul", q, k), self.constant(np.float32((WIDTH // HEADS) ** -0.5)))
        mixed = self.layer("MatMul", self.layer("Softmax", scores, axis=-1), v)
        joined = self.layer("Transpose", mixed, perm=[0, 2, 1, 3])
        return self.linear(self.layer("Reshape", joined, self.constant(np.array([1, TOKENS, WIDTH]))), WIDTH)

    def graph(self) -> Graph:
        ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, TOKENS, WIDTH]) for n in "xy"]
        made = helper.make_graph(self.nodes, "block", ends[:1], ends[1:], self.stored)
        opsets = [helper.make_opsetid("", 20)]
        return sn.load(helper.make_model(made, opset_imports=opsets, ir_version=9), catalog=CATALOG)


@pytest.fixture(scope="module")
def graph() -> Graph:
    made = Block().graph()
    return lay_grids(made, calibrate(Block().graph(), SAMPLES, "minmax", threads=1, catalog=CATALOG))


def test_a_block_runs_in_integers_without_conversions_between(graph: Graph) -> None:
    others = tuple(n for n in CATALOG.routines if n not in INTEGERS)
    plan = sn.tune(graph, threads=1, allow=("int8", "uint8"), budget_s=0, forbid=others, catalog=CATALOG)
    used = [step.routine for step in plan.kernel_steps]
    assert used.count("cpu/qmatmul") == 2 and used.count("cpu/qgemm") == 6
    assert used.count("cpu/qlayernorm") == 2 and used.count("cpu/qsoftmax") == 1 and used.count("cpu/qfunction") == 1
    assert len(used) == 12, "heads, scales and residuals are no steps of their own"
    floats = sn.tune(graph, threads=1, budget_s=0, catalog=CATALOG)
    truth, made = (outputs_of(graph, p, SAMPLES, CATALOG) for p in (floats, plan))
    assert 0 < noise_of(made, truth) < 1e-3
