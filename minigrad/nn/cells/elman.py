"""The simple recurrent network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ... import ops
from ...tensor import Tensor
from .. import init
from ..module import Parameter
from .cell import Cell


class ElmanCell(Cell):
    """The simple recurrent network (Elman 1990).

        h_t = activation(W x_t + U h_{t-1} + b)

    The output is h_t (B, H). W is `weight_ih` (H, I), U `weight_hh` (H, H), b `bias` (H,); H (I + H + 1) numbers, which
    begin uniform in +-1 / sqrt(H). Notes that write U for the input's weights and W for the recurrent ones mean the
    same network.
    """

    def __init__(self, input_size: int, hidden_size: int, *, activation: Callable[[Tensor], Tensor] = ops.tanh):
        super().__init__(input_size, hidden_size)
        bound = hidden_size**-0.5
        self.activation = activation
        self.weight_ih = Parameter(init.uniform((hidden_size, input_size), bound))
        self.weight_hh = Parameter(init.uniform((hidden_size, hidden_size), bound))
        self.bias = Parameter(init.uniform((hidden_size,), bound))

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Any]:
        h = self.activation(ops.linear(x, self.weight_ih, self.bias) + ops.linear(h, self.weight_hh))
        return h, h
