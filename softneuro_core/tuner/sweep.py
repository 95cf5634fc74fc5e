"""The dynamic programme: states, how a layer leads from one set of them to the next, and which may be forgotten.

Layers are walked from last to first. Before layer ``i`` is decided, all that matters of the steps already chosen
(every exit above ``i``) is the state

    cover    which layers up to ``i`` they cover already (the other layers of multi-layer regions),
    device   of the following step, if that device has a fixed cost per segment,
    demands  for each value still to be made, the set of specs wanted so far,

and what was paid: the times of those steps, of the conversion trees of the values they make, and the segments that
start among them. With ``f`` the least paid per state,

    f(S after o) = min over S, o with exit i of  f(S) + time(o) + sum of tree(spec made, specs wanted in S)
                                                      + segment(device of o) if it is not the device of S.

A run of one device is paid by its last step, which is the same sum. A layer in ``cover`` is passed; the state dies
if a value that layer would have made is wanted. At the end the trees of the graph inputs are paid.

Forgetting states (*dominance*): state b beats a if every completion of a can be turned into one of b that is no
dearer in total. Take any completion of a; b can use the same steps if it covers the same layers and demands no
value a does not (else that value might not be made). The sum then differs in three places only:

1. what was paid: ``f(b)`` against ``f(a)``;
2. the segment that ends before the following step: if the devices differ, b pays at most ``segment(device of a)``
   more (its own device may only save);
3. per value, the tree. Let the completion add demands ``X`` and make the value in ``s``. A tree from s to ``A + X``
   followed by conversions from ``A`` to the rest of ``B`` reaches ``B + X``, so
   ``tree(s, B + X) - tree(s, A + X) <= extension(A -> B)``. If no remaining layer reads the value (it is *closed*),
   X is empty and the difference is at most ``max over s of tree(s, B) - tree(s, A)``, which may be negative.

So a is forgotten if ``f(b) + segment term + sum of these bounds <= f(a)``; with bounded uses, if that holds in every
component for one choice of extensions. For closed values ``least(A) = min over s of tree(s, A)`` is due in any case:
adding it to ``f`` before sorting makes every remaining difference non-negative (``max (tb - ta) >= min tb - min ta``),
so that only states earlier in the order can beat a later one. Dominance is transitive through completions, and the
order is total, so the survivors always include one with an optimal completion.

Field names for all this: dynamic programming over a path decomposition of a PBQP instance (A. Anderson, D. Gregg,
"Optimal DNN primitive selection with partitioned boolean quadratic programming", CGO 2018) with the covers of
Collage (B. Jeon et al., PACT 2022) and shared conversions.
"""

from __future__ import annotations

import time as clock
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from softneuro_core.tuner.moves import NO_SEGMENT, Choice, Demands, Move, Moves, merged
from softneuro_core.tuner.pareto import Uses, add, front, within
from softneuro_core.tuner.steiner import GREEDY_ABOVE

UNREACHABLE = 1 << 62
"""More nanoseconds than any plan costs (146 years)."""


class State(NamedTuple):
    """What matters of the steps chosen so far; see the module docstring."""

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


