"""view, plugins, routines, layers, knobs, new-plugin, demo."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from softneuro_core.catalog import load_plugins
from softneuro_core.cli import demo
from softneuro_core.device import Target
from softneuro_core.errors import InputError
from softneuro_core.graph import Graph, Layer, Region
from softneuro_core.knobs import KNOBS
from softneuro_core.routine import Kernel, Offer, Routine
from tests.cli.conftest import Run, the_line


def test_view_shows_layers_with_their_work(run: Run, model: Path) -> None:
    text = run("view", model).stdout
    assert "input x: float32 1x3x8x8" in text
    assert "conv1" in text
    assert "8 layers, 845 parameters" in text
    data = json.loads(run("view", model, "--json").stdout)
    conv1 = data["layers"][0]
    assert conv1["parameters"] == 8 * 3 * 9 + 8
    assert conv1["flops"] == 2 * (8 * 8 * 8) * (3 * 9)
    assert conv1["results"][0]["shape"] == [1, 8, 8, 8]


def test_view_leaves_free_shapes_free_unless_given(run: Run, free_batch: Path) -> None:
    free = run("view", free_batch)
    assert "Nx8x8x8" in free.stdout
    assert "some dimensions are free" in free.stderr
    assert "5x8x8x8" in run("view", free_batch, "--shape", "5x3x8x8").stdout


def test_view_shows_what_a_plan_runs(run: Run, model: Path, plan: Path) -> None:
    text = run("view", model, "--plan", plan).stdout
    assert "cpu/reference" in text
    assert "cpu:float32:NCHW" in text
    assert json.loads(run("view", model, "--plan", plan, "--json").stdout)["layers"][7]["routine"] == "cpu/reference"


def test_plugins_names_the_core_and_devices(run: Run) -> None:
    assert "softneuro-core" in run("plugins").stdout
    data = json.loads(run("plugins", "--json").stdout)
    assert data["plugins"][0]["name"] == "core"
    assert data["devices"][0]["name"] == "cpu"


def test_a_plugin_that_fails_is_shown_with_its_reason(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Entry:
        name, dist = "broken", None

        @staticmethod
        def load() -> None:
            raise OSError("no such library")

    monkeypatch.setattr("softneuro_core.catalog._entry_points", lambda: [Entry])
    monkeypatch.delenv("SOFTNEURO_PLUGINS")
    result = run("plugins")
    assert result.exit_code == 0
    assert "import: OSError: no such library" in result.stdout


def test_routines_by_operator_and_by_layer(run: Run, model: Path) -> None:
    assert "cpu/reference" in run("routines").stdout
    assert "no routine but the reference is for 'Conv'" in run("routines", "Conv").stderr
    matrix = json.loads(run("routines", "--model", model, "--json").stdout)
    assert matrix["conv1"]["specs"] == {"cpu:float32:NCHW": ["cpu/reference"]}
    assert set(json.loads(run("routines", "Relu", "--model", model, "--json").stdout)) == {"relu1", "relu2"}
    assert run("routines", "Nothing", "--model", model).exit_code == 4


def test_routines_without_a_pattern_are_asked_what_they_end_at(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Asked(Routine):
        name = "cpu/asked"

        def regions(self, graph: Graph, exit: Layer) -> Iterable[tuple[Layer, ...]]:
            if exit.op == "Tanh":
                raise RuntimeError("no")
            return [(exit,)] if exit.op in ("Conv", "Gemm") else []

        def offers(self, region: Region, target: Target) -> Iterable[Offer]:
            return []

        def prepare(self, region: Region, offer: Offer, target: Target) -> Kernel:
            raise AssertionError("never offered")

    catalog = load_plugins(only=())
    widened = replace(
        catalog,
        routines={**catalog.routines, "cpu/asked": Asked()},
        owners={**catalog.owners, "cpu/asked": catalog.owners["cpu/reference"]},
    )
    monkeypatch.setattr("softneuro_core.cli.layers.load_plugins", lambda: widened)
    monkeypatch.setattr("softneuro_core.cli.routines.load_plugins", lambda: widened)
    data = json.loads(run("layers", "--json").stdout)
    assert {op for op, names in data.items() if "cpu/asked" in names} == {"Conv", "Gemm"}
    assert "cpu/asked" in run("routines", "Gemm").stdout
    assert "cpu/asked" not in run("routines", "Relu").stdout


def test_layers_lists_onnx(run: Run) -> None:
    data = json.loads(run("layers", "--json").stdout)
    assert data["Conv"] == []
    assert "Conv" in run("layers", "--all").stdout


def test_knobs_are_all_listed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    text = run("knobs").stdout
    assert all(knob.name in text and knob.meaning in text for knob in KNOBS)
    monkeypatch.setenv("SOFTNEURO_DISABLE_PLUGINS", "abc")
    assert json.loads(run("knobs", "--json").stdout)["SOFTNEURO_DISABLE_PLUGINS"]["value"] == "abc"


def test_new_plugin_writes_a_package(run: Run, tmp_path: Path) -> None:
    result = run("new-plugin", "my-kernels", "--into", tmp_path)
    assert result.exit_code == 0
    assert (tmp_path / "softneuro-my-kernels" / "pyproject.toml").is_file()
    assert "pip install -e" in result.stdout
    assert run("new-plugin", "My Kernels", "--into", tmp_path).exit_code == 4
    assert "exists already" in the_line(run("new-plugin", "my-kernels", "--into", tmp_path))


def test_the_demo_is_run_with_its_arguments(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "demo.py"
    script.write_text("import sys\nprint(sys.argv[1:])\nsys.exit(3)\n")
    monkeypatch.setattr(demo, "find_demo", lambda: script)
    assert run("demo", "--quick", "x").exit_code == 3
    assert capfd.readouterr().out == "['--quick', 'x']\n"


def test_an_absent_demo_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"part of the source tree.*make demo"):
        demo.find_demo(tmp_path)
