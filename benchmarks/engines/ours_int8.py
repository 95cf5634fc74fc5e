"""SoftNeuro with every layer in integers that can be: what mixing is measured against. No bound is held."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks.engines import Arrays
from benchmarks.engines.ours_mixed import SoftNeuroMixed
from softneuro_core.accuracy.bounded import INTEGERS
from softneuro_core.accuracy.front import all_rounded
from softneuro_core.candidates import Request, enumerate_candidates
from softneuro_core.graph import Graph
from softneuro_core.plan import Plan
from softneuro_core.pricing import Pricing
from softneuro_core.rivals import settle_rivals
from softneuro_core.selection import Prices
from softneuro_core.settling import as_seen
from softneuro_core.task import select_plan
from softneuro_core.tuning import task_of


@dataclass(frozen=True, slots=True)
class SoftNeuroIntegers(SoftNeuroMixed):
    name: str = "softneuro-int8"

    def _tune_rounded(self, graph: Graph, feeds: Arrays, threads: int) -> tuple[Plan, dict[str, Any]]:
        """The fastest of all plans that round all they can."""
        with task_of(Request(INTEGERS | set(self.allow)), threads) as task:
            found = enumerate_candidates(graph, task.catalog, threads, task.request)
            with Pricing(found, task.catalog, threads, task.database, task.progress, feeds, {}) as pricing:
                pricing.measure(None)
                every = pricing.prices({})
                prices = Prices(all_rounded(every.kernels), every.adapters)
                select = lambda other: select_plan(found, other, task, {}, {})  # noqa: E731
                tuned = select(prices)
                seen = pricing.run_in_place(tuned.plan)
                tuned = tuned if seen is None else as_seen(tuned, prices, seen)
                return settle_rivals(tuned, prices, select, pricing.run_in_turns, task).plan, {}


ENGINE = SoftNeuroIntegers()
