"""Files that break an operator's rules, or need what is not there: one error with file, layer, cause and remedy."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

import softneuro_core as sn
from softneuro_core.catalog import Catalog, load_plugins
from softneuro_core.errors import ModelError, UnsupportedOperatorError
from softneuro_core.testing.case import Const

BYTES, FLOATS = np.zeros((2, 4), np.uint8), np.zeros((2, 4), np.float32)
SCALE, ZERO, SIGNED = Const(np.float32(0.02)), Const(np.uint8(3)), Const(np.int8(3))
ONE = (BYTES, SCALE, ZERO, SCALE, ZERO)
TOKENS, WEIGHTS, BIAS = np.zeros((2, 5, 8), np.float32), Const(np.zeros((8, 24), np.float32)), Const(np.zeros(24, "f4"))


def vector(*numbers: float) -> Const:
    return Const(np.array(numbers, np.float32))


BROKEN: list[tuple[str, tuple[Any, ...], dict[str, Any], str]] = [
    ("QLinearAdd", ONE[:3], {}, "takes 7 to 8 inputs, not 3"),
    ("QLinearSigmoid", (*ONE, ZERO), {}, "takes 4 to 5 inputs, not 6"),
    ("QLinearSigmoid", (BYTES, None, ZERO, SCALE, ZERO), {}, r"input 1 \(X_scale\) is absent"),
    ("QLinearSigmoid", (FLOATS, *ONE[1:]), {}, "input X is float32, it must be int8 or uint8"),
    ("QLinearSigmoid", (BYTES, SCALE, SIGNED, SCALE, ZERO), {}, "X_zero_point is int8, it must be uint8"),
    ("QLinearSigmoid", (BYTES, SCALE, ZERO, SCALE, SIGNED), {}, "Y_zero_point is int8, it must be uint8"),
    ("QLinearSigmoid", (BYTES, vector(1, 2), ZERO, SCALE, ZERO), {}, r"X_scale is \[2\], not one number"),
    ("QLinearLeakyRelu", ONE, {"alpha": 1}, "attribute 'alpha' is 1, it must be a number"),
    ("QLinearLeakyRelu", ONE, {"slope": 1.0}, "there is no attribute 'slope'"),
    ("QLinearSoftmax", ONE, {}, "needs the attribute 'opset'"),
    ("QLinearSigmoid", ONE, {"outputs": ("y0", "y1")}, "has 1 to 1 outputs, not 2"),
    ("QLinearConcat", (SCALE, ZERO, BYTES, SCALE), {"axis": 0}, "three inputs for each part, not 4 inputs"),
    ("QLinearConcat", (SCALE, ZERO, BYTES, None, ZERO), {"axis": 0}, r"input 3 \(inputs\) is absent"),
    ("QLinearConcat", (SCALE, ZERO, BYTES, SCALE, ZERO), {"axis": 5}, "its inputs do not fit"),
    ("QGemm", (*ONE[:3], BYTES, SCALE, ZERO), {}, "its inputs do not fit: Gemm"),
    ("QGemm", (*ONE[:3], BYTES.T.copy(), SCALE, ZERO, None, SCALE), {}, "belong together, one is absent"),
    ("QGemm", (*ONE[:3], BYTES.T.copy(), vector(1, 2, 3), ZERO), {}, r"b_scale .* \[1, 3\] elements, not 1 or 2"),
    ("MatMulIntegerToFloat", (BYTES, BYTES.T.copy(), vector(1, 2), SCALE), {}, r"a_scale is \[2\], not one number"),
    ("DequantizeLinear", (BYTES, vector(1, 2)), {"axis": 4}, "axis 4 is none of a tensor of rank 2"),
    ("FusedGemm", (FLOATS, FLOATS.T.copy()), {"activation": "Relu", "activation_alpha": 1.0}, "0 parameters, not 1"),
    ("EmbedLayerNormalization", (np.zeros((2, 5), "i4"), np.zeros((2, 5), "i4"), *[FLOATS] * 2, None, BIAS, BIAS), {},
     "segment_ids and segment_embedding belong together"),
    ("Attention", (TOKENS, WEIGHTS, BIAS), {}, "needs the attribute 'num_heads'"),
    ("Attention", (TOKENS, WEIGHTS, BIAS), {"num_heads": 3}, "24 columns are not Q, K and V of 3 heads"),
    ("Attention", (TOKENS, WEIGHTS, BIAS), {"num_heads": 2, "qkv_hidden_sizes": [8, 8]}, "are not Q, K and V"),
]  # fmt: skip
PAST = np.zeros((2, 2, 2, 3, 4), np.float32)
UNSUPPORTED: list[tuple[str, tuple[Any, ...], dict[str, Any], str]] = [
    ("Attention", (TOKENS, WEIGHTS, BIAS, None, PAST), {}, "input past is not supported"),
    ("Attention", (TOKENS, WEIGHTS, BIAS), {"outputs": ("y0", "y1")}, "the output present is not supported"),
    ("Attention", (TOKENS, WEIGHTS, BIAS), {"do_rotary": 1}, "attribute do_rotary = 1 is not supported"),
    ("Attention", (TOKENS, WEIGHTS, BIAS, np.zeros(8, "i4")), {}, "8 positions for a batch of 2 is not supported"),
    ("Attention", (TOKENS, WEIGHTS, BIAS, np.zeros((2, 1, 5, 5), "i4")), {}, "mask_index of rank 4 is not supported"),
    ("SkipLayerNormalization", (TOKENS, TOKENS, BIAS), {"outputs": ("y0", "y1")}, "mean and inv_std_var as outputs"),
    ("FusedGemm", (FLOATS, FLOATS.T.copy()), {"activation": "Mish"}, "activation 'Mish' is not supported"),
]


@pytest.mark.parametrize("op, operands, attrs, cause", BROKEN)
def test_broken_files(made: Any, everything: Catalog, op: str, operands: Any, attrs: Any, cause: str) -> None:
    with pytest.raises(ModelError, match=cause) as caught:
        sn.load(made(op, *operands, **attrs), catalog=everything)
    _has_all_parts(caught.value, op)


@pytest.mark.parametrize("op, operands, attrs, cause", UNSUPPORTED)
def test_what_is_not_supported(made: Any, everything: Catalog, op: str, operands: Any, attrs: Any, cause: str) -> None:
    heads = {"num_heads": 2} if op == "Attention" else {}
    with pytest.raises(UnsupportedOperatorError, match=cause) as caught:
        sn.load(made(op, *operands, **heads, **attrs), catalog=everything)
    _has_all_parts(caught.value, op)


def _has_all_parts(error: ModelError, op: str) -> None:
    assert error.file and error.layer == "it" and error.remedy
    assert error.cause.startswith(f"com.microsoft::{op}: ") and "\n" not in str(error)


def test_without_the_plugin_it_is_named(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOFTNEURO_DISABLE_PLUGINS", "qint8")
    with pytest.raises(UnsupportedOperatorError) as caught:
        sn.load(made("QLinearSigmoid", *ONE), catalog=load_plugins())
    assert "unknown operator: com.microsoft::QLinearSigmoid" in str(caught.value)
    assert "the plugin softneuro-qint8 may help" in str(caught.value)


@pytest.mark.parametrize(
    "domain, op, remedy",
    [("com.microsoft", "MatMulNBits", "does not define these"), ("com.microsoft.nchwc", "Conv", "ORT_ENABLE_EXTENDED")],
)
def test_with_the_plugin_it_is_not_named_as_a_remedy(
    made: Any, everything: Catalog, domain: str, op: str, remedy: str
) -> None:
    model: onnx.ModelProto = made(op, FLOATS)
    model.graph.node[0].domain = domain
    with pytest.raises(UnsupportedOperatorError, match=remedy) as caught:
        sn.load(model, catalog=everything)
    assert "may help" not in str(caught.value)
