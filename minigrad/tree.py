"""Nested tuples, lists and dicts of tensors: the shape that states, contexts and arguments may have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .errors import ArgumentError


def leaves(tree: Any) -> list[Any]:
    """What is in the tree, in order (dicts in order of insertion). None is an empty tree."""
    found: list[Any] = []
    stack = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, (tuple, list)):
            stack.extend(reversed(node))
        elif isinstance(node, dict):
            stack.extend(reversed(node.values()))
        elif node is not None:
            found.append(node)
    return found


def map(function: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """A tree of the same structure that holds `function(leaf, *leaves at the same place in the others)`.

    Raises ArgumentError where the others have another structure.
    """
    if isinstance(tree, dict):
        for other in others:
            if not isinstance(other, dict) or other.keys() != tree.keys():
                raise ArgumentError(f"expected {_words(tree)}, got {_words(other)}")
        return {key: map(function, value, *(other[key] for other in others)) for key, value in tree.items()}
    if isinstance(tree, (tuple, list)):
        for other in others:
            if not isinstance(other, (tuple, list)) or len(other) != len(tree):
                raise ArgumentError(f"expected {_words(tree)}, got {_words(other)}")
        parts = [map(function, *values) for values in zip(tree, *others)]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    return None if tree is None else function(tree, *others)


def _words(tree: Any) -> str:
    if isinstance(tree, dict):
        return f"dict with the keys {list(tree)}"
    return type(tree).__name__ + (f" of {len(tree)}" if isinstance(tree, (tuple, list)) else "")
