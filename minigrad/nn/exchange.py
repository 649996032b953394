"""RNN, LSTM and GRU as PyTorch has them, signature, layouts and names: for weights and code that come from there."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from .. import backends, ops, tree
from ..errors import ArgumentError, DtypeError, ShapeError
from ..tensor import Tensor, tensor
from . import init
from .cells import ElmanCell, GRUCell, LSTMCell
from .module import Module, Parameter
from .recurrent import Recurrent


class _Exchange(Module):
    """What the three have in common: a `Recurrent`, whose tensors stand here under PyTorch's names."""

    batch_first: bool
    dropout: float

    def __init__(
        self,
        make: Callable[[int, int], ElmanCell | LSTMCell | GRUCell],
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        **loops: Any,
    ):
        kind = type(self).__name__
        for name, flag in (("bias", bias), ("batch_first", batch_first), ("bidirectional", bidirectional)):
            if not isinstance(flag, bool):  # a number here is an argument in the place of another
                raise ArgumentError(f"{kind}: {name} must be True or False, got {flag!r}")
        num_layers = backends.as_count(kind, "num_layers", num_layers)
        if isinstance(dropout, bool) or not 0 <= dropout <= 1:
            raise ArgumentError(f"{kind}: dropout is a probability, got {dropout!r}")
        if dropout and num_layers == 1:
            warnings.warn(
                f"{kind}: dropout={dropout} acts between layers, and there is one: it does nothing; nn.Dropout acts "
                "on its outputs",
                stacklevel=3,
            )

        def cell(input_size: int, hidden_size: int) -> ElmanCell | LSTMCell | GRUCell:
            made = make(input_size, hidden_size)
            made.bias, made.bias_hh = None, None
            if bias:
                shape, bound = made.weight_ih.shape[:1], hidden_size**-0.5
                made.bias, made.bias_hh = (Parameter(init.uniform(shape, bound)) for _ in range(2))
            return made

        recurrent = Recurrent(
            cell,
            input_size,
            hidden_size,
            num_layers=num_layers,
            bidirectional=bidirectional,
            dropout=dropout if num_layers > 1 else 0.0,
            batch_first=batch_first,
            **loops,
        )
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.bidirectional = bias, bidirectional
        # What stands here and in the parts, by its name here, with the part and its name there. The tensors stand here
        # first, so that these are the names which the module that holds this one gives them.
        places: dict[str, tuple[Module, str]] = {name: (recurrent, name) for name in ("dropout", "batch_first")}
        places.update(_tensors(recurrent))
        for name, (part, attribute) in places.items():
            setattr(self, name, getattr(part, attribute))
        self.recurrent = recurrent
        self._places = places

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name in vars(self).get("_places", ()):
            part, attribute = self._places[name]
            setattr(part, attribute, value)

    def forward(self, input: Any, hx: Any = None, *, lengths: Any = None) -> tuple[Tensor, Any]:
        xs = input if isinstance(input, Tensor) else tensor(input)
        kind, axis, single = type(self).__name__, 0 if self.batch_first else 1, xs.ndim == 2
        if xs.ndim not in (2, 3) or xs.shape[-1] != self.input_size:
            raise ShapeError(
                f"{kind}: expected input of shape ({'B, T' if self.batch_first else 'T, B'}, {self.input_size}), or "
                f"(T, {self.input_size}) for one sequence, got {xs.shape}"
            )
        if not backends.is_floating(xs.data):
            raise DtypeError(f"{kind}: expected input of floats, got {xs.dtype}; nn.Embedding makes them of tokens")
        if single:
            xs = ops.expand_dims(xs, axis=axis)
            lengths = None if lengths is None else [lengths]
        state = None if hx is None else self._state(hx, xs.shape[axis], single)
        outs, final = self.recurrent(xs, state, lengths)
        leaves = tree.leaves(final)
        kinds = len(leaves) // sum(map(len, self.recurrent.cells))  # h, or h and c
        last = [ops.stack(leaves[k::kinds]) for k in range(kinds)]
        if single:
            outs, last = ops.squeeze(outs, axis=axis), [ops.squeeze(s, axis=1) for s in last]
        return outs, last[0] if kinds == 1 else tuple(last)

    def _state(self, hx: Any, batch: int, single: bool) -> Any:
        """PyTorch's state as that of `Recurrent`. Raises ArgumentError or ShapeError for another one."""
        kind, cells = type(self).__name__, self.recurrent.cells
        directions, count = len(cells[0]), len(cells) * len(cells[0])
        fresh = tree.leaves(self.recurrent.cell.initial_state(batch))
        if len(fresh) == 1:
            hx = (hx,)
        elif not isinstance(hx, (tuple, list)) or len(hx) != len(fresh):
            raise ArgumentError(f"{kind}: hx must be a pair (h_0, c_0), got {_words(hx)}")
        parts = []
        for name, part, zeros in zip(("h_0", "c_0"), hx, fresh):
            if part is None or isinstance(part, (tuple, list, dict)):
                raise ArgumentError(f"{kind}: {name} must be one tensor, got {_words(part)}")
            part = part if isinstance(part, Tensor) else tensor(part)
            shape = (count, zeros.shape[1]) if single else (count, *zeros.shape)
            if part.shape != shape:
                raise ShapeError(f"{kind}: expected {name} of shape {shape}, got {part.shape}")
            parts.append(ops.unstack(ops.expand_dims(part, axis=1) if single else part))
        states = parts[0] if len(parts) == 1 else list(zip(*parts))
        if count == 1:
            return states[0]
        return tuple(tuple(states[i : i + directions]) for i in range(0, count, directions))


