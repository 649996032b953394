"""Whose memory is whose: what was received stays, what was dropped is freed, threads keep apart, and nothing grows."""

from __future__ import annotations

import gc
import sys
import threading
import tracemalloc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, tree

from .helpers import data, equal, fixed, forget, gradients, leaf, loop, named, ran, simple, weighted


def cache() -> Any:
    """What the compiled loop keeps: `programs`, how many, and `bytes`, in buffers."""
    from minigrad.scan import cache_info

    return cache_info()


def clear() -> None:
    from minigrad.scan import clear_cache

    clear_cache()


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


# What was received stays as it is


def several(x, state):
    """A step with outputs and states of every origin: new, passed through, views of one value, of the step before."""
    h, _ = state
    a, b = mg.split(mg.tanh(mg.concat([x, h], axis=-1)), 2, axis=-1)
    return (a, h, x, a[:, :1], mg.tanh(a) * b, {"b": b.T}), (a * b, h)


@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize("reverse", [False, True])
def test_outputs_and_states_do_not_change_in_later_calls(recorded, reverse):
    kept = []
    for i in range(12):
        T = 2 + i % 3
        xs, h = leaf(T, 2, 2, seed=i), (leaf(2, 2, seed=i), leaf(2, 2, seed=-i % 7))
        with mg.enable_grad() if recorded else mg.no_grad():
            outs, state = mg.scan(several, xs, h, reverse=reverse)
        kept.append((outs, state, named(outs, state)))
        equal(kept[-1][2], named(*loop(several, xs, h, reverse=reverse)))
        if recorded and i % 2:
            weighted((outs, state)).backward()
    for outs, state, values in kept:
        for (name, value), y in zip(values.items(), tree.leaves((outs, state))):
            np.testing.assert_array_equal(y.numpy(), value, err_msg=name)


def test_an_array_outlives_the_tensor_that_it_came_from():
    """The graph is released, the tensors are gone, and buffers may be used again; not this one."""
    step, _ = simple()
    views = []
    for i in range(8):
        xs, h, _ = data(seed=i)
        outs, state = mg.scan(step, xs, h)
        if i % 2:
            weighted((outs, state)).backward()
        arrays = (outs.numpy(), outs[1].numpy(), outs[-1].detach().data, state.numpy(), state.data)
        views += [(array, np.array(array)) for array in arrays]
        del outs, state
    for array, value in views:
        np.testing.assert_array_equal(array, value)


def test_gradients_do_not_change_in_later_calls():
    step, weights = simple()
    kept = []
    for i in range(8):
        xs, h, inputs = data(3 + i % 2, seed=i)
        leaves = {**weights, **inputs}
        forget(leaves.values())
        weighted(mg.scan(step, xs, h)).backward()
        kept += [(x.grad, x.grad.data, np.array(x.grad.data)) for x in leaves.values()]
    for grad, array, value in kept:
        np.testing.assert_array_equal(array, value)
        np.testing.assert_array_equal(grad.numpy(), value)


def test_what_a_call_was_given_is_not_written_into_and_may_be_read_only():
    step, weights = simple()
    xs, h, inputs = data()
    leaves = {**weights, **inputs}
    before = {name: x.data.copy() for name, x in leaves.items()}
    for x in leaves.values():
        x.data.flags.writeable = False
    cotangent = np.random.default_rng(0).normal(size=(4, 2, 3))
    cotangent.flags.writeable = False
    for remat in (None, "sqrt"):
        outs, _ = mg.scan(step, xs, h, remat=remat)
        outs.backward(mg.tensor(cotangent))
    for name, x in leaves.items():
        np.testing.assert_array_equal(x.data, before[name])


def test_a_pull_can_be_used_long_after_and_again():
    step, _ = simple()
    xs, h = fixed(4, 2, 2), fixed(2, 3)
    cotangents = (fixed(4, 2, 3, seed=1), fixed(2, 3, seed=1))
    _, expected = mg.vjp(lambda xs, h: loop(step, xs, h), xs, h)
    _, pull = mg.vjp(lambda xs, h: mg.scan(step, xs, h), xs, h)
    first = pull(cotangents)
    for i in range(5):
        mg.vjp(lambda xs, h: mg.scan(step, xs, h), fixed(4, 2, 2, seed=i), h)[1](cotangents)
    for found in (first, pull(cotangents), pull(cotangents)):
        equal(named(found, ()), named(expected(cotangents), ()))


def test_many_graphs_may_wait_for_their_backward_passes():
    step, weights = simple()
    waiting, expected = [], []
    for i in range(10):
        xs, h, inputs = data(2 + i % 3, seed=i)
        expected.append(ran(loop, step, xs, h, leaves={**weights, **inputs})[1])
        waiting.append((weighted(mg.scan(step, xs, h)), {**weights, **inputs}))
    order = np.random.default_rng(0).permutation(10)
    for i in order:
        loss, leaves = waiting[i]
        forget(leaves.values())
        loss.backward()
        equal(gradients(leaves), expected[i])


