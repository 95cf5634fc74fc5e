"""What was seen of whole plans, kept with the costs: a plan chosen again on the same machine is not run again.

Owns the rows this takes; must not know how a plan is run or what is done about a disagreement.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from softneuro_core.catalog import Catalog
from softneuro_core.costs import Cost, CostDatabase, in_situ
from softneuro_core.graph import Graph
from softneuro_core.plan import AdapterStep, Plan, fingerprint
from softneuro_core.profiling.in_place import InPlace
from softneuro_core.profiling.keys import CostKey, canonical, circumstances

WHOLE = "(whole plan)"


def choice(plan: Plan) -> list[Any]:
    """What a plan and those of its bodies chose, without their times."""
    steps: list[Any] = [
        [s.value, s.adapter, str(s.src), str(s.dst)]
        if isinstance(s, AdapterStep)
        else [list(s.layers), s.routine, [str(i) for i in s.inputs], [str(o) for o in s.outputs], dict(s.params)]
        for s in plan.steps
    ]
    return [*steps, *([name, choice(body)] for name, body in sorted(plan.bodies.items()))]


def keys_of(plan: Plan, graph: Graph, catalog: Catalog, threads: int) -> list[CostKey]:
    """A key for the whole run and one for each step. They hold for this graph's structure, these choices, this code
    and this machine; as with other costs, weights do not matter."""
    names = [WHOLE, *(s.adapter if isinstance(s, AdapterStep) else s.routine for s in plan.steps)]
    around = {name: circumstances(name, catalog.devices, catalog, threads) for name in sorted(_authors(plan))}
    text = canonical([fingerprint(graph)["graph"], choice(plan), around])
    digest = hashlib.sha256(text.encode()).hexdigest()[:32]
    parts = ({"kind": "in_place", "routine": name, "plan": digest, "step": i} for i, name in enumerate(names))
    return [CostKey.of(part) for part in parts]


def _authors(plan: Plan) -> set[str]:
    mine = {s.adapter if isinstance(s, AdapterStep) else s.routine for s in plan.steps}
    return mine.union(*(_authors(body) for body in plan.bodies.values()))


def remember(database: CostDatabase, keys: Sequence[CostKey], seen: InPlace) -> None:
    """Stores what was seen of the plan with these keys."""
    context = in_situ(str(keys[0].parts["plan"]))
    rows = [(seen.whole_us, seen.best_us, 0.0)]
    rows += [(us, us, spread) for us, spread in zip(seen.step_us, seen.spread_us, strict=True)]
    costs = [
        Cost("ok", _ns(us) or 1, _ns(least) or 1, _ns(spread), samples=seen.runs, context=context)
        for us, least, spread in rows
    ]
    database.put_many(dict(zip(keys, costs, strict=True)))


def recall(database: CostDatabase, keys: Sequence[CostKey]) -> InPlace | None:
    """What was stored under these keys, if all of it is there."""
    found = database.get_many(keys, in_situ(str(keys[0].parts["plan"])))
    if len(found) < len(keys):
        return None
    whole, *steps = (found[key] for key in keys)
    return InPlace(
        whole.time_ns / 1000,
        whole.min_ns / 1000,
        [step.time_ns / 1000 for step in steps],
        [step.spread_ns / 1000 for step in steps],
        whole.samples,
    )


def _ns(us: float) -> int:
    return round(us * 1000)
