"""How far every step of a tuned plan is from the machine's float32 peak, the worst layers named.

``python -m benchmarks.roof resnet50 --threads 1`` (a network of ``benchmarks.nets`` or an ONNX file with its sample).
GFLOP/s count the direct algorithm's multiply-adds: Winograd may pass 100 %. The peak is measured here and now, with
every thread running one tile of fused multiply-adds whose operands stay in the first-level cache.
"""

from __future__ import annotations

import argparse
import math
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from rich.console import Console
from rich.table import Table

import softneuro_core as sn
from benchmarks.models import read_model
from benchmarks.nets import NETS, build, sample
from benchmarks.run import LOG_WIDTH, ROOT, one_at_a_time
from softneuro_core.device import cpu_features
from softneuro_core.graph import Layer
from softneuro_core.plan import KernelStep
from softneuro_core.progress import Silent
from softneuro_core.session import StepTime

DEPTH, CALLS, PEAK_TRIES = 256, 20_000, 5
WORST = 5


@dataclass(frozen=True, slots=True)
class Row:
    """One step: its measured time, the multiply-adds of its layers, and its time lost against the peak."""

    name: str
    routine: str
    us: float
    predicted_us: float
    macs: int

    def gflops(self) -> float:
        return 2 * self.macs / self.us / 1000 if self.us else 0.0

    def lost_us(self, peak_gflops: float) -> float:
        """Time above what its arithmetic takes at the peak (all of it for a step without multiply-adds)."""
        return self.us - 2 * self.macs / peak_gflops / 1000


def layer_macs(layer: Layer) -> int:
    """Multiply-adds of a Conv, ConvTranspose, Gemm or MatMul; 0 for any other layer."""
    if layer.type not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
        return 0
    a, b = layer.operands[:2]
    out = layer.outputs[0]
    assert out is not None
    left, right, made = a.static_shape, b.static_shape, out.static_shape
    if layer.type == "Conv":
        return math.prod(made) * math.prod(right[1:])
    if layer.type == "ConvTranspose":
        return math.prod(left) * math.prod(right[1:])
    depth = left[0] if layer.attrs.get("transA") else left[-1]
    return math.prod(made) * depth


def rows_of(times: Sequence[StepTime], steps: Sequence[object], macs: Mapping[str, int]) -> list[Row]:
    """Steps with the multiply-adds of the layers they compute."""
    return [
        Row(t.name, t.routine, t.us, t.predicted_us,
            sum(macs.get(name, 0) for name in s.layers) if isinstance(s, KernelStep) else 0)
        for t, s in zip(times, steps, strict=True)
    ]  # fmt: skip


def peak_gflops(threads: int) -> float:
    """Measured float32 peak of ``threads`` cores together."""
    import numba
    from softneuro_cpu_numba.kernels.base import tile

    wide = "avx512f" in {feature.lower() for feature in cpu_features()}
    rows, vectors, lanes = (14, 2, 16) if wide else (6, 2, 8)  # accumulators fill the registers but two or three
    body = tile(rows, vectors, lanes)

    @numba.njit(nogil=True)
    def spin(a, b, c, calls):  # type: ignore[no-untyped-def]
        for _ in range(calls):
            body(a, 4 * DEPTH, 4, b, 4 * vectors * lanes, DEPTH, c)

    def one(gate: threading.Barrier) -> None:
        a, b = np.zeros((rows, DEPTH), np.float32), np.zeros((DEPTH, vectors * lanes), np.float32)
        c = np.zeros((rows, vectors * lanes), np.float32)
        gate.wait()
        spin(a.ctypes.data, b.ctypes.data, c.ctypes.data, CALLS)
        gate.wait()

    warm = np.zeros((DEPTH, rows * vectors * lanes), np.float32).ctypes
    spin(warm.data, warm.data, warm.data, 0)
    flops = 2.0 * rows * vectors * lanes * DEPTH * CALLS * threads
    return max(flops / _together(one, threads) for _ in range(PEAK_TRIES)) / 1e9


def _together(one, threads: int) -> float:  # type: ignore[no-untyped-def]
    """Seconds from the first to the last barrier."""
    gate = threading.Barrier(threads + 1)
    workers = [threading.Thread(target=one, args=(gate,)) for _ in range(threads)]
    for worker in workers:
        worker.start()
    gate.wait()
    start = time.perf_counter()
    gate.wait()
    taken = time.perf_counter() - start
    for worker in workers:
        worker.join()
    return taken


def table_of(rows: Sequence[Row], peak: float) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title, side in (("step", "left"), ("routine", "left"), ("us", "right"), ("predicted", "right"),
                        ("MMAC", "right"), ("GFLOP/s", "right"), ("% of peak", "right")):  # fmt: skip
        table.add_column(title, justify="right" if side == "right" else "left", no_wrap=True)
    for row in rows:
        rate = [f"{row.gflops():,.1f}", f"{row.gflops() / peak:.0%}"] if row.macs else ["", ""]
        mmac = f"{row.macs / 1e6:,.2f}" if row.macs else ""
        table.add_row(row.name[:60], row.routine[:40], f"{row.us:,.1f}", f"{row.predicted_us:,.1f}", mmac, *rate)
    return table


def worst(rows: Sequence[Row], peak: float) -> list[Row]:
    """The steps that lose most time against the peak."""
    return sorted(rows, key=lambda row: -row.lost_us(peak))[:WORST]


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("model", help=f"an ONNX file, or one of {', '.join(NETS)}")
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--plan", help="a plan file (default: tuned now)")
    options.add_argument("--runs", type=int, default=20)
    asked = options.parse_args()
    console = Console() if sys.stdout.isatty() else Console(width=LOG_WIDTH)
    if asked.model in NETS:
        path = build(asked.model, ROOT / "out" / "bench-models")
        feeds: Mapping[str, np.ndarray] = sample(path)
    else:
        path = Path(asked.model)
        feeds = read_model(path).feeds
    graph = sn.load(path, {name: array.shape for name, array in feeds.items()})
    with one_at_a_time(console):
        peak = peak_gflops(asked.threads)
        plan = asked.plan or sn.tune(graph, threads=asked.threads, sample=feeds, progress=Silent())
        session = sn.Session(graph, plan, asked.threads)
        times = session.profile(feeds, asked.runs)
    rows = rows_of(times, session.plan.steps, {layer.name: layer_macs(layer) for layer in session.graph.layers})
    console.print(table_of(rows, peak))
    total, macs = sum(row.us for row in rows), sum(row.macs for row in rows)
    share = 2 * macs / total / 1000 / peak
    console.print(
        f"{total:,.1f} us in steps, {macs / 1e9:.3f} GMAC, {share:.0%} of the measured peak {peak:,.0f} GFLOP/s"
    )
    console.print("worst: most time lost against the peak")
    for row in worst(rows, peak):
        console.print(f"  {row.name[:70]}: {row.lost_us(peak):,.1f} of {row.us:,.1f} us ({row.routine})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
