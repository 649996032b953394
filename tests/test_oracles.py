"""The oracles themselves: their gradients against complex steps through their own forward passes, their values against
closed forms, the notes, and each other. Nothing of minigrad is at work here.

A complex step is exact to rounding: for a function analytic on the real line Im f(p + i e d) / e is the derivative
along d up to e^2, and nothing is subtracted, so that e = 1e-30 will do. The oracle's own backward pass runs along on
complex numbers, and is not looked at.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from .oracles import attention, clockwork, echo_state, elman, gru, jordan, lstm, scrn, simplified_gru
from .strategies import SEEDS

SIZES = {"T": st.integers(0, 4), "I": st.integers(1, 3), "H": st.integers(1, 3), "other": st.integers(1, 3)}
FIXED = {"T": 3, "I": 2, "H": 3, "other": 2, "seed": 4}


# A case is a function of leaves {name: array}, which gives (a number, its gradient by each leaf), and a set of leaves


def normal(rng: np.random.Generator, shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    return {name: rng.normal(size=shape) for name, shape in shapes.items()}


def products(outs: Any, grad_outs: Any) -> Any:
    return sum((g * out).sum() for g, out in zip(grad_outs, outs))


def numbers(rng, T, I, out, states, weights):  # noqa: E741
    """What a layer takes, in its order: x, states, weights, grad_outs, grad_states."""
    given = rng.normal(size=(T, I)), [rng.normal(size=shape) for shape in states], normal(rng, weights)
    return *given, rng.normal(size=(T, out)), [rng.normal(size=shape) for shape in states]


def of_layer(rng, layer, T, I, out, states, weights, counts=(), **extra):  # noqa: E741
    """The case of a layer: states a list of shapes; counts, whole numbers that are states too; extra, a sixth leaf."""
    x, given, named, grad_outs, grad_states = numbers(rng, T, I, out, states, weights)
    parts = {f"state {k}": part for k, part in enumerate(given)}
    leaves = {"x": x, **parts, **named, **normal(rng, extra)}

    def run(leaves):
        states, weights = [leaves[name] for name in parts], {name: leaves[name] for name in named}
        more = [leaves[name] for name in extra]
        found = layer(leaves["x"], [*states, *counts], weights, grad_outs, grad_states, *more)
        loss = products([found[0], *found[1]], [grad_outs, *grad_states])
        return loss, {"x": found[2], **dict(zip(parts, found[3])), **found[4], **dict(zip(extra, found[5:]))}

    return run, leaves


def elman_shapes(I, H):  # noqa: E741
    return {"weight_ih": (H, I), "weight_hh": (H, H), "bias": (H,)}


def lstm_shapes(I, H, P):  # noqa: E741
    return {"weight_ih": (4 * H, I), "weight_hh": (4 * H, P), "bias": (4 * H,)}


def of_jordan(I, H, O):  # noqa: E741
    return {"weight_ih": (H, I), "weight_oh": (H, O), "bias": (H,), "weight_ho": (O, H), "bias_o": (O,)}


def simple(rng, T, I, H, other):  # noqa: E741
    return of_layer(rng, elman.layer, T, I, H, [(H,)], elman_shapes(I, H))


def gated(layer, gates, *more, rng, T, I, H, other):  # noqa: E741
    weights = {"weight_ih": (gates * H, I), "weight_hh": (gates * H, H), "bias": (gates * H,)}
    return of_layer(rng, layer, T, I, H, [(H,)], {**weights, **dict.fromkeys(more, (H,))})


def remembering(layer, *more, rng, T, I, H, other):  # noqa: E741
    P = other if "weight_hr" in more else H
    weights = lstm_shapes(I, H, P)
    weights |= {name: (P, H) if name == "weight_hr" else (H,) for name in more}
    return of_layer(rng, layer, T, I, P, [(P,), (H,)], weights)


def fed_back(layer, rng, T, I, H, other):  # noqa: E741
    return of_layer(rng, layer, T, I, other, [(other,)], of_jordan(I, H, other))


def forced(rng, T, I, H, other):  # noqa: E741
    def layer(x, states, weights, grad_outs, grad_states, targets):
        outs, grad_x, grad_targets, grads = jordan.forced(x, targets, weights, grad_outs)
        return outs, [], grad_x, [], grads, grad_targets

    return of_layer(rng, layer, T, I, other, [], of_jordan(I, H, other), targets=(T, other))


def sampled(feedback, rng, T, I, H, other):  # noqa: E741
    mask = rng.random(T) < 0.5

    def layer(x, states, weights, grad_outs, grad_states, targets):
        return jordan.sampled(x, states, targets, mask, weights, grad_outs, grad_states, feedback)

    return of_layer(rng, layer, T, I, other, [(other,)], of_jordan(I, H, other), targets=(T, other))


def ticking(rng, T, I, H, other):  # noqa: E741
    """`other` modules of H units, and a clock that has gone some steps."""
    periods = sorted(int(p) for p in rng.choice([1, 2, 3, 4], other, replace=False))
    weights = {"weight_ih": (other * H, I), "weight_hh": (other * H, other * H), "bias": (other * H,)}
    layer = partial(clockwork.layer, periods=periods)
    return of_layer(rng, layer, T, I, other * H, [(other * H,)], weights, counts=[int(rng.integers(5))])


def constrained(rng, T, I, H, other):  # noqa: E741
    weights = {"weight_ih": (H, I), "weight_hh": (H, H), "weight_is": (other, I), "weight_sh": (H, other)}
    return of_layer(rng, partial(scrn.layer, alpha=0.7), T, I, H + other, [(H,), (other,)], weights)


def leaky(rng, T, I, H, other):  # noqa: E741
    return of_layer(rng, partial(echo_state.layer, leak=0.3), T, I, H, [(H,)], elman_shapes(I, H))


def scored(kind, rng, T, I, H, other):  # noqa: E741
    """T places of I numbers, some of them hidden; the query has H numbers, or I where it must."""
    weights = {
        "additive": {"query.weight": (other, H), "key.weight": (other, I), "bias": (other,), "v": (other,)},
        "dot": {},
        "general": {"weight": (H, I)},
    }[kind]
    leaves = normal(rng, {"query": (I if kind == "dot" else H,), "memory": (T, I), **weights})
    mask, grads = rng.random(T) < 0.7, (rng.normal(size=I), rng.normal(size=T))

    def run(leaves):
        looked = leaves["query"], leaves["memory"], mask
        named = {name: leaves[name] for name in weights}
        if kind == "dot":
            found = attention.dot(*looked, *grads, scale=1 / np.sqrt(I))
        else:
            found = getattr(attention, kind)(*looked, named, *grads)
        return products(found[:2], grads), {"query": found[2], "memory": found[3], **found[4]}

    return run, leaves


def attending(rng, T, I, H, other):  # noqa: E741
    A, S = 2, 3
    mask = rng.random(S) < 0.7
    weights = {"attention.query.weight": (A, H), "attention.key.weight": (A, other), "attention.bias": (A,)}
    weights |= {"attention.v": (A,), "cell.weight_ih": (H, I + other), "cell.weight_hh": (H, H), "cell.bias": (H,)}

    def layer(x, states, weights, grad_outs, grad_states, memory):
        return attention.layer_attending(x, states, memory, mask, weights, grad_outs, grad_states)

    return of_layer(rng, layer, T, I, H + other, [(H,)], weights, memory=(S, other))


PEEPHOLES = ("weight_ci", "weight_cf", "weight_co")
CASES = {
    "elman": simple,
    "gru": partial(gated, gru.layer, 3),
    "gru, reset after": partial(gated, gru.layer_reset_after, 3, "bias_hn"),
    "simplified gru": partial(gated, simplified_gru.layer, 2),
    "lstm, peephole": partial(remembering, lstm.layer_peephole, *PEEPHOLES),
    "lstm, projection": partial(remembering, lstm.layer_projection, "weight_hr"),
    "lstm, both": partial(remembering, lstm.layer_peephole_projection, *PEEPHOLES, "weight_hr"),
    "lstm, linear": partial(remembering, lstm.layer_linear),
    "jordan, output": partial(fed_back, jordan.layer_output),
    "jordan, softmax": partial(fed_back, jordan.layer_softmax),
    "jordan, one hot": partial(fed_back, jordan.layer_one_hot),
    "jordan, forced": forced,
    "jordan, output sampled": partial(sampled, "output"),
    "jordan, softmax sampled": partial(sampled, "softmax"),
    "jordan, one hot sampled": partial(sampled, "one_hot"),
    "clockwork": ticking,
    "scrn": constrained,
    "echo state": leaky,
    "attention, additive": partial(scored, "additive"),
    "attention, dot": partial(scored, "dot"),
    "attention, general": partial(scored, "general"),
    "attending": attending,
}


def case(kind: str, T: int, I: int, H: int, other: int, seed: int) -> Any:  # noqa: E741
    rng = np.random.default_rng(seed)
    run, leaves = CASES[kind](rng=rng, T=T, I=I, H=H, other=other)
    return run, leaves, rng


def agrees(run: Any, leaves: Any, gradients: Any, name: str, rng: np.random.Generator) -> bool:
    """Whether the gradient by one leaf, along a direction drawn, is what the loss says that a complex step there meets.

    The direction has a part along every entry, so that no wrong entry stays out of it. To 1e-9 of the sum; the floor
    is for gradients that are all but 0, where 1 - tanh^2 is left with the rounding of 1, some 1e-16.
    """
    direction, step = rng.normal(size=leaves[name].shape), 1e-30
    moved = {other: leaf.astype(complex) for other, leaf in leaves.items()}
    moved[name] = moved[name] + 1j * step * direction
    loss, _ = run(moved)
    terms = gradients[name] * direction
    return abs(terms.sum() - np.imag(loss) / step) <= 1e-9 * max(np.abs(terms).sum(), 1e-3)


@pytest.mark.parametrize("kind", CASES)
@given(seed=SEEDS, **SIZES)
def test_the_gradients_are_those_of_complex_steps_through_the_forward_pass(kind, T, I, H, other, seed):  # noqa: E741
    run, leaves, rng = case(kind, T, I, H, other, seed)
    _, gradients = run(leaves)
    assert gradients.keys() == leaves.keys()
    for name, leaf in leaves.items():
        assert gradients[name].shape == leaf.shape and gradients[name].dtype == leaf.dtype
        assert agrees(run, leaves, gradients, name, rng), name


@pytest.mark.parametrize("kind", CASES)
def test_the_check_notices_one_entry_that_is_wrong_by_a_millionth(kind):
    run, leaves, rng = case(kind, **FIXED)
    _, gradients = run(leaves)
    for name in leaves:
        at = tuple(0 for _ in leaves[name].shape)
        wrong = {**gradients, name: gradients[name].copy()}
        wrong[name][at] += 1e-6 * np.abs(wrong[name]).max() + 1e-9
        assert agrees(run, leaves, gradients, name, rng)
        assert not agrees(run, leaves, wrong, name, rng), name


@pytest.mark.parametrize("kind", CASES)
def test_numbers_in_the_thousands_overflow_nothing(kind):
    run, leaves, _ = case(kind, **FIXED)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        loss, gradients = run({name: 3000 * leaf for name, leaf in leaves.items()})
    assert np.isfinite(loss) and all(np.isfinite(g).all() for g in gradients.values())


# The oracles against each other: where one of them contains another


def same(found: Any, expected: Any) -> None:
    """Equal to 1e-12, which leaves room for another order of sums."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * max(1.0, np.abs(expected).max(initial=0)))


