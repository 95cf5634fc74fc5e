"""OpenVINO allowed to compute in bfloat16; without instructions for it, it computes in float32."""

from __future__ import annotations

from benchmarks.engines.ov import OpenVino

ENGINE = OpenVino("openvino-bf16", "bf16")
