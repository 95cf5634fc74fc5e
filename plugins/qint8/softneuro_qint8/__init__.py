"""Integer routines for SoftNeuro: quantised graphs computed in 8 bits where that was measured to be faster."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from softneuro_core.hookspecs import hookimpl
from softneuro_core.operators import Operator
from softneuro_core.passes import Pass
from softneuro_core.routine import Adapter, Routine

if TYPE_CHECKING:
    from softneuro_core.testing.case import Case

__version__ = "0.1.0"


@hookimpl
def softneuro_layers() -> Iterable[Operator]:
    from softneuro_qint8 import contrib

    return contrib.operators()


@hookimpl
def softneuro_passes() -> Iterable[Pass]:
    from softneuro_qint8 import contrib

    return [contrib.written_out()]


@hookimpl
def softneuro_routines() -> Iterable[Routine]:
    from softneuro_qint8.conv import QConv
    from softneuro_qint8.conv_transpose import QConvTranspose
    from softneuro_qint8.depthwise import QDepthwise
    from softneuro_qint8.elementwise import Keep, QBinary
    from softneuro_qint8.function import QFunction
    from softneuro_qint8.gemm import QGemm
    from softneuro_qint8.integer import DynamicQuantize, SumsOfProducts
    from softneuro_qint8.move import QMove
    from softneuro_qint8.norm import QLayerNorm, QSoftmax
    from softneuro_qint8.pool import QPool
    from softneuro_qint8.products import QMatMul
    from softneuro_qint8.resize import QResize
    from softneuro_qint8.weights import QWeights

    grids = [QConv(), QConvTranspose(), QDepthwise(), QGemm(), QMatMul(), QWeights(), QSoftmax(), QLayerNorm()]
    grids += [QPool(), QFunction(), QResize(), QMove(), Keep()]
    grids += [QBinary(operator) for operator in ("Add", "Sub", "Mul")]
    return [*grids, SumsOfProducts("ConvInteger"), SumsOfProducts("MatMulInteger"), DynamicQuantize()]


@hookimpl
def softneuro_adapters() -> Iterable[Adapter]:
    from softneuro_qint8.elementwise import OffGrid, OntoGrid

    return [OntoGrid(), OffGrid()]


def softneuro_conformance_cases() -> list[Case]:
    """Layers between grids, and operators of com.microsoft; the kit's own cases have neither."""
    from softneuro_qint8 import cases
    from softneuro_qint8.contrib import cases as foreign

    return [*cases.cases(), *foreign.cases()]