def same_layer(found: Any, expected: Any) -> None:
    """Two answers of layers: outputs, states and gradients, as far as the second has them."""
    same(found[0], expected[0])
    same(found[2], expected[2])
    for part in (1, 3):
        for mine, theirs in zip(found[part], expected[part]):
            same(mine, theirs)
    for name in expected[4]:
        same(found[4][name], expected[4][name])


RNG = partial(np.random.default_rng, 7)


def test_an_lstm_whose_peepholes_are_0_and_whose_projection_is_the_identity_is_the_lstm():
    x, states, weights, *grads = numbers(RNG(), 4, 2, 3, [(3,), (3,)], lstm_shapes(2, 3, 3))
    peepholes, projection = {name: np.zeros(3) for name in PEEPHOLES}, {"weight_hr": np.eye(3)}
    expected = lstm.layer(x, states, weights, *grads)
    same_layer(lstm.layer_peephole(x, states, {**weights, **peepholes}, *grads), expected)
    same_layer(lstm.layer_projection(x, states, {**weights, **projection}, *grads), expected)
    same_layer(lstm.layer_peephole_projection(x, states, {**weights, **peepholes, **projection}, *grads), expected)


@pytest.mark.parametrize("gate", ["i", "f", "o"])
def test_the_gates_i_and_f_see_the_cell_before_the_step_and_o_the_one_after_it(gate):
    """One unit, one step, c = 2, c~ = 1/2, and i = f = o = 1/2 but for the one gate with a peephole, of 3/4."""
    weights = {
        "weight_ih": np.zeros((4, 1)),
        "weight_hh": np.zeros((4, 1)),
        "bias": np.array([0.0, 0, np.arctanh(0.5), 0]),
    }
    weights |= {name: np.array([0.75 if name == f"weight_c{gate}" else 0.0]) for name in PEEPHOLES}
    outs, (_, c), *_ = lstm.layer_peephole(
        np.zeros((1, 1)), [np.zeros(1), np.array([2.0])], weights, np.zeros((1, 1)), [np.zeros(1), np.zeros(1)]
    )
    opened = 1 / (1 + np.exp(-0.75 * (2.0 if gate in "if" else 0.5 * 2 + 0.5 * 0.5)))
    i, f, o = (opened if gate == name else 0.5 for name in "ifo")
    same(c, [f * 2 + i * 0.5])
    same(outs, [[o * np.tanh(f * 2 + i * 0.5)]])


