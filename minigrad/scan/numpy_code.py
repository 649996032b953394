"""How NumPy carries out an instruction: the lines of Python for one step, or for many at once.

Arrays of many steps have time as their first axis. `lead` is the name of their number of steps; it is None where the
line is for a single step, or for what is the same at every step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import backends
from .symbols import ELEMENTWISE, Instruction, Symbol, evaluate

UFUNCS = {
    name: getattr(np, name)
    for name in (
        "add cos divide equal exp greater greater_equal isfinite less less_equal log log1p logaddexp logical_and "
        "logical_not logical_or maximum minimum multiply negative not_equal pow reciprocal remainder sign sin sqrt "
        "square subtract tanh"
    ).split()
} | {"abs": np.absolute}
COMPARISONS = frozenset("equal greater greater_equal less less_equal not_equal".split())
REDUCTIONS = {
    "sum": np.add.reduce,
    "max": np.maximum.reduce,
    "min": np.minimum.reduce,
    "all": np.logical_and.reduce,
    "any": np.logical_or.reduce,
}


def sigmoid_into(x: Any, one: Any, out: Any) -> None:
    """1 / (1 + exp(-x)); where exp overflows the limit is right. one: the number, as an array."""
    np.negative(x, out)
    np.exp(out, out)
    np.add(out, one, out)
    np.reciprocal(out, out)


def where_into(condition: Any, a: Any, b: Any, out: Any) -> None:
    """a where the condition holds, else b."""
    np.copyto(out, b)
    np.copyto(out, a, where=condition)


def clip_into(x: Any, least: Any, most: Any, out: Any) -> None:
    """x limited to [least, most], either of which may be None."""
    if least is not None:
        x = np.maximum(x, least, out=out)
    if most is not None:
        x = np.minimum(x, most, out=out)
    if x is not out:
        np.copyto(out, x)


def _rows(x: Any) -> Any:
    """All rows of an array (T, B, N), as (T B, N)."""
    return x.reshape(x.shape[0] * x.shape[1], x.shape[2])


def rows_times(a: Any, b: Any, out: Any) -> None:
    """All rows of a (T, B, K) times one matrix b (K, N), into out (T, B, N)."""
    np.dot(_rows(a), b, _rows(out))


def product_over_rows(a: Any, b: Any, out: Any = None) -> Any:
    """The sum over t of a[t]^T @ b[t], for a (T, B, K) and b (T, B, N): one product of (K, T B) and (T B, N)."""
    a, b = _rows(a).T, _rows(b)
    return np.dot(a, b) if out is None else np.matmul(a, b, out=out)


def product_over_time(a: Any, b: Any) -> Any:
    """The sum over t of a[t] @ b[t], for stacks of matrices (T, ..., M, K) and (T, ..., K, N)."""
    a, b = np.moveaxis(a, 0, -2), np.moveaxis(b, 0, -3)
    return a.reshape(*a.shape[:-2], a.shape[-2] * a.shape[-1]) @ b.reshape(*b.shape[:-3], -1, b.shape[-1])


def sum_of_products(a: Any, b: Any) -> Any:
    """The sum over t of a[t] * b[t], broadcast, without the products in memory."""
    axes = list(range(a.ndim))
    left, right = ([i for i in axes if i == 0 or x.shape[i] != 1] for x in (a, b))
    x, y = (v.reshape([v.shape[i] for i in kept]) for v, kept in ((a, left), (b, right)))
    kept = [i for i in axes[1:] if i in left or i in right]
    shape = np.broadcast_shapes(a.shape[1:], b.shape[1:])
    return np.einsum(x, left, y, right, kept, optimize=True).reshape(shape)


def sum_over_rows(x: Any) -> Any:
    """The sum of all rows of a floating (T, B, N), by BLAS."""
    rows = _rows(x)
    return np.dot(np.ones(len(rows), x.dtype), rows)


def contiguous(a: Any, steps: int) -> Any:
    """A matrix that is a factor in each of so many products, as BLAS takes it best: in a copy, if that pays.

    NumPy copies a slice of columns at every product; a transposed matrix is only slower. Columns are copied eight at a
    time, which fill cache lines.
    """
    flags = a.flags
    if flags.c_contiguous or steps < (_MANY if flags.f_contiguous else 2):
        return a
    if a.strides[1] == a.itemsize:
        return np.ascontiguousarray(a)
    out = np.empty(a.shape, a.dtype)
    for k in range(0, a.shape[1], 8):
        out[:, k : k + 8] = a[:, k : k + 8]
    return out


_MANY = 16  # steps after which copying a transposed matrix has paid


def zero_d(array: Any) -> list[Any]:
    """The elements of a vector as arrays without axes, which can be written into."""
    return [array[t, ...] for t in range(len(array))]


def each(function: Any, steps: int, shape: tuple[int, ...], dtype: Any, moving: Sequence[bool], *arrays: Any) -> Any:
    """What cannot be done for all steps at once: one after another. moving: which arrays have a value for each step."""
    out = np.empty((steps, *shape), dtype)
    for t in range(steps):
        out[t] = function(*[a[t] if moves else a for a, moves in zip(arrays, moving)])
    return out


NAMES: dict[str, Any] = {
    **UFUNCS,
    **{f"{name}_reduce": function for name, function in REDUCTIONS.items()},
    "argmax": np.argmax,
    "asarray": np.asarray,
    "broadcast_to": np.broadcast_to,
    "check": backends.numpy.require_range,
    "clip_into": clip_into,
    "concatenate": np.concatenate,
    "contiguous": contiguous,
    "copyto": np.copyto,
    "cumulative_sum": np.cumulative_sum,
    "dot": np.dot,
    "each": each,
    "empty": np.empty,
    "errstate": np.errstate,
    "flip": np.flip,
    "matmul": np.matmul,
    "product_over_rows": product_over_rows,
    "product_over_time": product_over_time,
    "sum_of_products": sum_of_products,
    "rows_times": rows_times,
    "scatter": backends.numpy.scatter,
    "sigmoid_into": sigmoid_into,
    "stack": np.stack,
    "sum_over_rows": sum_over_rows,
    "take": np.take,
    "take_along_axis": np.take_along_axis,
    "where_into": where_into,
    "zero_d": zero_d,
}


class Lines:
    """Writes lines, and collects the constants that they name."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = dict(NAMES)
        self._numbers: dict[Any, str] = {}

    def constant(self, value: Any) -> str:
        """A name for an object."""
        name = f"k{len(self.names) - len(NAMES)}"
        self.names[name] = value
        return name

    def number(self, value: Any, dtype: Any) -> str:
        """A name for a number as an array, with which NumPy computes faster."""
        key = type(value), repr(value), dtype
        if key not in self._numbers:
            self._numbers[key] = self.constant(np.asarray(value, dtype))
        return self._numbers[key]

    def _elementwise_arguments(
        self, i: Instruction, args: Sequence[str], moving: Sequence[bool], lead: Any
    ) -> list[str]:
        out = i.outputs[0]
        arrays = [s for s in i.inputs if isinstance(s, Symbol)]
        kind = arrays[-1].dtype if i.name in COMPARISONS else out.dtype
        texts = []
        for value, text, moves in zip(i.inputs, args, moving):
            if not isinstance(value, Symbol):
                text = self.number(value, np.float64 if type(value) is float and kind.kind != "f" else kind)
            elif lead and moves and value.ndim < out.ndim:
                text += "[:" + ", None" * (out.ndim - value.ndim) + "]"
            texts.append(text)
        return texts

    def into(
        self, i: Instruction, args: Sequence[str], moving: Sequence[bool], lead: Any, out: str, whole: bool
    ) -> str:
        """The line that writes the result into the array `out`; "" if there is none. whole: `out` is contiguous."""
        s = i.outputs[0]
        if i.name in ELEMENTWISE:
            if i.name == "pow" and not isinstance(i.inputs[1], Symbol) and i.inputs[1] in (2, 0.5, -1):
                return f"{ {2: 'square', 0.5: 'sqrt', -1: 'reciprocal'}[i.inputs[1]] }({args[0]}, {out})"
            texts = ", ".join(self._elementwise_arguments(i, args, moving, lead))
            if i.name == "astype":
                return f"copyto({out}, {texts}, 'unsafe')"
            if i.name == "clip":
                limits = [
                    "None" if n is None else self.number(n, s.dtype) for n in (i.static.get("min"), i.static.get("max"))
                ]
                return f"clip_into({texts}, {', '.join(limits)}, {out})"
            if i.name in ("maximum", "minimum"):  # which will not take the array by position
                return f"{i.name}({texts}, out={out})"
            if i.name == "sigmoid":
                return f"sigmoid_into({texts}, {self.number(1, s.dtype)}, {out})"
            return f"{i.name}{'_into' if i.name == 'where' else ''}({texts}, {out})"
        if i.name == "matmul":
            a, b = i.inputs
            if a.ndim == b.ndim == 2 and whole:
                if not lead:
                    return f"dot({args[0]}, {args[1]}, {out})"
                if moving[0] and not moving[1]:
                    return f"rows_times({args[0]}, {args[1]}, {out})"
            return f"matmul({', '.join(self._batches(i, args, moving, lead))}, {out})"
        if i.name in REDUCTIONS:
            axis, keepdims = self._axes(i, lead), bool(i.static.get("keepdims", False))
            return f"{i.name}_reduce({args[0]}, {axis}, None, {out}, {keepdims})"
        if i.name == "concat" and (not lead or all(moving)):
            axis = i.static["axis"] % s.ndim + (1 if lead else 0)
            return f"concatenate(({', '.join(args)},), {axis}, {out})"
        return ""

    def _batches(self, i: Instruction, args: Sequence[str], moving: Sequence[bool], lead: Any) -> list[str]:
        """The factors of a product of stacks of matrices, with as many axes as they need to meet."""
        most = max(s.ndim for s in i.symbols)
        return [
            text + "[:" + ", None" * (most - s.ndim) + "]" if lead and moves and s.ndim < most else text
            for s, text, moves in zip(i.inputs, args, moving)
        ]

    @staticmethod
    def axes_of_sum(i: Instruction) -> tuple[int, ...]:
        """The axes of a sum that is a sum over time as well."""
        return (0, *Lines._axes(i, "T"))

    @staticmethod
    def _axes(i: Instruction, lead: Any) -> tuple[int, ...]:
        axis, ndim = i.static.get("axis"), i.inputs[0].ndim
        axes = range(ndim) if axis is None else axis if isinstance(axis, (tuple, list)) else (axis,)
        return tuple(a % ndim + (1 if lead else 0) for a in axes)

    def views(self, i: Instruction, a: str, lead: Any) -> list[str]:
        """The expressions of an instruction that only looks at memory in another way."""
        s, x, one = i.outputs[0], i.inputs[0], 1 if lead else 0
        full = f"({', '.join([*([lead] if lead else []), *map(str, s.shape), ''])})".replace(", )", ",)")
        if i.name in ("reshape", "expand_dims"):
            return [f"{a}.reshape({full})"]
        if i.name == "broadcast_to":
            inner = "[:" + ", None" * (s.ndim - x.ndim) + "]" if lead and x.ndim < s.ndim else ""
            return [f"broadcast_to({a}{inner}, {full})"]
        if i.name == "matrix_transpose":
            return [f"{a}.mT"]
        if i.name == "permute_dims":
            axes = [axis % x.ndim + one for axis in i.static["axes"]]
            return [f"{a}.transpose({([0] if lead else []) + axes})"]
        if i.name == "flip":
            return [f"flip({a}, {self._axes(i, lead)})"]
        if i.name == "slice":
            key = (*([slice(None)] if lead else []), *i.static["key"])
            return [f"{a}[{self.constant(key if Ellipsis in key else (*key, Ellipsis))}]"]
        axis = i.static.get("axis", 0) % x.ndim + one
        before = ":, " * axis
        if i.name == "unstack":
            return [f"{a}[{before}{k}, ...]" for k in range(len(i.outputs))]
        texts, start = [], 0
        for size in i.static["sizes"]:
            texts.append(f"{a}[{before}{start}:{start + size}]")
            start += size
        return texts

    def value(self, i: Instruction, args: Sequence[str], moving: Sequence[bool], lead: Any) -> str:
        """An expression for the result of any other instruction."""
        s, one, x = i.outputs[0], 1 if lead else 0, i.inputs[0]
        if not lead:
            symbols = [text for value, text in zip(i.inputs, args) if isinstance(value, Symbol)]
            return f"{self.constant(function_of(i))}({', '.join(symbols)})"
        if all(moving):
            axis: Any = i.static.get("axis")
            if i.name == "stack":
                return f"stack(({', '.join(args)},), axis={axis % s.ndim + one})"
            if i.name == "cumulative_sum":
                return f"cumulative_sum({args[0]}, axis={(axis or 0) % x.ndim + one})"
            if i.name == "take_along_axis":
                return f"take_along_axis({', '.join(args)}, axis={i.static.get('axis', -1) % x.ndim + one})"
            if i.name == "argmax" and axis is not None:
                keepdims = bool(i.static.get("keepdims", False))
                return f"argmax({args[0]}, axis={axis % x.ndim + one}, keepdims={keepdims})"
        if i.name == "take" and moving == [False, True] and i.static["axis"] % x.ndim == 0:
            return f"take({args[0]}, {args[1]}, axis=0)"
        texts = [text for value, text in zip(i.inputs, args) if isinstance(value, Symbol)]
        moves = [moves for value, moves in zip(i.inputs, moving) if isinstance(value, Symbol)]
        parts = [self.constant(c) for c in (s.shape, s.dtype, moves)]
        return f"each({self.constant(function_of(i))}, {lead}, {', '.join([*parts, *texts])})"


def function_of(i: Instruction) -> Any:
    """An instruction as a function of its symbols' arrays."""

    def function(*arrays: Any) -> Any:
        values = iter(arrays)
        inputs = [next(values) if isinstance(x, Symbol) else x for x in i.inputs]
        return np.asarray(evaluate(backends.numpy, i.name, inputs, i.static))

    return function
