"""``softneuro compare``."""

from __future__ import annotations

import math
from collections.abc import Sequence

import click

from softneuro_core.cli import options, output
from softneuro_core.cli.sessions import Job, open_session
from softneuro_core.report.comparison import StepError, compare_steps, first_divergence
from softneuro_core.report.table import Table

DIVERGED = 11
"""Exit code when a step differs by more than it may."""


@click.command("compare")
@options.model_argument
@options.plan_option
@options.relaxed_option
@options.input_option
@options.image_option
@options.shape_option
@options.threads_option
@options.pins_option
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
    max_mem: str | None,
    allow_unrounded: bool,
    as_json: bool,
) -> None:
    """Run each step against the reference on the same inputs; name the first that differs by more than it may.

    Exit code 11 if one does.
    """
    ready = open_session(
        Job(model, plan_path, relaxed, shapes, inputs, image, threads, force, max_mem, allow_unrounded)
    )
    program = ready.program(options.parse_size(max_mem))
    ready.session.close()
    rows = list(compare_steps(program, ready.feeds, ready.catalog))
    first = first_divergence(rows)
    if as_json:
        output.show_json({"steps": [r.to_json() for r in rows], "first_divergence": first and first.name})
    else:
        output.show(error_table(rows))
        output.say(verdict(rows))
    if first is not None:
        raise click.exceptions.Exit(DIVERGED)


def error_table(rows: Sequence[StepError]) -> Table:
    """Errors and signal-to-noise ratio of every step."""
    cells = [
        (r.name, r.routine, "", "", "", r.skipped)
        if r.skipped
        else (
            r.name,
            r.routine,
            f"{r.max_error:.3g}",
            f"{r.relative:.2e}",
            _db(r.snr_db),
            "DIVERGES" if r.diverges else "",
        )
        for r in rows
    ]
    return Table.of(("step", "routine", ">max error", ">relative", ">SNR", ""), cells)


def _db(snr: float) -> str:
    return "equal" if snr == math.inf else f"{snr:.0f} dB"


def verdict(rows: Sequence[StepError]) -> str:
    """One line: all well, or the first step that is not."""
    first = first_divergence(rows)
    if first is None:
        checked = [r for r in rows if not r.skipped]
        worst = max(checked, key=lambda r: r.relative, default=None)
        at = f"; the largest relative error is {worst.relative:.2e}, at {worst.name}" if worst else ""
        return f"{len(checked)} of {len(rows)} steps agree with the reference{at}"
    return (
        f"first divergence: {first.name} by {first.routine}: max error {first.max_error:.3g}, "
        f"relative {first.relative:.2e} where {first.allowed:.1e} is allowed"
    )
