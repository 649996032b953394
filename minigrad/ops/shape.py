"""Operations that arrange the same elements in another shape. Sizes and axes are plain integers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import ArgumentError, DtypeError, ShapeError
from ..tensor import Tensor
from .primitive import primitive


@primitive
def reshape(xp, x, /, shape):
    """The elements of x, in order, in another shape; one size may be -1, and is then worked out."""
    return xp.reshape(x, tuple(shape) if isinstance(shape, (tuple, list)) else (shape,))


reshape.vjp(lambda g, x_shape, xp: xp.reshape(g, x_shape))


@primitive
def permute_dims(xp, x, /, axes):
    """The axes of x in the order `axes`."""
    return xp.permute_dims(x, axes)


permute_dims.vjp(lambda g, axes, xp: xp.permute_dims(g, sorted(range(len(axes)), key=lambda i: axes[i] % len(axes))))


def transpose(x: Any, /, *axes: int) -> Tensor:
    """The axes of x in the order given, or all reversed; `transpose(x, 0, 2, 1)` or `transpose(x, (0, 2, 1))`."""
    if len(axes) == 1 and not isinstance(axes[0], int):
        axes = tuple(axes[0])
    return permute_dims(x, axes or tuple(range(len(shape_of("transpose", x))))[::-1])


@primitive
def matrix_transpose(xp, x, /):
    """The last two axes of x exchanged."""
    return xp.matrix_transpose(x)


matrix_transpose.vjp(lambda g, xp: xp.matrix_transpose(g))


@primitive
def expand_dims(xp, x, /, *, axis=0):
    """x with a new axis of length 1 at `axis`."""
    return xp.expand_dims(x, axis=axis)


expand_dims.vjp(lambda g, x_shape, xp: xp.reshape(g, x_shape))


def squeeze(x: Any, /, axis: Any = None) -> Tensor:
    """x without its axes of length 1, or without those named. Raises ShapeError if one of those is longer."""
    shape = shape_of("squeeze", x)
    if axis is None:
        axis = tuple(i for i, n in enumerate(shape) if n == 1)
    axes = {_axis("squeeze", x, i) for i in ((axis,) if isinstance(axis, int) else axis)}
    longer = [i for i in axes if shape[i] != 1]
    if longer:
        raise ShapeError(f"squeeze: axis {longer[0]} of shape {tuple(shape)} has length {shape[longer[0]]}, not 1")
    return reshape(x, tuple(n for i, n in enumerate(shape) if i not in axes))


@primitive
def broadcast_to(xp, x, /, shape):
    """x repeated along new axes and those of length 1, to `shape`."""
    return xp.broadcast_to(x, tuple(shape))


broadcast_to.vjp(lambda g: g)  # undoing the broadcasting is all there is to do


@primitive
def flip(xp, x, /, *, axis=None):
    """x with the order of the elements reversed along the axes."""
    return xp.flip(x, axis=axis)


flip.vjp(lambda g, axis, xp: xp.flip(g, axis=axis))


# Joining and cutting: each is the other's backward formula


@primitive(name="concat")
def concatenation(xp, *parts, axis):
    """`concat` of one argument for each part."""
    return xp.concat(parts, axis=axis)


concatenation.vjp(lambda g, shapes, axis, xp: xp.split(g, tuple(s[axis] for s in shapes), axis=axis % len(shapes[0])))


def concat(arrays: Sequence[Any], /, *, axis: int = 0) -> Tensor:
    """The tensors joined along an axis that they have; their other sizes must agree."""
    return concatenation(*_some("concat", arrays), axis=axis)


@primitive(name="stack")
def stacking(xp, *parts, axis):
    """`stack` of one argument for each part."""
    return xp.stack(parts, axis=axis)


stacking.vjp(lambda g, axis, xp: xp.unstack(g, axis=axis % len(g.shape)))


def stack(arrays: Sequence[Any], /, *, axis: int = 0) -> Tensor:
    """The tensors, all of one shape, joined along a new axis."""
    return stacking(*_some("stack", arrays), axis=axis)


def _some(op: str, arrays: Sequence[Any]) -> Sequence[Any]:
    if isinstance(arrays, Tensor) or not len(arrays):
        raise ArgumentError(f"{op}: expected a list of at least one tensor")
    return arrays


@primitive(name="split")
def pieces(xp, x, /, *, sizes, axis):
    """`split` into parts of known sizes."""
    return xp.split(x, sizes, axis=axis)


pieces.vjp(lambda g, axis, xp: xp.concat(g, axis=axis))


def split(x: Any, sizes: int | Sequence[int], /, *, axis: int = 0) -> list[Tensor]:
    """x cut along an axis, into this many equal parts or into parts of these sizes. The parts are views.

    Raises ShapeError if the parts do not make up the axis.
    """
    axis = _axis("split", x, axis)
    length = x.shape[axis]
    if isinstance(sizes, int):
        if sizes < 1 or length % sizes:
            raise ShapeError(f"split: axis {axis} of shape {tuple(x.shape)} does not divide into {sizes} equal parts")
        sizes = (length // sizes,) * sizes
    elif sum(sizes) != length or any(size < 0 for size in sizes):
        raise ShapeError(f"split: sizes {tuple(sizes)} do not make up axis {axis} of shape {tuple(x.shape)}")
    return pieces(x, sizes=tuple(sizes), axis=axis)


@primitive(name="unstack")
def slices(xp, x, /, *, axis):
    """`unstack` along an axis that is not negative."""
    return xp.unstack(x, axis=axis)


slices.vjp(lambda g, axis, xp: xp.stack(g, axis=axis))


def unstack(x: Any, /, *, axis: int = 0) -> list[Tensor]:
    """The slices of x along an axis, as a list of views without that axis."""
    return slices(x, axis=_axis("unstack", x, axis))


def _axis(op: str, x: Any, axis: int) -> int:
    """`axis` as an axis that is not negative."""
    ndim = len(shape_of(op, x))
    if not -ndim <= axis < ndim:
        raise ShapeError(f"{op}: shape {tuple(x.shape)} has no axis {axis}")
    return axis % ndim


def shape_of(op: str, x: Any) -> tuple[int, ...]:
    """The shape of a tensor or an array. Raises DtypeError for what has none, such as a list."""
    try:
        return x.shape
    except AttributeError:
        raise DtypeError(f"{op}: expected a tensor, got {type(x).__name__}; mg.tensor makes one") from None
