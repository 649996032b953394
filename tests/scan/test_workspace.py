"""Buffers: planned, laid out for a number of steps, lent to one call at a time, and given back by themselves."""

from __future__ import annotations

import gc
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from minigrad.scan.workspace import Lease, Plan, Pool, Workspace


def value(*shape: int, dtype: str = "float32") -> Any:
    """What a plan knows of a value."""
    return SimpleNamespace(shape=shape, dtype=np.dtype(dtype))


def plan() -> Plan:
    """A value (2, 3) in one step, one (5,) of float64 at every step, and one number at every step and one more."""
    made = Plan()
    slots = made.slot(value(2, 3), "1"), made.slot(value(5, dtype="float64"), "T"), made.slot(value(), "T1")
    assert slots == (0, 1, 2)
    return made


def lengths(T: int) -> dict[str, int]:
    return {"T": T, "T1": T + 1, "block": min(T, 4), "1": 1}


def arrays(lease: Lease, T: int) -> list[np.ndarray]:
    w = lease.workspace
    return [
        w.array(0, (2, 3), np.dtype("float32"), 0, 0),
        w.array(1, (T, 5), np.dtype("float64"), 0, 0),
        w.array(2, (T + 1,), np.dtype("float32"), 0, 0),
    ]


def test_a_slot_is_as_long_as_its_values_at_its_length_in_whole_cache_lines():
    assert plan().offsets(lengths(3)) == [0, 64, 64 + 128, 64 + 128 + 64]  # 24, 3 * 40 and 4 * 4 bytes
    assert plan().offsets(lengths(100)) == [0, 64, 64 + 4032, 64 + 4032 + 448]


@pytest.mark.parametrize("T", [1, 3, 16, 17])
def test_slots_begin_at_cache_lines_and_never_overlap(T):
    pool = Pool(plan())
    lease = pool.lend(lengths(T))
    for k, a in enumerate(arrays(lease, T)):
        assert a.ctypes.data % 64 == 0 and a.flags.c_contiguous and a.flags.writeable
        a.fill(k)
    assert [np.unique(a).tolist() for a in arrays(lease, T)] == [[0], [1], [2]]


def test_values_that_share_a_slot_lie_side_by_side_in_each_step():
    made = Plan()
    made.slot(value(6), "T")
    lease = Pool(made).lend(lengths(3))
    w, dtype = lease.workspace, np.dtype("float32")
    whole = w.array(0, (3, 6), dtype, 0, 0)
    first, second = w.array(0, (3, 2), dtype, 0, 24), w.array(0, (3, 2, 2), dtype, 8, 24)
    whole[...] = np.arange(18).reshape(3, 6)
    np.testing.assert_array_equal(first, whole[:, :2])
    np.testing.assert_array_equal(second, whole[:, 2:].reshape(3, 2, 2))
    assert not np.shares_memory(first, second)


def test_two_leases_at_once_never_share_memory():
    pool = Pool(plan())
    for _ in range(3):
        leases = [pool.lend(lengths(5)) for _ in range(4)]
        for k, a in enumerate(leases):
            for b in leases[:k]:
                assert not np.shares_memory(a.workspace.memory, b.workspace.memory)
                assert not any(np.shares_memory(x, y) for x in arrays(a, 5) for y in arrays(b, 5))
        del leases, a, b


def test_a_lease_that_was_dropped_comes_back_at_once():
    pool = Pool(plan())
    gc.disable()
    try:
        lease = pool.lend(lengths(5))
        memory, also = lease.workspace.memory, [lease]
        assert pool.free == [] and pool.bytes == 0
        del lease
        assert pool.free == []  # somebody still holds it
        also.clear()
        assert [w.memory is memory for w in pool.free] == [True] and pool.bytes == memory.nbytes
        assert pool.lend(lengths(5)).workspace.memory is memory
    finally:
        gc.enable()


def test_what_was_made_of_a_workspace_stays_until_the_lengths_change():
    pool = Pool(plan())
    lease = pool.lend(lengths(5))
    lease.workspace.cache["views"] = 1
    del lease
    assert pool.lend(lengths(5)).workspace.cache == {"views": 1}
    assert pool.lend(lengths(6)).workspace.cache == {}
    assert pool.lend(lengths(5)).workspace.cache == {}


def test_a_workspace_that_is_long_enough_is_laid_out_anew_without_new_memory():
    pool = Pool(plan())
    lease = pool.lend(lengths(50))
    memory = lease.workspace.memory
    del lease
    for T in (1, 20, 50, 3):
        lease = pool.lend(lengths(T))
        assert lease.workspace.memory is memory
        for k, a in enumerate(arrays(lease, T)):
            a.fill(k)
        assert [np.unique(a).tolist() for a in arrays(lease, T)] == [[0], [1], [2]]
        del lease
    assert pool.lend(lengths(60)).workspace.memory is not memory


def test_arrays_outlive_the_lengths_they_were_made_for():
    """Views of a workspace that grows still look at memory that is theirs."""
    w = Workspace()
    w.lay_out(plan(), lengths(2))
    a = w.array(1, (2, 5), np.dtype("float64"), 0, 0)
    a.fill(7)
    w.lay_out(plan(), lengths(1000))
    w.memory.fill(0)
    assert (a == 7).all()


def test_only_so_many_workspaces_wait():
    pool = Pool(plan())
    leases = [pool.lend(lengths(5)) for _ in range(10)]
    one = leases[0].workspace.memory.nbytes
    leases.clear()
    assert 1 <= len(pool.free) <= 2 and pool.bytes == len(pool.free) * one
    leases = [pool.lend(lengths(5)) for _ in range(10)]
    assert pool.free == [] and pool.bytes == 0


def test_a_plan_without_slots_and_values_without_elements_take_nothing():
    lease = Pool(Plan()).lend(lengths(5))
    assert lease.workspace.memory.nbytes <= 64
    made = Plan()
    made.slot(value(0, 3), "T"), made.slot(value(2), "T")
    lease = Pool(made).lend(lengths(5))
    assert lease.workspace.array(0, (5, 0, 3), np.dtype("float32"), 0, 0).size == 0
    assert lease.workspace.array(1, (5, 2), np.dtype("float32"), 0, 0).shape == (5, 2)
