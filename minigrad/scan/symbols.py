"""Symbols: arrays of which only shape and dtype are known, and the namespace that writes down what is done to them.

A primitive given symbols runs its formula on them as on any array. Each operator and each function of the namespace
that the formula calls becomes an `Instruction`, and the symbols of its results come back. Nothing is computed.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import cache, partial
from math import prod
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from .. import backends
from ..errors import RecordingError

if TYPE_CHECKING:
    from .record import Recorder

FIXED, EARLY, CARRIED = 0, 1, 2  # the same at every step; known for all steps before the loop; depends on its state


class Symbol:
    """The place of an array in a program: a shape and a dtype, no values.

    level: FIXED, EARLY or CARRIED. instruction: what makes it; None for what the program is given. role: its name.
    """

    __slots__ = ("dtype", "instruction", "level", "number", "recorder", "role", "shape")

    def __init__(
        self,
        recorder: Recorder,
        shape: tuple[int, ...],
        dtype: Any,
        level: int,
        role: str,
        number: int,
        instruction: Instruction | None = None,
    ):
        self.recorder, self.shape, self.dtype, self.level = recorder, shape, dtype, level
        self.role, self.number, self.instruction = role, number, instruction

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return prod(self.shape)

    def __repr__(self) -> str:
        return f"<{self.role} {self.number}: {self.dtype}{list(self.shape)}, a symbol without values>"

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        refuse("a step's values are not known while its program is written down")

    __bool__ = __int__ = __float__ = __index__ = __array__ = __array_ufunc__ = __len__ = __iter__ = _refuse
    __hash__ = object.__hash__


def refuse(what: str) -> NoReturn:
    """Raise RecordingError, with the ways out."""
    raise RecordingError(
        f"scan: {what}. Choose by mg.where instead of `if`; draw noise, and compute whatever needs values, before the "
        'loop, and hand it in by xs or context (a cell does so in `prepare`); or run the loop with unroll="eager"'
    )


class Instruction:
    """`outputs = name(*inputs, **static)`. The inputs are symbols and numbers; `static` holds everything else.

    An index with arrays in it has these among the inputs, and `Place`s in the key that say where they belong.
    """

    __slots__ = ("inputs", "name", "outputs", "static")

    def __init__(self, name: str, inputs: tuple[Any, ...], static: dict[str, Any]):
        self.name, self.inputs, self.static = name, inputs, static
        self.outputs: list[Symbol] = []

    @property
    def symbols(self) -> list[Symbol]:
        """The symbols among the inputs."""
        return [s for s in self.inputs if isinstance(s, Symbol)]


class Place(int):
    """In an index: the input of this number stands here."""


# What the functions take: how many arrays, and the names of what may follow them by position.
ELEMENTWISE: dict[str, tuple[int, tuple[str, ...]]] = {
    name: (n, ())
    for n, names in {
        1: "abs cos exp isfinite log log1p logical_not negative sigmoid sign sin sqrt tanh",
        2: "add divide equal greater greater_equal less less_equal logaddexp logical_and logical_or maximum minimum "
        "multiply not_equal pow remainder subtract",
        3: "where",
    }.items()
    for name in names.split()
}
ELEMENTWISE |= {"astype": (1, ("dtype",)), "clip": (1, ("min", "max"))}
VIEWS: dict[str, tuple[int, tuple[str, ...]]] = {
    "broadcast_to": (1, ("shape",)),
    "expand_dims": (1, ()),
    "flip": (1, ()),
    "matrix_transpose": (1, ()),
    "permute_dims": (1, ("axes",)),
    "reshape": (1, ("shape",)),
    "slice": (1, ("key",)),  # an index without arrays
    "split": (1, ("sizes",)),
    "unstack": (1, ()),
}
OTHERS: dict[str, tuple[int, tuple[str, ...]]] = {
    "all": (1, ()),
    "any": (1, ()),
    "argmax": (1, ()),
    "cumulative_sum": (1, ()),
    "index": (1, ("key",)),
    "matmul": (2, ()),
    "max": (1, ()),
    "min": (1, ()),
    "scatter": (1, ("key", "shape")),
    "sum": (1, ()),
    "take": (2, ()),
    "take_along_axis": (2, ()),
}
SIGNATURES = {**ELEMENTWISE, **VIEWS, **OTHERS}
CREATION = "arange eye full ones zeros from_numpy".split()
OPERATORS = {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide", "pow": "pow", "and": "logical_and",
    "or": "logical_or", "neg": "negative", "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal",
    "eq": "equal", "ne": "not_equal", "invert": "logical_not", "abs": "abs", "mod": "remainder",
}  # fmt: skip
SWAPPED = ("add", "sub", "mul", "truediv", "pow", "and", "or", "mod")


def _operator(name: str, swapped: bool) -> Callable[..., Any]:
    def method(self: Symbol, *others: Any) -> Any:
        if name in ("equal", "not_equal") and not self.recorder.writing:  # the program is there: symbols are objects
            return (self is others[0]) == (name == "equal")
        return self.recorder.emit(name, (*others, self) if swapped else (self, *others), {})

    return method


for _method, _name in OPERATORS.items():
    setattr(Symbol, f"__{_method}__", _operator(_name, False))
    if _method in SWAPPED:
        setattr(Symbol, f"__r{_method}__", _operator(_name, True))


class Symbols(backends.Namespace):
    """The namespace of symbols: every function writes an instruction."""

    symbolic = True

    def __init__(self) -> None:
        self.name, self.array_type = "symbols", Symbol
        self.floating = backends.numpy.floating
        for name in SIGNATURES:
            setattr(self, name, partial(self._write, name))
        for name in CREATION:
            setattr(self, name, partial(self._create, name))

    def _write(self, name: str, *args: Any, **static: Any) -> Any:
        count, names = SIGNATURES[name]
        static.update(zip(names, args[count:]))
        inputs = args[:count]
        if "key" in static:
            inputs, static = with_key_among_inputs(inputs, static)
            if name == "index" and len(inputs) == 1:
                name = "slice"
        return recorder_of(*inputs).emit(name, inputs, static)

    def _create(self, name: str, *args: Any, **options: Any) -> Symbol:
        recorder = recorder_of()
        return recorder.constant(getattr(recorder.xp, name)(*args, **options))

    def concat(self, parts: Sequence[Any], /, *, axis: int = 0) -> Any:
        return recorder_of(*parts).emit("concat", tuple(parts), {"axis": axis})

    def stack(self, parts: Sequence[Any], /, *, axis: int = 0) -> Any:
        return recorder_of(*parts).emit("stack", tuple(parts), {"axis": axis})

    def index_update(self, x: Any, key: tuple, values: Any, /) -> Any:
        inputs, static = with_key_among_inputs((x, values), {"key": key})
        return recorder_of(*inputs).emit("index_update", inputs, static)

    def asarray(self, x: Any, /, *, dtype: Any = None, copy: bool | None = None) -> Symbol:
        if not isinstance(x, Symbol):
            recorder = recorder_of()
            return recorder.constant(recorder.xp.asarray(x, dtype=dtype))
        return x if dtype is None or dtype == x.dtype else x.recorder.emit("astype", (x,), {"dtype": dtype})

    def dtype(self, name: str) -> Any:
        return backends.numpy.dtype(name)

    def require_range(self, array: Symbol, size: int, what: str) -> None:
        array.recorder.checks.append((array, size, what))

    def name_of(self, array: Symbol) -> str:
        return array.recorder.xp.name

    def text(self, array: Symbol) -> str:
        return repr(array)

    def to_numpy(self, array: Symbol) -> NoReturn:
        refuse("the step asks for a value (by `if`, .item(), .numpy(), float() or the like), and there is none yet")

    def nonzero(self, array: Symbol) -> NoReturn:
        refuse("the step selects by a mask, and how much that selects depends on values")

    def random(self, key: int, shape: tuple[int, ...]) -> NoReturn:
        refuse("the step draws random numbers, which would be the same at every step")


symbols = Symbols()
backends.namespaces[Symbol] = symbols


def recorder_of(*values: Any) -> Recorder:
    """The recorder of the first symbol among the values, or of this thread."""
    for value in values:
        if isinstance(value, Symbol):
            return value.recorder
    from .record import recording

    recorder = recording.get()
    if recorder is None:
        raise RecordingError("a symbol has left the step that it belongs to; a step must not keep its arguments")
    return recorder


def with_key_among_inputs(inputs: Any, static: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arrays of an index moved to the inputs."""
    key = []
    for k in static["key"]:
        if backends.is_array(k):
            key.append(Place(len(inputs)))
            inputs = (*inputs, k)
        else:
            key.append(k)
    return inputs, {**static, "key": tuple(key)}


