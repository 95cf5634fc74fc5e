"""The part of ``softneuro tune`` that holds an accuracy bound on data."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from softneuro_core.accuracy.bounded import Bounded
from softneuro_core.accuracy.metrics import METRICS, Metric, by_function, by_labels
from softneuro_core.calibration.data import FORMS, read_samples
from softneuro_core.cli import output
from softneuro_core.errors import InputError
from softneuro_core.files import write_file
from softneuro_core.graph import Graph
from softneuro_core.report.bounded import as_data, front_table, layer_table
from softneuro_core.report.front_svg import front_svg
from softneuro_core.report.kept import bound_reasons
from softneuro_core.user_code import FORMS as FUNCTIONS
from softneuro_core.user_code import function_of

CHOICES = ("top1", *METRICS)


@dataclass(frozen=True, slots=True)
class BoundAsked:
    """The options as given; None: not said."""

    ranges: str | None
    data: str | None
    max_drop: str | None
    metric: str | None
    front: str | None

    @property
    def is_asked(self) -> bool:
        """Raises :class:`InputError` where only a part of what belongs together is given."""
        given = {"--calibration": self.ranges, "--data": self.data, "--max-drop": self.max_drop}
        missing = [name for name, text in given.items() if text is None]
        if len(missing) == len(given) and self.metric is None and self.front is None:
            return False
        if missing:
            remedy = "ranges come from: softneuro calibrate MODEL --data OTHER_DATA"
            raise InputError(f"an accuracy bound needs {missing[0]}, too", remedy=remedy)
        return True

    @property
    def drop(self) -> float:
        """``1%`` or ``0.01``; in the unit of a metric of the user's own it may be more. Raises :class:`InputError`."""
        text = (self.max_drop or "").strip()
        try:
            found = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            found = -1.0
        if not 0 <= found <= (float("inf") if self.is_own else 1):
            raise InputError(f"--max-drop {text!r} is no share", remedy="give 1% or 0.01")
        return found

    @property
    def is_own(self) -> bool:
        """Whether the metric is a function of the user's."""
        return ":" in (self.metric or "")

    def samples(self, graph: Graph, image: str | None) -> list[dict[str, Any]]:
        assert self.data is not None
        return [dict(sample) for sample in read_samples(graph, self.data, image)]

    def measure(self) -> Metric:
        """By labels where the data has them, else agreement with the float plan, unless another is asked for."""
        assert self.data is not None
        labels = _labels(Path(self.data))
        name = self.metric or ("agreement" if labels is None else "top1")
        if self.is_own:
            return by_function(name, function_of(name), labels)
        if name not in CHOICES:
            raise InputError(f"there is no metric {name!r}", remedy=f"one of {', '.join(CHOICES)}, or {FUNCTIONS}")
        if name != "top1":
            return METRICS[name]
        if labels is None:
            raise InputError("holds no array 'labels'", file=self.data, remedy="add it, or use --metric agreement")
        return by_labels(labels)


def _labels(path: Path) -> np.ndarray | None:
    if path.suffix != ".npz" or not path.exists():
        return None
    with np.load(path, allow_pickle=False) as arrays:
        return arrays["labels"] if "labels" in arrays.files else None


def bound_options(command: Any) -> Any:
    """Adds the options to a command."""
    for option in (
        click.option("--pareto", "front", metavar="OUT", help="Write every plan tried: OUT.json or OUT.svg."),
        click.option("--metric", metavar="METRIC", help=f"What may drop: {', '.join(CHOICES)}, or {FUNCTIONS}."),
        click.option("--max-drop", "max_drop", metavar="SHARE", help="How far the metric may drop: 1% or 0.01."),
        click.option("--data", metavar="DATA", help=f"What to hold the bound on: {FORMS}."),
        click.option("--calibration", "ranges", metavar="RANGES", help="Let values be rounded: ranges to do it in."),
    ):
        command = option(command)
    return command


def show_bounded(found: Bounded) -> None:
    """The front and the noisiest layers."""
    reasons = bound_reasons(found.table, found.tuned.plan)
    assert reasons is not None
    output.show(front_table(reasons.bound))
    output.say()
    output.show(layer_table(reasons))
    output.say()


def write_front(found: Bounded, path: str) -> None:
    """As a picture where the name ends so, else as JSON."""
    picture = path.endswith(".svg")
    write_file(path, front_svg(found.record) if picture else json.dumps(as_data(found), indent=1) + "\n")
