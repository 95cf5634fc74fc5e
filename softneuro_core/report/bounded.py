"""What a tuning within an accuracy bound found: the front and the noise of each layer, as tables and as data."""

from __future__ import annotations

from collections.abc import Iterator
from math import log10
from typing import Any

from softneuro_core.accuracy.bounded import Bounded, Point
from softneuro_core.accuracy.trial import Part
from softneuro_core.report.table import Table
from softneuro_core.report.units import show_layers, show_us

NOISIEST, WIDEST = 10, 64


def front_table(found: Bounded) -> Table:
    """Every plan tried, the fastest prediction first; the chosen one is marked."""
    titles = ("", ">on grids", ">predicted", ">measured", ">noise of parts", ">noise seen", f">drop of {found.metric}")
    return Table.of(
        titles, _front_rows(found), f"plans tried on {found.samples} samples, at most {found.max_drop:g} down"
    )


def _front_rows(found: Bounded) -> Iterator[tuple[object, ...]]:
    for point in found.points:
        mark = "chosen" if point is found.chosen else "" if point.drop <= found.max_drop else "too lossy"
        times = show_us(point.predicted_us), show_us(point.us)
        yield (
            mark,
            len(point.rounded_layers),
            *times,
            decibels(point.noise),
            decibels(point.seen_noise),
            f"{point.drop:.4f}",
        )


def layer_table(found: Bounded) -> Table:
    """The layers that make most noise on their grids, each alone, and whether the chosen plan rounds them."""
    rounded = found.chosen.rounded_layers
    noisiest = sorted(found.noise.items(), key=lambda item: -item[1])[:NOISIEST]
    rows = [(_names(part), decibels(noise), _kept(part, rounded)) for part, noise in noisiest]
    return Table.of(("layers", ">noise alone", "in the plan"), rows, "noisiest on their grids")


def _names(part: Part) -> str:
    """The layers, only the ends of what converters call them at length."""
    names = show_layers(sorted(layer.name for layer in part))
    return names if len(names) <= WIDEST else "..." + names[3 - WIDEST :]


def _kept(part: Part, rounded: frozenset[str]) -> str:
    return "integers" if any(layer.name in rounded for layer in part) else "float"


def decibels(noise: float) -> str:
    """Noise over signal power; ``-30 dB`` is a thousandth."""
    return "none" if noise == 0 else "cannot run" if noise == float("inf") else f"{10 * log10(noise):.1f} dB"


def as_data(found: Bounded) -> dict[str, Any]:
    """Everything, for machines."""
    return {
        "metric": found.metric,
        "max_drop": found.max_drop,
        "samples": found.samples,
        "chosen": found.points.index(found.chosen),
        "front": [_point(p) for p in found.points],
        "noise": {"+".join(sorted(layer.name for layer in part)): noise for part, noise in found.noise.items()},
    }


def _point(point: Point) -> dict[str, Any]:
    return {
        "predicted_us": point.predicted_us,
        "measured_us": point.us,
        "noise": point.noise,
        "noise_seen": point.seen_noise,
        "drop": point.drop,
        "rounded_layers": sorted(point.rounded_layers),
    }
