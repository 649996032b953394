"""Matrix products."""

from __future__ import annotations

from typing import Any

from ..errors import ShapeError
from ..tensor import Tensor
from .primitive import primitive
from .shape import reshape, shape_of


@primitive(name="matmul")
def matrix_product(xp, x1, x2, /):
    return xp.matmul(x1, x2)


matrix_product.vjp(
    lambda g, x2, xp: xp.matmul(g, xp.matrix_transpose(x2)),
    lambda g, x1, xp: xp.matmul(xp.matrix_transpose(x1), g),
)


def matmul(x1: Any, x2: Any, /) -> Tensor:
    """Matrix product: (..., N, K) @ (..., K, M) -> (..., N, M), the batch axes `...` broadcasting.

    A vector (K,) on the left is a row, on the right a column, and its axis is left out of the result. Stacked rows
    times one matrix, (..., N, K) @ (K, M), are one large product. Raises ShapeError if the sizes K differ.
    """
    n1, n2 = len(shape_of("matmul", x1)), len(shape_of("matmul", x2))
    if n1 == n2 == 2:
        return matrix_product(x1, x2)
    if not n1 or not n2:
        raise ShapeError(f"matmul: shapes {tuple(x1.shape)} and {tuple(x2.shape)}: a 0-d operand; use * instead")
    if n2 == 1:
        y = matmul(x1, reshape(x2, (-1, 1)))
        return reshape(y, y.shape[:-1])
    if n1 == 1:
        y = matmul(reshape(x1, (1, -1)), x2)
        return reshape(y, (*y.shape[:-2], y.shape[-1]))
    if n2 == 2 and x1.shape[-1]:
        rows = matrix_product(reshape(x1, (-1, x1.shape[-1])), x2)
        return reshape(rows, (*x1.shape[:-1], x2.shape[-1]))
    return matrix_product(x1, x2)
