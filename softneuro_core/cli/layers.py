"""``softneuro layers``."""

from __future__ import annotations

import click
import numpy as np
import onnx

from softneuro_core.catalog import Catalog, load_plugins
from softneuro_core.cli import output
from softneuro_core.cli.options import json_option
from softneuro_core.graph import Graph, Layer, Value
from softneuro_core.report.explanation import REFERENCE
from softneuro_core.report.table import Table
from softneuro_core.routine import Routine
from softneuro_core.spec import FLOAT32


@click.command("layers")
@click.option("--all", "show_all", is_flag=True, help="Also operators that only the reference computes.")
@json_option
def command(show_all: bool, as_json: bool) -> None:
    """Operators that can be run: ONNX's and those plugins add, and the routines for each."""
    found = operators(load_plugins())
    if as_json:
        output.show_json(found)
        return
    shown = {op: routines for op, routines in found.items() if routines or show_all or "::" in op}
    rows = [(op, len(names), output.shorten(names)) for op, names in sorted(shown.items())]
    output.show(Table.of(("operator", ">routines", "besides the reference"), rows))
    output.say(f"{len(found)} operators run; {len(found) - len(shown)} more through cpu/reference alone")


def operators(catalog: Catalog) -> dict[str, list[str]]:
    """Routine names by operator of the layer (or of the exit of the layers) they compute; the reference, which computes
    all, is left out."""
    names = sorted({*_onnx_operators(), *catalog.operators} | {p for r in catalog.routines.values() for p in r.pattern})
    others = [r for r in catalog.routines.values() if r.name != REFERENCE]
    return {op: [r.name for r in others if covers(r, op)] for op in names}


def covers(routine: Routine, op: str) -> bool:
    """Whether the routine names regions that end at a layer of this operator: asked with a layer that stands alone for
    those that have no pattern. What it then offers depends on shapes and attributes."""
    if routine.pattern:
        return op == routine.pattern[-1]
    domain, _, name = op.rpartition("::")
    x, y = (Value(n, FLOAT32, (1, 4, 8, 8)) for n in "xy")
    weights = Value("w", FLOAT32, (4, 4, 3, 3), np.zeros((4, 4, 3, 3), np.float32))
    layer = Layer("probe", name, (x, weights), (y,), {}, domain, 21)
    try:
        return any(routine.regions(Graph((layer,), (x,), (y,)), layer))
    except Exception:  # a stranger's code, asked something unusual
        return False


def _onnx_operators() -> list[str]:
    names = {(s.domain, s.name) for s in onnx.defs.get_all_schemas() if not s.deprecated}
    return sorted(
        f"{domain}::{name}" if domain else name for domain, name in names if not domain.startswith("ai.onnx.p")
    )
