"""What cannot be recorded says so and names the way out; what is wrong says what; and afterwards all is as before."""

from __future__ import annotations

import copy
import math
import random
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import errors, nn
from minigrad.errors import ArgumentError, InPlaceError, MinigradError, OutOfRangeError, RecordingError, ShapeError

from .helpers import agrees, data, equal, fixed, leaf, loop, named, ran, simple


def recording_error() -> type[Exception]:
    return errors.RecordingError


def test_the_error_of_recording_is_of_the_family_and_a_runtime_error():
    assert issubclass(recording_error(), MinigradError) and issubclass(recording_error(), RuntimeError)


# What depends on values that only a run has. Each step runs in the loop; `word` is one that the message must have.


def branches(x, h):
    if mg.all(x > 0):
        return h, h
    return x, h + x


def branches_on_a_number(x, h):
    return (h if mg.sum(x) > 0 else x), h


def chooses_with_or(x, h):
    return h, h * (mg.any(x > 0) or 1)


def waits_for_convergence(x, h):
    while mg.max(mg.abs(h)) > 0.01:
        h = h * 0.1
    return h, x


def asserts(x, h):
    assert mg.all(h == h)
    return h, h + x


BRANCHES = [branches, branches_on_a_number, chooses_with_or, waits_for_convergence, asserts]

READS = {
    "float": lambda x, h: (h * float(mg.sum(x)), h),
    "int": lambda x, h: (h * int(mg.sum(x)), h),
    "item": lambda x, h: (h * mg.sum(x).item(), h),
    "numpy": lambda x, h: (h + mg.tensor(x.numpy()), h),
    "tolist": lambda x, h: (h * sum(x[0].tolist()), h),
    "asarray": lambda x, h: (h + np.asarray(x), h),
    "array": lambda x, h: (h + np.array(x, copy=True), h),
    "a function of numpy": lambda x, h: (h + mg.tensor(np.stack([x, x]))[0], h),
    "math": lambda x, h: (h * math.exp(mg.mean(x)), h),
    "format": lambda x, h: (h * float(f"{mg.mean(x):.3f}"), h),
    "range": lambda x, h: (h * sum(range(mg.argmax(x[0]))), h),
    "a list by index": lambda x, h: (h * [1.0, 2.0][mg.argmax(x[0])], h),
    "a copy by tensor": lambda x, h: (h + mg.tensor(x), h),
    "the array inside": lambda x, h: (h + mg.tensor(np.tanh(x.data)), h),
}

NOISE = {
    "dropout": lambda x, h: (h, mg.tanh(x + mg.dropout(h, 0.5))),
    "normal": lambda x, h: (h, mg.tanh(x + h + mg.random.normal(h.shape, dtype="float64"))),
    "uniform": lambda x, h: (h, mg.tanh(x + h + mg.random.uniform((2, 2), dtype="float64"))),
    "bernoulli": lambda x, h: (h, mg.where(mg.random.bernoulli(h, 0.5), x, h)),
    "a generator": lambda x, h: (h, h * float(mg.random.generator().normal())),
    "a layer of dropout": lambda x, h, drop=nn.Dropout(0.5): (h, drop(h) + x),  # noqa: B008
}

MASKS = {
    "a mask": lambda x, h: (mg.sum(x[x > 0]), h),
    "a mask of rows": lambda x, h: (mg.sum(x[mg.sum(h, axis=-1) > 0]), h),
    "a mask in a tuple": lambda x, h: (mg.sum(x[..., (h > 0)[0]]), h),
    "writing by a mask": lambda x, h: (mg.index_update(x, x > 0, 0.0), h),
}


def refused(step: Any, word: str) -> None:
    """Not recorded, in so many words; the loop, unrolled, does it."""
    xs, h = fixed(3, 2, 2), fixed(2, 2, seed=1)
    for _ in range(2):
        with pytest.raises(recording_error(), match=word):
            mg.scan(step, xs, h)
    with mg.seed(0):
        expected = named(*loop(step, xs, h))
    with mg.seed(0):
        equal(named(*mg.scan(step, xs, h, unroll="eager")), expected)
    step, weights = simple()
    xs, h, inputs = data()
    agrees(step, xs, h, leaves={**weights, **inputs})


@pytest.mark.parametrize("step", BRANCHES, ids=lambda step: step.__name__)
def test_a_branch_on_a_value_names_where_and_unroll(step):
    refused(step, r"(?s)(where.*unroll|unroll.*where)")


