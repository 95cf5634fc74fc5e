"""Small files that ask for too much: refused before memory or time is spent, and Ctrl-C still works."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import softneuro_core as sn
from softneuro_core.errors import ResourceError, SoftneuroError
from tests.core.models import model

LIMIT = 1 << 28


@pytest.fixture(scope="module")
def catalog() -> sn.Catalog:
    return sn.load_plugins(only=())


def _constant(name: str, values: object, dtype: type = np.int64) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.array(values, dtype)))


def _bombs() -> dict[str, onnx.ModelProto]:
    """Each asks for gigabytes from a file of a few hundred bytes."""
    big = [60_000, 60_000]
    nodes = {
        "ConstantOfShape": [_constant("s", big), helper.make_node("ConstantOfShape", ["s"], ["y"])],
        "Expand": [_constant("s", big), helper.make_node("Expand", ["x", "s"], ["y"])],
        "Tile": [_constant("s", [30_000, 30_000]), helper.make_node("Tile", ["x", "s"], ["y"])],
        "Pad": [_constant("s", [0, 0, 60_000, 60_000]), helper.make_node("Pad", ["x", "s"], ["y"])],
        "Range": [
            *(_constant(n, v, np.float32) for n, v in [("a", 0), ("b", 4e9), ("c", 1)]),
            helper.make_node("Range", ["a", "b", "c"], ["y"]),
        ],
        "Resize": [
            _constant("s", [1, 1, 60_000, 60_000]),
            _constant("k", [1, 1, 1, 1]),
            helper.make_node("Reshape", ["one", "k"], ["i"]),
            helper.make_node("Resize", ["i", "", "", "s"], ["y"]),
        ],
        "MatMul": [
            _constant("s", [60_000, 1]),
            _constant("t", [1, 60_000]),
            helper.make_node("Expand", ["one", "s"], ["a"]),
            helper.make_node("Expand", ["one", "t"], ["b"]),
            helper.make_node("MatMul", ["a", "b"], ["y"]),
        ],
    }
    one = {"one": np.ones((1, 1), np.float32)}
    return {
        name: model(made, {"x": [2, 2] if name in ("Tile", "Pad") else [1, 1]}, ["y"], one)
        for name, made in nodes.items()
    }


@pytest.mark.parametrize("name", sorted(_bombs()))
def test_bombs_are_refused_before_they_go_off(name: str, catalog: sn.Catalog) -> None:
    begin = time.process_time()
    graph = sn.load(_bombs()[name], catalog=catalog)
    assert all(v.nbytes <= 64 << 20 for v in graph.constants)
    with pytest.raises(ResourceError, match="--max-mem"):
        sn.Session(graph, threads=1, catalog=catalog, max_mem_bytes=LIMIT)
    assert time.process_time() - begin < 20  # of work, not of waiting: folding stops at a second a node


@pytest.mark.parametrize("name", sorted(_bombs()))
def test_bombs_are_refused_without_a_limit_of_the_users(name: str, catalog: sn.Catalog) -> None:
    """The machine's own memory is the limit when none is given; where it is larger, the run is legitimate."""
    value = next(v for v in sn.load(_bombs()[name], catalog=catalog).outputs)
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    if value.nbytes <= total:
        pytest.skip("this machine could hold it")
    with pytest.raises(ResourceError):
        sn.Session(_bombs()[name], threads=1, catalog=catalog)


def _endless_loop() -> onnx.ModelProto:
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Add", ["v", "v"], ["w"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, [2]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, [2]),
        ],
    )
    nodes = [_constant("m", 2**62), helper.make_node("Loop", ["m", "", "x"], ["y"], body=body)]
    inputs, outputs = ([helper.make_tensor_value_info(name, TensorProto.FLOAT, [2])] for name in "xy")
    graph = helper.make_graph(nodes, "endless", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_a_loop_without_end_is_planned_at_once_and_ended_by_ctrl_c(tmp_path: object) -> None:
    path = os.path.join(str(tmp_path), "loop.onnx")
    onnx.save(_endless_loop(), path)
    program = (
        "import signal, sys, numpy as np, softneuro_core as sn\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background jobs are born deaf to it
        "s = sn.Session(sys.argv[1], threads=1, catalog=sn.load_plugins(only=()))\n"
        "print('ready', flush=True)\n"
        "try:\n"
        "    s.run({'x': np.zeros(2, np.float32)})\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted', flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().strip() == "ready"
            time.sleep(0.5)
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    assert out.strip() == "interrupted"


def test_a_huge_input_is_refused_not_allocated(catalog: sn.Catalog) -> None:
    proto = model([helper.make_node("Relu", ["x"], ["y"])], {"x": [1 << 20, 1 << 20]}, ["y"])
    with pytest.raises(SoftneuroError):
        sn.Session(proto, threads=1, catalog=catalog, max_mem_bytes=LIMIT)
