"""Output recurrence: the network whose only memory is what it said before, and teachers who put words in its mouth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ... import backends, functional, ops, random
from ...errors import ArgumentError, ShapeError
from ...tensor import Tensor, tensor
from .. import init
from ..module import Parameter
from .cell import Cell, function_of_tensor


class Teacher(NamedTuple):
    """The truth for a `JordanCell`, given to its network as `memory`: `net(xs, memory=Teacher(targets))`.

    targets: what the network should have said at each step: floats (T, B, O), or integers (T, B), which are fed back
        as one-hot vectors. Step t is fed that of step t - 1.
    probability: with which the truth is fed, rather than what the network itself has said, drawn for each step of
        each row. 1 is teacher forcing (Williams and Zipser 1989); between 0 and 1 it is scheduled sampling (Bengio et
        al. 2015), in which the probability is annealed: `Teacher(targets, optim.inverse_sigmoid(1000)(step))`.
    first: what the first step is fed, (B, O); zeros if None. The last targets of the window before, for instance.

    The teacher knows neither the rows' lengths nor where they start anew: put numbers (or tokens) in the padding, and
    zeros where the target of another sequence should not be fed.
    """

    targets: Any
    probability: float = 1.0
    first: Any = None


class JordanCell(Cell):
    """Recurrence by the output alone (Jordan 1986).

        h_t = activation(W x_t + U f_{t-1} + b)
        o_t = V h_t + c
        f_t = o_t, softmax(o_t) or one_hot(argmax o_t)      what is fed back

    The output is o_t (B, O), before any softmax, as the losses take it. The state is f_t (B, O): nothing else passes
    into the future, so that the network is less powerful than one with recurrent hidden units, unless o is rich.

    output_size: O, by default as many as hidden units.
    feedback: "output", "softmax" or "one_hot". Through the first two the gradient flows back in time; through a
        one-hot vector, which is a choice, none does.

    Run open-loop it is fed its own f. With a `Teacher` it is fed the truth, and where that holds at every step no
    step depends on another: the compiled loop is empty, all steps are computed at once, and there is no
    backpropagation through time. (The first step is then fed `Teacher.first`, whatever the state; and time must run
    forwards.) The state that is returned is in any case the network's own last f.

    W is `weight_ih` (H, I), U `weight_oh` (H, O), b `bias` (H,), V `weight_ho` (O, H), c `bias_o` (O,);
    H (I + O + 1) + O (H + 1) numbers, which begin uniform in +-1 / sqrt(H).

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> net = nn.Recurrent(nn.JordanCell(3, 16, 5, feedback="softmax"))
    >>> outs, f = net(mg.zeros((7, 2, 3)), memory=nn.Teacher(mg.zeros((7, 2), dtype=mg.int64)))
    >>> outs.shape
    (7, 2, 5)
    """

    FEEDBACK = ("output", "softmax", "one_hot")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int | None = None,
        *,
        feedback: str = "output",
        activation: Callable[[Tensor], Tensor] = ops.tanh,
    ):
        super().__init__(input_size, hidden_size)
        if feedback not in self.FEEDBACK:
            raise ArgumentError(f"JordanCell: feedback is one of {', '.join(self.FEEDBACK)}, not {feedback!r}")
        bound = hidden_size**-0.5
        size = self.hidden_size if output_size is None else backends.as_count("JordanCell", "output_size", output_size)
        self.size, self.feedback = size, feedback
        self.activation = function_of_tensor(self, "activation", activation)
        self.weight_ih = Parameter(init.uniform((hidden_size, input_size), bound))
        self.weight_oh = Parameter(init.uniform((hidden_size, size), bound))
        self.bias = Parameter(init.uniform((hidden_size,), bound))
        self.weight_ho = Parameter(init.uniform((size, hidden_size), bound))
        self.bias_o = Parameter(init.uniform((size,), bound))

    @property
    def output_size(self) -> int:
        return self.size

    def initial_state(self, batch_size: int) -> Any:
        return self.zeros(batch_size, self.size)

    def prepare(self, xs: Tensor, memory: Teacher | None = None) -> tuple[Any, tuple[Any, ...]]:
        if memory is None:
            return xs, ()
        if not isinstance(memory, Teacher):
            raise ArgumentError(f"JordanCell: memory is nn.Teacher(targets, ...), got a {type(memory).__name__}")
        before = self._fed(memory, xs.shape[0], xs.shape[1])
        p = backends.as_number(memory.probability)
        if not isinstance(p, (int, float)) or not 0 <= p <= 1:
            raise ArgumentError(f"Teacher: probability must be a Python number from 0 to 1, got {p!r}")
        if p == 1:
            return (xs, before), ()
        forced = random.bernoulli(before[:, :, :1], p)
        if memory.first is None and forced.shape[0]:  # the first step has no truth before it: it is fed the state
            forced = ops.index_update(forced, 0, False)
        return (xs, before, forced), ()

    def _fed(self, teacher: Teacher, steps: int, batch: int) -> Tensor:
        """What the teacher would feed at each step (T, B, O): the targets, one step later."""
        given = teacher.targets
        targets = given if isinstance(given, Tensor) else tensor(given, backend=self.bias.backend)
        if isinstance(given, (list, tuple)) and targets.ndim == 2:  # of integers, which `tensor` makes floats
            targets = tensor(given, dtype="int64", backend=self.bias.backend)
        if backends.kind_of(targets.data) == "integer":
            targets = functional.one_hot(targets, self.size, dtype=self.bias.dtype)
        if targets.shape != (steps, batch, self.size):
            raise ShapeError(
                f"Teacher: expected targets of shape ({steps}, {batch}, {self.size}), or integers ({steps}, {batch}), "
                f"got {getattr(given, 'dtype', '')}{tuple(given.shape) if hasattr(given, 'shape') else targets.shape}"
            )
        first = self.initial_state(batch) if teacher.first is None else teacher.first
        first = first if isinstance(first, Tensor) else tensor(first, backend=self.bias.backend)
        if first.shape != (batch, self.size):
            raise ShapeError(f"Teacher: first must have the shape ({batch}, {self.size}), got {first.shape}")
        return ops.concat([ops.expand_dims(first, axis=0), targets])[:steps]

    def forward(self, x: Any, f: Tensor) -> tuple[Tensor, Any]:
        if isinstance(x, tuple):
            x, truth, *forced = x
            f = ops.where(forced[0], truth, f) if forced else truth
        h = self.activation(ops.linear(x, self.weight_ih, self.bias) + ops.linear(f, self.weight_oh))
        o = ops.linear(h, self.weight_ho, self.bias_o)
        return o, self._fed_back(o)

    def _fed_back(self, o: Tensor) -> Tensor:
        if self.feedback == "softmax":
            return functional.softmax(o)
        if self.feedback == "one_hot":
            return functional.one_hot(ops.argmax(o, axis=-1), self.size, dtype=o.dtype)
        return o
