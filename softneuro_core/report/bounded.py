"""What a tuning within an accuracy bound found: the front and the noise of each layer, as tables and as data."""

from __future__ import annotations

from collections.abc import Iterator
from math import log10
from typing import Any

from softneuro_core.accuracy.bounded import Bounded
from softneuro_core.bound import Bound
from softneuro_core.report.kept import BoundReasons, PartRow
from softneuro_core.report.table import Table
from softneuro_core.report.units import show_layers, show_us

NOISIEST, WIDEST = 10, 64


def front_table(found: Bound) -> Table:
    """Every plan tried, the fastest prediction first; the chosen one is marked."""
    titles = ("", ">on grids", ">predicted", ">measured", ">noise of parts", ">noise seen", f">drop of {found.metric}")
    return Table.of(
        titles, _front_rows(found), f"plans tried on {found.samples} samples, at most {found.max_drop:g} down"
    )


def _front_rows(found: Bound) -> Iterator[tuple[object, ...]]:
    for point in found.front:
        mark = "chosen" if point.chosen else "" if point.drop <= found.max_drop else "too lossy"
        times = show_us(point.predicted_us), show_us(point.us)
        yield mark, point.rounded, *times, decibels(point.noise), decibels(point.seen_noise), f"{point.drop:.4f}"


def layer_table(found: BoundReasons) -> Table:
    """The layers that make most noise on their grids, each alone, and whether the chosen plan rounds them."""
    noisiest = sorted(found.parts, key=lambda part: -part.noise)[:NOISIEST]
    rows = [(_names(part), decibels(part.noise), "integers" if part.is_rounded else "float") for part in noisiest]
    return Table.of(("layers", ">noise alone", "in the plan"), rows, "noisiest on their grids")


def kept_table(found: BoundReasons) -> Table:
    """What rounding each layer kept in float would have cost: noise and time."""
    rows = [(_names(part), decibels(part.noise), more(part)) for part in found.kept]
    return Table.of(("layers", ">noise if rounded", ">whole plan then"), rows, "kept in float")


def more(part: PartRow) -> str:
    """What the whole plan would gain or lose by rounding the part as well."""
    if part.more_us is None:
        return "no plan"
    return f"{'+' if part.more_us >= 0 else '-'}{show_us(abs(part.more_us))}"


def others_line(found: BoundReasons) -> str:
    """Layers there is nothing to choose for; empty where there are none."""
    if not found.others:
        return ""
    return "no routine rounds " + ", ".join(f"{op} x{count}" for op, count in found.others)


def _names(part: PartRow) -> str:
    """The layers, only the ends of what converters call them at length."""
    names = show_layers(part.layers) + (" (weights)" if part.constants else "")
    return names if len(names) <= WIDEST else "..." + names[3 - WIDEST :]


def decibels(noise: float) -> str:
    """Noise over signal power; ``-30 dB`` is a thousandth."""
    return "none" if noise == 0 else "cannot run" if noise == float("inf") else f"{10 * log10(noise):.1f} dB"


def as_data(found: Bounded) -> dict[str, Any]:
    """Everything, for machines: what the plan keeps, and which layers every plan tried rounds."""
    record = found.record.to_json()
    front = [
        {**point, "rounded_layers": sorted(whole.rounded_layers)}
        for point, whole in zip(record["front"], found.points, strict=True)
    ]
    return {**record, "front": front}
