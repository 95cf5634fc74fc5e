"""The emitter: every ISA class it knows compiles, the narrower ones run here, and inner loops never touch the stack."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from harness import DEVICE, ROUTINES, graph_of, node, random
from softneuro_cpu_numba.emit.compile import assembly, object_code
from softneuro_cpu_numba.emit.isa import TABLE, isa_of
from softneuro_cpu_numba.native import emitted_text
from softneuro_cpu_numba.rows import MOST_ROWS_ASKING, NARROW_ROWS, TILES
from softneuro_cpu_numba.strassen import MOST_ROWS

from softneuro_core.builtin.reference import RegionEvaluator
from softneuro_core.device import Target
from softneuro_core.graph import Region
from softneuro_core.rig import Rig


@dataclass(frozen=True)
class Kernel:
    family: str
    name: str
    params: Mapping[str, Any]
    narrow: bool = True

    def text(self, isa: str, tile: tuple[int, int]) -> str:
        pieces = tuple(range(tile[0], 0, -1))
        shared = {"pieces": pieces, "vectors": tile[1]} | ({"narrow_pieces": NARROW_ROWS} if self.narrow else {})
        return emitted_text(self.family, self.name, isa, **shared, **self.params)


ROWS = {"act": "relu", "residual": True, "few": 0}
PLANES = Kernel("planes", "pointwise", {"act": "relu", "residual": True})
KERNELS = [
    PLANES,
    Kernel("conv", "rows", {"source": "pointwise", **ROWS}),
    Kernel("conv", "rows", {"source": "pointwise", **ROWS, "ask_ahead": True}),
    Kernel("conv", "rows", {"source": "pointwise", **ROWS, "lines": 2}),
    Kernel("conv", "rows", {"source": "pointwise", **ROWS, "stored": "int16"}),
    Kernel("conv", "rows", {"source": "runs", **ROWS, "lines": 1}),
    Kernel("strassen", "strassen", {"act": "relu", "residual": True}, narrow=False),
    Kernel("conv", "rows", {"source": "runs", **ROWS}),
    Kernel("conv", "rows", {"source": "planar", **ROWS, "few": 3}),
    Kernel("conv", "rows", {"source": "planes", "planes": 3, **ROWS}),
    *(
        Kernel("winograd", "winograd", {"down": down, "along": along, "act": act, "residual": residual, "pool": pool})
        for down, along, act, residual, pool in (
            ((2, 3, 1), (2, 3, 1), "gelu", False, 1),
            ((4, 3, 1), (4, 3, 1), "swish", True, 1),
            ((6, 3, 1), (6, 3, 1), "relu", False, 2),
            ((4, 3, 2), (2, 5, 1), "none", False, 1),
        )
    ),
]
FMA = {"avx512": "vfmadd", "avx2": "vfmadd", "sse": "mulps", "neon": "fmla"}
CHOICES = [(isa, tile) for isa, tiles in TILES.items() for tile in tiles]


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: f"{k.name}-{k.params.get('source', k.params.get('down'))}")
@pytest.mark.parametrize("isa", list(TABLE))
def test_every_class_compiles(kernel: Kernel, isa: str) -> None:
    code = object_code(kernel.text(isa + "!", TILES[isa][0]), isa + "!")
    assert len(code) > 1000


@pytest.mark.parametrize("kernel", KERNELS[:6], ids=lambda k: "-".join([k.name, *sorted(k.params.keys() - ROWS)]))
@pytest.mark.parametrize("isa, tile", CHOICES)
def test_tiles_stay_in_registers(kernel: Kernel, isa: str, tile: tuple[int, int]) -> None:
    """The busiest loop of the product holds no access to the stack: neither sums nor pointers are spilled."""
    if kernel.family == "strassen":
        tile = (min(tile[0], MOST_ROWS), tile[1])
    if "lines" in kernel.params:
        tile = (min(tile[0], MOST_ROWS_ASKING), tile[1])
    text = assembly(kernel.text(isa + "!", tile), isa + "!")
    loop = max(_loops(text), key=lambda lines: sum(FMA[isa] in line for line in lines))
    assert sum(FMA[isa] in line for line in loop) >= tile[0] * tile[1]
    stack = [line for line in loop if re.search(r"\(%rsp|\[sp\b", line)]
    assert not stack, stack


def _loops(text: str) -> list[list[str]]:
    """Basic blocks that jump to their own label."""
    blocks: dict[str, list[str]] = {"": []}
    label = ""
    for line in text.splitlines():
        if match := re.match(r"(\.?[A-Za-z_][\w.$]*):", line):
            label = match[1]
            blocks[label] = []
        else:
            blocks[label].append(line.strip())
    return [
        lines
        for name, lines in blocks.items()
        if name and any(re.search(rf"\b{re.escape(name)}\b|{re.escape(name)}$", x) for x in lines)
    ]


FORCED = {"avx2": "AVX2,FMA3", "sse": "SSE2"}
CASES = [
    ("cpu/conv_direct", (1, 3, 9, 11), (17, 3, 3, 3), {"pads": [1, 1, 1, 1], "strides": [2, 2]}),
    ("cpu/conv_direct", (2, 12, 7, 5), (4, 6, 1, 3), {"pads": [0, 1, 0, 1], "group": 2}),
    ("cpu/conv_direct", (1, 20, 6, 6), (40, 20, 1, 1), {}),
    ("cpu/strassen", (1, 128, 7, 5), (96, 128, 1, 1), {}),
    ("cpu/strassen", (1, 134, 7, 5), (160, 134, 1, 1), {}),
    ("cpu/winograd", (1, 16, 9, 7), (32, 16, 3, 3), {"pads": [1, 1, 1, 1]}),
    ("cpu/winograd", (1, 21, 9, 7), (29, 21, 3, 3), {"pads": [1, 1, 1, 1]}),
    ("cpu/winograd", (1, 16, 19, 8), (32, 16, 3, 3), {"pads": [1, 1, 1, 1], "strides": [2, 2]}),
]


@pytest.mark.parametrize("features", list(FORCED))
@pytest.mark.parametrize("name, shape, weights, attrs", CASES)
def test_narrower_classes_compute_the_same(
    features: str, name: str, shape: tuple[int, ...], weights: tuple[int, ...], attrs: Mapping[str, Any]
) -> None:
    target = Target(DEVICE, 1, FORCED[features])
    if not set(FORCED[features].split(",")) <= set(DEVICE.isa.split(",")):
        pytest.skip(f"this CPU has no {features}")
    assert isa_of(target) == features + "!"
    x, w = random(*shape), random(*weights)
    graph = graph_of([node("Conv", "xw", "y", **attrs), node("Relu", "y", "z")], {"x": x}, {"w": w})
    region = Region(graph, graph.layers)
    wanted = RegionEvaluator(region)([x])[0]
    offers = list(ROUTINES[name].offers(region, target))
    assert offers
    for offer in offers:
        kernel = ROUTINES[name].prepare(region, offer, target)
        operands = [
            list(zip(values, specs, strict=True))
            for values, specs in ((region.inputs, offer.inputs), (region.outputs, offer.outputs))
        ]
        rig = Rig(kernel, *operands, {"cpu": DEVICE}, routine_device="cpu")
        rig.load([x])
        rig.run()
        assert rig.zones_intact() is None
        error = np.abs(rig.outputs()[0] - wanted).max() / np.abs(wanted).max()
        assert error <= offer.accuracy
