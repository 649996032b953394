"""Tensor: an array, and the node that made it. Its operators and methods only call `ops`, where the mathematics is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import numpy as np

from . import backends, html
from .errors import DtypeError, GraphError, InPlaceError, ShapeError
from .graph import Leaf, Node, backpropagate

Axis = int | Sequence[int] | None


class Tensor:
    """An array that may be part of a graph. Made by `mg.tensor`, by creation functions and by operations.

    data: the array (`numpy.ndarray`, `cupy.ndarray`, ...). Nobody writes into it; an optimiser rebinds it.
    node: its place in the graph; None where no gradient is needed.
    """

    __slots__ = ("__weakref__", "data", "node")
    __array_ufunc__ = None  # so that `array * tensor` comes to Tensor.__rmul__

    def __init__(self, data: Any, node: Node | None = None):
        self.data = data
        self.node = node

    # What it is

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def ndim(self) -> int:
        return self.data.ndim

    @property
    def size(self) -> int:
        return self.data.size

    @property
    def dtype(self) -> Any:
        return self.data.dtype

    @property
    def backend(self) -> str:
        """The name of the library whose array this is: "numpy" or "cupy"."""
        return backends.namespace_of(self.data).name_of(self.data)

    @property
    def requires_grad(self) -> bool:
        """Whether a gradient flows to or through this tensor. Settable on a tensor that was not computed."""
        return self.node is not None

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if self.node is not None and not isinstance(self.node, Leaf):
            raise GraphError(
                "requires_grad can be set only on a tensor that was created; detach() cuts one that was computed"
            )
        if value and not backends.is_floating(self.data):
            raise DtypeError(f"requires_grad: only floats have gradients, this is {self.dtype}; pass dtype=mg.float32")
        if not value:
            self.node = None
        elif self.node is None:
            self.node = Leaf(self.shape)

    @property
    def grad(self) -> Tensor | None:
        """What `backward()` has accumulated: a tensor without a graph, of the same shape, dtype and backend."""
        return self.node.grad if isinstance(self.node, Leaf) else None

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if not isinstance(self.node, Leaf):
            raise GraphError("grad can be set only on a tensor made with requires_grad=True")
        if value is not None:
            if not isinstance(value, Tensor):
                raise DtypeError(f"grad: expected a tensor or None, got {type(value).__name__}; mg.tensor makes one")
            backends.require_same("grad", [self.data, value.data])
            if value.shape != self.shape or value.dtype != self.dtype:
                raise ShapeError(f"grad: expected {self.dtype}{self.shape}, got {value.dtype}{value.shape}")
            value = value if value.node is None else value.detach()
        self.node.grad = value

    def __repr__(self) -> str:
        text = backends.namespace_of(self.data).text(self.data)
        dtype = str(self.dtype).rpartition(".")[2]
        notes = [f"dtype={dtype}"] if dtype not in ("float32", "bool") else []
        notes += [f"backend={self.backend!r}"] if self.backend != "numpy" else []
        notes += ["requires_grad=True"] if isinstance(self.node, Leaf) else []
        notes += [f"from={self.node.name}"] if self.node is not None and not isinstance(self.node, Leaf) else []
        return f"tensor({', '.join([text, *notes])})"

    def _repr_html_(self) -> str:
        """As a notebook shows it."""
        made = "" if self.node is None else f"made by {self.node.name}"
        note = "requires a gradient" if isinstance(self.node, Leaf) else made
        return html.of_array(type(self).__name__, self.data, note, None if self.grad is None else self.grad.data)

    # The graph

    def detach(self) -> Tensor:
        """The same values, cut from the graph. The memory is shared."""
        return Tensor(self.data)

    def backward(self, grad: Any = None, retain_graph: bool = False) -> None:
        """Add to `.grad` of every leaf this tensor depends on the gradient of this tensor.

        grad: the cotangent to begin with, of this tensor's shape; may be left out where there is one element.
        retain_graph: keep the graph for another pass; otherwise it is released as the pass goes.

        Raises GraphError without a graph, on a released graph, and if `grad` is missing; ShapeError if it does not fit.

        >>> import minigrad as mg
        >>> x = mg.tensor([1.0, 2.0], requires_grad=True)
        >>> (x * x).sum().backward()
        >>> x.grad
        tensor([2., 4.])
        """
        if self.node is None:
            raise GraphError(
                "backward: this tensor needs no gradient: nothing that it was computed from was made with "
                "requires_grad=True, or it was computed under no_grad() or detached"
            )
        seed = seed_cotangent("backward", self, grad)
        for node, g in backpropagate([(self.node, seed.data)], retain=retain_graph).items():
            if isinstance(node, Leaf):
                total = g if node.grad is None else node.grad.data + g
                node.grad = Tensor(backends.namespace_of(total).asarray(total))

    # Where it goes

    def numpy(self) -> np.ndarray:
        """The values as a read-only NumPy array; a view where the memory can be shared, and cut from the graph."""
        array = self._to_numpy().view()
        array.flags.writeable = False
        return array

    def _to_numpy(self) -> np.ndarray:
        return backends.namespace_of(self.data).to_numpy(self.data)

    def item(self) -> Any:
        """The one element as a Python number. Raises ShapeError if there are more, or none."""
        if self.size != 1:
            raise ShapeError(f"item: a tensor of shape {self.shape} has {self.size} elements, not one")
        return self._to_numpy().item()

    def tolist(self) -> Any:
        """The values as nested Python lists."""
        return self._to_numpy().tolist()

    def to(self, backend: str) -> Tensor:
        """This tensor on another backend ("numpy", "cupy"). Gradients flow back across."""
        return self if backend == self.backend else ops.to(self, backend)

    def astype(self, dtype: Any) -> Tensor:
        """The values in another dtype. Gradients flow back, in this tensor's dtype."""
        return ops.astype(self, dtype)

    def __dlpack__(self, **options: Any) -> Any:
        if self.requires_grad:
            raise GraphError("__dlpack__: this tensor needs a gradient, which would be lost; share tensor.detach()")
        return self.data.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.data.__dlpack_device__()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if self.requires_grad:
            raise GraphError(
                "NumPy was given a tensor that needs a gradient, which would be lost silently. Use the function of "
                "minigrad (mg.exp, mg.sum, ...), or tensor.numpy() if no gradient is meant to flow"
            )
        array = np.array(self._to_numpy(), dtype=dtype) if copy else np.asarray(self.numpy(), dtype=dtype)
        return array

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        def plain(value: Any) -> Any:
            if isinstance(value, Tensor):
                return np.asarray(value)
            if isinstance(value, (list, tuple)):
                return type(value)(plain(v) for v in value)
            return value

        return function(*plain(args), **{name: plain(value) for name, value in kwargs.items()})

    def __format__(self, spec: str) -> str:
        """One element is formatted as a number: f"{loss:.3f}"."""
        return format(self.item(), spec) if spec and self.size == 1 else format(str(self), spec)

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if backends.is_floating(self.data):
            raise DtypeError(f"a tensor of {self.dtype} cannot be an index; use .astype(mg.int64)")
        return int(self.item())

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ShapeError(f"a tensor of shape {self.shape} is neither true nor false; use mg.all or mg.any")
        return bool(self.item())

    def __len__(self) -> int:
        if not self.shape:
            raise DtypeError("a 0-d tensor has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        if not self.shape:
            raise DtypeError("a 0-d tensor cannot be iterated over")
        return iter(ops.unstack(self))

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if self.node is not None and not isinstance(self.node, Leaf):
            raise GraphError("deepcopy: this tensor is part of a graph; copy tensor.detach()")
        new = type(self).__new__(type(self))
        Tensor.__init__(new, backends.as_array(self.data, namespace=backends.namespace_of(self.data)))
        new.requires_grad = self.requires_grad
        if hasattr(self, "__dict__"):  # of a subclass
            new.__dict__.update(self.__dict__)
        return new

    def __reduce__(self) -> Any:
        if self.node is not None and not isinstance(self.node, Leaf):
            raise GraphError("pickle: this tensor is part of a graph; store tensor.detach(), or use mg.io.save")
        return _restore, (type(self), self._to_numpy(), self.backend, self.requires_grad)

    # Nothing is changed in place

    def __setitem__(self, key: Any, value: Any) -> NoReturn:
        raise InPlaceError(
            "tensors are not changed in place: the graph may need the old values. mg.index_update(x, key, values) "
            "gives a new tensor with values written at key; mg.where(condition, a, b) chooses by a condition"
        )

    def _no_inplace(self, other: Any) -> NoReturn:
        raise InPlaceError(
            "tensors are not changed in place: write x = x + y; mg.where(condition, a, b) chooses by a condition, "
            "mg.index_update(x, key, values) writes a part"
        )

    __iadd__ = __isub__ = __imul__ = __itruediv__ = __ifloordiv__ = __imod__ = __ipow__ = __imatmul__ = _no_inplace
    __iand__ = __ior__ = __ixor__ = __ilshift__ = __irshift__ = _no_inplace

    # Operators

    def __add__(self, other: Any) -> Tensor:
        return ops.add(self, other)

    def __radd__(self, other: Any) -> Tensor:
        return ops.add(other, self)

    def __sub__(self, other: Any) -> Tensor:
        return ops.subtract(self, other)

    def __rsub__(self, other: Any) -> Tensor:
        return ops.subtract(other, self)

    def __mul__(self, other: Any) -> Tensor:
        return ops.multiply(self, other)

    def __rmul__(self, other: Any) -> Tensor:
        return ops.multiply(other, self)

    def __truediv__(self, other: Any) -> Tensor:
        return ops.divide(self, other)

    def __rtruediv__(self, other: Any) -> Tensor:
        return ops.divide(other, self)

    def __mod__(self, other: Any) -> Tensor:
        return ops.remainder(self, other)

    def __rmod__(self, other: Any) -> Tensor:
        return ops.remainder(other, self)

    def __pow__(self, other: Any) -> Tensor:
        return ops.pow(self, other)

    def __rpow__(self, other: Any) -> Tensor:
        return ops.pow(other, self)

    def __matmul__(self, other: Any) -> Tensor:
        return ops.matmul(self, other)

    def __rmatmul__(self, other: Any) -> Tensor:
        return ops.matmul(other, self)

    def __neg__(self) -> Tensor:
        return ops.negative(self)

    def __pos__(self) -> Tensor:
        return self

    def __abs__(self) -> Tensor:
        return ops.abs(self)

    def __invert__(self) -> Tensor:
        return ops.logical_not(self)

    def __and__(self, other: Any) -> Tensor:
        return ops.logical_and(self, other)

    def __or__(self, other: Any) -> Tensor:
        return ops.logical_or(self, other)

    __rand__, __ror__ = __and__, __or__

    def __lt__(self, other: Any) -> Tensor:
        return ops.less(self, other)

    def __le__(self, other: Any) -> Tensor:
        return ops.less_equal(self, other)

    def __gt__(self, other: Any) -> Tensor:
        return ops.greater(self, other)

    def __ge__(self, other: Any) -> Tensor:
        return ops.greater_equal(self, other)

    def __eq__(self, other: Any) -> Tensor:  # type: ignore[override]
        return ops.equal(self, other)

    def __ne__(self, other: Any) -> Tensor:  # type: ignore[override]
        return ops.not_equal(self, other)

    __hash__ = object.__hash__

    def __getitem__(self, key: Any) -> Tensor:
        return ops.getitem(self, key)

    # Methods, as NumPy's and PyTorch's users know them

    @property
    def T(self) -> Tensor:
        """All axes in reverse order."""
        return ops.transpose(self)

    @property
    def mT(self) -> Tensor:
        """The last two axes exchanged."""
        return ops.matrix_transpose(self)

    def sum(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return ops.sum(self, axis=axis, keepdims=keepdims)

    def mean(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return ops.mean(self, axis=axis, keepdims=keepdims)

    def max(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return ops.max(self, axis=axis, keepdims=keepdims)

    def min(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return ops.min(self, axis=axis, keepdims=keepdims)

    def argmax(self, axis: int | None = None, keepdims: bool = False) -> Tensor:
        return ops.argmax(self, axis=axis, keepdims=keepdims)

    def reshape(self, *shape: Any) -> Tensor:
        """`x.reshape(2, 3)` or `x.reshape((2, 3))`; one size may be -1."""
        return ops.reshape(self, shape[0] if len(shape) == 1 else shape)

    def transpose(self, *axes: int) -> Tensor:
        """The axes in the order given, or all reversed."""
        return ops.transpose(self, *axes)

    def squeeze(self, axis: Axis = None) -> Tensor:
        return ops.squeeze(self, axis)

    def expand_dims(self, axis: int) -> Tensor:
        return ops.expand_dims(self, axis=axis)

    def broadcast_to(self, shape: Sequence[int]) -> Tensor:
        return ops.broadcast_to(self, shape)

    def split(self, sizes: int | Sequence[int], axis: int = 0) -> list[Tensor]:
        return ops.split(self, sizes, axis=axis)

    def exp(self) -> Tensor:
        return ops.exp(self)

    def log(self) -> Tensor:
        return ops.log(self)

    def sqrt(self) -> Tensor:
        return ops.sqrt(self)

    def abs(self) -> Tensor:
        return ops.abs(self)

    def tanh(self) -> Tensor:
        return ops.tanh(self)

    def sigmoid(self) -> Tensor:
        return ops.sigmoid(self)

    def relu(self) -> Tensor:
        return ops.relu(self)

    def clip(self, min: Any = None, max: Any = None) -> Tensor:
        return ops.clip(self, min, max)


def seed_cotangent(op: str, y: Tensor, grad: Any) -> Tensor:
    """The cotangent a backward pass from `y` begins with: `grad` made to fit, or one for a single element."""
    xp = backends.namespace_of(y.data)
    if grad is None:
        if y.size != 1:
            raise GraphError(
                f"{op}: a tensor of shape {y.shape} has no single gradient; reduce it first, as with .sum() or "
                f".mean(), or pass the cotangent of that shape"
            )
        return Tensor(xp.ones(y.shape, dtype=y.dtype))
    grad = grad if isinstance(grad, Tensor) else Tensor(backends.as_array(grad, dtype=y.dtype, namespace=xp))
    backends.require_same(op, [y.data, grad.data])
    if grad.shape != y.shape:
        raise ShapeError(f"{op}: the cotangent has shape {grad.shape}, the tensor {y.shape}")
    return grad if grad.dtype == y.dtype else ops.astype(grad, y.dtype)


def tensor(data: Any, requires_grad: bool = False, dtype: Any = None, backend: str | None = None) -> Tensor:
    """A new tensor with a copy of `data`: an array, a tensor's values, a number or nested lists of numbers.

    dtype: by default arrays keep theirs, Python numbers become float32 and Python booleans bool.
    backend: "numpy", "cupy"; by default that of an array of CuPy, else what `mg.use` says.

    Raises ArgumentError for ragged lists, DtypeError for what is no number or cannot have a gradient.

    >>> import minigrad as mg
    >>> mg.tensor([[1, 2], [3, 4]])
    tensor([[1., 2.],
            [3., 4.]])
    """
    if isinstance(data, (list, tuple)) and any(isinstance(part, Tensor) for part in data):
        raise DtypeError("tensor: got a list of tensors; mg.stack(list) joins them and lets gradients through")
    if isinstance(data, Tensor):
        data, backend = data.data, backend or data.backend
    new = Tensor(backends.as_array(data, dtype, backends.get(backend) if backend else None))
    if requires_grad:
        new.requires_grad = True
    return new


def _restore(kind: type[Tensor], array: np.ndarray, backend: str, requires_grad: bool) -> Tensor:
    new = kind.__new__(kind)
    Tensor.__init__(new, backends.as_array(array, namespace=backends.get(backend)))
    new.requires_grad = requires_grad
    return new


# The one knot: Tensor's operators call ops, and ops return Tensors. Hence this import, and its place at the end.
from . import ops  # noqa: E402
