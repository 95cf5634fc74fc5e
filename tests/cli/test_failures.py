"""One clear line and an exit code, whatever goes wrong."""

from __future__ import annotations

import errno
from pathlib import Path

import click
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from softneuro_core import tuning
from softneuro_core.catalog import Catalog, load_plugins
from softneuro_core.cli import tune as tune_verb
from softneuro_core.cli.root import VERBS
from tests.cli.conftest import Run, the_line


def test_help_lists_every_verb(run: Run) -> None:
    result = run("--help")
    assert result.exit_code == 0
    assert all(verb in result.stdout for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(run: Run, verb: str) -> None:
    result = run(verb, "--help")
    assert result.exit_code == 0 or verb == "demo"  # demo hands its options on
    assert "Usage" in result.stdout or verb == "demo"


def test_version(run: Run) -> None:
    import softneuro_core

    assert run("--version").stdout.split() == ["softneuro", softneuro_core.__version__]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["view"], "Missing argument"), (["dance"], "No such command"), (["view", "m", "--what"], "No such option")],
)
def test_bad_usage_is_one_line_and_code_2(run: Run, arguments: list[str], words: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert words in the_line(result)


@pytest.mark.parametrize("verb", ["view", "tune", "run", "bench", "compare", "explain", "memory", "profile"])
def test_a_missing_file_is_told(run: Run, verb: str) -> None:
    result = run(verb, "nowhere.onnx")
    assert result.exit_code == 3
    assert the_line(result) == "softneuro: error: nowhere.onnx: cannot be read: No such file or directory"


def test_a_file_that_is_no_model_is_told(run: Run, tmp_path: Path, model: Path) -> None:
    text, cut = tmp_path / "notes.onnx", tmp_path / "cut.onnx"
    text.write_bytes(b"this is not a model at all, it is a letter" * 10)
    cut.write_bytes(model.read_bytes()[:-700])
    for path in (text, cut):
        result = run("view", path)
        assert result.exit_code == 3
        assert path.name in the_line(result)


def test_unknown_operators_are_all_named(run: Run, tmp_path: Path) -> None:
    nodes = [helper.make_node("Swirl", ["x"], ["a"]), helper.make_node("Twist", ["a"], ["y"])]
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [2]) for n in "xy"]
    opsets = [helper.make_opsetid("", 18)]
    onnx.save(
        helper.make_model(helper.make_graph(nodes, "g", value[:1], value[1:]), opset_imports=opsets), tmp_path / "m"
    )
    result = run("tune", tmp_path / "m")
    assert result.exit_code == 3
    assert "Swirl" in the_line(result)
    assert "Twist" in the_line(result)


@pytest.mark.parametrize(
    ("raised", "code", "words"),
    [
        (KeyError("a\nb"), 70, "KeyError: 'a\\nb' (this is a bug: please report it"),
        (KeyboardInterrupt(), 130, "interrupted; costs measured so far are kept"),
        (OSError(errno.ENOSPC, "No space left on device", "plan.json"), 1, "plan.json: No space left on device"),
        (MemoryError(), 8, "out of memory"),
        (RecursionError("deep\nand deeper"), 70, "RecursionError: deep and deeper"),
    ],
)
def test_anything_else_is_one_line_too(
    run: Run, model: Path, monkeypatch: pytest.MonkeyPatch, raised: BaseException, code: int, words: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr(tune_verb, "tune_fully", fail)
    result = run("tune", model)
    assert result.exit_code == code
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_the_debug_knob_shows_the_traceback(run: Run, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune_verb, "tune_fully", lambda *_, **__: 1 // 0)
    monkeypatch.setenv("SOFTNEURO_DEBUG", "1")
    result = run("tune", model)
    assert result.exit_code == 70
    assert "Traceback" in result.stderr
    assert "ZeroDivisionError" in result.stderr


def test_ctrl_c_keeps_what_was_measured(run: Run, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tuning, "select_plan", interrupt)
    assert run("tune", model, "--threads", 1).exit_code == 130
    assert '"cpu/reference"' in run("costs", "export").stdout


def test_plugins_add_verbs(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command("wave", help="Wave at the user.")
    def wave() -> None:
        click.echo("hello")

    class Plugin:
        __name__ = "waving"

        @staticmethod
        def catalog(*_: object, **__: object) -> Catalog:
            from dataclasses import replace

            return replace(load_plugins(only=()), commands=(wave,))

    monkeypatch.setattr("softneuro_core.catalog.load_plugins", Plugin.catalog)
    assert run("wave").stdout == "hello\n"
    assert "Wave at the user." in run("--help").stdout


def test_a_plan_for_another_model_is_told(run: Run, plan: Path, tmp_path: Path) -> None:
    from tests.core.models import model as make

    other = tmp_path / "other.onnx"
    onnx.save(make([helper.make_node("Relu", ["x"], ["y"])], {"x": [1, 3, 8, 8]}, ["y"]), other)
    result = run("run", other, "--plan", plan)
    assert result.exit_code == 5
    assert "another model" in the_line(result)


@pytest.mark.parametrize("content", ["", "{}", '{"softneuro_plan": 99}', '{"softneuro_plan": 1, "steps": 3}', "\x00"])
def test_a_damaged_plan_is_told(run: Run, model: Path, tmp_path: Path, content: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(content)
    for verb in ("run", "explain", "memory", "bench", "view"):
        result = run(verb, model, "--plan", path)
        assert result.exit_code == 5
        assert "bad.json" in the_line(result)


def test_too_little_memory_is_told_before_the_run(run: Run, model: Path) -> None:
    result = run("run", model, "--max-mem", "1k")
    assert result.exit_code == 8
    assert "the limit is" in the_line(result)
    assert run("run", model, "--max-mem", "lots").exit_code == 4
    assert run("run", model, "--max-mem", "64M").exit_code == 0


def test_output_that_cannot_be_written_is_told(run: Run, model: Path, sample: Path, tmp_path: Path) -> None:
    result = run("run", model, "--input", sample, "-o", tmp_path / "no" / "out.npz")
    assert result.exit_code == 1
    assert "out.npz: No such file or directory" in the_line(result)
    folder = tmp_path / "taken"
    folder.mkdir()
    assert run("run", model, "--input", sample, "-o", folder).exit_code == 1
    np.save(tmp_path / "other.npy", np.zeros(3))
    assert not [p for p in tmp_path.iterdir() if p.name.endswith(".part")]