def test_the_linear_lstm_keeps_the_memory_of_the_notes():
    """Notes 003, "LSTM - Example": x_2 = 1 adds x_1 to the memory, x_2 = -1 resets it, x_3 = 1 shows it."""
    x = np.array([[1, 3, 2, 4, 2, 1, 3, 6, 1], [0, 1, 0, 1, 0, 0, -1, 1, 0], [0, 0, 0, 0, 0, 1, 0, 0, 1.0]]).T
    memory_before, y = [0, 0, 3, 3, 7, 7, 7, 0, 6], [0, 0, 0, 0, 0, 7, 0, 0, 6]
    weights = {  # i opens at x_2 = 1 only, f shuts at x_2 = -1 only, o opens at x_3 = 1 only
        "weight_ih": np.array([[0.0, 200, 0], [0, 200, 0], [1, 0, 0], [0, 0, 200]]),
        "weight_hh": np.zeros((4, 1)),
        "bias": np.array([-100.0, 100, 0, -100]),
    }
    zero = [np.zeros(1), np.zeros(1)]
    for t in range(len(x) + 1):
        outs, (_, c), *_ = lstm.layer_linear(x[:t], zero, weights, np.zeros((t, 1)), zero)
        same(outs[:, 0], y[:t])
        if t < len(x):
            same(c, [memory_before[t]])


