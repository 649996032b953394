"""The reservoir of an echo state network: recurrent weights that are drawn once and never learned."""

from __future__ import annotations

from typing import Any

from ... import ops, random
from ...errors import ArgumentError
from ...tensor import Tensor
from .. import init
from .cell import Cell


class EchoStateCell(Cell):
    """The reservoir of an echo state network (Jaeger 2001), of leaky units (Jaeger et al. 2007).

        h_t = (1 - a) h_{t-1} + a tanh(W x_t + U h_{t-1} + b)

    The output is h_t (B, H), and so is the state. Nothing is learned here: W = `weight_ih` (H, I), U = `weight_hh`
    (H, H) and b = `bias` (H,) are tensors, not parameters; gradients by the inputs pass through. `EchoStateNetwork`
    adds the read-out that is learned.

    spectral_radius: of U, the largest size of its eigenvalues. Below 1, as a rule, the state forgets where it began:
        the echo state property. (Strictly, a largest singular value below 1 is sure to have it, and a radius above 1
        to lack it for the input 0.)
    density: the share of the entries of U that are not 0; by default 10 / H, so that a unit hears 10 others on average.
    leak: a, above 0 and at most 1; 1 has no memory but that of U.
    input_scale, bias_scale: W and b are uniform in +- these.

    Raises ArgumentError for numbers out of range, and where U, being small and sparse, has no cycle (see
    `random.reservoir`); more units or a larger density have.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        spectral_radius: float = 0.9,
        density: float | None = None,
        leak: float = 1.0,
        input_scale: float = 1.0,
        bias_scale: float = 0.0,
    ):
        super().__init__(input_size, hidden_size)
        if not isinstance(leak, (int, float)) or not 0 < leak <= 1:
            raise ArgumentError(f"EchoStateCell: leak must be above 0, and at most 1, got {leak!r}")
        for name, scale in (("input_scale", input_scale), ("bias_scale", bias_scale)):
            if not isinstance(scale, (int, float)) or not 0 <= scale < float("inf"):
                raise ArgumentError(f"EchoStateCell: {name} must be a number from 0, got {scale!r}")
        self.leak = leak
        self.weight_ih = init.uniform((hidden_size, input_size), input_scale)
        density = min(1.0, 10 / hidden_size) if density is None else density
        self.weight_hh = random.reservoir(hidden_size, spectral_radius=spectral_radius, density=density)
        self.bias = init.uniform((hidden_size,), bias_scale)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Any]:
        a = ops.tanh(ops.linear(x, self.weight_ih, self.bias) + ops.linear(h, self.weight_hh))
        h = (1 - self.leak) * h + self.leak * a if self.leak < 1 else a
        return h, h
