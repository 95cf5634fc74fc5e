"""SoftNeuro with every layer on the first OpenCL device, allowed to store in float16."""

from __future__ import annotations

from benchmarks.engines.ours import SoftNeuro

ENGINE = SoftNeuro("softneuro-opencl-half", allow=("float16",), force=("opencl",))