def test_the_simplified_gru_is_the_gru_whose_reset_gate_is_open():
    x, states, weights, *grads = numbers(
        RNG(), 4, 2, 3, [(3,)], {"weight_ih": (6, 2), "weight_hh": (6, 3), "bias": (6,)}
    )
    rows = {name: np.concatenate([np.zeros_like(w[:3]), w]) for name, w in weights.items()}
    rows["bias"][:3] = 100.0  # whose sigmoid is 1 to the last bit
    outs, last, grad_x, grad_states, grads_of_gru = gru.layer(x, states, rows, *grads)
    expected = outs, last, grad_x, grad_states, {name: g[3:] for name, g in grads_of_gru.items()}
    same_layer(simplified_gru.layer(x, states, weights, *grads), expected)


def test_jordan_feeding_back_its_output_is_elman_with_the_product_of_the_matrices():
    """h_t = tanh(W x_t + U (V h_{t-1} + c) + b), where the state given is the output of some h_0."""
    x, _, weights, grad_outs, _ = numbers(RNG(), 4, 2, 2, [], of_jordan(2, 3, 2))
    h_0 = RNG().normal(size=3)
    W, U, b, V, c = weights.values()
    found = jordan.layer_output(x, [V @ h_0 + c], weights, grad_outs, [np.zeros(2)])
    whole = {"weight_ih": W, "weight_hh": U @ V, "bias": b + U @ c}
    outs, _, grad_x, (grad_h,), grads = elman.layer(x, [h_0], whole, grad_outs @ V, [np.zeros(3)])
    same(found[0], outs @ V.T + c)
    same(found[2], grad_x)
    same(V.T @ found[3][0], grad_h)
    for name in ("weight_ih", "bias"):
        same(found[4][name], grads[name])


