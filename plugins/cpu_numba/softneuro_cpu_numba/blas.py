"""The process-wide thread count of numpy's BLAS, which plans keep at one."""

from __future__ import annotations

from functools import cache
from typing import Any


@cache
def _controller() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def keep_blas_to_one_thread() -> None:
    """Lets numpy's BLAS use one thread from now on, in the whole process.

    Its own workers go on spinning for about 0.1 s after each product and take the cores our steps need: ResNet50 on two
    threads, planned with BLAS on both for 33 of its layers, took 71 ms where the plan's isolated costs added up to 58;
    emitted kernels on two threads are faster than BLAS on two for every layer of it. Set in ``bind`` and
    ``softneuro_link``, never in ``run``.
    """
    _controller().limit(limits=1, user_api="blas")
