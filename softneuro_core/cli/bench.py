"""``softneuro bench``."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import click
import numpy as np

from softneuro_core.cli import options, output
from softneuro_core.cli.sessions import Job, open_session
from softneuro_core.plan import Plan
from softneuro_core.report.units import show_us
from softneuro_core.session import Session

WARM_UP = 3


@click.command("bench")
@options.model_argument
@options.plan_option
@options.relaxed_option
@options.input_option
@options.image_option
@options.shape_option
@options.threads_option
@options.pins_option
@click.option(
    "--runs", type=click.IntRange(1), metavar="N", help="Runs to time (default: as many as --seconds allows)."
)
@click.option("--seconds", type=click.FloatRange(0.01), default=2.0, show_default=True, help="About how long to time.")
@options.max_mem_option
@options.unrounded_option
@options.json_option
def command(
    model: str,
    plan_path: str | None,
    relaxed: bool,
    inputs: tuple[str, ...],
    image: str | None,
    shapes: tuple[str, ...],
    threads: int | None,
    force: tuple[str, ...],
    runs: int | None,
    seconds: float,
    max_mem: str | None,
    allow_unrounded: bool,
    as_json: bool,
) -> None:
    """Time whole runs: median, fastest, 90th percentile; inputs are copied in and outputs out, as a user would."""
    ready = open_session(
        Job(model, plan_path, relaxed, shapes, inputs, image, threads, force, max_mem, allow_unrounded)
    )
    with ready.session as session:
        found = measure(session, ready.feeds, runs, seconds) | about(session.plan)
    if as_json:
        output.show_json({"model": ready.graph.name, **found})
        return
    output.say(
        f"{ready.graph.name}: median {show_us(found['median_us'])}, min {show_us(found['min_us'])}, "
        f"p90 {show_us(found['p90_us'])} over {found['runs']} runs, {found['threads']} threads"
    )
    output.say(f"the plan predicted {show_us(found['predicted_us'])}; CPU time / wall time {found['cpu_per_wall']:.2f}")


def measure(session: Session, feeds: Mapping[str, Any], runs: int | None, seconds: float) -> dict[str, Any]:
    """Times of whole runs in microseconds, after a few that are not counted. ``cpu_per_wall`` tells how many cores
    the process really kept busy."""
    for _ in range(WARM_UP):
        session.run(feeds)
    times: list[int] = []
    cpu, begun = time.process_time_ns(), time.perf_counter_ns()
    while len(times) < runs if runs else not times or time.perf_counter_ns() - begun < seconds * 1e9:
        start = time.perf_counter_ns()
        session.run(feeds)
        times.append(time.perf_counter_ns() - start)
    wall = time.perf_counter_ns() - begun
    us = np.asarray(times) / 1000
    return {
        "median_us": float(np.median(us)),
        "min_us": float(us.min()),
        "p90_us": float(np.quantile(us, 0.9)),
        "runs": len(times),
        "cpu_per_wall": (time.process_time_ns() - cpu) / wall,
    }


def about(plan: Plan) -> dict[str, Any]:
    """What a benchmark's reader needs to know of the plan that ran."""
    return {"threads": plan.threads, "predicted_us": plan.predicted_us, "machine": dict(plan.machine)}
