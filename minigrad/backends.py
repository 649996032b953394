"""Array libraries behind one face: whose array is this, how is it moved, where are new ones made.

A `Namespace` speaks for one library. It holds the functions of the Python array API standard under their
standard names, taken straight from the library, and a short closed list of what the standard lacks (the methods
below). Formulas are written against it and never ask which library it is.
"""

from __future__ import annotations

import os
from contextvars import ContextVar, Token
from math import prod
from types import ModuleType
from typing import Any

import numpy as np

from .errors import ArgumentError, BackendMismatchError, BackendUnavailableError, DtypeError, OutOfRangeError

Array = Any  # numpy.ndarray, cupy.ndarray, ...: whatever a namespace speaks for

STANDARD = tuple(
    "abs all any arange argmax asarray astype broadcast_to clip concat cos cumulative_sum exp expand_dims eye flip "
    "from_dlpack full isfinite log log1p logaddexp logical_and logical_not logical_or matmul matrix_transpose max "
    "maximum min minimum nonzero ones permute_dims remainder reshape sign sin sqrt stack sum take take_along_axis "
    "tanh where zeros".split()
)

float32, float64 = np.dtype("float32"), np.dtype("float64")
int32, int64, bool_ = np.dtype("int32"), np.dtype("int64"), np.dtype("bool")
DTYPES = {str(d): d for d in (bool_, int32, int64, float32, float64)}  # each holds what those before it hold
FLOATING = ("float32", "float64")


class Namespace:
    """The array API of `module`, whose arrays are of type `array_type`, and what the standard lacks."""

    symbolic = False  # whether its arrays have no values yet

    def __init__(self, name: str, module: ModuleType, array_type: type):
        self.name, self.module, self.array_type = name, module, array_type
        for function in STANDARD:
            if not hasattr(self, function):
                setattr(self, function, getattr(module, function))
        self.floating = frozenset(self.dtype(name) for name in FLOATING)

    def __getattr__(self, name: str) -> Any:
        """Called for what is not here. For a type checker: there are the functions of the standard."""
        raise AttributeError(
            f"xp.{name}: a formula has operators, indexing by xp.index, and these functions: "
            f"{', '.join(sorted(STANDARD))}, sigmoid, solve, split, unstack"
        )

    def __repr__(self) -> str:
        return f"<the arrays of {self.name}>"

    def dtype(self, name: str) -> Any:
        """The library's own object for a dtype."""
        return getattr(self.module, name)

    def from_numpy(self, array: np.ndarray) -> Array:
        """A new array with the values of a NumPy array."""
        return self.module.asarray(array, copy=True)

    def to_numpy(self, array: Array) -> np.ndarray:
        """The values as a NumPy array, without a copy where the memory is shared."""
        return np.asarray(array)

    def name_of(self, array: Array) -> str:
        """The backend that the array lives on."""
        return self.name

    def text(self, array: Array) -> str:
        """The values, as a tensor shows them."""
        return np.array2string(self.to_numpy(array), separator=", ", prefix="tensor(", threshold=100)

    def require_range(self, array: Array, size: int, what: str) -> None:
        """Raise OutOfRangeError for an index not in [0, size), where looking costs nothing: on the CPU."""

    def random(self, key: int, shape: tuple[int, ...]) -> Array:
        """Numbers uniform in [0, 1), float32, that depend on `key` alone."""
        return self.from_numpy(np.random.Generator(np.random.SFC64(key)).random(shape, dtype=np.float32))

    # What the standard lacks. These definitions serve any library, slowly; NumPy and CuPy have their own.

    def unstack(self, x: Array, /, *, axis: int = 0) -> list[Array]:
        """The slices of `x` along `axis`, without that axis."""
        before = (slice(None),) * axis
        return [x[(*before, i, ...)] for i in range(x.shape[axis])]

    def split(self, x: Array, sizes: tuple[int, ...], /, *, axis: int) -> list[Array]:
        """`x` cut along `axis` (not negative) into parts of the given sizes: views where the library has them."""
        before = (slice(None),) * axis
        parts, start = [], 0
        for size in sizes:
            parts.append(x[(*before, slice(start, start + size), ...)])
            start += size
        return parts

    def sigmoid(self, x: Array, /) -> Array:
        """1 / (1 + exp(-x)), without overflow."""
        decay = self.exp(-self.abs(x))
        return self.where(x >= 0, self.ones((), dtype=x.dtype), decay) / (1 + decay)

    def solve(self, a: Array, b: Array, /) -> Array:
        """x with a @ x = b. Raises the library's LinAlgError where a is singular."""
        return self.module.linalg.solve(a, b)

    def index(self, x: Array, key: tuple, /) -> Array:
        """`x[key]`, the key holding integers, slices, None, Ellipsis and integer arrays."""
        positions = self._positions(x.shape, key)
        flat = self.take(self.reshape(x, (-1,)), self.asarray(positions.reshape(-1)), axis=0)
        return self.reshape(flat, positions.shape)

    def scatter(self, g: Array, key: tuple, shape: tuple[int, ...], /) -> Array:
        """The adjoint of `index`: zeros of `shape`, and every entry of `g` added where `key` says it came from."""
        return self.scatter_sum([(g, key)], shape)

    def scatter_sum(self, pieces: list[tuple[Array, tuple]], shape: tuple[int, ...], /) -> Array:
        """The sum of `scatter(g, key, shape)` over pairs (g, key), in one array."""
        total = self.zeros((prod(shape),), dtype=pieces[0][0].dtype)
        for g, key in pieces:
            positions = self._positions(shape, key)
            flat = self.reshape(self.broadcast_to(g, positions.shape), (-1,))
            for i, position in enumerate(positions.reshape(-1).tolist()):
                total[position] += flat[i]
        return self.reshape(total, shape)

    def index_update(self, x: Array, key: tuple, values: Array, /) -> Array:
        """A copy of `x` with `values` written at `key`."""
        positions = self._positions(x.shape, key)
        flat = self.asarray(self.reshape(x, (-1,)), copy=True)
        new = self.reshape(self.broadcast_to(self.asarray(values, dtype=x.dtype), positions.shape), (-1,))
        for i, position in enumerate(positions.reshape(-1).tolist()):
            flat[position] = new[i]
        return self.reshape(flat, x.shape)

    def _positions(self, shape: tuple[int, ...], key: tuple) -> np.ndarray:
        """The flat positions that `key` selects in an array of `shape`."""
        numpy_key = tuple(self.to_numpy(k) if isinstance(k, self.array_type) else k for k in key)
        return np.arange(prod(shape)).reshape(shape)[numpy_key]


