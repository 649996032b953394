"""Long short-term memory, with peepholes and a projection for those who want them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ... import backends, ops
from ...tensor import Tensor
from .. import init
from ..module import Parameter
from .cell import Cell, function_of_tensor


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

    peepholes: the gates look into the cell (Gers and Schmidhuber 2000): p_i * c is added within the sigmoid of i,
        p_f * c within that of f, p_o * c' within that of o. 3H numbers more, `weight_ci`, `weight_cf`, `weight_co`.
    projection: P, the size of h' = R (o * tanh(c')) (Sak et al. 2014). R is `weight_hr` (P, H), and U then (4H, P).
    input_activation, cell_activation: what stands in place of the two tanh, that of the candidate and that of c'.

    >>> from minigrad import nn
    >>> nn.LSTMCell(8, 16, peepholes=True, projection=4).output_size
    4
    """

    bias_hh: Parameter | None = None  # a second bias, beside U h, that only nn.LSTM has

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        forget_bias: float = 1.0,
        peepholes: bool = False,
        projection: int | None = None,
        input_activation: Callable[[Tensor], Tensor] = ops.tanh,
        cell_activation: Callable[[Tensor], Tensor] = ops.tanh,
    ):
        super().__init__(input_size, hidden_size)
        bound = hidden_size**-0.5
        self.projection = None if projection is None else backends.as_count("LSTMCell", "projection", projection)
        self.input_activation = function_of_tensor(self, "input_activation", input_activation)
        self.cell_activation = function_of_tensor(self, "cell_activation", cell_activation)
        self.weight_ih = Parameter(init.uniform((4 * hidden_size, input_size), bound))
        self.weight_hh = Parameter(init.uniform((4 * hidden_size, self.output_size), bound))
        nothing, some = init.zeros((hidden_size,)), init.ones((hidden_size,)) * forget_bias
        self.bias: Parameter | None = Parameter(ops.concat([nothing, some, nothing, nothing]))
        self.weight_ci: Parameter | None = None
        if peepholes:
            self.weight_ci = Parameter(init.uniform((hidden_size,), bound))
            self.weight_cf = Parameter(init.uniform((hidden_size,), bound))
            self.weight_co = Parameter(init.uniform((hidden_size,), bound))
        size = self.projection
        self.weight_hr = None if size is None else Parameter(init.uniform((size, hidden_size), bound))

    @property
    def output_size(self) -> int:
        return self.projection or self.hidden_size

    def initial_state(self, batch_size: int) -> Any:
        return self.zeros(batch_size, self.output_size), self.zeros(batch_size, self.hidden_size)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Any]:
        h, c = state
        gates = ops.linear(x, self.weight_ih, self.bias) + ops.linear(h, self.weight_hh, self.bias_hh)
        i, f, g, o = ops.split(gates, 4, axis=-1)
        if self.weight_ci is not None:
            i, f = i + self.weight_ci * c, f + self.weight_cf * c
        c = ops.sigmoid(f) * c + ops.sigmoid(i) * self.input_activation(g)
        if self.weight_ci is not None:
            o = o + self.weight_co * c
        h = ops.sigmoid(o) * self.cell_activation(c)
        if self.weight_hr is not None:
            h = ops.linear(h, self.weight_hr)
        return h, (h, c)