@pytest.mark.parametrize("step", READS.values(), ids=READS)
def test_asking_a_tensor_for_its_value_names_unroll(step):
    refused(step, "unroll")


@pytest.mark.parametrize("step", NOISE.values(), ids=NOISE)
def test_noise_drawn_in_the_step_names_the_inputs_as_its_place(step):
    refused(step, r"(?s)(xs.*unroll|unroll.*xs)")


@pytest.mark.parametrize("step", MASKS.values(), ids=MASKS)
def test_a_mask_as_an_index_names_where(step):
    refused(step, r"(?s)(where.*unroll|unroll.*where)")


def test_noise_that_is_turned_off_is_none():
    xs, h, leaves = data(size=2)
    off = nn.Dropout(0.5).eval()
    agrees(lambda x, h: (off(h), mg.dropout(mg.tanh(x + h), 0.0)), xs, h, leaves=leaves)
    agrees(lambda x, h: (h, mg.dropout(mg.tanh(x + h), 0.5, training=False)), xs, h, leaves=leaves)


def test_recording_draws_nothing_from_the_stream_of_random_numbers():
    step, _ = simple()
    with mg.seed(3):
        mg.scan(step, *data()[:2])
        after = mg.random.normal((4,)).tolist()
    with mg.seed(3):
        assert after == mg.random.normal((4,)).tolist()


def test_a_tensor_that_leaks_out_of_the_step_has_no_value():
    leaked = []

    def step(x, h):
        h = mg.tanh(x + h)
        leaked.append(h)
        return h, h

    agrees(step, fixed(3, 2), fixed(2))
    leaked.clear()
    mg.scan(lambda x, h: step(x, h * 2), fixed(3, 2), fixed(2))
    if len(leaked) != 3:  # else it was run, and not recorded
        with pytest.raises(recording_error()):
            leaked[0].numpy()
        with pytest.raises(MinigradError):
            leaked[0] + fixed(2)


def test_writing_into_a_tensor_is_refused_as_everywhere():
    def writes(x, h):
        x[0] = 0.0
        return x, h

    def adds(x, h):
        h += x
        return x, h

    for step in (writes, adds):
        with pytest.raises(InPlaceError, match="index_update"):
            mg.scan(step, *data(size=2)[:2])


# Steps that the loop runs and that are odd: equal to the loop, or refused by name; never wrong


def grows(x, h):
    return mg.sum(h), mg.concat([h, x], axis=0)


def alternates_its_dtype(x, h):
    return h, (x + h).astype("float32" if h.dtype == np.dtype("float64") else "float64")


def loses_an_axis(x, h):
    return x, (h[0] if h.ndim > 1 else h + x)


def has_outputs_of_numbers(x, h):
    return 1.0, mg.tanh(x + h)


def has_outputs_of_arrays(x, h):
    return np.ones(3), mg.tanh(x + h)


def has_a_number_as_state(x, state):
    return x * state[1], (mg.tanh(x + state[0]), state[1] * 2)


def takes_a_gradient(x, h):
    g = mg.grad(lambda w: (mg.tanh(w * x) * h).sum())(h)
    return g, mg.tanh(h - 0.1 * g)


def recomputes(x, h):
    h = mg.remat(lambda x, h: mg.tanh(x * h) * h)(x, h)
    return h, h


def makes_a_leaf(x, h):
    w = mg.ones((2,), dtype="float64")
    w.requires_grad = True
    return x * w, mg.tanh(h * w + x)


def copies_deeply(x, h):
    return copy.deepcopy(x.detach()) + h, mg.tanh(x + h)


def counts_its_calls(x, h, seen=[0]):  # noqa: B006
    seen[0] += 1
    return h, mg.tanh(x + h)


ODD = [grows, alternates_its_dtype, loses_an_axis, has_outputs_of_numbers, has_outputs_of_arrays]
ODD += [has_a_number_as_state, takes_a_gradient, recomputes, makes_a_leaf, copies_deeply]
ODD += [counts_its_calls]


