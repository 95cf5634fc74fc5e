"""The object cache: what is loaded in a fresh process without numba, and what makes code compile anew."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from harness import DEVICE
from softneuro_cpu_numba import native, tiles

from softneuro_core.device import Target

PROGRAM = """
import sys
from softneuro_cpu_numba.native import address_of
address_of("movement", "copy", itemsize=2)
print("numba" in sys.modules)
"""


def run_program(folder: str) -> str:
    environment = dict(os.environ, SOFTNEURO_CACHE_DIR=folder)
    return subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_a_cached_kernel_needs_no_numba(tmp_path):
    assert run_program(str(tmp_path)) == "True"
    (stored,) = (tmp_path / "cpu_numba").glob("*.o")
    assert run_program(str(tmp_path)) == "False"
    assert list((tmp_path / "cpu_numba").glob("*.o")) == [stored]


def test_a_damaged_object_is_compiled_again(tmp_path):
    run_program(str(tmp_path))
    (stored,) = (tmp_path / "cpu_numba").glob("*.o")
    stored.write_bytes(stored.read_bytes()[:40])
    assert run_program(str(tmp_path)) == "True"
    assert run_program(str(tmp_path)) == "False"


def test_importing_the_plugin_imports_no_compiler():
    program = "import sys, softneuro_cpu_numba as p; p.softneuro_routines(); p.softneuro_adapters();"
    program += "print([m for m in ('numba', 'llvmlite', 'threadpoolctl') if m in sys.modules])"
    made = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert made.stdout.strip() == "[]"


def test_parameters_change_the_key(monkeypatch):
    keys = {native._key("a", "b", (("x", 1),)), native._key("a", "b", (("x", 2),)), native._key("a", "c", (("x", 1),))}
    assert len(keys) == 3
    monkeypatch.setattr(native, "_environment", lambda: ("edited sources",))
    assert native._key("a", "b", (("x", 1),)) not in keys


@pytest.mark.parametrize("isa, registers", [("AVX2", 16), ("AVX512F,AVX2", 32), ("", 16)])
def test_tiles_fit_the_registers(isa, registers):
    target = Target(DEVICE, 1, isa)
    for tile, _ in tiles._candidates(target):
        assert tile.rows * tile.vectors + tile.vectors + 1 <= registers
    for rows in (1, 2, 3, 50):
        for columns in (1, 8, 24, 64, 1000):
            tile = tiles.tile_for_rows(target, rows, columns)
            held = tile.vectors if tile.rows > 1 else 1  # one row reads each column once, from memory
            assert tile.rows * tile.vectors + held + 1 <= registers