class RNN(_Exchange):
    """`ElmanCell` over a sequence, as `torch.nn.RNN`: `net(input, hx=None, *, lengths=None) -> (output, h_n)`.

    All is as for `LSTM`, but for the state, which is h alone, and nonlinearity: "tanh" or "relu".

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> output, h_n = nn.RNN(3, 5, nonlinearity="relu")(mg.zeros((7, 2, 3)))
    >>> output.shape, h_n.shape
    ((7, 2, 5), (1, 2, 5))
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, nonlinearity: str = "tanh", bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, *,
        remat: str | int | None = None, unroll: str = "compiled",
    ):  # fmt: skip
        if nonlinearity not in ("tanh", "relu"):
            raise ArgumentError(
                f"RNN: nonlinearity must be 'tanh' or 'relu', got {nonlinearity!r}; nn.ElmanCell takes any activation"
            )
        self.nonlinearity = nonlinearity
        make = partial(ElmanCell, activation=ops.tanh if nonlinearity == "tanh" else ops.relu)
        sizes = input_size, hidden_size, num_layers
        super().__init__(make, *sizes, bias, batch_first, dropout, bidirectional, remat=remat, unroll=unroll)


class LSTM(_Exchange):
    """`LSTMCell` over a sequence, as `torch.nn.LSTM`: `net(input, hx=None, *, lengths=None) -> (output, (h_n, c_n))`.

    input: floats (T, B, input_size); (B, T, input_size) with batch_first; (T, input_size) for one sequence, and then
        nothing has an axis B.
    hx: the state to begin with, (h_0, c_0): h_0 (L, B, P) and c_0 (L, B, hidden_size), batch_first or not. L counts
        layers times directions, layer by layer, forward first; P is proj_size, or hidden_size where that is 0. By
        default zeros.
    lengths: how many steps of each row count, integers (B,) in any order, or one integer for one sequence, in place
        of PyTorch's packed sequences: see `Recurrent`.
    output: (T, B, directions * P), laid out as the input.
    h_n, c_n: the state after each row's last step, shaped as h_0 and c_0; in reverse, after its first. Its rows stand
        on the second axis, so `nn.beam_search` is asked with rows_axis=1.

    bias: whether there are the two biases, b_ih + b_hh in place of b. bidirectional, dropout, remat, unroll: see
        `Recurrent`; dropout with one layer does nothing but warn. proj_size: `projection` of the cell, below
        hidden_size; 0 for none.

    The weights of layer 0 are `weight_ih_l0`, `weight_hh_l0`, `bias_ih_l0`, `bias_hh_l0` and, with a projection,
    `weight_hr_l0`, in the shapes of the cell; those in reverse end in `_l0_reverse`, those of layer 1 in `_l1`. All
    begin uniform in +-1 / sqrt(hidden_size). `load_state_dict` takes a state dict of PyTorch's, with NumPy arrays.
    `net.recurrent` is the `Recurrent` that runs, as for `net.recurrent.explain(input)`.

    Raises ArgumentError, ShapeError or DtypeError for arguments that do not fit.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> net = nn.LSTM(3, 5, num_layers=2, bidirectional=True)
    >>> output, (h_n, c_n) = net(mg.zeros((7, 2, 3)), lengths=[7, 4])
    >>> output.shape, h_n.shape
    ((7, 2, 10), (4, 2, 5))
    >>> net.weight_hh_l1_reverse.shape
    (20, 5)
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
        dropout: float = 0.0, bidirectional: bool = False, proj_size: int = 0, *, remat: str | int | None = None,
        unroll: str = "compiled",
    ):  # fmt: skip
        if type(proj_size) is not int or proj_size < 0 or (proj_size and proj_size >= hidden_size):
            raise ArgumentError(
                f"LSTM: proj_size must be 0 (none) or an integer below hidden_size={hidden_size}, got {proj_size!r}"
            )
        self.proj_size = proj_size
        make = partial(LSTMCell, projection=proj_size or None)
        sizes = input_size, hidden_size, num_layers
        super().__init__(make, *sizes, bias, batch_first, dropout, bidirectional, remat=remat, unroll=unroll)


class GRU(_Exchange):
    """`GRUCell(reset_after=True)` over a sequence, as `torch.nn.GRU`: `net(input, hx=None, *, lengths=None)`.

    Returns (output, h_n). All is as for `LSTM`, but for the state, which is h alone, and proj_size, which there is not.
    b_hn of the cell is the last third of `bias_hh_l0`.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> output, h_n = nn.GRU(3, 5, batch_first=True)(mg.zeros((2, 7, 3)))
    >>> output.shape, h_n.shape
    ((2, 7, 5), (1, 2, 5))
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
        dropout: float = 0.0, bidirectional: bool = False, *, remat: str | int | None = None,
        unroll: str = "compiled",
    ):  # fmt: skip
        sizes = input_size, hidden_size, num_layers
        super().__init__(_gru_cell, *sizes, bias, batch_first, dropout, bidirectional, remat=remat, unroll=unroll)


def _gru_cell(input_size: int, hidden_size: int) -> GRUCell:
    cell = GRUCell(input_size, hidden_size, reset_after=True)
    cell.bias_hn = None  # it is a part of bias_hh
    return cell


def _tensors(recurrent: Recurrent) -> Iterator[tuple[str, tuple[Module, str]]]:
    """PyTorch's name of each tensor, with the cell that has it and its name there, in PyTorch's order."""
    for i, cells in enumerate(recurrent.cells):
        for cell, ending in zip(cells, ("", "_reverse")):
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr"):
                attribute = "bias" if name == "bias_ih" else name
                if getattr(cell, attribute, None) is not None:
                    yield f"{name}_l{i}{ending}", (cell, attribute)


def _words(value: Any) -> str:
    return f"a {type(value).__name__} of {len(value)}" if isinstance(value, (tuple, list)) else type(value).__name__