# What was dropped is freed


def dropped(how: str) -> tuple[list[Any], Any]:
    """References to what a call was given and gave, after it was used in this way and let go."""
    step, weights = simple()
    xs, h, _ = data()
    if how == "computed":
        xs, h = xs * 2, h * 2
    outs, state = mg.scan(step, xs, h, remat="sqrt" if how == "remat" else None)
    if how not in ("never run", "no graph"):
        weighted((outs, state)).backward(retain_graph=how == "retained")
    references = [weakref.ref(x) for x in (xs.data, h.data, outs, state, outs.data, state.data)]
    return references, (step, weights)


@pytest.mark.parametrize("how", ["never run", "run", "retained", "computed", "remat", "no graph"])
def test_a_dropped_graph_is_freed_at_once_run_backward_or_not(how):
    with no_garbage_collection(), mg.no_grad() if how == "no graph" else mg.enable_grad():
        for _ in range(3):  # recorded, and then from the cache
            references, kept = dropped(how)
            assert [reference() is None for reference in references] == [True] * 6
        del kept


def test_a_step_that_was_dropped_leaves_no_weights_behind_once_the_cache_is_cleared():
    with no_garbage_collection():
        _, (step, weights) = dropped("run")
        arrays = [weakref.ref(w.data) for w in weights.values()]
        del step, weights
        clear()
        assert [reference() is None for reference in arrays] == [True] * 3


def test_a_network_that_was_dropped_leaves_no_weights_behind_while_its_program_is_kept():
    mg.scan.clear_cache()
    net = nn.Recurrent(nn.LSTMCell, 3, 5, num_layers=2)
    outs, _ = net(mg.ones((4, 2, 3)))
    outs.sum().backward()
    arrays = [weakref.ref(p.data) for p in net.parameters()]
    del net, outs, _
    gc.collect()
    assert [reference() is None for reference in arrays] == [True] * len(arrays)
    assert mg.scan.cache_info().programs == 2


def memory_of(call: Any, times: int) -> tuple[int, int]:
    """By how many bytes the memory in use, and the buffers of the cache, grow over so many calls after as many."""
    gc.collect()
    tracemalloc.start()
    try:
        found = []
        for _ in range(2):
            for i in range(times):
                call(i)
            gc.collect()
            found.append((tracemalloc.get_traced_memory()[0], cache().bytes))
        return found[1][0] - found[0][0], found[1][1] - found[0][1]
    finally:
        tracemalloc.stop()


def train_once(i: int, step: Any, weights: Any, longest: int) -> None:
    """One of several uses of a step, over one of several lengths."""
    xs, h = fixed(1 + i * 7 % longest, 1, 2, seed=i % 5), fixed(1, 3)
    how = i % 4
    if how == 0:
        with mg.no_grad():
            mg.scan(step, xs, h)
        return
    outs, state = mg.scan(step, xs, h, remat=2 if how == 3 else None)
    if how != 1:  # else the graph is dropped
        (outs.sum() + state.sum()).backward()
    for w in weights.values():
        w.grad = None
        w.data = w.data * 0.999


