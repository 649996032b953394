"""minigrad: automatic differentiation from scratch, for recurrent networks.

import minigrad as mg

x = mg.tensor([1.0, 2.0], requires_grad=True)
mg.tanh(x).sum().backward()
x.grad
"""

from typing import Any

from . import ctc, data, errors, io, nn, ops, optim, random, train, tree
from .backends import bool_, float32, float64, int32, int64, use
from .check import check_cell, detect_anomaly, gradcheck
from .ctc import ctc_loss, ctc_loss_of_log_probabilities
from .dynamics import gradient_flow, spectral_norm, spectral_radius
from .errors import MinigradError
from .functional import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    dropout,
    embedding,
    log_softmax,
    mse,
    one_hot,
    softmax,
)
from .graph import enable_grad, no_grad
from .ops import (
    abs,
    add,
    all,
    any,
    arange,
    argmax,
    astype,
    broadcast_to,
    clip,
    concat,
    cos,
    cumulative_sum,
    divide,
    equal,
    exp,
    expand_dims,
    eye,
    flip,
    from_dlpack,
    full,
    greater,
    greater_equal,
    index_add,
    index_update,
    isfinite,
    less,
    less_equal,
    linear,
    log,
    log1p,
    logical_and,
    logical_not,
    logical_or,
    logsumexp,
    matmul,
    matrix_transpose,
    max,
    maximum,
    mean,
    min,
    minimum,
    multiply,
    negative,
    not_equal,
    ones,
    permute_dims,
    pow,
    primitive,
    relu,
    remainder,
    reshape,
    scatter,
    sigmoid,
    sign,
    sin,
    softplus,
    split,
    sqrt,
    squeeze,
    stack,
    subtract,
    sum,
    take,
    take_along_axis,
    tanh,
    transpose,
    unstack,
    where,
    zeros,
)
from .random import seed
from .scan import scan
from .tensor import Tensor, tensor
from .transforms import grad, hvp, jvp, remat, value_and_grad, vjp

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`mg.viz`, on first use: it needs matplotlib, which the rest does not."""
    if name == "viz":
        import minigrad.viz as viz  # `from . import viz` would ask this function again

        return viz
    raise AttributeError(f"module 'minigrad' has no attribute {name!r}")
