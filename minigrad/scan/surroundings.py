"""What a step closes over: the tensors, and everything else that its program depends on.

Two steps of one key have one program. Tensors count by shape, dtype and place; numbers, strings, small arrays and
functions by value; objects by their class and attributes, modules of Python by those that the code names; anything
else, such as a list or an array of more than a few entries, by identity.
"""

from __future__ import annotations

import array
import collections
import functools
import types
from itertools import zip_longest
from typing import Any

import numpy as np

from ..tensor import Tensor
from .symbols import Symbol

_LARGE = 64  # a list or dict with more entries counts by identity


class _Same:
    """An object that equals only itself; held, so that no other can take its address."""

    __slots__ = ("held",)

    def __init__(self, held: Any):
        self.held = held

    def __eq__(self, other: object) -> bool:
        return type(other) is _Same and self.held is other.held

    def __hash__(self) -> int:
        return id(self.held)


_PLAIN = (int, str, bool, bytes, type(None), complex)


_KNOWN = frozenset(("minigrad", "minigrad.nn", "minigrad.ops", "numpy", "math"))  # modules that stay as they are
_SIMPLE = (*_PLAIN, float, tuple, list, dict, np.ndarray, Tensor)


def _is_number(look: Any) -> bool:
    return isinstance(look, tuple) and look[0] in (int, float, bool)


def _is_of_step(look: Any) -> bool:
    """Whether this is what a tensor looks like that belongs to a step being recorded."""
    return isinstance(look, tuple) and len(look) == 5 and look[3] is Symbol


class Surroundings:
    """Looks at a step. key: hashable. tensors: those found, in order, each once."""

    def __init__(self, step: Any, *more: Any):
        self.tensors: list[Tensor] = []
        self.attributes: list[Any] = []  # names and what stood there, of all objects
        self._seen: dict[int, int] = {}
        self.key = (self._look(step), *[self._look(m) for m in more])

    def changed(self, later: Surroundings) -> str | None:
        """The name of a variable or attribute whose number has changed since, or that holds a tensor of the step."""
        for (name, before), (other, after) in zip_longest(self.attributes, later.attributes, fillvalue=("", None)):
            if before != after and (_is_of_step(after) or (name == other and _is_number(before))):
                return str(other)
            if name != other:
                return None
        return None

    def _look(self, value: Any) -> Any:
        kind: Any = type(value)
        if kind in _PLAIN:
            return kind, value
        if kind is float:
            return kind, value.hex()
        if id(value) in self._seen:
            return "seen", self._seen[id(value)]
        if isinstance(value, Tensor):
            self._seen[id(value)] = len(self._seen)
            self.tensors.append(value)
            data = value.data
            return kind, data.shape, data.dtype, type(data), value.node is not None
        if kind in (bytearray, array.array):
            return kind, bytes(value)
        if kind in (set, frozenset):
            plain = len(value) <= _LARGE and all(type(v) in (*_PLAIN, float) for v in value)
            return kind, frozenset(value) if plain else _Same(value)
        if kind in (tuple, list, collections.deque):
            if len(value) > _LARGE:
                return _Same(value)
            if kind is not tuple:
                self._seen[id(value)] = len(self._seen)
            return kind, *[self._look(v) for v in value]
        if kind is dict:
            return self._attributes(value, kind)
        if kind is types.FunctionType:
            ours = (value.__module__ or "").startswith("minigrad.")
            if ours and not (value.__closure__ and value.__module__.startswith("minigrad.nn")):
                return _Same(value)
            self._seen[id(value)] = len(self._seen)
            cells = zip(value.__code__.co_freevars, value.__closure__ or ())
            closed = [(name, self._look(cell.cell_contents)) for name, cell in cells if _filled(cell)]
            self.attributes += closed
            names = [] if ours else self._globals(value)
            defaults = [self._look(v) for v in value.__defaults__ or ()]
            defaults += [self._look(v) for v in (value.__kwdefaults__ or {}).values()]
            if value.__dict__:
                defaults.append(self._attributes(value.__dict__, dict))
            return value.__code__, *closed, "globals", *names, "defaults", *defaults
        if kind is np.ndarray and value.size <= _LARGE:
            return _Same(value), value.shape, value.dtype, value.tobytes()
        if kind is np.random.Generator:
            return _Same(value), repr(value.bit_generator.state)
        if kind is types.MethodType:
            return kind, self._look(value.__func__), self._look(value.__self__)
        if kind is functools.partial:
            return kind, self._look(value.func), self._look(value.args), self._look(value.keywords)
        if isinstance(value, type) and _own_classes(value):
            self._seen[id(value)] = len(self._seen)
            return _Same(value), *[self._look(vars(base)[name]) for base, name in _class_attributes(value)]
        if isinstance(value, (type, types.ModuleType, types.BuiltinFunctionType)) or not (
            hasattr(value, "__dict__") or _slots(kind)
        ):
            return _Same(value)
        if kind.__module__.startswith("minigrad.") and not kind.__module__.startswith("minigrad.nn."):
            return _Same(value)
        self._seen[id(value)] = len(self._seen)
        slots = [(name, self._look(getattr(value, name))) for name in _slots(kind) if hasattr(value, name)]
        shared = [self._look(vars(base)[name]) for base, name in _class_attributes(kind)]
        return kind, self._attributes(getattr(value, "__dict__", {}), dict), *slots, "class", *shared

    def _globals(self, function: types.FunctionType) -> list[Any]:
        """What a function may read from its module, and of other modules by name."""
        read, names = function.__globals__, _global_names(function.__code__)
        found: list[Any] = []
        for name in names:
            value = read.get(name, _Same)
            if type(value) is not types.ModuleType:
                if value is not _Same:
                    found.append(self._look(value))
            elif value.__name__ not in _KNOWN:
                held = vars(value)
                values = [held[n] for n in names if n in held]
                found += [self._look(v) if type(v) in _SIMPLE else _Same(v) for v in values]
        return found

    def _attributes(self, values: dict[Any, Any], kind: Any) -> Any:
        if len(values) > _LARGE:
            return _Same(values)
        self._seen[id(values)] = len(self._seen)
        found = [(name if type(name) is str else self._look(name), self._look(v)) for name, v in values.items()]
        self.attributes += found
        return kind, *found


def _filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


@functools.cache
def _global_names(code: types.CodeType) -> tuple[str, ...]:
    """The names that a function, and those defined in it, may read from its module."""
    inner = [name for c in code.co_consts if isinstance(c, types.CodeType) for name in _global_names(c)]
    return tuple(dict.fromkeys([*code.co_names, *inner]))


def _own_classes(kind: type) -> list[type]:
    """A class and those that it is made of, outside of minigrad, Python and NumPy."""
    hidden = ("minigrad.", "builtins", "numpy", "abc", "typing")
    return [base for base in kind.__mro__ if not base.__module__.startswith(hidden)]


@functools.cache
def _class_attributes(kind: type) -> tuple[tuple[type, str], ...]:
    """Where the classes of an object keep functions, which read globals, and values."""
    return tuple(
        (base, name)
        for base in _own_classes(kind)
        for name, value in vars(base).items()
        if not name.startswith("__") or name == "__call__"
    )


@functools.cache
def _slots(kind: type) -> tuple[str, ...]:
    """The attributes that objects of a class have outside of a dict."""
    found: list[str] = []
    for base in _own_classes(kind):
        slots = vars(base).get("__slots__", ())
        found += [slots] if isinstance(slots, str) else list(slots)
    return tuple(name for name in found if not name.startswith("__"))
