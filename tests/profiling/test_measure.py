"""Verdicts and timings of single kernels in this process."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from setting import QUICK

from softneuro_core.device import Buffer, HostDevice, Target
from softneuro_core.errors import InputError
from softneuro_core.graph import Value
from softneuro_core.profiling.caches import constants_are_far, last_level_cache_bytes, passing_bytes
from softneuro_core.profiling.compare import judge
from softneuro_core.profiling.measure import Case, Effort, measure
from softneuro_core.routine import Call, FunctionKernel, Kernel
from softneuro_core.spec import DTYPES, FLOAT32, host

NAN, INF = float("nan"), float("inf")


def f32(*numbers: float) -> np.ndarray:
    return np.array(numbers, np.float32)


@pytest.mark.parametrize(
    ("got", "expected", "accuracy", "reason"),
    [
        (f32(1, 2), f32(1, 2), 0.0, None),
        (f32(1, 2.00001), f32(1, 2), 0.0, "off by"),
        (f32(1, 2.00001), f32(1, 2), 1e-5, None),
        (f32(1.5, 1000), f32(1, 1000), 1e-3, None),
        (f32(1.5, 100), f32(1, 100), 1e-3, "off by 0.005 of its largest element"),
        (f32(1, NAN), f32(1, 2), 1.0, "NaN in 1 of 2"),
        (f32(1, 7), f32(1, NAN), 0.0, None),
        (f32(1, INF), f32(1, 2), 1.0, "infinite"),
        (f32(1, INF), f32(1, INF), 0.0, None),
        (f32(1, -INF), f32(1, INF), 1.0, "infinite"),
        (f32(0, 1e-9), f32(0, 0), 1e-5, "off by"),
        (f32(0, 0), f32(0, 0), 0.0, None),
        (f32(), f32(), 0.0, None),
        (f32(1), f32(1, 2), 1.0, r"has shape \[1\], wanted \[2\]"),
        (np.array([1, 5], np.int8), np.array([1, 4], np.int8), 0.0, "off by up to 1 steps"),
        (np.array([1, 5], np.int8), np.array([1, 4], np.int8), 1.0, None),
        (np.array([-128], np.int8), np.array([127], np.int8), 1.0, "off by up to 255 steps"),
        (np.array([2**62], np.int64), np.array([2**62 + 1], np.int64), 0.5, "off by"),
        (np.array([3], DTYPES["int4"].numpy), np.array([-3], DTYPES["int4"].numpy), 1.0, "off by up to 6 steps"),
        (np.array([True]), np.array([False]), 9.0, "differs in 1 of 1"),
        (np.full(2, 0xA5, np.uint8).view(bool), np.array([True, True]), 0.0, "differs in 2 of 2"),
        (np.array(["a"], object), np.array(["b"], object), 9.0, "differs"),
        ([f32(1), "a"], [f32(1), "a"], 0.0, None),
        ([f32(1), "a"], [f32(1)], 0.0, "has 2 items, wanted 1"),
        ([f32(1)], [f32(2)], 1e-5, "off by"),
        ({1: f32(1)}, {2: f32(1)}, 1e-5, "other keys"),
        (None, f32(1), 1.0, "is NoneType, wanted ndarray"),
        (f32(1 + 2j) if False else np.array([1 + 2j]), np.array([1 + 2j]), 0.0, None),
        (np.array([1 + 3j]), np.array([1 + 2j]), 1e-5, "off by"),
        (np.array([1.01], DTYPES["bfloat16"].numpy), np.array([1.0], DTYPES["bfloat16"].numpy), 2e-2, None),
    ],
)
def test_verdict(got: Any, expected: Any, accuracy: float, reason: str | None) -> None:
    import re

    found = judge(got, expected, accuracy).reason
    assert (found is None) if reason is None else re.search(reason, found or "")


def test_the_references_own_error_is_granted_unless_exact() -> None:
    got, expected = f32(1, 1.000015), f32(1, 1)
    assert judge(got, expected, 1e-5).reason is not None and judge(got, expected, 1e-5, 1e-5).reason is None
    assert judge(got, expected, 0.0, 1e-3).reason is not None


class Clockwork(HostDevice):
    """A host whose clock advances only when a kernel says so."""

    clock_name = "clockwork"
    segment_us = 7.0

    def __init__(self) -> None:
        super().__init__()
        self.now = self.pending = self.waits = 0

    def now_ns(self) -> int:
        return self.now

    def synchronize(self) -> None:
        if self.pending:
            self.now += 7_000 + self.pending
            self.pending, self.waits = 0, self.waits + 1


@dataclass
class Ticking:
    """Copies, taking ``ns`` of the device's clock."""

    device: Clockwork
    ns: int
    scratch: int = 16
    constant_bytes: int = 12

    def bind(self, inputs: Sequence[Any], outputs: Sequence[Any], scratch: Buffer | None) -> Call:
        def run() -> None:
            np.copyto(outputs[0].array, inputs[0].array)
            self.device.pending += self.ns

        return Call(run)


