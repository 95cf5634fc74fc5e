"""``python -m softneuro_core.worker``: the process in which kernels are measured. Started by the profiler only."""

from __future__ import annotations

from softneuro_core.profiling.server import serve

if __name__ == "__main__":
    serve()
