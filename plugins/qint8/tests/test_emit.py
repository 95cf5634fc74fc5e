"""Kernels of integers: every ISA class compiles, the narrower ones run here, and inner loops never touch the stack."""

from __future__ import annotations

import re
from typing import Any

import pytest
from narrower_cpus import FORCED, played
from softneuro_cpu_numba.emit.compile import assembly, object_code
from softneuro_cpu_numba.emit.isa import DOTS, TABLE, isa_of
from softneuro_cpu_numba.native import emitted_text
from softneuro_cpu_numba.rows import NARROW_ROWS
from softneuro_qint8.cases import cases
from softneuro_qint8.rows import TILES

from softneuro_core.catalog import load_plugins
from softneuro_core.rig import Rig
from softneuro_core.testing.case import Case
from softneuro_core.testing.measure import compare, expected
from softneuro_core.testing.routines import regions_of

CATALOG = load_plugins()
DEVICE = CATALOG.devices["cpu"]
ROUTINES = [r for r in CATALOG.routines.values() if type(r).__module__.startswith("softneuro_qint8.")]
DOT = {"avx512": "vpmaddwd", "avx2": "vpmaddwd", "sse": "pmaddwd", "neon": "smlal"}
QUADS = {f"{isa}+dot": "vpdpbusd" for isa in DOTS}
CHOICES = [(isa, tile, dot) for isa, dot in (DOT | QUADS).items() for tile in TILES[isa.removesuffix("+dot")]]
COLUMNS = (14, 14, 3, 1, 1, 1)


def rows_text(isa: str, tile: tuple[int, int], **params: Any) -> str:
    shared = {"pieces": tuple(range(tile[0], 0, -1)), "vectors": tile[1], "narrow_pieces": NARROW_ROWS}
    rest = {"source": "runs", "signed": True, "result": "rounded", "masked": False}
    return emitted_text("softneuro_qint8.emit.rows", "rows", isa, **shared, **(rest | params))


def products_text(isa: str, down: bool) -> str:
    pieces, vectors = (4, 3, 2, 1), 2
    params = {"signed": (False, True), "down": down, "masked": False, "quads": False, "rounding": (True, False)}
    shared = {"pieces": pieces, "vectors": vectors, "narrow_pieces": NARROW_ROWS}
    return emitted_text("softneuro_qint8.emit.products", "products", isa, **shared, **params)


def windows_text(isa: str, name: str, **params: Any) -> str:
    shared = {
        "channels": 40,
        "columns": COLUMNS,
        "most": 7,
        "unrolled": True,
        "signed": True,
        "shifted": True,
        "finish": (True, True),
    }
    return emitted_text("softneuro_qint8.emit.windows", name, isa, **shared, **params)


@pytest.mark.parametrize("isa", list(TABLE))
def test_every_class_compiles(isa: str) -> None:
    mine = isa + "!"
    pool = {"right": 1, "count_pads": True}
    texts = [
        rows_text(mine, TILES[isa][0]),
        rows_text(mine, TILES[isa][0], source="pixels", signed=False, result="sums", masked=True),
        rows_text(mine, TILES[isa][0], stored="int8", few=(3, 4)),
        windows_text(mine, "depthwise"),
        *(windows_text(mine, "pool", kind=kind, **pool) for kind in ("max", "average")),
        *(products_text(mine, down) for down in (True, False)),
        emitted_text("softneuro_qint8.emit.lookup", "lookup", mine, permutes=False),
        emitted_text("softneuro_qint8.emit.dynamic", "quantise", mine),
    ]
    assert all(len(object_code(text, mine)) > 300 for text in texts)


@pytest.mark.parametrize("isa, tile, dot", CHOICES)
def test_tiles_stay_in_registers(isa: str, tile: tuple[int, int], dot: str) -> None:
    """The busiest loop multiplies words, and holds no access to the stack: neither sums nor pointers are spilled."""
    text = assembly(rows_text(isa + "!", tile, stored="quads" if isa in QUADS else "int16"), isa + "!")
    loop = max(_loops(text), key=lambda lines: sum(dot in line for line in lines))
    assert sum(dot in line for line in loop) >= tile[0] * tile[1]
    stack = [line for line in loop if re.search(r"\(%rsp|\[sp\b", line)]
    assert not stack, stack


def _loops(text: str) -> list[list[str]]:
    """Basic blocks that jump to their own label, up to that jump."""
    blocks: dict[str, list[str]] = {}
    label = ""
    for line in text.splitlines():
        if match := re.match(r"(\.?[A-Za-z_][\w.$]*):", line):
            label = match[1]
            blocks[label] = []
        elif label:
            blocks[label].append(line.strip())
    back = {name: [i for i, line in enumerate(lines) if line.endswith(name)] for name, lines in blocks.items()}
    return [lines[: back[name][-1] + 1] for name, lines in blocks.items() if back[name]]


@pytest.mark.parametrize("features", list(FORCED))
@pytest.mark.parametrize("case", list(cases()), ids=lambda c: c.name)
def test_narrower_classes_compute_the_same(features: str, case: Case) -> None:
    target = played(DEVICE, features, threads=2)
    assert isa_of(target) == features.removesuffix(" with dots") + "!"
    wanted, found = expected(case).arrays, 0
    for routine in ROUTINES:
        for region in regions_of(routine, case.graph()):
            for offer in routine.offers(region, target):
                found += 1
                kernel = routine.prepare(region, offer, target)
                ends = zip(region.inputs, offer.inputs, strict=True), zip(region.outputs, offer.outputs, strict=True)
                rig = Rig(kernel, *map(list, ends), {"cpu": DEVICE}, routine_device="cpu")
                rig.load(case.arrays(region))
                rig.run()
                for made, goal, value, spec in zip(rig.outputs(), wanted, region.outputs, offer.outputs, strict=True):
                    error = compare(made, goal, value, spec, offer.accuracy)
                    assert error.problem is None, f"{routine.name}: {error.problem}"
                assert rig.zones_intact() is None
    assert found
