"""What SoftNeuro does, on one real model in about a minute: tune, explain, run held-out images, compare times.

Run by ``make demo`` and ``softneuro demo``. Writes ``plan.json`` and ``report.html`` to ``out/digits``.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
from rich.console import Console
from threadpoolctl import threadpool_limits

import softneuro_core as sn
from benchmarks.engines import open_engine
from benchmarks.interleaved import Timing, interleave
from examples.digits import show
from examples.digits.mixed import tune_mixed
from examples.digits.single import single_choices
from softneuro_core.candidates import Request
from softneuro_core.cli.progress import make_progress
from softneuro_core.errors import SelectionError
from softneuro_core.report import explain
from softneuro_core.report.html import write_report
from softneuro_core.task import Tuned
from softneuro_core.tuning import tune_fully

HERE = Path(__file__).resolve().parent
OUT = HERE.parents[1] / "out" / "digits"
SHAPES = {"image": (1, 1, 8, 8)}
TUNED, REFERENCE = "tuned", "all reference"


def tune(graph: sn.Graph, sample: Mapping[str, Any], catalog: sn.Catalog, threads: int) -> tuple[Tuned, float]:
    """The tuned plan with its reasons, and the seconds it took."""
    start = time.perf_counter()
    with make_progress() as progress:
        tuned = tune_fully(graph, Request(), threads, None, sample, progress, catalog)
    return tuned, time.perf_counter() - start


def rival_plans(
    graph: sn.Graph, sample: Mapping[str, Any], catalog: sn.Catalog, threads: int, console: Console
) -> dict[str, sn.Plan]:
    """What one would run without a tuner: the reference only, and every single choice, each tuned around its pins
    with the costs just measured. A choice that cannot run here (its routine failed a check) is named and left out."""
    pins = single_choices(graph, catalog, threads)
    plans = {REFERENCE: sn.tune(graph, threads=threads, force="cpu/reference", budget_s=0, catalog=catalog)}
    for name, force in pins.items():
        try:
            plans[name] = sn.tune(graph, threads=threads, force=force, sample=sample, catalog=catalog)
        except SelectionError as error:
            console.print(f"[yellow]{name} cannot run here:[/] {error}")
    return plans


def probabilities(session: sn.Session, images: np.ndarray) -> np.ndarray:
    """The network's output for every image, one run each: float32 [count, 10]."""
    return np.concatenate([session.run({"image": image[None]})["probabilities"] for image in images])


def time_all(sessions: Mapping[str, sn.Session], sample: Mapping[str, Any], threads: int) -> dict[str, Timing]:
    """Every session, and onnxruntime where it is installed, in turns on the same image."""
    contestants: dict[str, Any] = {name: _runner(session, sample) for name, session in sessions.items()}
    try:
        peer = open_engine("onnxruntime")
        loaded = peer.load(HERE / "digits.onnx", sample, threads)
        contestants[f"{peer.name} {peer.version}"] = lambda: loaded.run(sample)
    except ImportError:
        pass
    return interleave(contestants)


def _runner(session: sn.Session, sample: Mapping[str, Any]) -> Any:
    return lambda: session.run(sample)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--threads", type=int, default=1, help="threads for every contestant (default: 1)")
    threads = options.parse_args().threads
    console = Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=show.LOG_WIDTH)
    with np.load(HERE / "heldout.npz") as stored:
        images, labels = stored["x"] / np.float32(16), stored["y"]
    sample = {"image": images[:1]}

    catalog = sn.load_plugins()
    graph = sn.load(HERE / "digits.onnx", SHAPES, catalog=catalog)
    show.model(console, graph, catalog, HERE / "digits.onnx")

    show.step(console, 1, f"Tune: measure every routine for every layer here, on {threads} thread{'s'[: threads - 1]}")
    tuned, seconds = tune(graph, sample, catalog, threads)
    show.plan(console, tuned, seconds)

    show.step(console, 2, "Explain: what else could have run, and what the whole plan would cost with it")
    show.explanation(console, explain(tuned))

    show.step(console, 3, f"Run: {len(images)} real images the network has never seen")
    OUT.mkdir(parents=True, exist_ok=True)
    tuned.plan.save(OUT / "plan.json")
    with console.status("tuning the rivals: the reference, and one choice for all layers"):
        plans = {TUNED: sn.Plan.load(OUT / "plan.json"), **rival_plans(graph, sample, catalog, threads, console)}
    sessions = {name: sn.Session(graph, plan, threads, catalog=catalog) for name, plan in plans.items()}
    made = {name: probabilities(session, images) for name, session in sessions.items()}
    show.accuracy(console, images, labels, made[TUNED], made[REFERENCE])

    show.mixed(console, tune_mixed(HERE / "digits.onnx", images, labels, catalog, threads))

    show.step(console, 4, "Compare: everybody in turns, one image a run")
    with console.status("timing"), threadpool_limits(threads, "blas"):  # the reference computes with numpy's BLAS
        timings = time_all(sessions, sample, threads)
    show.comparison(console, timings, TUNED, REFERENCE, tuned.plan.predicted_us)

    write_report(OUT / "report.html", tuned, catalog)
    show.closing(console, OUT / "plan.json", OUT / "report.html")


if __name__ == "__main__":
    main()
