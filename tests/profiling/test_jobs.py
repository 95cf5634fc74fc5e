"""Which candidates run a second heat, and more where the machine is disturbed."""

from __future__ import annotations

from softneuro_core.costs import Cost, CostKey
from softneuro_core.profiling.jobs import CLOSE, KernelJob, close_ones, likely_ones
from softneuro_core.routine import Offer


def _job(name: str, group: str) -> KernelJob:
    return KernelJob(CostKey.of({"job": name}), (group,), f"cpu/{name}", Offer((), ()), group)


def _cost(ns: int) -> Cost:
    return Cost("ok", ns, ns, 1, 5)


def test_only_close_rivals_run_again() -> None:
    jobs = [_job(n, g) for n, g in [("a", "x"), ("b", "x"), ("slow", "x"), ("bad", "x"), ("alone", "y"), ("far", "y")]]
    times = {"a": 1000, "b": int(1000 * CLOSE), "slow": int(1000 * CLOSE) + 1, "alone": 10, "far": 500}
    costs = {j.key: _cost(times[j.routine[4:]]) if j.routine[4:] in times else Cost.failed("no") for j in jobs}
    assert [j.routine for j in close_ones(jobs, costs)] == ["cpu/a", "cpu/b"]
    assert [j.routine for j in likely_ones(jobs, costs)] == ["cpu/a", "cpu/b", "cpu/slow", "cpu/alone"]


def test_the_calmer_measurement_is_kept() -> None:
    first, second = Cost("ok", 120, 95, 9, 5), Cost("ok", 100, 97, 3, 5)
    kept = first.better_of(second)
    assert (kept.time_ns, kept.min_ns, kept.spread_ns, kept.samples) == (100, 95, 3, 10)
    assert not first.better_of(Cost.failed("crashed")).ok
