"""The process-wide thread count of numpy's BLAS, which a plan sets to its own."""

from __future__ import annotations

from functools import cache
from typing import Any


@cache
def _controller() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def set_blas_threads(threads: int) -> None:
    """Lets numpy's BLAS use ``threads`` threads from now on, in the whole process.

    Set in ``bind`` and ``softneuro_link``, never in ``run``. The linker does it for every plan, so that reference
    steps keep to the plan's threads as well.
    """
    _controller().limit(limits=threads, user_api="blas")
