"""Echo state networks: a reservoir that is not learned, and a linear read-out that is, in closed form."""

from __future__ import annotations

from typing import Any

from .. import backends, ops
from ..errors import AnomalyError, ArgumentError, ShapeError
from ..graph import no_grad
from ..scan import scan
from ..tensor import Tensor, tensor
from .cells import EchoStateCell
from .layers import Linear
from .module import Module
from .recurrent import Recurrent
from .sequences import valid_steps


class EchoStateNetwork(Module):
    """An echo state network (Jaeger 2001): `net(xs, state=None, lengths=None) -> (ys, state)`.

        h_t = reservoir(x_t, h_{t-1})       an `EchoStateCell`, which takes the further arguments
        y_t = V [h_t, x_t] + c

    xs (T, B, I), ys (T, B, O); after a row's end ys are 0, as those of `Recurrent`. Only V and c, in `output`, are
    learned, by `fit`: one linear system instead of backpropagation through time.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> with mg.seed(0):
    ...     net = nn.EchoStateNetwork(1, 50, 1, spectral_radius=0.95)
    >>> wave = mg.sin(0.2 * mg.arange(601.0)).reshape(-1, 1, 1)
    >>> state = net.fit(wave[:-1], wave[1:], washout=100, ridge=1e-6)
    >>> continued, _ = net.generate(wave[-1], state, 100)
    >>> bool(abs(continued[-1, 0, 0] - mg.sin(mg.tensor(0.2 * 700))) < 0.01)
    True
    """

    def __init__(self, input_size: int, hidden_size: int, output_size: int, **reservoir: Any):
        self.reservoir = Recurrent(EchoStateCell(input_size, hidden_size, **reservoir))
        self.output = Linear(hidden_size + input_size, output_size)

    def forward(self, xs: Tensor, state: Any = None, lengths: Any = None) -> tuple[Tensor, Any]:
        xs = xs if isinstance(xs, Tensor) else tensor(xs)
        hs, state = self.reservoir(xs, state, lengths)
        valid = None if lengths is None else valid_steps(lengths, xs.shape[0], xs.shape[1], xs)
        if valid is None:
            return self.output(ops.concat([hs, xs], axis=-1)), state
        ys = self.output(ops.concat([hs, ops.where(valid, xs, 0.0)], axis=-1))
        return ops.where(valid, ys, 0.0), state

    @no_grad()
    def fit(
        self,
        xs: Tensor,
        targets: Tensor,
        *,
        washout: int = 0,
        ridge: float = 1e-6,
        state: Any = None,
        lengths: Any = None,
    ) -> Any:
        """Set the read-out to that of least squares, and return the state after the last step.

            V, c = argmin sum_t |V [h_t, x_t] + c - y_t|^2 + ridge |V|^2

        in float64, over all rows and all steps but the first `washout`, in which the reservoir forgets its beginning.
        targets (T, B, O). Raises ShapeError if they do not fit, ArgumentError if no steps are left, or with ridge=0 too
        few to determine the read-out.
        """
        if type(washout) is not int or washout < 0 or not ridge >= 0:
            raise ArgumentError(
                f"fit: washout is an integer from 0, and ridge not negative, got {washout!r} and {ridge!r}"
            )
        xs, targets = (values if isinstance(values, Tensor) else tensor(values) for values in (xs, targets))
        hs, state = self.reservoir(xs, state, lengths)
        steps, batch = xs.shape[:2]
        expected = (steps, batch, self.output.output_size)
        if targets.shape != expected:
            raise ShapeError(f"fit: expected targets (T, B, O) = {expected}, got {targets.shape}")
        valid = None if lengths is None else valid_steps(lengths, steps, batch, xs, "fit")
        counts = ops.ones((steps, batch, 1), dtype="bool", backend=xs.backend) if valid is None else valid

        def rows(values: Tensor) -> Tensor:
            """The steps that count as rows of float64, and zeros for those that do not."""
            kept = ops.where(counts, ops.astype(values, "float64"), 0.0)[washout:]
            return ops.reshape(kept, (-1, values.shape[-1]))

        one, x, y = rows(ops.ones(counts.shape, backend=xs.backend)), rows(ops.concat([hs, xs], axis=-1)), rows(targets)
        count = ops.sum(one)
        if not count > 0:
            raise ArgumentError(f"fit: washout={washout} leaves none of the {steps} steps")
        x_mean, y_mean = ops.sum(x, axis=0) / count, ops.sum(y, axis=0) / count
        x, y = one * (x - x_mean), one * (y - y_mean)  # about the means, so that c is not drawn to 0
        penalty = ridge * ops.eye(x.shape[1], dtype="float64", backend=x.backend)
        undetermined = ArgumentError(
            f"fit: {count.item():.0f} steps do not determine {x.shape[1]} weights of an output; a ridge above 0 does"
        )
        if not ridge and count.item() <= x.shape[1]:
            raise undetermined
        try:
            weight = ops.matrix_transpose(_solve(x.mT @ x + penalty, x.mT @ y))
        except ValueError:  # what NumPy raises for a singular matrix
            raise undetermined from None
        if not ops.all(ops.isfinite(weight)):
            raise AnomalyError(
                "fit: the read-out would be NaN or infinite; are xs and targets finite where they count?"
            )
        weight_of, bias = self.output.weight, self.output.bias
        assert bias is not None
        bias.data = ops.astype(y_mean - weight @ x_mean, bias.dtype).data
        weight_of.data = ops.astype(weight, weight_of.dtype).data
        return state

    def generate(self, first: Tensor, state: Any, steps: int) -> tuple[Tensor, Any]:
        """Run by itself, each output the next input, from the input `first` (B, I): outputs (steps, B, O) and state.

        state: as `fit` or a call has left it; None for that at the beginning. Raises ArgumentError unless there are as
        many outputs as inputs.
        """
        steps = backends.as_count("generate", "steps", steps, 0)
        first = first if isinstance(first, Tensor) else tensor(first)
        cell = self.reservoir.cell
        if self.output.output_size != cell.input_size:
            raise ArgumentError(
                f"generate: {self.output.output_size} outputs cannot be the {cell.input_size} inputs of the next step"
            )
        if first.ndim != 2 or first.shape[1] != cell.input_size:
            raise ShapeError(
                f"generate: expected a first input (B, {cell.input_size}), got {first.shape}; xs[-1] is one"
            )
        state = cell.initial_state(first.shape[0]) if state is None else state

        def step(_: Tensor, state: Any) -> tuple[Tensor, Any]:
            x, h = state
            h, _ = cell(x, h)
            y = self.output(ops.concat([h, x], axis=-1))
            return y, (y, h)

        clock = ops.zeros((steps, first.shape[0], 0), dtype=first.dtype, backend=first.backend)
        ys, (_, state) = scan(step, clock, (first, state))
        return ys, state


def _solve(a: Tensor, b: Tensor) -> Tensor:
    """x with a x = b. Without a gradient."""
    xp = backends.namespace_of(a.data)
    return Tensor(xp.solve(a.data, b.data))
