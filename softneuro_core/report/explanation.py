"""Why a plan is what it is: every alternative with the whole plan's cost if it were forced.

The numbers are the tuner's min-marginals on the cost table the plan was chosen from, so "if forced" is exact: tuning
again with that alternative pinned gives it. Owns the data; text is :mod:`text`'s, the page is :mod:`html`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from softneuro_core.candidates import Candidate
from softneuro_core.errors import InputError, SelectionError
from softneuro_core.graph import Graph
from softneuro_core.plan import AdapterStep, KernelStep, Plan
from softneuro_core.report.kept import BoundReasons, bound_reasons
from softneuro_core.selection import Formulation
from softneuro_core.task import Tuned
from softneuro_core.tuner import Selection
from softneuro_core.tuner.explain import OptionRow
from softneuro_core.tuner.explain import explain as explain_numbers
from softneuro_core.tuner.price import price

REFERENCE = "cpu/reference"


@dataclass(frozen=True, slots=True)
class Alternative:
    """One candidate for the layers of a row. ``own_us`` is this step alone, ``forced_us`` the best whole plan that uses
    it (None: no plan can), ``source`` how its time is known (measured, in-situ, estimate, bodies)."""

    number: int
    layers: tuple[str, ...]
    routine: str
    params: Mapping[str, Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    own_us: float
    forced_us: float | None
    source: str
    chosen: bool

    @property
    def name(self) -> str:
        """Routine with its parameters."""
        params = ",".join(f"{k}={v}" for k, v in self.params.items())
        return f"{self.routine}({params})" if params else self.routine


@dataclass(frozen=True, slots=True)
class ConversionRow:
    """One adapter step of the plan, after the step that made the value (None: it is a graph input)."""

    value: str
    adapter: str
    src: str
    dst: str
    us: float
    after: str | None


@dataclass(frozen=True, slots=True)
class Row:
    """One kernel step: what it computes, what was chosen, and what else could have been, cheapest plan first.

    ``us`` is the plan's own time of the step (seen in place where it was run), ``reads`` and ``makes`` pair value names
    with the specs they are stored in.
    """

    index: int
    layers: tuple[str, ...]
    ops: tuple[str, ...]
    routine: str
    params: Mapping[str, Any]
    us: float
    source: str
    reads: tuple[tuple[str, str], ...]
    makes: tuple[tuple[str, str], ...]
    shape: str
    alternatives: tuple[Alternative, ...]
    conversions: tuple[ConversionRow, ...]

    @property
    def name(self) -> str:
        return "+".join(self.layers)

    @property
    def chosen(self) -> Alternative | None:
        """The alternative that is the choice; None for a plan whose step is not offered here any more."""
        return next((a for a in self.alternatives if a.chosen), None)

    @property
    def device(self) -> str:
        return self.routine.partition("/")[0]


@dataclass(frozen=True, slots=True)
class Explanation:
    """A plan with its reasons. ``table_us`` is the plan's cost on the cost table explained (None if a step is not in
    it), ``best_us`` the optimum there, whatever it rounds; ``bodies`` explains the control-flow bodies it runs, by
    ``layer.attribute``; ``bound`` is what was rounded and why, of a plan made within an accuracy bound."""

    model: str
    threads: int
    rows: tuple[Row, ...]
    conversions: tuple[ConversionRow, ...]
    table_us: float | None
    best_us: float
    segments_us: float
    predictions: Mapping[str, float]
    certificate: Mapping[str, Any]
    machine: Mapping[str, str]
    notes: tuple[str, ...]
    problems: Mapping[str, str]
    bodies: Mapping[str, Explanation]
    bound: BoundReasons | None = None

    @property
    def conversions_us(self) -> float:
        return sum(c.us for c in self.conversions)

    @property
    def reference_layers(self) -> tuple[str, ...]:
        """Layers that only the reference computes in this plan."""
        return tuple(name for row in self.rows if row.routine == REFERENCE for name in row.layers)

    def rows_of(self, wanted: str | None) -> tuple[Row, ...]:
        """The rows of a layer by name, number of its step, or operator (None: all); raises :class:`InputError`."""
        if wanted is None:
            return self.rows
        found = tuple(r for r in self.rows if wanted in (*r.layers, *r.ops, str(r.index), r.name))
        if not found:
            raise InputError(
                f"no layer is called {wanted!r}", file=self.model, remedy="softneuro view lists the layers"
            )
        return found

    def text(self, layer: str | None = None, limit: int = 6) -> str:
        """For people: see :func:`softneuro_core.report.text.explanation_text`."""
        from softneuro_core.report.text import explanation_text

        return explanation_text(self, layer, limit)

    def to_json(self) -> dict[str, Any]:
        """Plain data: everything above, nothing left out."""
        return asdict(self)


def explain(tuned: Tuned, plan: Plan | None = None) -> Explanation:
    """The reasons of ``tuned``'s own plan, or of another ``plan`` for the same graph judged by the same cost table.

    Costs one pass of the tuner's min-marginals over the whole graph.
    """
    form, shown = tuned.form, plan or tuned.plan
    marginals = tuned.tuner.min_marginals(form.problem, tuned.selection)
    numbers = {_key_of(c): i for i, c in enumerate(form.candidates)}
    chosen = [numbers.get(_key(step)) for step in shown.kernel_steps]
    judged = tuned.selection if plan is None else _judge(tuned, plan, chosen)
    found = explain_numbers(form.problem, judged or tuned.selection, marginals)
    conversions = _conversion_rows(shown)
    return Explanation(
        model=form.graph.name,
        threads=shown.threads,
        rows=_rows(form, shown, chosen, found.options, conversions),
        conversions=conversions,
        table_us=None if judged is None else judged.time_ns / 1000,
        best_us=min((m for m in marginals if m is not None), default=tuned.selection.time_ns) / 1000,
        segments_us=0.0 if judged is None else found.segments_ns / 1000,
        predictions=dict(shown.predictions),
        certificate=dict(shown.certificate),
        machine=dict(shown.machine),
        notes=shown.notes,
        problems=dict(tuned.problems),
        bodies={key: explain(tuned.bodies[key], plan and plan.bodies.get(key)) for key in _bodies_run(tuned, shown)},
        bound=bound_reasons(tuned, shown),
    )


def _bodies_run(tuned: Tuned, plan: Plan) -> list[str]:
    """Bodies the plan runs itself; where the reference runs a control-flow layer, it runs the body too."""
    left = {f"{name}." for step in plan.kernel_steps if step.routine == REFERENCE for name in step.layers}
    return [key for key in tuned.bodies if key[: key.rindex(".") + 1] not in left]


_Key = tuple[tuple[str, ...], str, tuple[str, ...], tuple[str, ...], str]


def _key_of(candidate: Candidate) -> _Key:
    offer = candidate.offer
    return (
        tuple(layer.name for layer in candidate.region.layers),
        candidate.routine.name,
        tuple(map(str, offer.inputs)),
        tuple(map(str, offer.outputs)),
        repr(sorted(offer.params.items())),
    )


def _key(step: KernelStep) -> _Key:
    return step.layers, step.routine, step.inputs, step.outputs, repr(sorted(step.params.items()))


def _rows(
    form: Formulation,
    plan: Plan,
    chosen: Sequence[int | None],
    options: Iterable[OptionRow],
    conversions: Sequence[ConversionRow],
) -> tuple[Row, ...]:
    by_layer: dict[int, list[OptionRow]] = {}
    for option in options:
        for layer in option.layers:
            by_layer.setdefault(layer, []).append(option)
    rows = []
    for index, (step, mine) in enumerate(zip(plan.kernel_steps, chosen, strict=True)):
        covered = [form.graph.index[form.graph.layer_by_name[name]] for name in step.layers]
        others = dict.fromkeys(option for layer in covered for option in by_layer.get(layer, ()))
        found = [_alternative(form, option, option.option == mine) for option in others]
        found.sort(key=lambda a: (a.forced_us is None, a.forced_us or 0.0, not a.chosen, a.own_us))
        after = tuple(c for c in conversions if c.after == step.name)
        rows.append(_row(form.graph, index, step, tuple(found), after))
    return tuple(rows)


def _row(
    graph: Graph, index: int, step: KernelStep, found: tuple[Alternative, ...], after: tuple[ConversionRow, ...]
) -> Row:
    from softneuro_core.graph import Region
    from softneuro_core.report.units import show_shape

    region = Region(graph, tuple(graph.layer_by_name[name] for name in step.layers))
    return Row(
        index,
        step.layers,
        tuple(layer.op for layer in region.layers),
        step.routine,
        dict(step.params),
        step.us,
        step.source,
        tuple((v.name, s) for v, s in zip(region.inputs, step.inputs, strict=True)),
        tuple((v.name, s) for v, s in zip(region.outputs, step.outputs, strict=True)),
        ", ".join(show_shape(v.shape) for v in region.outputs),
        found,
        after,
    )


def _alternative(form: Formulation, option: OptionRow, chosen: bool) -> Alternative:
    candidate = form.candidates[option.option]
    layers, routine, inputs, outputs, _ = _key_of(candidate)
    return Alternative(
        option.option,
        layers,
        routine,
        dict(candidate.offer.params),
        inputs,
        outputs,
        option.own_ns / 1000,
        None if option.plan_ns is None else option.plan_ns / 1000,
        form.prices.kernels[candidate].source,
        chosen,
    )


def _conversion_rows(plan: Plan) -> tuple[ConversionRow, ...]:
    rows, after = list[ConversionRow](), None
    for step in plan.steps:
        if isinstance(step, AdapterStep):
            rows.append(ConversionRow(step.value, step.adapter, step.src, step.dst, step.us, after))
        else:
            after = step.name
    return tuple(rows)


def _judge(tuned: Tuned, plan: Plan, chosen: Sequence[int | None]) -> Selection | None:
    """The plan as an answer to this problem; None where a step or conversion is not in its cost table."""
    form = tuned.form
    values = {v.name: i for v, i in form.values.items()}
    specs = {str(s): i for i, s in enumerate(form.specs)}
    options = tuple(i for i in chosen if i is not None)
    trees: dict[int, tuple[tuple[int, int], ...]] = {}
    if len(options) < len(chosen):
        return None
    try:
        for step in plan.steps:
            if isinstance(step, AdapterStep):
                value = values[step.value]
                trees[value] = (*trees.get(value, ()), (specs[step.src], specs[step.dst]))
        time_ns, uses = price(form.problem, options, trees)
    except (KeyError, SelectionError):
        return None
    return replace(tuned.selection, chosen=options, conversions=trees, time_ns=time_ns, uses=uses)
