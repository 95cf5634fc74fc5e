"""The core's own adapters, the fake device and the example go through the kit they offer to others."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_device import FakePlugin

from softneuro_core.catalog import load_plugins
from softneuro_core.testing import conformance
from softneuro_core.testing.conversions import check_adapter, conversions
from softneuro_core.testing.isolation import Isolation

EXAMPLE = Path(__file__).parents[2] / "examples" / "softneuro-hello"

test_fake_device = conformance("fake_device")
test_simulated_device = conformance("simulated_device")


@pytest.fixture
def hello_on_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", [str(EXAMPLE), *sys.path])
    yield


@pytest.mark.usefixtures("hello_on_path")
def test_hello() -> None:
    isolation = Isolation("softneuro_hello")
    units = isolation.units()
    assert {unit.name for unit in units} == {"cpu/hello_relu", "cpu/hello_snake"}
    findings = [f for unit in units for f in isolation.check(unit, 60.0).findings]
    isolation.close()
    assert not findings


@pytest.mark.parametrize("name", ["cpu/relayout", "cpu/cast", "cpu/transfer"])
def test_core_adapters(name: str) -> None:
    catalog = load_plugins(only=(), modules=[FakePlugin()])
    accepted = list(conversions(catalog, catalog.adapters[name]))
    chosen = accepted[:: max(1, len(accepted) // 60)]
    assert len(chosen) >= 40
    assert not [f for conversion in chosen for f in check_adapter(catalog, name, conversion).findings]
