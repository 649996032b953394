"""What `mg.scan` promises: the loop's numbers in every structure, and as a part of a graph."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, tree
from minigrad.errors import GraphError, MinigradError
from tests.nn.helpers import MGU, in_float64
from tests.strategies import as_numpy

from .helpers import agrees, data, equal, fixed, forget, gradients, leaf, loop, named, ran, simple, structure, weighted

# What it is


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("T", [1, 2, 7])
def test_it_is_the_step_called_again_and_again(T, reverse):
    step, weights = simple()
    xs, h, inputs = data(T)
    agrees(step, xs, h, leaves={**weights, **inputs}, reverse=reverse)


def test_a_sum_over_time_is_what_anyone_would_add_up():
    xs = mg.tensor([1.0, 2.0, 4.0, 8.0])
    outs, total = mg.scan(lambda x, s: (s + x, s + x), xs, mg.tensor(0.0))
    assert outs.tolist() == [1.0, 3.0, 7.0, 15.0] and total.item() == 15.0
    outs, total = mg.scan(lambda x, s: (s + x, s + x), xs, mg.tensor(0.0), reverse=True)
    assert outs.tolist() == [15.0, 14.0, 12.0, 8.0] and total.item() == 15.0


def test_outputs_of_a_reverse_scan_stand_at_their_own_time():
    n, _ = mg.scan(lambda x, n: ((x, n), n + 1), mg.arange(5), mg.arange(1)[0], reverse=True)
    assert n[0].tolist() == [0, 1, 2, 3, 4] and n[1].tolist() == [4, 3, 2, 1, 0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values_and_gradients_have_the_dtype_of_what_they_belong_to(dtype):
    step, weights = simple(dtype=dtype)
    xs, h, inputs = data(dtype=dtype)
    outs, state = mg.scan(step, xs, h)
    weighted((outs, state)).backward()
    for x in (outs, state, *(w.grad for w in (*weights.values(), *inputs.values()))):
        assert x.dtype == xs.dtype


def test_it_runs_on_every_backend(backend):
    W, xs, h = (leaf(*shape).to(backend).detach() for shape in [(3, 3), (4, 2, 3), (2, 3)])
    for x in (W, xs, h):
        x.requires_grad = True

    def step(x, h):
        h = mg.tanh(mg.concat([x, h], axis=-1)[:, :3] @ W + mg.sum(h, axis=-1, keepdims=True))
        return h * 2, h

    agrees(step, xs, h, leaves={"W": W, "xs": xs, "h": h})
    outs, state = mg.scan(step, xs, h)
    weighted((outs, state)).backward()
    assert outs.backend == state.backend == xs.grad.backend == W.grad.backend == backend


def test_tens_of_thousands_of_steps_run_forward_and_backward():
    T = 20_000
    xs, h = mg.ones((T, 1), dtype="float64"), mg.tensor(np.zeros(1), requires_grad=True)
    xs.requires_grad = True
    for unroll in ("compiled", "eager"):
        outs, state = mg.scan(lambda x, h: (h, h + x), xs, h, unroll=unroll)
        np.testing.assert_array_equal(outs.numpy()[:, 0], np.arange(T))
        xs.grad = h.grad = None
        (outs.sum() + state.sum()).backward()
        np.testing.assert_array_equal(xs.grad.numpy()[:, 0], np.arange(T, 0, -1))
        assert h.grad.item() == T + 1


def test_a_scan_over_no_steps_has_empty_outputs_and_the_state_it_began_with_on_every_backend(backend):
    def step(x, h):
        return {"twice": x * 2, "sum": mg.sum(h)}, h + x

    outs, state = mg.scan(step, mg.zeros((0, 2), backend=backend), mg.ones((2,), backend=backend))
    assert (outs["twice"].shape, outs["sum"].shape, state.tolist()) == ((0, 2), (0,), [1.0, 1.0])
    assert outs["twice"].backend == state.backend == backend


@pytest.mark.parametrize("shapes", [((3, 0, 2), (0, 3)), ((3, 2, 0), (2, 3)), ((3, 2, 2), (2, 0))])
def test_an_axis_of_length_zero_is_an_axis(shapes):
    xs, h = leaf(*shapes[0]), leaf(*shapes[1])
    W, U = leaf(shapes[0][-1], shapes[1][-1]), leaf(shapes[1][-1], shapes[1][-1])

    def step(x, h):
        h = mg.tanh(mg.concat([x, h], axis=-1) @ mg.concat([W, U]) + x @ W)
        return (h, mg.sum(h, axis=-1)), h

    agrees(step, xs, h, leaves={"xs": xs, "h": h, "W": W, "U": U})


@pytest.mark.parametrize("cell", [nn.ElmanCell, nn.LSTMCell, nn.GRUCell, MGU])
@pytest.mark.parametrize("reverse", [False, True])
def test_the_cells_of_the_library_are_steps(cell, reverse):
    cell = in_float64(cell(2, 3))
    xs, init = leaf(4, 2, 2), tree.map(lambda s: leaf(*s.shape), cell.initial_state(2))
    leaves = {"xs": xs, **{f"init {i}": s for i, s in enumerate(tree.leaves(init))}, **dict(cell.named_parameters())}
    agrees(cell, xs, init, leaves=leaves, reverse=reverse)


# Structures


class State(NamedTuple):
    """A state with names."""

    h: Any
    count: Any


def test_outputs_and_states_come_in_the_structure_that_the_step_returns():
    def step(x, state, w, rest):
        h = mg.tanh(x["a"][0] * w + state.h * rest["u"] + x["b"])
        return {"h": h, "all": [(h * 2,), None, State(h, state.count)]}, State(h, state.count + 1)

    xs = {"a": [leaf(4, 2, 3)], "b": leaf(4, 2, 1)}
    init = State(leaf(2, 3), mg.tensor(0, dtype="int64"))
    context = (leaf(3), {"u": leaf(1)})
    leaves = {str(i): x for i, x in enumerate(tree.leaves((xs, init.h, context)))}
    agrees(step, xs, init, context, leaves=leaves)
    assert structure(mg.scan(step, xs, init, context)) == structure(loop(step, xs, init, context))
    outs, state = mg.scan(step, xs, init, list(context))
    assert outs["all"][2].count.tolist() == [0, 1, 2, 3] and state.count.item() == 4


def test_a_step_may_have_no_output_or_no_state():
    xs, h, _ = data(size=2)
    outs, state = mg.scan(lambda x, h: (None, mg.tanh(h + x)), xs, h)
    assert outs is None
    equal(named((), state), named((), loop(lambda x, h: (None, mg.tanh(h + x)), xs, h)[1]))
    agrees(lambda x, state: (x * 2, state), xs, (), leaves={"xs": xs})
    assert mg.scan(lambda x, state: (x * 2, state), xs, ())[1] == ()
    agrees(lambda x, h: (x * 2, h), xs, None, leaves={"xs": xs})


def test_arrays_of_numpy_are_taken_as_inputs():
    step, weights = simple()
    _, h, _ = data()
    array = np.random.default_rng(0).normal(size=(4, 2, 2))
    expected = ran(loop, step, mg.tensor(array), h, leaves={**weights, "h": h})
    for a, e in zip(ran(mg.scan, step, array, h, leaves={**weights, "h": h}), expected):
        equal(a, e)


def test_one_tensor_in_several_places_has_the_sum_of_their_gradients():
    x = leaf(3, 3)

    def step(row, h, c):
        h = mg.tanh(row @ x + h @ c["c"] + row * x[0])
        return h, h

    agrees(step, x, x[0].detach(), ({"c": x},), leaves={"x": x})
    agrees(step, x, x, ({"c": x},), leaves={"x": x})
    h = leaf(2)
    agrees(lambda x, s: (s[0] * s[1], (s[1] * 0.9, mg.tanh(s[0] + x))), leaf(3, 2), (h, h), leaves={"h": h})
    agrees(lambda x, h: (x["a"] * x["b"] + h, h), {"a": x, "b": x}, x, leaves={"x": x})


def test_a_weight_may_be_used_outside_of_the_step_as_well():
    step, weights = simple()
    xs, h, inputs = data()

    def scan(run):
        def scanned(step, xs, h, context, **_):
            outs, state = run(step, xs @ weights["W"] @ weights["W"].T, h * 2 + weights["b"])
            return outs @ weights["U"] + xs @ weights["W"], mg.tanh(state)

        return scanned

    leaves = {**weights, **inputs}
    expected, actual = (ran(scan(run), step, xs, h, leaves=leaves) for run in (loop, mg.scan))
    for a, e in zip(actual, expected):
        equal(a, e)


PASSING = {
    "the state": lambda x, h: (h, h),
    "the input, and the state stays": lambda x, h: (x, h),
    "the input, which becomes the state": lambda x, h: (x, x),
    "the state before": lambda x, h: (h, x),
    "both as they are": lambda x, h: ((h, x), mg.tanh(h)),
    "the same twice": lambda x, h: ((h, h), h + x),
    "a detached part": lambda x, h: (x.detach() * h, h.detach() + x),
    "a constant": lambda x, h: (mg.ones((2,), dtype="float64"), h + mg.zeros((2, 2), dtype="float64")),
    "nothing of the state": lambda x, h: (mg.tanh(x @ mg.eye(2, dtype="float64")), h * 0),
    "a view": lambda x, h: ((h.T, h[:, 0], h[::-1], mg.broadcast_to(h, (3, 2, 2))), mg.flip(h)),
    "views of one value": lambda x, h: tuple(mg.split(mg.tanh(mg.concat([x, h], axis=-1)), 2, axis=-1)),
    "a view as the state": lambda x, h: (h, mg.matrix_transpose(h)),
    "a value without a gradient": lambda x, h: (mg.no_grad()(mg.tanh)(h) * x, h),
}


@pytest.mark.parametrize("step", PASSING.values(), ids=PASSING)
@pytest.mark.parametrize("reverse", [False, True])
def test_what_is_passed_through_cut_off_or_left_unused_is_what_the_loop_has(step, reverse):
    xs, h, leaves = data(size=2)
    agrees(step, xs, h, leaves=leaves, reverse=reverse)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_states_that_change_places_and_states_of_steps_before(steps):
    xs, h, leaves = data(steps, size=2)
    a, b = leaf(2, 2, seed=1), leaf(2, 2, seed=2)
    leaves = {**leaves, "a": a, "b": b}
    agrees(lambda x, s: (s[0] + x, (s[1], s[0])), xs, (a, b), leaves=leaves)
    agrees(lambda x, s: (s[2] * x, (s[1], s[2], s[0])), xs, (a, b, h), leaves=leaves)
    agrees(lambda x, s: (s[0] - s[2], (mg.tanh(x + s[2]), s[0], s[1])), xs, (a, b, h), leaves=leaves)
    agrees(lambda x, s: (s[1], (mg.tanh(x + s[0] * s[1]), s[0])), xs, (a, b), leaves=leaves)


def test_a_value_that_lies_in_a_concatenation_may_be_reshaped_for_a_sum_over_time():
    xs, h, leaves = data(3, size=2)
    h1, W, b = leaf(2, 4, seed=1), leaf(6, 1, seed=2), leaf(1, seed=3)

    def step(x, state):
        h, h1 = state
        z = mg.concat([h1 + h1, h], axis=1) @ W + b
        rows = mg.concat([h1 * z, h * z], axis=1).T.reshape(3, 4)
        return rows.T @ (rows * 0.5), (h + x, 0.5 * h1 + mg.mean(rows))

    agrees(step, xs, (h, h1), leaves={**leaves, "h1": h1, "W": W, "b": b})


def test_a_part_of_a_concatenation_may_be_reshaped_within_the_loop():
    xs, h, leaves = data(4, size=2)
    W, w = leaf(4, 2, seed=2), leaf(1, 4, seed=3)

    def step(x, h):
        p = mg.tanh(x + h)
        joined = mg.concat([p, 0.5 * h], axis=1) @ W
        row = mg.reshape(p, (1, 4)) * w
        h = mg.tanh(joined + mg.sum(row) + mg.reshape(row, (2, 2)))
        return row, h

    agrees(step, xs, h, leaves={**leaves, "W": W, "w": w})


def test_integers_and_booleans_may_be_states_inputs_and_outputs():
    table, xs = leaf(5, 3), mg.tensor([[0, 4], [2, 2], [1, 0], [4, 4]], dtype="int64")
    start = (leaf(2, 3), mg.tensor(0, dtype="int64"), mg.tensor([False, False]))

    def step(token, state):
        h, n, done = state
        h = mg.where(mg.expand_dims(done, axis=-1), h, mg.tanh(0.5 * h + mg.embedding(table, token)))
        done = done | (token == 2)
        return (h * n, mg.argmax(h, axis=-1), done, n), (h, n + 1, done)

    agrees(step, xs, start, leaves={"table": table, "h": start[0]})
    outs, state = mg.scan(step, xs, start)
    assert state[1].item() == 4 and outs[3].tolist() == [0, 1, 2, 3] and state[2].tolist() == [True, True]
    assert not outs[1].requires_grad and not state[1].requires_grad


def test_a_state_of_integers_alone_counts():
    outs, n = mg.scan(lambda x, n: (n * x, n + x), mg.arange(5), mg.tensor(1, dtype="int64"))
    assert outs.tolist() == [0, 1, 4, 12, 28] and n.item() == 11 and n.dtype == mg.int64


# A state that the first step changes


PROMOTED = {
    "float32 that becomes float64": lambda: mg.zeros((2, 2), dtype="float32"),
    "one row for all": lambda: leaf(1, 2),
    "a number for all": lambda: mg.tensor(np.array(0.5)),
    "a row for all": lambda: leaf(2),
    "integers that become floats": lambda: mg.zeros((2, 2), dtype="int64"),
    "one row of float32": lambda: leaf(1, 2, dtype="float32"),
}


@pytest.mark.parametrize("init", PROMOTED.values(), ids=PROMOTED)
@pytest.mark.parametrize("T", [1, 2, 4])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_state_that_the_first_step_widens_is_what_the_loop_has(init, T, reverse):
    xs, h = leaf(T, 2, 2), init()

    def step(x, h):
        h = mg.tanh(x + 0.5 * h)
        return h, h

    leaves = {"xs": xs, **({"h": h} if h.requires_grad else {})}
    for _ in range(2):
        agrees(step, xs, h, leaves=leaves, reverse=reverse)
        with mg.no_grad():
            equal(named(*mg.scan(step, xs, h, reverse=reverse)), named(*loop(step, xs, h, reverse=reverse)))


ODD_AT_FIRST = {
    "summed over the rows": lambda x, h: (x, mg.tanh(x + mg.sum(h, axis=0))),
    "scaled by the number of its rows": lambda x, h: (x * h.shape[0], mg.tanh(x + h / len(h))),
    "flattened": lambda x, h: (x, mg.tanh(x + mg.cumulative_sum(mg.reshape(h, (-1,)), axis=0)[-1])),
}


@pytest.mark.parametrize("step", ODD_AT_FIRST.values(), ids=ODD_AT_FIRST)
def test_a_first_step_that_is_unlike_the_others_is_what_the_loop_has_or_is_refused(step):
    """One row at first and three later: what is not done row by row tells them apart."""
    xs, h = leaf(3, 3, 2), leaf(1, 2)
    expected = ran(loop, step, xs, h, leaves={"xs": xs, "h": h})
    try:
        actual = ran(mg.scan, step, xs, h, leaves={"xs": xs, "h": h})
    except MinigradError:
        return
    for a, e in zip(actual, expected):
        equal(a, e)


def test_outputs_that_the_first_step_has_in_the_old_dtype_are_joined_as_the_loop_joins_them():
    xs, h = leaf(3, 2, 2), mg.zeros((2, 2))
    agrees(lambda x, h: (h, mg.tanh(x + h)), xs, h, leaves={"xs": xs})


# What the step may do


def test_a_step_may_ask_what_its_arguments_are():
    asked = []

    def step(x, h):
        assert isinstance(x, mg.Tensor) and isinstance(h, mg.Tensor) and x is not None
        asked.append((x.shape, x.ndim, x.size, x.dtype, x.backend, len(x), h.shape))
        assert repr(x) and str(h) and f"{x}"
        pad = mg.zeros((x.shape[0], h.shape[-1] - x.shape[-1]), dtype=x.dtype, backend=x.backend)
        rows = mg.stack([row * i for i, row in enumerate(x)])
        h = mg.tanh(h + mg.concat([x + rows, pad], axis=-1))
        return h + np.zeros(h.shape, h.dtype), h

    xs, h, leaves = data()
    agrees(step, xs, h, leaves=leaves)
    assert set(asked) == {((2, 2), 2, 4, np.dtype("float64"), "numpy", 2, (2, 3))}


def test_a_part_of_the_step_may_be_under_no_grad():
    def step(x, h):
        with mg.no_grad():
            norm = mg.sqrt(mg.sum(h * h) + 1)
            with mg.enable_grad():
                x = x * 2
        h = mg.tanh((x + h) / norm)
        return h, h

    xs, h, leaves = data(size=2)
    agrees(step, xs, h, leaves=leaves)


def test_a_primitive_of_the_users_own_may_be_in_the_step():
    @mg.primitive
    def gated(xp, x, z, /, *, slope):
        return xp.where(x > 0, x, x * slope) * xp.sigmoid(z)

    gated.vjp(
        lambda g, x, z, slope, xp: g * xp.sigmoid(z) * xp.where(x > 0, xp.ones(x.shape, dtype=x.dtype), slope),
        lambda g, y, z, xp: g * y * (1 - xp.sigmoid(z)),
    )
    xs, h, leaves = data(size=2)
    agrees(lambda x, h: (h, gated(x + h, h, slope=0.2)), xs, h, leaves=leaves)


def test_an_exception_of_the_step_comes_as_it_was_raised():
    class Mine(Exception):
        pass

    def step(x, h):
        raise Mine("mine")

    with pytest.raises(Mine, match=r"^mine$"):
        mg.scan(step, *data()[:2])


# In a graph


def test_two_forward_passes_may_come_before_two_backward_passes():
    step, weights = simple()
    for order in ((0, 1), (1, 0)):
        pairs = [data(seed=1), data(seed=2)]
        expected = [ran(loop, step, xs, h, leaves={**weights, **leaves})[1] for xs, h, leaves in pairs]
        results = [mg.scan(step, xs, h) for xs, h, _ in pairs]
        for i in order:
            leaves = {**weights, **pairs[i][2]}
            forget(leaves.values())
            weighted(results[i]).backward()
            equal(gradients(leaves), expected[i])


def test_a_graph_that_is_kept_can_be_used_twice_and_another_says_that_it_was_released():
    step, weights = simple()
    xs, h, inputs = data()
    leaves = {**weights, **inputs}
    _, once = ran(loop, step, xs, h, leaves=leaves)
    loss = weighted(mg.scan(step, xs, h))
    loss.backward(retain_graph=True)
    mg.scan(step, *data(seed=1)[:2])  # which has buffers of its own
    loss.backward()
    equal(gradients(leaves), {name: 2 * g for name, g in once.items()})
    with pytest.raises(GraphError, match="retain_graph"):
        loss.backward()


def test_outputs_and_state_may_be_differentiated_one_after_the_other():
    step, weights = simple()
    xs, h, inputs = data()
    leaves = {**weights, **inputs}
    _, together = ran(loop, step, xs, h, leaves=leaves)
    forget(leaves.values())
    outs, state = mg.scan(step, xs, h)
    rng = np.random.default_rng(0)  # as `weighted` draws
    cotangents = [rng.uniform(0.5, 1.5, y.shape) * rng.choice([-1.0, 1.0], y.shape) for y in (outs, state)]
    outs.backward(mg.tensor(cotangents[0]), retain_graph=True)
    state.backward(mg.tensor(cotangents[1]))
    equal(gradients(leaves), together)


@pytest.mark.parametrize(
    "part",
    [
        lambda outs, state: outs[-1].sum(),
        lambda outs, state: outs[0, 0, 0],
        lambda outs, state: state.sum(),
        lambda outs, state: (outs[::2] ** 2).mean() + outs[1, 0, 1],
        lambda outs, state: (outs.T[:, :, :3] @ outs.reshape(-1, 3)[:1].T).sum() + (outs[-1] * state).sum(),
    ],
    ids=["the last output", "one number", "the state", "some outputs", "all in odd ways"],
)
@pytest.mark.parametrize("reverse", [False, True])
def test_the_loss_may_depend_on_any_part(part, reverse):
    step, weights = simple()
    xs, h, inputs = data()
    leaves = {**weights, **inputs}
    found = []
    for scan in (loop, mg.scan):
        forget(leaves.values())
        part(*scan(step, xs, h, reverse=reverse)).backward()
        found.append(gradients(leaves))
    equal(found[1], found[0])


def test_gradients_add_to_those_that_are_there():
    step, weights = simple()
    xs, h, _ = data()
    _, once = ran(loop, step, xs, h, leaves=weights)
    for w in weights.values():
        w.grad = mg.ones(w.shape, dtype="float64")
    weighted(mg.scan(step, xs, h)).backward()
    equal(gradients(weights), {name: 1 + g for name, g in once.items()})


def test_scans_may_follow_each_other_and_share_weights():
    """Layers upon each other, in both directions, and windows one after another."""
    step, weights = simple(3, 3)
    xs, h, inputs = data(inputs=3)
    leaves = {**weights, **inputs}

    def net(scan):
        def scanned(step, xs, h, context, **_):
            outs, state = scan(step, xs, h)
            back, _ = scan(step, outs, state, reverse=True)
            again, last = scan(step, outs * back, h)
            return again, scan(step, again[:2], last)[1]

        return scanned

    for a, e in zip(*(ran(net(scan), step, xs, h, leaves=leaves) for scan in (mg.scan, loop))):
        equal(a, e)


def test_windows_cut_by_detach_train_as_the_loop_does():
    found = []
    for scan in (loop, mg.scan):
        step, weights = simple()
        state: Any = fixed(2, 3)
        for i in range(5):
            outs, state = scan(step, data(seed=i)[0], state.detach())
            weighted(outs).backward()
        found.append(gradients(weights) | {"state": as_numpy(state)})
    equal(found[1], found[0])


def test_a_step_with_a_graph_from_outside_is_told_to_take_it_as_context():
    W, xs, h = leaf(3, 3), leaf(4, 2, 3), leaf(2, 3)
    scaled = W * 2
    with pytest.raises(GraphError, match="context"):
        mg.scan(lambda x, h: (h, mg.tanh(x + h @ scaled)), xs, h)
    leaves = {"W": W, "xs": xs, "h": h}

    def with_context(run):
        return lambda step, xs, h, context, **_: run(step, xs, h, (W * 2,))

    step = lambda x, h, w: (h, mg.tanh(x + h @ w))
    for a, e in zip(*(ran(with_context(run), step, xs, h, leaves=leaves) for run in (mg.scan, loop))):
        equal(a, e)


def test_a_weight_that_grad_is_asked_for_is_never_silently_a_constant():
    """The function's argument stands for the weight, and the step closes over it."""
    xs, h = fixed(4, 2, 3), fixed(2, 3)

    def loss(scan):
        return lambda W: weighted(scan(lambda x, h: (h, mg.tanh(x + h @ W)), xs, h))

    W = fixed(3, 3)
    try:
        gradient = mg.grad(loss(mg.scan))(W)
    except GraphError as error:
        assert "context" in str(error)
    else:
        equal({"W": as_numpy(gradient)}, {"W": as_numpy(mg.grad(loss(loop))(W))})


def test_a_formula_and_its_rules_may_use_the_operators_of_python_that_arrays_have():
    @mg.primitive
    def wave(xp, x, /):
        return abs(x) * (1 + x % 2) / (1 + abs(x))

    wave.vjp(lambda g, x: g * (1 + abs(x) % 1 - 3 % (1 + abs(x))))

    def step(x, h):
        h = wave(h) + x
        return h, h

    found = []
    for unroll in ("eager", "compiled"):
        x = mg.tensor([[0.3], [-0.4], [1.2]], requires_grad=True, dtype="float64")
        outs, _ = mg.scan(step, x, mg.zeros((1,), dtype="float64"), unroll=unroll)
        outs.sum().backward()
        found.append((outs.numpy(), x.grad.numpy()))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-14)
