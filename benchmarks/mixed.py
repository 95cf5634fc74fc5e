"""Mixed precision on trained models with labels: tuned within a bound on half of the test data, judged on the other.

``python -m benchmarks.mixed [NETS ...] --threads 1 --max-drop 0.01``. Ranges come from data of their own. Times are of
the tuner's whole runs; accuracies are of the half nobody tuned on, the same inputs for both plans.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from rich.console import Console
from rich.table import Table

import softneuro_core as sn
from benchmarks.models import models_folder
from benchmarks.run import LOG_WIDTH, one_at_a_time
from softneuro_core.accuracy.bounded import Bounded, tune_bounded
from softneuro_core.accuracy.metrics import by_labels
from softneuro_core.accuracy.trial import outputs_of
from softneuro_core.calibration.apply import lay_grids
from softneuro_core.calibration.collect import calibrate
from softneuro_core.candidates import Request
from softneuro_core.catalog import load_plugins
from softneuro_core.graph import Graph
from softneuro_core.tuning import task_of

MEAN, DEVIATION = (np.array(a, np.float32) for a in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
RANGES_FROM = 200
"""Samples ranges are found on."""


@dataclass(frozen=True, slots=True)
class Net:
    """A model, where its calibration and test data lie, and what its input is made of them."""

    file: str
    seen: str
    unseen: str
    prepare: Callable[[np.ndarray], np.ndarray]


def _standardised(x: np.ndarray) -> np.ndarray:
    return ((x.astype(np.float32) / 255 - MEAN) / DEVIATION).transpose(0, 3, 1, 2)


CIFAR = ("data/cifar10_calib500.npz", "data/cifar10_test600.npz")
SPOKEN = ("fsdd_dscnn/fsdd_cal200_logmel.npz", "fsdd_dscnn/fsdd_test300_logmel.npz")
NETS = {
    "resnet20": Net("resnet20_cifar10/resnet20_cifar10.onnx", *CIFAR, _standardised),
    "resnet56": Net("resnet56_cifar10/resnet56_cifar10.onnx", *CIFAR, _standardised),
    "resnet8": Net("resnet8_cifar10_mlperf/resnet8_f32.onnx", *CIFAR, lambda x: x.astype(np.float32)),
    "fsdd_dscnn": Net("fsdd_dscnn/fsdd_dscnn.onnx", *SPOKEN, lambda x: x),
}


def _arrays(net: Net, folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    with np.load(folder / name) as held:
        return np.ascontiguousarray(net.prepare(held["x"])), held["y"].astype(np.int64)


def _graph(net: Net, folder: Path, shape: tuple[int, ...]) -> Graph:
    path = folder / net.file
    (value,) = sn.load(path).inputs
    return sn.load(path, shapes={value.name: (1, *shape)})


def mixed(net: Net, folder: Path, threads: int, max_drop: float) -> tuple[Bounded, list[float]]:
    """What tuning found on the first half of the test data; top-1 of the float and of the chosen plan on the second."""
    catalog = load_plugins()
    seen, _ = _arrays(net, folder, net.seen)
    unseen, labels = _arrays(net, folder, net.unseen)
    name = _graph(net, folder, seen.shape[1:]).inputs[0].name
    samples = lambda arrays: [{name: array[None]} for array in arrays]  # noqa: E731
    ranges = calibrate(
        _graph(net, folder, seen.shape[1:]), samples(seen[:RANGES_FROM]), threads=threads, catalog=catalog
    )
    graph, half = lay_grids(_graph(net, folder, seen.shape[1:]), ranges), len(unseen) // 2
    with task_of(Request(), threads, catalog=catalog) as task:
        found = tune_bounded(graph, Request(), samples(unseen[:half]), by_labels(labels[:half]), max_drop, task)
    plans = found.points[-1].tuned.plan, found.tuned.plan
    made = [outputs_of(graph, plan, samples(unseen[half:]), catalog) for plan in plans]
    return found, [by_labels(labels[half:]).score(outputs, made[0]) for outputs in made]


def main(arguments: Sequence[str] | None = None) -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("nets", nargs="*", default=list(NETS), help=", ".join(NETS))
    options.add_argument("--threads", default="1", help="thread counts, with commas")
    options.add_argument("--max-drop", type=float, default=0.01)
    options.add_argument("--models", help="folder of models (default: SOFTNEURO_MODELS, else ../shared/models)")
    asked = options.parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else LOG_WIDTH)
    table = Table(
        "model", "threads", "float us", "fastest us", "chosen us", "on grids", "drop", "float", "chosen top-1"
    )
    with one_at_a_time(console):
        for name in asked.nets:
            for threads in map(int, asked.threads.split(",")):
                found, (exact, kept) = mixed(NETS[name], models_folder(asked.models), threads, asked.max_drop)
                times = found.points[-1].us, min(p.us for p in found.points), found.chosen.us
                shown = [f"{us:,.0f}" for us in times]
                layers = f"{len(found.chosen.rounded_layers)} of {max(len(p.rounded_layers) for p in found.points)}"
                table.add_row(
                    name, str(threads), *shown, layers, f"{found.chosen.drop:.4f}", f"{exact:.4f}", f"{kept:.4f}"
                )
    console.print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
