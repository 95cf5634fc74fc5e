"""The reference routine: every ONNX operator through ``onnx.reference``, the meaning all others are held to.

Owns how one layer is handed to onnx's evaluator; knows nothing of plans, costs or other routines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from softneuro_core.builtin.reference_ops import replacements
from softneuro_core.device import Buffer, ObjectBuffer, Target
from softneuro_core.errors import RunError, SoftneuroError, UnsupportedOperatorError
from softneuro_core.export import layer_model
from softneuro_core.graph import Graph, Layer, Region, Value
from softneuro_core.operators import Operator
from softneuro_core.routine import EXACT, SUMS, AnyBuffer, Call, Kernel, Offer, Routine


def operator_classes(operators: Mapping[str, Operator]) -> list[type[OpRun]]:
    """The OpRun classes plugins gave for their operators, under the names onnx.reference looks them up by."""
    return [
        type(o.name, (o.reference,), {"op_domain": o.domain}) for o in operators.values() if o.reference is not None
    ]


class LayerEvaluator:
    """Computes one layer from arrays, as often as wanted; building it is slow (milliseconds), calling is not."""

    def __init__(self, graph: Graph, layer: Layer, operators: Mapping[str, Operator] | None = None) -> None:
        self.layer = layer
        self.results = layer.results
        self.inputs = tuple(v for v in layer.operands if not v.is_constant)
        model = layer_model(graph, layer)
        versions = {opset.domain: opset.version for opset in model.opset_import}
        classes = [*operator_classes(operators or {}), *replacements(versions)]
        try:
            evaluator = ReferenceEvaluator(model, new_ops=classes)
        except (NotImplementedError, RuntimeError, TypeError, KeyError, ValueError, AttributeError) as error:
            raise UnsupportedOperatorError(
                f"onnx.reference cannot compute {layer.op} (version {layer.version}): {_first_line(error)}",
                file=graph.name,
                layer=layer.name,
            ) from error
        self._run = _node_runner(evaluator, layer)

    def __call__(self, arrays: Sequence[Any]) -> list[Any]:
        """Results (parallel to ``layer.results``) for operands that are not constants, in their order.

        Raises :class:`RunError` naming the layer for whatever the operator refuses.
        """
        try:
            with np.errstate(all="ignore"):  # infinities and NaN are results like any other
                made = self._run(arrays)
        except SoftneuroError:
            raise
        except Exception as error:  # numpy and onnx raise all kinds; the user needs the layer
            raise RunError(f"{self.layer.op}: {_first_line(error)}", layer=self.layer.name) from error
        return [_as_held(array) for array in made]


def _as_held(array: Any) -> Any:
    """A result as values hold it: arrays, never numpy scalars; strings as objects, whatever their length."""
    if isinstance(array, np.generic):
        array = np.asarray(array)
    if isinstance(array, np.ndarray) and array.dtype.kind == "U":
        return array.astype(object)
    return array


def _node_runner(evaluator: ReferenceEvaluator, layer: Layer) -> Callable[[Sequence[Any]], list[Any]]:
    """A function of the variable operands alone: constants stand at their places already."""
    (node,) = evaluator.rt_nodes_
    names = dict(zip(dict.fromkeys(layer.operands), evaluator.input_names, strict=True))
    present = [i for i, v in enumerate(layer.outputs) if v is not None]
    held = {v: np.require(v.data, requirements="A") for v in layer.operands if v.data is not None}  # numpy is slow else
    template = [None if v is None else held.get(v) for v in layer.inputs]
    places = [i for i, v in enumerate(layer.inputs) if v is not None and not v.is_constant]
    variable_names = [names[v] for v in layer.operands if not v.is_constant]
    constants = {names[v]: array for v, array in held.items()}

    def run(arrays: Sequence[Any]) -> list[Any]:
        inputs = list(template)
        for place, array in zip(places, arrays, strict=False):  # captured values follow: the context has them
            inputs[place] = array
        if node.need_context():
            made = node.run(*inputs, context={"": None, **constants, **dict(zip(variable_names, arrays, strict=True))})
        else:
            made = node.run(*inputs)
        return [made[i] for i in present]

    return run


def _first_line(error: BaseException) -> str:
    """The innermost cause in one line: onnx.reference wraps the real one."""
    while isinstance(error, TypeError) and error.__cause__ is not None:
        error = error.__cause__
    text = str(error).strip()
    return text.splitlines()[0][:300] if text else type(error).__name__


class RegionEvaluator:
    """Computes a region layer by layer; reusable."""

    def __init__(self, region: Region, operators: Mapping[str, Operator] | None = None) -> None:
        self.region = region
        self.layers = [LayerEvaluator(region.graph, layer, operators) for layer in region.layers]

    def __call__(self, arrays: Sequence[Any]) -> list[Any]:
        """Arrays parallel to ``region.inputs`` in, results parallel to ``region.outputs`` out."""
        known = dict(zip(self.region.inputs, arrays, strict=True))
        for evaluator in self.layers:
            made = evaluator([known[v] for v in evaluator.inputs])
            known.update(zip(evaluator.results, made, strict=True))
        return [known[v] for v in self.region.outputs]


def evaluate(region: Region, arrays: Sequence[Any], operators: Mapping[str, Operator] | None = None) -> list[Any]:
    """What ONNX says the region computes. For repeated use keep a :class:`RegionEvaluator`.

    ``arrays`` is parallel to ``region.inputs``, the result to ``region.outputs``; raises :class:`RunError`.
    """
    return RegionEvaluator(region, operators)(arrays)


@dataclass(slots=True)
class ReferenceKernel:
    """A prepared reference step."""

    evaluator: RegionEvaluator
    scratch: int = 0

    @property
    def constant_bytes(self) -> int:
        """The model's own weights, which it reads as they are: they come from as far away as packed ones."""
        return sum(value.nbytes for value in self.evaluator.region.constants if not value.is_object)

    def bind(self, inputs: Sequence[AnyBuffer], outputs: Sequence[AnyBuffer], scratch: Buffer | None) -> Call:
        evaluator = self.evaluator
        values = evaluator.region.outputs
        keeps = any(isinstance(buffer, ObjectBuffer) for buffer in outputs)
        readers = [_reader(buffer, keeps) for buffer in inputs]
        writers = [_writer(evaluator.region, v, b) for v, b in zip(values, outputs, strict=True)]

        def run() -> None:
            for write, made in zip(writers, evaluator([read() for read in readers]), strict=True):
                write(made)

        return Call(run)


