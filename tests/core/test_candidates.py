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


class Narrow(Routine):
    """Relu of what is stored as bfloat16, which rounds as much as that."""

    name, pattern = "cpu/of_bfloats", ("Relu",)

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        for accuracy in (4e-3, 4e-2):
            yield Offer(["cpu:bfloat16:NCHW"], ["cpu:bfloat16:NCHW"], {"accuracy": accuracy}, accuracy=accuracy)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        return FunctionKernel(np.maximum)


@pytest.mark.parametrize(("allow", "ways"), [((), 0), (("float16",), 0), (("bfloat16",), 1)])
def test_a_type_allowed_for_storage_is_allowed_its_rounding(allow: tuple[str, ...], ways: int) -> None:
    catalog = load_plugins(only=())
    catalog = replace(catalog, routines={**catalog.routines, Narrow.name: Narrow()})
    graph = load(model("g (float[4] x) => (float[4] y) { y = Relu(x) }"))
    found = enumerate_candidates(graph, catalog, 1, Request(allow=frozenset(allow)))
    assert sum(c.routine.name == Narrow.name for c in found) == ways


class Integers(Routine):
    """Relu on what is stored as int8."""

    name, pattern = "cpu/of_integers", ("Relu",)

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        yield Offer(["cpu:int8:NCHW"], ["cpu:float32:NCHW"])

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        return FunctionKernel(np.maximum)


@pytest.mark.parametrize(
    ("kind", "ways"), [("int8", 1), ("uint8", 0), ("float", 0)], ids=["its-own", "another", "none"]
)
def test_a_value_on_a_grid_may_be_stored_as_its_integers(kind: str, ways: int) -> None:
    """Storing it so is no choice of precision: nobody need allow it. Integers of another type are not its own."""
    real = "DequantizeLinear(x, s)" if kind != "float" else "Mul(x, s)"
    text = f"g ({kind}[4] x) => (float[4] y) <float s = {{0.5}}> {{ f = {real} y = Relu(f) }}"
    catalog = load_plugins(only=())
    catalog = replace(catalog, routines={**catalog.routines, "cpu/of_integers": Integers()})
    found = enumerate_candidates(load(model(text)), catalog, 1, Request())
    assert sum(c.routine.name == "cpu/of_integers" for c in found) == ways
