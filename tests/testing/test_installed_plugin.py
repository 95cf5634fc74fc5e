"""A third party's plugin, from its wheel to its removal: no line of the user's code changes."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import site
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

EXAMPLE = Path(__file__).parents[2] / "examples" / "softneuro-hello"

USER_CODE = """
import json, sys
import numpy as np
import softneuro_core as sn

catalog = sn.load_plugins()
graph = sn.load("snake.onnx", catalog=catalog)
plan = sn.tune(graph, threads=1, catalog=catalog)
with_plan = sn.Session(graph, plan=plan)
y = with_plan.run({"x": np.load("x.npy")})["y"]
with_plan.close()
np.save("y.npy", y)
print(json.dumps({
    "plugins": {p.name: [p.status, p.distribution, p.version] for p in catalog.plugins},
    "routines": [step.routine for step in plan.steps if hasattr(step, "routine")],
}))
"""


def _call(*command: str | Path, cwd: Path, **environment: str) -> str:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("SOFTNEURO_", "PYTHON"))} | environment
    done = subprocess.run([*map(str, command)], cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    ignored = shutil.ignore_patterns("build", "dist", "*.egg-info", "__pycache__", ".pytest_cache")
    source = shutil.copytree(EXAMPLE, folder / "source", ignore=ignored)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    _call(*pip, "-w", folder, source, cwd=folder)
    (made,) = folder.glob("softneuro_hello-*.whl")
    return made


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Path]:
    """Python of a new environment that holds nothing but a way to the core and its dependencies."""
    home = tmp_path / "venv"
    _call(sys.executable, "-m", "venv", "--without-pip", home, cwd=tmp_path)
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    packages = _call(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip()
    shared = {sysconfig.get_path("purelib"), *(p for p in site.getsitepackages() if Path(p).is_dir())}
    lines = [f"import site; site.addsitedir({folder!r})" for folder in sorted(shared)]
    (Path(packages) / "beside_the_core.pth").write_text("\n".join(lines) + "\n")
    yield python


def _example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hello_example", EXAMPLE / "softneuro_hello" / "__init__.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _write_model(folder: Path) -> None:
    """x -> Relu -> Snake -> y; the file carries what Snake means, as every exporter can write it."""
    function = onnx.parser.parse_function(_example().SNAKE)
    floats = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Snake", ["r"], ["y"], domain="hello", alpha=0.5)],
        "snake",
        [helper.make_tensor_value_info("x", floats, [2, 16, 40])],
        [helper.make_tensor_value_info("y", floats, [2, 16, 40])],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("hello", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, functions=[function], ir_version=9), folder / "snake.onnx")
    np.save(folder / "x.npy", np.random.default_rng(0).standard_normal((2, 16, 40)).astype(np.float32))


def _user_runs(python: Path, folder: Path) -> tuple[dict[str, Any], np.ndarray]:
    out = _call(python, "user.py", cwd=folder, SOFTNEURO_CACHE_DIR=str(folder / "cache"))
    return json.loads(out.splitlines()[-1]), np.load(folder / "y.npy")


def test_installed_used_tested_and_gone(wheel: Path, fresh: Path, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "user.py").write_text(USER_CODE)
    _write_model(folder)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--python", str(fresh)]

    without, y_without = _user_runs(fresh, folder)
    assert "hello" not in without["plugins"] and not [r for r in without["routines"] if "hello" in r]

    _call(*pip, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    within, y_within = _user_runs(fresh, folder)
    assert within["plugins"]["hello"] == ["loaded", "softneuro-hello", "0.1.0"]
    assert "cpu/hello_snake" in within["routines"], within["routines"]
    x = np.maximum(np.load(folder / "x.npy"), 0)
    np.testing.assert_allclose(y_within, x + np.sin(0.5 * x) ** 2 / 0.5, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(y_within, y_without, rtol=1e-5, atol=1e-6)

    shutil.copytree(EXAMPLE / "tests", folder / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    tested = _call(fresh, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests", cwd=folder)
    assert " passed" in tested and "skipped" not in tested, tested

    _call(*pip, "uninstall", "--yes", "softneuro-hello", cwd=folder)
    after, y_after = _user_runs(fresh, folder)
    assert "hello" not in after["plugins"] and not [r for r in after["routines"] if "hello" in r]
    np.testing.assert_allclose(y_after, y_without, rtol=1e-5, atol=1e-6)