# Shapes and dtypes


def infer(name: str, inputs: tuple[Any, ...], static: dict[str, Any]) -> list[tuple[tuple[int, ...], Any]]:
    """The shapes and dtypes of what an instruction makes. Raises what NumPy raises if it cannot be done."""
    if name in ELEMENTWISE:
        shapes = [i.shape for i in inputs if isinstance(i, Symbol)]
        kinds = tuple(i.dtype if isinstance(i, Symbol) else i for i in inputs)
        return [(np.broadcast_shapes(*shapes), _dtype(name, kinds, tuple(static.items())))]
    if name == "matmul":
        a, b = (i.shape for i in inputs)
        if len(a) < 2 or len(b) < 2 or a[-1] != b[-2]:
            raise ValueError(f"shapes {a} and {b} do not fit: their sizes {a[-1:]} and {b[-2:-1]} differ")
        return [((*np.broadcast_shapes(a[:-2], b[:-2]), a[-2], b[-1]), inputs[0].dtype)]
    if name == "scatter":
        return [(tuple(static["shape"]), inputs[0].dtype)]
    # Any other function is asked: it runs on zeros that take no memory.
    made = evaluate(backends.numpy, name, [_zeros(i) for i in inputs], static)
    return [(part.shape, part.dtype) for part in (made if isinstance(made, list) else [made])]


@cache
def _dtype(name: str, kinds: tuple[Any, ...], static: tuple[Any, ...]) -> Any:
    ones = [np.ones(1, kind) if isinstance(kind, np.dtype) else kind for kind in kinds]
    return evaluate(backends.numpy, name, ones, dict(static)).dtype


def _zeros(value: Any) -> Any:
    return np.broadcast_to(np.zeros((), value.dtype), value.shape) if isinstance(value, Symbol) else value


_PYTHON = {name: getattr(operator, f"__{method}__") for method, name in OPERATORS.items()}


def evaluate(xp: Any, name: str, inputs: Sequence[Any], static: dict[str, Any]) -> Any:
    """Carry out one instruction on the arrays of a namespace."""
    if name in _PYTHON:
        return _PYTHON[name](*inputs)
    if name in ("concat", "stack"):
        return getattr(xp, name)(list(inputs), **static)
    if "key" in static:
        key = tuple(inputs[k] if isinstance(k, Place) else k for k in static["key"])
        if name in ("index", "slice"):
            return xp.index(inputs[0], key)
        if name == "scatter":
            return xp.scatter(inputs[0], key, static["shape"])
        return xp.index_update(inputs[0], key, inputs[1])
    names = SIGNATURES[name][1]
    options = {n: value for n, value in static.items() if n not in names}
    return getattr(xp, name)(*inputs, *(static[n] for n in names), **options)
