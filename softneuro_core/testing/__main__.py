"""``python -m softneuro_core.testing test|perf|support|check PLUGIN``: the case table without pytest."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from softneuro_core.errors import SoftneuroError
from softneuro_core.testing.isolation import Isolation
from softneuro_core.testing.survey import perf, support
from softneuro_core.testing.units import MODEL, Unit, Workbench

plugin_argument = click.argument("plugin", metavar="MODULE[:ATTRIBUTE]")


@click.group()
def main() -> None:
    """Check, time or list what a plugin offers. The plugin need not be installed, only importable."""
    sys.path.insert(0, "")


@main.command("test")
@plugin_argument
@click.option("--only", default="*", help="Pattern of ids ROUTINE-CASE.")
@click.option("--timeout", "timeout_s", default=60.0, show_default=True, help="Seconds one case may take.")
def test_command(plugin: str, only: str, timeout_s: float) -> None:
    """Run every routine and adapter through every case."""
    isolation = Isolation(plugin)
    sys.exit(_run(isolation, [unit for unit in isolation.units() if fnmatchcase(unit.id, only)], timeout_s))


@main.command("check")
@plugin_argument
@click.argument("model", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--timeout", "timeout_s", default=60.0, show_default=True, help="Seconds one case may take.")
def check_command(plugin: str, model: Path, timeout_s: float) -> None:
    """Run every routine through every layer of a model it offers itself for."""
    isolation = Isolation(plugin, f"{MODEL}{model}")
    units = [unit for unit in isolation.units() if unit.case.startswith(f"{model.stem}:")]
    sys.exit(_run(isolation, units, timeout_s))


def _run(isolation: Isolation, units: Iterable[Unit], timeout_s: float) -> int:
    console, done, failed, skipped, worst = Console(), 0, 0, 0, 0.0
    for unit in units:
        report = isolation.check(unit, timeout_s)
        done, failed, skipped = done + 1, failed + bool(report.findings), skipped + bool(report.skipped)
        worst = max(worst, report.max_error)
        for line in map(str, report.findings):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    isolation.close()
    text = f"{done} checked, {failed} failed, {skipped} without a reference; largest error {worst:.1e}"
    console.print(text, markup=False, highlight=False)
    return 1 if failed or not done else 0


@main.command("support")
@plugin_argument
def support_command(plugin: str) -> None:
    """Matrix of routines and specs: how many of the operator's cases are offered."""
    found = support(Workbench(plugin))
    specs = sorted({spec for row in found.values() for spec in row})
    table = Table("operators", "routine", *specs)
    for (ops, routine), row in sorted(found.items()):
        table.add_row(ops, routine, *(f"{row[s][0]} of {row[s][1]}" if s in row else "" for s in specs))
    Console().print(table)


@main.command("perf")
@plugin_argument
@click.option("--routine", default="*", help="Pattern of routine names.")
@click.option("--case", "cases", default="*-big", show_default=True, help="Pattern of case names.")
@click.option("--threads", default=1, show_default=True)
def perf_command(plugin: str, routine: str, cases: str, threads: int) -> None:
    """Time routines on the larger cases, as the profiler does."""
    table = Table("routine", "case", "offer", "median us", "reason")
    for timing in perf(Workbench(plugin), routine, cases, threads):
        cost = timing.cost
        time = f"{cost.time_ns / 1000:.2f}" if cost.ok else ""
        table.add_row(timing.routine, timing.case, timing.offer, time, cost.reason)
    Console().print(table)


if __name__ == "__main__":
    try:
        main(prog_name="python -m softneuro_core.testing")
    except SoftneuroError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
