"""If, Loop and Scan: their bodies are planned graphs, run by the same machinery as the graph around them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from softneuro_core.device import Buffer, ObjectBuffer, Target
from softneuro_core.errors import PlanError, RunError
from softneuro_core.graph import Graph, Layer, Region, Value
from softneuro_core.routine import EXACT, AnyBuffer, Call, Kernel, Offer, Routine

if TYPE_CHECKING:
    from softneuro_core.program import Program


class ControlRoutine(Routine):
    """One offer for every If, Loop and Scan (opset 9 on), host specs only. Its kernels need the bodies' programs, so
    the session calls :meth:`prepare_bodies` in place of ``prepare``."""

    name = "cpu/control"

    def regions(self, graph: Graph, exit: Layer) -> Iterable[tuple[Layer, ...]]:
        is_old_scan = exit.op == "Scan" and exit.version < 9
        return [(exit,)] if exit.op in ("If", "Loop", "Scan") and not is_old_scan else []

    def offers(self, region: Region, target: Target) -> Iterable[Offer]:
        inputs = tuple(v.host_spec for v in region.inputs)
        return [Offer(inputs, tuple(v.host_spec for v in region.outputs), accuracy=EXACT)]

    def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
        raise PlanError("control flow is prepared with the plans of its bodies", layer=region.name)

    def prepare_bodies(self, region: Region, bodies: Mapping[str, Program]) -> Kernel:
        """A kernel that runs the bodies' programs."""
        return ControlKernel(region, bodies)


class ControlKernel:
    """Binding makes an executable of every body: a clone of the session shares the programs, not the memory."""

    scratch = 0

    def __init__(self, region: Region, bodies: Mapping[str, Program]) -> None:
        self._layer, self._region, self._bodies = region.exit, region, bodies

    @property
    def constant_bytes(self) -> int:
        return sum(body.constant_bytes for body in self._bodies.values())

    @property
    def activation_bytes(self) -> int:
        """Memory of the bodies' own values: beside the arena of the graph around them."""
        return sum(body.activation_bytes for body in self._bodies.values())

    def bind(self, inputs: Sequence[AnyBuffer], outputs: Sequence[AnyBuffer], scratch: Buffer | None) -> Call:
        from softneuro_core.executable import Executable

        bodies = {name: Executable(program) for name, program in self._bodies.items()}
        feeds = iter(inputs)
        constants = [v.data if v is not None else None for v in (*self._layer.inputs, *self._layer.captures)]
        dynamic = [v is not None and not v.is_constant for v in (*self._layer.inputs, *self._layer.captures)]
        sources = [next(feeds) if d else c for d, c in zip(dynamic, constants, strict=True)]
        count = len(self._layer.inputs)
        run = {"If": _run_if, "Loop": _run_loop, "Scan": _run_scan}[self._layer.type]
        present = [i for i, v in enumerate(self._layer.outputs) if v is not None]

        def call() -> None:
            values = [_read(s) for s in sources]
            results = run(self._layer, bodies, values[:count], _captures(self._layer, values[count:]))
            for buffer, i in zip(outputs, present, strict=True):
                _write(self._layer, buffer, results[i])

        return Call(call)


class _Runs(Protocol):
    """What control flow needs of a body."""

    def run(self, arrays: Sequence[Any]) -> list[Any]: ...


def _read(source: object) -> Any:
    if isinstance(source, ObjectBuffer):
        return source.value
    return source.array if isinstance(source, Buffer) else source


def _write(layer: Layer, buffer: AnyBuffer, result: Any) -> None:
    if isinstance(buffer, ObjectBuffer):
        buffer.value = result
        return
    if np.shape(result) != buffer.shape:
        raise RunError(f"a body made shape {np.shape(result)}, inferred was {buffer.shape}", layer=layer.name)
    np.copyto(buffer.array, result)


