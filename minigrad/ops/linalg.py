"""Matrix products."""

from __future__ import annotations

from math import prod
from typing import Any

from .. import backends
from ..errors import ShapeError
from ..graph import Sum
from ..tensor import Tensor
from .primitive import primitive
from .shape import reshape, shape_of


@primitive(name="matmul")
def matrix_product(xp, x1, x2, /):
    """`matmul` of matrices, or of stacks of them."""
    return xp.matmul(x1, x2)


matrix_product.vjp(
    lambda g, x2, xp: xp.matmul(g, xp.matrix_transpose(x2)),
    lambda g, x1, xp: _product_over_rows(xp, x1, g),
)


@primitive(name="linear")
def rows_times_weight(xp, x, weight, /):
    """`linear` of a matrix of rows, without a bias."""
    return xp.matmul(x, xp.matrix_transpose(weight))


rows_times_weight.vjp(
    lambda g, weight, xp: xp.matmul(g, weight),
    lambda g, x, xp: _product_over_rows(xp, g, x),
)


def _product_over_rows(xp, a, b):
    """a^T b. Of a weight used at every step of a loop these come one by one, and are one product over all rows."""
    if not backends.adds_up_pieces(a) or len(a.shape) != 2 or len(b.shape) != 2:
        return xp.matmul(xp.matrix_transpose(a), b)
    return Sum(_product_of_all_rows, [(a, b)], (a.shape[1], b.shape[1]), limit=64)


def _product_of_all_rows(pieces, shape):
    xp = backends.namespace_of(pieces[0][0])
    a, b = (parts[0] if len(parts) == 1 else xp.concat(parts, axis=0) for parts in zip(*pieces))
    return xp.matmul(xp.matrix_transpose(a), b)


def linear(x: Any, weight: Any, bias: Any = None, /) -> Tensor:
    """x W^T + b: (..., I) by weight (O, I) and, if there is one, bias (O,), to (..., O).

    Stacked rows are one large product. Raises ShapeError if the sizes I differ.
    """
    shape = shape_of("linear", x)
    if len(shape) < 1 or len(shape_of("linear", weight)) != 2 or shape[-1] != weight.shape[1]:
        words = f"linear: x {tuple(shape)} and weight {tuple(weight.shape)}: expected (..., I) and (O, I)"
        hint = "; tokens become vectors by nn.Embedding" if backends.kind_of(x) == "integer" else ""
        raise ShapeError(words + hint)
    rows = x if len(shape) == 2 else reshape(x, (prod(shape[:-1]), shape[-1]))
    y = rows_times_weight(rows, weight)
    if bias is not None:
        y = y + bias
    return y if len(shape) == 2 else reshape(y, (*shape[:-1], weight.shape[0]))


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
