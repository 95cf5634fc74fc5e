"""Operators of com.microsoft, as onnxruntime's quantiser and optimiser leave them in files.

Each has one spelling in ONNX operators (:mod:`spelling`); shapes, reference and the pass that writes it out follow from
that (:mod:`expand`). One file for each family.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from softneuro_core.graph import Graph
from softneuro_core.operators import Operator
from softneuro_core.passes import Pass
from softneuro_qint8.contrib.spelling import Spelling


@cache
def all_spellings() -> Mapping[str, Spelling]:
    """Every operator that has a spelling, by ``domain::name``."""
    from softneuro_qint8.contrib import attention, between, fused, pointwise, products

    return {s.op: s for family in (between, products, fused, pointwise, attention) for s in family.spellings()}


def operators() -> list[Operator]:
    from softneuro_qint8.contrib.expand import operators

    return operators(all_spellings())


def written_out() -> Pass:
    """The pass after which none of the operators is left."""
    from softneuro_qint8.contrib.expand import written_out

    def run(graph: Graph) -> Graph:
        return written_out(graph, all_spellings())

    return Pass("com-microsoft", run, after="quantised")
