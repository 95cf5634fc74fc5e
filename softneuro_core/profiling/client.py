"""The parent's end: starts workers, waits no longer than allowed, names how they died, starts them again.

Owns processes and temporary files of one profiling; must not know what is measured or why.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import numpy as np

from softneuro_core.catalog import Catalog
from softneuro_core.errors import PluginError
from softneuro_core.export import save
from softneuro_core.graph import Graph
from softneuro_core.profiling.measure import Effort
from softneuro_core.profiling.workbench import HANDLERS, Workbench

START_TIMEOUT_S = 120.0
"""For imports and for reading the model."""
WINDOWS_ACCESS_VIOLATION = 0xC0000005


class WorkerLost(Exception):
    """The worker is gone: it crashed, or was killed because it said nothing for too long."""


class WorkerProcess:
    """One worker with a graph open. ``request`` restarts it first if it was lost."""

    def __init__(self, opening: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> None:
        self._opening = dict(opening)
        self._environment = {**os.environ, **_import_path(), **(environment or {})}
        self._process: subprocess.Popen[str] | None = None
        self._errors: IO[bytes] | None = None
        self._answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.starts = 0

    def request(self, message: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
        """The worker's answer. Raises :class:`WorkerLost` with the reason (``timeout_s`` counts anew with every phase
        the worker reports), :class:`PluginError` for an error inside the worker itself."""
        if self._process is None:
            self._start()
        return self._exchange(message, timeout_s)

    def start(self) -> dict[str, Any]:
        """Starts the worker if need be and says what it can measure; raises :class:`PluginError` if it cannot."""
        return self.request({"op": "has"}, START_TIMEOUT_S)

    def _start(self) -> None:
        self.starts += 1
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed in _end)
        self._answers = queue.SimpleQueue()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "softneuro_core.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=self._environment,
                text=True,
                encoding="utf-8",
            )
            threading.Thread(target=_forward, args=(self._process, self._answers), daemon=True).start()
            self._exchange(self._opening, START_TIMEOUT_S)
        except (OSError, WorkerLost) as error:
            said = self._last_words()
            self.close()
            raise PluginError(f"the measuring process does not start: {error}{said}") from error

    def _exchange(self, message: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
        process = self._process
        assert process is not None and process.stdin is not None
        try:
            process.stdin.write(json.dumps({**message, "timeout_s": timeout_s}) + "\n")
            process.stdin.flush()
        except OSError:
            raise WorkerLost(self._obituary()) from None
        phase = "start"
        while True:
            answer = self._next(timeout_s, phase)
            if "phase" in answer:
                phase = answer["phase"]
            elif "error" in answer:
                raise PluginError(f"the measuring process reports {answer['error']}")
            elif "done" in answer:
                return answer

    def _next(self, timeout_s: float, phase: str) -> dict[str, Any]:
        try:
            line = self._answers.get(timeout=timeout_s)
        except queue.Empty:
            self.close()
            raise WorkerLost(f"hangs (> {timeout_s:g} s in {phase})") from None
        if line is None:
            raise WorkerLost(self._obituary())
        try:
            return json.loads(line)
        except ValueError:
            self.close()
            raise WorkerLost(f"garbled the measuring process's pipe: {line[:80]!r}") from None

    def _obituary(self) -> str:
        """How the process ended, and the end of it."""
        assert self._process is not None
        try:
            code = self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            code = 0
        self.close()
        if code < 0:
            return f"crashed ({_signal_name(-code)})"
        if code == WINDOWS_ACCESS_VIOLATION:
            return "crashed (access violation)"
        return f"crashed (exit code {code})" if code else "ended the process"

    def _last_words(self) -> str:
        if self._errors is None:
            return ""
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        return f"; it said: {lines[-1]}" if lines else ""

    def close(self) -> None:
        """Ends the process, whatever it does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    _close(stream)
        if self._errors is not None:
            self._errors.close()
        self._process = self._errors = None


class LocalBench:
    """The same requests answered in this process: for plugins no other process can import."""

    def __init__(self, bench: Workbench) -> None:
        self._bench = bench

    def request(self, message: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
        """The answer; ``timeout_s`` cannot be enforced here."""
        return HANDLERS[message["op"]](self._bench, message, lambda phase: None)

    def close(self) -> None:
        """Nothing to end."""


def opening(graph: Graph, catalog: Catalog, folder: Path, threads: int, effort: Effort) -> dict[str, Any]:
    """Writes the graph for workers and returns their first message. Raises :class:`ModelError` if it cannot be
    written, :class:`PluginError` for a catalog nobody can make again."""
    if catalog.recipe is None:
        raise PluginError("this catalog was not made by load_plugins")
    model = folder / "graph.onnx"
    save(graph, model, external=True)
    numbers: dict[str, Any] = {}
    for value in graph.values:
        if value.qparams is not None:
            names = {part: f"q{len(numbers)}-{part}.npy" for part in ("scale", "zero_point")}
            for part, name in names.items():
                array = np.asarray(getattr(value.qparams, part))
                np.save(folder / name, array if array.dtype.kind != "V" else array.astype(np.int32), allow_pickle=False)
            numbers[value.name] = {**names, "axis": value.qparams.axis, "on_grid": value.qparams.on_grid}
    return {
        "op": "open",
        "recipe": asdict(catalog.recipe),
        "model": str(model),
        "folder": str(folder),
        "threads": threads,
        "effort": asdict(effort),
        "qparams": numbers,
    }


def _import_path() -> dict[str, str]:
    """The worker finds what this process finds, and nothing by the accident of a working directory."""
    entries = [entry or os.getcwd() for entry in sys.path]
    return {"PYTHONPATH": os.pathsep.join(dict.fromkeys(entries)), "PYTHONSAFEPATH": "1"}


def _forward(process: subprocess.Popen[str], answers: queue.SimpleQueue[str | None]) -> None:
    assert process.stdout is not None
    with contextlib.suppress(ValueError):  # closed under us when the worker was killed
        for line in process.stdout:
            answers.put(line)
    answers.put(None)


def _close(stream: IO[str]) -> None:
    with contextlib.suppress(OSError):  # unsent bytes to a dead process
        stream.close()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
