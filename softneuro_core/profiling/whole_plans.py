"""What was seen of whole plans, kept with the costs: a plan chosen again on the same machine is not run again.

Owns the rows this takes; must not know how a plan is run or what is done about a disagreement.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from softneuro_core.catalog import Catalog
from softneuro_core.costs import Cost, CostDatabase, in_situ
from softneuro_core.plan import AdapterStep, Plan
from softneuro_core.profiling.in_place import InPlace
from softneuro_core.profiling.keys import CostKey, canonical, circumstances

WHOLE = "(whole plan)"


def choice(plan: Plan) -> str:
    """What a plan and those of its bodies chose, without their times, as text."""
    return canonical(_choices(plan))


def _choices(plan: Plan) -> list[Any]:
    steps: list[Any] = [
        [s.value, s.adapter, str(s.src), str(s.dst)]
        if isinstance(s, AdapterStep)
        else [list(s.layers), s.routine, [str(i) for i in s.inputs], [str(o) for o in s.outputs], dict(s.params)]
        for s in plan.steps
    ]
    return [*steps, *([name, _choices(body)] for name, body in sorted(plan.bodies.items()))]


@dataclass(frozen=True, slots=True)
class Rows:
    """Where one plan's times are kept: a key for the whole run, then one for each step. They hold for this graph's
    structure, these choices, this code and this machine; as with other costs, weights do not matter."""

    keys: Sequence[CostKey]
    context: str

    @staticmethod
    def of(plan: Plan, catalog: Catalog, threads: int, beside: Sequence[Plan] = ()) -> Rows:
        """``beside``: the plans it was run in turns with."""
        names = [WHOLE, *(step.author for step in plan.steps)]
        around = {name: circumstances(name, catalog.devices, catalog, threads) for name in sorted(plan.authors)}
        text = canonical([plan.model["graph"], choice(plan), around, *map(choice, beside)])
        digest = hashlib.sha256(text.encode()).hexdigest()[:32]
        parts = ({"kind": "in_place", "routine": name, "plan": digest, "step": i} for i, name in enumerate(names))
        return Rows([CostKey.of(part) for part in parts], in_situ(digest))


def remember(database: CostDatabase, rows: Rows, seen: InPlace) -> None:
    """Stores what was seen of the plan with these rows."""
    times = [(seen.whole_us, seen.best_us, 0.0)]
    times += [(us, us, spread) for us, spread in zip(seen.step_us, seen.spread_us, strict=True)]
    costs = [
        Cost("ok", _ns(us) or 1, _ns(least) or 1, _ns(spread), samples=seen.runs, context=rows.context)
        for us, least, spread in times
    ]
    database.put_many(dict(zip(rows.keys, costs, strict=True)))


def recall(database: CostDatabase, rows: Rows) -> InPlace | None:
    """What was stored in these rows, if all of it is there."""
    found = database.get_many(rows.keys, rows.context)
    if len(found) < len(rows.keys):
        return None
    whole, *steps = (found[key] for key in rows.keys)
    return InPlace(
        whole.time_ns / 1000,
        whole.min_ns / 1000,
        [step.time_ns / 1000 for step in steps],
        [step.spread_ns / 1000 for step in steps],
        whole.samples,
    )


def _ns(us: float) -> int:
    return round(us * 1000)
