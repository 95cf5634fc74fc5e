"""The kit catches every planted fault under its own name, and lets the routine without the fault pass."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import zoo

from softneuro_core.testing.isolation import Isolation
from softneuro_core.testing.subject import CHECKS, Finding
from softneuro_core.testing.units import Unit

HANG_S, NORMAL_S = 3.0, 60.0


@pytest.fixture(scope="module")
def cages() -> Iterator[Isolation]:
    isolation = Isolation("zoo")
    yield isolation
    isolation.close()


@pytest.fixture(scope="module")
def units(cages: Isolation) -> list[Unit]:
    return cages.units()


def _of(units: list[Unit], name: str) -> list[Unit]:
    mine = [unit for unit in units if unit.name == name]
    assert mine, name
    return mine


def _first_findings(cages: Isolation, units: list[Unit], timeout_s: float) -> tuple[Finding, ...]:
    for unit in units:
        if found := cages.check(unit, timeout_s).findings:
            return found
    return ()


@pytest.mark.parametrize("creature", zoo.CREATURES.values(), ids=lambda creature: creature.name)
def test_the_fault_is_caught_and_named(cages: Isolation, units: list[Unit], creature: zoo.Creature) -> None:
    mine = _of(units, f"cpu/wrong_{creature.name}")
    if creature.at:
        mine = [unit for unit in mine if unit.case == creature.at]
        assert mine, f"no case {creature.at}"
    found = _first_findings(cages, mine, HANG_S if creature.check == "hang" else NORMAL_S)
    assert found, f"{creature.name} went through {len(mine)} cases"
    names = {finding.check for finding in found}
    assert creature.check in names, found
    text = "\n".join(map(str, found))
    assert CHECKS[creature.check] in text and f"wrong_{creature.name}" in text


@pytest.mark.parametrize("creature", zoo.CREATURES.values(), ids=lambda creature: creature.name)
def test_the_twin_without_the_fault_passes(cages: Isolation, units: list[Unit], creature: zoo.Creature) -> None:
    mine = _of(units, f"cpu/right_{creature.name}")
    if len(mine) > 30:  # the twins of the convolutions are one and the same routine
        mine = [u for i, u in enumerate(mine) if i % 5 == 0 or u.case == creature.at or creature is zoo.FIRST_CONV]
    done = 0
    for unit in mine:
        report = cages.check(unit, NORMAL_S)
        excused = {"allocation"} if creature.allocates else set()
        assert not [f for f in report.findings if f.check not in excused], report.findings
        done += report.offers and not report.skipped
    assert done, f"{creature.name} was never run"


@pytest.mark.parametrize(("fault", "check"), zoo.ADAPTERS.items())
def test_a_wrong_adapter_is_caught_and_named(cages: Isolation, units: list[Unit], fault: str, check: str) -> None:
    found = [f for unit in _of(units, f"cpu/wrong_{fault}") for f in cages.check(unit, NORMAL_S).findings]
    assert check in {f.check for f in found}, found
    right = [f for unit in _of(units, f"cpu/right_{fault}") for f in cages.check(unit, NORMAL_S).findings]
    assert not [f for f in right if f.check != "allocation"]


def test_there_are_enough_of_them() -> None:
    assert len(zoo.CREATURES) + len(zoo.ADAPTERS) >= 20