@pytest.mark.parametrize("feedback", ["softmax", "one_hot"])
def test_jordan_left_to_itself_is_jordan_forced_to_what_it_feeds_back(feedback):
    x, _, weights, grad_outs, _ = numbers(RNG(), 5, 2, 3, [], of_jordan(2, 3, 3))
    zero = [np.zeros(3)]
    own = getattr(jordan, f"layer_{feedback}")(x, zero, weights, grad_outs, zero)
    if feedback == "softmax":
        fed = np.exp(own[0]) / np.exp(own[0]).sum(axis=1, keepdims=True)
    else:
        fed = (own[0] == own[0].max(axis=1, keepdims=True)).astype(float)
    outs, grad_x, _, grads = jordan.forced(x, fed, weights, grad_outs)
    same(own[0], outs)
    same(own[1][0], fed[-1])
    if feedback == "one_hot":  # no gradient goes through time: it is that of the targets taken as they are
        same_layer(own, (outs, [], grad_x, [], grads))
    else:
        assert np.abs(own[2] - grad_x).max() > 1e-3


def test_scheduled_sampling_reads_the_target_exactly_where_it_is_forced_and_the_state_first():
    x, states, weights, grad_outs, grad_states = numbers(RNG(), 5, 2, 2, [(2,)], of_jordan(2, 3, 2))
    targets, mask = RNG().normal(size=(5, 2)), np.array([True, False, True, True, False])
    outs, _, _, grad_first, _, grad_targets = jordan.sampled(
        x, states, targets, mask, weights, grad_outs, grad_states, "output"
    )
    read = [states[0], outs[0], targets[1], targets[2], outs[3]]
    W, U, b, V, c = weights.values()
    same(outs, [V @ np.tanh(W @ x_t + U @ r + b) + c for x_t, r in zip(x, read)])
    assert (np.abs(grad_targets).max(axis=1) > 0).tolist() == [False, True, True, False, False]
    assert np.abs(grad_first[0]).max() > 0


def test_clockwork_of_one_module_that_always_ticks_is_elman():
    x, states, weights, *grads = numbers(RNG(), 4, 2, 3, [(3,)], elman_shapes(2, 3))
    found = clockwork.layer(x, [*states, 0], weights, *grads, periods=[1])
    same_layer(found, elman.layer(x, states, weights, *grads))
    assert found[1][1] == 4