@pytest.mark.parametrize("step", ODD, ids=lambda step: step.__name__)
def test_an_odd_step_equals_the_loop_or_is_refused(step):
    xs, h, leaves = data(size=2)
    init = (h, 1.0) if step is has_a_number_as_state else h
    with np.errstate(all="ignore"):
        expected = ran(loop, step, xs, init, leaves=leaves)
        try:
            actual = ran(mg.scan, step, xs, init, leaves=leaves)
        except MinigradError:
            return
    for a, e in zip(actual, expected):
        equal(a, e)


# Wrong arguments


WRONG_RESULTS = {
    "one tensor": lambda x, h: h,
    "a list": lambda x, h: [h, h],
    "three": lambda x, h: (h, h, h),
    "nothing": lambda x, h: None,
    "one": lambda x, h: (h,),
}


@pytest.mark.parametrize("step", WRONG_RESULTS.values(), ids=WRONG_RESULTS)
def test_a_step_that_does_not_return_an_output_and_a_state_is_refused(step):
    with pytest.raises(ArgumentError, match=r"\(out, state\)"):
        mg.scan(step, *data(size=2)[:2])


CHANGED = {
    "a tuple that becomes a tensor": (lambda h: (h,), lambda x, s: (x, s[0] if isinstance(s, tuple) else s)),
    "a tensor that becomes a tuple": (lambda h: h, lambda x, s: (x, (s if isinstance(s, mg.Tensor) else s[0],))),
    "one more": (lambda h: (h,), lambda x, s: (x, (*s, x))),
    "one less": (lambda h: (h, h, h), lambda x, s: (x, s[:2])),
    "other keys": (lambda h: {"a": h}, lambda x, s: (x, {"b": next(iter(s.values())) + x})),
    "none": (lambda h: h, lambda x, s: (x, None)),
}


@pytest.mark.parametrize(("init", "step"), CHANGED.values(), ids=CHANGED)
def test_a_state_that_changes_its_structure_is_refused(init, step):
    xs, h, _ = data(size=2)
    with pytest.raises(MinigradError, match="state"):
        mg.scan(step, xs, init(h))


def test_inputs_of_different_lengths_are_refused_with_their_lengths():
    with pytest.raises(ShapeError, match=r"(?s)3.*4"):
        mg.scan(lambda x, h: (h, h), (fixed(3, 2), fixed(4, 2)), fixed(2))


def test_inputs_without_time_are_refused():
    for xs in (mg.tensor(1.0), [1.0, 2.0], (fixed(3), mg.tensor(1.0))):
        with pytest.raises(ShapeError):
            mg.scan(lambda x, h: (h, h), xs, fixed(2))


@pytest.mark.parametrize("xs", [(), {}, None, ((), [])])
def test_inputs_without_a_tensor_are_refused(xs):
    with pytest.raises(ArgumentError, match="xs"):
        mg.scan(lambda x, h: (h, h), xs, fixed(2))


@pytest.mark.parametrize(
    "options",
    [{"unroll": u} for u in ("fast", True, None, 4)] + [{"remat": r} for r in ("cube", 0, -1, 2.5, True, [2])],
    ids=str,
)
def test_an_option_that_means_nothing_is_refused(options):
    (name,) = options
    step, _ = simple()
    with pytest.raises(ArgumentError, match=name):
        mg.scan(step, *data()[:2], **options)


# Errors in the step, and what comes after them


def test_shapes_that_do_not_fit_name_the_operation_and_the_next_call_is_right():
    step, weights = simple()
    xs, h, inputs = data()
    leaves = {**weights, **inputs}
    for _ in range(2):
        with pytest.raises(ShapeError, match="matmul"):
            mg.scan(step, fixed(4, 2, 5), h)
        with pytest.raises(ShapeError, match="add"):
            mg.scan(step, xs, fixed(5, 3))
        agrees(step, xs, h, leaves=leaves)


def test_outputs_of_different_shapes_are_refused_or_broadcast():
    """One row at first, then all of them: a state that broadcasts, and comes out before. The loop cannot stack them."""
    xs, h = fixed(3, 4, 2), fixed(1, 2)
    try:
        outs, _ = mg.scan(lambda x, h: (h, x + h), xs, h)
    except ShapeError:
        return
    expected, _ = loop(lambda x, h: (h, x + h), xs, mg.broadcast_to(h, (4, 2)))
    equal(named(outs, ()), named(expected, ()))


