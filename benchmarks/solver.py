"""Time of the exact tuner against layers and specs, beside the integer programme, on real and synthetic topologies.

    python benchmarks/solver.py [--specs 4 12 24] [--nets squeezenet yolo ...] [--ilp] [--marginals]

Costs are made up (tests/tuner/topologies.py); two devices from 24 specs on, the second with a segment cost. CPU
seconds of this process, so that a busy machine does not change the table much.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from softneuro_core.tuner import ilp
from softneuro_core.tuner.exact import ExactTuner
from softneuro_core.tuner.problem import Problem
from tests.tuner import topologies

SEGMENT_NS = 30_000
SYNTHETIC: Mapping[str, Callable[[], Any]] = {
    "yolo": topologies.yolo,
    "nasnet": topologies.nasnet,
    "densenet_concat_all": topologies.dense_block,
}
P = ParamSpec("P")
T = TypeVar("T")


def problem_of(name: str, count: int) -> Problem:
    """The problem called ``name`` at ``count`` specs."""
    devices = 2 if count >= 24 else 1
    if name in SYNTHETIC:
        segments = {1: SEGMENT_NS} if devices > 1 else {}
        return topologies.problem_of(SYNTHETIC[name](), topologies.Specs(count, devices), 1, segments)
    return topologies.light_problem(name, count, devices, SEGMENT_NS if devices > 1 else 0)


def timed(run: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> tuple[T, float]:
    """The result and the CPU seconds it took."""
    begun = time.process_time()
    return run(*args, **kwargs), time.process_time() - begun


def rows(args: argparse.Namespace) -> Iterator[list[str]]:
    """One row per net and number of specs."""
    for name in args.nets:
        for count in args.specs:
            problem = problem_of(name, count)
            selection, seconds = timed(ExactTuner().select, problem)
            proof = "exact" if selection.exact else f"gap {selection.gap:.2%}"
            row = [name, str(problem.layer_count), str(count), str(len(problem.options))]
            row += [str(selection.states), f"{seconds:.2f}", f"{selection.method}, {proof}"]
            if args.ilp:
                answer, seconds = timed(ilp.solve, problem, 600)
                same = answer is not None and answer.time_ns == selection.time_ns
                row.append(f"{seconds:.2f} {'same' if same else 'DIFFERS'}")
            if args.marginals:
                _, seconds = timed(ExactTuner().min_marginals, problem, selection)
                row.append(f"{seconds:.2f}")
            yield row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--specs", type=int, nargs="+", default=[4, 8, 12])
    parser.add_argument("--nets", nargs="+", default=[*topologies.LIGHT_NETS, *SYNTHETIC])
    parser.add_argument("--ilp", action="store_true", help="solve the integer programme too (needs scipy)")
    parser.add_argument("--marginals", action="store_true", help="time the min-marginals of all options too")
    args = parser.parse_args()
    heads = ["net", "layers", "specs", "options", "states", "DP s", "proof"]
    heads += ["ILP s"] * args.ilp + ["marginals s"] * args.marginals
    widths = [20, 7, 6, 8, 8, 8, 14, 14, 12]
    print(line(heads, widths))
    for row in rows(args):  # as they come: the last ones take a while
        print(line(row, widths), flush=True)


def line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """One row of the table, in columns."""
    return " ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=False)).rstrip()


if __name__ == "__main__":
    main()
