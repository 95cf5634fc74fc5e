"""``softneuro view``."""

from __future__ import annotations

from typing import Any

import click

from softneuro_core.catalog import load_plugins
from softneuro_core.cli import output
from softneuro_core.cli.models import complete
from softneuro_core.cli.options import json_option, model_argument, parse_shapes, plan_option, shape_option
from softneuro_core.estimate import layer_flops
from softneuro_core.graph import Graph, Layer
from softneuro_core.importer import load, specialise
from softneuro_core.plan import KernelStep, Plan
from softneuro_core.report.table import Table
from softneuro_core.report.units import show_bytes, show_count, show_shape, show_us


@click.command("view")
@model_argument
@plan_option
@shape_option
@click.option("--raw", is_flag=True, help="As the file has it: nothing folded or fused.")
@json_option
def command(model: str, plan_path: str | None, shapes: tuple[str, ...], raw: bool, as_json: bool) -> None:
    """Layers of a model with their results, parameters and work; with --plan, what runs them."""
    catalog, plan = load_plugins(), Plan.load(plan_path) if plan_path else None
    graph = load(model, catalog=catalog, passes=not raw)
    given = {**(plan.shapes if plan else {}), **parse_shapes(shapes, [v.name for v in graph.inputs])}
    if given:
        graph = specialise(graph, complete(graph, given), catalog=catalog, passes=not raw)
    found = describe(graph, plan)
    if as_json:
        output.show_json(found)
        return
    _show(found, plan is not None)
    if graph.free_dims:
        output.note("some dimensions are free: --shape fixes them, and shows the work of every layer")


def describe(graph: Graph, plan: Plan | None = None) -> dict[str, Any]:
    """Inputs, outputs, layers and sums of a graph; ``flops`` are 0 where shapes are free."""
    steps = {name: step for step in (plan.kernel_steps if plan else ()) for name in step.layers}
    layers = [_layer(i, layer, steps.get(layer.name)) for i, layer in enumerate(graph.layers)]
    constants = graph.constants
    return {
        "model": graph.name,
        "opsets": {domain or "onnx": version for domain, version in graph.opsets.items()},
        "inputs": [{"name": v.name, "dtype": str(v.dtype), "shape": v.shape} for v in graph.inputs],
        "outputs": [{"name": v.name, "dtype": str(v.dtype), "shape": v.shape} for v in graph.outputs],
        "layers": layers,
        "parameters": sum(v.size for v in constants if v.dtype.is_float or v.dtype.itemsize == 1),
        "constant_bytes": sum(v.data.nbytes for v in constants if v.data is not None),
        "flops": sum(row["flops"] for row in layers),
    }


def _layer(index: int, layer: Layer, step: KernelStep | None) -> dict[str, Any]:
    constants = [v for v in dict.fromkeys(layer.operands) if v.is_constant]
    row: dict[str, Any] = {
        "index": index,
        "name": layer.name,
        "op": layer.op,
        "inputs": [v.name for v in layer.operands if not v.is_constant],
        "results": [{"name": v.name, "dtype": str(v.dtype), "shape": v.shape} for v in layer.results],
        "parameters": sum(v.size for v in constants),
        "flops": layer_flops(layer),
    }
    if step is not None:
        row |= {"routine": step.routine, "with": list(step.layers), "params": dict(step.params), "us": step.us}
        row |= {"reads": list(step.inputs), "makes": list(step.outputs)}
    return row


def _show(found: dict[str, Any], planned: bool) -> None:
    output.say(f"{found['model']}  opset {', '.join(f'{d} {v}' for d, v in found['opsets'].items())}")
    for kind in ("inputs", "outputs"):
        for value in found[kind]:
            output.say(f"  {kind[:-1]} {value['name']}: {value['dtype']} {show_shape(value['shape'])}")
    columns = (
        ">#",
        "layer",
        "op",
        "makes",
        ">parameters",
        ">flops",
        *(("routine", "stored as", ">time") if planned else ()),
    )
    rows = [_cells(row, planned) for row in found["layers"]]
    output.show(Table.of(columns, rows))
    size = show_bytes(found["constant_bytes"])
    output.say(
        f"{len(rows)} layers, {show_count(found['parameters'])} parameters ({size} of constants), "
        f"{show_count(found['flops'])} floating-point operations"
    )


def _cells(row: dict[str, Any], planned: bool) -> tuple[object, ...]:
    made = ", ".join(f"{r['dtype']} {show_shape(r['shape'])}" for r in row["results"])
    count = show_count(row["parameters"]) if row["parameters"] else ""
    cells = (row["index"], row["name"], row["op"], made, count, show_count(row["flops"]) if row["flops"] else "")
    if not planned:
        return cells
    is_exit = row.get("with", [""])[-1] == row["name"]
    if not is_exit:
        return (*cells, f"(with {row['with'][-1]})" if "with" in row else "(not in the plan)", "", "")
    return (*cells, row["routine"], " ".join(row["makes"]), show_us(row["us"]))