@pytest.mark.parametrize(
    ("times", "longest"), [(2000, 6), pytest.param(10_000, 20, marks=pytest.mark.slow)], ids=["2000", "10000"]
)
def test_thousands_of_calls_of_varying_length_keep_no_memory(times, longest):
    step, weights = simple()
    clear()
    grown, buffers = memory_of(lambda i: train_once(i, step, weights, longest), times // 2)
    assert buffers == 0
    assert grown < 8 * times  # an object kept by every second call would be more: every object has 32 bytes
    assert cache().programs <= 8  # the length is no part of a program


def test_buffers_of_lengths_that_come_only_once_do_not_pile_up():
    """Kept for each of 300 lengths they would be 150 times those of the longest."""
    step, _ = simple()
    h = fixed(2, 3)

    def bytes_after(lengths: Any) -> int:
        clear()
        for T in lengths:
            weighted(mg.scan(step, fixed(int(T), 2, 2), h)).backward()
        return cache().bytes

    assert bytes_after(np.random.default_rng(0).permutation(np.arange(1, 301))) <= 20 * bytes_after([300])


def test_waiting_graphs_give_their_buffers_back():
    step, _ = simple()
    xs, h, _ = data()
    clear()
    for _ in range(3):
        weighted(mg.scan(step, xs, h)).backward()
    alone = cache().bytes
    waiting = [weighted(mg.scan(step, xs, h)) for _ in range(20)]
    for loss in waiting[::2]:
        loss.backward()
    waiting.clear()
    for _ in range(3):
        weighted(mg.scan(step, xs, h)).backward()
    assert cache().bytes <= 21 * alone
    clear()
    assert cache().bytes == 0
    weighted(mg.scan(step, xs, h)).backward()
    assert cache().bytes <= alone


def test_the_cache_is_bounded_however_many_steps_there_are():
    clear()
    xs, h = fixed(2, 2), fixed(2)
    counts = []
    for i in range(300):
        outs, _ = mg.scan(lambda x, h, i=i: (x + i * h, h), xs, h)
        np.testing.assert_allclose(outs.numpy(), xs.numpy() + i * h.numpy(), rtol=1e-12)
        counts.append(cache().programs)
    assert counts[0] >= 1 and max(counts) < 300
    clear()
    assert cache().programs == 0 and cache().bytes == 0


def test_a_cleared_cache_leaves_graphs_usable():
    step, weights = simple()
    xs, h, inputs = data()
    leaves = {**weights, **inputs}
    values, grads = ran(loop, step, xs, h, leaves=leaves)
    outs, state = mg.scan(step, xs, h)
    clear()
    assert cache().programs == 0
    mg.scan(step, data(seed=3)[0], h)
    equal(named(outs, state), values)
    weighted((outs, state)).backward()
    equal(gradients(leaves), grads)


def test_recomputing_needs_less_memory():
    """Of 1600 steps 40 states are kept, and 40 steps at a time are made again."""
    size, T = 64, 1600
    W, xs, h = leaf(size, size, scale=0.1), fixed(T, 4, 1), leaf(4, size)

    def step(x, h, W):
        for _ in range(3):
            h = mg.tanh(h @ W + x)
        return mg.sum(h, axis=-1), h

    def peak(remat: Any) -> int:
        clear()
        tracemalloc.start()
        try:
            outs, _ = mg.scan(step, xs, h, (W,), remat=remat)
            outs.sum().backward()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    everything = T * 3 * 4 * size * 8  # bytes of the results of the three tanhs
    assert peak("sqrt") < everything / 3


# Threads


def test_two_threads_that_run_one_program_at_once_get_what_each_gets_alone():
    step, _ = simple(4, 16)
    jobs = [[(leaf(12, 8, 4, seed=100 * k + i), leaf(8, 16, seed=100 * k + i)) for i in range(25)] for k in range(2)]

    def job(k: int, gate: Any = None) -> list[Any]:
        found = []
        for xs, h in jobs[k]:
            if gate is not None:
                gate.wait()
            # Gradients of shared weights would be added to from both threads, so they are asked for by vjp.
            (outs, state), pull = mg.vjp(lambda xs, h: mg.scan(step, xs, h), xs, h)
            values = named(outs, state)
            cotangents = pull((outs.detach() * 0.5, state.detach()))
            found.append((values, named(cotangents, ())))
        return found

    alone = [job(k) for k in range(2)]
    gate = threading.Barrier(2)
    interval = sys.getswitchinterval()
    together: list[Any] = [None, None]

    def run(k: int) -> None:
        try:
            together[k] = job(k, gate)
        except BaseException:
            gate.abort()
            raise

    threads = [threading.Thread(target=run, args=(k,)) for k in range(2)]
    sys.setswitchinterval(1e-6)  # so that they take turns within a loop
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    for k in range(2):
        assert together[k] is not None, "the thread raised"
        for found, expected in zip(together[k], alone[k]):
            for a, e in zip(found, expected):
                equal(a, e)


def test_two_threads_may_record_and_drop_steps_at_once():
    errors = []

    def work(k: int) -> None:
        try:
            for i in range(30):
                outs, _ = mg.scan(lambda x, h, i=i: (x * i + h * k, h), fixed(3, 2), fixed(2))
                np.testing.assert_allclose(outs.numpy(), fixed(3, 2).numpy() * i + fixed(2).numpy() * k, rtol=1e-12)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


def test_a_graph_made_in_one_thread_may_be_run_backward_and_dropped_in_another():
    step, weights = simple()
    for i in range(5):
        xs, h, inputs = data(seed=i)
        leaves = {**weights, **inputs}
        _, expected = ran(loop, step, xs, h, leaves=leaves)
        made = [weighted(mg.scan(step, xs, h))]
        thread = threading.Thread(target=lambda made=made: made.pop().backward())
        thread.start()
        thread.join()
        equal(gradients(leaves), expected)


@pytest.mark.slow
def test_networks_that_are_dropped_leave_bounded_buffers_behind():
    """The buffers of about eight passes, and 128 MB besides, whatever came before."""
    mg.scan.clear_cache()
    for hidden in range(60, 100):
        net = nn.Recurrent(nn.LSTMCell(8, hidden))
        outs, _ = net(mg.ones((300, 32, 8)))
        outs.sum().backward()
    one = 300 * 32 * 100 * 4 * 5  # the larger of a pass's buffers: four gates and a state
    assert mg.scan.cache_info().bytes <= 8 * one + 2**27
    mg.scan.clear_cache()