def test_clockwork_moves_a_module_at_its_ticks_only_and_it_hears_none_that_is_faster():
    x, states, weights, *grads = numbers(RNG(), 7, 2, 6, [(6,)], elman_shapes(2, 6))
    periods, first = [1, 2, 3], 5
    outs, (_, n), *_, of_weights = clockwork.layer(x, [*states, first], weights, *grads, periods=periods)
    moved = np.diff(np.concatenate([states, outs]), axis=0) != 0
    ticks = [[(first + t) % period == 0 for period in (1, 1, 2, 2, 3, 3)] for t in range(7)]
    assert moved.tolist() == ticks and n == first + 7

    # Row block i hears column block j: slower, or itself.
    hears = np.kron([[1, 1, 1], [0, 1, 1], [0, 0, 1]], np.ones((2, 2)))
    assert ((of_weights["weight_hh"] != 0) == (hears == 1)).all()
    other = {**weights, "weight_hh": np.where(hears == 1, weights["weight_hh"], np.nan)}
    same(clockwork.layer(x, [*states, first], other, *grads, periods=periods)[0], outs)


def test_the_context_of_the_structurally_constrained_network_is_a_moving_average_and_h_reads_that_of_its_step():
    shapes = {"weight_ih": (1, 1), "weight_hh": (1, 1), "weight_is": (1, 1), "weight_sh": (1, 1)}
    x, states, weights, *grads = numbers(RNG(), 4, 1, 2, [(1,), (1,)], shapes)
    A, R, B, P = (float(weights[name][0, 0]) for name in shapes)
    outs, *_ = scrn.layer(x, states, weights, *grads, alpha=0.75)
    h, s = (float(part[0]) for part in states)
    for t in range(4):
        average = 0.75 ** (t + 1) * s + sum(0.25 * 0.75 ** (t - k) * B * float(x[k, 0]) for k in range(t + 1))
        h = 1 / (1 + np.exp(-(P * average + A * float(x[t, 0]) + R * h)))
        same(outs[t], [h, average])


def test_an_echo_state_network_that_leaks_all_is_elman_and_one_that_leaks_nothing_stands_still():
    x, states, weights, *grads = numbers(RNG(), 4, 2, 3, [(3,)], elman_shapes(2, 3))
    same_layer(echo_state.layer(x, states, weights, *grads, leak=1.0), elman.layer(x, states, weights, *grads))
    outs, _, grad_x, (grad_h,), _ = echo_state.layer(x, states, weights, *grads, leak=0.0)
    same(outs, np.tile(states[0], (4, 1)))
    same(grad_x, np.zeros_like(x))
    same(grad_h, grads[0].sum(axis=0) + grads[1][0])


def test_a_leaky_unit_is_between_where_it_was_and_where_a_unit_without_leak_would_be():
    x, states, weights, *grads = numbers(RNG(), 1, 2, 3, [(3,)], elman_shapes(2, 3))
    there = elman.layer(x, states, weights, *grads)[0]
    same(echo_state.layer(x, states, weights, *grads, leak=0.25)[0], 0.75 * states[0] + 0.25 * there)


@given(seed=SEEDS, H=st.integers(1, 4), O=st.integers(1, 3), strength=st.sampled_from([1e-3, 1.0, 1e3]))
def test_the_read_out_is_where_its_loss_is_flat_and_the_answer_of_least_squares(seed, H, O, strength):  # noqa: E741
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(6, H)) + 3, rng.normal(size=(6, O)) - 2
    V, v = echo_state.ridge(x, y, strength)
    residuals = x @ V.T + v - y
    scale = np.abs(x).sum() * np.abs(y).sum()
    assert np.abs(residuals.sum(axis=0)).max() <= 1e-11 * scale
    assert np.abs(residuals.T @ x + strength * V).max() <= 1e-11 * scale

    # The same as least squares: a row sqrt(k) e_j with target 0 for every coefficient that is penalised.
    rows = np.block([[x, np.ones((6, 1))], [np.sqrt(strength) * np.eye(H), np.zeros((H, 1))]])
    expected = np.linalg.lstsq(rows, np.concatenate([y, np.zeros((H, O))]))[0].T
    np.testing.assert_allclose(np.column_stack([V, v]), expected, rtol=0, atol=1e-9 * np.abs(expected).max())


