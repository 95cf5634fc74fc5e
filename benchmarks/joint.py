"""Plans over several devices beside those of one device alone: whether the joint one is ever slower, and its split.

Must not know how engines are run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.interleaved import ratio, timing_from
from benchmarks.precision import eligible

JOINT, ALONE = "softneuro", ("softneuro-cpu", "softneuro-opencl")
WITH_DEVICE = (JOINT, "softneuro-opencl")


def joint_of(engines: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    """The joint plan's time over that of the better plan of one device (median of rounds, 95 %), which that is, and
    how many steps the joint plan has on each device; None where one of them did not run, or does not count."""
    found = {name: engines.get(name, {"failed": "absent"}) for name in (JOINT, *ALONE)}
    if not all(map(eligible, found.values())):
        return None
    better = min(ALONE, key=lambda name: float(found[name]["median_us"]))
    over = ratio(timing_from(found[JOINT]), timing_from(found[better]))
    return {"over": over, "better": better, "devices": found[JOINT]["devices"], "transfers": found[JOINT]["transfers"]}


def told(row: Mapping[str, Any]) -> str:
    """One line on a row's joint plan."""
    joint = row["joint"]
    middle, low, high = joint["over"]
    split = ", ".join(f"{count} steps on {device}" for device, count in sorted(joint["devices"].items()))
    return (
        f"  {row['model']:20} {row['threads']} threads  joint {middle:.2f} ({low:.2f}-{high:.2f}) of the time of"
        f" {joint['better']}: {split}, {joint['transfers']} transfers"
    )
