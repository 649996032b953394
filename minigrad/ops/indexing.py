"""Reading and writing by position. `index` and `scatter` are each other's backward formula."""

from __future__ import annotations

from typing import Any

from .. import backends
from ..errors import DtypeError, ShapeError
from ..graph import Sum, watcher
from ..tensor import Tensor
from .primitive import primitive


def getitem(x: Tensor, key: Any, /) -> Tensor:
    """x[key]: integers, slices, None, Ellipsis, and arrays, lists or tensors of integers, as in NumPy.

    A mask of booleans selects too; how much it selects depends on its values, so a loop with one cannot be compiled.
    Raises OutOfRangeError beyond the end, DtypeError for what is no index.
    """
    return index(x, _plain(x, key))


@primitive
def index(xp, x, /, key):
    """x[key], for a tuple of plain indices and integer arrays of the backend of x."""
    return xp.index(x, key)


def _scatter_together(pieces, shape):
    return backends.namespace_of(pieces[0][0]).scatter_sum(pieces, shape)


def _index_rule(g, x_shape, key, xp):
    if not backends.adds_up_pieces(g):
        return xp.scatter(g, key, x_shape)
    # Reading xs[0], xs[1], ... xs[T-1] gives T cotangents; together they are written into one array, once.
    return Sum(_scatter_together, [(g, key)], x_shape)


index.vjp(_index_rule)


@primitive(name="scatter")
def scattered(xp, x, /, *, key, shape):
    """`scatter` with a plain key."""
    return xp.scatter(x, key, shape)


scattered.vjp(lambda g, key, xp: xp.index(g, key))


def scatter(values: Any, key: Any, shape: tuple[int, ...], /) -> Tensor:
    """Zeros of `shape`, with `values` (in the shape of `zeros[key]`) added at `key`, twice where it repeats a place."""
    return scattered(values, key=_plain(values, key, shape), shape=tuple(shape))


@primitive(name="index_add")
def added(xp, x, values, /, *, key):
    """`index_add` with a plain key."""
    return x + xp.scatter(values, key, x.shape)


added.vjp(lambda g: g, lambda g, key, xp: xp.index(g, key))


def index_add(x: Any, key: Any, values: Any, /) -> Tensor:
    """A copy of x with `values` added at `key`; twice where `key` repeats a place. `values` broadcasts to x[key]."""
    values = backends.as_number(values)
    if isinstance(values, (int, float)):
        values = Tensor(backends.as_array(values, x.dtype, backends.namespace_of(x.data)))
    return added(x, values, key=_plain(x, key))


@primitive(name="index_update")
def updated(xp, x, values, /, *, key):
    """`index_update` with a plain key."""
    return xp.index_update(x, key, values)


updated.vjp(lambda g, key, xp: xp.index_update(g, key, 0.0), lambda g, key, xp: xp.index(g, key))


def index_update(x: Any, key: Any, values: Any, /) -> Tensor:
    """A copy of x with `values` written at `key`. `values` broadcasts to x[key].

    If `key` repeats a place, which value is written there is not defined, and neither is its gradient.
    """
    return updated(x, values, key=_plain(x, key))


@primitive
def take(xp, x, indices, /, *, axis):
    """The slices of x at `indices`, integers whose shape takes the place of `axis`. Negative ones count back."""
    if isinstance(indices, int):
        indices = xp.asarray(indices)
    taken = xp.take(x, xp.reshape(indices, (-1,)), axis=axis)
    axis %= len(x.shape)
    return xp.reshape(taken, (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))


take.vjp(
    lambda g, indices, x_shape, axis, xp: xp.scatter(g, (slice(None),) * (axis % len(x_shape)) + (indices,), x_shape),
    None,
)


@primitive
def take_along_axis(xp, x, indices, /, *, axis=-1):
    """y[i, j, k] = x[i, indices[i, j, k], k] for axis 1: at each position its own index along `axis`.

    `indices` has as many axes as x; axes of length 1 broadcast.
    """
    return xp.take_along_axis(x, indices, axis=axis)


def _take_along_axis_rule(g, indices, x_shape, axis, xp):
    raw = indices.data if isinstance(indices, Tensor) else indices
    raw_xp, ndim = backends.namespace_of(raw), len(x_shape)
    grid = [raw_xp.reshape(raw_xp.arange(n), (1,) * i + (n,) + (1,) * (ndim - 1 - i)) for i, n in enumerate(x_shape)]
    grid[axis] = raw
    return xp.scatter(g, tuple(grid), x_shape)


take_along_axis.vjp(_take_along_axis_rule, None)


def _plain(x: Any, key: Any, shape: tuple[int, ...] | None = None) -> tuple[Any, ...]:
    """A key to x, or to an array of `shape`, as `Namespace.index` takes it: its arrays are integers where x is."""
    if type(key) is int:
        return (key,)
    watch = watcher.get()
    lift = (lambda value: value) if watch is None else watch.lift
    x = lift(x)
    array = x.data if isinstance(x, Tensor) else x
    xp = backends.namespace_of(array)
    plain: list[Any] = []
    masks = False
    for k in key if isinstance(key, tuple) else (key,):
        given = k
        k = lift(backends.as_number(k))
        if isinstance(k, list):
            k = xp.asarray(k) if k else xp.zeros((0,), dtype=xp.dtype("int64"))
        elif isinstance(k, Tensor):
            k = k.data
        if not (k is None or k is Ellipsis or isinstance(k, slice) or type(k) is int):
            kind = backends.kind_of(k) if backends.is_array(k) else type(k).__name__
            if kind not in ("integer", "boolean"):
                raise DtypeError(
                    f"index: expected integers, slices, None, ... or arrays of integers or booleans, got {kind}"
                )
            backends.require_same("index", [array, k])
            if backends.is_array(given):
                k = xp.asarray(k, copy=True)  # whoever gave it may write into it before the backward pass
            masks = masks or kind == "boolean"
        plain.append(k)
    return tuple(_without_masks(xp, plain, x.shape if shape is None else shape) if masks else plain)


def _without_masks(xp: Any, key: list[Any], shape: tuple[int, ...]) -> list[Any]:
    """The key, each mask of booleans as the positions where it is true."""
    is_mask = [backends.is_array(k) and backends.kind_of(k) == "boolean" for k in key]
    widths = [0 if k is None or k is Ellipsis else k.ndim if mask else 1 for k, mask in zip(key, is_mask)]
    plain: list[Any] = []
    axis = 0
    for i, k in enumerate(key):
        if is_mask[i]:
            if tuple(k.shape) != tuple(shape[axis : axis + k.ndim]):
                raise ShapeError(f"index: a mask of shape {tuple(k.shape)} at axis {axis} of shape {tuple(shape)}")
            plain.extend(xp.nonzero(k))
        else:
            plain.append(k)
        axis = len(shape) - sum(widths[i + 1 :]) if k is Ellipsis else axis + widths[i]
    return plain
