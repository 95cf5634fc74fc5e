"""Devices: found, tried, chosen by name, refused with a reason; programs built once."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from softneuro_opencl import discovery, probe, programs, vendors
from softneuro_opencl.device import OpenCLDevice
from softneuro_opencl.probe import Verdict

from softneuro_core.errors import InputError, Unavailable


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SOFTNEURO_CACHE_DIR", str(tmp_path))
    programs._program.cache_clear()
    yield tmp_path / "opencl"
    programs._program.cache_clear()


def test_what_is_uploaded_comes_back(device: OpenCLDevice) -> None:
    memory = device.alloc(1000)
    made = device.buffer(memory, 256, (3, 5), np.dtype(np.float32))
    array = np.arange(15, dtype=np.float32).reshape(3, 5)
    device.upload(made, array)
    seen = np.zeros_like(array)
    device.download(made, seen)
    np.testing.assert_array_equal(seen, array)


def doubled(device: OpenCLDevice) -> Any:
    return programs.kernel(device, "map.cl", "mapped", {
        "LANES": 1, "AXES": 0, "RESULT_TYPE": "float",
        "PARAMETERS": "TENSOR(const float, a0), ", "BEGINS": "BEGIN(const float, a0);",
        "LEAVES": "", "READS": "const float v0 = a0[at];", "STATEMENTS": "", "RESULT": "2.0f * v0",
    })  # fmt: skip


def test_a_program_is_built_once(device: OpenCLDevice, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    doubled(device)
    (kept,) = cache.glob("map-*.bin")
    programs._program.cache_clear()
    monkeypatch.setattr(programs, "_built", lambda *_: pytest.fail("built again"))
    doubled(device)
    doubled(device)
    assert list(cache.glob("map-*.bin")) == [kept]


@pytest.mark.parametrize("damage", [lambda b: b[:100], lambda b: b[:-1] + bytes([b[-1] ^ 1]), lambda b: b""])
def test_a_damaged_binary_is_built_again(device: OpenCLDevice, cache: Path, damage: Any) -> None:
    doubled(device)
    (kept,) = cache.glob("map-*.bin")
    whole = kept.read_bytes()
    kept.write_bytes(damage(whole))
    programs._program.cache_clear()
    doubled(device)
    assert kept.read_bytes().partition(b"\n")[2] != b"" and len(kept.read_bytes()) > 200


def test_a_folder_the_user_chose_is_left_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPENCL_VENDOR_PATH", str(tmp_path))
    vendors.register()
    assert not list(tmp_path.iterdir())


def found(*names: str, broken: str = "") -> list[discovery.Found]:
    handle = {"host_unified_memory": True, "mem_base_addr_align": 1024}
    return [
        discovery.Found(
            i, "Platform", "1", SimpleNamespace(name=name, **handle), Verdict("no" if name == broken else "")
        )
        for i, name in enumerate(names)
    ]


@pytest.mark.parametrize(
    "words, handles",
    [("", ["Alpha", "Beta X"]), ("beta", ["Beta X"]), ("1,0", ["Beta X", "Alpha"]), ("platform", ["Alpha", "Beta X"])],
)
def test_devices_are_chosen_by_number_or_name(monkeypatch: pytest.MonkeyPatch, words: str, handles: list[str]) -> None:
    monkeypatch.setattr(discovery, "find", lambda: found("Alpha", "Beta X"))
    monkeypatch.setenv(discovery.DEVICES, words)
    made = discovery.offered()
    assert [d.handle.name for d in made] == handles
    assert [d.name for d in made] == ["opencl", "opencl1"][: len(handles)]


def test_a_name_no_device_has_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "find", lambda: found("Alpha"))
    monkeypatch.setenv(discovery.DEVICES, "gamma")
    with pytest.raises(InputError, match=r"'gamma'.*there are 0: Alpha"):
        discovery.offered()


def test_what_does_not_compute_is_not_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "find", lambda: found("Alpha", "Beta", broken="Alpha"))
    assert [d.handle.name for d in discovery.offered()] == ["Beta"]
    monkeypatch.setattr(discovery, "find", lambda: found("Alpha", broken="Alpha"))
    with pytest.raises(Unavailable, match="Alpha: no"):
        discovery.offered()


def test_a_device_is_tried_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = probe.verdict_of(0, 0, "this device")
    assert not first.reason and first.segment_us >= 0
    monkeypatch.setattr(probe, "_asked", lambda *_: pytest.fail("asked again"))
    assert probe.verdict_of(0, 0, "this device") == first


def test_a_driver_that_ends_its_process_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = subprocess.CompletedProcess([], -11, b"", b"")
    monkeypatch.setattr(probe.subprocess, "run", lambda *_, **__: ended)
    assert "ended with status -11" in probe.verdict_of(0, 0, "a crash").reason

    def late(*_: Any, **__: Any) -> None:
        raise subprocess.TimeoutExpired("probe", 1)

    monkeypatch.setattr(probe.subprocess, "run", late)
    assert "was not built and run" in probe.verdict_of(0, 0, "a hang").reason
    assert len(list(cache.glob("probe-*"))) == 1, "what took too long is asked again"


def test_a_device_that_cannot_build_says_the_compiler_s_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "SOURCE", "__kernel void doubled(__global float *x) { x[0] = unheard_of; }")
    assert "error:" in probe.tried(0, 0).reason
