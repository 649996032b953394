"""`mg.scan` inside every transformation, inside itself, and under the eyes of those who look on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import graph
from minigrad.errors import AnomalyError

from .helpers import agrees, data, equal, fixed, leaf, loop, named, ran, simple, weighted

# In every transformation


def run_by(transformation: Any, scan: Any) -> Any:
    """The result of a transformation of a scan with respect to its inputs, state and context."""

    def step(x, h, W):
        h = mg.tanh(x + h @ W)
        return mg.softmax(h), h

    def f(xs, h, W):
        outs, state = scan(step, xs, h, (W,))
        return (outs**2).sum() + weighted(state)

    values = (fixed(3, 2, 2), fixed(2, 2), fixed(2, 2, seed=1))
    others = tuple(fixed(*x.shape, seed=7) for x in values)
    return transformation(f, values, others, lambda *inputs: scan(step, *inputs[:2], inputs[2:]))


TRANSFORMATIONS = {
    "grad": lambda f, values, others, g: mg.grad(f, (0, 1, 2))(*values),
    "value_and_grad": lambda f, values, others, g: mg.value_and_grad(f, 2)(*values),
    "vjp": lambda f, values, others, g: mg.vjp(g, *values)[1](mg.vjp(g, *others)[0]),
    "vjp, pulled twice": lambda f, values, others, g: [
        pull(cotangent) for pull in [mg.vjp(g, *values)[1]] for cotangent in [g(*values), g(*others)]
    ],
    "jvp": lambda f, values, others, g: mg.jvp(g, values, others),
    "hvp by the state": lambda f, values, others, g: mg.hvp(lambda h: f(values[0], h, values[2]), values[1], others[1]),
    "hvp by the context": lambda f, values, others, g: mg.hvp(lambda W: f(*values[:2], W), values[2], others[2]),
    "hvp by the inputs": lambda f, values, others, g: mg.hvp(lambda xs: f(xs, *values[1:]), values[0], others[0]),
    "grad of grad": lambda f, values, others, g: mg.grad(
        lambda W: weighted(mg.grad(f, (0, 1, 2))(values[0], values[1], W))
    )(values[2]),
    "third derivative": lambda f, values, others, g: mg.hvp(
        lambda h: weighted(mg.grad(lambda h: f(values[0], h, values[2]))(h)), values[1], others[1]
    ),
    "grad of remat": lambda f, values, others, g: mg.grad(mg.remat(f), (0, 1, 2))(*values),
    "remat of grad": lambda f, values, others, g: mg.remat(lambda *v: mg.grad(f, (0, 1, 2))(*v))(*values),
    "under no_grad": lambda f, values, others, g: mg.no_grad()(mg.grad(f, (0, 1, 2)))(*values),
}


@pytest.mark.parametrize("transformation", TRANSFORMATIONS.values(), ids=TRANSFORMATIONS)
def test_every_transformation_of_a_scan_is_that_of_the_loop(transformation):
    actual, expected = run_by(transformation, mg.scan), run_by(transformation, loop)
    equal(named(actual, ()), named(expected, ()))


def test_remat_around_a_scan_gives_the_gradients_of_its_weights():
    step, weights = simple()
    xs, h, inputs = data()
    leaves = {**weights, **inputs}
    rematerialised = lambda step, xs, h, context: mg.remat(lambda xs, h: mg.scan(step, xs, h))(xs, h)
    for a, e in zip(ran(rematerialised, step, xs, h, leaves=leaves), ran(loop, step, xs, h, leaves=leaves)):
        equal(a, e)


@pytest.mark.parametrize("remat", ["sqrt", 1, 2, 3, 100, None])
@pytest.mark.parametrize("T", [1, 4, 7])
@pytest.mark.parametrize("reverse", [False, True])
def test_recomputing_changes_nothing(remat, T, reverse):
    step, weights = simple()
    xs, h, inputs = data(T)
    agrees(step, xs, h, leaves={**weights, **inputs}, remat=remat, reverse=reverse)


def lstm_step(x, state, W, b):
    h, c = state
    i, f, g, o = mg.split(mg.concat([x, h], axis=-1) @ W + b, 4, axis=-1)
    c = mg.sigmoid(f) * c + mg.sigmoid(i) * mg.tanh(g)
    h = mg.sigmoid(o) * mg.tanh(c)
    return h, (h, c)


def gru_step(x, h, W, U, V):
    r, z = mg.split(mg.sigmoid(x @ W + h @ U), 2, axis=-1)
    n = mg.tanh(x + (r * h) @ V)
    h = (1 - z) * n + z * h
    return (h, mg.logsumexp(h, axis=-1)), h


def attending_step(x, h, memory, W):
    scores = mg.softmax(mg.squeeze(memory @ mg.expand_dims(h, axis=-1), -1))
    h = mg.tanh(x + mg.sum(scores[..., None] * memory, axis=1) @ W)
    return scores, h


def counting_step(x, state):
    h, n = state
    h = mg.where(n > 1, mg.tanh(h * x), h + x * n)
    return h**3, (h, n + 1)


SECOND = {
    "lstm": (lstm_step, (1, 2), lambda a: ((a[0], a[1]), a[2:]), [(1, 1), (1, 1), (3, 4), (4,)]),
    "gru": (gru_step, (1, 2), lambda a: (a[0], a[1:]), [(1, 2), (2, 4), (2, 4), (2, 2)]),
    "attention": (attending_step, (1, 2), lambda a: (a[0], a[1:]), [(1, 2), (1, 3, 2), (2, 2)]),
    "counter": (counting_step, (2,), lambda a: ((a[0], mg.tensor(0, dtype="int64")), ()), [(2,)]),
}


@pytest.mark.parametrize(("step", "x", "arrange", "shapes"), SECOND.values(), ids=SECOND)
def test_second_derivatives_agree_with_finite_differences(step, x, arrange, shapes):
    def f(xs, *rest):
        init, context = arrange(rest)
        return mg.scan(step, xs, init, context)

    inputs = [fixed(3, *x), *(fixed(*shape, seed=i) for i, shape in enumerate(shapes))]
    assert mg.gradcheck(f, inputs, order=2)


def test_a_scan_may_be_in_the_step_of_a_scan():
    """The inner one runs over the features of one step; what it needs from the outer step is its context."""
    u = leaf(2)

    def net(scan):
        def inner(x, s, h):
            s = mg.tanh(x + 0.5 * s * u[0] + h)
            return s * u[1], s

        def outer(x, h):
            columns, last = scan(inner, x.T, h, (h * 0.1,))
            return columns.T, mg.tanh(last + h)

        return lambda step, xs, h, context, **options: scan(outer, xs, h, **options)

    xs, h = leaf(4, 2, 3), leaf(2)
    leaves = {"xs": xs, "h": h, "u": u}
    for reverse in (False, True):
        found = [ran(net(scan), None, xs, h, leaves=leaves, reverse=reverse) for scan in (mg.scan, loop)]
        for a, e in zip(*found):
            equal(a, e)


# The visible graph


def test_unrolled_eagerly_it_is_the_same_with_a_graph_of_every_operation():
    step, weights = simple()
    xs, h, inputs = data(5)
    agrees(step, xs, h, leaves={**weights, **inputs}, unroll="eager")
    outs, _ = mg.scan(step, xs, h, unroll="eager")
    names = [node.name for node in graph.children_first([outs.node])]
    assert names.count("tanh") == 5 and names.count("matmul") == 10


def test_a_nan_that_a_step_makes_is_found_with_the_line_that_made_it():
    def step(x, h):
        h = mg.log(h - x)  # this line
        return h, h

    xs = mg.tensor(np.array([[1.0], [1.0], [1.0]]))
    with (
        np.errstate(all="ignore"),
        mg.detect_anomaly(),
        pytest.raises(AnomalyError, match=r"log made nan.*test_transformations\.py.*# this line"),
    ):
        mg.scan(step, xs, leaf(1, scale=0) + 3.0)


def test_a_nan_of_a_backward_formula_is_found_with_the_line_of_the_forward_call():
    def step(x, h):
        h = (h * x) ** 0.5  # that line
        return h, h

    xs = mg.tensor(np.array([[1.0], [0.0], [1.0]]))
    h = mg.tensor(np.array([1.0]), requires_grad=True)
    with np.errstate(all="ignore"), mg.detect_anomaly():
        outs, _ = mg.scan(step, xs, h)
        with pytest.raises(AnomalyError, match=r"formula of power made.*test_transformations\.py.*# that line"):
            outs.sum().backward()


def test_looking_for_anomalies_changes_no_number():
    step, weights = simple()
    xs, h, inputs = data()
    with mg.detect_anomaly():
        agrees(step, xs, h, leaves={**weights, **inputs})
