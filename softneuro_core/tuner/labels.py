"""States, what was paid to reach them, and the budget that counts them."""

from __future__ import annotations

import time as clock
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from softneuro_core.tuner.moves import Choice, Demands
from softneuro_core.tuner.pareto import Uses


class State(NamedTuple):
    """What matters of the steps chosen so far; see :mod:`sweep`."""

    cover: int
    device: int
    demands: Demands


class Label(NamedTuple):
    """What was paid on the way to a state, and the way."""

    time: int
    uses: Uses
    back: Label | None
    choice: Choice | None

    def choices(self) -> Iterator[Choice]:
        """The choices made, in step order (that of the graph inputs first)."""
        label: Label | None = self
        while label is not None:
            if label.choice is not None:
                yield label.choice
            label = label.back


Frontier = Mapping[State, list[Label]]
"""Per state the front of labels: one, unless uses are bounded."""


class OutOfBudget(Exception):
    """The sweep would take more states or time than allowed."""


class Budget:
    """Counts states and watches the clock."""

    def __init__(self, states: int | None = None, seconds: float | None = None) -> None:
        self.states = 0
        self._most = states
        self._deadline = None if seconds is None else clock.monotonic() + seconds

    def spend(self, states: int) -> None:
        """Raises :class:`OutOfBudget` once either is used up."""
        self.states += states
        self.check()

    def check(self) -> None:
        if self._most is not None and self.states > self._most:
            raise OutOfBudget
        if self._deadline is not None and clock.monotonic() > self._deadline:
            raise OutOfBudget
