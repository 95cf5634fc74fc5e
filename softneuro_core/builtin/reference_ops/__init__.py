"""Operators ``onnx.reference`` lacks, computes wrongly, or computes absurdly slowly.

Each class is a drop-in for onnx's own with the same meaning; what is wrong with onnx's is said at the class.
"""

from __future__ import annotations

from collections.abc import Mapping

from onnx.reference.op_run import OpRun


def replacements(opsets: Mapping[str, int]) -> list[type[OpRun]]:
    """The classes to use in place of onnx's own in a model of these opset versions."""
    return []