class _NumPyLike(Namespace):
    """What NumPy and CuPy share beyond the standard: full indexing and attribute forms that cost less to call."""

    def index(self, x: Array, key: tuple, /) -> Array:
        return x[key]

    def scatter_sum(self, pieces: list[tuple[Array, tuple]], shape: tuple[int, ...], /) -> Array:
        total = self.zeros(shape, dtype=pieces[0][0].dtype)
        for g, key in pieces:
            if any(isinstance(k, self.array_type) for k in key):
                self.add_at(total, key, g)
            else:
                total[key] += g
        return total

    def index_update(self, x: Array, key: tuple, values: Array, /) -> Array:
        x = x.copy()
        x[key] = values
        return x

    def add_at(self, total: Array, key: tuple, g: Array) -> None:
        self.module.add.at(total, key, g)

    def matrix_transpose(self, x: Array, /) -> Array:
        return x.mT

    def dtype(self, name: str) -> Any:
        return DTYPES[name]


class NumPy(_NumPyLike):
    """NumPy: arrays in the computer's memory."""

    def __init__(self) -> None:
        super().__init__("numpy", np, np.ndarray)

    def matmul(self, a: Array, b: Array, /) -> Array:
        # dot starts faster, and for one row much; but it copies a slice of columns
        return np.dot(a, b) if a.ndim == b.ndim == 2 and b.flags.forc else np.matmul(a, b)

    def sum(self, x: Array, /, *, axis: Any = None, keepdims: bool = False) -> Array:
        return np.add.reduce(x, axis=axis, keepdims=keepdims)  # type: ignore[call-overload]

    def sigmoid(self, x: Array, /) -> Array:
        one, largest = _ONE_AND_LARGEST[x.dtype]
        y = np.asarray(np.negative(x))  # an array where x is 0-d, too
        np.minimum(y, largest, out=y)  # exp would overflow: to the right limit, but with a warning
        np.exp(y, out=y)
        np.add(y, one, out=y)
        return np.reciprocal(y, out=y)

    def require_range(self, array: Array, size: int, what: str) -> None:
        if array.size and not (array.min() >= 0 and array.max() < size):
            bad = array[(array < 0) | (array >= size)].flat[0]
            raise OutOfRangeError(f"{what} {bad} is not in 0 ... {size - 1}")

    def add_at(self, total: Array, key: tuple, g: Array) -> None:
        rows = key[0]
        if len(key) > 1 or rows.size == 0 or total.size == 0 or total.ndim < 2:
            np.add.at(total, key, g)
            return
        # Whole rows, as the gradient of an embedding adds them: sorted, so that each run is one sum (7 times as fast).
        flat = np.where(rows < 0, rows + len(total), rows).reshape(-1)
        order = np.argsort(flat, kind="stable")
        run = flat[order]
        if run[0] < 0 or run[-1] >= len(total):
            raise IndexError(f"rows from {rows.min()} to {rows.max()} are not all among {len(total)}")
        starts = np.flatnonzero(np.concatenate(([True], run[1:] != run[:-1])))
        parts = np.broadcast_to(g, (*rows.shape, *total.shape[1:])).reshape(-1, *total.shape[1:])
        total[run[starts]] += np.add.reduceat(parts[order], starts, axis=0)


