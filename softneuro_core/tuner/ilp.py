"""The same problem as an integer programme (scipy's HiGHS): the fallback beyond the budget, and a cross-check.

Knows nothing of the dynamic programme. Variables, all times in ns:

    x[o]        option o is chosen                         cover:  sum of x over options covering a layer = 1
    y[v, e]     conversion e of value v is made
    flow[v, r, e], supply[v, r, s]   reader r's own flow of value v, from the specs it is made in along conversions
    last[i, d]  the last step up to layer i runs on device d (devices with a fixed cost only)
    start[i, d] a segment on d starts with the step that ends in layer i

Flow carries the truth: rows that only say "what is wanted is made or converted to" let conversions justify each
other in a cycle. One flow for all readers would be enough, but its capacity ``n * y`` makes the relaxation so weak
that HiGHS does not prove resnet50 at 12 specs in 200 s; a reader's own flow needs ``y`` only. ``mip_rel_gap=0``, and
the answer is priced by :func:`price`, never by the solver's floats.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np

from softneuro_core.tuner.price import demands, price, within
from softneuro_core.tuner.problem import Problem
from softneuro_core.tuner.steiner import runnable


def available() -> bool:
    """True if scipy is installed (extra ``ilp``)."""
    return find_spec("scipy") is not None


@dataclass(frozen=True, slots=True)
class IlpAnswer:
    """A plan, priced, and the solver's proven bound (equal to the price if it proved the plan best)."""

    chosen: tuple[int, ...]
    conversions: Mapping[int, tuple[tuple[int, int], ...]]
    time_ns: int
    lower_bound_ns: int


Row = dict[int, float]


class _Model:
    """Sparse rows and columns being written."""

    def __init__(self) -> None:
        self.cost: list[float] = []
        self.upper: list[float] = []
        self.integer: list[int] = []
        self.rows: list[Row] = []
        self.low: list[float] = []
        self.high: list[float] = []

    def variable(self, cost: float, upper: float = 1.0, integer: bool = False) -> int:
        self.cost.append(cost)
        self.upper.append(upper)
        self.integer.append(int(integer))
        return len(self.cost) - 1

    def row(self, terms: Row, low: float = -math.inf, high: float = math.inf) -> None:
        self.rows.append(terms)
        self.low.append(low)
        self.high.append(high)


def _sum(*parts: tuple[float, Iterable[int]]) -> Row:
    row: Row = {}
    for factor, variables in parts:
        for variable in variables:
            row[variable] = row.get(variable, 0.0) + factor
    return row


