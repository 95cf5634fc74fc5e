"""OpenVINO in 8-bit integers, allowed to compute in bfloat16 what is left of float: its default on CPUs that can."""

from __future__ import annotations

from benchmarks.engines.ov_int8 import OpenVinoInt8

ENGINE = OpenVinoInt8("openvino-int8-bf16", "bf16")
