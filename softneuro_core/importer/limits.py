"""Whether computing a layer at load time is safe: bytes made, work done, operators that must run every time."""

from __future__ import annotations

import math
from collections.abc import Sequence

from softneuro_core.graph import Layer, Value
from softneuro_core.spec import OBJECT

MAX_BYTES = 64 << 20
"""Folding one layer never makes more than this."""
MAX_TOTAL_BYTES = 1 << 30
"""Nor do all folded layers of a model together."""
MAX_SECONDS = 1.0
"""Nor does one take longer, by the estimates below."""

NEVER = frozenset(
    """
    Bernoulli Multinomial RandomNormal RandomNormalLike RandomUniform RandomUniformLike Dropout ImageDecoder If
    Loop Scan SequenceMap FlexAttention Gradient Adagrad Adam Momentum
    """.split()  # noqa: SIM905
)
"""Random, or of a length nobody can tell beforehand."""

FAST = frozenset(
    """
    Abs Acos Acosh Add And Asin Asinh Atan Atanh BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast CastLike
    Ceil Celu Clip Concat ConstantOfShape Cos Cosh CumSum DepthToSpace DequantizeLinear Div Elu Equal Exp Expand
    EyeLike Flatten Floor Gather GatherElements GatherND Greater GreaterOrEqual HardSigmoid HardSwish Identity
    IsInf IsNan LeakyRelu Less LessOrEqual Log Max Mean Min Mod Mul Neg Not OneHot Or Pad Pow PRelu QuantizeLinear
    Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd
    ReduceSum ReduceSumSquare Relu Reshape Round Selu Shape Sigmoid Sign Sin Sinh Size Slice Softplus Softsign
    SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh ThresholdedRelu Tile Transpose Trilu Unsqueeze Where Xor
    """.split()  # noqa: SIM905
)
"""Whole-array numpy: measured on 4 M float32, 0.2 (Add) to 29 (Softplus) ns an element, 4 for most."""

SECONDS_PER_ELEMENT_FAST = 30e-9
SECONDS_PER_ELEMENT_SLOW = 20e-6
"""Operators onnx.reference computes with a Python loop over elements."""
SECONDS_PER_MULTIPLY = 1e-9

DATA_DEPENDENT = frozenset(
    """
    Compress NonZero Unique StringSplit NonMaxSuppression
    """.split()  # noqa: SIM905
)
"""Their output is no larger than a few times what they read."""


def may_fold(layer: Layer, operands: Sequence[Value], results: Sequence[Value]) -> bool:
    """Whether computing this layer from constants now stays within the limits.

    ``operands`` and ``results`` carry the shapes found so far; False where the cost cannot be told beforehand.
    """
    if layer.domain not in ("", "ai.onnx.ml") or layer.type in NEVER or layer.bodies:
        return False
    if any(v.dtype is OBJECT and v.type is not None for v in (*operands, *results)):
        return False  # sequences and optionals stay layers
    if layer.type in DATA_DEPENDENT:
        made = 16 * sum(v.size for v in operands if v.is_static)
        return made <= MAX_BYTES and made * SECONDS_PER_ELEMENT_SLOW <= MAX_SECONDS
    if not all(v.is_static for v in results):
        return False
    elements = sum(v.size for v in results)
    read = sum(v.size for v in operands if v.is_static)
    if sum(v.nbytes for v in results) > MAX_BYTES:
        return False
    return _seconds(layer, operands, elements, read) <= MAX_SECONDS


def _seconds(layer: Layer, operands: Sequence[Value], elements: int, read: int) -> float:
    if layer.type in FAST:
        return (elements + read) * SECONDS_PER_ELEMENT_FAST
    if layer.type in ("MatMul", "Gemm"):
        depth = max((max(v.static_shape, default=1) for v in operands), default=1)
        return elements * depth * SECONDS_PER_MULTIPLY
    if layer.type == "Conv":
        weight = operands[1].static_shape
        return elements * math.prod(weight[1:]) * SECONDS_PER_MULTIPLY * 10
    return (elements + read) * SECONDS_PER_ELEMENT_SLOW
