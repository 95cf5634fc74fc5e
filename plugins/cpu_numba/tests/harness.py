"""Checks every offer of the plugin for one small graph: values, bounds, linking, thread counts, aliasing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import softneuro_cpu_numba
from onnx import helper
from softneuro_cpu_numba.walker import link

from softneuro_core.builtin.reference import RegionEvaluator
from softneuro_core.device import HostDevice, Target
from softneuro_core.encoding import decode, encode
from softneuro_core.graph import Graph, Region, Value
from softneuro_core.rig import Rig
from softneuro_core.routine import Offer, Routine
from softneuro_core.spec import TensorSpec
from softneuro_core.testing.build import build_graph

DEVICE = HostDevice()
ROUTINES: Mapping[str, Routine] = {r.name: r for r in softneuro_cpu_numba.softneuro_routines()}
SLACK = 1.0
"""Offers are held to their declared accuracy as it stands."""


def target(threads: int = 1) -> Target:
    return Target(DEVICE, threads, DEVICE.isa)


def random(*shape: int, seed: int = 0, dtype: str = "float32") -> np.ndarray:
    rng = np.random.default_rng((seed, *shape))
    if np.dtype(dtype).kind == "f":
        return rng.standard_normal(shape).astype(dtype)
    if dtype == "bool":
        return rng.random(shape) < 0.5
    return rng.integers(0 if dtype.startswith("u") else -20, 20, shape).astype(dtype)


def node(op: str, inputs: Sequence[str], outputs: Sequence[str], **attrs: Any) -> onnx.NodeProto:
    return helper.make_node(op, list(inputs), list(outputs), **attrs)


def graph_of(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, np.ndarray],
    constants: Mapping[str, np.ndarray] | None = None,
    opset: int = 17,
) -> Graph:
    return build_graph(nodes, inputs, constants or {}, [n for n in nodes[-1].output if n], opset=opset)


def offers_of(graph: Graph, threads: int = 1) -> Iterable[tuple[Routine, Region, Offer]]:
    """Every offer that covers the whole graph."""
    exit = graph.layers[-1]
    for routine in ROUTINES.values():
        for layers in dict.fromkeys(routine.regions(graph, exit)):
            region = Region(graph, tuple(layers))
            if len(layers) == len(graph.layers) and region.is_legal():
                for offer in routine.offers(region, target(threads)):
                    yield routine, region, offer


def check(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, np.ndarray],
    constants: Mapping[str, np.ndarray] | None = None,
    opset: int = 17,
    expect: Iterable[str] = (),
) -> list[tuple[str, Offer]]:
    """Runs every offer for the whole graph against the reference; names of ``expect`` must be among them."""
    graph = graph_of(nodes, inputs, constants, opset)
    found = []
    for routine, region, offer in offers_of(graph):
        operands = zip(region.inputs, offer.inputs, strict=True)
        arrays = [_held(inputs[value.name], value, spec) for value, spec in operands]
        wanted = RegionEvaluator(region)(arrays)
        _check_offer(routine, region, offer, arrays, wanted)
        found.append((routine.name, offer))
    missing = set(expect) - {name for name, _ in found}
    assert not missing, f"no offer from {sorted(missing)}; got {[n for n, _ in found]}"
    return found


def _held(array: Any, value: Value, spec: TensorSpec) -> Any:
    """What is left of an array stored as ``spec``, in the value's own type."""
    return array if value.is_object else decode(encode(array, value, spec), value, spec)


def run_first(graph: Graph, arrays: Sequence[Any]) -> np.ndarray:
    """Output 0 as the first offer computes it."""
    return run_offer(*next(iter(offers_of(graph))), arrays)


def run_offer(routine: Routine, region: Region, offer: Offer, arrays: Sequence[Any]) -> np.ndarray:
    """Output 0 as this offer computes it."""
    kernel = routine.prepare(region, offer, target())
    inputs = list(zip(region.inputs, offer.inputs, strict=True))
    outputs = list(zip(region.outputs, offer.outputs, strict=True))
    rig = Rig(kernel, inputs, outputs, {"cpu": DEVICE}, routine_device="cpu")
    rig.load(arrays)
    rig.run()
    return rig.outputs()[0]


def _check_offer(routine: Routine, region: Region, offer: Offer, arrays: Sequence[Any], wanted: Sequence[Any]) -> None:
    label = f"{routine.name} {[str(s) for s in offer.inputs]} -> {[str(s) for s in offer.outputs]} {dict(offer.params)}"
    inputs = list(zip(region.inputs, offer.inputs, strict=True))
    outputs = list(zip(region.outputs, offer.outputs, strict=True))
    made: list[list[np.ndarray]] = []
    for threads, alias in [(1, None), (2, None)] + ([(1, offer.inplace)] if offer.inplace is not None else []):
        kernel = routine.prepare(region, offer, target(threads))
        rig = Rig(kernel, inputs, outputs, {"cpu": DEVICE}, routine_device="cpu", alias=alias)
        for linked in (False, True):
            rig.load(arrays)
            rig.poison()
            (rig.linked(link, target(threads), [0]) if linked else rig.calls[0].run)()
            made.append([_held(array, *operand) for array, operand in zip(rig.outputs(), outputs, strict=True)])
            assert rig.zones_intact() is None, f"{label}: {rig.zones_intact()}"
            assert rig.inputs_intact() is None, f"{label}: {rig.inputs_intact()}"
    for result in made:
        for number, (got, want) in enumerate(zip(result, wanted, strict=True)):
            _compare(f"{label} output {number}", got, want, offer.accuracy)
            if offer.deterministic:
                np.testing.assert_array_equal(got, made[0][number], f"{label}: runs differ")


def _compare(label: str, got: np.ndarray, want: np.ndarray, accuracy: float) -> None:
    assert got.shape == want.shape and got.dtype == want.dtype, f"{label}: {got.dtype}{got.shape}"
    if got.dtype.kind != "f":
        worst = np.max(np.abs(got.astype(np.int64) - want.astype(np.int64)), initial=0)
        assert worst <= accuracy, f"{label}: off by {worst}"
        return
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want), label)
    finite = np.isfinite(want)
    np.testing.assert_array_equal(got[~finite], want[~finite], label)
    scale = float(np.max(np.abs(want[finite]), initial=0.0)) or 1.0
    error = float(np.max(np.abs(got[finite].astype(np.float64) - want[finite]), initial=0.0)) / scale
    assert error <= max(accuracy, 1e-7 if accuracy else 0.0) * SLACK, f"{label}: error {error:.2e}"
