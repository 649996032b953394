"""Random step functions over random sequences: the compiled loop against the loop as its definition."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import event, given, reject, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import tree
from tests.strategies import as_numpy, as_tensor, laid_out

from .cells import Case, cases
from .helpers import EPS, calls_of, forget, furthest, gradients, loop, named, structure, weighted

# In units of the largest entry. Sums here have below 100 terms, so that one step rounds by less than 100 eps; six
# steps forward and backward may each let an error grow by 10 or so. That leaves 1e5 eps and 1e3 eps; what is more
# sensitive than that excuses itself, below.
TOLERANCE = {"float64": 1e-10, "float32": 1e-4}
PERTURBATION = 16  # eps: what a few roundings amount to

# What the loop computes without a warning is to be computed without one, and by calls that NumPy will keep.
pytestmark = pytest.mark.filterwarnings("error")

Leaves = dict[str, mg.Tensor]
Measured = tuple[dict[str, np.ndarray], dict[str, np.ndarray]]
Again = Callable[[Any, Leaves], Measured]  # by the loop, with a step that may have been shaken


def leaves_of(case: Case, steps: int, seed: int) -> Leaves:
    """Everything that a program is given, as leaves."""
    p, rng = case.program, np.random.default_rng(seed)
    arrays = {g.name: g.array(rng, p.dtype, steps) for g in p.xs} | {g.name: g.array(rng, p.dtype) for g in p.given}
    return {
        name: as_tensor(laid_out(array, case.layout), "numpy", requires_grad=name in case.needs)
        for name, array in arrays.items()
    }


def run(scan: Callable[..., Any], case: Case, step: Callable[..., Any], leaves: Leaves, **options: Any) -> Any:
    """The program over its inputs, which are leaves or are computed from them."""
    p = case.program
    weights = {w.name for w in p.weights}
    here = {
        name: x * 1.5 if case.computed and x.requires_grad and name not in weights else x for name, x in leaves.items()
    }
    xs, init, context = p.nested("xs", here), p.nested("state", here), p.nested("context", here)
    return scan(step, xs, init, context, reverse=case.reverse, **options)


def loss_of(case: Case, outs: Any, state: Any) -> Any:
    """A number made of some of the outputs and final states, in several ways."""
    total: Any = 0.0
    n_outs = len(tree.leaves(outs))
    for i, (y, how) in enumerate(zip([*tree.leaves(outs), *tree.leaves(state)], case.losses, strict=True)):
        if how == "none" or y.data.dtype.kind != "f":
            continue
        if how == "sum":
            total = total + y.sum()
        else:
            total = total + weighted(y[-1] if how == "last" and i < n_outs and len(y) else y, seed=i)
    return total


def measured(scan: Callable[..., Any], case: Case, step: Any, leaves: Leaves, **options: Any) -> tuple[Measured, Any]:
    """Values and gradients, and what the user holds."""
    forget(leaves.values())
    outs, state = held = run(scan, case, step, leaves, **options)
    values = named(outs, state)
    loss = loss_of(case, outs, state)
    if isinstance(loss, mg.Tensor) and loss.requires_grad:
        loss.backward()
    return (values, gradients(leaves)), held


def rounded(x: Any, rng: np.random.Generator) -> Any:
    """The numbers of a tensor as if a few roundings had been otherwise."""
    if x.data.dtype.kind != "f":
        return x
    noise = PERTURBATION * EPS[x.data.dtype.name] * rng.uniform(-1, 1, x.shape)
    return x * mg.tensor(np.asarray(1 + noise, x.data.dtype))


def compare(case: Case, actual: Measured, expected: Measured, again: Again, step: Any, leaves: Leaves) -> None:
    """Equal to rounding; or so sensitive to rounding that the loop disagrees with itself as much."""
    for kind, a, e in zip(("value", "gradient"), actual, expected):
        off, name = furthest(a, e, floor=1.0)  # a cotangent is about 1
        if off <= TOLERANCE[case.program.dtype]:
            continue
        before = {name: x.data for name, x in leaves.items()}
        spread = 0.0
        for seed in range(5):
            rng = np.random.default_rng(seed)
            for leaf_name, x in leaves.items():
                x.data = rounded(mg.Tensor(before[leaf_name]), rng).data

            def shaken(x, state, *context, rng=rng):
                out, state = step(x, state, *context)
                return out, tree.map(lambda s: rounded(s, rng), state)

            spread = max(spread, furthest(again(shaken, leaves)[kind == "gradient"], e, floor=1.0)[0])
        for leaf_name, x in leaves.items():
            x.data = before[leaf_name]
        if off <= 10 * spread:
            event("ill-conditioned")
            reject()
        raise AssertionError(f"the {kind} {name} is off by {off:.1e} of the largest entry\n{a[name]}\n{e[name]}")


@settings(max_examples=3 * settings().max_examples, report_multiple_bugs=False)
@given(case=cases(), other_steps=st.integers(1, 4))
def test_a_scan_equals_the_loop_in_every_value_and_every_gradient(case, other_steps):
    leaves = leaves_of(case, case.steps, case.seed)
    step = case.program.step(leaves)
    contents = {name: np.array(x.data) for name, x in leaves.items()}

    def again(step: Any, leaves: Leaves) -> Measured:
        return measured(loop, case, step, leaves)[0]

    expected, (outs, state) = measured(loop, case, step, leaves)
    actual, held = measured(mg.scan, case, step, leaves)
    assert structure(held) == structure((outs, state))
    for y, x in zip(tree.leaves(held), tree.leaves((outs, state))):
        assert y.requires_grad or not x.requires_grad
        assert not y.requires_grad or (leaves and y.data.dtype.kind == "f")
    compare(case, actual, expected, again, step, leaves)

    with mg.no_grad():
        plain, of_loop = run(mg.scan, case, step, leaves), run(loop, case, step, leaves)
    for y, x in zip(tree.leaves(plain), tree.leaves(of_loop)):
        assert not y.requires_grad or x.requires_grad  # as a state that is passed through
    compare(case, (named(*plain), {}), (expected[0], {}), again, step, leaves)

    compare(case, measured(mg.scan, case, step, leaves, remat=case.remat)[0], expected, again, step, leaves)

    # New numbers, and another length, for the same step
    new = leaves_of(case, other_steps, case.seed + 1)
    for w in case.program.weights:
        leaves[w.name].data = new[w.name].data
        contents[w.name] = np.array(new[w.name].data)
    mixed = {**new, **{w.name: leaves[w.name] for w in case.program.weights}}
    compare(case, measured(mg.scan, case, step, mixed)[0], again(step, mixed), again, step, mixed)
    with calls_of(step) as calls:
        measured(mg.scan, case, step, leaves)
    assert calls == [0], "the step was recorded anew, though only numbers and the length are new"

    # What was given and what was received stay as they were
    for name, x in leaves.items():
        np.testing.assert_array_equal(x.data, contents[name])
    for (name, value), y in zip(actual[0].items(), tree.leaves(held)):
        np.testing.assert_array_equal(as_numpy(y), value, err_msg=name)


@settings(max_examples=settings().max_examples // 2, report_multiple_bugs=False)
@given(case=cases(steps=st.just(0)))
def test_over_no_steps_the_state_stays_as_it_is_and_outputs_have_the_shape_of_none(case):
    """One step on made-up inputs says what the outputs would be."""
    leaves = leaves_of(case, 0, case.seed)
    step = case.program.step(leaves)
    example = {
        **leaves,
        **{g.name: as_tensor(np.zeros((1, *g.shape), leaves[g.name].dtype), "numpy") for g in case.program.xs},
    }
    with mg.no_grad():
        outs, _ = run(loop, case, step, example)
    (values, grads), held = measured(mg.scan, case, step, leaves)
    given = {name: x * 1.5 if case.computed and x.requires_grad else x for name, x in leaves.items()}
    init = case.program.nested("state", given)
    assert structure(held) == structure((outs, init))
    nothing = tree.map(lambda y: y[:0], outs)
    assert furthest(values, named(nothing, init))[0] == 0.0

    forget(leaves.values())
    loss = loss_of(case, nothing, init)
    if isinstance(loss, mg.Tensor) and loss.requires_grad:
        loss.backward()
    assert furthest(grads, gradients(leaves))[0] == 0.0


@settings(max_examples=settings().max_examples // 2, report_multiple_bugs=False)
@given(case=cases(steps=st.integers(1, 4), dtypes=("float64",)))
def test_a_gradient_through_a_scan_has_the_gradient_that_the_loop_gives_it(case):
    leaves = leaves_of(case, case.steps, case.seed)
    p = case.program
    step = p.step(leaves)
    inputs = [g.name for g in (*p.xs, *p.state, *p.context) if g.name in case.needs]

    def second(scan: Callable[..., Any], step: Any, leaves: Leaves) -> Measured:
        def loss(*values: mg.Tensor) -> Any:
            outs, state = run(scan, case, step, {**leaves, **dict(zip(inputs, values))})
            total = loss_of(case, outs, state)
            return total if isinstance(total, mg.Tensor) else mg.tensor(0.0)

        forget(leaves.values())
        value, gradient = mg.value_and_grad(loss, range(len(inputs)))(*(leaves[name] for name in inputs))
        total = weighted((value, gradient))
        if total.requires_grad:
            total.backward()
        return {name: as_numpy(g) for name, g in zip(inputs, gradient)}, gradients(leaves)

    again = functools.partial(second, loop)
    compare(case, second(mg.scan, step, leaves), again(step, leaves), again, step, leaves)
