"""Inputs of every kind to outputs, and what the user is told when they do not fit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.cli.conftest import Run, the_line
from tests.core.models import expected, image, residual
from tests.core.models import model as make_model


def test_outputs_are_those_of_the_reference(run: Run, model: Path, sample: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.npz"
    result = run("run", model, "--input", f"x={sample}", "-o", out)
    assert result.exit_code == 0, result.stderr
    with np.load(out) as made:
        np.testing.assert_allclose(made["y"], expected(residual(), {"x": image()})[0], rtol=1e-5, atol=1e-5)
        best = int(np.argmax(made["y"]))
    assert "y: float32 1x5" in result.stdout
    assert f"top: [{best}]" in result.stdout
    assert f"written: {out}" in result.stdout


def test_the_name_may_be_left_out(run: Run, model: Path, sample: Path, tmp_path: Path) -> None:
    archive = tmp_path / "sample_io.npz"
    np.savez(archive, **{"in:x": image(), "out:y": np.zeros(5)})
    ways = [sample, f"x={sample}", archive, f"x={archive}"]
    shown = [run("run", model, "--input", way, "--json") for way in ways]
    assert [r.exit_code for r in shown] == [0] * 4
    assert len({r.stdout for r in shown}) == 1


def test_random_inputs_are_the_same_every_time(run: Run, model: Path) -> None:
    first, second, default = (run("run", model, *way) for way in (["-i", "random"], ["-i", "x=random"], []))
    assert first.stdout == second.stdout == default.stdout
    assert "y: float32 1x5" in first.stdout


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((1, 3, 8, 9), np.float32), "has shape (1, 3, 8, 9), the model wants (1, 3, 8, 8)"),
        (np.zeros((3, 8, 8), np.float32), "has shape (3, 8, 8)"),
        (np.zeros((1, 3, 8, 8)), "has dtype float64, the model wants float32"),
    ],
)
def test_arrays_that_do_not_fit_are_told(run: Run, model: Path, tmp_path: Path, array: np.ndarray, words: str) -> None:
    np.save(tmp_path / "bad.npy", array)
    result = run("run", model, "--input", tmp_path / "bad.npy")
    assert result.exit_code == 4
    assert words in the_line(result)


def test_unknown_names_are_told(run: Run, model: Path, sample: Path) -> None:
    result = run("run", model, "--input", f"z={sample}")
    assert result.exit_code == 4
    assert "no input 'z'" in the_line(result)
    assert "inputs are 'x'" in the_line(result)
    assert run("run", model, "--shape", "z=1x2").exit_code == 4


def test_files_that_are_no_arrays_are_told(run: Run, model: Path, tmp_path: Path) -> None:
    (tmp_path / "text.npy").write_text("hello")
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04 cut")
    np.save(tmp_path / "pickled.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "else.npz", q=np.zeros(3), r=np.zeros(2))
    for name in ("text.npy", "cut.npz", "pickled.npy", "else.npz", "absent.npy"):
        result = run("run", model, "--input", tmp_path / name)
        assert result.exit_code == 4, name
        assert name in the_line(result)


def test_every_input_must_be_given(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "add.onnx"
    onnx.save(make_model([helper.make_node("Add", ["a", "b"], ["c"])], {"a": [2], "b": [2]}, ["c"]), path)
    np.save(tmp_path / "a.npy", np.ones(2, np.float32))
    result = run("run", path, "--input", f"a={tmp_path / 'a.npy'}")
    assert result.exit_code == 4
    assert "input 'b' is not given" in the_line(result)
    assert "several inputs" in the_line(run("run", path, "--input", tmp_path / "a.npy"))
    assert run("run", path, "--input", f"a={tmp_path / 'a.npy'}", "--input", "b=random").exit_code == 0
    assert run("run", path, "--input", f"a={tmp_path / 'a.npy'}", "--input", "random").exit_code == 0


def test_text_inputs_cannot_be_made_up(run: Run, tmp_path: Path) -> None:
    node = helper.make_node("StringNormalizer", ["s"], ["t"])
    values = [helper.make_tensor_value_info(n, TensorProto.STRING, [2]) for n in "st"]
    graph = helper.make_graph([node], "g", values[:1], values[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), tmp_path / "text.onnx")
    result = run("run", tmp_path / "text.onnx", "--input", "random")
    assert result.exit_code == 4
    assert "cannot be made up" in the_line(result)


def test_steps_are_timed_and_traced(run: Run, model: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    result = run("run", model, "--bylayer", "--trace", trace)
    assert "conv1" in result.stdout
    assert "cpu/reference" in result.stdout
    events = json.loads(trace.read_text())["traceEvents"]
    steps = [e for e in events if e["ph"] == "X"]
    assert [e["name"] for e in steps] == ["conv1", "relu1", "conv2", "add", "relu2", "pool", "flatten", "fc"]
    assert all(e["dur"] > 0 for e in steps)
    starts = [e["ts"] for e in steps]
    assert starts == sorted(starts)
    assert starts[0] == 0


def test_pins_choose_routines(run: Run, model: Path, plan: Path) -> None:
    assert run("run", model, "-r", "cpu/reference").exit_code == 0
    result = run("run", model, "-r", "cpu/winograd@conv1")
    assert result.exit_code == 7
    assert "no routine is left for Conv" in the_line(result)
    assert "no layer or operator is called 'conv9'" in the_line(run("run", model, "-r", "cpu@conv9"))
    assert "a plan has chosen already" in the_line(run("run", model, "--plan", plan, "-r", "cpu"))


def test_a_plan_runs_and_is_carried_to_other_shapes(run: Run, free_batch: Path, tmp_path: Path) -> None:
    plan = tmp_path / "free.json"
    made = run("tune", free_batch, "-o", plan, "--budget", 0, "--shape", "1x3x8x8")
    assert made.exit_code == 0, made.stderr
    np.save(tmp_path / "two.npy", image(2))
    same = run("run", free_batch, "--plan", plan)
    assert same.exit_code == 0
    assert "y: float32 1x5" in same.stdout
    other = run("run", free_batch, "--plan", plan, "--input", tmp_path / "two.npy")
    assert "y: float32 2x5" in other.stdout
    assert "softneuro: note: " in other.stderr
    assert "transferred" in other.stderr


def test_bench_reports_its_runs(run: Run, model: Path) -> None:
    found = json.loads(run("bench", model, "--runs", 7, "--threads", 1, "--json").stdout)
    assert found["runs"] == 7
    assert 0 < found["min_us"] <= found["median_us"] <= found["p90_us"]
    assert found["threads"] == 1
    assert found["machine"]["cpu"]
    assert "over 5 runs" in run("bench", model, "--runs", 5).stdout
