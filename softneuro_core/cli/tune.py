"""``softneuro tune``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import click

from softneuro_core.accuracy.bounded import Bounded, tune_bounded
from softneuro_core.accuracy.trial import Part
from softneuro_core.calibration.apply import lay_grids
from softneuro_core.calibration.ranges import Ranges
from softneuro_core.candidates import Request
from softneuro_core.catalog import Catalog, load_plugins
from softneuro_core.cli import bench, feeds, options, output
from softneuro_core.cli.bounded import BoundAsked, bound_options, show_bounded, write_front
from softneuro_core.cli.models import fixed
from softneuro_core.cli.progress import make_progress
from softneuro_core.descriptor import parse_all
from softneuro_core.errors import InputError, SelectionError, SoftneuroError
from softneuro_core.graph import Graph
from softneuro_core.importer import load
from softneuro_core.memory_budget import tune_within
from softneuro_core.plan import Plan
from softneuro_core.progress import Progress
from softneuro_core.report.explanation import REFERENCE
from softneuro_core.report.html import Measured, write_report
from softneuro_core.report.text import plan_summary
from softneuro_core.session import Session
from softneuro_core.task import Tuned
from softneuro_core.tuning import task_of, tune_fully, without_rounding

MEASURE_S = 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """The request options as given; None and empty mean: not said."""

    allow: str | None
    accuracy: str | None
    force: tuple[str, ...]
    forbid: tuple[str, ...]
    limits: tuple[str, ...]
    clocks: tuple[str, ...]

    def request(self, before: Request) -> Request:
        """What is asked, over what an earlier plan was asked."""
        accuracy = options.parse_accuracy(self.accuracy)
        return Request(
            before.allow | options.split_names(self.allow),
            before.accuracy if accuracy is None else accuracy,
            self.force or before.force,
            self.forbid or before.forbid,
            {**before.limits, **options.parse_limits(self.limits)},
            {**before.clocks, **options.parse_clocks(self.clocks)},
        )


@click.command("tune")
@options.model_argument
@click.option("-o", "--output", "out", metavar="PLAN", help="Where to write the plan.")
@options.threads_option
@options.request_options
@click.option(
    "--budget", "budget_s", type=click.FloatRange(0), metavar="S", help="Seconds to measure at most; 0: none."
)
@options.shape_option
@options.input_option
@options.image_option
@click.option("--forbid-fallback", is_flag=True, help="Fail if a layer uses the reference, or a device no -r names.")
@click.option("--from", "from_path", metavar="PLAN", help="Renew this plan: same request, shapes and threads.")
@click.option("--report", "report_path", metavar="OUT.html", help="Write a page that shows the plan and its reasons.")
@options.max_mem_option
@options.unrounded_option
@bound_options
@options.json_option
def command(
    model: str,
    out: str | None,
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
    forbid_fallback: bool,
    from_path: str | None,
    report_path: str | None,
    max_mem: str | None,
    as_json: bool,
    allow_unrounded: bool,
    **bound: str | None,
) -> None:
    """Measure every routine for every layer here, choose the fastest plan, prove it, save it.

    What was measured before is not measured again; Ctrl-C loses nothing.

    With --calibration, --data and --max-drop layers may be computed in integers where that is faster, as long as the
    metric holds on the data.
    """
    asked_bound = BoundAsked(**bound)
    is_bounded = asked_bound.is_asked
    output.check_targets(out, report_path, asked_bound.front)
    max_mem_bytes = options.parse_size(max_mem)
    before = Plan.load(from_path) if from_path else None
    if before and before.grids and not is_bounded:
        remedy = "give --calibration, --data and --max-drop again"
        raise InputError("the plan was made within an accuracy bound", file=from_path, remedy=remedy)
    if before and before.changes.unrounded and not allow_unrounded:
        remedy = "give --allow-unrounded again"
        raise InputError("the plan leaves out rounding that the file asks for", file=from_path, remedy=remedy)
    if is_bounded and allow_unrounded:
        remedy = "give one of them"
        raise InputError("a quantised file has its own grids: --allow-unrounded takes no --calibration", remedy=remedy)
    asked = Asked(allow, accuracy, force, forbid, limits, clocks)
    request = asked.request(Request.from_json(before.request) if before else Request())
    parse_all((*request.force, *request.forbid))
    catalog = load_plugins()
    graph = load(model, catalog=catalog)
    given = feeds.read_inputs(graph, inputs, image)
    known = {**(before.shapes if before else {}), **feeds.shapes_of_arrays(given)}
    graph = fixed(graph, catalog, shapes, known)
    if allow_unrounded:
        graph, request = without_rounding(graph, request)
    with make_progress() as progress:
        threads = threads or (before.threads if before else None)
        if is_bounded:
            tuned, found = _tune_bounded(
                graph, request, asked_bound, threads, budget_s, given, image, progress, catalog, max_mem_bytes
            )
        else:
            found = None
            tuned = tune_fully(
                graph, request, threads, budget_s, given or None, progress, catalog, max_mem_bytes=max_mem_bytes
            )
    _tell_problems(tuned)
    if forbid_fallback:
        check_fallback(tuned.plan, request)
    if out:
        tuned.plan.save(out)
    if report_path:
        measured = _measure(tuned, graph, catalog, given)
        plan, table = (None, tuned) if found is None else (tuned.plan, found.table)
        write_report(report_path, table, catalog, plan, measured)
    if found is not None and asked_bound.front:
        write_front(found, asked_bound.front)
    if as_json:
        click.echo(tuned.plan.to_json())
        return
    if found is not None:
        show_bounded(found)
    output.say(plan_summary(tuned.plan))
    for path in (p for p in (out, report_path, asked_bound.front) if p):
        output.say(f"written: {path}")
    if not out:
        output.note("the plan is not saved: -o PLAN keeps it")


def _tune_bounded(
    graph: Graph,
    request: Request,
    asked: BoundAsked,
    threads: int | None,
    budget_s: float | None,
    given: Mapping[str, Any],
    image: str | None,
    progress: Progress,
    catalog: Catalog,
    max_mem_bytes: int | None,
) -> tuple[Tuned, Bounded]:
    """Within the bound, and the memory; measured on the data's first sample where no input is given."""
    assert asked.ranges is not None
    ranges = Ranges.load(asked.ranges)
    graph = lay_grids(graph, ranges)
    for note in ranges.notes:
        output.note(note)
    samples, metric = asked.samples(graph, image), asked.measure()
    with task_of(request, threads, budget_s, progress, catalog) as task:
        noise: dict[Part, float] = {}

        def tune(tighter: Request) -> Bounded:
            found = tune_bounded(graph, tighter, samples, metric, asked.drop, task, given or samples[0], noise)
            noise.update(found.noise)  # it does not depend on limits
            return found

        if max_mem_bytes is None:
            found = tune(request)
        else:
            found, notes = tune_within(max_mem_bytes, graph, catalog, request, tune)
            found = dataclasses.replace(found, notes=notes)
    return found.tuned, found


