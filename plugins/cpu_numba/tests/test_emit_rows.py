"""Attention, products of computed factors, softmax and normalisation under every ISA class: all compile, the narrower
ones that run here compute the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from harness import DEVICE, ROUTINES, graph_of, node, random
from softneuro_cpu_numba.emit.compile import object_code
from softneuro_cpu_numba.emit.isa import TABLE, isa_of
from softneuro_cpu_numba.native import emitted_text
from softneuro_cpu_numba.rows import NARROW_ROWS, TILES
from test_attention import Case, exported

from softneuro_core.builtin.reference import RegionEvaluator
from softneuro_core.device import Target
from softneuro_core.graph import Region
from softneuro_core.rig import Rig

DYNAMIC = {"act": "gelu", "bias": True, "residual": True, "masked": True}
KERNELS = [
    ("attention", "attention", {"k_across": False, "v_across": True, "mask": True, "masked": True}),
    ("attention", "attention", {"k_across": True, "v_across": False, "mask": False, "masked": False}),
    ("matmul", "dynamic", {"across": True, **DYNAMIC}),
    ("matmul", "dynamic", {"across": False, **DYNAMIC}),
    ("norm", "softmax", {}),
    ("norm", "normalise", {"per_row": True, "added": False}),
    ("norm", "normalise", {"per_row": False, "added": True}),
]


@pytest.mark.parametrize("family, name, params", KERNELS)
@pytest.mark.parametrize("isa", list(TABLE))
def test_every_class_compiles(isa: str, family: str, name: str, params: Mapping[str, Any]) -> None:
    rows, vectors = TILES[isa][0]
    tile = {"pieces": tuple(range(rows, 0, -1)), "vectors": vectors, "narrow_pieces": NARROW_ROWS}
    text = emitted_text(family, name, isa + "!", **({} if family == "norm" else tile), **params)
    assert len(object_code(text, isa + "!")) > 1000


def _sum_norm() -> Case:
    nodes = [node("Add", "xr", "t"), node("LayerNormalization", "tsb", "y")]
    return nodes, {"x": random(5, 21), "r": random(5, 21, seed=1)}, {"s": random(21), "b": random(21, seed=2)}


CASES: list[tuple[str, Case]] = [
    ("cpu/attention", exported(2, 7, 13, 2, 9, (2, 1, 7, 13))),
    ("cpu/gemm", ([node("MatMul", "ab", "y")], {"a": random(2, 9, 7), "b": random(2, 7, 21)}, {})),
    ("cpu/gemm", ([node("MatMul", "ab", "y")], {"a": random(9, 7), "b": random(7, 3)}, {})),
    ("cpu/gemm", ([node("MatMul", "ab", "y")], {"a": random(1, 300)}, {"b": random(300, 251)})),
    ("cpu/softmax", ([node("Softmax", "x", "y")], {"x": random(7, 13)}, {})),
    ("cpu/layernormalization", _sum_norm()),
]


@pytest.mark.parametrize("features", ["AVX2,FMA3", "SSE2"])
@pytest.mark.parametrize("name, case", CASES)
def test_narrower_classes_compute_the_same(features: str, name: str, case: Case) -> None:
    target = Target(DEVICE, 1, features)
    if not set(features.split(",")) <= set(DEVICE.isa.split(",")):
        pytest.skip(f"this CPU has no {features}")
    assert isa_of(target).endswith("!")
    nodes, inputs, constants = case
    graph = graph_of(nodes, inputs, constants)
    region = Region(graph, graph.layers)
    arrays = [inputs[v.name] for v in region.inputs]
    wanted = RegionEvaluator(region)(arrays)[0]
    offers = list(ROUTINES[name].offers(region, target))
    assert offers
    for offer in offers:
        kernel = ROUTINES[name].prepare(region, offer, target)
        operands = [
            list(zip(values, specs, strict=True))
            for values, specs in ((region.inputs, offer.inputs), (region.outputs, offer.outputs))
        ]
        rig = Rig(kernel, *operands, {"cpu": DEVICE}, routine_device="cpu")
        rig.load(arrays)
        rig.run()
        assert rig.zones_intact() is None
        assert np.abs(rig.outputs()[0] - wanted).max() <= offer.accuracy * np.abs(wanted).max()
