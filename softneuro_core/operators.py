"""Operators outside ONNX's own domain, as plugins declare them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import onnx
from onnx.reference.op_run import OpRun

from softneuro_core.graph import Dim, Layer
from softneuro_core.spec import DType

ShapeRule = Callable[[Layer], Sequence[tuple[DType, Sequence[Dim] | None]]]


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator of another domain, returned from ``softneuro_layers``.

    Give either ``function`` (a FunctionProto whose body is in ONNX operators: shape and reference follow
    from it), or ``shape_rule`` (layer -> dtype and shape of each output, None for one of unknown rank; raises
    :class:`ModelError` naming the layer for operands or attributes that do not fit) with ``reference``, a class for
    ``onnx.reference`` whose ``op_domain`` is the domain. Both together: the function documents, the
    class computes.
    """

    domain: str
    name: str
    version: int = 1
    function: onnx.FunctionProto | None = None
    shape_rule: ShapeRule | None = None
    reference: type[OpRun] | None = None

    @property
    def op(self) -> str:
        return f"{self.domain}::{self.name}"
