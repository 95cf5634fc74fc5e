"""Tuning within a memory budget: the fastest plan whose packed weights and activations fit together.

Packed weights add up, so selection bounds them exactly; what activations and scratch take is known only of a whole
plan. So a plan is chosen freely, and if it does not fit, again with its weights held to what its activations leave.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol, TypeVar

from softneuro_core.candidates import Request
from softneuro_core.catalog import Catalog
from softneuro_core.errors import ResourceError, SelectionError
from softneuro_core.graph import Graph
from softneuro_core.plan import Plan
from softneuro_core.program import check_values, prepare

MOST_ROUNDS = 4
"""Other routines need other scratch, so what is left for weights may have to be found more than once."""


class Planned(Protocol):
    """What a tuning gives."""

    @property
    def plan(self) -> Plan: ...


Tuned = TypeVar("Tuned", bound=Planned)


def tune_within(
    max_mem_bytes: int, graph: Graph, catalog: Catalog, request: Request, tune: Callable[[Request], Tuned]
) -> tuple[Tuned, tuple[str, ...]]:
    """What ``tune`` answers to ``request``, or to the first tighter ``constant_bytes`` limit that makes it fit, with a
    note that says so.

    Raises :class:`ResourceError` if no plan is found that needs at most ``max_mem_bytes``.
    """
    check_values(graph, max_mem_bytes)
    asked, needed = request, 0
    for _ in range(MOST_ROUNDS):
        try:
            tuned = tune(asked)
        except SelectionError:
            if asked is request:
                raise
            break
        program = prepare(graph, tuned.plan, catalog)
        needed = program.constant_bytes + program.activation_bytes
        if needed <= max_mem_bytes:
            return tuned, () if asked is request else (_note(asked, program.activation_bytes),)
        left = max_mem_bytes - program.activation_bytes
        if left <= 0:
            break
        before = asked.limits.get("constant_bytes", float("inf"))
        asked = replace(request, limits={**request.limits, "constant_bytes": min(left, before - 1)})
    cause = f"the leanest plan found takes {needed / 2**20:,.1f} MiB, the limit is {max_mem_bytes / 2**20:,.1f} MiB"
    raise ResourceError(cause, file=graph.name, remedy="raise --max-mem, or use a smaller shape or batch")


def _note(asked: Request, activations: int) -> str:
    limit = asked.limits["constant_bytes"] / 2**20
    return f"weights are held to {limit:,.1f} MiB beside {activations / 2**20:,.1f} MiB of activations (--max-mem)"
