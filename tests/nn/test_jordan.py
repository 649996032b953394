"""Jordan's network and its teachers: forcing, sampling, what is fed back, and the loop that is not there."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import nn, optim, random
from minigrad.errors import ArgumentError, DtypeError, MinigradError, OutOfRangeError, ShapeError

from ..oracles import jordan
from ..strategies import SEEDS, as_numpy, as_tensor
from .helpers import close, gradient, in_float64

# Where tanh is saturated, 1 - h^2 is itself only rounding, of 1e-16 times the numbers that it meets: weights of a few
# and sums of some dozens. Hence the floor of gradients: 1e-9 of it is 1e-13.
FLOOR = 1e-4
FEEDBACK = ["output", "softmax", "one_hot"]
UNROLLS = ["compiled", "eager"]
SIZES = {"T": st.integers(0, 5), "B": st.integers(1, 3), "I": st.integers(1, 3), "H": st.integers(1, 3)}


def network(I: int, H: int, O: int, seed: int = 0, scale: float = 1.0, **options: Any) -> nn.Recurrent:  # noqa: E741
    """In float64, with normal weights from the seed."""
    unroll = options.pop("unroll", "compiled")
    net = in_float64(nn.Recurrent(nn.JordanCell(I, H, O, **options), unroll=unroll))
    rng = np.random.default_rng(seed)
    for p in net.parameters():
        p.data = rng.normal(size=p.shape) * scale
    return net


def numbers(T: int, B: int, I: int, O: int, seed: int = 0) -> tuple[np.ndarray, ...]:  # noqa: E741
    """xs, targets, what the first step is fed, a state, and cotangents of outputs and state."""
    rng = np.random.default_rng(seed)
    return tuple(rng.normal(size=s) for s in ((T, B, I), (T, B, O), (B, O), (B, O), (T, B, O), (B, O)))


def taught(net, xs, targets, first, state, grad_outs, grad_last, probability=1.0, lengths=None):
    """Outputs and last state, and the gradients by xs, targets, first, state and weights, as numpy arrays."""
    backend = net.cell.bias.backend
    leaf = lambda a: None if a is None else as_tensor(a, backend, requires_grad=a.dtype.kind == "f")
    xs, targets, first, state = leaf(xs), leaf(targets), leaf(first), leaf(state)
    net.zero_grad()
    outs, last = net(xs, state, lengths, memory=nn.Teacher(targets, probability, first))
    loss = (outs * as_tensor(grad_outs, backend)).sum() + (last * as_tensor(grad_last, backend)).sum()
    if loss.requires_grad:
        loss.backward()
    of_inputs = [
        None if t is None or not t.requires_grad else as_numpy(gradient(t)) for t in (xs, targets, first, state)
    ]
    grads = {name.removeprefix("cells.0.0."): as_numpy(gradient(p)) for name, p in net.named_parameters()}
    return as_numpy(outs), as_numpy(last), *of_inputs, grads


def by_rows(net, xs, targets, starts, grad_outs, grad_last, mask, lengths=None):
    """The oracle for each row on its own: outs, last, and the gradients by xs, targets, start and weights.

    starts: what each row's first step is fed. mask (T, B): where a later step is fed the truth.
    """
    weights = {name.removeprefix("cells.0.0."): as_numpy(p) for name, p in net.named_parameters()}
    outs, grad_xs, grad_targets = (np.zeros_like(a) for a in (grad_outs, xs, targets))
    last, grad_starts = np.zeros_like(starts), np.zeros_like(starts)
    grads = {name: np.zeros_like(w) for name, w in weights.items()}
    for b, n in enumerate([len(xs)] * xs.shape[1] if lengths is None else lengths):
        found = jordan.sampled(
            xs[:n, b], [starts[b]], targets[:n, b], mask[:n, b], weights, grad_outs[:n, b], [grad_last[b]],
            net.cell.feedback,
        )  # fmt: skip
        outs[:n, b], (last[b],), grad_xs[:n, b], (grad_starts[b],), of_weights, grad_targets[:n, b] = found
        for name in grads:
            grads[name] += of_weights[name]
    return outs, last, grad_xs, grad_targets, grad_starts, grads


# Teacher forcing


@pytest.mark.parametrize("unroll", UNROLLS)
@pytest.mark.parametrize("feedback", FEEDBACK)
@given(data=st.data(), O=st.integers(1, 3), seed=SEEDS, **SIZES)
def test_teacher_forcing_has_the_values_and_gradients_of_bptt_by_hand(feedback, unroll, data, T, B, I, H, O, seed):  # noqa: E741
    """By inputs, targets, what the first step is fed, and weights; a state is given, and has no effect."""
    lengths = data.draw(st.none() | st.lists(st.integers(0, T), min_size=B, max_size=B))
    net = network(I, H, O, seed, feedback=feedback, unroll=unroll)
    xs, targets, first, state, grad_outs, grad_last = numbers(T, B, I, O, seed)
    outs, last, grad_xs, grad_targets, grad_first, grad_state, grads = taught(
        net, xs, targets, first, state, grad_outs, grad_last, lengths=lengths
    )
    mask = np.ones((T, B), dtype=bool)
    expected = by_rows(net, xs, targets, first, grad_outs, grad_last, mask, lengths)
    took_steps = np.array([T] * B if lengths is None else lengths)[:, None] > 0
    close(outs, expected[0], 1e-12)
    close(last, np.where(took_steps, expected[1], state), 1e-12)  # without a step, the state given
    close(grad_xs, expected[2], floor=FLOOR)
    close(grad_targets, expected[3], floor=FLOOR)
    close(grad_first, np.where(took_steps, expected[4], 0), floor=FLOOR)
    close(grad_state, np.where(took_steps, 0, grad_last), floor=FLOOR)
    for name, grad in expected[5].items():
        close(grads[name], grad, floor=FLOOR, what=name)


@pytest.mark.parametrize("unroll", UNROLLS)
@given(O=st.integers(1, 3), seed=SEEDS, **SIZES)
def test_without_a_first_the_first_step_is_fed_nothing(unroll, T, B, I, H, O, seed):  # noqa: E741
    net = network(I, H, O, seed, unroll=unroll)
    xs, targets, _, state, grad_outs, grad_last = numbers(T, B, I, O, seed)
    found = taught(net, xs, targets, None, state, grad_outs, 0 * grad_last)
    weights = {name.removeprefix("cells.0.0."): p.data for name, p in net.named_parameters()}
    grads = dict.fromkeys(weights, 0)
    for b in range(B):
        outs, grad_xs, grad_targets, of_weights = jordan.forced(xs[:, b], targets[:, b], weights, grad_outs[:, b])
        for actual, wanted in ((found[0], outs), (found[2], grad_xs), (found[3], grad_targets)):
            close(actual[:, b], wanted, floor=FLOOR)
        grads = {name: grads[name] + of_weights[name] for name in grads}
    for name, grad in grads.items():
        close(found[6][name], grad, floor=FLOOR, what=name)


@pytest.mark.parametrize("probability", [1.0, 0.5])
def test_every_backend_has_the_values_and_gradients_of_teaching(probability, backend):
    net = network(2, 3, 4, feedback="softmax")
    xs, targets, first, state, grad_outs, grad_last = numbers(5, 3, 2, 4)
    net.to(backend)
    with mg.seed(3):
        forced = as_numpy(random.bernoulli(mg.zeros((5, 3, 1), backend=backend), probability))[:, :, 0]
    with mg.seed(3):
        found = taught(net, xs, targets, first, state, grad_outs, grad_last, probability, [5, 0, 3])
    starts = np.where(forced[:1].T, first, state)
    expected = by_rows(net, xs, targets, starts, grad_outs, grad_last, forced, [5, 0, 3])
    for actual, wanted in zip(found[:1] + found[2:4], expected[:1] + expected[2:4]):
        close(actual, wanted, floor=FLOOR)
    for name, grad in expected[5].items():
        close(found[6][name], grad, floor=FLOOR, what=name)


@pytest.mark.parametrize("probability", [1.0, 0.5])
def test_integer_targets_are_one_hot_vectors(probability, backend):
    net = network(2, 3, 4).to(backend)
    xs, _, first, state, grad_outs, grad_last = numbers(6, 2, 2, 4)
    tokens = np.random.default_rng(1).integers(0, 4, (6, 2))
    for targets in (tokens, tokens.astype("int32")):
        with mg.seed(0):
            found = taught(net, xs, targets, first, state, grad_outs, grad_last, probability)
        with mg.seed(0):
            expected = taught(net, xs, np.eye(4)[tokens], first, state, grad_outs, grad_last, probability)
        assert found[3] is None and expected[3] is not None
        for a, b in zip((*found[:3], *found[4:6]), (*expected[:3], *expected[4:6])):
            close(a, b, 1e-14)
        for name, grad in expected[6].items():
            close(found[6][name], grad, 1e-14, what=name)


def test_targets_may_be_arrays_or_nested_lists():
    net = nn.Recurrent(nn.JordanCell(2, 3, 3))
    xs, tokens = mg.random.normal((2, 2, 2)), [[2, 0], [1, 1]]
    expected = net(xs, memory=nn.Teacher(mg.tensor(tokens, dtype="int64")))[0].numpy()
    vectors = [[[0, 0, 1], [1, 0, 0]], [[0, 1, 0], [0, 1, 0]]]
    for targets in (tokens, np.array(tokens), vectors, np.array(vectors, dtype="float32")):
        assert (net(xs, memory=nn.Teacher(targets))[0].numpy() == expected).all()
    first = [[0, 1, 0], [0, 0, 1]]
    expected = net(xs, memory=nn.Teacher(tokens, first=mg.tensor(first)))[0].numpy()
    assert (net(xs, memory=nn.Teacher(tokens, first=first))[0].numpy() == expected).all()


@pytest.mark.parametrize("feedback", FEEDBACK)
def test_the_last_state_after_teacher_forcing_is_what_the_net_itself_would_feed_back(feedback):
    net = network(2, 3, 4, feedback=feedback)
    xs, targets, *_ = numbers(5, 2, 2, 4)
    outs, last = net(mg.tensor(xs), memory=nn.Teacher(mg.tensor(targets)))
    own = jordan.FED_BACK[feedback]
    close(last, np.stack([own(o) for o in outs.numpy()[-1]]), 1e-14)
    assert np.abs(last.numpy() - targets[-1]).max() > 0.1


def test_the_targets_of_the_window_before_continue_it():
    """With them as `first`, two windows are one sequence, also where time is cut in the middle."""
    net = network(2, 3, 4)
    xs, targets, first, *_ = (mg.tensor(a) for a in numbers(7, 2, 2, 4))
    whole, _ = net(xs, memory=nn.Teacher(targets, 1.0, first))
    early, state = net(xs[:3], memory=nn.Teacher(targets[:3], 1.0, first))
    late, _ = net(xs[3:], state, memory=nn.Teacher(targets[3:], 1.0, targets[2]))
    close(mg.concat([early, late]), whole.numpy(), 1e-14)


def test_targets_of_the_padding_have_no_effect_and_a_gradient_of_0():
    net = network(2, 3, 4)
    xs, targets, first, state, grad_outs, grad_last = numbers(6, 3, 2, 4)
    lengths = [4, 0, 6]
    padding = np.arange(6)[:, None] >= np.array(lengths)
    other = np.where(padding[:, :, None], 1e6, targets)
    a, b = (taught(net, xs, t, first, state, grad_outs, grad_last, lengths=lengths) for t in (targets, other))
    assert all((p == q).all() for p, q in zip((*a[:6], *a[6].values()), (*b[:6], *b[6].values())))
    assert not a[3][padding].any() and not a[0][padding].any()


# The loop


def loops(capsys, net: nn.Recurrent, xs: mg.Tensor, **options: Any) -> list[list[str]]:
    """The lines that `explain` has in the loop of each pass: forward, backward."""
    net.explain(xs, **options)
    found: list[list[str]] = []
    for line in capsys.readouterr().out.splitlines():
        if re.match(r"  \S|\S", line):  # a head
            inside = line.startswith("  loop,")
            if inside:
                found.append([])
        elif inside:
            found[-1].append(line.strip())
    return found


@pytest.mark.parametrize("feedback", FEEDBACK)
@pytest.mark.parametrize("lengths", [None, [3, 5]])
def test_with_teacher_forcing_the_compiled_loop_is_empty_and_open_loop_it_is_not(feedback, lengths, capsys):
    net, xs = nn.Recurrent(nn.JordanCell(3, 4, 2, feedback=feedback)), mg.random.normal((5, 2, 3))
    targets = mg.random.normal((5, 2, 2))
    if lengths is None:
        assert loops(capsys, net, xs, memory=nn.Teacher(targets)) == [["nothing"], ["nothing"]]
    forward, backward = loops(capsys, net, xs, memory=nn.Teacher(targets), lengths=lengths)
    assert not any("@" in line or "tanh" in line for line in forward + backward)  # with lengths, only the last f
    for memory in (None, nn.Teacher(targets, 0.5)):
        forward, backward = loops(capsys, net, xs, memory=memory, lengths=lengths)
        assert any("@" in line for line in forward) and any("tanh" in line for line in forward)
        if feedback != "one_hot":
            assert any("@" in line for line in backward)


def test_through_a_one_hot_vector_there_is_no_backpropagation_through_time(capsys):
    net, xs = nn.Recurrent(nn.JordanCell(3, 4, 2, feedback="one_hot")), mg.random.normal((5, 2, 3))
    _, backward = loops(capsys, net, xs)
    assert backward == ["nothing"]


# What is fed back


@pytest.mark.parametrize("unroll", UNROLLS)
@pytest.mark.parametrize("feedback, passes", [("output", True), ("softmax", True), ("one_hot", False)])
def test_the_gradient_flows_back_in_time_through_all_but_a_one_hot_vector(feedback, passes, unroll):
    net = network(2, 3, 4, feedback=feedback, unroll=unroll)
    xs = as_tensor(numbers(3, 1, 2, 4)[0], "numpy", requires_grad=True)
    outs, _ = net(xs)
    outs[-1].sum().backward()
    by_step = np.abs(as_numpy(xs.grad)).sum(axis=(1, 2))
    assert by_step[2] > 0 and ((by_step[:2] > 1e-6) == passes).all() and (passes or not by_step[:2].any())


@pytest.mark.parametrize("unroll", UNROLLS)
@pytest.mark.parametrize(
    "feedback, forced, open_loop",
    # h = x_1 + x_2 + f_1 + 10 f_2 in both hidden units, o = h_1 + h_2 in both outputs. Open-loop o = 4, then f is
    # (4, 4), (1/2, 1/2), or, of equals the first, (1, 0).
    [
        ("output", [4, 4 + 22, 8 + 42], [4, 4 + 22 * 4, 8 + 22 * 92]),
        ("softmax", [4, 4 + 22, 8 + 42], [4, 4 + 11, 8 + 11]),
        ("one_hot", [4, 4 + 22, 8 + 42], [4, 4 + 2, 8 + 2]),
    ],
)
def test_a_linear_network_has_the_numbers_of_a_calculation_by_hand(feedback, forced, open_loop, unroll, backend):
    cell = nn.JordanCell(2, 2, 2, feedback=feedback, activation=lambda a: a)
    ones, zeros = np.ones((2, 2)), np.zeros(2)
    cell.load_state_dict(
        {"weight_ih": ones, "weight_oh": ones * [1, 10], "bias": zeros, "weight_ho": ones, "bias_o": zeros}
    )
    net = nn.Recurrent(cell, unroll=unroll).to(backend)
    xs = mg.tensor([[[1, 1]], [[1, 1]], [[2, 2]]], backend=backend)
    assert net(xs)[0][:, 0].tolist() == [[o, o] for o in open_loop]
    teacher = nn.Teacher(mg.tensor([[[1, 1]], [[1, 2]], [[5, 5]]], backend=backend))
    assert net(xs, memory=teacher)[0][:, 0].tolist() == [[o, o] for o in forced]


def test_run_open_loop_the_network_does_not_say_what_it_says_when_forced():
    net = network(2, 3, 4, feedback="softmax")
    xs, targets, *_ = (mg.tensor(a) for a in numbers(6, 2, 2, 4))
    by_itself, forced = net(xs)[0].numpy(), net(xs, memory=nn.Teacher(targets))[0].numpy()
    assert (by_itself[0] == forced[0]).all()  # nothing was said before
    assert (np.abs(by_itself - forced).max(axis=(1, 2))[1:] > 1e-3).all()


def test_forced_by_what_it_says_itself_the_network_says_it_again():
    """Teacher forcing on the open-loop outputs is a fixed point of it."""
    net = network(2, 3, 4, scale=0.5)
    xs = mg.tensor(numbers(6, 2, 2, 4)[0])
    by_itself, last = net(xs)
    again, same = net(xs, memory=nn.Teacher(by_itself.detach()))
    close(again, by_itself.numpy(), 1e-14)
    close(same, last.numpy(), 1e-14)


# Scheduled sampling


@pytest.mark.parametrize("unroll", UNROLLS)
@pytest.mark.parametrize("feedback", FEEDBACK)
@given(data=st.data(), O=st.integers(1, 3), p=st.sampled_from([0.2, 0.5, 0.9]), seed=SEEDS, **SIZES)
def test_scheduled_sampling_has_the_values_and_gradients_of_bptt_by_hand(
    feedback, unroll, data, T, B, I, H, O, p, seed  # noqa: E741
):  # fmt: skip
    """With the choices that the seed draws. The first step is fed the state, or `first` where there is one."""
    lengths = data.draw(st.none() | st.lists(st.integers(0, T), min_size=B, max_size=B))
    has_first = data.draw(st.booleans())
    net = network(I, H, O, seed, feedback=feedback, unroll=unroll)
    xs, targets, first, state, grad_outs, grad_last = numbers(T, B, I, O, seed)
    with mg.seed(seed):
        forced = random.bernoulli(mg.zeros((T, B, 1)), p).numpy()[:, :, 0]
    at_first = forced[0][:, None] & has_first if T else np.zeros((B, 1), dtype=bool)
    with mg.seed(seed):
        outs, last, grad_xs, grad_targets, grad_first, grad_state, grads = taught(
            net, xs, targets, first if has_first else None, state, grad_outs, grad_last, p, lengths
        )
    starts = np.where(at_first, first, state)
    expected = by_rows(net, xs, targets, starts, grad_outs, grad_last, forced, lengths)
    took_steps = np.array([T] * B if lengths is None else lengths)[:, None] > 0
    from_first = at_first & took_steps
    close(outs, expected[0], 1e-12)
    close(last, np.where(took_steps, expected[1], state), 1e-12)
    close(grad_xs, expected[2], floor=FLOOR)
    close(grad_targets, expected[3], floor=FLOOR)
    close(grad_state, np.where(from_first, 0, expected[4]), floor=FLOOR)
    if has_first:
        close(grad_first, np.where(from_first, expected[4], 0), floor=FLOOR)
    for name, grad in expected[5].items():
        close(grads[name], grad, floor=FLOOR, what=name)


@pytest.mark.parametrize("feedback", FEEDBACK)
def test_with_probability_0_the_network_runs_open_loop_and_with_1_it_is_forced(feedback):
    net = network(2, 3, 4, feedback=feedback)
    xs, targets, first, state, *_ = (mg.tensor(a) for a in numbers(8, 3, 2, 4))
    never, last = net(xs, state, memory=nn.Teacher(targets, 0.0, first))
    by_itself, own_last = net(xs, state)
    assert (never.numpy() == by_itself.numpy()).all() and (last.numpy() == own_last.numpy()).all()
    almost, _ = net(xs, state, memory=nn.Teacher(targets, 1 - 1e-12, first))  # drawn, and always true
    close(almost, net(xs, state, memory=nn.Teacher(targets, 1.0, first))[0].numpy(), 1e-14)


@pytest.mark.parametrize("p", [0.1, 0.75])
def test_the_truth_is_fed_as_often_as_the_probability_says_for_each_row_and_step_anew(p):
    """The network says what it is fed, and never x: its own outputs are 0, and the truth is 1."""
    T, B = 101, 100
    cell = nn.JordanCell(1, 1, 1, activation=lambda a: a)
    zero, one = np.zeros((1, 1)), np.ones((1, 1))
    cell.load_state_dict({"weight_ih": zero, "weight_oh": one, "bias": zero[0], "weight_ho": one, "bias_o": zero[0]})
    truth = mg.tensor(1.0 + np.arange(T * B).reshape(T, B, 1), dtype="float64")
    outs, _ = nn.Recurrent(in_float64(cell))(mg.zeros((T, B, 1), dtype="float64"), memory=nn.Teacher(truth, p))
    heard, before = outs.numpy()[1:, :, 0], truth.numpy()[:-1, :, 0]
    forced = heard == before
    assert (outs.numpy()[0] == 0).all() and (heard[~forced] == outs.numpy()[:-1, :, 0][~forced]).all()
    n = forced.size
    assert abs(forced.mean() - p) < 5 * np.sqrt(p * (1 - p) / n)
    for share in (forced.mean(axis=0), forced.mean(axis=1)):  # no row and no step is special: 100 numbers each
        assert np.abs(share - p).max() < 5 * np.sqrt(p * (1 - p) / 100)
    together = (forced[1:] & forced[:-1]).mean()  # nor does one choice depend on the one before
    assert abs(together - p * p) < 5 * np.sqrt(p * p * (1 - p * p) / n) * 2


def test_annealing_the_probability_records_no_new_programs():
    net = nn.Recurrent(nn.JordanCell(2, 3, 4))
    xs, targets = mg.random.normal((6, 2, 2)), mg.random.normal((6, 2, 4))
    mg.scan.clear_cache()
    probability = optim.inverse_sigmoid(5.0)
    for step in range(12):
        outs, _ = net(xs, memory=nn.Teacher(targets, probability(step)))
        outs.sum().backward()
        assert mg.scan.cache_info().programs == 1
    mg.scan.clear_cache()


def test_the_choices_follow_the_seed_and_are_drawn_at_every_call_anew():
    net = network(2, 3, 4)
    xs, targets, *_ = (mg.tensor(a) for a in numbers(20, 3, 2, 4))
    teacher = nn.Teacher(targets, 0.5)
    with mg.seed(1):
        first, second = (net(xs, memory=teacher)[0].numpy() for _ in range(2))
    with mg.seed(1):
        again = net(xs, memory=teacher)[0].numpy()
    assert (first == again).all() and (first != second).any()


def test_teacher_forcing_and_no_teacher_draw_no_random_numbers():
    net = network(2, 3, 4)
    xs, targets, *_ = (mg.tensor(a) for a in numbers(5, 2, 2, 4))
    before = random.get_state()
    net(xs)
    net(xs, memory=nn.Teacher(targets))
    assert random.get_state() == before


MODIFIERS = {
    "zoneout": lambda cell: nn.Zoneout(cell, 0.3),
    "dropout": lambda cell: nn.VariationalDropout(cell, 0.2, 0.3),
    "residual": nn.Residual,
}


@pytest.mark.parametrize("probability", [1.0, 0.6])
@pytest.mark.parametrize("kind", MODIFIERS)
def test_a_teacher_reaches_the_cell_within_modifiers(kind, probability):
    """Both loops draw alike, and agree; what is forced shows out of training, where the modifier is not random."""
    xs, targets, *_ = (mg.tensor(a) for a in numbers(5, 2, 3, 3))
    found = []
    for unroll in UNROLLS:
        net = nn.Recurrent(MODIFIERS[kind](network(3, 4, 3).cell), unroll=unroll)
        with mg.seed(2):
            found.append(net(xs, memory=nn.Teacher(targets, probability))[0].numpy())
    close(found[0], found[1], 1e-13)
    expected = network(3, 4, 3)(xs, memory=nn.Teacher(targets))[0].numpy().copy()
    assert np.abs(found[0] - expected).max() > 1e-3
    if kind == "residual":
        expected = xs.numpy() + expected
    elif kind == "zoneout":  # the output, which is the state, moves by a part each time
        for t in range(5):
            expected[t] = 0.3 * (expected[t - 1] if t else 0) + 0.7 * expected[t]
    close(net.eval()(xs, memory=nn.Teacher(targets))[0], expected, 1e-13)


# Learning, and what is refused


def test_a_network_that_was_forced_generates_by_itself_what_it_was_taught():
    """A cycle of symbols, learned without any backpropagation through time; x is nothing but the beat."""
    T, cycle = 24, 4
    net = nn.Recurrent(nn.JordanCell(1, 8, cycle, feedback="one_hot"))
    tokens = np.tile(np.arange(cycle), T // cycle)[:, None]
    xs, optimizer = mg.zeros((T, 1, 1)), optim.Adam(net.parameters(), 0.05)
    for _ in range(120):
        net.zero_grad()
        outs, _ = net(xs, memory=nn.Teacher(tokens))
        mg.cross_entropy(outs, mg.tensor(tokens)).backward()
        optimizer.step()
    said = mg.argmax(net(xs)[0], axis=-1).numpy()
    assert (said == tokens).all()


TARGETS = np.zeros((3, 2), dtype="int64")


@pytest.mark.parametrize(
    "memory, error, words",
    [
        (mg.zeros((3, 2, 4)), ArgumentError, r"nn\.Teacher\(targets, \.\.\.\), got a Tensor"),
        (nn.Teacher(TARGETS[:2]), ShapeError, r"\(3, 2, 4\), or integers \(3, 2\), got int64\(2, 2\)"),
        (nn.Teacher(TARGETS[:, :1]), ShapeError, r"got int64\(3, 1\)"),
        (nn.Teacher(TARGETS.astype("float64")), ShapeError, r"got float64\(3, 2\)"),
        (nn.Teacher(np.zeros((3, 2, 5))), ShapeError, r"got float64\(3, 2, 5\)"),
        (nn.Teacher(TARGETS[:, :, None]), ShapeError, r"got int64\(3, 2, 1\)"),
        (nn.Teacher([[0, 1, 2]]), ShapeError, r"got \(1, 3, 4\)"),
        (nn.Teacher([[0.5, 1], [1, 1], [1, 1]]), ArgumentError, "int64 cannot hold"),
        (nn.Teacher(TARGETS + 4), OutOfRangeError, "4 is not in 0"),
        (nn.Teacher(TARGETS - 1), OutOfRangeError, "-1 is not in 0"),
        (nn.Teacher(None), DtypeError, "expected numbers"),
        (nn.Teacher(TARGETS, 1.5), ArgumentError, "from 0 to 1, got 1.5"),
        (nn.Teacher(TARGETS, -0.1), ArgumentError, "from 0 to 1, got -0.1"),
        (nn.Teacher(TARGETS, float("nan")), ArgumentError, "from 0 to 1, got nan"),
        (nn.Teacher(TARGETS, "often"), ArgumentError, "from 0 to 1, got 'often'"),
        (nn.Teacher(TARGETS, None), ArgumentError, "from 0 to 1, got None"),
        (nn.Teacher(TARGETS, np.array([0.5, 0.5])), ArgumentError, "from 0 to 1"),
        (nn.Teacher(TARGETS, 1.0, mg.zeros((2, 3))), ShapeError, r"first must have the shape \(2, 4\), got \(2, 3\)"),
        (nn.Teacher(TARGETS, 0.5, [0, 1]), ShapeError, r"first must have the shape \(2, 4\), got \(2,\)"),
    ],
)
def test_a_teacher_who_does_not_fit_is_refused_with_what_is_wanted(memory, error, words):
    net = nn.Recurrent(nn.JordanCell(3, 5, 4))
    with pytest.raises(error, match=words) as caught:
        net(mg.zeros((3, 2, 3)), memory=memory)
    assert isinstance(caught.value, MinigradError)


@pytest.mark.parametrize("p", [np.float32(0.5), np.array(0.5), 0.5, 1, 0, True])
def test_a_probability_may_be_any_number(p):
    net = nn.Recurrent(nn.JordanCell(3, 5, 4))
    outs, _ = net(mg.zeros((3, 2, 3)), memory=nn.Teacher(TARGETS, p))
    assert outs.dtype == mg.float32


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"output_size": 0}, "output_size must be an integer from 1, got 0"),
        ({"output_size": True}, "output_size must be an integer from 1, got True"),
        ({"output_size": 2.0}, "output_size must be an integer from 1, got 2.0"),
        ({"feedback": "sampled"}, "output, softmax, one_hot, not 'sampled'"),
        ({"hidden_size": 0}, "hidden_size"),
    ],
)
def test_a_cell_that_cannot_be_is_refused(arguments, words):
    with pytest.raises(ArgumentError, match=words):
        nn.JordanCell(**{"input_size": 2, "hidden_size": 3, **arguments})


def test_there_are_by_default_as_many_outputs_as_hidden_units():
    cell = nn.JordanCell(2, 3)
    assert cell.output_size == 3 and cell.initial_state(5).shape == (5, 3)
    assert (nn.JordanCell(2, 3, 7).output_size, nn.JordanCell(2, 3, 7).initial_state(1).shape) == (7, (1, 7))
