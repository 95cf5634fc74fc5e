"""Session: a model ready to run. Checks inputs, keeps one executable per set of input shapes, lets runs take turns."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from softneuro_core.assembly import shapes_of
from softneuro_core.catalog import Catalog, load_plugins
from softneuro_core.device import thread_count, usable_cores
from softneuro_core.errors import InputError, PlanError, SoftneuroError
from softneuro_core.executable import Executable
from softneuro_core.graph import Graph, Value
from softneuro_core.passes.changed import changed
from softneuro_core.plan import AdapterStep, Plan
from softneuro_core.program import Program, prepare
from softneuro_core.replay import as_planned, check_plan, check_same_model, transfer, with_threads
from softneuro_core.spec import OBJECT


class SoftneuroNotice(UserWarning):
    """Something the user should know that is no error: a plan from another machine, a transferred plan."""


@dataclass(frozen=True, slots=True)
class StepTime:
    """Measured time of one step: medians over the runs of :meth:`Session.profile`, in microseconds."""

    name: str
    routine: str
    us: float
    predicted_us: float
    start_us: float


ShapeKey = tuple[tuple[int, ...] | None, ...]

MOST_SHAPES = 8
"""Sets of input shapes kept ready; each has packed weights of its own. The one unused longest goes first."""


class Session:
    """A model with a plan, prepared and bound.

    ``model`` is a Graph, a path, bytes or a ModelProto. ``plan`` is a Plan, a path, or several of them for different
    input shapes; without one, known costs are used and the rest estimated, or measured for at most ``budget_s``
    seconds. ``threads`` defaults to the plan's, or the cores this process may use. ``relaxed`` re-resolves steps
    of the plan that cannot be had here. ``allow_unrounded`` lets a plan (or the choice made without one) leave out
    rounding that a quantised file does between layers. Safe from several threads: runs take turns.
    """

    def __init__(
        self,
        model: Any,
        plan: Plan | str | os.PathLike[str] | Sequence[Plan] | None = None,
        threads: int | None = None,
        budget_s: float | None = None,
        *,
        catalog: Catalog | None = None,
        relaxed: bool = False,
        max_mem_bytes: int | None = None,
        allow_unrounded: bool = False,
    ) -> None:
        from softneuro_core.importer import load

        self._plans = _plans(plan)
        self.catalog = catalog or _catalog_for(self._plans, relaxed)
        self.graph: Graph = model if isinstance(model, Graph) else load(model, catalog=self.catalog)
        self.threads = thread_count(threads, self._plans[0].threads if self._plans else usable_cores())
        self._allow_unrounded = allow_unrounded
        self._budget_s, self._relaxed, self._max_mem_bytes = budget_s or 0.0, relaxed, max_mem_bytes
        self._programs: dict[ShapeKey, Program] = {}
        self._executables: dict[ShapeKey, Executable] = {}
        self._turn = threading.Lock()
        self._closed = False
        if not self.graph.free_dims:
            self._executable(tuple(None if v.dtype is OBJECT else v.static_shape for v in self.graph.inputs))

    @property
    def inputs(self) -> tuple[Value, ...]:
        return self.graph.inputs

    @property
    def outputs(self) -> tuple[Value, ...]:
        return self.graph.outputs

    @property
    def plan(self) -> Plan:
        """The plan of the shapes run last (or of the only ones); raises :class:`InputError` before there is one."""
        if not self._programs:
            raise self._nothing_yet("plan")
        return next(reversed(self._programs.values())).plan

    @property
    def memory_bytes(self) -> dict[str, int]:
        """Bytes of packed weights and of activations with scratch, of the shapes run last; raises as ``plan``."""
        if not self._programs:
            raise self._nothing_yet("memory plan")
        program = next(reversed(self._programs.values()))
        return {"constants": program.constant_bytes, "activations": program.activation_bytes}

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """Computes every output from ``{input name: array}``; the results are the caller's own arrays.

        Raises :class:`InputError` for a wrong name, dtype or shape, :class:`RunError` naming the failing layer.
        """
        arrays = self._check(feeds)
        with self._turn:
            results = self._executable(_key(arrays, self.graph.inputs)).run(arrays)
        return dict(zip((v.name for v in self.graph.outputs), results, strict=True))

    def profile(self, feeds: Mapping[str, Any], runs: int = 20) -> list[StepTime]:
        """Time of every step over ``runs`` runs, each step waited for. Starts are those of the last run."""
        arrays = self._check(feeds)
        with self._turn:
            executable = self._executable(_key(arrays, self.graph.inputs))
            times = [executable.run_timed(arrays)[1] for _ in range(runs)]
        origin, steps = times[-1][0][0] if times[-1] else 0, executable.program.plan.steps
        medians = np.median([[end - start for start, end in run] for run in times], axis=0)
        return [
            StepTime(
                s.name,
                s.adapter if isinstance(s, AdapterStep) else s.routine,
                float(took) / 1000,
                s.us,
                (start - origin) / 1000,
            )
            for s, took, (start, _) in zip(steps, medians, times[-1], strict=True)
        ]

    def clone(self) -> Session:
        """A session for another thread: shares packed weights and compiled code, has activations of its own."""
        twin = object.__new__(Session)
        with self._turn:  # a run of another thread may be adding a shape
            twin.__dict__.update(self.__dict__)
            twin._turn, twin._programs = threading.Lock(), dict(self._programs)
        twin._executables = {key: Executable(program) for key, program in twin._programs.items()}
        return twin

    def close(self) -> None:
        """Frees memory; the session cannot run any more. Waits for a run in progress."""
        with self._turn:
            self._closed = True
            self._executables.clear()
            self._programs.clear()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _nothing_yet(self, what: str) -> InputError:
        why = "the session is closed" if self._closed else f"there is no {what} before the first run: shapes are free"
        return InputError(why, file=self.graph.name)

    def _check(self, feeds: Mapping[str, Any]) -> list[Any]:
        names = [v.name for v in self.graph.inputs]
        unknown, missing = set(feeds) - set(names), set(names) - set(feeds)
        if unknown or missing:
            what = f"input {sorted(missing)[0]!r} is missing" if missing else f"unknown input {sorted(unknown)[0]!r}"
            raise InputError(what, file=self.graph.name, remedy="inputs are " + ", ".join(map(repr, names)))
        return [_checked(self.graph, value, feeds[value.name]) for value in self.graph.inputs]

    def _executable(self, key: ShapeKey) -> Executable:
        if self._closed:  # looked at in turn: a run may have waited while another thread closed the session
            raise InputError("the session is closed", file=self.graph.name)
        if key not in self._executables:
            while len(self._programs) >= MOST_SHAPES:
                oldest = next(iter(self._programs))
                del self._programs[oldest], self._executables[oldest]
            program = self._program(key)
            self._executables[key] = Executable(program)  # may raise: a shape is in both tables or in none
            self._programs[key] = program
        elif len(self._programs) > 1:
            self._programs[key] = self._programs.pop(key)  # the one used last stands last
        return self._executables[key]

    def _program(self, key: ShapeKey) -> Program:
        graph, plan = self._planned(self._specialised(key))
        plan = with_threads(plan, self.threads)
        try:
            return prepare(graph, plan, self.catalog, max_mem_bytes=self._max_mem_bytes)
        except PlanError as error:  # a step that is not offered here, on these threads or this machine
            if not self._relaxed:
                raise
            _notice(f"{error}; relaxed: transferred what fits")
            plan = transfer(graph, plan, self.catalog, self.threads)
            return prepare(graph, plan, self.catalog, max_mem_bytes=self._max_mem_bytes)

    def _specialised(self, key: ShapeKey) -> Graph:
        from softneuro_core.importer import specialise

        if not self.graph.free_dims:
            return self.graph
        shapes = {v.name: s for v, s in zip(self.graph.inputs, key, strict=True) if s is not None}
        return changed(specialise(self.graph, shapes, catalog=self.catalog), self.graph.changes)

    def _planned(self, graph: Graph) -> tuple[Graph, Plan]:
        """The given plan of exactly these shapes, else the nearest one transferred, else a fresh choice; and the graph
        changed as the plan says."""
        from softneuro_core.tuning import tune

        wanted = shapes_of(graph)
        if not self._plans:
            plan = tune(
                graph,
                threads=self.threads,
                budget_s=self._budget_s,
                max_mem_bytes=self._max_mem_bytes,
                catalog=self.catalog,
                allow_unrounded=self._allow_unrounded,
            )
            return as_planned(graph, plan, self._allow_unrounded), plan
        for plan in self._plans:
            if dict(plan.shapes) == wanted:
                return self._checked_plan(graph, plan)
        if not self.graph.free_dims:
            return self._checked_plan(graph, self._plans[0])  # says which shape differs
        nearest = min(self._plans, key=lambda p: _distance(p.shapes, wanted))
        check_same_model(graph, nearest)
        graph = as_planned(graph, nearest, self._allow_unrounded)
        _notice(f"{graph.name}: no plan for {wanted}; transferred from the one tuned for {dict(nearest.shapes)}")
        return graph, transfer(graph, nearest, self.catalog, self.threads)

    def _checked_plan(self, graph: Graph, plan: Plan) -> tuple[Graph, Plan]:
        graph = as_planned(graph, plan, self._allow_unrounded)
        try:
            for note in check_plan(graph, plan, self.catalog):
                _notice(note)
            return graph, plan
        except SoftneuroError as error:
            if not self._relaxed or getattr(error, "strict", False):
                raise
            _notice(f"{error}; relaxed: transferred what fits")
            return graph, transfer(graph, plan, self.catalog, self.threads)


def _notice(text: str) -> None:
    warnings.warn(text, SoftneuroNotice, stacklevel=4)


def _plans(plan: Plan | str | os.PathLike[str] | Sequence[Plan] | None) -> tuple[Plan, ...]:
    if plan is None:
        return ()
    if isinstance(plan, Plan):
        return (plan,)
    if isinstance(plan, str | os.PathLike):
        return (Plan.load(plan),)
    return tuple(plan)


def _catalog_for(plans: Sequence[Plan], relaxed: bool) -> Catalog:
    """With plans, only the plugins they name are imported."""
    if not plans or relaxed:
        return load_plugins()
    return load_plugins(only=frozenset().union(*(p.plugins for p in plans)))


def _checked(graph: Graph, value: Value, given: Any) -> Any:
    """The array as the executable takes it; raises :class:`InputError` naming what differs."""
    if value.dtype is OBJECT:
        return given
    array = np.asarray(given)
    if array.dtype != value.dtype.numpy:
        raise InputError(
            f"input {value.name!r} has dtype {array.dtype}, the model wants {value.dtype}",
            file=graph.name,
            remedy=f"convert it: array.astype({str(value.dtype.numpy)!r})",
        )
    wanted = value.shape
    fits = wanted is None or (
        len(wanted) == array.ndim
        and all(not isinstance(d, int) or d == n for d, n in zip(wanted, array.shape, strict=True))
    )
    if not fits:
        raise InputError(f"input {value.name!r} has shape {array.shape}, the model wants {wanted}", file=graph.name)
    return array


def _key(arrays: Sequence[Any], inputs: Sequence[Value]) -> ShapeKey:
    return tuple(None if v.dtype is OBJECT else a.shape for v, a in zip(inputs, arrays, strict=True))


def _distance(shapes: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]]) -> float:
    """Sum over all dimensions of the log of the size ratio."""
    total = 0.0
    for name, shape in wanted.items():
        other = shapes.get(name, ())
        if len(other) != len(shape):
            return float("inf")
        total += sum(abs(np.log(max(a, 1) / max(b, 1))) for a, b in zip(shape, other, strict=True))
    return total
