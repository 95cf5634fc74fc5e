"""The worker's end of the pipes: one JSON object a line in, phases and one answer a line out.

Owns the protocol and the process's own safety (standard streams, watchdog, end of the parent); what a message means is
the workbench's business.
"""

from __future__ import annotations

import faulthandler
import json
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from softneuro_core.catalog import ModuleOrigin, Recipe, rebuild
from softneuro_core.importer import load
from softneuro_core.profiling.measure import Effort
from softneuro_core.profiling.workbench import HANDLERS, Workbench
from softneuro_core.spec import QParams

WATCHDOG_SLACK_S = 10.0
"""How much later than the parent's patience the worker ends itself, should the parent be gone."""


def serve() -> None:
    """Answers messages until the parent closes the pipe. Standard output of plugins goes to standard error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    source, sink = _private_streams()
    messages: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(source, messages), daemon=True).start()
    bench: Workbench | None = None
    while True:
        message = json.loads(messages.get())
        patience = float(message.get("timeout_s", 60.0)) + WATCHDOG_SLACK_S
        # A plain thread could not end a process whose kernel holds the interpreter's lock; this one needs no lock.
        faulthandler.dump_traceback_later(patience, exit=True)
        try:
            if message["op"] == "open":
                bench = open_bench(message)
                answer: dict[str, Any] = {"names": bench.names()}
            else:
                assert bench is not None, "open comes first"
                answer = HANDLERS[message["op"]](bench, message, lambda phase: _send(sink, {"phase": phase}))
        except Exception as error:  # told to the parent, which decides; the worker stays
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        faulthandler.cancel_dump_traceback_later()
        _send(sink, {"done": True, **answer})


def open_bench(message: Mapping[str, Any]) -> Workbench:
    """The workbench the first message describes."""
    parts = message["recipe"]
    recipe = Recipe(
        None if parts["only"] is None else tuple(parts["only"]),
        tuple(parts["disable"]),
        tuple(ModuleOrigin(**origin) for origin in parts["modules"]),
    )
    catalog = rebuild(recipe)
    graph = load(message["model"], catalog=catalog, passes=False)
    folder = Path(message["folder"])
    bench = Workbench(catalog, graph, folder, message["threads"], Effort(**message["effort"]))
    _attach_numbers(bench, message["qparams"])
    return bench


def _attach_numbers(bench: Workbench, qparams: Mapping[str, Any]) -> None:
    """Scale and zero point of quantised values: an ONNX file does not carry them."""
    for name, parts in qparams.items():
        scale = np.load(bench.folder / parts["scale"], allow_pickle=False)
        zero = np.load(bench.folder / parts["zero_point"], allow_pickle=False)
        if name in bench.values:
            bench.values[name].qparams = QParams(scale, zero, parts["axis"], parts["on_grid"])


def _private_streams() -> tuple[IO[str], IO[str]]:
    """The pipes under descriptors of their own; what plugins read or print by the usual numbers cannot touch them."""
    source = os.fdopen(os.dup(0), "r", encoding="utf-8")
    sink = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    sys.stdout.flush()
    os.dup2(2, 1)
    return source, sink


def _read(source: IO[str], messages: queue.SimpleQueue[str]) -> None:
    for line in source:
        messages.put(line)
    os._exit(0)  # the parent is gone: whatever is being measured is of no use to anyone


def _send(sink: IO[str], message: Mapping[str, Any]) -> None:
    try:
        sink.write(json.dumps(message) + "\n")
        sink.flush()
    except (BrokenPipeError, OSError):
        os._exit(0)