TABLE = leaf(5, 2)
LOOKUPS = {
    "embedding": lambda i: mg.embedding(TABLE, i),
    "take": lambda i: mg.take(TABLE, i, axis=0),
    "index": lambda i: TABLE[i],
    "take_along_axis": lambda i: mg.take_along_axis(TABLE, mg.stack([i, i], axis=-1), axis=0),
    "one_hot": lambda i: mg.one_hot(i, 5) @ TABLE,
    "cross_entropy": lambda i: mg.cross_entropy(TABLE.T[: i.shape[0]], i, reduction="none")[:, None] + TABLE[0],
}
COUNT_BACK = ("take", "index", "take_along_axis")  # where negative numbers are allowed, down to -5


@pytest.mark.parametrize("name", LOOKUPS)
@pytest.mark.parametrize("where", ["in the input", "in the state"])
def test_an_index_out_of_range_is_refused_when_it_comes_and_the_next_call_is_right(name, where):
    def step(x, state):
        h, n = state
        h = mg.tanh(h + LOOKUPS[name](x if where == "in the input" else n))
        return h, (h, n + 1 + 0 * x)

    h, leaves = leaf(2, 2), {"table": TABLE}
    start = mg.tensor([0, 1], dtype="int64")
    good = mg.tensor([[0, 1], [2, 4], [1, 1]], dtype="int64")
    agrees(step, good, (h, start), leaves=leaves)
    for wrong in (5, 100, -6, *(() if name in COUNT_BACK else (-1,))):
        with pytest.raises(OutOfRangeError):
            if where == "in the input":
                mg.scan(step, mg.tensor([[0, 1], [2, wrong], [1, 1]], dtype="int64"), (h, start))
            else:
                mg.scan(step, good, (h, mg.tensor([0, wrong - 2 if wrong > 0 else wrong], dtype="int64")))
        agrees(step, good, (h, start), leaves=leaves)
    if name in COUNT_BACK:
        agrees(step, good - 5 if where == "in the input" else good, (h, start - 5), leaves=leaves)


def test_an_error_halfway_leaves_other_graphs_as_they_were():
    def step(token, h):
        h = mg.tanh(h + mg.embedding(TABLE, token))
        return h, h

    good, bad = (mg.tensor(rows, dtype="int64") for rows in ([[0, 1], [2, 4]], [[0, 1], [2, 5]]))
    h = leaf(2, 2)
    expected = ran(loop, step, good, h, leaves={"h": h, "table": TABLE})
    outs, state = mg.scan(step, good, h)
    with pytest.raises(OutOfRangeError):
        mg.scan(step, bad, h)
    equal(named(outs, state), expected[0])
    TABLE.grad = h.grad = None
    for a, e in zip(ran(lambda *args: (outs, state), step, good, h, leaves={"h": h, "table": TABLE}), expected):
        equal(a, e)


# Steps that are no pure functions


def test_a_step_that_counts_its_calls_on_an_object_is_refused_by_name():
    class Counting(nn.Cell):
        count = 0

        def forward(self, x, h):
            self.count += 1
            return h * self.count, h + x

    cell = Counting(2, 2)
    cell.count = 0
    with pytest.raises(RecordingError, match=r"`count`.*belongs in the state"):
        nn.Recurrent(cell)(mg.ones((3, 2, 2)))


def test_a_step_that_counts_in_a_variable_around_it_is_refused_by_name():
    total = 0

    def step(x, h):
        nonlocal total
        total += 1
        return h, h + x * total

    with pytest.raises(RecordingError, match="`total`"):
        mg.scan(step, mg.ones((3, 2)), mg.zeros((2,)))


def test_a_step_that_keeps_a_tensor_on_the_cell_is_refused_by_name():
    class Keeping(nn.Cell):
        last = None

        def forward(self, x, h):
            self.last = h + x
            return self.last, self.last

    with pytest.raises(RecordingError, match="`last`"):
        nn.Recurrent(Keeping(2, 2))(mg.ones((3, 2, 2)))


NUMPY_NOISE = {
    "numpy's own": lambda x, h: (h, h + x * np.random.rand()),  # noqa: NPY002
    "python's own": lambda x, h: (h, h + x * random.random()),
}


@pytest.mark.parametrize("step", NUMPY_NOISE.values(), ids=NUMPY_NOISE)
def test_noise_from_elsewhere_is_refused_too(step):
    with pytest.raises(RecordingError, match="draws random numbers"):
        mg.scan(step, mg.ones((3, 2)), mg.zeros((2,)))
