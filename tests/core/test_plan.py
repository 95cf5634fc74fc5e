"""Plans: readable, stable, complete, and one clear error for a damaged file."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from softneuro_core.errors import PlanError
from softneuro_core.graph import Graph, Layer, Value
from softneuro_core.plan import SAMPLED_BYTES, AdapterStep, KernelStep, Plan, _samples, fingerprint
from softneuro_core.spec import FLOAT32


def _plan() -> Plan:
    spec = "cpu:float32:NCHW"
    steps = (
        AdapterStep("x", "cpu/relayout", spec, "cpu:float32:NHWC", 1.5),
        KernelStep(("conv", "relu"), "cpu/im2col", ("cpu:float32:NHWC",), (spec,), {"tile": [4, 8]}, 12.25, "in-situ"),
    )
    body = Plan({"name": "b", "graph": "1", "constants": "2"}, {}, 1, (), 0.0)
    return Plan(
        {"name": "m.onnx", "graph": "abc", "constants": "def"},
        {"x": (1, 3, 8, 8)},
        2,
        steps,
        13.75,
        {"exact": True},
        {"cpu": "Some CPU"},
        {"cpu/im2col": {"plugin": "cpu_numba", "version": "0.1.0", "code": "ff"}},
        {"numpy": "2"},
        {"if.then_branch": body},
        ("a note",),
        {"allow": []},
        {"isolated_us": 13.0},
        {"x": (0.25, 128, "uint8")},
    )


def test_a_plan_survives_its_file(tmp_path: Path) -> None:
    _plan().save(tmp_path / "p.json")
    assert Plan.load(tmp_path / "p.json") == _plan()
    assert [f.name for f in tmp_path.iterdir()] == ["p.json"]


def test_a_value_may_have_any_name() -> None:
    plan = dataclasses.replace(_plan(), steps=(AdapterStep("measured", "cpu/cast", "cpu:float32", "cpu:float16"),))
    assert Plan.from_json(plan.to_json()) == plan


def test_the_file_has_one_line_for_each_step() -> None:
    lines = _plan().to_json().splitlines()
    assert sum('"layers"' in line for line in lines) == 1
    assert sum('"adapter"' in line for line in lines) == 1
    json.loads(_plan().to_json())


def test_the_text_does_not_depend_on_dictionary_order() -> None:
    plan = _plan()
    shuffled = dataclasses.replace(
        plan, routines=dict(reversed(plan.routines.items())), model=dict(reversed(plan.model.items()))
    )
    assert shuffled.to_json() == plan.to_json()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not a plan"),
        ("[]", "no 'softneuro_plan' entry"),
        ('{"softneuro_plan": 99}', "has plan format 99"),
        ('{"softneuro_plan": 1, "model": 3}', "is damaged"),
        (_plan().to_json()[:-200], "is not a plan"),
        (_plan().to_json().replace('"us"', '"xx"'), "is damaged"),
        (_plan().to_json().replace('"threads": 2', '"threads": Infinity'), "is damaged"),
        (_plan().to_json().replace('["conv", "relu"]', "[]"), "a step without layers"),
        (_plan().to_json().replace('"plugin": "cpu_numba"', '"xx": 1'), "is damaged"),
        ("[" * 100_000, "is not a plan"),
    ],
)
def test_a_damaged_plan_is_one_clear_error(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(PlanError, match=message) as caught:
        Plan.load(path)
    assert str(path) in str(caught.value)
    assert "softneuro tune" in str(caught.value)


def test_missing_and_binary_files_are_plan_errors(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="cannot be read"):
        Plan.load(tmp_path / "none.json")
    (tmp_path / "b.json").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(PlanError, match="not UTF-8"):
        Plan.load(tmp_path / "b.json")
    with pytest.raises(PlanError, match="cannot be written"):
        _plan().save(tmp_path / "no" / "folder.json")


def test_plugins_of_bodies_count() -> None:
    assert _plan().plugins == {"cpu_numba"}


def _scaled_by(data: np.ndarray) -> Graph:
    x, y = (Value(name, FLOAT32, data.shape) for name in "xy")
    return Graph((Layer("mul", "Mul", (x, Value("w", FLOAT32, data.shape, data)), (y,), version=14),), (x,), (y,))


def test_large_constants_are_told_apart_without_reading_them_whole() -> None:
    weights = np.random.default_rng(0).standard_normal(SAMPLED_BYTES).astype(np.float32)
    made = fingerprint(_scaled_by(weights))
    assert fingerprint(_scaled_by(weights.copy())) == made
    others = [weights * np.float32(1.001), weights[::-1].copy(), np.roll(weights, 1), weights[:-1]]
    for end in (0, -1):
        others.append(weights.copy())
        others[-1][end] += 1
    found = {fingerprint(_scaled_by(other))["constants"] for other in others}
    assert len(found) == len(others) and made["constants"] not in found
    read = sum(len(part) for part in _samples(weights))
    assert read < SAMPLED_BYTES < weights.nbytes


def test_a_small_constant_is_hashed_whole() -> None:
    weights = np.zeros(SAMPLED_BYTES // 4, np.float32)
    changed = weights.copy()
    changed[len(changed) // 3] = 1
    assert fingerprint(_scaled_by(weights)) != fingerprint(_scaled_by(changed))
