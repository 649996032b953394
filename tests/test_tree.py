"""Trees: nested tuples, lists and dicts."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad import tree
from minigrad.errors import ArgumentError

Pair = namedtuple("Pair", "first second")

trees = st.recursive(
    st.none() | st.integers(0, 9),
    lambda parts: (
        st.lists(parts, max_size=3)
        | st.lists(parts, max_size=3).map(tuple)
        | st.dictionaries(st.sampled_from("abc"), parts)
        | st.builds(Pair, parts, parts)
    ),
    max_leaves=12,
)


def walk(node: Any) -> list:
    """The leaves, by recursion: the definition."""
    if isinstance(node, dict):
        node = list(node.values())
    if isinstance(node, (tuple, list)):
        return [leaf for part in node for leaf in walk(part)]
    return [] if node is None else [node]


@given(trees)
def test_leaves_come_in_order_and_none_is_no_leaf(t):
    assert tree.leaves(t) == walk(t)


@given(trees)
def test_map_keeps_the_structure_and_changes_the_leaves_in_order(t):
    assert tree.map(lambda x: x, t) == t
    mapped = tree.map(lambda x: (x + 1) * 1.5, t)
    assert tree.leaves(mapped) == [(x + 1) * 1.5 for x in walk(t)]
    assert repr(tree.map(lambda x: x, t)) == repr(t)  # the types of the containers, too


@given(trees)
def test_map_over_several_trees_meets_leaves_at_the_same_place(t):
    tens = tree.map(lambda x: 10 * x, t)
    pairs: list[tuple] = []
    tree.map(lambda x, y: pairs.append((x, y)), t, tens)
    assert pairs == [(x, 10 * x) for x in walk(t)]


def test_dicts_meet_by_key_whatever_their_order():
    assert tree.map(lambda x, y: x - y, {"a": 5, "b": 7}, {"b": 1, "a": 2}) == {"a": 3, "b": 6}


def test_a_list_may_meet_a_tuple_and_a_subtree_a_leaf():
    assert tree.map(lambda x, y: x + y, [1, 2], (10, 20)) == [11, 22]
    assert tree.map(lambda x, y: (x, y), [1], [{"a": 2}]) == [(1, {"a": 2})]


@pytest.mark.parametrize(
    ("t", "other", "message"),
    [
        ((1, 2), (1,), "expected tuple of 2, got tuple of 1"),
        ([1], [1, 2], "expected list of 1, got list of 2"),
        ((1, 2), 3, "expected tuple of 2, got int"),
        ((1,), None, "got NoneType"),
        ({"a": 1}, {"b": 1}, r"keys \['a'\], got dict with the keys \['b'\]"),
        ({"a": 1}, {"a": 1, "b": 2}, r"keys \['a'\], got"),
        ({"a": 1}, [1], "got list of 1"),
        ([{"a": (1, 2)}], [{"a": (1, 2, 3)}], "expected tuple of 2, got tuple of 3"),
    ],
)
def test_trees_of_other_structure_are_refused(t, other, message):
    with pytest.raises(ArgumentError, match=message):
        tree.map(lambda x, y: x, t, other)


def test_a_long_flat_tree_and_a_deep_one_have_leaves():
    deep: Any = 1
    for _ in range(5000):
        deep = (deep,)
    assert tree.leaves(deep) == [1] and tree.leaves(list(range(5000))) == list(range(5000))
