"""What a picture is drawn from: arrays and names, checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from .. import backends
from ..errors import ArgumentError, ShapeError
from ..tensor import Tensor


def numbers(function: str, what: str, given: Any, shape: str) -> np.ndarray:
    """A tensor, an array or lists of numbers as float64, with as many axes as `shape` names: "(T, C)"."""
    array = given.numpy() if isinstance(given, Tensor) else given
    try:
        array = backends.namespace_of(array).to_numpy(array) if backends.is_array(array) else np.asarray(array)
        if np.iscomplexobj(array):
            raise TypeError("complex numbers")
        array = array.astype(np.float64)
    except (TypeError, ValueError) as error:
        kind = type(given).__name__
        raise ArgumentError(f"{function}: {what} must be numbers {shape}, got a {kind}: {error}") from None
    axes = len([name for name in shape.strip("()").split(",") if name])
    if array.ndim != axes:
        raise ShapeError(f"{function}: {what} must have the shape {shape}, got {array.shape}")
    if not array.size:
        raise ArgumentError(f"{function}: {what} is empty; expected numbers {shape}, got the shape {array.shape}")
    return array


def integers(function: str, what: str, given: Any) -> list[int]:
    """A tensor, an array or a list of integers (L,), as a list; there may be none."""
    array = given.numpy() if isinstance(given, Tensor) else given
    try:
        array = backends.namespace_of(array).to_numpy(array) if backends.is_array(array) else np.asarray(array)
    except (TypeError, ValueError):
        array = np.array(None)
    if array.ndim != 1 or (array.size and not np.issubdtype(array.dtype, np.integer)):
        raise ArgumentError(f"{function}: {what} must be integers (L,), got {str(given)[:60]}")
    return [int(k) for k in array]


def finite(function: str, what: str, array: np.ndarray) -> np.ndarray:
    """The array, in which nothing may be NaN or infinite."""
    if not np.isfinite(array).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise ArgumentError(f"{function}: {what} must be finite, and is {array[where]} at {list(where)}")
    return array


def some(function: str, what: str, array: np.ndarray) -> np.ndarray:
    """The array, of which something must be finite."""
    if not np.isfinite(array).any():
        raise ArgumentError(f"{function}: {what} holds no finite number, so there is nothing to draw")
    return array


def names(function: str, what: str, given: Any, count: int, of: str) -> list[str]:
    """A list of `count` names, one for each `of`. A string stands for its letters."""
    if isinstance(given, (Mapping, bytes)) or not isinstance(given, Iterable):
        raise ArgumentError(f"{function}: {what} must be a list of names, got a {type(given).__name__}")
    listed = [str(name) for name in given]
    if len(listed) != count:
        raise ShapeError(f"{function}: {what} has {len(listed)} names, and there are {count} {of}")
    return listed


def mapping(function: str, what: str, given: Any, values: str) -> dict[str, Any]:
    """A dict with something in it, its keys as strings."""
    if not isinstance(given, Mapping):
        raise ArgumentError(f"{function}: {what} must be a dict of names to {values}, got a {type(given).__name__}")
    if not given:
        raise ArgumentError(f"{function}: {what} is empty; expected a dict of names to {values}")
    return {str(name): value for name, value in given.items()}
