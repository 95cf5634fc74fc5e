"""Two threads on a machine whose second core somebody else keeps busy, and what a session costs that does nothing.

``python -m benchmarks.crowded [NETS ...]``. Goal: our median on two threads at most 1.2 times that of the better of
onnxruntime on one and on two threads, all taking turns in one process beside a process that never stops computing; at
rest, less than 1 ms of processor time a second.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console

from benchmarks.engines import open_engine
from benchmarks.interleaved import interleave
from benchmarks.nets import NETS, build, sample
from benchmarks.run import LOG_WIDTH, ROOT, one_at_a_time

GOAL_RATIO, GOAL_IDLE_MS = 1.2, 1.0
CONTESTANTS = {
    "softneuro 2": ("softneuro", 2),
    "onnxruntime 1": ("onnxruntime", 1),
    "onnxruntime 2": ("onnxruntime", 2),
}
REST_S = 2.0
SETTLE_S = 0.1
"""onnxruntime's workers spin for up to 60 ms after a run; whoever is next would have three threads on two cores."""
DEFAULT_NETS = ("mobilenet_v2", "resnet50")


def compute_for_ever() -> None:
    while True:
        pass


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("nets", nargs="*", choices=[*NETS, []], metavar="NET")
    options.add_argument("--rounds", type=int, default=15, help="turns each contestant gets")
    asked = options.parse_args()
    console = Console() if sys.stdout.isatty() else Console(width=LOG_WIDTH)
    missed = 0
    for name in asked.nets or DEFAULT_NETS:
        model = build(name, ROOT / "out" / "bench-models")
        feeds = sample(model)
        loaded = {
            label: open_engine(engine).load(model, feeds, threads) for label, (engine, threads) in CONTESTANTS.items()
        }
        runs = {label: partial(engine.run, feeds) for label, engine in loaded.items()}
        with one_at_a_time(console):
            idle_ms = idle(runs["softneuro 2"])
            crowd = multiprocessing.get_context("spawn").Process(target=compute_for_ever, daemon=True)
            crowd.start()
            try:
                times = {label: timing.median_us for label, timing in interleave(runs, asked.rounds, SETTLE_S).items()}
            finally:
                crowd.kill()
        ratio = times["softneuro 2"] / min(us for label, us in times.items() if label != "softneuro 2")
        missed += ratio > GOAL_RATIO or idle_ms > GOAL_IDLE_MS
        shown = ", ".join(f"{label} {us / 1000:.2f} ms" for label, us in times.items())
        console.print(f"{name}: {shown}; ours / best {ratio:.2f} (at most {GOAL_RATIO}); at rest {idle_ms:.2f} ms/s")
    return min(missed, 1)


def idle(run: Callable[[], object]) -> float:
    """Milliseconds of processor time a second that this process takes after a run."""
    run()
    time.sleep(0.5)  # the other engine's threads go to sleep as well
    start = time.process_time()
    time.sleep(REST_S)
    return (time.process_time() - start) * 1000 / REST_S


if __name__ == "__main__":
    sys.exit(main())