def test_the_read_out_without_penalty_finds_the_line_that_made_the_targets():
    rng = RNG()
    x, V, v = rng.normal(size=(9, 3)), rng.normal(size=(2, 3)), rng.normal(size=2)
    found = echo_state.ridge(x, x @ V.T + v, 0.0)
    same(found[0], V)
    same(found[1], v)


def looked(rng, S, Q, M):
    """A query, a memory, cotangents of context and weights, and the parameters of the two kinds that have some."""
    query, memory, grads = rng.normal(size=Q), rng.normal(size=(S, M)), (rng.normal(size=M), rng.normal(size=S))
    of_additive = normal(rng, {"query.weight": (2, Q), "key.weight": (2, M), "bias": (2,), "v": (2,)})
    return query, memory, grads, of_additive, normal(rng, {"weight": (Q, M)})


def every_kind(query, memory, mask, grads, of_additive, of_general):
    yield attention.additive(query, memory, mask, of_additive, *grads)
    yield attention.dot(query, memory, mask, *grads)
    yield attention.general(query, memory, mask, of_general, *grads)


def test_attention_to_equal_scores_is_the_mean_of_what_is_not_hidden():
    _, memory, grads, of_additive, of_general = looked(RNG(), 4, 3, 3)
    mask = np.array([True, False, True, True])
    of_additive["v"] = np.zeros(2)
    for context, a, *_ in every_kind(np.zeros(3), memory, mask, grads, of_additive, of_general):
        same(a, [1 / 3, 0, 1 / 3, 1 / 3])
        same(context, memory[mask].mean(axis=0))


def test_attention_with_a_mask_is_attention_to_the_memory_without_the_places_hidden():
    query, memory, grads, of_additive, of_general = looked(RNG(), 5, 3, 3)
    mask = np.array([True, False, True, True, False])
    memory[~mask] = np.nan  # which nothing may read
    short = query, memory[mask], np.ones(3, dtype=bool), (grads[0], grads[1][mask]), of_additive, of_general
    for found, expected in zip(every_kind(query, memory, mask, grads, of_additive, of_general), every_kind(*short)):
        same(found[0], expected[0])
        same(found[1][mask], expected[1])
        same(found[2], expected[2])
        same(found[3][mask], expected[3])
        for name in expected[4]:
            same(found[4][name], expected[4][name])
        assert (found[1][~mask] == 0).all() and (found[3][~mask] == 0).all()


@pytest.mark.parametrize("S", [0, 3])
def test_attention_to_nothing_is_0_and_so_are_all_its_gradients(S):
    given = looked(RNG(), S, 3, 3)
    for found in every_kind(*given[:2], np.zeros(S, dtype=bool), *given[2:]):
        assert all((part == 0).all() for part in [*found[:4], *found[4].values()])
        assert found[0].shape == (3,) and found[1].shape == (S,) and found[3].shape == (S, 3)


def test_general_attention_through_the_identity_is_the_dot_product_and_the_scale_is_a_multiple_of_the_query():
    query, memory, grads, _, _ = looked(RNG(), 4, 3, 3)
    mask = np.ones(4, dtype=bool)
    plain = attention.dot(query, memory, mask, *grads)
    general = attention.general(query, memory, mask, {"weight": np.eye(3)}, *grads)
    scaled = attention.dot(query / 0.5, memory, mask, *grads, scale=0.5)
    for k in (0, 1, 3):
        same(general[k], plain[k])
        same(scaled[k], plain[k])
    same(general[2], plain[2])
    same(scaled[2], 0.5 * plain[2])


def test_the_weights_of_additive_attention_to_one_number_each():
    """q = 1, m = (0, 1), all parameters 1 and no bias: scores tanh(1) and tanh(2)."""
    ones = {"query.weight": np.ones((1, 1)), "key.weight": np.ones((1, 1)), "bias": np.zeros(1), "v": np.ones(1)}
    memory, nothing = np.array([[0.0], [1.0]]), (np.zeros(1), np.zeros(2))
    context, a, *_ = attention.additive(np.ones(1), memory, [True, True], ones, *nothing)
    second = 1 / (1 + np.exp(np.tanh(1.0) - np.tanh(2.0)))
    same(a, [1 - second, second])
    same(context, [second])