def _reader(buffer: AnyBuffer, keeps: bool) -> Callable[[], Any]:
    """A function that gives an operand. Where the result is a host object it may hold on to the operand (a sequence
    does), whose place in the arena is used again later: it gets a copy."""
    if isinstance(buffer, ObjectBuffer):
        return lambda: buffer.value
    array = buffer.array
    return array.copy if keeps else lambda: array


def _writer(region: Region, value: Value, buffer: AnyBuffer) -> Callable[[Any], None]:
    if isinstance(buffer, ObjectBuffer):

        def keep(made: Any) -> None:
            buffer.value = made

        return keep
    array = buffer.array

    def write(made: Any) -> None:
        made = np.asarray(made)
        if made.shape != array.shape or made.dtype != array.dtype:
            raise RunError(
                f"value {value.name!r} came out as {made.dtype} {list(made.shape)}, "
                f"the graph says {array.dtype} {list(array.shape)}",
                file=region.graph.name,
                layer=region.name,
            )
        np.copyto(array, made)

    return write


class ReferenceRoutine(Routine):
    """Any layer of any operator, computed by ``onnx.reference``: the fallback and the yardstick.

    ``operators`` are those plugins added (``Catalog.operators``).
    """

    name = "cpu/reference"

    def __init__(self, operators: Mapping[str, Operator] | None = None) -> None:
        self.operators = dict(operators or {})

    def regions(self, graph: Graph, exit: Layer) -> Iterable[tuple[Layer, ...]]:
        yield (exit,)

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        # numpy's products go to BLAS, which sums in another order on another number of threads (seen: 2.4e-7)
        sums = any(v.dtype.is_float or "complex" in v.dtype.name for v in region.outputs)
        yield Offer(
            tuple(v.host_spec for v in region.inputs),
            tuple(v.host_spec for v in region.outputs),
            accuracy=SUMS if sums else EXACT,
        )

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        return ReferenceKernel(RegionEvaluator(region, self.operators))
