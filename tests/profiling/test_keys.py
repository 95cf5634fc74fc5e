"""Cost keys: equal for what runs alike, different for what does not, free of names and places."""

from __future__ import annotations

import getpass
import platform
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from onnx import helper

sys.path.insert(0, str(Path(__file__).parent))

from setting import catalog, jobs, relus

from softneuro_core.costs import CostKey, adapter_key, cost_key
from softneuro_core.graph import Graph, Region
from softneuro_core.profiling.keys import layer_signature
from softneuro_core.routine import Offer
from softneuro_core.spec import NHWC, QParams, TensorSpec
from softneuro_core.testing.build import build_graph

RNG = np.random.default_rng(5)


def conv(weight: np.ndarray, x: tuple[int, ...] = (1, 3, 8, 8), **attrs: object) -> str:
    node = helper.make_node("Conv", ["x", "w"], ["y"], **attrs)
    graph = build_graph([node], {"x": np.zeros(x, np.float32)}, {"w": weight}, ["y"])
    return layer_signature(graph, graph.layers[0])


def test_weights_do_not_count_but_shapes_and_attributes_do() -> None:
    plain = conv(RNG.standard_normal((4, 3, 3, 3), np.float32))
    assert plain == conv(RNG.standard_normal((4, 3, 3, 3), np.float32))
    others = [
        conv(np.zeros((5, 3, 3, 3), np.float32)),
        conv(np.zeros((4, 3, 1, 3), np.float32)),
        conv(np.zeros((4, 3, 3, 3), np.float32), (1, 3, 9, 8)),
        conv(np.zeros((4, 3, 3, 3), np.float32), strides=[2, 2]),
        conv(np.zeros((4, 3, 3, 3), np.float32), pads=[1, 1, 1, 1]),
    ]
    assert len({plain, *others}) == 6


def binary(op: str, constant: np.ndarray) -> str:
    graph = build_graph(
        [helper.make_node(op, ["x", "c"], ["y"])], {"x": np.ones((2, 6), np.float32)}, {"c": constant}, ["y"]
    )
    return layer_signature(graph, graph.layers[0])


def test_constants_that_choose_the_code_count() -> None:
    reshape = [binary("Reshape", np.array(shape)) for shape in ([3, 4], [4, 3], [12, 1], [3, 4])]
    assert len(set(reshape)) == 3
    powers = [binary("Pow", np.array(power, np.float32)) for power in (2.0, 0.5, 2.3, 2.4)]
    assert len(set(powers)) == 3 and powers[2] == powers[3]


def test_zero_points_count_by_being_zero() -> None:
    def signature(zero: int, scale: float = 0.1) -> str:
        node = helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"])
        constants = {"s": np.array(scale, np.float32), "z": np.array(zero, np.uint8)}
        graph = build_graph([node], {"x": np.zeros((2, 2), np.float32)}, constants, ["y"])
        return layer_signature(graph, graph.layers[0])

    assert signature(3) == signature(128, 0.7) != signature(0)


def test_structure_counts_and_names_do_not() -> None:
    def chain(names: tuple[str, str, str], twice: bool) -> str:
        nodes = [
            helper.make_node("Relu", [names[0]], [names[1]]),
            helper.make_node("Add", [names[1], names[1] if twice else names[0]], [names[2]]),
        ]
        graph = build_graph(nodes, {names[0]: np.zeros((2, 2), np.float32)}, {}, [names[2]])
        found = catalog()
        offer = Offer(("cpu:float32",) * (1 if twice else 2), ("cpu:float32",))  # type: ignore[arg-type]
        return cost_key(Region(graph, graph.layers), "cpu/reference", offer, found, 1).text

    assert chain(("a", "b", "c"), True) == chain(("p", "q", "r"), True) != chain(("a", "b", "c"), False)


def test_everything_that_changes_code_or_speed_changes_the_key() -> None:
    found, graph = catalog("planted_routines"), relus((2, 3))
    job = jobs(graph, found, ["cpu/relu"])[0]
    region = Region(graph, graph.layers)
    owner = replace(found.owners["cpu/relu"], code_hash="edited")
    edited = replace(found, owners={**found.owners, "cpu/relu": owner})
    keys = [
        job.key,
        cost_key(region, "cpu/relu", job.offer, found, 2),
        cost_key(region, "cpu/slow", job.offer, found, 1),
        cost_key(region, "cpu/relu", replace(job.offer, params={"tile": 4}), found, 1),
        cost_key(region, "cpu/relu", replace(job.offer, strided=frozenset({0})), found, 1),
        cost_key(region, "cpu/relu", job.offer, edited, 1),
        cost_key(Region(relus((2, 4)), relus((2, 4)).layers), "cpu/relu", job.offer, found, 1),
    ]
    assert len({key.digest for key in keys}) == len(keys)
    assert CostKey.of(job.key.parts) == job.key


def test_adapter_keys() -> None:
    found = catalog()
    graph, other = relus((1, 2, 3, 4)), relus((1, 2, 3, 4), (5,))
    adapter = found.adapters["cpu/relayout"]
    plain = TensorSpec.parse("cpu:float32")
    last = replace(plain, layout=NHWC)
    key = adapter_key(graph.inputs[0], adapter, plain, last, found, 1)
    assert key == adapter_key(other.inputs[0], adapter, plain, last, found, 1)
    assert key != adapter_key(graph.inputs[0], adapter, last, plain, found, 1)
    quantised = relus((1, 2, 3, 4)).inputs[0]
    quantised.qparams = QParams(np.array(0.1, np.float32), np.array(0, np.int8))
    assert key != adapter_key(quantised, adapter, plain, last, found, 1)


def test_no_names_of_people_hosts_or_places() -> None:
    found, graph = catalog("planted_routines"), relus((2, 3))
    for job in jobs(graph, found):
        words = set(re.split(r"[^\w./\\-]+", job.key.text))
        assert not words & {platform.node(), getpass.getuser()}
        assert not any(word.startswith((str(Path.home()), str(Path(__file__).parent))) for word in words)
        assert set(job.key.parts["libraries"]) >= {"python", "numpy", "onnx", "core"}


def test_bodies_of_control_flow_count() -> None:
    def conditional(value: float) -> Graph:
        constant = helper.make_node("Constant", [], ["c"], value_float=value)
        body = [helper.make_graph([constant], n, [], [helper.make_tensor_value_info("c", 1, [])]) for n in "te"]
        node = helper.make_node("If", ["p"], ["y"], then_branch=body[0], else_branch=body[1])
        model = helper.make_model(
            helper.make_graph(
                [node],
                "g",
                [helper.make_tensor_value_info("p", 9, [])],
                [helper.make_tensor_value_info("y", 1, [])],
            ),
            opset_imports=[helper.make_opsetid("", 17)],
            ir_version=8,
        )
        from softneuro_core.importer import load

        return load(model)

    def signature(value: float) -> str:
        graph = conditional(value)
        return layer_signature(graph, graph.layers[0])

    assert signature(1.0) == signature(1.0) and '"If"' in signature(1.0)
