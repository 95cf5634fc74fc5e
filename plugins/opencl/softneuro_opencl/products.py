"""Gemm and MatMul by a constant, as pointwise convolution; the kernels are those of Conv."""

from __future__ import annotations

import math

import numpy as np

from softneuro_core.graph import Region, Value
from softneuro_core.spec import NCHW
from softneuro_core.windows import as_window
from softneuro_opencl.conv_rows import RowsConv
from softneuro_opencl.conv_tiles import TilesConv
from softneuro_opencl.convolutions import Convolution, Finish, Product, finish_of, product_of


def rows_product_of(region: Region) -> Convolution | None:
    """The region as rows by a constant matrix, or None."""
    product = product_of(region)
    if product is None or product.weights.ndim != 2 or len(product.x.static_shape) < 2:
        return None
    found = _gemm(region, product) if product.layer.op == "Gemm" else _matmul(region, product.weights)
    if found is None:
        return None
    matrix, finish = found
    window = as_window(math.prod(product.x.static_shape[:-1]), product.x.static_shape[-1])
    return Convolution(window, 1, matrix.T[:, :, None, None], finish)


def _matmul(region: Region, matrix: np.ndarray) -> tuple[np.ndarray, Finish] | None:
    finish = finish_of(region, None, matrix.shape[1], -1)
    return None if finish is None else (matrix, finish)


def _gemm(region: Region, product: Product) -> tuple[np.ndarray, Finish] | None:
    """A plain; alpha goes into the matrix, beta into the bias, which must be one number a column."""
    layer, _, matrix, bias = product
    attrs = layer.attrs
    if attrs.get("transA"):
        return None
    matrix = matrix.T if attrs.get("transB") else matrix
    if bias is not None and not _is_row(bias, matrix.shape[1]):
        return None
    finish = finish_of(region, None, matrix.shape[1], 1)
    if finish is None:
        return None
    if bias is not None and bias.data is not None:
        total = finish.bias + np.float32(attrs.get("beta", 1.0)) * bias.data.reshape(-1)
        finish = Finish(total.astype(np.float32), finish.residual, finish.activation)
    alpha = np.float32(attrs.get("alpha", 1.0))
    return matrix if alpha == 1 else matrix * alpha, finish


def _is_row(bias: Value, columns: int) -> bool:
    if bias.data is None:
        return False
    return bias.data.shape[-1:] in ((columns,), (1,), ()) and bias.data.size in (1, columns)


class _Product(RowsConv):
    """Gemm or MatMul by a constant [+ Add] [+ activation]."""

    mains, layout = ("Gemm", "MatMul"), NCHW

    def read(self, region: Region) -> Convolution | None:
        return rows_product_of(region)


class RowsProduct(_Product):
    """In registers, an item alone in its group."""

    algorithm = "gemm_rows"


class TilesProduct(_Product, TilesConv):
    """By tiles in local memory."""

    algorithm = "gemm_tiles"
