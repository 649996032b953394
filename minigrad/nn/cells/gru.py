"""The gated recurrent unit, with its reset gate before or after the product, and without one."""

from __future__ import annotations

from typing import Any

from ... import ops
from ...tensor import Tensor
from .. import init
from ..module import Parameter
from .cell import Cell


class GRUCell(Cell):
    """The gated recurrent unit (Cho et al. 2014).

        r = sigmoid(W_r x + U_r h + b_r)        reset gate
        z = sigmoid(W_z x + U_z h + b_z)        how much of the old state is kept
        n = tanh(W_n x + U_n (r * h) + b_n)     candidate
        h' = (1 - z) * n + z * h

    Texts that write h' = (1 - u) * h + u * n call u = 1 - z the update gate.

    `reset_after=True` applies the reset gate to the product instead, as cuDNN does, which needs a bias of its own:

        n = tanh(W_n x + r * (U_n h + b_hn) + b_n)

    The output is h' (B, H), and so is the state. The gates stand in the order r, z, n in W = `weight_ih` (3H, I),
    U = `weight_hh` (3H, H) and b = `bias` (3H,); 3H (I + H + 1) numbers, and H more for `bias_hn` (H,). They begin
    uniform in +-1 / sqrt(H).
    """

    bias_hh: Parameter | None = None  # a second bias, beside U h, that only nn.GRU has

    def __init__(self, input_size: int, hidden_size: int, *, reset_after: bool = False):
        super().__init__(input_size, hidden_size)
        bound = hidden_size**-0.5
        self.reset_after = reset_after
        self.weight_ih = Parameter(init.uniform((3 * hidden_size, input_size), bound))
        self.weight_hh = Parameter(init.uniform((3 * hidden_size, hidden_size), bound))
        self.bias: Parameter | None = Parameter(init.uniform((3 * hidden_size,), bound))
        self.bias_hn = Parameter(init.uniform((hidden_size,), bound)) if reset_after else None

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Any]:
        x_r, x_z, x_n = ops.split(ops.linear(x, self.weight_ih, self.bias), 3, axis=-1)
        if self.reset_after:
            h_r, h_z, h_n = ops.split(ops.linear(h, self.weight_hh, self.bias_hh), 3, axis=-1)
            r, z = ops.sigmoid(x_r + h_r), ops.sigmoid(x_z + h_z)
            n = ops.tanh(x_n + r * (h_n if self.bias_hn is None else h_n + self.bias_hn))
        else:
            u_gates, u_n = ops.split(self.weight_hh, [2 * self.hidden_size, self.hidden_size])
            h_r, h_z = ops.split(ops.linear(h, u_gates), 2, axis=-1)
            r, z = ops.sigmoid(x_r + h_r), ops.sigmoid(x_z + h_z)
            n = ops.tanh(x_n + ops.linear(r * h, u_n))
        h = (1 - z) * n + z * h
        return h, h


class SimplifiedGRUCell(Cell):
    """The gated recurrent unit without a reset gate, its update gate alone.

        z = sigmoid(W_z x + U_z h + b_z)        how much of the old state is kept
        n = tanh(W_n x + U_n h + b_n)           candidate
        h' = (1 - z) * n + z * h

    Texts that write c' = u * c~ + (1 - u) * c, as the course of A. Ng does for its "simplified GRU", call u = 1 - z the
    update gate: weights for u are those for z with the sign turned.

    The output is h' (B, H), and so is the state. The gates stand in the order z, n in W = `weight_ih` (2H, I),
    U = `weight_hh` (2H, H) and b = `bias` (2H,); 2H (I + H + 1) numbers, which begin uniform in +-1 / sqrt(H).
    """

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__(input_size, hidden_size)
        bound = hidden_size**-0.5
        self.weight_ih = Parameter(init.uniform((2 * hidden_size, input_size), bound))
        self.weight_hh = Parameter(init.uniform((2 * hidden_size, hidden_size), bound))
        self.bias = Parameter(init.uniform((2 * hidden_size,), bound))

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Any]:
        gates = ops.linear(x, self.weight_ih, self.bias) + ops.linear(h, self.weight_hh)
        z, n = ops.split(gates, 2, axis=-1)
        z = ops.sigmoid(z)
        h = (1 - z) * ops.tanh(n) + z * h
        return h, h
