"""The primitives, each beside its backward formulas, by family; with standard names, the namespace of `Tensor`s."""

import sys

from .. import backends
from ..tensor import Tensor
from .creation import arange, eye, from_dlpack, full, ones, zeros
from .elementwise import (
    abs,
    add,
    astype,
    clip,
    cos,
    divide,
    exp,
    log,
    log1p,
    maximum,
    minimum,
    multiply,
    negative,
    pow,
    relu,
    remainder,
    sigmoid,
    sign,
    sin,
    softplus,
    sqrt,
    subtract,
    tanh,
    to,
    where,
)
from .indexing import getitem, index, index_add, index_update, scatter, take, take_along_axis
from .linalg import linear, matmul
from .logic import (
    equal,
    greater,
    greater_equal,
    isfinite,
    less,
    less_equal,
    logical_and,
    logical_not,
    logical_or,
    not_equal,
)
from .primitive import primitive
from .reduction import all, any, argmax, cumulative_sum, logsumexp, max, mean, min, sum
from .shape import (
    broadcast_to,
    concat,
    expand_dims,
    flip,
    matrix_transpose,
    permute_dims,
    reshape,
    split,
    squeeze,
    stack,
    transpose,
    unstack,
)

# A Tensor is an array too, and this is its namespace: rules given Tensors record a graph of the backward pass.
backends.namespaces[Tensor] = sys.modules[__name__]
