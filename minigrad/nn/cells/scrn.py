"""The structurally constrained recurrent network: hidden units beside context units that change slowly."""

from __future__ import annotations

from typing import Any

from ... import backends, ops
from ...errors import ArgumentError
from ...tensor import Tensor
from .. import init
from ..module import Parameter
from .cell import Cell


class SCRNCell(Cell):
    """The structurally constrained recurrent network (Mikolov et al. 2015, eq. 4-6).

        s_t = (1 - alpha) B x_t + alpha s_{t-1}             context: a running mean of the inputs
        h_t = sigmoid(P s_t + A x_t + R h_{t-1})            hidden

    The output is [h_t, s_t] (B, H + S), of which a linear layer makes the paper's U h_t + V s_t; the state is (h, s).
    The derivative of s_t by s_{t-1} is alpha, whatever the weights: it fades slowly and cannot explode.

    context_size: S, by default H. alpha: from 0 to 1, how slow the context is; 0.95 in the paper.

    B is `weight_is` (S, I), P `weight_sh` (H, S), A `weight_ih` (H, I), R `weight_hh` (H, H), without biases, as in the
    paper; S (I + H) + H (I + H) numbers, which begin uniform in +-1 / sqrt(H).
    """

    def __init__(self, input_size: int, hidden_size: int, *, context_size: int | None = None, alpha: float = 0.95):
        super().__init__(input_size, hidden_size)
        if not isinstance(alpha, (int, float)) or not 0 <= alpha <= 1:
            raise ArgumentError(f"SCRNCell: alpha must be from 0 to 1, got {alpha!r}")
        bound = hidden_size**-0.5
        size = self.hidden_size if context_size is None else backends.as_count("SCRNCell", "context_size", context_size)
        self.context_size, self.alpha = size, alpha
        self.weight_is = Parameter(init.uniform((size, input_size), bound))
        self.weight_sh = Parameter(init.uniform((hidden_size, size), bound))
        self.weight_ih = Parameter(init.uniform((hidden_size, input_size), bound))
        self.weight_hh = Parameter(init.uniform((hidden_size, hidden_size), bound))

    @property
    def output_size(self) -> int:
        return self.hidden_size + self.context_size

    def initial_state(self, batch_size: int) -> Any:
        return self.zeros(batch_size, self.hidden_size), self.zeros(batch_size, self.context_size)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Any]:
        h, s = state
        s = (1 - self.alpha) * ops.linear(x, self.weight_is) + self.alpha * s
        h = ops.sigmoid(ops.linear(s, self.weight_sh) + ops.linear(x, self.weight_ih) + ops.linear(h, self.weight_hh))
        return ops.concat([h, s], axis=-1), (h, s)
