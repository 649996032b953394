"""The simple recurrent network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ... import ops
from ...tensor import Tensor
from .. import init
from ..module import Parameter
from .cell import Cell, function_of_tensor


class ElmanCell(Cell):
    """The simple recurrent network (Elman 1990).

        h_t = activation(W x_t + U h_{t-1} + b)

    The output is h_t (B, H). W is `weight_ih` (H, I), U `weight_hh` (H, H), b `bias` (H,); H (I + H + 1) numbers, which
    begin uniform in +-1 / sqrt(H). Notes that write U for the input's weights and W for the recurrent ones mean the
    same network.
    """

    bias_hh: Parameter | None = None  # a second bias, beside U h, that only nn.RNN has

    def __init__(self, input_size: int, hidden_size: int, *, activation: Callable[[Tensor], Tensor] = ops.tanh):
        super().__init__(input_size, hidden_size)
        bound = hidden_size**-0.5
        self.activation = function_of_tensor(self, "activation", activation)
        self.weight_ih = Parameter(init.uniform((hidden_size, input_size), bound))
        self.weight_hh = Parameter(init.uniform((hidden_size, hidden_size), bound))
        self.bias: Parameter | None = Parameter(init.uniform((hidden_size,), bound))

    @classmethod
    def irnn(cls, input_size: int, hidden_size: int, *, scale: float = 1.0, input_std: float = 0.001) -> ElmanCell:
        """The IRNN (Le et al. 2015): ReLU, U = scale times the identity, b = 0, and W normal with `input_std`.

        At first the state is kept as it is, and its gradient too; a scale below 1 forgets. Their rates are small, 1e-8
        to 1e-2, and their gradients clipped.

        >>> from minigrad import nn
        >>> net = nn.Recurrent(nn.ElmanCell.irnn, 3, 100)
        """
        cell = cls(input_size, hidden_size, activation=ops.relu)
        cell.weight_ih = Parameter(init.normal((hidden_size, input_size), input_std))
        cell.weight_hh = Parameter(init.identity((hidden_size, hidden_size), scale))
        cell.bias = Parameter(init.zeros((hidden_size,)))
        return cell

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Any]:
        h = self.activation(ops.linear(x, self.weight_ih, self.bias) + ops.linear(h, self.weight_hh, self.bias_hh))
        return h, h
