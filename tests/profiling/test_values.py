"""Inputs and reference results: generated validly, computed once, stored without loss."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from softneuro_core.errors import InputError
from softneuro_core.graph import Graph, Value
from softneuro_core.profiling.values import ValueStore, generated, reference_values
from softneuro_core.spec import DTYPES, OBJECT
from softneuro_core.testing.build import build_graph


def small_graph() -> Graph:
    """ids -> Cast -> Gather rows of a table -> Relu; and an unrelated Neg."""
    nodes = [
        helper.make_node("Cast", ["ids"], ["ids64"], to=7),
        helper.make_node("Gather", ["table", "ids64"], ["rows"]),
        helper.make_node("Relu", ["rows"], ["y"]),
        helper.make_node("Neg", ["x"], ["z"]),
    ]
    inputs = {"ids": np.zeros((2, 50), np.int32), "x": np.zeros((3,), np.float32)}
    table = np.arange(7 * 4, dtype=np.float32).reshape(7, 4) - 10
    return build_graph(nodes, inputs, {"table": table}, ["y", "z"])


def value(graph: Graph, name: str) -> Value:
    return next(v for v in graph.values if v.name == name)


def test_indices_stay_within_what_they_index(tmp_path: Path) -> None:
    graph = small_graph()
    store = reference_values(graph, None, tmp_path, wanted=graph.layers)
    ids = store.array(value(graph, "ids"))
    assert ids.dtype == np.int32 and ids.min() == 0 and ids.max() == 6
    rows = store.array(value(graph, "table"))[ids]
    np.testing.assert_array_equal(store.array(value(graph, "y")), np.maximum(rows, 0))
    assert store.unchecked(graph.layers) is None


def test_only_what_is_needed_is_computed_and_once(tmp_path: Path) -> None:
    graph = small_graph()
    store = ValueStore(graph, None, tmp_path)
    store.ensure([graph.layer_by_name["Relu_2"]])
    assert store.stored(value(graph, "y")) is not None and store.stored(value(graph, "z")) is None
    files = sorted(tmp_path.iterdir())
    store.ensure([graph.layer_by_name["Relu_2"]])
    assert sorted(tmp_path.iterdir()) == files
    store.ensure_values([value(graph, "z"), value(graph, "x")])
    np.testing.assert_array_equal(store.array(value(graph, "z")), -store.array(value(graph, "x")))


def test_generated_inputs_are_the_same_in_every_run(tmp_path: Path) -> None:
    graph, stores = small_graph(), []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        stores.append(ValueStore(graph, None, tmp_path / name))
    for each in graph.inputs:
        np.testing.assert_array_equal(stores[0].array(each), stores[1].array(each))


def test_the_users_sample_is_used_and_checked(tmp_path: Path) -> None:
    graph = small_graph()
    x = np.array([1, 2, 3], np.float64)
    store = ValueStore(graph, {"x": x}, tmp_path)
    store.ensure(graph.layers)
    np.testing.assert_array_equal(store.array(value(graph, "z")), -x)
    with pytest.raises(InputError, match=r"sample input 'x' has shape \[4\], wanted \[3\]"):
        ValueStore(graph, {"x": np.zeros(4)}, tmp_path)


def test_where_the_reference_fails_a_stand_in_is_marked(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Gather", ["x", "i"], ["y"]),
        helper.make_node("Relu", ["y"], ["z"]),
    ]
    graph = build_graph(nodes, {"x": np.zeros((3,), np.float32), "i": np.zeros((2,), np.int64)}, {}, ["z"])
    store = ValueStore(graph, {"i": np.array([0, 99])}, tmp_path)
    store.ensure(graph.layers)
    gather, relu = graph.layers
    assert "out of bounds" in (store.unchecked([gather]) or "") and store.unchecked([relu]) is None
    np.testing.assert_array_equal(store.array(value(graph, "z")), np.maximum(store.array(value(graph, "y")), 0))


def test_random_operators_are_no_yardstick(tmp_path: Path) -> None:
    graph = build_graph(
        [helper.make_node("RandomNormalLike", ["x"], ["y"])], {"x": np.zeros((3,), np.float32)}, {}, ["y"]
    )
    store = ValueStore(graph, None, tmp_path)
    store.ensure(graph.layers)
    assert "random" in (store.unchecked(graph.layers) or "") and store.array(value(graph, "y")).shape == (3,)


@pytest.mark.parametrize("name", [n for n in DTYPES if n != "object"])
@pytest.mark.parametrize("shape", [(), (0, 2), (2, 3)])
def test_every_element_type_is_stored_without_loss(tmp_path: Path, name: str, shape: tuple[int, ...]) -> None:
    each = Value("v", DTYPES[name], shape)
    array = generated(each, np.random.default_rng(0))
    assert array.dtype == DTYPES[name].numpy and array.shape == shape
    store = ValueStore(Graph((), (each,), (each,)), {"v": array}, tmp_path)
    again = store.array(each)
    assert again.dtype == array.dtype and again.shape == shape and again.tobytes() == array.tobytes()


def test_host_objects_are_stored_without_loss(tmp_path: Path) -> None:
    each = Value("v", OBJECT, None)
    content = [
        np.array(["a", "\u00e4\n"], dtype=object),
        np.float32(1.5),
        [np.zeros((0, 2), np.int64), None, "text"],
        {1: np.array(2.5, DTYPES["bfloat16"].numpy)},
        True,
    ]
    again = ValueStore(Graph((), (each,), (each,)), {"v": content}, tmp_path).array(each)
    assert again[0].tolist() == ["a", "\u00e4\n"] and again[0].dtype == object
    assert again[1].dtype == np.float32 and again[1] == 1.5
    assert again[2][0].shape == (0, 2) and again[2][0].dtype == np.int64 and again[2][1:] == [None, "text"]
    assert again[3][1].dtype == DTYPES["bfloat16"].numpy and float(again[3][1]) == 2.5
    assert again[4] is True


def test_no_pickles(tmp_path: Path) -> None:
    each = Value("v", OBJECT, None)
    with pytest.raises(InputError, match="cannot be stored"):
        ValueStore(Graph((), (each,), (each,)), {"v": {"deep": object()}}, tmp_path)
