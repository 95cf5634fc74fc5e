"""Graph rewrites that are never slower: a list of values, each checked after it ran."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from softneuro_core.graph import Graph


@dataclass(frozen=True, slots=True)
class Pass:
    """One rewrite ``run(graph) -> graph``; a plugin's pass stands right after the one named ``after``."""

    name: str
    run: Callable[[Graph], Graph]
    after: str | None = None
