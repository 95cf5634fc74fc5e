"""Which lane each step and each stored value takes when a plan is drawn from top to bottom, one row a step.

Pure geometry on numbers, like the graph of a version history: a value runs down its lane from the row that makes it to
the row that reads it last, and no step stands on a lane in use.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class DrawnStep:
    """What a row reads and makes; keys name stored values (a value in a spec)."""

    reads: tuple[Hashable, ...]
    makes: tuple[Hashable, ...]


@dataclass(frozen=True, slots=True)
class Edge:
    """A stored value from row ``start`` (its step is in ``start_lane``) down ``lane`` to a reader at row ``end``."""

    key: Hashable
    start: int
    start_lane: int
    lane: int
    end: int
    end_lane: int


@dataclass(slots=True)
class Drawing:
    """Lane of each row's step, all edges, and how many lanes there are."""

    lanes: list[int] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
    width: int = 1


def place(steps: Sequence[DrawnStep]) -> Drawing:
    """Lanes for all steps; greedy, the leftmost free one, a step below what it alone consumes."""
    last_reader: dict[Hashable, int] = {}
    for row, step in enumerate(steps):
        last_reader.update(dict.fromkeys(step.reads, row))
    drawing, held = Drawing(), dict[Hashable, tuple[int, int, int]]()  # key -> row, lane of step, own lane
    for row, step in enumerate(steps):
        reads = [key for key in dict.fromkeys(step.reads) if key in held]
        dying = [key for key in reads if last_reader[key] == row]
        free = sorted(held[key][2] for key in dying)
        busy = {lane for key, (_, _, lane) in held.items() if key not in dying}
        lane = free[0] if free else _leftmost(busy)
        drawing.edges += [Edge(key, *held[key], row, lane) for key in reads]
        drawing.lanes.append(lane)
        for key in dying:
            del held[key]
        for key in step.makes:
            if last_reader.get(key, -1) > row:
                own = lane if lane not in busy else _leftmost(busy)
                busy.add(own)
                held[key] = (row, lane, own)
        drawing.width = max(drawing.width, lane + 1, *(own + 1 for _, _, own in held.values()))
    return drawing


def _leftmost(busy: set[int]) -> int:
    return next(lane for lane in range(len(busy) + 1) if lane not in busy)
