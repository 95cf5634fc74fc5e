"""``softneuro explain``."""

from __future__ import annotations

import click

from softneuro_core.candidates import Request
from softneuro_core.catalog import load_plugins
from softneuro_core.cli import options, output
from softneuro_core.cli.models import fixed
from softneuro_core.grids import restore_grids
from softneuro_core.importer import load
from softneuro_core.passes.changed import changed
from softneuro_core.plan import Plan
from softneuro_core.replay import check_plan, check_same_model
from softneuro_core.report import explain
from softneuro_core.tuning import tune_fully


@click.command("explain")
@options.model_argument
@click.argument("layer", required=False)
@options.plan_option
@options.shape_option
@options.threads_option
@click.option("--all", "show_all", is_flag=True, help="Every alternative, not only the six best.")
@click.option("--html", "html_path", metavar="OUT.html", help="Write the whole explanation as a page.")
@options.json_option
def command(
    model: str,
    layer: str | None,
    plan_path: str | None,
    shapes: tuple[str, ...],
    threads: int | None,
    show_all: bool,
    html_path: str | None,
    as_json: bool,
) -> None:
    """Why each layer runs as it does: every alternative with the whole plan's cost if it were forced.

    LAYER is a layer's name, an operator, or the number of a step. Nothing is measured: costs are what is known here,
    and estimates (marked) elsewhere.
    """
    plan = Plan.load(plan_path) if plan_path else None
    catalog = load_plugins()
    graph = fixed(load(model, catalog=catalog), catalog, shapes, plan.shapes if plan else {})
    if plan is not None:
        check_same_model(graph, plan)
        graph = changed(graph, plan.changes.of_any_plan)  # as it was tuned
        for note in check_plan(graph, plan, catalog):
            output.note(note)
        if plan.bound is not None:  # what it keeps in float is explained, too
            restore_grids(graph, plan.bound.grids_left)
    request = Request.from_json(plan.request) if plan else Request()
    tuned = tune_fully(graph, request, threads or (plan.threads if plan else None), budget_s=0, catalog=catalog)
    found = explain(tuned, plan)
    if html_path:
        from softneuro_core.report.html import write_report

        write_report(html_path, tuned, catalog, plan)
    if as_json:
        output.show_json(
            found.to_json() if layer is None else [r for r in found.to_json()["rows"] if _is_wanted(r, layer)]
        )
        return
    output.say(found.text(layer, 0 if show_all else 6))
    if html_path:
        output.say(f"written: {html_path}")


def _is_wanted(row: dict, layer: str) -> bool:
    return layer in (*row["layers"], *row["ops"], str(row["index"]), "+".join(row["layers"]))
