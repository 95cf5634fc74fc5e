"""Skips, with the reason, where no OpenCL device computes."""

from __future__ import annotations

import pytest

from softneuro_core.errors import Unavailable


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    from softneuro_opencl.discovery import offered

    try:
        offered()
    except Unavailable as reason:
        for item in items:
            item.add_marker(pytest.mark.skip(reason=f"no OpenCL device: {reason}"))
