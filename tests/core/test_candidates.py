"""Which offers a request permits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
from evaluate import model

from softneuro_core.candidates import Request, enumerate_candidates
from softneuro_core.catalog import Catalog, load_plugins
from softneuro_core.device import Target
from softneuro_core.graph import Region
from softneuro_core.importer import load
from softneuro_core.routine import FunctionKernel, Kernel, Offer, Routine


class Square(Routine):
    """Mul, once as it is and once with sums kept in float16."""

    name, pattern = "cpu/two_ways", ("Mul",)

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        specs = ["cpu:float32:NCHW"]
        yield Offer(specs * len(region.inputs), specs)
        yield Offer(specs * len(region.inputs), specs, {"sums": "half"}, accuracy=5e-4, uses=frozenset({"float16"}))

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        return FunctionKernel(np.multiply)


@pytest.mark.parametrize(
    ("request_", "ways"),
    [
        (Request(), 1),
        (Request(allow=frozenset({"float16"})), 2),
        (Request(allow=frozenset({"bfloat16"})), 1),
        (Request(accuracy="fast"), 1),
        (Request(allow=frozenset({"float16"}), accuracy=1e-9), 1),
    ],
)
def test_narrow_sums_need_their_type_allowed(request_: Request, ways: int) -> None:
    """An accuracy class alone does not admit them; the type does, with the error of its own rounding."""
    graph = load(model("g (float[2] a, float[2] b) => (float[2] y) { y = Mul(a, b) }"))
    catalog = _catalog()
    found = enumerate_candidates(graph, catalog, 1, request_)
    assert sum(c.routine.name == Square.name for c in found) == ways


def _catalog() -> Catalog:
    builtin = load_plugins(only=())
    return replace(builtin, routines={**builtin.routines, Square.name: Square()})
