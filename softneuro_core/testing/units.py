"""What a plugin has to be checked on, as short names that fit in a test id, and the check of one of them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from softneuro_core.catalog import Catalog, load_plugins
from softneuro_core.errors import PluginError
from softneuro_core.graph import Graph
from softneuro_core.importer import load
from softneuro_core.routine import Routine
from softneuro_core.testing.case import Case, model_cases
from softneuro_core.testing.cases import all_cases
from softneuro_core.testing.conversions import Conversion, check_adapter, conversions
from softneuro_core.testing.routines import check_routine, offers_for
from softneuro_core.testing.subject import Finding, Report

CASES_FUNCTION = "softneuro_conformance_cases"
MODEL = "model:"
NO_CASE = "-"
"""The case of a unit that says: nothing here was ever run."""


class Unit(NamedTuple):
    """One thing to check: a routine on a case, or an adapter between two specs."""

    kind: str
    name: str
    case: str

    @property
    def id(self) -> str:
        """``cpu/hello_relu-relu-17``."""
        return f"{self.name}-{self.case}"


def extra_cases(reference: str, catalog: Catalog) -> list[Case]:
    """Cases from a function ``module:name``, or (``model:PATH``) one for every layer of a model, free dimensions 1."""
    if not reference.startswith(MODEL):
        return list(import_object(reference))
    path = Path(reference.removeprefix(MODEL))
    graph = load(path, catalog=catalog)
    free = {name: [d if isinstance(d, int) else 1 for d in dims or ()] for name, dims in graph.free_dims.items()}
    graph = load(path, free, catalog=catalog) if free else graph
    return [case.renamed(f"{path.stem}:{case.name}") for case in model_cases(graph)]


def import_object(reference: str) -> Any:
    """``module`` or ``module:attribute``; a function is called. Raises what the import raises."""
    name, _, attribute = reference.partition(":")
    found: Any = importlib.import_module(name)
    for part in filter(None, attribute.split(".")):
        found = getattr(found, part)
    return found() if attribute and callable(found) else found


class Workbench:
    """A plugin loaded beside the core alone, with every case it may be checked on.

    ``plugin`` is ``module`` or ``module:attribute`` (an object with hooks, or a function that returns one);
    ``cases`` are more of them, see :func:`extra_cases`. Raises :class:`PluginError` with the reason if the plugin does
    not load.
    """

    def __init__(self, plugin: str, cases: str | None = None) -> None:
        module = import_object(plugin)
        self.catalog: Catalog = load_plugins(only=(), modules={plugin: module})
        self.info = next(info for info in self.catalog.plugins if info.name == plugin)
        if self.info.status != "loaded":
            raise PluginError(f"plugin {plugin} is {self.info.status}: {self.info.reason}")
        own: Callable[[], Iterable[Case]] = getattr(module, CASES_FUNCTION, tuple)
        more = tuple(own()) + tuple(extra_cases(cases, self.catalog) if cases else ())
        self._graphs: dict[str, Graph] = {}
        self.cases = {case.name: case for case in (*all_cases(), *more)}
        if len(self.cases) != len(all_cases()) + len(more):
            names = [case.name for case in (*all_cases(), *more)]
            raise PluginError(f"case names are used twice: {sorted({n for n in names if names.count(n) > 1})}")

    def graph(self, case: Case) -> Graph:
        """The graph of a case, built once: what offers are asked about."""
        if case.name not in self._graphs:
            self._graphs[case.name] = case.graph(self.catalog.operators)
        return self._graphs[case.name]

    def is_mine(self, name: str) -> bool:
        """Whether the plugin brought the routine or adapter of this name."""
        return self.catalog.owners[name].name == self.info.name

    @property
    def routines(self) -> list[Routine]:
        return [r for r in self.catalog.routines.values() if self.is_mine(r.name)]

    def units(self) -> Iterator[Unit]:
        """Everything to check, in a stable order."""
        for routine in self.routines:
            yield from self._routine_units(routine)
        for name, pairs in self.conversions.items():
            yield from (Unit("adapter", name, pair) for pair in pairs or [NO_CASE])
        tested = {op for case in self.cases.values() for op in case.ops}
        for op in self.catalog.operators:
            if op not in tested:
                yield Unit("operator", op, NO_CASE)

    def _routine_units(self, routine: Routine) -> Iterator[Unit]:
        found = False
        if routine.device in self.catalog.devices:
            for case in self._candidates(routine):
                found = True
                yield Unit("routine", routine.name, case.name)
        if not found:
            yield Unit("routine", routine.name, NO_CASE)

    def _candidates(self, routine: Routine) -> Iterator[Case]:
        """Cases the routine offers itself for, or on which asking it fails: those are units too."""
        for case in self.cases.values():
            if routine.pattern and set(routine.pattern) != case.ops:
                continue
            try:
                if offers_for(self.catalog, routine, self.graph(case)):
                    yield case
            except Exception:  # a stranger's code: the check names what it raised
                yield case

    @cached_property
    def conversions(self) -> dict[str, dict[str, list[Conversion]]]:
        """adapter name -> specs -> conversions over shapes."""
        layouts = dict.fromkeys(
            spec.layout
            for routine in self.routines
            for case in self._candidates(routine)
            for offer in _offers_or_none(self.catalog, routine, self.graph(case))
            for spec in offer.inputs + offer.outputs
        )
        found: dict[str, dict[str, list[Conversion]]] = {}
        for adapter in self.catalog.adapters.values():
            if self.is_mine(adapter.name):
                mine = found.setdefault(adapter.name, {})
                for conversion in conversions(self.catalog, adapter, layouts):
                    mine.setdefault(f"{conversion.src}-to-{conversion.dst}".replace(":", "_"), []).append(conversion)
        return found

    def check(self, unit: Unit) -> Report:
        """Runs one unit in this process."""
        if unit.case == NO_CASE:
            return Report(0, (Finding("cases", unit.name, self._untested(unit)),))
        if unit.kind == "routine":
            return check_routine(self.catalog, unit.name, self.cases[unit.case])
        report = Report(0)
        for conversion in self.conversions[unit.name][unit.case]:
            report = report.merged(check_adapter(self.catalog, unit.name, conversion))
        return report

    def _untested(self, unit: Unit) -> str:
        if unit.kind == "operator":
            return f"no case contains it; give some in {CASES_FUNCTION}() of the plugin's module"
        if unit.kind == "adapter":
            return "it accepts no conversion the kit knows"
        device = self.catalog.routines[unit.name].device
        if device not in self.catalog.devices:
            return f"device {device!r} is not available"
        return f"it offers itself for none of the {len(self.cases)} cases"


def _offers_or_none(catalog: Catalog, routine: Routine, graph: Graph) -> list[Any]:
    try:
        return offers_for(catalog, routine, graph)
    except Exception:  # a stranger's code: named where the routine is checked
        return []
