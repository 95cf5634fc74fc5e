"""Mixed precision on the digits: ranges from a third of the held-out images, the bound held on another, judged on the
last, which neither saw."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

import softneuro_core as sn
from softneuro_core.accuracy.bounded import Bounded, tune_bounded
from softneuro_core.accuracy.metrics import by_labels
from softneuro_core.accuracy.trial import outputs_of
from softneuro_core.calibration.apply import lay_grids
from softneuro_core.calibration.quantise import quantise
from softneuro_core.candidates import Request
from softneuro_core.cli.progress import make_progress
from softneuro_core.tuning import task_of

MAX_DROP = 0.01


@dataclass(frozen=True, slots=True)
class Mixed:
    """What was found, and the share of right answers of the float and of the chosen plan on the images judged on."""

    found: Bounded
    exact: float
    kept: float
    images: int


def tune_mixed(
    path: Path,
    images: np.ndarray,
    labels: np.ndarray,
    catalog: sn.Catalog,
    threads: int,
    budget_s: float | None = None,
) -> Mixed:
    """The fastest plan that loses at most :data:`MAX_DROP` of the answers."""
    seen, bound, judged = ([{"image": image[None]} for image in images[part::3]] for part in range(3))
    fresh = lambda: sn.load(path, {"image": (1, *images.shape[1:])}, catalog=catalog)  # noqa: E731
    graph = lay_grids(fresh(), quantise(fresh(), seen, threads=threads, catalog=catalog))
    with make_progress() as progress, task_of(Request(), threads, budget_s, progress, catalog) as task:
        found = tune_bounded(graph, Request(), bound, by_labels(labels[1::3]), MAX_DROP, task)
    score = by_labels(labels[2::3]).score
    plans = found.points[-1].tuned.plan, found.tuned.plan
    made = [outputs_of(graph, plan, judged, catalog) for plan in plans]
    exact, kept = (score(outputs, made[0]) for outputs in made)
    return Mixed(found, exact, kept, len(judged))