class CuPy(_NumPyLike):
    """CuPy: arrays in the memory of an NVIDIA GPU."""

    def __init__(self) -> None:
        try:
            import cupy
        except ImportError as error:
            raise BackendUnavailableError(
                "the backend 'cupy' needs CuPy: pip install 'minigrad[cuda12]' (or [cuda13], as your driver is)"
            ) from error
        try:
            cupy.cuda.runtime.getDeviceCount()
        except cupy.cuda.runtime.CUDARuntimeError as error:
            raise BackendUnavailableError(f"the backend 'cupy' finds no GPU that it can use: {error}") from error
        super().__init__("cupy", cupy, cupy.ndarray)

    def from_numpy(self, array: np.ndarray) -> Array:
        return self.module.asarray(array)

    def to_numpy(self, array: Array) -> np.ndarray:
        return self.module.asnumpy(array)

    def random(self, key: int, shape: tuple[int, ...]) -> Array:
        cuda_random = self.module.random
        return cuda_random.Generator(cuda_random.Philox4x3210(key)).random(shape, dtype=np.float32)

    def sigmoid(self, x: Array, /) -> Array:
        return 1 / (1 + self.exp(-x))


# 1, and the largest whole number that exp can take, as arrays: NumPy computes with them faster than with numbers.
_ONE_AND_LARGEST = {d: (np.asarray(1, d), np.asarray(np.floor(np.log(np.finfo(d).max)), d)) for d in (float32, float64)}


namespaces: dict[type, Any] = {}  # by the type of the array
_by_name: dict[str, Namespace] = {}
_current: ContextVar[Namespace | None] = ContextVar("backend", default=None)


def register(namespace: Namespace) -> Namespace:
    """Make a namespace known, by its name and by the type of its arrays."""
    namespaces[namespace.array_type] = namespace
    _by_name[namespace.name] = namespace
    return namespace


numpy = register(NumPy())


def get(name: str) -> Namespace:
    """The namespace called `name`: "numpy", "cupy" or one that was registered."""
    if name == "cupy" and name not in _by_name:
        register(CuPy())
    try:
        return _by_name[name]
    except KeyError:
        raise ArgumentError(f"unknown backend {name!r}; there are: {', '.join({*_by_name, 'cupy'})}") from None


def namespace_of(array: Array) -> Namespace:
    """The namespace that speaks for `array`. Raises DtypeError for what is no array."""
    found = namespaces.get(type(array))
    return found if found is not None else _find(array)


def _find(array: Array) -> Namespace:
    if isinstance(array, (np.ndarray, np.generic)):
        return numpy
    if type(array).__module__.partition(".")[0] == "cupy":
        return get("cupy")
    raise DtypeError(f"{type(array).__name__} is no array that minigrad knows; mg.tensor(...) makes one of data")


def is_array(value: Any) -> bool:
    """Whether this is an array of a library. A Tensor has a namespace, but is none."""
    found = namespaces.get(type(value))
    if found is None:
        return isinstance(value, np.ndarray) or type(value).__module__.partition(".")[0] == "cupy"
    return isinstance(found, Namespace)


def as_number(value: Any) -> Any:
    """NumPy's scalars and 0-d arrays as Python numbers, which never widen a dtype; anything else as it is."""
    return value.item() if isinstance(value, (np.generic, np.ndarray)) and value.ndim == 0 else value


