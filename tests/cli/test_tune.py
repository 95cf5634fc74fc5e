"""tune, explain, memory, compare, profile: the way from a model to a plan and its reasons."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from softneuro_core import knobs
from softneuro_core.catalog import Catalog, load_plugins
from softneuro_core.plan import Plan
from tests.cli.conftest import Run, the_line
from tests.core.models import model as make_model
from tests.report import planted


def test_tune_measures_once_and_writes_a_plan(run: Run, model: Path, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    first = run("tune", model, "-o", path, "--threads", 1)
    assert first.exit_code == 0, first.stderr
    assert "measuring: 7" in first.stderr  # the two Relus are one job
    plan = Plan.load(path)
    assert plan.certificate["exact"] is True
    assert set(plan.predictions) >= {"isolated_us", "in_situ_us", "whole_us"}
    for words in (
        "predicted from isolated costs",
        "seen in place",
        "proven optimal",
        "conversions: 0",
        "dearest steps",
    ):
        assert words in first.stdout
    assert "reference: 8 layers use it: conv1, relu1" in first.stdout
    second = run("tune", model, "-o", path, "--threads", 1)
    assert "measuring" not in second.stderr


def test_json_is_the_plan(run: Run, model: Path) -> None:
    result = run("tune", model, "--budget", 0, "--json")
    assert [s.name for s in Plan.from_json(result.stdout).steps][:2] == ["conv1", "relu1"]
    assert "unprofiled" in result.stdout


def test_a_free_batch_is_taken_as_one_and_said(run: Run, free_batch: Path) -> None:
    result = run("tune", free_batch, "--budget", 0, "--json")
    assert Plan.from_json(result.stdout).shapes == {"x": (1, 3, 8, 8)}
    assert "free batch dimension taken as 1: x=1x3x8x8" in result.stderr
    four = run("tune", free_batch, "--budget", 0, "--json", "--shape", "x=4x3x8x8")
    assert Plan.from_json(four.stdout).shapes == {"x": (4, 3, 8, 8)}
    assert "free batch" not in four.stderr


def test_arrays_give_shapes(run: Run, free_batch: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((3, 3, 8, 8), np.float32))
    result = run("tune", free_batch, "--budget", 0, "--json", "--input", tmp_path / "x.npy")
    assert Plan.from_json(result.stdout).shapes == {"x": (3, 3, 8, 8)}


def test_other_free_dimensions_must_be_given(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "seq.onnx"
    nodes = [helper.make_node("Add", ["a", "b"], ["c"])]
    onnx.save(make_model(nodes, {"a": ["N", "seq"], "b": ["N", "seq"]}, ["c"]), path)
    result = run("tune", path, "--budget", 0)
    assert result.exit_code == 4
    assert "input 'a' has free dimensions Nxseq (give them: --shape a=1x<seq>)" in the_line(result)
    named = run("tune", path, "--budget", 0, "--json", "--shape", "a=2x7")
    assert Plan.from_json(named.stdout).shapes == {"a": (2, 7), "b": (2, 7)}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--shape", "x=1x3xEIGHT"], 4, "is not a shape"),
        (["--shape", "x=2x3x8x8"], 4, "x"),
        (["--allow", "float33"], 4, "unknown dtypes ['float33']"),
        (["--accuracy", "perfect"], 4, "unknown accuracy 'perfect'"),
        (["--limit", "watts=3"], 4, "unknown limits ['watts']"),
        (["--limit", "constant_bytes"], 4, "is not NAME=NUMBER"),
        (["--limit", "constant_bytes=much"], 4, "is not a size"),
        (["-r", "a:b:c:d"], 4, "is not DEVICE[:DTYPE]"),
        (["-r", "gpu"], 7, "no routine is left for Conv"),
        (["--forbid", "cpu@conv2"], 7, "no routine is left for Conv"),
        (["--forbid-fallback"], 7, "conv1: the plan would use the reference"),
        (["-o", "no/such/plan.json"], 4, "the folder does not exist"),
        (["--report", "no/such/page.html"], 4, "the folder does not exist"),
        (["--from", "absent.json"], 5, "absent.json: cannot be read"),
        (["--max-mem", "1k"], 8, "the limit is"),
        (["--budget", "-1"], 2, "Invalid value for '--budget'"),
    ],
)
def test_bad_requests_are_told(run: Run, model: Path, arguments: list[str], code: int, words: str) -> None:
    result = run("tune", model, "--budget", 0, *arguments)
    assert result.exit_code == code, result.stderr
    assert words in the_line(result)


def test_from_asks_the_same_again(run: Run, free_batch: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    given = [
        "--shape",
        "x=2x3x8x8",
        "--threads",
        1,
        "--accuracy",
        "strict",
        "--allow",
        "float16",
        "--limit",
        "error=0.5",
    ]
    assert run("tune", free_batch, "-o", first, "--budget", 0, *given).exit_code == 0
    assert run("tune", free_batch, "-o", second, "--budget", 0, "--from", first).exit_code == 0
    before, after = Plan.load(first), Plan.load(second)
    assert after.request == before.request
    assert after.request["accuracy"] == "strict"
    assert (after.shapes, after.threads) == (before.shapes, 1)


def test_explain_names_choice_cost_and_reference(run: Run, model: Path, plan: Path) -> None:
    result = run("explain", model, "--plan", plan)
    assert result.exit_code == 0, result.stderr
    assert "[0] conv1  Conv  1x8x8x8" in result.stdout
    assert "cpu/reference" in result.stdout
    assert "reference: 8 layers use it" in result.stdout
    one = run("explain", model, "fc", "--plan", plan)
    assert "[7] fc  Gemm" in one.stdout
    assert "conv1" not in one.stdout
    assert run("explain", model, "nothing", "--plan", plan).exit_code == 4
    data = json.loads(run("explain", model, "--plan", plan, "--json").stdout)
    assert data["rows"][0]["layers"] == ["conv1"]
    assert all(row["alternatives"][0]["forced_us"] == pytest.approx(data["best_us"]) for row in data["rows"])


def test_the_report_is_written_and_holds_the_layers(run: Run, model: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert run("tune", model, "--budget", 0, "--report", page).exit_code == 0
    text = page.read_text(encoding="utf-8")
    for words in ("residual.onnx", "conv1", "GlobalAveragePool", "Proven optimal", "Measured", "<svg", "Alternatives"):
        assert words in text
    other = tmp_path / "explained.html"
    assert run("explain", model, "--html", other).exit_code == 0
    assert "Alternatives" in other.read_text(encoding="utf-8")


def test_memory_shows_every_value(run: Run, model: Path, plan: Path, tmp_path: Path) -> None:
    result = run("memory", model, "--plan", plan)
    assert result.exit_code == 0, result.stderr
    assert "c1 as cpu:float32:NCHW" in result.stdout
    data = json.loads(run("memory", model, "--plan", plan, "--json").stdout)
    (arena,) = data["arenas"]
    assert arena["bound_bytes"] <= arena["nbytes"] <= arena["separate_bytes"]
    assert run("memory", model, "--plan", plan, "--html", tmp_path / "m.html").exit_code == 0
    assert "<svg" in (tmp_path / "m.html").read_text(encoding="utf-8")


def test_compare_agrees_and_finds_a_planted_error(
    run: Run, model: Path, plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run("compare", model, "--plan", plan)
    assert result.exit_code == 0, result.stderr
    assert "8 of 8 steps agree with the reference" in result.stdout

    def with_planted(*_: object, **__: object) -> Catalog:
        return load_plugins(only=(), modules=[planted])

    monkeypatch.setattr("softneuro_core.cli.sessions.load_plugins", with_planted)
    wrong = run("compare", model, "-r", "cpu/off_by_a_bit@relu2", "-r", "cpu/reference@relu1")
    assert wrong.exit_code == 11, wrong.stderr
    assert "first divergence: relu2 by cpu/off_by_a_bit: max error 0.01" in wrong.stdout
    data = json.loads(
        run("compare", model, "-r", "cpu/off_by_a_bit@relu2", "-r", "cpu/reference@relu1", "--json").stdout
    )
    assert data["first_divergence"] == "relu2"
    assert [s["name"] for s in data["steps"] if s["diverges"]] == ["relu2"]


def test_profile_measures_without_choosing(run: Run, model: Path) -> None:
    rows = json.loads(run("profile", model, "--threads", 1, "--json").stdout)
    assert {r["layers"] for r in rows} == {"conv1", "relu1", "conv2", "add", "relu2", "pool", "flatten", "fc"}
    assert all(r["status"] == "ok" and r["us"] > 0 for r in rows)
    again = run("profile", model, "--threads", 1)
    assert "measuring" not in again.stderr
    assert "conv1" in again.stdout
    nothing = json.loads(run("profile", model, "--threads", 2, "--budget", 0, "--json").stdout)
    assert {r["status"] for r in nothing} == {"not measured"}


def test_costs_go_out_and_come_back(run: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("profile", model, "--threads", 1).exit_code == 0
    file = tmp_path / "costs.jsonl"
    assert run("costs", "export", "-o", file).exit_code == 0
    lines = file.read_text().splitlines()
    assert len(lines) == 7
    assert run("costs", "export").stdout.splitlines() == lines
    assert json.loads(run("costs", "show", "--json").stdout)["routines"]["cpu/reference"]["measured"] == 7
    assert "7 costs cleared" in run("costs", "clear", "--yes").stdout
    assert run("costs", "export").stdout == ""
    assert "7 costs new or better" in run("costs", "merge", file).stdout
    assert "0 costs new or better" in run("costs", "merge", file).stdout
    assert "cpu/reference" in run("costs", "show").stdout
    assert run("costs", "clear", "--routine", "cpu/other", "--yes").stdout == "0 costs cleared\n"
    monkeypatch.setenv(knobs.CACHE_DIR.name, str(tmp_path / "second"))
    assert "7 costs new or better from -" in run("costs", "merge", "-", input=file.read_text()).stdout


def test_clearing_asks_first(run: Run, model: Path) -> None:
    assert run("profile", model, "--threads", 1).exit_code == 0
    assert run("costs", "clear", input="n\n").exit_code == 130
    assert len(run("costs", "export").stdout.splitlines()) == 7


def test_bad_cost_files_are_told(run: Run, tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text('{"key": 3}\n')
    result = run("costs", "merge", tmp_path / "bad.jsonl")
    assert result.exit_code == 9
    assert "line 1 is not an exported cost" in the_line(result)
    assert run("costs", "merge", tmp_path / "absent").exit_code == 9


def test_a_database_that_cannot_be_used_is_said_and_tuning_goes_on(run: Run, model: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    result = run("tune", model, "--threads", 1, "--budget", 5)
    assert result.exit_code == 0, result.stderr
    assert "costs are kept in memory" in result.stderr
