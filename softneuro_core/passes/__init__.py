"""Graph rewrites that are never slower: what a pass is. The list stands in :mod:`softneuro_core.passes.pipeline`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from softneuro_core.graph import Graph


@dataclass(frozen=True, slots=True)
class Pass:
    """One rewrite ``run(graph) -> graph``; a plugin's pass stands right after the one named ``after``.

    It runs on every graph, bodies of control flow included, and returns the graph it was given if nothing changed.
    """

    name: str
    run: Callable[[Graph], Graph]
    after: str | None = None