def _captures(layer: Layer, values: Sequence[Any]) -> dict[str, list[Any]]:
    """Captured values of each body: ``Layer.captures`` lists them body after body."""
    captured, at = {}, 0
    for name, body in layer.bodies.items():
        count = len(body.inputs) - _formal_inputs(layer, body)
        captured[name] = list(values[at : at + count])
        at += count
    return captured


def _formal_inputs(layer: Layer, body: Graph) -> int:
    """Loop: iteration and condition stand for M and cond; Scan: states, then slices of the scan inputs."""
    return 0 if layer.type == "If" else len(layer.inputs)


def _run_if(
    layer: Layer, bodies: Mapping[str, _Runs], values: Sequence[Any], captures: Mapping[str, list[Any]]
) -> list[Any]:
    branch = "then_branch" if bool(np.asarray(values[0]).reshape(-1)[0]) else "else_branch"
    return bodies[branch].run(captures[branch])


def _run_loop(
    layer: Layer, bodies: Mapping[str, _Runs], values: Sequence[Any], captures: Mapping[str, list[Any]]
) -> list[Any]:
    """ONNX Loop: while condition and fewer than M turns; carried values, then one stacked output per scan output."""
    limit, condition, *carried = values
    turns = None if limit is None else int(np.asarray(limit).reshape(-1)[0])
    go_on = condition is None or bool(np.asarray(condition).reshape(-1)[0])
    body, count = bodies["body"], len(layer.inputs) - 2
    carried = [np.array(v) if isinstance(v, np.ndarray) else v for v in carried]
    stacks: list[list[Any]] = [[] for _ in layer.bodies["body"].outputs[1 + count :]]
    turn = 0
    while go_on and (turns is None or turn < turns):
        flag, *results = body.run([np.int64(turn), np.bool_(True), *carried, *captures["body"]])
        go_on, carried, turn = bool(np.asarray(flag).reshape(-1)[0]), results[:count], turn + 1
        for stack, result in zip(stacks, results[count:], strict=True):
            stack.append(result)
    made = layer.bodies["body"].outputs[1 + count :]
    return carried + [_stack(value, rows) for value, rows in zip(made, stacks, strict=True)]


def _stack(made: Value, rows: list[Any], axis: int = 0) -> Any:
    """Rows stacked along a new axis; with no turn at all their shape is what the body says of ``made``."""
    if rows:
        return np.stack(rows, axis)
    shape = tuple(d if isinstance(d, int) else 0 for d in made.shape or ())
    return np.stack([np.empty(shape, made.dtype.numpy)], axis).take([], axis)


def _run_scan(
    layer: Layer, bodies: Mapping[str, _Runs], values: Sequence[Any], captures: Mapping[str, list[Any]]
) -> list[Any]:
    """ONNX Scan (opset 9 on): state variables, inputs sliced along their scan axes, outputs stacked along theirs."""
    scans = int(layer.attrs["num_scan_inputs"])
    states, inputs = list(values[: len(values) - scans]), list(values[len(values) - scans :])
    made = layer.bodies["body"].outputs[len(states) :]
    axes = [a % np.ndim(x) for a, x in zip(layer.attrs.get("scan_input_axes", [0] * scans), inputs, strict=True)]
    backward = layer.attrs.get("scan_input_directions", [0] * scans)
    length = np.shape(inputs[0])[axes[0]]
    rows: list[list[Any]] = [[] for _ in made]
    for turn in range(length):
        slices = [
            np.take(x, length - 1 - turn if back else turn, axis=a)
            for x, a, back in zip(inputs, axes, backward, strict=True)
        ]
        results = bodies["body"].run([*states, *slices, *captures["body"]])
        states = results[: len(states)]
        for row, result in zip(rows, results[len(states) :], strict=True):
            row.append(result)
    out_axes = layer.attrs.get("scan_output_axes", [0] * len(made))
    out_backward = layer.attrs.get("scan_output_directions", [0] * len(made))
    return states + [
        _stack(value, row[::-1] if back else row, a)
        for value, row, a, back in zip(made, rows, out_axes, out_backward, strict=True)
    ]
