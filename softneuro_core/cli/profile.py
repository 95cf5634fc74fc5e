"""``softneuro profile``."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import click

from softneuro_core.candidates import Candidates, Request, enumerate_candidates
from softneuro_core.catalog import Catalog, load_plugins
from softneuro_core.cli import feeds, options, output
from softneuro_core.cli.models import fixed
from softneuro_core.cli.progress import make_progress
from softneuro_core.costs import CostDatabase
from softneuro_core.device import usable_cores
from softneuro_core.graph import Graph
from softneuro_core.importer import load
from softneuro_core.pricing import Pricing
from softneuro_core.profiling.keys import cost_key
from softneuro_core.progress import Progress
from softneuro_core.report.table import Table
from softneuro_core.report.units import show_us


@click.command("profile")
@options.model_argument
@options.threads_option
@options.request_options
@click.option("--budget", "budget_s", type=click.FloatRange(0), metavar="S", help="Seconds to measure at most.")
@options.shape_option
@options.input_option
@options.image_option
@options.json_option
def command(
    model: str,
    threads: int | None,
    allow: str | None,
    accuracy: str | None,
    force: tuple[str, ...],
    forbid: tuple[str, ...],
    limits: tuple[str, ...],
    clocks: tuple[str, ...],
    budget_s: float | None,
    shapes: tuple[str, ...],
    inputs: tuple[str, ...],
    image: str | None,
    as_json: bool,
) -> None:
    """Measure every routine for every layer without choosing; what is known already is only shown."""
    request = Request(
        options.split_names(allow),
        options.parse_accuracy(accuracy) or "default",
        force,
        forbid,
        options.parse_limits(limits),
        options.parse_clocks(clocks),
    )
    catalog = load_plugins()
    graph = load(model, catalog=catalog)
    given = feeds.read_inputs(graph, inputs, image)
    graph = fixed(graph, catalog, shapes, feeds.shapes_of_arrays(given))
    deadline = None if budget_s is None else time.monotonic() + budget_s
    with make_progress() as progress, CostDatabase(on_note=progress.note) as database:
        rows = measure(graph, catalog, threads or usable_cores(), request, database, progress, given or None, deadline)
    if as_json:
        output.show_json(rows)
    else:
        output.show(cost_table(rows))


def measure(
    graph: Graph,
    catalog: Catalog,
    threads: int,
    request: Request,
    database: CostDatabase,
    progress: Progress,
    sample: Mapping[str, Any] | None,
    deadline: float | None,
) -> list[dict[str, Any]]:
    """Measures what the database lacks; returns one row per candidate, those of control-flow bodies included."""
    found = enumerate_candidates(graph, catalog, threads, request)
    with Pricing(found, catalog, threads, database, progress, sample, request.clocks) as pricing:
        pricing.measure(deadline)
    rows = _rows(found, catalog, threads, database)
    for layer in graph.layers:
        for body in layer.bodies.values():
            rows += measure(body, catalog, threads, request, database, progress, None, deadline)
    return rows


def _rows(found: Candidates, catalog: Catalog, threads: int, database: CostDatabase) -> list[dict[str, Any]]:
    keys = {c: cost_key(c.region, c.routine.name, c.offer, catalog, threads) for c in found}
    known = database.get_many(keys.values())
    rows = []
    for candidate, key in keys.items():
        cost = known.get(key)
        rows.append(
            {
                "layers": candidate.region.name,
                "routine": candidate.name,
                "makes": [str(s) for s in candidate.offer.outputs],
                "status": "not measured" if cost is None else cost.status,
                "us": cost.time_ns / 1000 if cost and cost.ok else None,
                "spread_us": cost.spread_ns / 1000 if cost and cost.ok else None,
                "samples": cost.samples if cost else 0,
                "error": cost.error if cost else None,
                "reason": cost.reason if cost else "",
            }
        )
    return rows


def cost_table(rows: list[dict[str, Any]]) -> Table:
    """Every candidate with its time and spread, or why it has none."""
    cells = [
        (
            r["layers"],
            r["routine"],
            " ".join(r["makes"]),
            "" if r["us"] is None else show_us(r["us"]),
            "" if r["us"] is None else f"+-{show_us(r['spread_us'])}",
            "" if r["error"] is None else f"{r['error']:.1e}",
            "" if r["status"] == "ok" else f"{r['status']} {r['reason']}".strip(),
        )
        for r in rows
    ]
    return Table.of(("layers", "routine", "makes", ">time", ">spread", ">error", ""), cells)
