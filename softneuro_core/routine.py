"""How a layer can be computed: the file a plugin author reads first.

offers (legality, pure, fast) -> prepare (pack weights, compile; once) -> bind (addresses; once) -> run.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from softneuro_core.device import Buffer, ObjectBuffer, Target
from softneuro_core.graph import Graph, Layer, Region, Value, chains
from softneuro_core.spec import DType, TensorSpec

AnyBuffer = Buffer | ObjectBuffer

EXACT, SUMS = 0.0, 1e-5
"""Accuracy of data movement, and of float32 sums: see :attr:`Offer.accuracy`."""


def _specs(specs: Iterable[TensorSpec | str]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec.parse(s) if isinstance(s, str) else s for s in specs)


@dataclass(frozen=True, slots=True)
class Offer:
    """One legal way: the specs read and made, and the values of the routine's tuning parameters.

    ``inputs`` is parallel to ``Region.inputs``, ``outputs`` to ``Region.outputs``; strings are parsed.
    ``params`` must survive JSON.  ``accuracy`` is the largest error against float64 relative to the
    largest output this offer may show (0 exact, 1e-5 float32 sums, 5e-5 Winograd F(4x4), 2e-2 bfloat16; for
    integer outputs the number of steps). ``inplace=i`` means output 0 *may* alias input i: it must be right
    both ways, also where another input is the same value in the same spec (a residual: ``Region.inputs`` shows it).
    ``deterministic`` False admits results that change with the thread count. ``strided`` names operands (inputs
    first, then outputs) that may lie in a larger buffer, ``pitched`` those whose last stored axis may be a piece of a
    longer one (a pixel's channels among others); all others are dense. ``parts`` names the inputs that may already lie
    in output 0, as {input: (axis, first index there)}: the kernel must be right both ways, as a Concat that copies
    only what is elsewhere. ``flops`` and ``bytes`` are the work
    this way really does, used only for estimates where nothing is measured. ``uses`` names dtypes narrower than the
    values' own that weights or sums are kept in: the user must have allowed each, and then may expect its rounding. An
    integer type among them: constants are kept on the grids laid over them (``softneuro_core.grids``).
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    params: Mapping[str, Any] = field(default_factory=dict)
    accuracy: float = SUMS
    inplace: int | None = None
    deterministic: bool = True
    strided: frozenset[int] = frozenset()
    pitched: frozenset[int] = frozenset()
    parts: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    flops: float | None = None
    bytes: float | None = None
    uses: frozenset[str] = frozenset()

    @property
    def rounds_constants(self) -> bool:
        """Whether constants are kept as integers of the grids laid over them: ``uses`` names their type, of 8 bits."""
        return any(dtype.itemsize == 1 and not dtype.is_float for dtype in map(DType.parse, self.uses))

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", _specs(self.inputs))
        object.__setattr__(self, "outputs", _specs(self.outputs))


@dataclass(frozen=True, slots=True)
class NativeCall:
    """``void kernel(const int64* args, int64 task_begin, int64 task_end, void* scratch)`` at ``address``.

    ``args`` is an int64 array kept alive by the holder; ``tasks`` independent tasks may be split over threads;
    ``scratch_bytes`` is what each thread must be given; the first eight of them (if any) are zero when a thread comes
    to the step, and the kernel's own between the calls that thread makes for it.
    """

    address: int
    args: np.ndarray
    tasks: int
    scratch_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Call:
    """A step with its pointers: ``run`` starts the work (done on ``cpu`` when it returns, elsewhere only
    after ``device.synchronize()``); ``native`` is the same work for a linker to walk without Python."""

    run: Callable[[], None]
    native: NativeCall | None = None


class Kernel(Protocol):
    """A prepared step. ``scratch`` bytes on the routine's device are handed to ``bind``, contents undefined;
    ``constant_bytes`` is the memory its packed weights take."""

    @property
    def scratch(self) -> int: ...

    @property
    def constant_bytes(self) -> int: ...

    def bind(self, inputs: Sequence[AnyBuffer], outputs: Sequence[AnyBuffer], scratch: Buffer | None) -> Call: ...


@dataclass(frozen=True, slots=True)
class FunctionKernel:
    """A kernel from a plain function ``fn(*input_arrays, *constants, *output_arrays)`` in storage shape."""

    fn: Callable[..., None]
    constants: tuple[np.ndarray, ...] = ()
    scratch: int = 0

    @property
    def constant_bytes(self) -> int:
        return sum(c.nbytes for c in self.constants)

    def bind(self, inputs: Sequence[AnyBuffer], outputs: Sequence[AnyBuffer], scratch: Buffer | None) -> Call:
        arrays = [b.array for b in inputs] + list(self.constants) + [b.array for b in outputs]  # type: ignore[union-attr]
        fn = self.fn
        return Call(lambda: fn(*arrays))


class Routine(abc.ABC):
    """One implementation of one operator, or of a region of several.

    ``name`` is ``device/algorithm`` and unique; ``pattern`` the operators from first to exit (a chain), qualified
    by domain where it is not ONNX's own. Override :meth:`regions` for anything that is no chain.
    """

    name: str
    pattern: tuple[str, ...] = ()

    @property
    def device(self) -> str:
        """Name of the device it runs on."""
        return self.name.partition("/")[0]

    def regions(self, graph: Graph, exit: Layer) -> Iterable[tuple[Layer, ...]]:
        """Regions ending at ``exit`` this routine might compute; illegal ones are dropped by the core."""
        return chains(graph, exit, self.pattern)

    @abc.abstractmethod
    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        """Legal ways to compute the region. Pure and fast (< 1 ms): called thousands of times."""

    @abc.abstractmethod
    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        """Packs weights and compiles. May be slow; sees constants, never activations."""


class Adapter(abc.ABC):
    """A conversion of one value between two specs: layout, dtype, or transfer between devices.

    ``name`` is ``device/what``. One that leaves a device waits for it (``device.synchronize``).
    """

    name: str

    @abc.abstractmethod
    def accepts(self, src: TensorSpec, dst: TensorSpec, value: Value) -> bool:
        """Whether this adapter converts ``value`` from ``src`` to ``dst``. Pure and fast."""

    @abc.abstractmethod
    def prepare(self, src: TensorSpec, dst: TensorSpec, value: Value, target: Target) -> Kernel:
        """A kernel with one input in ``src`` and one output in ``dst``; ``value`` carries shape and qparams."""

    def error(self, src: TensorSpec, dst: TensorSpec, value: Value) -> float:
        """Relative error this conversion may add (0 unless it narrows the element type)."""
        return EXACT
