"""A device that has the host's memory: nothing is moved, and nobody's value is written over."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from onnx import helper

import softneuro_core as sn
from softneuro_core.device import Buffer, Device, Target
from softneuro_core.graph import Region
from softneuro_core.hookspecs import hookimpl
from softneuro_core.plan import AdapterStep
from softneuro_core.routine import AnyBuffer, Call, Offer, Routine
from softneuro_core.spec import FLOAT32, NCHW, TensorSpec
from tests.core.models import model


@dataclass(frozen=True)
class Pane:
    """The device's own word for memory of the host."""

    bytes: np.ndarray


class Glass(Device):
    """An in-order queue over the host's memory; ``moves`` counts copies between both sides."""

    name, alignment, shares_host_memory = "glass", 256, True

    def __init__(self) -> None:
        self.moves = 0
        self.queue: list[Callable[[], None]] = []

    def alloc(self, nbytes: int) -> Pane:
        return self.share(np.zeros(nbytes, np.uint8))

    def share(self, memory: np.ndarray) -> Pane:
        return Pane(memory)

    def host_array(self, buffer: Buffer) -> np.ndarray:
        return np.ndarray(buffer.shape, buffer.dtype, buffer.memory.bytes, buffer.offset, buffer.strides)

    def upload(self, buffer: Buffer, array: np.ndarray) -> None:
        self.moves += 1
        np.copyto(buffer.array, array)

    def download(self, buffer: Buffer, array: np.ndarray) -> None:
        self.moves += 1
        self.synchronize()
        np.copyto(array, buffer.array)

    def synchronize(self) -> None:
        while self.queue:
            self.queue.pop(0)()


class Clamp(Routine):
    """Relu, where its input lies if it may."""

    name, pattern = "glass/relu", ("Relu",)

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        spec = TensorSpec("glass", FLOAT32, NCHW)
        yield Offer([spec], [spec], inplace=0)

    def prepare(self, region: Region, offer: Offer, target: Target) -> Any:
        return ClampKernel(target.device)


@dataclass(frozen=True)
class ClampKernel:
    device: Any
    scratch = constant_bytes = 0

    def bind(self, inputs: Sequence[AnyBuffer], outputs: Sequence[AnyBuffer], scratch: Buffer | None) -> Call:
        x, y = inputs[0].array, outputs[0].array  # type: ignore[union-attr]
        assert x.ctypes.data % Glass.alignment == y.ctypes.data % Glass.alignment == 0
        return Call(lambda: self.device.queue.append(lambda: np.maximum(x, 0, out=y)))


class Plugin:
    __name__ = "glass"

    def __init__(self, links: bool = True) -> None:
        self.device, self.links = Glass(), links

    @hookimpl
    def softneuro_devices(self) -> list[Device]:
        return [self.device]

    @hookimpl
    def softneuro_routines(self) -> list[Routine]:
        return [Clamp()]

    @hookimpl
    def softneuro_link(self, target: Target, calls: Sequence[Call]) -> Callable[[], None] | None:
        if target.device is not self.device or not self.links:
            return None

        def linked() -> None:
            for call in calls:
                call.run()

        return linked


X = np.random.default_rng(0).standard_normal((2, 3, 4, 4)).astype(np.float32)
BEGIN = [helper.make_node("Neg", ["x"], ["a"], "neg"), helper.make_node("Relu", ["a"], ["b"], "relu")]
READ_LATER = [*BEGIN, helper.make_node("Sub", ["a", "b"], ["y"], "sub")]
READ_ONCE = [*BEGIN, helper.make_node("Neg", ["b"], ["y"], "back")]


@pytest.fixture(params=[True, False], ids=["linked", "step by step"])
def plugin(request: pytest.FixtureRequest) -> Plugin:
    return Plugin(request.param)


def session_of(nodes: list[Any], plugin: Plugin) -> sn.Session:
    catalog = sn.load_plugins(only=(), modules=[plugin])
    graph = sn.load(model(nodes, {"x": X.shape}, ["y"]), catalog=catalog)
    plan = sn.tune(graph, threads=1, budget_s=0, force=["glass@Relu", "cpu@Neg"], catalog=catalog)
    assert [s.adapter for s in plan.steps if isinstance(s, AdapterStep)] == ["cpu/transfer"] * 2
    return sn.Session(graph, plan, catalog=catalog)


@pytest.mark.parametrize("nodes", [READ_LATER, READ_ONCE])
def test_nothing_is_moved_and_the_result_is_right(plugin: Plugin, nodes: list[Any]) -> None:
    with session_of(nodes, plugin) as session:
        for x in (X, -2 * X):
            made = session.run({"x": x})["y"]
            want = -x - np.maximum(-x, 0) if nodes is READ_LATER else -np.maximum(-x, 0)
            np.testing.assert_array_equal(made, want)
    assert plugin.device.moves == 0


def test_all_that_is_written_once_lies_in_two_places(plugin: Plugin) -> None:
    with session_of(READ_ONCE, plugin) as session:
        assert session.memory_bytes["activations"] == 2 * 512
