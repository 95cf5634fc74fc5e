"""``softneuro routines``."""

from __future__ import annotations

import click

from softneuro_core.candidates import Candidates, Request, enumerate_candidates
from softneuro_core.catalog import Catalog, load_plugins
from softneuro_core.cli import output
from softneuro_core.cli.layers import operators
from softneuro_core.cli.models import load_static
from softneuro_core.cli.options import json_option, shape_option, split_names, threads_option
from softneuro_core.device import usable_cores
from softneuro_core.errors import InputError
from softneuro_core.report.explanation import REFERENCE
from softneuro_core.report.table import Table


@click.command("routines")
@click.argument("layer_op", metavar="[LAYER_OP]", required=False)
@click.option("--model", metavar="MODEL", help="Show what is offered for each layer of this model, by spec.")
@click.option("--allow", metavar="DTYPES", help="With --model: element types besides the model's own.")
@shape_option
@threads_option
@json_option
def command(
    layer_op: str | None,
    model: str | None,
    allow: str | None,
    shapes: tuple[str, ...],
    threads: int | None,
    as_json: bool,
) -> None:
    """Routines by operator and device; with --model a matrix of its layers by spec.

    LAYER_OP restricts it to one operator type (Conv) or, with --model, one layer.
    """
    catalog = load_plugins()
    if model is None:
        _show_catalog(catalog, layer_op, as_json)
        return
    graph = load_static(model, catalog, shapes)
    request = Request(allow=split_names(allow), accuracy=1.0)
    found = enumerate_candidates(graph, catalog, threads or usable_cores(), request)
    _show_matrix(found, layer_op, as_json)
    for name, reason in found.problems.items():
        output.note(f"{name} is left out: {reason}")


def _show_catalog(catalog: Catalog, op: str | None, as_json: bool) -> None:
    by_operator = operators(catalog)
    ends = {name: [o for o, names in by_operator.items() if name in names] for name in catalog.routines}
    rows = [
        {
            "routine": r.name,
            "operators": [" + ".join(r.pattern)] if r.pattern else ends[r.name] or ["any"],
            "device": r.device,
            "plugin": catalog.owners[r.name].name,
            "version": catalog.owners[r.name].version,
        }
        for r in catalog.routines.values()
        if op is None or op in r.pattern or op in ends[r.name] or r.name == REFERENCE
    ]
    if op is not None and all(row["routine"] == REFERENCE for row in rows):
        output.note(f"no routine but the reference is for {op!r}")
    if as_json:
        output.show_json(rows)
        return
    cells = [
        (output.shorten(r["operators"], 3), r["routine"], r["device"], f"{r['plugin']} {r['version']}".strip())
        for r in rows
    ]
    output.show(Table.of(("operators", "routine", "device", "plugin"), sorted(cells)))


def _show_matrix(found: Candidates, wanted: str | None, as_json: bool) -> None:
    matrix = spec_matrix(found, wanted)
    if not matrix:
        raise InputError(f"no layer or operator is called {wanted!r}", remedy="softneuro view MODEL lists the layers")
    if as_json:
        output.show_json(matrix)
        return
    specs = sorted({spec for row in matrix.values() for spec in row["specs"]})
    rows = [
        (name, row["op"], *(" ".join(_short(n) for n in row["specs"].get(spec, ())) or "-" for spec in specs))
        for name, row in matrix.items()
    ]
    output.show(Table.of(("layer", "op", *specs), rows))


def spec_matrix(found: Candidates, wanted: str | None = None) -> dict[str, dict]:
    """Per layer its operator and, by the spec of the first result, the routines that make it there."""
    matrix: dict[str, dict] = {}
    for layer in found.graph.layers:
        if wanted is not None and wanted not in (layer.name, layer.op):
            continue
        specs: dict[str, list[str]] = {}
        for candidate in found.by_exit.get(layer, ()):
            spec = str(candidate.offer.outputs[0]) if candidate.offer.outputs else "none"
            names = specs.setdefault(spec, [])
            if candidate.routine.name not in names:
                names.append(candidate.routine.name)
        matrix[layer.name] = {"op": layer.op, "specs": specs}
    return matrix


def _short(routine: str) -> str:
    return routine.partition("/")[2]
