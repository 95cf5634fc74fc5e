"""The Plan: which routine computes what, in a readable file. Knows nothing of devices or kernels."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from softneuro_core.bound import Bound
from softneuro_core.changes import NOTHING, Changes
from softneuro_core.errors import PlanError
from softneuro_core.files import write_file
from softneuro_core.graph import Graph, Layer, Value
from softneuro_core.mapped import release

FORMAT = 1
HEADER: tuple[str, ...] = ("model", "shapes", "threads", "predicted_us", "predictions", "certificate", "request")
HEADER += ("machine", "libraries", "notes")


@dataclass(frozen=True, slots=True)
class KernelStep:
    """One routine computing the layers named, the last being the exit. ``us`` is the predicted time in
    microseconds, ``source`` where it comes from: measured, in-situ, estimate, or bodies (control flow)."""

    layers: tuple[str, ...]
    routine: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    params: Mapping[str, Any] = field(default_factory=dict)
    us: float = 0.0
    source: str = "measured"

    @property
    def name(self) -> str:
        return "+".join(self.layers)

    @property
    def author(self) -> str:
        return self.routine


@dataclass(frozen=True, slots=True)
class AdapterStep:
    """One conversion of a value, right after it was made (or given)."""

    value: str
    adapter: str
    src: str
    dst: str
    us: float = 0.0
    source: str = "measured"

    @property
    def name(self) -> str:
        return f"{self.value} -> {self.dst}"

    @property
    def author(self) -> str:
        return self.adapter


Step = KernelStep | AdapterStep


@dataclass(frozen=True, slots=True)
class Plan:
    """A complete, ordered choice for one graph at one set of input shapes.

    ``certificate`` states how sure the choice is: exact, lower bound, gap, solver, states and the hash of the cost
    table it is exact for. ``routines`` maps every routine, adapter and operator of a plugin to where it came from.
    ``bodies`` holds the plans of control-flow bodies, ``layer.attribute`` -> Plan.
    """

    model: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]
    threads: int
    steps: tuple[Step, ...]
    predicted_us: float
    certificate: Mapping[str, Any] = field(default_factory=dict)
    machine: Mapping[str, str] = field(default_factory=dict)
    routines: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    libraries: Mapping[str, str] = field(default_factory=dict)
    bodies: Mapping[str, Plan] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    request: Mapping[str, Any] = field(default_factory=dict)
    """What the user asked for: allow, accuracy, force, forbid, limits; ``tune --from`` asks it again."""
    predictions: Mapping[str, float] = field(default_factory=dict)
    """``isolated_us`` from costs measured alone, ``in_situ_us`` the sum of step times seen in the whole plan,
    ``whole_us`` the median and ``best_us`` the fastest of whole runs in the tuner's worker."""
    grids: Mapping[str, tuple[float, int, str]] = field(default_factory=dict)
    """Scale, zero point and integer dtype of real values the plan stores rounded: ``softneuro_core.grids``."""
    changes: Changes = NOTHING
    """What it computes otherwise than the file says: :func:`softneuro_core.passes.changed.changed` makes it so."""
    bound: Bound | None = None
    """What tuning within an accuracy bound found; None for a plan made without one."""

    @property
    def kernel_steps(self) -> tuple[KernelStep, ...]:
        return tuple(s for s in self.steps if isinstance(s, KernelStep))

    @property
    def authors(self) -> frozenset[str]:
        """Names of all routines, adapters and plugins' operators in this plan and its bodies."""
        return frozenset(self.routines).union(*(body.authors for body in self.bodies.values()))

    @property
    def plugins(self) -> frozenset[str]:
        """Names of the plugins this plan needs, those of its bodies included."""
        own = {r["plugin"] for r in self.routines.values()}
        return frozenset(own.union(*(body.plugins for body in self.bodies.values())))

    def with_notes(self, *notes: str) -> Plan:
        return replace(self, notes=self.notes + notes)

    def to_json(self) -> str:
        """The file's text: one line per header entry and per step, keys in fixed order."""
        return "{\n" + ",\n".join(_lines(self, 1)) + "\n}\n"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the plan; the file is complete or not there at all."""
        try:
            write_file(path, self.to_json())
        except OSError as error:
            raise PlanError(f"cannot be written: {error.strerror}", file=path) from None

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Plan:
        """Reads a plan; raises :class:`PlanError` if the file is missing, damaged or of another format."""
        try:
            return Plan.from_json(Path(path).read_text(encoding="utf-8"), file=path)
        except OSError as error:
            raise PlanError(f"cannot be read: {error.strerror}", file=path) from None
        except UnicodeDecodeError:
            raise PlanError("is not a plan (not UTF-8 text)", file=path) from None

    @staticmethod
    def from_json(text: str, file: object = None) -> Plan:
        """The inverse of :meth:`to_json`; raises :class:`PlanError`."""
        remedy = "tune again: softneuro tune MODEL -o PLAN"
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise PlanError(f"is not a plan ({error})", file=file, remedy=remedy) from None
        if not isinstance(data, dict) or "softneuro_plan" not in data:
            raise PlanError("is not a plan (no 'softneuro_plan' entry)", file=file, remedy=remedy)
        if data["softneuro_plan"] != FORMAT:
            cause = f"has plan format {data['softneuro_plan']}, this version reads {FORMAT}"
            raise PlanError(cause, file=file, remedy=remedy)
        try:
            return _plan_from(data)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            cause = f"is damaged ({type(error).__name__}: {error})"
            raise PlanError(cause, file=file, remedy=remedy) from None


def _lines(plan: Plan, depth: int) -> Iterable[str]:
    pad = "  " * depth
    entry = lambda key, value: f"{pad}{json.dumps(key)}: {json.dumps(value, sort_keys=True)}"  # noqa: E731
    yield entry("softneuro_plan", FORMAT)
    for key in HEADER:
        yield entry(key, getattr(plan, key))
    yield f'{pad}"routines": ' + _block([entry(k, v).strip() for k, v in sorted(plan.routines.items())], depth, "{}")
    yield f'{pad}"steps": ' + _block([json.dumps(_step_json(s)) for s in plan.steps], depth, "[]")
    if plan.grids:
        rows = [json.dumps({name: list(numbers)})[1:-1] for name, numbers in sorted(plan.grids.items())]
        yield f'{pad}"grids": ' + _block(rows, depth, "{}")
    if plan.changes:
        yield f'{pad}"changes": ' + _block(list(_nested(plan.changes.to_json(), depth + 1)), depth, "{}")
    if plan.bound is not None:
        yield f'{pad}"bound": ' + _block(list(_nested(plan.bound.to_json(), depth + 1)), depth, "{}")
    bodies = [
        json.dumps(key) + ": " + _block([x.strip() for x in _lines(body, depth + 2)], depth + 1, "{}")
        for key, body in sorted(plan.bodies.items())
    ]
    yield f'{pad}"bodies": ' + _block(bodies, depth, "{}")


def _nested(data: Mapping[str, Any], depth: int) -> Iterable[str]:
    """A line for each number, and one for each row of what has several."""
    for key, held in data.items():
        if isinstance(held, dict):
            rows = [f"{json.dumps(name)}: {json.dumps(row)}" for name, row in held.items()]
            yield f"{json.dumps(key)}: " + _block(rows, depth, "{}")
        elif isinstance(held, list):
            yield f"{json.dumps(key)}: " + _block([json.dumps(row) for row in held], depth, "[]")
        else:
            yield f"{json.dumps(key)}: {json.dumps(held)}"


def _block(lines: list[str], depth: int, brackets: str) -> str:
    if not lines:
        return brackets
    inner = ",\n".join("  " * (depth + 1) + line for line in lines)
    return f"{brackets[0]}\n{inner}\n{'  ' * depth}{brackets[1]}"


def _step_json(step: Step) -> dict[str, Any]:
    data = {k: v for k, v in asdict(step).items() if (k, v) not in (("params", {}), ("source", "measured"))}
    data["us"] = round(step.us, 3)
    return data


def _plan_from(data: dict[str, Any]) -> Plan:
    return Plan(
        model={str(k): str(v) for k, v in data["model"].items()},
        shapes={str(k): tuple(int(d) for d in v) for k, v in data["shapes"].items()},
        threads=int(data["threads"]),
        steps=tuple(_step_from(s) for s in data["steps"]),
        predicted_us=float(data["predicted_us"]),
        certificate=dict(data["certificate"]),
        machine=dict(data["machine"]),
        routines={str(k): {p: str(v[p]) for p in ("plugin", "version", "code")} for k, v in data["routines"].items()},
        libraries=dict(data["libraries"]),
        bodies={str(k): _plan_from(v) for k, v in data["bodies"].items()},
        notes=tuple(map(str, data["notes"])),
        request=dict(data["request"]),
        predictions={str(k): float(v) for k, v in data["predictions"].items()},
        grids={str(k): (float(s), int(z), str(d)) for k, (s, z, d) in data.get("grids", {}).items()},
        changes=Changes.from_json(data.get("changes", {})),
        bound=Bound.from_json(data["bound"]) if "bound" in data else None,
    )


def _step_from(data: dict[str, Any]) -> Step:
    if "adapter" in data:
        value, adapter, src, dst = (str(data[part]) for part in ("value", "adapter", "src", "dst"))
        return AdapterStep(value, adapter, src, dst, float(data["us"]), str(data.get("source", "measured")))
    if not data["layers"]:
        raise ValueError("a step without layers")
    return KernelStep(
        tuple(map(str, data["layers"])),
        str(data["routine"]),
        tuple(map(str, data["inputs"])),
        tuple(map(str, data["outputs"])),
        dict(data.get("params", {})),
        float(data["us"]),
        str(data.get("source", "measured")),
    )


SAMPLED_BYTES, SAMPLE_BYTES, SAMPLES = 1 << 18, 1 << 12, 32
"""Of a constant larger than the first, this many runs of this many bytes are hashed, evenly spread. A plan computes
the right thing with any constants; the hash tells a model trained anew, which differs everywhere, from the one
measured. Reading all 553 MB of VGG16 took 0.8 s."""


def fingerprint(graph: Graph) -> dict[str, str]:
    """Hashes of the structure (operators, attributes, shapes, names) and, apart, of the constants (large ones by
    samples), as the file has them: whatever was changed since."""
    graph = graph.unchanged or graph
    structure, constants = hashlib.sha256(), hashlib.sha256()
    _hash_graph(graph, structure, constants)
    return {"name": Path(graph.name).name, "graph": structure.hexdigest()[:32], "constants": constants.hexdigest()[:32]}


def _hash_graph(graph: Graph, structure: Any, constants: Any) -> None:
    for group in (graph.inputs, graph.outputs):
        structure.update(repr([_describe(v) for v in group]).encode())
    for layer in graph.layers:
        attrs = {k: _attribute(v) for k, v in sorted(layer.attrs.items()) if not isinstance(v, Graph)}
        operands = [v and _describe(v) for v in (*layer.inputs, None, *layer.captures)]
        results = [v and _describe(v) for v in layer.outputs]
        structure.update(repr((layer.name, layer.op, layer.version, attrs, operands, results)).encode())
        for body in layer.bodies.values():
            _hash_graph(body, structure, constants)
    for value in graph.constants:
        assert value.data is not None
        constants.update(value.name.encode() + b"\0")
        for part in _samples(value.data):
            constants.update(part)
        release(value.data)


def _describe(value: Value) -> tuple[object, ...]:
    return value.name, value.dtype.name, value.shape, value.is_constant


def _attribute(value: Any) -> object:
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, hashlib.sha256(_bytes(value)).hexdigest()
    return value


def _bytes(array: np.ndarray) -> bytes | memoryview:
    if array.dtype == object:
        return repr(array.tolist()).encode()
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _samples(array: np.ndarray) -> Iterable[bytes | memoryview]:
    """All bytes of a small array, runs of a large one."""
    if array.nbytes <= SAMPLED_BYTES or array.dtype == object or not array.flags.c_contiguous:
        return [_bytes(array)]
    whole = array.reshape(-1).view(np.uint8)
    starts = np.linspace(0, len(whole) - SAMPLE_BYTES, SAMPLES, dtype=np.int64)
    return [whole[start : start + SAMPLE_BYTES].data for start in starts.tolist()]


def layers_of(graph: Graph, names: Iterable[str]) -> tuple[Layer, ...]:
    """The layers a plan step names; raises :class:`PlanError` for one the graph lacks."""
    try:
        return tuple(graph.layer_by_name[name] for name in names)
    except KeyError as error:
        raise PlanError(f"the plan names layer {error.args[0]!r}, which the model does not have") from None
