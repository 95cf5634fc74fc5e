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

A run of one device is paid by its last step, which is the same sum. (An option of a contracted problem, see
:mod:`chains`, stands for several steps: its last device meets that of S, its first is that of ``S after o``.) A
layer in ``cover`` is passed; the state dies if a value that layer would have made is wanted. At the end the trees of
the graph inputs are paid.

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

from softneuro_core.tuner.dominance import Dominance
from softneuro_core.tuner.labels import Budget, Frontier, Label, State
from softneuro_core.tuner.moves import NO_SEGMENT, Demands, Moves, merged
from softneuro_core.tuner.pareto import Uses, add, front, within


class Sweep:
    """Steps of the dynamic programme over one compiled problem."""

    def __init__(self, moves: Moves, budget: Budget) -> None:
        self.moves = moves
        self.budget = budget
        self._dominance = Dominance(moves, budget)

    def start(self) -> Frontier:
        """The state before the last layer is decided: only the host's demands."""
        state = State(0, NO_SEGMENT, self.moves.demands(self.moves.problem.sinks))
        return {state: [Label(0, self.moves.zero, None, None)]}

    def step(self, layer: int, frontier: Frontier, only: int | None = None) -> Frontier:
        """The frontier after ``layer`` is decided, pruned; ``only`` forces that option."""
        found = self.expand(layer, frontier, only)
        self.budget.spend(len(found))
        return self._dominance.survivors(layer, found)

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
            for move in moves.at(layer, outputs) if only is None else moves.forced(only, outputs):
                if cover & move.cover:
                    continue
                begins = segment.get(move.device, 0) if move.device != device else 0
                state = State(cover | move.cover, move.first, merged(rest, move.inputs))
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


def _keep(found: dict[State, list[Label]], state: State, labels: list[Label], caps: Uses) -> None:
    known = found.get(state)
    found[state] = front([*known, *labels])[: None if caps else 1] if known else list(labels)
