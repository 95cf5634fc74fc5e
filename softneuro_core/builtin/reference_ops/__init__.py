"""Operators ``onnx.reference`` lacks, computes wrongly, or computes absurdly slowly.

Each class is a drop-in for onnx's own with the meaning of the specification; what is wrong with onnx's is said at
the class. A class stands in for the opset versions in which its operator had this meaning.
"""

from __future__ import annotations

from collections.abc import Mapping

from onnx.reference.op_run import OpRun

from softneuro_core.builtin.reference_ops.control import CONTROL
from softneuro_core.builtin.reference_ops.convolution import CONVOLUTION
from softneuro_core.builtin.reference_ops.fast import FAST
from softneuro_core.builtin.reference_ops.legacy import LEGACY
from softneuro_core.builtin.reference_ops.missing import MISSING
from softneuro_core.builtin.reference_ops.quantised import QUANTISED


def replacements(opsets: Mapping[str, int]) -> list[type[OpRun]]:
    """The classes to use in place of onnx's own in a model of these opset versions."""
    version = opsets.get("", 0)
    return [
        cls
        for first, last, cls in (*LEGACY, *QUANTISED, *CONTROL, *CONVOLUTION, *MISSING, *FAST)
        if first <= version <= last
    ]
