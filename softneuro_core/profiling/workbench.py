"""Turns a job as told in JSON into a case and measures it: the worker's inside, also usable in this process.

Owns how a job finds its graph, catalog and values again; must not know pipes, the database or what is worth measuring.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from softneuro_core.builtin.reference import evaluate
from softneuro_core.candidates import resolve
from softneuro_core.catalog import Catalog
from softneuro_core.costs import Cost
from softneuro_core.device import is_handed_over
from softneuro_core.encoding import decode, encode, needs_quantising
from softneuro_core.errors import PluginError, SoftneuroError
from softneuro_core.graph import Graph, Region, Value
from softneuro_core.grids import rounded_constants
from softneuro_core.profiling import in_place
from softneuro_core.profiling.compare import REFERENCE_ERROR
from softneuro_core.profiling.keys import constants_nbytes
from softneuro_core.profiling.measure import Case, Effort, measure
from softneuro_core.profiling.values import Stored
from softneuro_core.rig import Operand
from softneuro_core.routine import Adapter, Offer, Routine
from softneuro_core.spec import OBJECT, TensorSpec

Phase = Callable[[str], None]
Message = Mapping[str, Any]


class Workbench:
    """A graph, a catalog and a folder of values: everything that jobs refer to by name."""

    def __init__(
        self, catalog: Catalog, graph: Graph, folder: Path, threads: int, effort: Effort | None = None
    ) -> None:
        self.catalog, self.graph, self.folder, self.threads = catalog, graph, folder, threads
        self.effort = effort or Effort()
        self.values = {value.name: value for value in graph.values}

    def names(self) -> list[str]:
        """The routines, adapters, devices and operators jobs and plans may use here."""
        catalog = self.catalog
        return [*catalog.routines, *catalog.adapters, *catalog.devices, *catalog.operators]

    def measure(self, message: Message, on_phase: Phase = lambda phase: None) -> Cost:
        """The cost of the job in ``message`` (``Job.message()`` with ``values``, ``checked`` and ``best_ns``)."""
        try:
            case = (self.adapter_case if message["op"] == "adapter" else self.kernel_case)(message)
        except SoftneuroError as error:
            return Cost.failed(str(error))
        except Exception as error:  # offers() of a stranger
            return Cost.failed(f"raises in offers: {type(error).__name__}: {error}")
        return measure(case, self.effort, message.get("best_ns"), on_phase)

    def kernel_case(self, message: Message) -> Case:
        """The case of a kernel job; raises :class:`PlanError` if the routine does not make the offer here."""
        layers = tuple(self.graph.layer_by_name[name] for name in message["layers"])
        region, routine = Region(self.graph, layers), self._routine(message["routine"])
        target = self.catalog.target(routine.device, self.threads)
        inputs, outputs = (_specs(message[side]) for side in ("inputs", "outputs"))
        offer = resolve(region, routine, (inputs, outputs), message["params"], target)
        operands = tuple(zip(region.inputs, inputs, strict=True))
        results = tuple(zip(region.outputs, outputs, strict=True))
        arrays = [self.array(message, value) for value in region.inputs]
        expected: list[Any] = [None] * len(results)
        if message.get("checked", True):
            expected = self._expected(message, region, offer, arrays)
            expected = [_stored_as(array, *result) for array, result in zip(expected, results, strict=True)]
        return Case(
            prepare=lambda: routine.prepare(region, offer, target),
            inputs=operands,
            outputs=results,
            arrays=arrays,
            expected=expected,
            accuracy=offer.accuracy,
            target=target,
            devices=self.catalog.devices,
            link=self.catalog.link,
            slack=_reference_error(operands, results),
            strided=offer.strided,
            constants_nbytes=constants_nbytes(self.graph),
        )

    def _expected(self, message: Message, region: Region, offer: Offer, arrays: list[Any]) -> list[Any]:
        """Reference results of what the kernel is really given: a quantised input is a rounded one, and so are laid
        constants then, or where the offer says so."""
        operands = tuple(zip(region.inputs, offer.inputs, strict=True))
        if not offer.rounds_constants and not any(needs_quantising(*operand) for operand in operands):
            return [self.array(message, value) for value in region.outputs]
        given = [_rounded(array, *operand) for array, operand in zip(arrays, operands, strict=True)]
        with rounded_constants(region):
            return evaluate(region, given, self.catalog.operators)

    def adapter_case(self, message: Message) -> Case:
        """The case of an adapter job; raises :class:`PluginError` if the adapter refuses it here."""
        value, adapter = self.values[message["value"]], self._adapter(message["adapter"])
        src, dst = TensorSpec.parse(message["src"]), TensorSpec.parse(message["dst"])
        target = self.catalog.target(adapter.name.partition("/")[0], self.threads)
        if not adapter.accepts(src, dst, value):
            raise PluginError(f"{adapter.name} does not convert {src} to {dst} here")
        array = self.array(message, value)
        error = adapter.error(src, dst, value)
        steps = float(needs_quantising(value, dst) and error > 0)
        return Case(
            prepare=lambda: adapter.prepare(src, dst, value, target),
            inputs=((value, src),),
            outputs=((value, dst),),
            arrays=[array],
            expected=[_stored_as(_rounded(array, value, src), value, dst)],
            accuracy=max(error, steps),
            target=target,
            devices=self.catalog.devices,
            link=self.catalog.link,
            alias=0 if is_handed_over(src, dst, self.catalog.homes) else None,
        )

    def _routine(self, name: str) -> Routine:
        if name not in self.catalog.routines:
            raise PluginError(f"routine {name!r} is not there")
        return self.catalog.routines[name]

    def _adapter(self, name: str) -> Adapter:
        if name not in self.catalog.adapters:
            raise PluginError(f"adapter {name!r} is not there")
        return self.catalog.adapters[name]

    def array(self, message: Message, value: Value) -> Any:
        """A value of the message, mapped from its file; raises :class:`PluginError` if there is none."""
        if value.name not in message["values"]:
            raise PluginError(f"no input could be made for value {value.name!r}")
        return Stored(*message["values"][value.name]).load(self.folder)


def _specs(texts: list[str]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec.parse(text) for text in texts)


def _reference_error(operands: Sequence[Operand], results: Sequence[Operand]) -> float:
    """How far the reference may be from what the kernel makes: it computes in the results' own types, of inputs that
    were not rounded to the floats the kernel reads; and a rounded result next to a tie goes either way."""
    types = {value.dtype for value, _ in results}
    types |= {spec.dtype for value, spec in (*operands, *results) if spec.dtype is not value.dtype}
    return max((REFERENCE_ERROR.get(dtype.name, 0.0) for dtype in types), default=0.0)


def _rounded(array: Any, value: Value, spec: TensorSpec) -> Any:
    """What is left of an array after being stored as ``spec``, in the value's own dtype."""
    return array if spec.dtype is OBJECT else decode(encode(array, value, spec), value, spec)


def _stored_as(array: Any, value: Value, spec: TensorSpec) -> Any:
    return array if spec.dtype is OBJECT else encode(np.asarray(array), value, spec)


def handle_measure(bench: Workbench, message: Message, on_phase: Phase) -> dict[str, Any]:
    """Answers a kernel or adapter job with its cost."""
    return {"cost": asdict(bench.measure(message, on_phase))}


def handle_has(bench: Workbench, message: Message, on_phase: Phase) -> dict[str, Any]:
    """Answers what this bench can measure."""
    return {"names": bench.names()}


Handler = Callable[[Workbench, Message, Phase], dict[str, Any]]
HANDLERS: Mapping[str, Handler] = {
    "kernel": handle_measure,
    "adapter": handle_measure,
    "has": handle_has,
    "in_place": in_place.handle,
}
"""Answers by the message's ``op``. Another kind of work is one more line here; both ends and the in-process bench
pass it on as it is."""
