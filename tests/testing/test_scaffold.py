"""The example is the template: one source, so what a newcomer generates is what is tested here."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from softneuro_core.errors import InputError
from softneuro_core.scaffold import generate_plugin, plugin_files

EXAMPLE = Path(__file__).parents[2] / "examples" / "softneuro-hello"
IGNORED = {"__pycache__", ".pytest_cache", "build", "dist", "softneuro_hello.egg-info"}


def _tree(folder: Path) -> dict[str, bytes]:
    found = [p for p in folder.rglob("*") if p.is_file() and not IGNORED & set(p.relative_to(folder).parts)]
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in found}


def test_the_example_is_what_new_plugin_hello_writes(tmp_path: Path) -> None:
    made = generate_plugin("hello", tmp_path)
    assert made.name == EXAMPLE.name
    assert _tree(made) == _tree(EXAMPLE)


def test_another_name_leaves_no_trace_of_the_template(tmp_path: Path) -> None:
    made = _tree(generate_plugin("my-kernels", tmp_path))
    assert "softneuro_my_kernels/__init__.py" in made
    for path, text in made.items():
        assert b"@" + b"NAME" not in text and b"@" + b"IDENT" not in text and b"hello" not in text, path
    project = tomllib.loads(made["pyproject.toml"].decode())["project"]
    assert project["name"] == "softneuro-my-kernels"
    assert project["entry-points"]["softneuro"] == {"my-kernels": "softneuro_my_kernels"}


def test_a_generated_plugin_loads_and_offers(tmp_path: Path) -> None:
    folder = generate_plugin("my-kernels", tmp_path)
    script = (
        f"import sys; sys.path.insert(0, {str(folder)!r})\n"
        "import softneuro_my_kernels as plugin\n"
        "from softneuro_core.catalog import load_plugins\n"
        "catalog = load_plugins(only=(), modules=[plugin])\n"
        "assert catalog.plugins[-1].status == 'loaded', catalog.plugins\n"
        "print(sorted(n for n in catalog.routines if 'my_kernels' in n), *catalog.operators)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "['cpu/my_kernels_relu', 'cpu/my_kernels_snake'] my_kernels::Snake", done.stderr


@pytest.mark.parametrize("name", ["", "Hello", "a b", "1st", "a--b", "../up", "x_y"])
def test_a_bad_name_is_refused_and_nothing_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="no plugin name"):
        generate_plugin(name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_existing_work_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "softneuro-mine").mkdir()
    (tmp_path / "softneuro-mine" / "notes.txt").write_text("precious")
    with pytest.raises(InputError, match="exists already"):
        generate_plugin("mine", tmp_path)
    assert _tree(tmp_path) == {"softneuro-mine/notes.txt": b"precious"}
    assert plugin_files("mine")
