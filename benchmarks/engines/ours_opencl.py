"""SoftNeuro with every layer on the first OpenCL device; on a CPU as many threads as ``benchmarks.processes`` asks
Intel's runtime for."""

from __future__ import annotations

from benchmarks.engines.ours import SoftNeuro

ENGINE = SoftNeuro("softneuro-opencl", force=("opencl",))