class _Programme:
    """The rows of one problem."""

    def __init__(self, problem: Problem) -> None:
        self.problem, self.model = problem, _Model()
        self.x = [self.model.variable(option.time_ns, integer=True) for option in problem.options]
        self.y: dict[tuple[int, tuple[int, int]], int] = {}
        for layer in range(problem.layer_count):
            covering = [self.x[i] for i, option in enumerate(problem.options) if layer in option.layers]
            self.model.row(_sum((1, covering)), 1, 1)
        for value in sorted(self._values()):
            self._flow(value)
        self._segments()
        self._limits()

    def _values(self) -> set[int]:
        options = self.problem.options
        read = {value for option in options for value, _ in option.inputs}
        return read.union((value for value, _ in self.problem.sinks), self.problem.sources)

    def _flow(self, value: int) -> None:
        """Variables of one value's conversions, and one flow per reader."""
        made: dict[int, list[int]] = {}
        for number, option in enumerate(self.problem.options):
            for spec in {spec for v, spec in option.outputs if v == value}:
                made.setdefault(spec, []).append(self.x[number])
        table = self.problem.conversions.get(value, {})
        edges = {edge: self.model.variable(cost.time_ns, integer=True) for edge, cost in table.items()}
        self.y.update(((value, edge), column) for edge, column in edges.items())
        for demand, units in self._readers(value):
            self._commodity(value, edges, made, demand, units)

    def _readers(self, value: int) -> Iterator[tuple[dict[int, Row | None], int]]:
        """Per group of options of which at most one is chosen, the specs they read ``value`` in (with the variables
        that want each; None: always) and how many at once."""
        groups: dict[int, dict[int, Row | None]] = {}
        units: dict[int, int] = {}
        for number, option in enumerate(self.problem.options):
            specs = {spec for v, spec in option.inputs if v == value}
            for spec in specs:
                wanted = groups.setdefault(option.layers[0], {}).setdefault(spec, {})
                assert wanted is not None
                wanted[self.x[number]] = 1.0
                units[option.layers[0]] = max(units.get(option.layers[0], 0), len(specs))
        yield from ((demand, units[layer]) for layer, demand in groups.items())
        for spec in {spec for v, spec in self.problem.sinks if v == value}:
            yield {spec: None}, 1

    def _commodity(
        self,
        value: int,
        edges: Mapping[tuple[int, int], int],
        made: Mapping[int, list[int]],
        demand: Mapping[int, Row | None],
        units: int,
    ) -> None:
        """What one reader wants flows to it from the spec made, along conversions that are paid for."""
        model, given = self.model, self.problem.sources.get(value)
        balance: dict[int, Row] = {spec: {} for spec in {*made, *demand, *(s for edge in edges for s in edge)}}
        if given is not None:
            balance.setdefault(given, {})
        for (source, target), column in edges.items():
            flow = model.variable(0.0, upper=units)
            model.row({flow: 1.0, column: -float(units)}, high=0.0)
            balance[target][flow] = 1.0
            balance[source][flow] = -1.0
        for spec, row in balance.items():
            if spec in made or spec == given:
                supply = model.variable(0.0, upper=units)
                row[supply] = 1.0
                if spec != given:
                    model.row({supply: 1.0} | dict.fromkeys(made[spec], -float(units)), high=0.0)
            wanted = demand.get(spec, {})
            if wanted is None:
                model.row(row, 1.0, 1.0)
            else:
                model.row(row | dict.fromkeys(wanted, -1.0), 0.0, 0.0)

    def _segments(self) -> None:
        """Backward as forward: a segment is paid by its first step, unless the step before is on its device.

        The variables follow from x and need not be integers, but HiGHS 1.12 then called a plan of 6,748,984 ns the
        optimum where one of 4,717,104 exists (inception_v1, 24 specs, two devices); with integers it is right."""
        problem, model = self.problem, self.model
        for device, cost in problem.segment_ns.items():
            last: int | None = None
            for layer in range(problem.layer_count) if cost else ():
                ends = [(self.x[i], o.device == device) for i, o in enumerate(problem.options) if o.exit == layer]
                here = [x for x, same in ends if same]
                elsewhere = [x for x, same in ends if not same]
                before = [] if last is None else [last]
                start = model.variable(cost, integer=True)
                model.row(_sum((1, [start]), (-1, here), (1, before)), low=0.0)
                last = model.variable(0.0, integer=True)
                model.row(_sum((1, [last]), (-1, here), (-1, before)), high=0.0)
                model.row(_sum((1, [last]), (1, elsewhere)), high=1.0)

    def _limits(self) -> None:
        for i, bound in enumerate(self.problem.limits):
            if bound is None:
                continue
            row = {self.x[n]: float(o.uses[i]) for n, o in enumerate(self.problem.options) if o.uses and o.uses[i]}
            for (value, edge), y in self.y.items():
                uses = self.problem.conversions[value][edge].uses
                if uses and uses[i]:
                    row[y] = float(uses[i])
            self.model.row(row, high=float(bound))


def solve(problem: Problem, seconds: float | None = None) -> IlpAnswer | None:
    """The best plan HiGHS finds (within ``seconds``); None if it finds none or proves there is none.

    Needs scipy. The bound equals the time exactly if the solver proved optimality.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array

    programme = _Programme(problem)
    model = programme.model
    columns = len(model.cost)
    if not columns:
        return IlpAnswer((), {}, 0, 0)
    entries = [(i, j, a) for i, row in enumerate(model.rows) for j, a in row.items()]
    rows, cols, data = (np.array(part) for part in zip(*entries, strict=True))
    matrix = csr_array((data, (rows, cols)), shape=(len(model.rows), columns))
    options = {"mip_rel_gap": 0.0} | ({} if seconds is None else {"time_limit": seconds})
    result = milp(
        np.array(model.cost),
        integrality=np.array(model.integer),
        bounds=Bounds(0.0, np.array(model.upper)),
        constraints=LinearConstraint(matrix, np.array(model.low), np.array(model.high)),
        options=options,
    )
    if result.x is None:
        return None
    return _answer(programme, result.x, result.status == 0, result.mip_dual_bound)


def _answer(programme: _Programme, x: np.ndarray, proven: bool, bound: float) -> IlpAnswer | None:
    problem = programme.problem
    chosen = [number for number, column in enumerate(programme.x) if x[column] > 0.5]
    chosen.sort(key=lambda number: problem.options[number].exit)
    steps = [problem.options[number] for number in chosen]
    made = dict(problem.sources) | {value: spec for step in steps for value, spec in step.outputs}
    wanted: dict[int, int] = {}
    for value, spec in demands(problem, steps):
        wanted[value] = wanted.get(value, 0) | 1 << spec
    edges: dict[int, list[tuple[int, int]]] = {}
    for (value, edge), column in programme.y.items():
        if x[column] > 0.5:
            edges.setdefault(value, []).append(edge)
    conversions = {
        value: tree
        for value in edges
        if value in wanted and (tree := runnable(edges[value], made[value], wanted[value]))
    }
    time, uses = price(problem, chosen, conversions)
    if not within(problem, uses):  # beyond a bound by less than the solver's tolerance
        return None
    return IlpAnswer(tuple(chosen), conversions, time, time if proven else max(0, math.floor(bound)))
