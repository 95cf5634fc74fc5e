"""Strassen's algorithm in Winograd's form as tables: which sums are multiplied, and which products are added up.

V. Strassen, "Gaussian elimination is not optimal", Numer. Math. 13, 1969; S. Winograd, "On multiplication of 2 x 2
matrices", Linear Algebra Appl. 4, 1971. Pure numbers: the kernel is ``emit.strassen``.
"""

from __future__ import annotations

import numpy as np

PRODUCTS = 7
UPPER_LEFT, UPPER_RIGHT, LOWER_RIGHT, S1, S2, S3, S4 = range(7)
FACTORS = (UPPER_LEFT, UPPER_RIGHT, S2, S1, S4, S3, LOWER_RIGHT)
"""The part of A each product takes; S1 = A21 + A22, S2 = S1 - A11, S3 = A11 - A21, S4 = A12 - S2. :func:`parts_of`
has those of B."""
BUFFERS = 6
ZERO, CHAIN, FIFTH, LEFT, RIGHT, LOWER = range(BUFFERS)
FROM = (ZERO, CHAIN, CHAIN, ZERO, CHAIN, CHAIN, CHAIN)
INTO = (CHAIN, LEFT, CHAIN, FIFTH, RIGHT, CHAIN, LOWER)
"""Where each product begins and ends. In the terms of the literature: P1; C11 = P1 + P2; U2 = P1 + P6; P5; U2 + P3,
which is C12 but for P5; U3 = U2 + P7; C21 = U3 - P4. C22 is U3 + P5."""
GROUP_TILES = 10
"""Tiles that take one product after the other, so that a panel's part is read from the first-level cache by all but
one. Measured: 512 to 256 channels at 28x28 1.00 of the direct product's speed with 4, 1.04 to 1.08 with 10."""


def parts_of(matrix: np.ndarray) -> np.ndarray:
    """The seven right factors of a [K, N] matrix, [7, K / 2, N / 2], in the order of :data:`FACTORS`:
    B11, B21, T2, T1, B22, T3, -T4 with T1 = B12 - B11, T2 = B22 - T1, T3 = B22 - B12, T4 = T2 - B21."""
    (upper, lower), half = np.split(matrix, 2), matrix.shape[1] // 2
    b11, b12, b21, b22 = upper[:, :half], upper[:, half:], lower[:, :half], lower[:, half:]
    t1 = b12 - b11
    t2 = b22 - t1
    return np.stack([b11, b21, t2, t1, b22, b22 - b12, b21 - t2])