X, Y = Value("x", FLOAT32, (1, 2, 3, 4)), Value("y", FLOAT32, (1, 2, 3, 4))
ARRAY = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)


def case(kernel: Kernel, device: HostDevice, **more: Any) -> Case:
    parts: dict[str, Any] = {
        "prepare": lambda: kernel,
        "inputs": ((X, host(FLOAT32)),),
        "outputs": ((Y, host(FLOAT32)),),
        "arrays": [ARRAY],
        "expected": [ARRAY],
        "accuracy": 0.0,
        "target": Target(device, 1, ""),
        "devices": {"cpu": device},
        "link": lambda target, calls: None,
    }
    return Case(**(parts | more))


def test_the_devices_own_clock_is_read_and_its_fixed_cost_left_out() -> None:
    device = Clockwork()
    cost = measure(case(Ticking(device, 150), device), QUICK)
    assert (cost.status, cost.time_ns, cost.min_ns, cost.spread_ns) == ("ok", 150, 150, 0)
    assert cost.clock == "clockwork" and cost.constant_bytes == 12 and cost.samples == QUICK.samples


def test_short_work_is_batched_over_every_buffer_set() -> None:
    device, linked = Clockwork(), []

    def link(target: Target, calls: Sequence[Call]) -> Any:
        linked.append(len(calls))
        return lambda: [call.run() for call in calls] and None

    cost = measure(case(Ticking(device, 150), device, link=link), QUICK)
    assert cost.time_ns == 150 and max(linked) == QUICK.sets
    assert linked[:3] == [1, 1, 1]  # the checked run, and two first looks


def test_slow_work_is_not_batched_and_hopeless_work_given_up() -> None:
    device = Clockwork()
    slow = Ticking(device, 5_000_000)
    assert measure(case(slow, device), QUICK).samples == QUICK.samples
    assert measure(case(slow, device), QUICK, best_ns=1_000_000).samples == QUICK.first_look
    assert measure(case(slow, device), QUICK, best_ns=100_000).samples == 1
    assert measure(case(slow, device), QUICK, best_ns=4_000_000).samples == QUICK.samples


def test_strided_operands_are_measured_with_a_border() -> None:
    seen = set()

    def copy(x: np.ndarray, y: np.ndarray) -> None:
        seen.add((x.strides == ARRAY.strides, y.strides == ARRAY.strides))
        y[...] = x

    assert measure(case(FunctionKernel(copy), HostDevice(), strided=frozenset({1})), QUICK).ok
    assert seen == {(True, False)}


def test_unknown_results_are_measured_unchecked() -> None:
    cost = measure(case(FunctionKernel(lambda x, y: np.copyto(y, 3.0)), HostDevice(), expected=[None]), QUICK)
    assert cost.ok and cost.error is None


def test_a_case_that_does_not_fit_is_nobodys_failure() -> None:
    with pytest.raises(InputError, match="'x' has shape"):
        measure(case(FunctionKernel(np.copyto), HostDevice(), arrays=[ARRAY[0]]), QUICK)


def test_effort_bounds_memory_and_cache_size_is_sane() -> None:
    assert 1 << 18 <= last_level_cache_bytes() <= 64 << 20
    assert Effort().memory_bytes == 256 << 20


def test_what_passes_between_two_runs_follows_the_network_s_constants() -> None:
    """A network whose constants fit the last cache finds its own there again; of a larger one nothing is left."""
    small, large = 1 << 20, 2 * last_level_cache_bytes()
    assert not constants_are_far(small) and constants_are_far(large)
    assert passing_bytes(large) == last_level_cache_bytes() >= passing_bytes(small) > 0
