"""``softneuro layers``."""

from __future__ import annotations

import click
import onnx

from softneuro_core.catalog import Catalog, load_plugins
from softneuro_core.cli import output
from softneuro_core.cli.options import json_option
from softneuro_core.report.table import Table


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
    """Routine names by operator (as the exit of their pattern), the reference left out."""
    found: dict[str, list[str]] = {op: [] for op in (*_onnx_operators(), *catalog.operators)}
    for routine in catalog.routines.values():
        if routine.pattern:
            found.setdefault(routine.pattern[-1], []).append(routine.name)
    return found


def _onnx_operators() -> list[str]:
    names = {(s.domain, s.name) for s in onnx.defs.get_all_schemas() if not s.deprecated}
    return sorted(
        f"{domain}::{name}" if domain else name for domain, name in names if not domain.startswith("ai.onnx.p")
    )
