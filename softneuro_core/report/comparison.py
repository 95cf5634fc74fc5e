"""Each step of a plan against the reference, on the same inputs: where do results first differ?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import ml_dtypes
import numpy as np

from softneuro_core.builtin.reference import LayerEvaluator
from softneuro_core.candidates import resolve
from softneuro_core.catalog import Catalog
from softneuro_core.device import Buffer, ObjectBuffer
from softneuro_core.errors import SoftneuroError
from softneuro_core.executable import Executable
from softneuro_core.graph import Graph, Region, Value
from softneuro_core.plan import AdapterStep, KernelStep, layers_of
from softneuro_core.program import Program
from softneuro_core.routine import AnyBuffer
from softneuro_core.slots import PreparedStep, Slot
from softneuro_core.spec import OBJECT, TensorSpec

REFERENCE_ERROR = 1e-5
"""What the reference itself may be off in float32 sums, relative to the largest output."""


@dataclass(frozen=True, slots=True)
class StepError:
    """How one step's results differ from the reference's, both computed from the reference's inputs.

    ``relative`` is the largest difference over the largest output (for integers ``max_error`` counts steps);
    ``allowed`` is what the routine declared, plus what the reference itself may be off; ``snr_db`` is infinite for
    equal results. ``skipped`` says why there is no number.
    """

    name: str
    routine: str
    max_error: float
    relative: float
    snr_db: float
    allowed: float
    diverges: bool
    skipped: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def compare_steps(program: Program, feeds: Mapping[str, Any], catalog: Catalog) -> Iterator[StepError]:
    """One row per step, in order. Every step reads reference values, so errors do not add up.

    Raises :class:`RunError` where a step or the reference cannot run at all.
    """
    graph, executable = program.graph, Executable(program)
    truth = _Truth(graph, feeds, catalog)
    for index, prepared in enumerate(program.steps):
        step = prepared.step
        layers = () if isinstance(step, AdapterStep) else layers_of(graph, step.layers)
        for layer in layers:
            truth.compute(layer)
        skipped = _load(executable, prepared, truth)
        if skipped:
            routine = step.adapter if isinstance(step, AdapterStep) else step.routine
            yield StepError(step.name, routine, math.nan, math.nan, math.nan, math.nan, False, skipped)
            continue
        _run(executable, prepared, index)
        yield _judge(executable, prepared, truth, _allowed(graph, step, catalog, program.plan.threads))


class _Truth:
    """Reference values, computed layer by layer and kept while the model is compared."""

    def __init__(self, graph: Graph, feeds: Mapping[str, Any], catalog: Catalog) -> None:
        self._graph, self._operators = graph, catalog.operators
        self._known: dict[Value, Any] = {v: feeds[v.name] for v in graph.inputs}

    def compute(self, layer: Any) -> None:
        evaluator = LayerEvaluator(self._graph, layer, self._operators)
        made = evaluator([self._known[v] for v in evaluator.inputs])
        self._known.update(zip(evaluator.results, made, strict=True))

    def __getitem__(self, value: Value) -> Any:
        return self._known[value]


def _load(executable: Executable, prepared: PreparedStep, truth: _Truth) -> str:
    """Puts reference values into what the step reads; returns why that cannot be done, if so."""
    for slot in prepared.reads:
        buffer, content = executable.buffers[slot], truth[slot.value]
        if isinstance(buffer, ObjectBuffer):
            buffer.value = content
        elif not _is_plain_cast(slot):
            return f"{slot.value.name} is stored as {slot.spec.dtype}, which has no plain way from {slot.value.dtype}"
        else:
            stored = slot.spec.layout.pack(np.asarray(content).astype(slot.spec.dtype.numpy))
            buffer.device.upload(buffer, stored)
    return ""


def _is_plain_cast(slot: Slot) -> bool:
    return slot.spec.dtype is slot.value.dtype or (slot.spec.dtype.is_float and slot.value.dtype.is_float)


def _run(executable: Executable, prepared: PreparedStep, index: int) -> None:
    scratch = executable.buffers.get(index)
    assert scratch is None or isinstance(scratch, Buffer)
    reads: list[AnyBuffer] = [executable.buffers[s] for s in prepared.reads]
    prepared.kernel.bind(reads, [executable.buffers[s] for s in prepared.writes], scratch).run()
    executable.program.catalog.devices[prepared.device].synchronize()


def _judge(executable: Executable, prepared: PreparedStep, truth: _Truth, allowed: float) -> StepError:
    """The worst of the step's results."""
    step = prepared.step
    routine = step.adapter if isinstance(step, AdapterStep) else step.routine
    worst = StepError(step.name, routine, 0.0, 0.0, math.inf, allowed, False)
    for slot in prepared.writes:
        if not _is_plain_cast(slot) and slot.spec.dtype is not OBJECT:
            continue
        error, relative, snr = difference(_stored(executable, slot), truth[slot.value])
        is_float = slot.value.dtype.is_float
        limit = allowed + max(map(_resolution, (*prepared.reads, slot)))
        beyond = (
            not (relative <= limit) if is_float else not (error <= max(1.0, allowed) if allowed >= 1 else error == 0)
        )
        if beyond or not relative <= worst.relative or worst.snr_db > snr:
            worst = StepError(step.name, routine, error, relative, snr, limit, worst.diverges or beyond)
    return worst


