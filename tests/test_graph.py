"""The backward pass: what it computes, what it frees, what it refuses; and that threads do not meet."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import backends, graph
from minigrad.errors import BackendMismatchError, GraphError, MinigradError, OutOfMemoryError, ShapeError
from minigrad.scan import program

STEPS = 100_000


def leaf(*values: float) -> mg.Tensor:
    return mg.tensor(values, requires_grad=True)


def nodes() -> int:
    return sum(issubclass(type(thing), graph.Node) for thing in gc.get_objects())


@contextmanager
def without_collector() -> Iterator[Callable[[], int]]:
    """No garbage collector and the default recursion limit; gives a function that counts the nodes made since."""
    limit = sys.getrecursionlimit()
    gc.collect()
    gc.disable()
    sys.setrecursionlimit(1000)
    before = nodes()
    try:
        yield lambda: nodes() - before
    finally:
        gc.enable()
        sys.setrecursionlimit(limit)


def alive(references: list[weakref.ref]) -> int:
    return sum(reference() is not None for reference in references)


# Long graphs


@pytest.mark.slow
@pytest.mark.parametrize("kept", [None, 0, STEPS // 2, STEPS], ids=["none kept", "first kept", "middle", "last"])
def test_a_long_graph_on_which_backward_never_ran_is_freed_but_for_what_a_kept_tensor_needs(kept):
    with without_collector() as made:
        h, w, arrays, keep = leaf(1.0), leaf(1.0), [], None
        for t in range(STEPS + 1):
            arrays.append(weakref.ref(h.data))
            if t == kept:
                keep = h
            h = h * w
        assert alive(arrays) == STEPS + 1 and made() == STEPS + 3
        del h
        assert alive(arrays) == (0 if kept is None else kept + 1)
        assert made() == (1 if kept is None else kept + 2)
        del keep
        assert alive(arrays) == 0 and made() == 1


@pytest.mark.slow
@pytest.mark.parametrize("kept", [None, 0, STEPS // 2, STEPS], ids=["none kept", "first kept", "middle", "last"])
def test_backward_through_a_long_graph_is_right_and_leaves_only_the_kept_tensor(kept):
    with without_collector() as made:
        h, w, arrays, keep = leaf(1.0), leaf(1.0), [], None
        for t in range(STEPS + 1):
            arrays.append(weakref.ref(h.data))
            if t == kept:
                keep = h
            h = h * w
        h.backward()
        assert w.grad.item() == STEPS + 1
        assert alive(arrays) == (kept is not None)
        del h
        assert made() == 1 + (kept is not None)
        assert keep is None or keep.item() == 1.0


@pytest.mark.parametrize("run", [False, True], ids=["backward never ran", "after backward"])
@pytest.mark.parametrize("steps", [10_000, pytest.param(STEPS, marks=pytest.mark.slow)])
def test_a_long_graph_with_several_outputs_at_each_step_is_freed(steps, run):
    with without_collector() as made:
        x = leaf(1.0, 2.0)
        h, arrays = x, []
        for _ in range(steps):
            a, b = mg.split(h, 2)
            h = mg.concat([b, a])
            arrays.append(weakref.ref(h.data))
        del a, b
        if run:
            h.backward([3.0, 5.0])
            assert x.grad.tolist() == ([3.0, 5.0] if steps % 2 == 0 else [5.0, 3.0])
            assert made() == 2 and alive(arrays) == 1  # x and h
        del h
        assert made() == 1 and alive(arrays) == 0


def test_a_state_carried_on_by_detach_leaves_one_window_alive():
    with without_collector() as made:
        w, h, arrays = leaf(0.5), mg.tensor([1.0]), []
        for _ in range(50):
            for _ in range(10):
                h = mg.tanh(h * w)
                arrays.append(weakref.ref(h.data))
            h.sum().backward()
            h = h.detach()
            assert alive(arrays) == 1
        assert made() == 1


# Cycles and memory

GRAPHS: dict[str, Callable[[mg.Tensor], mg.Tensor]] = {
    "elementwise": lambda x: (mg.tanh(x) * mg.exp(x) / (1 + x * x)).sum(),
    "an output saved by its own rule": lambda x: mg.sqrt(mg.sigmoid(x)).sum(),
    "diamond": lambda x: (x * x + x * x).sum(),
    "split": lambda x: mg.multiply(*mg.split(x, 2)).sum(),
    "split, one part unused": lambda x: mg.split(x, 2)[1].sum(),
    "unstack": lambda x: mg.stack(mg.unstack(x)[::-1]).max(),
    "matmul": lambda x: (x.reshape(2, 2) @ x.reshape(2, 2)).mean(),
    "index": lambda x: x[0] * x[[1, 1]].sum() + x[1:].sum(),
    "where": lambda x: mg.where(x > 0, x, x * 2.0).sum(),
    "remat": lambda x: mg.remat(lambda y: mg.sin(y) * y)(x).sum(),
    "grad inside": lambda x: mg.grad(lambda y: (y**3).sum())(x).sum(),
}


def four() -> mg.Tensor:
    return leaf(0.5, -1.0, 2.0, 1.5)


@pytest.mark.slow
@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("retain", [None, False, True], ids=["no backward", "backward", "backward, retained"])
def test_no_graph_holds_itself_alive(name, retain):
    GRAPHS[name](four()).backward()  # plans and caches are made at the first call
    with without_collector() as made:
        x = four()
        y = GRAPHS[name](x)
        if retain is not None:
            y.backward(retain_graph=retain)
        del y
        assert made() == 1
        del x
        assert made() == 0


@pytest.mark.parametrize("name", GRAPHS)
def test_after_backward_a_released_graph_holds_no_array_and_no_parent(name):
    x = four()
    y = GRAPHS[name](x)
    below = [node for node in graph.children_first([y.node]) if not isinstance(node, graph.Leaf)]
    y.backward()
    assert below
    for node in below:
        node = node.parents[0] if isinstance(node, graph.Output) else node  # to which an output leaves it
        assert node.parents is None
        assert not getattr(node, "saved", ())
        assert not getattr(node, "tensors", ())


@pytest.mark.parametrize("retain", [False, True])
def test_saved_arrays_are_released_as_the_pass_goes(retain):
    seen: list[int] = []
    arrays: list[weakref.ref] = []

    @mg.primitive
    def look(xp, x, /):
        """x, whose rule counts the arrays that are left."""
        return x + 0

    @look.vjp
    def rule(g):
        seen.append(alive(arrays))
        return g

    h = x = leaf(1.0)
    for t in range(20):
        h = mg.sin(look(h) if t == 5 else h)
        arrays.append(weakref.ref(h.data))
    top = h.sum()
    del h
    top.backward(retain_graph=retain)
    assert x.grad is not None
    # sin saves its input, look and sum save nothing: of the twenty outputs, four lie below and two are saved by none.
    assert seen == [18 if retain else 4]


@pytest.mark.parametrize("retain", [False, True])
def test_a_backward_pass_needs_few_arrays_beyond_those_of_the_forward_pass(retain):
    size, steps = 100_000, 50
    h = x = mg.ones((size,))
    x.requires_grad = True
    tracemalloc.start()
    try:
        for _ in range(steps):
            h = mg.tanh(h)
        y = h.sum()
        del h
        forward, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        y.backward(retain_graph=retain)
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert forward > steps * size * 4
    assert peak - forward < 6 * size * 4  # a cotangent, its successor, and what the rule needs between
    assert after - retain * forward < 2 * size * 4  # x.grad


# Twice through one graph


@pytest.mark.parametrize("name", GRAPHS)
def test_a_second_backward_raises_before_any_gradient_has_changed(name):
    x, z = four(), four()
    y = GRAPHS[name](x)
    y.backward()
    old = x.grad
    with pytest.raises(GraphError, match=r"retain_graph=True.*detach\(\)") as caught:
        ((z * z).sum() + y).backward()
    assert isinstance(caught.value, (MinigradError, RuntimeError))
    assert z.grad is None and x.grad is old
    z.sum().backward()
    assert z.grad.tolist() == [1.0] * 4


def test_the_error_names_the_operation_whose_graph_is_gone():
    x = four()
    y = mg.tanh(x)
    y.sum().backward()
    with pytest.raises(GraphError, match="`tanh`"):
        (y * 2.0).sum().backward()


def test_truncated_backpropagation_without_detach_says_what_to_do():
    w, h = leaf(0.5), mg.tensor([1.0])
    h = mg.tanh(h * w)
    h.sum().backward()
    first = w.grad.item()
    h = mg.tanh(h * w)
    with pytest.raises(GraphError, match=r"detach\(\).*recurrent state"):
        h.sum().backward()
    assert w.grad.item() == first


@pytest.mark.parametrize("name", GRAPHS)
def test_a_retained_graph_gives_the_same_gradient_twice(name):
    x = four()
    y = GRAPHS[name](x)
    y.backward(retain_graph=True)
    once = x.grad.numpy().copy()
    y.backward()
    np.testing.assert_array_equal(x.grad.numpy(), 2 * once)


def test_gradients_accumulate_out_of_place():
    x = four()
    (x * x).sum().backward()
    old, array, values = x.grad, x.grad.data, x.grad.tolist()
    (x * x).sum().backward()
    assert x.grad is not old and x.grad.data is not array
    assert old.tolist() == values and x.grad.tolist() == [2 * v for v in values]


def test_after_grad_is_set_to_none_accumulation_begins_anew():
    x = four()
    x.sum().backward()
    x.grad = None
    x.sum().backward()
    assert x.grad.tolist() == [1.0] * 4


# What it computes


def test_only_leaves_get_a_gradient():
    x = four()
    h = x * 2.0
    y = h.sum()
    y.backward(retain_graph=True)
    assert h.grad is None and y.grad is None and x.grad is not None


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", GRAPHS)
def test_a_gradient_is_a_tensor_without_a_graph_like_its_leaf(name, dtype, backend):
    x = mg.tensor([0.5, -1.0, 2.0, 1.5], requires_grad=True, dtype=dtype, backend=backend)
    GRAPHS[name](x).backward()
    assert type(x.grad) is mg.Tensor and not x.grad.requires_grad and x.grad.node is None
    assert (x.grad.dtype, x.grad.shape, x.grad.backend) == (x.dtype, x.shape, backend)
    assert type(x.grad.data) is type(x.data)


def test_a_gradient_crosses_a_change_of_dtype_and_comes_back_in_the_dtype_of_its_leaf():
    x = four()
    y = x.astype("float64") * mg.tensor(3.0, dtype="float64")
    assert y.dtype == mg.float64
    y.sum().backward()
    assert x.grad.dtype == mg.float32 and x.grad.tolist() == [3.0] * 4


def test_backward_from_a_leaf_gives_the_cotangent_itself():
    x = four()
    x.backward([1.0, 2.0, 3.0, 4.0])
    x.backward(mg.tensor([1.0, 2.0, 3.0, 4.0]))
    assert x.grad.tolist() == [2.0, 4.0, 6.0, 8.0]


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_one_element_of_any_rank_needs_no_cotangent(shape):
    x = mg.full(shape, 3.0)
    x.requires_grad = True
    (x * x).backward()
    assert x.grad.shape == shape and x.grad.item() == 6.0


def test_a_leaf_that_only_unused_outputs_depend_on_gets_zeros_and_an_unrelated_one_nothing():
    x, z = four(), four()
    first, _ = mg.split(x, [0, 4])
    first.sum().backward()
    assert x.grad.tolist() == [0.0] * 4 and z.grad is None


def test_an_output_that_is_never_used_counts_as_zero():
    x = four()
    a, _, c, _ = mg.unstack(x)
    (a * 2.0 + c * 3.0).backward()
    assert x.grad.tolist() == [2.0, 0.0, 3.0, 0.0]


@pytest.mark.parametrize(
    "pieces", [["index", "sum"], ["sum", "index"], ["sum", "sum", "index"], ["index"] * 3 + ["sum"]]
)
def test_cotangents_that_come_in_pieces_and_whole_add_up_in_any_order(pieces):
    x = four()
    parts = {"index": lambda: x[1] * 10.0, "sum": lambda: (x + x).sum()}
    y = mg.stack([parts[name]() for name in pieces]).sum()
    y.backward()
    expected = np.full(4, 2.0 * pieces.count("sum"))
    expected[1] += 10.0 * pieces.count("index")
    assert x.grad.tolist() == expected.tolist()


def test_an_empty_tensor_has_an_empty_gradient():
    x = mg.zeros((0, 3))
    x.requires_grad = True
    (mg.exp(x) * x).sum().backward()
    assert x.grad.shape == (0, 3)


# Arrays that the user can see

VIEWS: dict[str, Callable[[mg.Tensor], mg.Tensor]] = {
    "itself": lambda x: x,
    "reshape": lambda x: x.reshape(2, 2).reshape(4),
    "transpose": lambda x: x.reshape(2, 2).T.T.reshape(4),
    "split": lambda x: mg.concat(mg.split(x, 2)),
    "slice": lambda x: x[:],
    "squeeze": lambda x: x.expand_dims(0).squeeze(0),
    "broadcast and sum": lambda x: x.broadcast_to((3, 4)).sum(axis=0),
    "broadcast, mean twice": lambda x: x.broadcast_to((2, 2, 4)).mean(axis=0).mean(axis=0),
    "plus itself": lambda x: x + x,
}


@given(st.lists(st.sampled_from(sorted(VIEWS)), min_size=2, max_size=6), st.booleans())
def test_a_diamond_of_views_sums_without_writing_into_any_array_that_the_user_can_see(names, retain):
    factor = {"broadcast and sum": 3.0, "plus itself": 2.0}
    x, z = four(), four()
    old = x * 1.0
    g = mg.tensor([1.0, 2.0, 3.0, 4.0])
    y = z + old
    for name in names:
        y = y + VIEWS[name](old)
    middle = y + y
    visible = [t.data for t in (x, z, old, g, y, middle)]
    before = [a.copy() for a in visible]
    middle.backward(g, retain_graph=retain)
    first = x.grad
    held = first.numpy().copy()
    z.sum().backward()
    (x * 1.0).backward(first)
    for a, b in zip(visible, before):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(first.numpy(), held)
    total = 2.0 * (1.0 + sum(factor.get(name, 1.0) for name in names))
    np.testing.assert_array_equal(held, total * g.numpy())  # small integers: exact


@pytest.mark.parametrize("y", [lambda x, z: x + z, lambda x, z: x.reshape(2, 2).reshape(4) - z, lambda x, z: x[:] + z])
def test_what_happens_to_one_gradient_later_does_not_reach_another_that_shares_its_memory(y):
    x, z, g = four(), four(), mg.tensor([1.0, 2.0, 3.0, 4.0])
    y(x, z).backward(g)
    (x * 5.0).sum().backward()
    assert np.abs(z.grad.numpy()).tolist() == g.tolist() == [1.0, 2.0, 3.0, 4.0]


# What it refuses


@pytest.mark.parametrize(
    ("backward", "error", "message"),
    [
        (lambda x: (x * x).backward(), GraphError, r"shape \(4,\) has no single gradient.*\.sum\(\)"),
        (lambda x: mg.split(x, 2)[0].backward(), GraphError, r"shape \(2,\)"),
        (lambda x: (x * x).backward(mg.ones((3,))), ShapeError, r"cotangent has shape \(3,\), the tensor \(4,\)"),
        (lambda x: (x * x).backward(1.0), ShapeError, r"cotangent has shape \(\)"),
        (lambda x: x.sum().backward(mg.ones((1,))), ShapeError, r"\(1,\)"),
        (lambda x: x.detach().sum().backward(), GraphError, "needs no gradient"),
        (lambda x: (x > 0).backward(), GraphError, "needs no gradient"),
        (lambda x: x.astype("int64").sum().backward(), GraphError, "needs no gradient"),
        (
            lambda x: x.backward(mg.ones((4,), backend="array_api_strict")),
            BackendMismatchError,
            r'"numpy".*"array_api_strict".*\.to\(',
        ),
    ],
)
def test_backward_refuses_what_has_no_answer_and_changes_nothing(backward, error, message):
    x = four()
    with pytest.raises(error, match=message):
        backward(x)
    assert x.grad is None


def test_a_cotangent_of_another_dtype_is_taken_in_the_dtype_of_the_tensor():
    x = four()
    (x * 1.0).backward(np.arange(4.0))
    (x * 1.0).backward(mg.tensor(np.arange(4)))
    assert x.grad.dtype == mg.float32 and x.grad.tolist() == [0.0, 2.0, 4.0, 6.0]


def test_a_rule_that_fails_leaves_every_gradient_as_it_was():
    @mg.primitive
    def fails(xp, x, /):
        """x, whose rule raises."""
        return x + 0

    @fails.vjp
    def rule(g):
        raise ZeroDivisionError

    x, z = four(), four()
    with pytest.raises(ZeroDivisionError):
        (fails(x) + z).sum().backward()
    assert x.grad is None and z.grad is None


# Recording, or not


def records() -> bool:
    return (leaf(1.0) * 2.0).requires_grad


def test_nothing_is_recorded_under_no_grad_but_within_enable_grad():
    with mg.no_grad():
        assert not records()
        with mg.enable_grad():
            assert records()
            with mg.no_grad():
                assert not records()
            assert records()
        assert not records()
    assert records()


@pytest.mark.parametrize("mode", [mg.no_grad, mg.enable_grad])
def test_a_mode_ends_with_its_block_when_that_raises(mode):
    with pytest.raises(KeyError), mode():
        raise KeyError
    assert records()


def test_one_no_grad_may_be_entered_again_inside_itself():
    off = mg.no_grad()
    with off:
        with off:
            assert not records()
        assert not records()
    assert records()


def test_no_grad_decorates_a_function_that_calls_itself():
    @mg.no_grad()
    def recorded(depth):
        """How often something was recorded."""
        return records() + (recorded(depth - 1) if depth else 0)

    assert recorded(3) == 0 and recorded.__name__ == "recorded"
    assert records()


def test_a_decorated_function_runs_in_two_threads_at_once():
    entered, first_left = threading.Event(), threading.Event()
    seen = []

    @mg.no_grad()
    def work(announce: threading.Event | None, wait: threading.Event) -> bool:
        if announce:
            announce.set()
        wait.wait(10)
        return records()

    def second() -> None:
        seen.append((work(entered, first_left), records()))

    def first() -> None:
        seen.append((work(None, entered), records()))
        first_left.set()

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert seen == [(False, True)] * 2


def test_a_leaf_made_under_no_grad_is_a_leaf_all_the_same():
    with mg.no_grad():
        x = leaf(2.0)
    (x * x).backward()
    assert x.grad.item() == 4.0


def test_a_backward_pass_runs_under_no_grad_and_leaves_no_graph():
    x = leaf(2.0)
    y = x * x
    with mg.no_grad():
        y.backward()
    assert x.grad.item() == 4.0 and not x.grad.requires_grad


# Threads and tasks


def settings_now() -> tuple:
    return graph.grad_enabled.get(), graph.watcher.get(), backends._current.get(), mg.random._stream.get()


@pytest.mark.parametrize(
    "enter", [mg.no_grad, mg.detect_anomaly, lambda: mg.use("array_api_strict"), lambda: mg.seed(7)]
)
def test_a_setting_of_one_thread_is_not_seen_by_another(enter):
    inside, done = threading.Event(), threading.Event()
    seen = {}

    def work():
        seen["other, before"] = settings_now()
        with enter():
            seen["other, inside"] = settings_now()
            inside.set()
            done.wait(10)

    before = settings_now()
    thread = threading.Thread(target=work)
    with enter():
        thread.start()
        assert inside.wait(10)
    assert settings_now() == before
    done.set()
    thread.join(10)
    assert seen["other, before"] == (True, None, None, None)
    assert seen["other, inside"] != seen["other, before"]


def test_a_seed_in_one_thread_does_not_disturb_the_numbers_of_another():
    with mg.seed(3):
        expected = mg.random.normal((4,)).tolist()
    with mg.seed(3):
        first = mg.random.normal((2,)).tolist()
        thread = threading.Thread(target=lambda: (mg.seed(99), mg.random.normal((5,))))
        thread.start()
        thread.join(10)
        assert first + mg.random.normal((2,)).tolist() == expected


def test_tasks_that_take_turns_keep_their_own_settings():
    async def task(mode, expected):
        with mode():
            for _ in range(3):
                await asyncio.sleep(0)
                assert records() is expected

    async def both():
        await asyncio.gather(task(mg.no_grad, False), task(mg.enable_grad, True))

    asyncio.run(both())


def test_independent_graphs_run_backward_in_several_threads():
    results: dict[int, float] = {}
    start = threading.Barrier(4)

    def work(k: int) -> None:
        start.wait(10)
        w, h = leaf(1.0), mg.tensor([float(k)])
        for _ in range(300):
            a, b = mg.split(mg.concat([h * w, h]), 2)
            h = a + b - b
        h.backward()
        results[k] = w.grad.item()

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results == {k: 300.0 * k for k in range(4)}


# Memory


def too_large(*_, **__):
    raise MemoryError("Unable to allocate 4 EiB")


def test_an_operation_without_memory_for_its_result_says_what_needs_less():
    tall, wide = mg.zeros((2**20, 1)), mg.Tensor(np.broadcast_to(np.float32(1), (2**30,)))
    with pytest.raises(OutOfMemoryError, match=r"^add\(float32\(1048576, 1\), float32\(1073741824,\)\): .*remat"):
        tall + wide
    assert issubclass(OutOfMemoryError, MemoryError)


def test_a_backward_pass_without_memory_names_its_operation():
    @mg.primitive
    def f(xp, x, /):
        return x * 1

    f.vjp(lambda g: too_large())
    with pytest.raises(OutOfMemoryError, match=r"^the backward pass of `f`: Unable to allocate 4 EiB. A smaller batch"):
        f(mg.tensor(1.0, requires_grad=True)).backward()


def test_a_compiled_loop_without_memory_says_how_many_steps_it_has(monkeypatch):
    def step(x, h):
        h = mg.tanh(x + h)
        return h, h

    x = mg.tensor(np.ones((5, 2)), requires_grad=True)
    mg.scan(step, x, x[0])
    monkeypatch.setattr(program.Part, "run", too_large)
    with pytest.raises(OutOfMemoryError, match=r"^scan over 5 steps: Unable"):
        mg.scan(step, x, x[0])
