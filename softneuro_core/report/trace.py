"""Chrome trace of a run (chrome://tracing, Perfetto): one complete event a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from softneuro_core.session import StepTime


def chrome_trace(model: str, times: Sequence[StepTime]) -> dict[str, Any]:
    """The trace as JSON data; ``ts`` and ``dur`` are microseconds, a device is a thread.

    Format: "Trace Event Format", google/trace-viewer; only ``M`` (names) and ``X`` (complete) events.
    """
    devices = list(dict.fromkeys(device_of(t) for t in times))
    events: list[dict[str, Any]] = [_name("process_name", 0, f"softneuro {model}")]
    events += [_name("thread_name", number, device) for number, device in enumerate(devices)]
    events += [
        {
            "name": t.name,
            "cat": "step",
            "ph": "X",
            "pid": 0,
            "tid": devices.index(device_of(t)),
            "ts": round(t.start_us, 3),
            "dur": round(t.us, 3),
            "args": {"routine": t.routine, "predicted_us": round(t.predicted_us, 3)},
        }
        for t in times
    ]
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def device_of(time: StepTime) -> str:
    """Name of the device a step ran on."""
    return time.routine.partition("/")[0]


def _name(kind: str, thread: int, name: str) -> dict[str, Any]:
    return {"name": kind, "ph": "M", "pid": 0, "tid": thread, "args": {"name": name}}
