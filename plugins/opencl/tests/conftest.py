"""The first device that computes; without one every test is skipped, with the reason."""

from __future__ import annotations

import pytest

from softneuro_core.errors import Unavailable


def _first() -> object:
    from softneuro_opencl.discovery import offered

    try:
        return offered()[0]
    except Unavailable as reason:
        return f"no OpenCL device: {reason}"


FIRST = _first()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if isinstance(FIRST, str):
        for item in items:
            if "opencl" in item.path.parts:
                item.add_marker(pytest.mark.skip(reason=FIRST))


@pytest.fixture
def device() -> object:
    return FIRST
