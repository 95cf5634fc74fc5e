"""OpenCL for SoftNeuro: every device found, and routines and adapters on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING

from softneuro_core.device import Device, Target
from softneuro_core.hookspecs import hookimpl
from softneuro_core.routine import Adapter, Call, Routine

if TYPE_CHECKING:
    from softneuro_opencl.device import OpenCLDevice

__version__ = "0.1.0"


@cache
def _devices() -> tuple[OpenCLDevice, ...]:
    """Found once in a process: contexts and compiled programs are theirs."""
    from softneuro_opencl.discovery import offered

    return tuple(offered())


@hookimpl
def softneuro_devices() -> Iterable[Device]:
    return _devices()


@hookimpl
def softneuro_routines() -> Iterable[Routine]:
    from softneuro_opencl.conv_rows import RowsConv
    from softneuro_opencl.conv_tiles import TilesConv
    from softneuro_opencl.conv_transpose import RowsTransposed
    from softneuro_opencl.indexing import Expand, Gather, Pad, Tile
    from softneuro_opencl.map import Map
    from softneuro_opencl.matmul import PlainMatMul, RowsMatMul, TilesMatMul
    from softneuro_opencl.movement import Concat, Reshape, Slice, Split, Transpose
    from softneuro_opencl.products import RowsProduct, TilesProduct
    from softneuro_opencl.resize import Resize
    from softneuro_opencl.rows import REDUCTIONS, LayerNorm, Reduction, Softmax
    from softneuro_opencl.sliding import DepthwiseConv, Pool
    from softneuro_opencl.winograd import Winograd

    single = (
        RowsConv,
        TilesConv,
        Winograd,
        RowsTransposed,
        DepthwiseConv,
        RowsProduct,
        TilesProduct,
        PlainMatMul,
        RowsMatMul,
        TilesMatMul,
        Map,
        LayerNorm,
    )
    moving = (Transpose, Concat, Split, Slice, Pad, Expand, Tile, Gather)
    pools = ("MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool")
    routines: list[Routine] = []
    for device in _devices():
        routines += [make(device.name) for make in (*single, *moving)]
        routines += [Pool(device.name, operator) for operator in pools]
        routines += [Softmax(device.name, operator) for operator in ("Softmax", "LogSoftmax")]
        routines += [Reshape(device.name, operator) for operator in ("Reshape", "Flatten", "Squeeze", "Unsqueeze")]
        routines += [Reduction(device.name, operator) for operator in REDUCTIONS]
        routines += [Resize(device.name, operator) for operator in ("Resize", "Upsample")]
    return routines


@hookimpl
def softneuro_adapters() -> Iterable[Adapter]:
    from softneuro_opencl.movement import Cast, ToOtherLayout

    return [make(device.name) for device in _devices() for make in (ToOtherLayout, Cast)]


@hookimpl
def softneuro_link(target: Target, calls: Sequence[Call]) -> Callable[[], None] | None:
    """Everything is enqueued, then handed to the device at once (``OpenCLDevice.launch``)."""
    from softneuro_opencl.device import OpenCLDevice

    if not isinstance(target.device, OpenCLDevice):
        return None
    runs, launch = [call.run for call in calls], target.device.launch

    def linked() -> None:
        for run in runs:
            run()
        launch()

    return linked
