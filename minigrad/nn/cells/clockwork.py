"""The clockwork network: hidden units in modules, each with a clock of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ... import ops
from ...errors import ArgumentError
from ...tensor import Tensor, tensor
from .. import init
from ..module import Parameter
from .cell import Cell, function_of_tensor


class ClockworkCell(Cell):
    """The clockwork network (Koutnik et al. 2014): H units in g modules of equal size, the i-th of period T_i.

        h_t[i] = activation(W_i x_t + sum_{j >= i} U_ij h_{t-1}[j] + b_i)   if T_i divides t
        h_t[i] = h_{t-1}[i]                                                 if not

    t counts the steps from 0, where all modules move. A module hears itself and the slower ones. The output is h_t
    (B, H), the state (h, t): t are integers (B, 1), so that each row counts from where it began.

    periods: T_1 < ... < T_g; H must be a multiple of g. By default 1, 2, 4, 8, as many as divide H, at most 4.

    W is `weight_ih` (H, I), U `weight_hh` (H, H), b `bias` (H,), the fastest module first, and begin uniform in
    +-1 / sqrt(H). The blocks U_ij with j < i are never used, and their gradient is 0: of the H^2 numbers of U a share
    (g + 1) / 2g counts.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> net = nn.Recurrent(nn.ClockworkCell(3, 8, periods=(1, 2, 4, 8)))
    >>> outs, (h, t) = net(mg.zeros((10, 1, 3)))
    >>> t
    tensor([[10]], dtype=int64)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        periods: Iterable[int] | None = None,
        activation: Callable[[Tensor], Tensor] = ops.tanh,
    ):
        super().__init__(input_size, hidden_size)
        if periods is None:
            periods = next([2**i for i in range(g)] for g in (4, 3, 2, 1) if hidden_size % g == 0)
        if not isinstance(periods, Iterable):
            raise ArgumentError(f"ClockworkCell: periods are several integers, such as (1, 2, 4), got {periods!r}")
        periods = self.periods = tuple(periods)
        g = len(periods)
        if not g or any(type(p) is not int or p < 1 for p in periods) or sorted(set(periods)) != [*periods]:
            raise ArgumentError(f"ClockworkCell: periods must be integers from 1 in increasing order, got {periods}")
        if hidden_size % g:
            raise ArgumentError(
                f"ClockworkCell: {hidden_size} units cannot be shared out equally to {g} modules, of periods {periods}"
            )
        self.activation = function_of_tensor(self, "activation", activation)
        size, bound = hidden_size // g, hidden_size**-0.5
        self.weight_ih = Parameter(init.uniform((hidden_size, input_size), bound))
        self.weight_hh = Parameter(init.uniform((hidden_size, hidden_size), bound))
        self.bias = Parameter(init.uniform((hidden_size,), bound))
        of_unit = [i for i in range(g) for _ in range(size)]  # the module of each unit
        self.period = tensor([self.periods[i] for i in of_unit], dtype="int64")
        self.is_heard = tensor([[j >= i for j in of_unit] for i in of_unit])

    def initial_state(self, batch_size: int) -> Any:
        start = ops.zeros((batch_size, 1), dtype="int64", backend=self.bias.backend)
        return self.zeros(batch_size, self.hidden_size), start

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Any]:
        h, t = state
        heard = ops.where(self.is_heard, self.weight_hh, 0.0)
        moved = self.activation(ops.linear(x, self.weight_ih, self.bias) + ops.linear(h, heard))
        h = ops.where(t % self.period == 0, moved, h)
        return h, (h, t + 1)
