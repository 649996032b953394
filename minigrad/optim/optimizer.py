"""What every optimiser is: parameters, a learning rate, a step, and a state that can be saved and moved."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .. import backends
from ..errors import ArgumentError, ShapeError
from ..graph import Leaf
from ..tensor import Tensor

Rate = float | Callable[[int], float]


def parameter_list(op: str, parameters: Iterable[Tensor]) -> list[Tensor]:
    """The parameters as a list. Raises ArgumentError for a single tensor, whose rows are none, and for a module."""
    if isinstance(parameters, Tensor) or not isinstance(parameters, Iterable):
        got = "one tensor; write [p], or" if isinstance(parameters, Tensor) else f"a {type(parameters).__name__}; write"
        raise ArgumentError(f"{op}: expected a list of parameters, got {got} module.parameters()")
    return list(parameters)


class Optimizer:
    """The base of the optimisers. A subclass says in `update` how one parameter changes.

    parameters: tensors made with requires_grad, as from `module.parameters()`. A step gives them new arrays and
        writes into none; one whose `.grad` is None stays as it is.
    lr: the learning rate, or a schedule: a function from the number of steps done so far to the learning rate.
    """

    slots: tuple[str, ...] = ()  # the names of the running values kept for each parameter, which begin as zeros

    def __init__(self, parameters: Iterable[Tensor], lr: Rate):
        self.parameters = parameter_list(type(self).__name__, parameters)
        if not self.parameters:
            raise ArgumentError(f"{type(self).__name__}: there are no parameters to optimise")
        for p in self.parameters:
            if not isinstance(p, Tensor) or not isinstance(p.node, Leaf):
                raise ArgumentError(f"{type(self).__name__}: parameters must be tensors made with requires_grad=True")
        if len({id(p) for p in self.parameters}) < len(self.parameters):
            raise ArgumentError(f"{type(self).__name__}: a parameter is given twice, and would be changed twice a step")
        if not callable(lr) and not lr >= 0:
            raise ArgumentError(f"{type(self).__name__}: lr must not be negative, got {lr}")
        self.lr = lr
        self.steps = 0
        self.taken = [0] * len(self.parameters)  # of these, how many each parameter took part in
        self.running: list[dict[str, Any]] = [{} for _ in self.parameters]

    @property
    def rate(self) -> float:
        """The learning rate of the next step."""
        return float(self.lr(self.steps) if callable(self.lr) else self.lr)

    def step(self) -> None:
        """Change every parameter that has a gradient."""
        rate = self.rate
        self.steps += 1
        for i, (p, running) in enumerate(zip(self.parameters, self.running)):
            if p.grad is not None:
                if not running:
                    xp = backends.namespace_of(p.data)
                    running.update({name: xp.zeros(p.shape, dtype=p.dtype) for name in self.slots})
                self.taken[i] += 1
                p.data = self.update(p.data, p.grad.data, rate, running, self.taken[i])

    def update(self, p: Any, g: Any, rate: float, running: dict[str, Any], t: int) -> Any:
        """The new array of a parameter, from its array, its gradient's, and its running values, which it replaces.

        t: this is the parameter's t-th step, from 1.
        """
        raise ArgumentError(f"{type(self).__name__} defines no update")

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for p in self.parameters:
            p.grad = None

    def to(self, backend: str) -> Optimizer:
        """Move the running values to another backend, as `module.to` moves the parameters."""
        for running in self.running:
            running.update({name: Tensor(value).to(backend).data for name, value in running.items()})
        return self

    def state_dict(self) -> dict[str, Tensor]:
        """The number of steps done and the running values, by name; `load_state_dict` continues from them."""
        state = {"steps": _count(self.steps)}
        for i, (taken, running) in enumerate(zip(self.taken, self.running)):
            if taken:
                state[f"{i}.steps"] = _count(taken)
                state.update({f"{i}.{name}": Tensor(value) for name, value in running.items()})
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a state of `state_dict`.

        Raises ArgumentError or ShapeError if it is of other parameters; the optimiser is then unchanged.
        """
        taken = [0] * len(self.parameters)
        running: list[dict[str, Any]] = [{} for _ in self.parameters]
        for key, value in state.items():
            if key == "steps":
                continue
            i, _, name = key.partition(".")
            if not i.isdigit() or int(i) >= len(running) or name not in ("steps", *self.slots):
                raise ArgumentError(f"load_state_dict: {type(self).__name__} has no {key!r}")
            p = self.parameters[int(i)]
            if name == "steps":
                taken[int(i)] = int(value.item())
            elif value.shape != p.shape:
                raise ShapeError(f"load_state_dict: {key} has shape {value.shape}, the parameter {p.shape}")
            else:
                running[int(i)][name] = backends.as_array(value.data, p.dtype, backends.namespace_of(p.data))
        needed = ["steps"]
        for n, (count, values) in enumerate(zip(taken, running)):
            if count or values:
                needed += [f"{n}.{name}" for name in ("steps", *self.slots)]
        missing = [key for key in needed if key not in state]
        if missing:
            raise ArgumentError(f"load_state_dict: there is no {', '.join(missing)} in the state")
        self.steps, self.taken, self.running = int(state["steps"].item()), taken, running


def _count(n: int) -> Tensor:
    return Tensor(backends.as_array(n, "int64", backends.numpy))
