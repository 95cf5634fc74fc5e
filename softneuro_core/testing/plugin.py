"""pytest fixtures for plugin authors, installed with the core. Cheap to import: pytest loads it in every run."""

from __future__ import annotations

import importlib
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from softneuro_core.catalog import Catalog
    from softneuro_core.testing.null_device import NullDevice


@pytest.fixture
def catalog() -> Catalog:
    """The core's own catalog: no installed plugin is looked for."""
    from softneuro_core.catalog import load_plugins

    return load_plugins(only=())


@pytest.fixture
def tmp_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., ModuleType]]:
    """``tmp_plugin(source, name="tmp_plugin")`` writes a plugin module, imports it and forgets it afterwards."""
    made: list[str] = []

    def make(source: str, name: str = "tmp_plugin") -> ModuleType:
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(source), encoding="utf-8")
        monkeypatch.syspath_prepend(str(tmp_path))
        importlib.invalidate_caches()
        sys.modules.pop(name, None)
        made.append(name)
        return importlib.import_module(name)

    yield make
    for name in made:
        sys.modules.pop(name, None)


@pytest.fixture
def null_device() -> NullDevice:
    """A device that computes nothing and records every call made to it, in ``device.calls``."""
    from softneuro_core.testing.null_device import NullDevice

    return NullDevice()
