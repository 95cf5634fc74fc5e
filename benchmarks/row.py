"""One row of a benchmark in a process of its own: one model, one thread count, every engine in turn.

``python -m benchmarks.row MODEL --threads N --engines a,b`` prints one JSON object on stdout.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.engines import Engine, Loaded, open_engine
from benchmarks.interleaved import Timing, interleave, ratio
from benchmarks.models import Model, read_model
from softneuro_core.device import cpu_features, cpu_model, usable_cores

CPU_SLACK = 1.05
"""An engine that keeps more than its threads busy, by more than this, did not play by the rules: its row is void."""


def measure(model: Model, engines: list[Engine], threads: int, rounds: int) -> dict[str, Any]:
    """Loads, checks and times every engine; the first is what the others are compared with."""
    loaded = {engine.name: engine.load(model.path, model.feeds, threads) for engine in engines}
    errors = {name: model.error(one.run(model.feeds)) for name, one in loaded.items()}
    timings = interleave({name: _runner(one, model) for name, one in loaded.items()}, rounds)
    versions = {engine.name: engine.version for engine in engines}
    first = next(iter(loaded))
    return {
        "model": model.path.stem,
        "threads": threads,
        "shapes": {name: list(array.shape) for name, array in model.feeds.items()},
        "engines": {
            name: {
                "version": versions[name],
                **_times(timings[name]),
                "void": _void(timings[name], threads),
                "error": errors[name],
                "correct": errors[name] <= model.tolerance,
                **one.facts,
            }
            for name, one in loaded.items()
        },
        "ratios": {name: ratio(timings[first], timings[name]) for name in loaded if name != first},
        "machine": machine(),
    }


def _runner(loaded: Loaded, model: Model) -> Any:
    return lambda: loaded.run(model.feeds)


def _times(timing: Timing) -> dict[str, Any]:
    return {
        "median_us": timing.median_us,
        "min_us": timing.min_us,
        "runs": timing.runs,
        "rounds_us": list(timing.rounds_us),
        "cpu_per_wall": timing.cpu_per_wall,
    }


def _void(timing: Timing, threads: int) -> str | None:
    if timing.cpu_per_wall > threads * CPU_SLACK:
        return f"kept {timing.cpu_per_wall:.2f} cores busy, was allowed {threads}"
    return None


def machine() -> Mapping[str, Any]:
    """What a reader must know to judge the numbers."""
    return {
        "cpu": cpu_model(),
        "cores": usable_cores(),
        "features": list(cpu_features()),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("model", type=Path)
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--engines", default="softneuro,onnxruntime")
    options.add_argument("--rounds", type=int, default=15)
    asked = options.parse_args()
    engines = [open_engine(name) for name in asked.engines.split(",")]
    print(json.dumps(measure(read_model(asked.model), engines, asked.threads, asked.rounds)))


if __name__ == "__main__":
    main()