def test_a_network_attending_to_one_place_is_elman_with_that_place_beside_its_input():
    """The weight of the one place is 1 whatever the query: nothing comes back through the attention."""
    T, I, H, M = 4, 2, 3, 2  # noqa: E741
    x, states, inner, grad_outs, grad_states = numbers(RNG(), T, I, H + M, [(H,)], elman_shapes(I + M, H))
    weights = {f"cell.{name}": w for name, w in inner.items()}
    *_, of_attention, _ = looked(RNG(), 3, H, M)
    weights |= {f"attention.{name}": w for name, w in of_attention.items()}
    memory, mask = RNG().normal(size=(3, M)), np.array([False, True, False])
    found = attention.layer_attending(x, states, memory, mask, weights, grad_outs, grad_states)

    beside = np.concatenate([x, np.tile(memory[1], (T, 1))], axis=1)
    outs, last, grad_x, grad_first, grads = elman.layer(beside, states, inner, grad_outs[:, :H], grad_states)
    expected = np.concatenate([outs, beside[:, I:]], axis=1), last, grad_x[:, :I], grad_first
    same_layer(found, (*expected, {f"cell.{name}": g for name, g in grads.items()}))
    same(found[5][1], (grad_x[:, I:] + grad_outs[:, H:]).sum(axis=0))
    assert (found[5][~mask] == 0).all()
    assert all(np.abs(g).max() < 1e-12 for name, g in found[4].items() if name.startswith("attention."))


def test_a_network_attends_with_the_state_before_the_step():
    x, states, inner, grad_outs, grad_states = numbers(RNG(), 3, 2, 5, [(3,)], elman_shapes(4, 3))
    weights = {f"cell.{name}": w for name, w in inner.items()}
    _, memory, (_, nothing), of_attention, _ = looked(RNG(), 4, 3, 2)
    weights |= {f"attention.{name}": w for name, w in of_attention.items()}
    mask = np.ones(4, dtype=bool)
    outs, *_ = attention.layer_attending(x, states, memory, mask, weights, grad_outs, grad_states)
    for t, h in enumerate([states[0], *outs[:-1, :3]]):
        same(outs[t, 3:], attention.additive(h, memory, mask, of_attention, np.zeros(2), nothing)[0])


PIECES = {
    "lstm, projection": (lstm.layer_projection, 2, [(2,), (3,)], {**lstm_shapes(2, 3, 2), "weight_hr": (2, 3)}),
    "jordan, softmax": (jordan.layer_softmax, 2, [(2,)], of_jordan(2, 3, 2)),
    "clockwork": (partial(clockwork.layer, periods=[1, 2, 4]), 6, [(6,)], elman_shapes(2, 6)),
    "scrn": (
        partial(scrn.layer, alpha=0.9),
        5,
        [(3,), (2,)],
        {"weight_ih": (3, 2), "weight_hh": (3, 3), "weight_is": (2, 2), "weight_sh": (3, 2)},
    ),
}


@pytest.mark.parametrize("kind", PIECES)
def test_a_sequence_in_two_pieces_is_the_sequence_whole_forwards_and_backwards(kind):
    layer, out, shapes, named = PIECES[kind]
    x, states, weights, grad_outs, grad_states = numbers(RNG(), 5, 2, out, shapes, named)
    if kind == "clockwork":
        states, grad_states = [*states, 0], [*grad_states, 0]
    whole = layer(x, states, weights, grad_outs, grad_states)
    between = layer(x[:3], states, weights, grad_outs[:3], grad_states)[1]
    second = layer(x[3:], between, weights, grad_outs[3:], grad_states)
    first = layer(x[:3], states, weights, grad_outs[:3], second[3])
    grads = {name: first[4][name] + second[4][name] for name in weights}
    joined = np.concatenate([first[0], second[0]]), second[1], np.concatenate([first[2], second[2]]), first[3], grads
    same_layer(joined, whole)
