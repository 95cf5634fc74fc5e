"""Which layers can stay in bfloat16 storage between dense products, and that none does unasked."""

from __future__ import annotations

from dataclasses import replace

import pytest
from harness import ROUTINES, graph_of, node, random, target
from softneuro_cpu_numba.storage import stores_bfloat

from softneuro_core.candidates import Request, enumerate_candidates
from softneuro_core.catalog import load_plugins
from softneuro_core.graph import Graph
from softneuro_core.spec import BFLOAT16


def _block() -> Graph:
    """Depthwise, squeeze-and-excite by factors given, pooling, a residual, a Concat, a wider image, one mean."""
    nodes = [
        node("Conv", ["x", "w"], ["c"], group=24, pads=[1, 1, 1, 1]),
        node("HardSwish", ["c"], ["a"]),
        node("Mul", ["a", "s"], ["m"]),
        node("MaxPool", ["m"], ["p"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        node("AveragePool", ["p"], ["v"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("Add", ["p", "v"], ["r"]),
        node("Concat", ["r", "p"], ["j"], axis=1),
        node("Resize", ["j", "", "scales"], ["z"], mode="nearest", coordinate_transformation_mode="asymmetric"),
        node("GlobalAveragePool", ["z"], ["y"]),
    ]
    inputs = {"x": random(1, 24, 14, 14), "s": random(1, 24, 1, 1)}
    scales = random(4) * 0 + [1, 1, 2, 2]
    return graph_of(nodes, inputs, {"w": random(24, 1, 3, 3), "scales": scales.astype("float32")})


@pytest.mark.skipif(not stores_bfloat(target()), reason="bfloat16 storage is offered with AVX512-BF16 only")
def test_layers_around_products_stay_in_bfloat16() -> None:
    graph, builtin = _block(), load_plugins(only=())
    catalog = replace(builtin, routines={**builtin.routines, **ROUTINES})
    for allow in (frozenset[str](), frozenset({"bfloat16"})):
        found = enumerate_candidates(graph, catalog, 1, Request(allow=allow))
        assert not found.problems
        for layer in graph.layers:
            narrow = [
                c for c in found.by_exit[layer] if len(c.region.layers) == 1 and c.offer.inputs[0].dtype is BFLOAT16
            ]
            assert bool(narrow) == bool(allow), layer.op