def _resolution(slot: Slot) -> float:
    """What being stored in half the bits may show, in what a step reads as well as in what it makes."""
    dtype = slot.spec.dtype
    return float(ml_dtypes.finfo(dtype.numpy).eps) if dtype.is_float and dtype.itemsize == 2 else 0.0


def _stored(executable: Executable, slot: Slot) -> Any:
    buffer = executable.buffers[slot]
    if isinstance(buffer, ObjectBuffer):
        return buffer.value
    stored = np.empty(buffer.shape, buffer.dtype)
    buffer.device.download(buffer, stored)
    return slot.spec.layout.unpack(stored, slot.value.static_shape)


def difference(got: Any, wanted: Any) -> tuple[float, float, float]:
    """Largest difference, the same over the largest wanted value, and the signal-to-noise ratio in decibels.

    NaN where the reference has NaN is no difference; anything that is no array is equal or infinitely wrong.
    """
    if not isinstance(wanted, np.ndarray) or not isinstance(got, np.ndarray) or wanted.dtype == object:
        same = repr(got) == repr(wanted)
        return (0.0, 0.0, math.inf) if same else (math.inf, math.inf, -math.inf)
    if got.shape != wanted.shape:
        return math.inf, math.inf, -math.inf
    a, b = _wide(got), _wide(wanted)
    same = (a == b) | ((a != a) & (b != b))
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.where(same, 0.0, np.abs(a - b))
    error = np.where(np.isnan(error), np.inf, error)
    if not error.size or not error.any():
        return 0.0, 0.0, math.inf
    finite = np.abs(b[np.isfinite(b)])
    largest, worst = float(finite.max()) if finite.size else 0.0, float(error.max())
    noise, signal = float(np.square(error).sum()), float(np.square(finite).sum())
    snr = 10 * math.log10(signal / noise) if signal > 0 and math.isfinite(noise) else -math.inf
    return worst, worst / largest if largest else math.inf, snr


def _wide(array: np.ndarray) -> np.ndarray:
    return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)


def _allowed(graph: Graph, step: KernelStep | AdapterStep, catalog: Catalog, threads: int) -> float:
    """What the step declares as its largest error, and the reference's own."""
    if isinstance(step, AdapterStep):
        value = next(v for v in graph.values if v.name == step.value)
        src, dst = TensorSpec.parse(step.src), TensorSpec.parse(step.dst)
        return catalog.adapters[step.adapter].error(src, dst, value) + REFERENCE_ERROR
    routine = catalog.routines[step.routine]
    specs = tuple(tuple(map(TensorSpec.parse, side)) for side in (step.inputs, step.outputs))
    try:
        region = Region(graph, layers_of(graph, step.layers))
        offer = resolve(region, routine, specs, step.params, catalog.target(routine.device, threads))
    except SoftneuroError:
        return REFERENCE_ERROR
    return offer.accuracy + REFERENCE_ERROR


def first_divergence(rows: Sequence[StepError]) -> StepError | None:
    """The first step whose results differ by more than it may."""
    return next((row for row in rows if row.diverges), None)
