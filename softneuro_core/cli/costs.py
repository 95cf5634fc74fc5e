"""``softneuro costs``."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

import click

from softneuro_core.cli import output
from softneuro_core.cli.options import json_option
from softneuro_core.costs import CostDatabase
from softneuro_core.errors import CostDatabaseError
from softneuro_core.report.table import Table
from softneuro_core.report.units import show_us


@click.group("costs")
def command() -> None:
    """The cost database: everything measured on this machine."""


def _open() -> CostDatabase:
    return CostDatabase(on_note=output.note)


@command.command("show")
@json_option
def show(as_json: bool) -> None:
    """How much is known of which routine, and where the file is."""
    with _open() as database:
        found, path = summary(database), database.path
    if as_json:
        output.show_json({"path": path, "routines": found})
        return
    rows = [
        (name, f["measured"], f["failed"], f["in_situ"], show_us(f["median_us"]) if f["measured"] else "")
        for name, f in sorted(found.items())
    ]
    output.show(Table.of(("routine", ">measured", ">failed", ">in place", ">median"), rows, path))


def summary(database: CostDatabase) -> dict[str, dict[str, Any]]:
    """Counts and the median time by routine; failures keep their last reason."""
    found: dict[str, dict[str, Any]] = {}
    times: dict[str, list[float]] = defaultdict(list)
    for key, cost in database.rows():
        name = str(key.parts.get("routine", "?"))
        row = found.setdefault(name, {"measured": 0, "failed": 0, "in_situ": 0, "median_us": 0.0, "reason": ""})
        if cost.context:
            row["in_situ"] += 1
        elif cost.ok:
            row["measured"] += 1
            times[name].append(cost.time_ns / 1000)
        else:
            row["failed"] += 1
            row["reason"] = cost.reason
    for name, mine in times.items():
        found[name]["median_us"] = median(mine)
    return found


@command.command("export")
@click.option("-o", "--output", "path", metavar="FILE", help="File to write (default: standard output).")
def export(path: str | None) -> None:
    """Write every cost as one line of JSON."""
    with _open() as database:
        lines = list(database.export())
    if path is None:
        for line in lines:
            click.echo(line)
    else:
        output.write_file(path, "".join(line + "\n" for line in lines))
        output.say(f"{len(lines)} costs written to {path}")


@command.command("merge")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
def merge(files: tuple[str, ...]) -> None:
    """Add exported costs; of two for one key the better founded stays. - is standard input."""
    with _open() as database:
        for file in files:
            output.say(f"{database.merge(_lines(file))} costs new or better from {file}")


def _lines(file: str) -> Iterable[str]:
    if file == "-":
        return sys.stdin.read().splitlines()
    try:
        return Path(file).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise CostDatabaseError(f"cannot be read: {error.strerror}", file=file) from None
    except UnicodeDecodeError:
        raise CostDatabaseError("is no text file", file=file) from None


@command.command("clear")
@click.option("--routine", metavar="NAME", help="Only costs of this routine or adapter.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def clear(routine: str | None, yes: bool) -> None:
    """Forget what was measured."""
    with _open() as database:
        if not yes:
            click.confirm(f"Forget {routine or 'all'} costs in {database.path}?", abort=True)
        output.say(f"{database.clear(routine)} costs cleared")
