"""``conformance``: a plugin's routines and adapters as one parametrised pytest test."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from types import ModuleType
from typing import Any

import pytest

from softneuro_core.errors import InputError, PluginError
from softneuro_core.testing.isolation import Isolation
from softneuro_core.testing.subject import Report
from softneuro_core.testing.units import Unit


def conformance(
    plugin: ModuleType | str,
    xfail: Mapping[str, str] | None = None,
    cases: str | None = None,
    timeout_s: float = 60.0,
    every: int = 1,
) -> Callable[..., None]:
    """A test over everything the plugin offers: ``test_conformance = conformance(softneuro_hello)``.

    ``plugin`` is the module, or its name (``module`` or ``module:attribute``). Ids are ``ROUTINE-CASE``
    (``cpu/hello_relu-relu-17``) and stable. ``xfail`` maps ids, or patterns of them (``cpu/hello_relu-*-nan``), to a
    reason; an expected failure that passes fails, and a pattern that matches nothing raises :class:`InputError`.
    ``cases`` names a function returning more cases, beside those of the plugin's
    ``softneuro_conformance_cases()``. Every unit runs in a worker process and may take ``timeout_s``.
    ``every`` above 1 keeps only every n-th case of each routine, for a quick run beside a complete one.
    """
    name = plugin if isinstance(plugin, str) else plugin.__name__
    isolation = Isolation(name, cases)
    expected = dict(xfail or {})
    try:
        units = _thinned(isolation.units(), every)
    except PluginError as error:
        return _failure(error)
    unused = [pattern for pattern in expected if not any(fnmatchcase(unit.id, pattern) for unit in units)]
    if unused:
        raise InputError(f"xfail names nothing that is tested: {unused}", remedy="pytest --collect-only shows the ids")

    @pytest.mark.parametrize("unit", [_parameter(unit, expected) for unit in units])
    def test_conformance(unit: Unit, record_property: Callable[[str, object], None]) -> None:
        report = isolation.check(unit, timeout_s)
        for key, value in _numbers(report).items():
            record_property(key, value)
        if report.findings:
            pytest.fail("\n".join(map(str, report.findings)), pytrace=False)
        if report.skipped:
            pytest.skip(report.skipped)

    return test_conformance


def _thinned(units: Sequence[Unit], every: int) -> list[Unit]:
    """The first of each routine, and then every n-th."""
    places: dict[str, int] = {}
    chosen = []
    for unit in units:
        place = places[unit.name] = places.get(unit.name, -1) + 1
        if place % every == 0:
            chosen.append(unit)
    return chosen


def _numbers(report: Report) -> dict[str, Any]:
    return {"offers": report.offers, "max_error": report.max_error, "nmse": report.nmse}


def _parameter(unit: Unit, xfail: Mapping[str, str]) -> Any:
    reasons = [reason for pattern, reason in xfail.items() if fnmatchcase(unit.id, pattern)]
    marks = [pytest.mark.xfail(reason=reasons[0], strict=True)] if reasons else []
    return pytest.param(unit, id=unit.id, marks=marks)


def _failure(error: PluginError) -> Callable[..., None]:
    """One failing test with the reason, so that the rest of the run goes on."""

    def test_conformance() -> None:
        pytest.fail(str(error), pytrace=False)

    return test_conformance
