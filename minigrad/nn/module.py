"""Module and Parameter: weights with names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .. import backends, html
from ..errors import ArgumentError, DtypeError, ShapeError
from ..graph import Leaf
from ..tensor import Tensor


class Parameter(Tensor):
    """A tensor that is learned: assigned to an attribute of a Module, it is one of the module's parameters."""

    __slots__ = ()

    def __init__(self, data: Any):
        super().__init__(data.data if isinstance(data, Tensor) else backends.as_array(data))
        self.requires_grad = True


class Module:
    """A function with weights. Subclasses assign parameters and other modules to attributes and define `forward`.

    Attributes may also be lists, tuples or dicts of modules or parameters. A Tensor that is no Parameter is kept with
    the weights (saved, moved) but not learned.

    >>> from minigrad import nn
    >>> class Perceptron(nn.Module):
    ...     def __init__(self):
    ...         self.hidden, self.output = nn.Linear(3, 8), nn.Linear(8, 2)
    ...     def forward(self, x):
    ...         return self.output(self.hidden(x).tanh())
    >>> [name for name, _ in Perceptron().named_parameters()]
    ['hidden.weight', 'hidden.bias', 'output.weight', 'output.bias']
    """

    training = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes."""
        raise ArgumentError(f"{type(self).__name__} defines no forward")

    # Its parts

    def _walk(self) -> Iterator[tuple[str, Any]]:
        """This module and all modules and tensors below it, each once, under its first name in order of assignment."""
        seen: set[int] = set()
        stack: list[tuple[str, Any]] = [("", self)]
        while stack:
            name, value = stack.pop()
            prefix = f"{name}." if name else ""
            if isinstance(value, (Module, Tensor)):
                if id(value) in seen:
                    continue
                seen.add(id(value))
                yield name, value
            parts: dict[Any, Any] = {}
            if isinstance(value, (Module, dict)):
                parts = vars(value) if isinstance(value, Module) else value
            elif isinstance(value, (list, tuple)):
                parts = dict(enumerate(value))
            stack.extend(
                [(f"{prefix}{key}", part) for key, part in reversed(parts.items()) if isinstance(part, _HOLDERS)]
            )

    def modules(self) -> list[Module]:
        """This module and all below it, each once."""
        return [m for _, m in self._walk() if isinstance(m, Module)]

    def named_tensors(self) -> dict[str, Tensor]:
        """Parameters and other tensors by name, each once, under its first name."""
        return {name: value for name, value in self._walk() if isinstance(value, Tensor)}

    def named_parameters(self) -> list[tuple[str, Parameter]]:
        """The parameters with their names, in order of assignment; a shared one once."""
        return [(name, value) for name, value in self.named_tensors().items() if isinstance(value, Parameter)]

    def parameters(self) -> list[Parameter]:
        """The parameters, in order of assignment; a shared one once."""
        return [value for _, value in self.named_parameters()]

    @property
    def num_parameters(self) -> int:
        """How many numbers are learned."""
        return sum(p.size for p in self.parameters())

    # What is done to all of them

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for _, value in self._walk():
            if isinstance(value, Parameter) and isinstance(value.node, Leaf):
                value.node.grad = None

    def train(self, mode: bool = True) -> Module:
        """Behave as in training (dropout is on), or not."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Module:
        """Behave as in use, not in training."""
        return self.train(False)

    def to(self, backend: str) -> Module:
        """Move all tensors, and the gradients there are, to another backend."""
        for value in self.named_tensors().values():
            grad = value.grad
            value.data = value.detach().to(backend).data
            if grad is not None:
                value.grad = grad.to(backend)
        return self

    def astype(self, dtype: Any) -> Module:
        """Keep all tensors of floats, and the gradients there are, in another dtype of floats: "float64" for proofs."""
        if backends.dtype_name(dtype) not in backends.FLOATING:
            raise DtypeError(f"astype: weights are floats, {' or '.join(backends.FLOATING)}, not {dtype}")
        for value in self.named_tensors().values():
            if backends.is_floating(value.data):
                grad = value.grad
                value.data = value.detach().astype(dtype).data
                if grad is not None:
                    value.grad = grad.astype(dtype)
        return self

    def state_dict(self) -> dict[str, Tensor]:
        """All tensors by name, without a graph. They share memory with the module's, which is never written into."""
        return {name: value.detach() for name, value in self.named_tensors().items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the values in `state` (tensors or arrays, by name), in this module's dtypes and backend.

        Raises ArgumentError for names that are missing or too many, ShapeError for a shape that differs; the module
        is then unchanged.
        """
        if not isinstance(state, Mapping):
            raise DtypeError(
                f"load_state_dict: expected a dict, got {type(state).__name__}; mg.io.load gives (tensors, metadata)"
            )
        own = self.named_tensors()
        missing, extra = own.keys() - state.keys(), state.keys() - own.keys()
        if missing or extra:
            parts = [f"it lacks {_some(missing)}"] if missing else []
            parts += [f"it has {_some(extra)} too many"] if extra else []
            raise ArgumentError(
                f"load_state_dict: the state is not that of a {type(self).__name__}: {', and '.join(parts)}"
            )
        for name in own:
            if not hasattr(state[name], "shape"):
                raise DtypeError(
                    f"load_state_dict: {name} is a {type(state[name]).__name__}, expected a tensor or an array"
                )
        for name, value in own.items():
            if tuple(state[name].shape) != value.shape:
                raise ShapeError(f"load_state_dict: {name} has shape {value.shape}, the state {state[name].shape}")
        arrays = {}  # all of them before the first is taken over
        for name, value in own.items():
            given = state[name].data if isinstance(state[name], Tensor) else state[name]
            arrays[name] = backends.as_array(given, value.dtype, backends.get(value.backend))
        for name, value in own.items():
            value.data = arrays[name]

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__}({self.num_parameters:,} parameters)"]
        lines += [f"  {name}: {value.dtype}{list(value.shape)}" for name, value in self.named_tensors().items()]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """As a notebook shows it: its parameters and other tensors by name."""
        tensors = self.named_tensors().items()
        rows = [(name, value.data, isinstance(value, Parameter), value.requires_grad) for name, value in tensors]
        return html.of_weights(type(self).__name__, self.num_parameters, rows)


def _some(names: Iterable[str]) -> str:
    """Names in a row; of many the first few, and how many more."""
    found = sorted(names)
    return ", ".join(found[:8]) + (f" and {len(found) - 8} more" if len(found) > 8 else "")


_HOLDERS = (Module, Tensor, list, tuple, dict)  # what may be a part of a module, or hold some