class Sweep:
    """Steps of the dynamic programme over one compiled problem."""

    def __init__(self, moves: Moves, budget: Budget) -> None:
        self.moves = moves
        self.budget = budget
        count = len(moves.value_of)
        self._open: list[dict[tuple[int, int], int]] = [{} for _ in range(count)]
        self._closed: list[dict[tuple[int, int], int]] = [{} for _ in range(count)]
        self._least: list[dict[int, int]] = [{} for _ in range(count)]

    def start(self) -> Frontier:
        """The state before the last layer is decided: only the host's demands."""
        state = State(0, NO_SEGMENT, self.moves.demands(self.moves.problem.sinks))
        return {state: [Label(0, self.moves.zero, None, None)]}

    def step(self, layer: int, frontier: Frontier, only: int | None = None) -> Frontier:
        """The frontier after ``layer`` is decided, pruned; ``only`` forces that option."""
        found = self.expand(layer, frontier, only)
        self.budget.spend(len(found))
        return self.prune(layer, found)

    def finish(self, frontier: Frontier) -> list[Label]:
        """The front of complete plans: graph inputs converted, nothing left wanted."""
        ends = (
            Label(label.time + choice.time, uses, label, choice)
            for state, labels in frontier.items()
            for choice in self.moves.sources(state.demands)
            for label in labels
            if within(uses := add(label.uses, choice.uses), self.moves.caps)
        )
        return front(ends)

    def expand(self, layer: int, frontier: Frontier, only: int | None = None) -> dict[State, list[Label]]:
        """Every state one step further, with the front of ways to it."""
        moves, segment, caps, bit = self.moves, self.moves.segment, self.moves.caps, 1 << layer
        found: dict[State, list[Label]] = {}
        for (cover, device, demands), labels in frontier.items():
            split = self._made_here(layer, demands)
            if split is None:
                continue
            if cover & bit:
                if not split and only is None:
                    _keep(found, State(cover ^ bit, device, demands), labels, caps)
                continue
            outputs, rest = demands[:split], demands[split:]
            for move in moves.at(layer, outputs) if only is None else self._forced(layer, only, outputs):
                if cover & move.cover:
                    continue
                begins = segment.get(move.device, 0) if move.device != device else 0
                state = State(cover | move.cover, move.device, merged(rest, move.inputs))
                if not caps:
                    choice, label = move.choices[0], labels[0]
                    paid = label.time + choice.time + begins
                    known = found.get(state)
                    if known is None:
                        found[state] = [Label(paid, (), label, choice)]
                    elif paid < known[0].time:
                        known[0] = Label(paid, (), label, choice)
                    continue
                grown = [
                    Label(label.time + choice.time + begins, uses, label, choice)
                    for label in labels
                    for choice in move.choices
                    if within(uses := add(label.uses, choice.uses), caps)
                ]
                if grown:
                    _keep(found, state, grown, caps)
        return found

    def prune(self, layer: int, found: Mapping[State, list[Label]]) -> Frontier:
        """The states of ``found`` (after ``layer``) that no other one beats."""
        alive = [
            (label.time + least, state, label)
            for state, labels in found.items()
            if (least := self._due(layer, state.demands)) < UNREACHABLE
            for label in labels
        ]
        if len(alive) == 1:
            return {alive[0][1]: [alive[0][2]]}
        alive.sort(key=lambda item: (item[0], item[2].uses))
        beats = self._beats_within_limits if self.moves.caps else self._beats
        kept: dict[State, list[Label]] = {}
        rivals: dict[int, list[tuple[int, State, Label]]] = {}
        for item in alive:
            others = rivals.setdefault(item[1].cover, [])
            if not any(beats(layer, other, item) for other in others):
                others.append(item)
                kept.setdefault(item[1], []).append(item[2])
            if len(others) % 64 == 0:
                self.budget.check()
        return kept

    def _forced(self, layer: int, option: int, outputs: Demands) -> tuple[Move, ...]:
        moves = self.moves
        choices = moves.choices([option], outputs)
        if not choices:
            return ()
        chosen = moves.problem.options[option]
        cover = sum(1 << other for other in chosen.layers[:-1])
        return (Move(cover, moves.device(chosen.device), moves.demands(chosen.inputs), tuple(choices)),)

    def _made_here(self, layer: int, demands: Demands) -> int | None:
        """How many demands (a prefix) are on what ``layer`` makes; None if one can no longer be met."""
        made_by = self.moves.made_by
        if demands and made_by[demands[0][0]] > layer:
            return None
        count = 0
        for rank, _ in demands:
            if made_by[rank] != layer:
                break
            count += 1
        return count

    def _beats(self, layer: int, better: tuple[int, State, Label], item: tuple[int, State, Label]) -> bool:
        slack = item[0] - better[0]
        state, other = item[1], better[1]
        if state.device != other.device:
            slack -= self.moves.segment.get(state.device, 0)
            if slack < 0:
                return False
        first_read = self.moves.first_read
        own = iter(state.demands)
        for rank, mask in other.demands:
            for held_rank, held in own:
                if held_rank >= rank:
                    break
            else:
                return False
            if held_rank != rank:
                return False
            if held != mask:
                table = self._closed[rank] if first_read[rank] >= layer else self._open[rank]
                gap = table.get((held, mask))
                if gap is None:
                    gap = self._gap(layer, rank, held, mask)
                slack -= gap
                if slack < 0:
                    return False
        return True

    def _gap(self, layer: int, rank: int, held: int, wanted: int) -> int:
        """Bound of point 3 of the module docstring, less the difference in what is due anyway."""
        trees = self.moves.trees[rank]
        if self._is_exact(layer, rank, held) and self._is_exact(layer, rank, wanted):
            gap = max(self._differences(rank, held, wanted))
            gap = min(gap, UNREACHABLE) - self._least_of(rank, wanted) + self._least_of(rank, held)
        else:
            found = trees.extension(held, wanted)
            gap = found[0].time if found else UNREACHABLE
            gap += self._due(layer, ((rank, held),)) - self._due(layer, ((rank, wanted),))
        (self._closed if self._is_closed(layer, rank) else self._open)[rank][held, wanted] = gap
        return gap

    def _differences(self, rank: int, held: int, wanted: int) -> Iterator[int]:
        trees = self.moves.trees[rank]
        for spec in self.moves.makers[rank]:
            if before := trees.front(spec, held):
                after = trees.front(spec, wanted)
                yield after[0].time - before[0].time if after else UNREACHABLE

    def _is_closed(self, layer: int, rank: int) -> bool:
        """True if no layer before ``layer`` reads the value."""
        return self.moves.first_read[rank] >= layer

    def _is_exact(self, layer: int, rank: int, mask: int) -> bool:
        """True if the tree to ``mask`` is used as a bound: closed, and the set small (its tree costs 3^k)."""
        return not self.moves.caps and self._is_closed(layer, rank) and mask.bit_count() <= GREEDY_ABOVE

    def _due(self, layer: int, demands: Iterable[tuple[int, int]]) -> int:
        """What every completion pays for conversions of closed values; unreachable if it cannot."""
        total = 0
        for rank, mask in demands:
            least = self._least_of(rank, mask)
            if least >= UNREACHABLE:
                return UNREACHABLE
            if self._is_exact(layer, rank, mask):
                total += least
        return total

    def _least_of(self, rank: int, mask: int) -> int:
        """The cheapest tree to ``mask`` from any spec the value may be made in (0 for a large set it can reach)."""
        found = self._least[rank].get(mask)
        if found is None:
            trees = self.moves.trees[rank]
            if mask.bit_count() <= GREEDY_ABOVE:
                ways = [tree.time for spec in self.moves.makers[rank] for tree in trees.front(spec, mask)[:1]]
            else:
                singles = [1 << bit for bit in range(mask.bit_length()) if mask >> bit & 1]
                ways = [0 for spec in self.moves.makers[rank] if all(trees.front(spec, one) for one in singles)]
            found = self._least[rank][mask] = min(ways, default=UNREACHABLE)
        return found

    def _beats_within_limits(
        self, layer: int, better: tuple[int, State, Label], item: tuple[int, State, Label]
    ) -> bool:
        """The same in every component: some choice of extensions keeps time and uses within the difference."""
        state, other = item[1], better[1]
        time = item[2].time - better[2].time
        if state.device != other.device:
            time -= self.moves.segment.get(state.device, 0)
        if time < 0 or not within(better[2].uses, item[2].uses):
            return False
        spare = tuple(a - b for a, b in zip(item[2].uses, better[2].uses, strict=True))
        held = dict(state.demands)
        spent: list[tuple[int, Uses]] = [(0, self.moves.zero)]
        for rank, mask in other.demands:
            if rank not in held:
                return False
            if held[rank] != mask:
                spent = [
                    (paid + tree.time, sums)
                    for paid, uses in spent
                    for tree in self.moves.trees[rank].extension(held[rank], mask)
                    if paid + tree.time <= time and within(sums := add(uses, tree.uses), spare)
                ]
                if not spent:
                    return False
        return True


def _keep(found: dict[State, list[Label]], state: State, labels: list[Label], caps: Uses) -> None:
    known = found.get(state)
    found[state] = front([*known, *labels])[: None if caps else 1] if known else list(labels)