def _measure(tuned: Tuned, graph: Graph, catalog: Catalog, given: Mapping[str, Any]) -> Measured | None:
    """About a second of whole runs, and times of every step, here: what the page shows beside predictions.

    None, with a note, where the model cannot run on the inputs there are (made-up ones need not be valid).
    """
    try:
        arrays = feeds.fill(graph, given, ("random",))
        with Session(graph, tuned.plan, catalog=catalog) as session:
            whole = bench.measure(session, arrays, None, MEASURE_S)
            runs = max(1, min(20, round(MEASURE_S * 1e6 / whole["median_us"])))
            return Measured(whole, session.profile(arrays, runs))
    except SoftneuroError as error:
        output.note(f"the page shows no measured times: {error}")
        return None


def _tell_problems(tuned: Tuned) -> None:
    for name, reason in tuned.problems.items():
        output.note(f"{name} is left out: {reason}")


def check_fallback(plan: Plan, request: Request) -> None:
    """Raises :class:`SelectionError` if a layer is computed by the reference, or (with pins) on a device no pin names;
    values come from the host and return to it in any case."""
    named = {pin.device for pin in parse_all(request.force)}
    anywhere = not named or bool(named & {"", "*"})
    for step in plan.kernel_steps:
        device = step.routine.partition("/")[0]
        if step.routine == REFERENCE or not (anywhere or device in named):
            why = "the reference" if step.routine == REFERENCE else f"device {device!r}, which no -r names"
            raise SelectionError(
                f"the plan would use {why}, and --forbid-fallback forbids it",
                layer=step.name,
                remedy="install a plugin with a routine for it, or leave --forbid-fallback away",
            )
    for body in plan.bodies.values():
        check_fallback(body, request)
