"""One engine in a process of its own, told what to do by JSON lines on stdin, answering by JSON lines on stdout.

Runs in the engine's own venv: needs numpy and that engine only. Requests (field ``do``) and their answers:

    prepare  model feeds threads folder   -> facts, prepare_s       a one-off step whose results stay in folder
    load     model feeds threads folder   -> version, load_s, first_us, facts
    outputs  file                         -> runs once, writes every output to an .npz
    round    seconds                      -> samples_us, busy_ns, wall_ns
    memory                                -> peak_bytes
    quit

Every failure is answered with ``{"failed": reason}``; whatever an engine prints goes to stderr.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks.engines import Engine, Loaded, open_engine
from benchmarks.interleaved import timed

Request = dict[str, Any]
WARM_RUNS = 3


class Host:
    """Holds one engine and at most one loaded model."""

    def __init__(self, open_named: Callable[[], Engine]) -> None:
        self._open = open_named
        self._loaded: Loaded | None = None
        self._feeds: dict[str, np.ndarray] = {}
        self._run_us = 0.0

    def answer(self, request: Request) -> dict[str, Any]:
        """What a request asks for; never raises, whatever the engine does."""
        try:
            steps = {"prepare": self._prepare, "load": self._load, "outputs": self._outputs, "round": self._round,
                     "memory": self._memory}  # fmt: skip
            return steps[request["do"]](request)
        except Exception as error:
            words = str(error).strip().splitlines()
            return {"failed": f"{type(error).__name__}: {words[0] if words else 'no reason given'}"}

    def _prepare(self, request: Request) -> dict[str, Any]:
        engine, feeds = self._open(), _feeds(request)
        start, prepare = time.perf_counter(), getattr(engine, "prepare", None)
        facts = prepare(Path(request["model"]), feeds, request["threads"], Path(request["folder"])) if prepare else {}
        return {"facts": facts, "prepare_s": time.perf_counter() - start}

    def _load(self, request: Request) -> dict[str, Any]:
        engine, model, self._feeds = self._open(), Path(request["model"]), _feeds(request)
        start = time.perf_counter()
        if (load_prepared := getattr(engine, "load_prepared", None)) is not None:
            loaded: Loaded = load_prepared(model, self._feeds, request["threads"], Path(request["folder"]))
        else:
            loaded = engine.load(model, self._feeds, request["threads"])
        load_s = time.perf_counter() - start
        self._loaded = loaded
        first_us = self._once_us()
        self._run_us = min(self._once_us() for _ in range(1 if first_us > 1e6 else WARM_RUNS))
        return {"version": engine.version, "load_s": load_s, "first_us": first_us, "facts": dict(loaded.facts)}

    def _run(self) -> Any:
        assert self._loaded is not None, "load comes first"
        return self._loaded.run(self._feeds)

    def _once_us(self) -> float:
        start = time.perf_counter_ns()
        self._run()
        return (time.perf_counter_ns() - start) / 1000

    def _outputs(self, request: Request) -> dict[str, Any]:
        outputs: dict[str, Any] = {name: np.asarray(array) for name, array in self._run().items()}
        np.savez(request["file"], **outputs)
        return {}

    def _round(self, request: Request) -> dict[str, Any]:
        count = max(1, round(request["seconds"] * 1e6 / self._run_us))
        samples, busy_ns, wall_ns = timed(self._run, count)
        self._run_us = float(np.median(samples)) / 1000
        return {"samples_us": (samples / 1000).tolist(), "busy_ns": busy_ns, "wall_ns": wall_ns}

    def _memory(self, request: Request) -> dict[str, Any]:
        return {"peak_bytes": peak_bytes()}


def peak_bytes() -> int | None:
    """Largest resident memory of this process so far; None where the system does not tell. VmHWM, because ru_maxrss
    is inherited from the process that started this one."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM")), None)


def _feeds(request: Request) -> dict[str, np.ndarray]:
    with np.load(request["feeds"]) as stored:
        return {name: stored[name] for name in stored.files}


def serve(host: Host, requests: IO[str], answers: IO[str]) -> None:
    """Answers line by line until ``quit`` or the end of the requests."""
    for line in requests:
        request = json.loads(line)
        if request["do"] == "quit":
            return
        answers.write(json.dumps(host.answer(request)) + "\n")
        answers.flush()


def main() -> None:
    """``python benchmarks/worker.py ENGINE``. File descriptor 1 is given to stderr: engines print as they like."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    serve(Host(lambda: open_engine(sys.argv[1])), sys.stdin, answers)


if __name__ == "__main__":
    main()