def as_count(op: str, name: str, value: Any, least: int = 1) -> int:
    """An integer from `least`, Python's or NumPy's, as Python's. Raises ArgumentError for anything else."""
    number = as_number(value)
    if not isinstance(number, int) or isinstance(number, bool) or number < least:
        raise ArgumentError(f"{op}: {name} must be an integer from {least}, got {value!r}")
    return number


def current() -> Namespace:
    """The namespace where new tensors are made: as `use` says, else MINIGRAD_BACKEND, else NumPy."""
    return _current.get() or get(os.environ.get("MINIGRAD_BACKEND") or "numpy")


class use:
    """Make new tensors with the backend `name` from here on, or inside a `with` block.

    It holds for the current thread (or asyncio task). Raises BackendUnavailableError without CuPy or a GPU.

    >>> import minigrad as mg
    >>> with mg.use("numpy"):
    ...     mg.zeros((2,)).backend
    'numpy'
    """

    def __init__(self, name: str):
        self._token: Token[Namespace | None] = _current.set(get(name))

    def __enter__(self) -> use:
        return self

    def __exit__(self, *exc: object) -> None:
        _current.reset(self._token)


def dtype_name(dtype: Any) -> str:
    """The name of a dtype of any library: "float32". Raises DtypeError for one that minigrad does not use."""
    name = _NAMES.get((type(dtype), dtype))
    if name is None:
        try:
            name = np.dtype(dtype).name
        except TypeError:
            name = str(dtype).rpartition(".")[2]
        if name not in DTYPES:
            raise DtypeError(f"dtype {dtype!r} is not one of {', '.join(DTYPES)}")
        _NAMES[type(dtype), dtype] = name
    return name


_NAMES: dict[Any, str] = {}


def adds_up_pieces(array: Array) -> bool:
    """Whether cotangents like this one may come in pieces (`graph.Sum`): plain arrays, neither Tensors nor symbols."""
    namespace = namespaces.get(type(array))
    return isinstance(namespace, Namespace) and not namespace.symbolic


def is_floating(array: Array) -> bool:
    """Whether the array's dtype can carry a gradient."""
    return array.dtype in namespace_of(array).floating


def kind_of(array: Array) -> str:
    """ "float", "integer" or "boolean"; of integers and floats of any size, those too that tensors do not have."""
    name = str(array.dtype).rpartition(".")[2]
    return "boolean" if name.startswith("bool") else "integer" if "int" in name else "float"


def as_array(data: Any, dtype: Any = None, namespace: Namespace | None = None) -> Array:
    """A new array with the values of `data`: an array of any kind, a scalar, or nested lists of numbers.

    Arrays keep their dtype, and their backend unless `namespace` names another. Python numbers become float32,
    Python booleans stay booleans.
    """
    if is_array(data) or isinstance(data, np.generic):
        source = namespace_of(data)
        namespace = namespace or (current() if source is numpy else source)
        if source is namespace:
            wanted = namespace.dtype(dtype_name(data.dtype if dtype is None else dtype))
            return namespace.asarray(data, dtype=wanted, copy=True)
        data = source.to_numpy(data)
    else:
        try:
            data = np.asarray(data)
        except ValueError as error:
            raise ArgumentError(f"data: rows of unequal length cannot be one array ({error})") from None
        if data.dtype.kind in "iuf" and dtype is None:
            dtype = float32
        if data.dtype.kind not in "iufb":
            raise DtypeError(f"data: expected numbers, got {data.dtype} ({str(data)[:40]})")
    namespace = namespace or current()
    name = dtype_name(data.dtype if dtype is None else dtype)
    with np.errstate(invalid="ignore", over="ignore"):
        values = np.array(data, dtype=DTYPES[name])
    if values.dtype.kind == "i" and (values != data).any():
        raise ArgumentError(f"data: there are numbers that {name} cannot hold; .astype({name!r}) cuts them off")
    return namespace.from_numpy(values)


def require_same(op: str, arrays: Any) -> Namespace:
    """The one namespace of all `arrays`. Raises BackendMismatchError naming the operation and the backends."""
    namespaces = list(dict.fromkeys(namespace_of(a) for a in arrays))
    if len(namespaces) > 1:
        first, second = namespaces[0].name, namespaces[1].name
        raise BackendMismatchError(
            f'{op}: got arrays of "{first}" and of "{second}"; move one first, with .to("{first}") or .to("{second}")'
        )
    return namespaces[0]
