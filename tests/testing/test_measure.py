"""How the kit judges numbers, and what its case table holds."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from softneuro_core.errors import ModelError
from softneuro_core.graph import Value
from softneuro_core.spec import DTYPES, DType, QParams, TensorSpec
from softneuro_core.testing.build import build_graph
from softneuro_core.testing.case import Const, normal, single
from softneuro_core.testing.cases import all_cases, perf_cases
from softneuro_core.testing.measure import compare, expected

REFERENCE_FAILS = {"pad-negative", "softsign-scalar", "rnn-relu", "globalmaxpool-1d"}
"""Cases onnx.reference cannot compute; the kit skips them and says so."""


def _judge(actual: object, wanted: object, spec: str, accuracy: float = 0.0, **more: object) -> str | None:
    actual, wanted = np.asarray(actual), np.asarray(wanted)
    parsed = TensorSpec.parse(spec)
    value = Value("y", DType.parse("float32") if more else parsed.dtype, actual.shape, **more)  # type: ignore[arg-type]
    return compare(actual.astype(parsed.dtype.numpy), wanted, value, parsed, accuracy).problem


# -- numbers -----------------------------------------------------------------------------------------------------


def test_errors_count_relative_to_the_largest_output() -> None:
    assert _judge([100.0, 1.0005], [100.0, 1.0], "cpu:float32", 1e-5) is None
    problem = _judge([100.01, 1.0], [100.0, 1.0], "cpu:float32", 1e-5)
    assert problem and "1.00e-04 of the largest output" in problem and "(0,)" in problem


def test_exact_means_the_rounded_reference() -> None:
    third = 1 / 3
    assert _judge([np.float32(third)], [third], "cpu:float32") is None
    assert _judge([np.nextafter(np.float32(third), np.float32(1))], [third], "cpu:float32")


@pytest.mark.parametrize(
    ("actual", "wanted", "is_right"),
    [
        ([np.nan, 1], [np.nan, 1], True),
        ([0.0, 1], [np.nan, 1], False),
        ([np.nan, 1], [0.0, 1], False),
        ([np.inf, 1], [np.inf, 1], True),
        ([-np.inf, 1], [np.inf, 1], False),
        ([np.inf, 1], [1e300, 1], True),  # overflows the stored type
    ],
)
def test_nan_and_infinity_stand_where_they_should(actual: list[float], wanted: list[float], is_right: bool) -> None:
    assert (_judge(actual, wanted, "cpu:float32", 1e-5) is None) == is_right


def test_integers_are_counted_in_steps() -> None:
    assert _judge([1, 2, 3], [1, 2, 3], "cpu:int32") is None
    assert "1 steps off" in (_judge([1, 2, 4], [1, 2, 3], "cpu:int32") or "")
    assert _judge([1, 2, 4], [1, 2, 3], "cpu:int32", 1) is None
    assert _judge([2**62 + 1], [2**62], "cpu:int64")  # one step that float64 does not see


def test_a_real_value_in_an_integer_spec_is_judged_in_steps_of_its_scale() -> None:
    numbers = QParams(np.array(0.5, np.float32), np.array(3, np.int8))
    assert _judge([3, 5], [0.0, 1.0], "cpu:int8", qparams=numbers) is None
    assert "1 steps off" in (_judge([3, 6], [0.0, 1.0], "cpu:int8", qparams=numbers) or "")


# -- cases -------------------------------------------------------------------------------------------------------


def test_the_table_covers_what_a_cpu_plugin_needs() -> None:
    ops = {op for case in all_cases() for op in case.ops}
    wanted = "Conv ConvTranspose MaxPool AveragePool Gemm MatMul Softmax LayerNormalization BatchNormalization LSTM"
    wanted += " ReduceMean Concat Split Slice Transpose Reshape Gather Pad Resize Cast Expand Where Equal Clip Gelu"
    assert not set(wanted.split()) - ops
    assert len(all_cases()) > 900 and len(perf_cases()) > 40
    dtypes = {str(a.dtype) for case in all_cases() for a in case.inputs.values()}
    assert dtypes >= {"float32", "float64", "float16", "int8", "uint8", "int32", "int64", "bool"}
    assert {a.ndim for case in all_cases() for a in case.inputs.values()} == {0, 1, 2, 3, 4, 5}


def test_the_reference_computes_every_case_but_those_listed() -> None:
    failed, in_float32 = set(), []
    for case in all_cases():
        try:
            in_float32 += [case.name] if expected(case).slack else []
        except Exception:
            failed.add(case.name)
    assert failed <= REFERENCE_FAILS, failed - REFERENCE_FAILS
    assert len(in_float32) < 10, "most references are computed in float64"


def test_a_case_says_which_shape_it_lacks() -> None:
    wrong = single("wrong", "Conv", normal(1, 3, 5, 5), Const(normal(4, 3)))
    with pytest.raises(ModelError, match="Conv"):
        wrong.graph()


def test_other_inputs_keep_shape_dtype_and_range() -> None:
    case = single("x", "Relu", normal(3, 17))
    other = case.with_inputs(1)
    assert sorted(other.inputs["x0"].ravel()) == sorted(case.inputs["x0"].ravel())
    assert not np.array_equal(other.inputs["x0"], case.inputs["x0"])


def test_rounded_inputs_are_what_the_narrower_type_holds() -> None:
    case = single("relu", "Relu", np.array([1.0, 1.003, -3.01], np.float32))
    held = case.rounded({"x0": DTYPES["bfloat16"].numpy}).inputs["x0"]
    assert held.dtype == np.float32 and held.tolist() == [1.0, 1.0, -3.015625]
    assert case.rounded({}).inputs["x0"].tolist() == case.inputs["x0"].tolist()


def test_building_keeps_absent_inputs_attributes_and_constants() -> None:
    nodes = [
        helper.make_node("Clip", ["x", "", "high"], ["c"]),
        helper.make_node("LeakyRelu", ["c"], ["y"], alpha=0.25),
    ]
    graph = build_graph(nodes, {"x": normal(2, 3)}, {"high": np.array(1, np.float32)}, ["y"])
    clip, leaky = graph.layers
    assert clip.inputs[1] is None and clip.inputs[2] is not None and clip.inputs[2].is_constant
    assert leaky.attrs == {"alpha": 0.25} and leaky.version == 21
    assert graph.outputs[0].static_shape == (2, 3)
