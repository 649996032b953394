"""Long short-term memory."""

from __future__ import annotations

from typing import Any

from ... import ops
from ...tensor import Tensor
from .. import init
from ..module import Parameter
from .cell import Cell


class LSTMCell(Cell):
    """Long short-term memory (Hochreiter and Schmidhuber 1997) with a forget gate (Gers et al. 2000).

        i = sigmoid(W_i x + U_i h + b_i)        input gate: how much is written
        f = sigmoid(W_f x + U_f h + b_f)        forget gate: how much is kept
        g = tanh(W_g x + U_g h + b_g)           candidate: what would be written
        o = sigmoid(W_o x + U_o h + b_o)        output gate: how much is shown
        c' = f * c + i * g
        h' = o * tanh(c')

    The output is h' (B, H), the state (h, c). The gates stand in the order i, f, g, o in W = `weight_ih` (4H, I),
    U = `weight_hh` (4H, H) and b = `bias` (4H,); 4H (I + H + 1) numbers, which begin uniform in +-1 / sqrt(H), but for
    the biases: 0, and `forget_bias` for the forget gate, so that at first much is kept (Jozefowicz et al. 2015).
    """

    def __init__(self, input_size: int, hidden_size: int, *, forget_bias: float = 1.0):
        super().__init__(input_size, hidden_size)
        bound = hidden_size**-0.5
        self.weight_ih = Parameter(init.uniform((4 * hidden_size, input_size), bound))
        self.weight_hh = Parameter(init.uniform((4 * hidden_size, hidden_size), bound))
        nothing, some = init.zeros((hidden_size,)), init.ones((hidden_size,)) * forget_bias
        self.bias = Parameter(ops.concat([nothing, some, nothing, nothing]))

    def initial_state(self, batch_size: int) -> Any:
        return self.zeros(batch_size, self.hidden_size), self.zeros(batch_size, self.hidden_size)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Any]:
        h, c = state
        gates = ops.linear(x, self.weight_ih, self.bias) + ops.linear(h, self.weight_hh)
        i, f, g, o = ops.split(gates, 4, axis=-1)
        c = ops.sigmoid(f) * c + ops.sigmoid(i) * ops.tanh(g)
        h = ops.sigmoid(o) * ops.tanh(c)
        return h, (h, c)
