"""Networks made of networks: against their parts run one after another, row by row, and step by step."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import nn, optim, tree
from minigrad.errors import ArgumentError, DtypeError, MinigradError, ShapeError

from ..oracles import elman
from ..strategies import SEEDS, as_numpy, as_tensor
from .helpers import Learned, by_rows, close, gradient, in_float64, pulled

UNROLLS = ["compiled", "eager"]


def drawn(module: nn.Module, seed: int = 0, backend: str = "numpy") -> nn.Module:
    """The module in float64, with weights that are normal numbers."""
    rng = np.random.default_rng(seed)
    for p in module.parameters():
        p.data = rng.normal(size=p.shape)
    return in_float64(module, backend)


def past(lengths, steps: int) -> np.ndarray:
    """Where (T, B) the rows of these lengths have ended."""
    return np.arange(steps)[:, None] >= np.asarray(lengths)


def floats(*values) -> list[mg.Tensor]:
    return [s for s in tree.leaves(list(values)) if "float" in str(s.dtype)]


def states_like(net: nn.Network, batch: int, rng: np.random.Generator):
    """A state for the network, as it gives one, with numbers of its own in every part of floats."""
    _, state = net(mg.zeros((1, batch, net.input_size), dtype="float64"))
    return tree.map(
        lambda s: as_tensor(rng.normal(size=s.shape), "numpy", True) if "float" in str(s.dtype) else 0 * s, state
    )


def alone(net: nn.Network, xs: np.ndarray, lengths, state=None, **options):
    """The outputs, the last of them and the state of each row, run by itself as far as it goes."""
    T, found = len(xs), []
    for b, n in enumerate(lengths):
        row = tree.map(lambda s, b=b: s[b : b + 1], state)
        outs, last_state = net(mg.tensor(xs[:n, b : b + 1]), row, **options)
        last, _ = net.final(mg.tensor(xs[:n, b : b + 1]), row, **options)
        padded = np.zeros((T, net.output_size))
        padded[:n] = outs.numpy()[:, 0]
        found.append((padded, last.numpy()[0], [s.numpy()[0] for s in tree.leaves(last_state)]))
    outs, lasts, states = zip(*found)
    return np.stack(outs, axis=1), np.stack(lasts), [np.stack(parts) for parts in zip(*states)]


# Stacked


def unlike(extra: int) -> list:
    return [nn.ElmanCell(2, 3), nn.LSTMCell(3 + extra, 4, projection=2), nn.ClockworkCell(2 + extra, 4)]


def with_directions(extra: int) -> list:
    both = nn.Bidirectional(nn.GRUCell(3 + extra, 2), nn.ElmanCell(3 + extra, 1))
    return [nn.GRUCell(2, 3), both, nn.JordanCell(3 + extra, 5, 2, feedback="softmax")]


def with_deep_ones(extra: int) -> list:
    deep = nn.Recurrent(nn.GRUCell, 2, 2, num_layers=2, bidirectional=True)
    return [deep, nn.Stacked(nn.SCRNCell(4 + extra, 3, context_size=1), nn.LSTMCell(4, 2)), Learned(2 + extra, 2)]


STACKS = {"unlike": unlike, "with directions": with_directions, "with deep ones": with_deep_ones}


def one_after_another(net, xs, state=None, lengths=None, reset=None, reverse=False):
    """What a stack computes, layer by layer."""
    outs, finals, below = [], [], xs
    for i, layer in enumerate(net.layers):
        out, final = layer(below, None if state is None else state[i], lengths, reset, reverse=reverse)
        below = mg.concat([out, xs], axis=-1) if net.skip else out
        outs.append(out)
        finals.append(final)
    return mg.concat(outs, axis=-1) if net.skip else outs[-1], tuple(finals)


@pytest.mark.slow
@pytest.mark.parametrize("kind", STACKS)
@given(
    skip=st.booleans(), data=st.data(), T=st.integers(0, 4), B=st.integers(1, 3), with_state=st.booleans(), seed=SEEDS
)
def test_a_stack_is_its_layers_run_one_after_another(kind, skip, data, T, B, with_state, seed):
    lengths = data.draw(st.none() | st.lists(st.integers(0, T), min_size=B, max_size=B))
    reverse, rng = data.draw(st.booleans()), np.random.default_rng(seed)
    reset = rng.random((T, B)) < 0.3 if data.draw(st.booleans()) else None
    net = drawn(nn.Stacked(*STACKS[kind](2 if skip else 0), skip=skip), seed)
    xs = as_tensor(rng.normal(size=(T, B, 2)), "numpy", True)
    state = states_like(net, B, rng) if with_state else None
    inputs = [xs, *net.parameters(), *floats(state or ())]
    expected, finals = one_after_another(net, xs, state, lengths, reset, reverse)
    by_inputs = pulled([expected, floats(finals)], inputs)
    outs, last = net(xs, state, lengths, reset, reverse=reverse)
    assert outs.shape == (T, B, net.output_size)
    close(outs, expected.numpy(), 1e-12)
    for a, b in zip(tree.leaves(last), tree.leaves(finals), strict=True):
        close(a, b.numpy(), 1e-12)
    for a, b in zip(pulled([outs, floats(last)], inputs), by_inputs):
        close(a, b, 1e-10, floor=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("kind", STACKS)
def test_a_row_of_a_stack_comes_out_as_it_does_alone_whatever_stands_in_the_padding(kind, skip, reverse):
    lengths, rng = [2, 0, 4, 1], np.random.default_rng(0)
    net = drawn(nn.Stacked(*STACKS[kind](2 if skip else 0), skip=skip))
    xs = np.where(past(lengths, 4)[..., None], np.nan, rng.normal(size=(4, 4, 2)))
    state = states_like(net, 4, rng)
    outs, lasts, states = alone(net, xs, lengths, state, reverse=reverse)
    found, last_state = net(mg.tensor(xs), state, lengths, reverse=reverse)
    close(found, outs, 1e-12)
    close(net.final(mg.tensor(xs), state, lengths, reverse=reverse)[0], lasts, 1e-12)
    for a, b in zip(tree.leaves(last_state), states, strict=True):
        close(a, b, 1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("kind", STACKS)
def test_padding_under_a_stack_gets_a_gradient_of_exactly_0(kind, skip, backend):
    lengths, rng = [2, 0, 4], np.random.default_rng(0)
    net = drawn(nn.Stacked(*STACKS[kind](2 if skip else 0), skip=skip), 0, backend)
    ended, clean, results = past(lengths, 4), rng.normal(size=(4, 3, 2)), []
    for fill in (0.5, np.nan):
        net.zero_grad()
        xs = as_tensor(np.where(ended[..., None], fill, clean), backend, True)
        outs, state = net(xs, lengths=lengths)
        last, _ = net.final(xs, lengths=lengths)
        sum((s * s).sum() for s in (outs, last, *floats(state))).backward()
        results.append([as_numpy(x) for x in (outs, last, xs.grad, *(gradient(p) for p in net.parameters()))])
    for a, b in zip(*results):
        np.testing.assert_array_equal(a, b)
        assert np.isfinite(b).all()
    outs, last, by_x = results[1][:3]
    assert (outs[ended] == 0).all() and (last[1] == 0).all() and (by_x[ended] == 0).all()
    assert (by_x[~ended] != 0).all()


@pytest.mark.parametrize("kind", ["unlike", "with deep ones"])
@pytest.mark.parametrize("skip", [False, True])
def test_a_stack_over_two_windows_is_the_stack_over_one(kind, skip):
    if kind == "with deep ones":  # but for the directions, which no window cuts
        make = lambda extra: [nn.Stacked(nn.SCRNCell(2, 3, context_size=1), nn.LSTMCell(4, 2)), Learned(2 + extra, 2)]
    else:
        make = STACKS[kind]
    net = drawn(nn.Stacked(*make(2 if skip else 0), skip=skip))
    xs = mg.random.normal((6, 2, 2), dtype="float64")
    whole, end = net(xs)
    first, middle = net(xs[:4])
    second, last = net(xs[4:], nn.detach(middle))
    close(np.concatenate([first.numpy(), second.numpy()]), whole.numpy(), 1e-13)
    for a, b in zip(tree.leaves(last), tree.leaves(end), strict=True):
        close(a, b.numpy(), 1e-13)


def test_marks_start_every_layer_anew():
    net = drawn(nn.Stacked(*with_directions(2), skip=True))
    parts = [mg.random.normal((n, 1, 2), dtype="float64") for n in (3, 1, 4)]
    starts = np.zeros((8, 1), bool)
    starts[[0, 3, 4]] = True
    outs, _ = net(mg.concat(parts), reset=starts)
    close(outs, np.concatenate([net(part)[0].numpy() for part in parts]), 1e-13)


class Echo(nn.Cell):
    """Gives its first inputs, as many as it is wide."""

    def forward(self, x, h):
        return x[:, : self.hidden_size], h


@pytest.mark.parametrize("unroll", UNROLLS)
@pytest.mark.parametrize("skip", [False, True])
def test_dropout_acts_between_the_layers_in_training_and_is_drawn_from_the_seed(skip, unroll):
    make = lambda extra: [nn.Recurrent(cell, unroll=unroll) for cell in unlike(extra)]
    net = drawn(nn.Stacked(*make(2 if skip else 0), skip=skip, dropout=0.4))
    xs = as_tensor(np.random.default_rng(0).normal(size=(4, 3, 2)), "numpy", True)
    inputs, below, outs = [xs, *net.parameters()], xs, []
    with mg.seed(5):
        for i, layer in enumerate(net.layers):
            if i:
                below = mg.dropout(outs[-1], 0.4, training=True)
                below = mg.concat([below, xs], axis=-1) if skip else below
            outs.append(layer(below)[0])
    expected = mg.concat(outs, axis=-1) if skip else outs[-1]
    by_inputs = pulled(expected, inputs)
    with mg.seed(5):
        found, _ = net(xs)
    close(found, expected.numpy(), 1e-13)
    for a, b in zip(pulled(found, inputs), by_inputs):
        close(a, b, 1e-11)
    with mg.seed(6):
        assert (net(xs)[0].numpy() != found.numpy()).any()
    plain = nn.Stacked(*net.layers, skip=skip)
    assert (net.eval()(xs)[0].numpy() == plain(xs)[0].numpy()).all()


def test_neither_the_input_nor_the_output_of_a_stack_is_dropped():
    p, shape = 0.25, (20, 10, 50)
    outs, _ = nn.Stacked(Echo(50, 50), Echo(50, 50), dropout=p)(mg.ones(shape))
    values, kept = outs.numpy(), 1 - p
    assert np.isin(values, np.array([0.0, 1 / kept], "float32")).all()
    # 10,000 independent elements: their share is normal around `kept`, and beyond 6 deviations once in 10^9.
    assert abs((values > 0).mean() - kept) < 6 * (p * kept / values.size) ** 0.5
    outs, _ = nn.Stacked(Echo(50, 50), Echo(100, 100), skip=True, dropout=1.0)(mg.ones(shape))
    assert outs[0, 0].tolist() == [1.0] * 50 + [0.0] * 50 + [1.0] * 50  # the first layer, and [dropped, x]


def test_a_stack_takes_lists_and_arrays_and_names_its_weights_by_layer():
    net = nn.Stacked(nn.ElmanCell(2, 3), nn.Bidirectional(nn.GRUCell(5, 1), nn.GRUCell(5, 1)), skip=True)
    xs = np.arange(8, dtype="float32").reshape(2, 2, 2)
    for given_xs in (xs, xs.tolist()):
        assert (net(given_xs)[0].numpy() == net(mg.tensor(xs))[0].numpy()).all()
    names = [name for name, _ in net.named_parameters()]
    assert names[:3] == [f"layers.0.cells.0.0.{name}" for name in ("weight_ih", "weight_hh", "bias")]
    assert {name.rsplit(".cells", 1)[0] for name in names[3:]} == {"layers.1.ahead", "layers.1.back"}


G = nn.GRUCell


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: nn.Stacked(), "at least one layer"),
        (lambda: nn.Stacked(G), "expected a built cell, or a network of cells, got the class GRUCell"),
        (lambda: nn.Stacked(nn.Linear(2, 3)), "expected a built cell, or a network of cells, got a Linear"),
        (lambda: nn.Stacked(nn.Recurrent(G, 2, 3, batch_first=True)), "time first.*leave batch_first out"),
        (lambda: nn.Stacked(G(2, 3), G(3, 4), G(3, 5)), "layer 2 takes 3 inputs, but is given 4: 4 outputs of layer 1"),
        (lambda: nn.Stacked(G(2, 3), G(3, 3), skip=True), "takes 3 inputs, but is given 5: 3 .* and the input of 2"),
        (lambda: nn.Stacked(G(2, 3), G(3, 3), dropout=1.5), "dropout is a probability, got 1.5"),
        (lambda: nn.Stacked(G(2, 3), dropout=0.5), "acts between layers, and there is one"),
    ],
)
def test_layers_that_do_not_fit_on_each_other_are_refused(make, words):
    with pytest.raises(ArgumentError, match=words):
        make()


def test_a_state_or_a_sequence_that_does_not_fit_a_stack_is_refused():
    net, xs, h = nn.Stacked(G(2, 3), G(3, 3)), mg.zeros((4, 1, 2)), mg.zeros((1, 3))
    for state in (h, (h,), (h, h, h)):
        with pytest.raises(ArgumentError, match=r"Stacked: state must be a tuple of 2 \(layers\)"):
            net(xs, state)
    with pytest.raises(ShapeError, match=r"expected \(1, 3\), got \(1, 4\)"):
        net(xs, (h, mg.zeros((1, 4))))
    with pytest.raises(ShapeError, match=r"expected xs of shape \(T, B, 2\)"):
        net(mg.zeros((4, 1, 5)))
    close(net(xs, (None, h))[0], net(xs)[0].numpy(), 0)


# Bidirectional


MERGE = {
    "concat": lambda a, b: mg.concat([a, b], axis=-1),
    "sum": lambda a, b: a + b,
    "mean": lambda a, b: 0.5 * (a + b),
    "product": lambda a, b: a * b,
}
PAIRS = {
    "gru": lambda: (G(2, 3), G(2, 3)),
    "unlike": lambda: (nn.LSTMCell(2, 4, projection=3), nn.ClockworkCell(2, 3)),
    "deep": lambda: (nn.Recurrent(G, 2, 3, num_layers=2), nn.Stacked(nn.ElmanCell(2, 2), nn.LSTMCell(2, 3))),
}


def two_runs(net, xs, lengths):
    """Both networks, the second over each row turned round: outs, finals (the last outputs), and their states."""
    T, columns, lasts, states = len(xs), [], [], []
    for b, n in enumerate(lengths):
        row = xs[:n, b : b + 1]
        ahead, state = net.ahead(row)
        turned = mg.stack([row[t] for t in reversed(range(n))]) if n else row
        back, other = net.back(turned)
        aligned = mg.stack([back[t] for t in reversed(range(n))]) if n else back
        ended = mg.zeros((T - n, 1, net.output_size), dtype="float64")
        columns.append(mg.concat([MERGE[net.merge](ahead, aligned), ended]))
        nothing = mg.zeros((1, net.output_size), dtype="float64")
        lasts.append(MERGE[net.merge](ahead[n - 1], back[n - 1]) if n else nothing)
        states.append(tree.leaves((state, other)))
    return mg.concat(columns, axis=1), mg.concat(lasts), [mg.concat(parts) for parts in zip(*states)]


@pytest.mark.parametrize("kind", PAIRS)
@given(merge=st.sampled_from([*MERGE]), data=st.data(), T=st.integers(1, 4), B=st.integers(1, 3), seed=SEEDS)
def test_both_directions_are_two_networks_the_second_over_each_row_turned_round(kind, merge, data, T, B, seed):
    lengths = data.draw(st.lists(st.integers(0, T), min_size=B, max_size=B))
    net, rng = drawn(nn.Bidirectional(*PAIRS[kind](), merge=merge), seed), np.random.default_rng(seed)
    assert net.output_size == (6 if merge == "concat" else 3)
    clean = rng.normal(size=(T, B, 2))
    xs, padded = (
        as_tensor(np.where(past(lengths, T)[..., None], fill, clean), "numpy", True) for fill in (0.5, np.nan)
    )
    expected, lasts, states = two_runs(net, xs, lengths)
    by_inputs = pulled([expected, lasts, floats(states)], [xs, *net.parameters()])
    outs, state = net(padded, lengths=lengths)
    last, same = net.final(padded, lengths=lengths)
    close(outs, expected.numpy(), 1e-12)
    close(last, lasts.numpy(), 1e-12)
    for a, b, c in zip(tree.leaves(state), tree.leaves(same), states, strict=True):
        close(a, c.numpy(), 1e-12)
        close(b, c.numpy(), 1e-12)
    found = pulled([outs, last, floats(state)], [padded, *net.parameters()])
    assert (found[0][past(lengths, T)] == 0).all()
    for a, b in zip(found, by_inputs):
        close(a, b, 1e-10, floor=1e-2)


@pytest.mark.parametrize("lengths", [None, [3, 1, 0, 2]])
@pytest.mark.parametrize("merge", MERGE)
def test_the_last_step_of_the_outputs_is_not_the_final_output(merge, lengths, backend):
    net = drawn(nn.Bidirectional(G(2, 3), G(2, 3), merge=merge), 0, backend)
    xs = as_tensor(np.random.default_rng(0).normal(size=(3, 4, 2)), backend)
    outs, _ = net(xs, lengths=lengths)
    last, (forward, backward) = net.final(xs, lengths=lengths)
    close(last, MERGE[merge](forward, backward).numpy(), 1e-15)  # of a GRU the state is the last output
    assert (last.backend, last.dtype) == (outs.backend, outs.dtype)
    for row, n in enumerate(lengths or [3] * 4):
        if n > 1:
            assert (as_numpy(outs)[n - 1, row] != as_numpy(last)[row]).any()
            assert (as_numpy(outs)[0, row] != as_numpy(last)[row]).any()
        elif n == 1:
            assert (as_numpy(outs)[0, row] == as_numpy(last)[row]).all()  # of one step both are the only one
        else:
            assert (as_numpy(last)[row] == 0).all()


def test_each_row_has_the_final_output_that_it_has_alone_and_unpadded():
    rng, lengths = np.random.default_rng(0), [4, 2, 0, 1]
    nets = [nn.Bidirectional(G(2, 3), nn.LSTMCell(2, 1)), nn.Recurrent(nn.LSTMCell, 2, 3),
            nn.Recurrent(G, 2, 3, num_layers=2, bidirectional=True), nn.Stacked(*with_directions(0)),
            nn.Stacked(*with_directions(2), skip=True)]  # fmt: skip
    xs = np.where(past(lengths, 4)[..., None], np.nan, rng.normal(size=(4, 4, 2)))
    for net in nets:
        for reverse in (False, True):
            _, lasts, _ = alone(drawn(net), xs, lengths, reverse=reverse)
            close(net.final(mg.tensor(xs), lengths=lengths, reverse=reverse)[0], lasts, 1e-13)
            assert (lasts[2] == 0).all() and (lasts[[0, 1, 3]] != 0).all()


@pytest.mark.parametrize("lengths", [None, [3, 0, 2]])
def test_deep_directions_are_two_stacks_that_meet_at_the_top_or_layers_each_fed_by_both(lengths):
    cells = lambda size: (drawn(G(size, 3), size), drawn(G(size, 3), size + 1))
    (a1, b1), (a2, b2), (wide_a, wide_b) = cells(2), cells(3), cells(6)
    xs, run = mg.random.normal((3, 3, 2), dtype="float64"), lambda cell, x, reverse: nn.Recurrent(cell)(
        x, lengths=lengths, reverse=reverse
    )[0]  # fmt: skip
    meeting = nn.Bidirectional(nn.Stacked(a1, a2), nn.Stacked(b1, b2))
    above = [run(a2, run(a1, xs, False), False), run(b2, run(b1, xs, True), True)]
    close(meeting(xs, lengths=lengths)[0], mg.concat(above, axis=-1).numpy(), 1e-14)
    layered = nn.Stacked(nn.Bidirectional(a1, b1), nn.Bidirectional(wide_a, wide_b))
    both = mg.concat([run(a1, xs, False), run(b1, xs, True)], axis=-1)
    above = [run(wide_a, both, False), run(wide_b, both, True)]
    outs, state = layered(xs, lengths=lengths)
    close(outs, mg.concat(above, axis=-1).numpy(), 1e-14)
    recurrent = nn.Recurrent(G, 2, 3, num_layers=2, bidirectional=True)
    recurrent.cells = ((a1, b1), (wide_a, wide_b))
    same, same_state = recurrent(xs, lengths=lengths)
    assert (same.numpy() == outs.numpy()).all()
    for a, b in zip(tree.leaves(state), tree.leaves(same_state), strict=True):
        assert (a.numpy() == b.numpy()).all()


@pytest.mark.parametrize("lengths", [None, [3, 0, 2]])
@pytest.mark.parametrize("reverse", [False, True])
def test_the_final_output_of_a_recurrent_network_of_both_directions_is_that_of_bidirectional(lengths, reverse):
    recurrent = drawn(nn.Recurrent(nn.LSTMCell, 2, 3, bidirectional=True))
    net, xs = nn.Bidirectional(*recurrent.cells[0]), mg.random.normal((3, 3, 2), dtype="float64")
    for a, b in zip(tree.leaves(net.final(xs, lengths=lengths, reverse=reverse)),
                    tree.leaves(recurrent.final(xs, lengths=lengths, reverse=reverse)), strict=True):  # fmt: skip
        assert (a.numpy() == b.numpy()).all()


@pytest.mark.parametrize("merge", MERGE)
def test_in_reverse_the_directions_are_the_other_way_round(merge):
    a, b = drawn(G(2, 3), 0), drawn(G(2, 3), 1)
    net, swapped = nn.Bidirectional(a, b, merge=merge), nn.Bidirectional(b, a, merge=merge)
    xs, lengths, h = mg.random.normal((4, 3, 2), dtype="float64"), [4, 0, 2], mg.ones((3, 3), dtype="float64")
    turned = lambda y: mg.concat([y[..., 3:], y[..., :3]], axis=-1) if merge == "concat" else y
    outs, (first, second) = net(xs, (h, 2 * h), lengths, reverse=True)
    expected, (third, fourth) = swapped(xs, (2 * h, h), lengths)
    last, _ = net.final(xs, (h, 2 * h), lengths, reverse=True)
    other, _ = swapped.final(xs, (2 * h, h), lengths)
    for x, y in ((outs, turned(expected)), (first, fourth), (second, third), (last, turned(other))):
        assert (x.numpy() == y.numpy()).all()


def test_marks_start_both_directions_anew_at_their_end_of_each_part():
    net = drawn(nn.Bidirectional(G(2, 3), nn.LSTMCell(2, 3), merge="product"))
    parts = [mg.random.normal((n, 1, 2), dtype="float64") for n in (3, 1, 4)]
    starts = np.zeros((8, 1), bool)
    starts[[0, 3, 4]] = True
    outs, (h, (_, c)) = net(mg.concat(parts), reset=starts)
    close(outs, np.concatenate([net(part)[0].numpy() for part in parts]), 1e-14)
    close(h, net(parts[-1])[1][0].numpy(), 1e-14)  # forward ends in the last part, backward in the first
    close(c, net(parts[0])[1][1][1].numpy(), 1e-14)


def test_both_directions_may_attend_to_a_memory():
    make = lambda: nn.Recurrent(nn.AttentionCell(G(2 + 4, 3), nn.AdditiveAttention(3, 4, 2), 4))
    net, lengths = drawn(nn.Bidirectional(make(), make())), [3, 1]
    xs, values = (mg.random.normal(shape, dtype="float64") for shape in ((3, 2, 2), (5, 2, 4)))
    memory = nn.Memory(values, [5, 2])
    expected = [net.ahead(xs, lengths=lengths, memory=memory)[0],
                net.back(xs, lengths=lengths, memory=memory, reverse=True)[0]]  # fmt: skip
    close(net(xs, lengths=lengths, memory=memory)[0], mg.concat(expected, axis=-1).numpy(), 1e-14)


def test_the_directions_have_weights_of_their_own():
    net = drawn(nn.Bidirectional(G(2, 3), G(2, 3), merge="sum"))
    assert net.num_parameters == 2 * G(2, 3).num_parameters
    net(mg.random.normal((3, 1, 2), dtype="float64"))[0].sum().backward()
    grads = {name: p.grad.numpy() for name, p in net.named_parameters()}
    names = [name.removeprefix("ahead.") for name in grads if name.startswith("ahead.")]
    assert names and all((grads[f"ahead.{n}"] != grads[f"back.{n}"]).any() for n in names)
    cell = G(2, 3)
    for pair in ((cell, cell), (nn.Recurrent(cell), cell), (nn.Recurrent(cell), nn.Stacked(cell))):
        with pytest.raises(ArgumentError, match="each direction has weights of its own; build two networks"):
            nn.Bidirectional(*pair)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: nn.Bidirectional(G, G), "expected a built cell, or a network of cells, got the class GRUCell"),
        (lambda: nn.Bidirectional(G(2, 3), G(2, 3), merge="max"), "merge is one of concat, sum, mean, product, not"),
        (lambda: nn.Bidirectional(G(2, 3), G(3, 3)), "the directions have 2 and 3 inputs, which must agree"),
        (lambda: nn.Bidirectional(G(2, 3), G(2, 4), merge="sum"), "3 and 4 outputs, which must unless merge='concat'"),
        (lambda: nn.Bidirectional(nn.Recurrent(G, 2, 3, batch_first=True), G(2, 3)), "leave batch_first out"),
    ],
)
def test_directions_that_do_not_fit_each_other_are_refused(make, words):
    with pytest.raises(ArgumentError, match=words):
        make()


def test_a_state_that_is_not_of_two_directions_is_refused():
    net, h = nn.Bidirectional(G(2, 3), G(2, 3)), mg.zeros((1, 3))
    for state in (h, (h, h, h)):
        with pytest.raises(ArgumentError, match=r"Bidirectional: state must be a tuple of 2 \(directions\)"):
            net(mg.zeros((4, 1, 2)), state)


# The final output


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("form", [list, np.array, lambda n: mg.tensor(n, dtype="int64")])
def test_the_final_output_of_a_row_is_at_its_last_step_and_0_for_a_row_of_none(form, batch_first, backend):
    net = drawn(nn.Recurrent(nn.LSTMCell, 2, 3, num_layers=2, batch_first=batch_first), 0, backend)
    rng, lengths = np.random.default_rng(0), [3, 0, 4, 1]
    values = rng.normal(size=(4, 4, 2))
    xs = as_tensor(values.swapaxes(0, 1) if batch_first else values, backend, True)
    outs = as_numpy(net(xs, lengths=form(lengths))[0])
    outs = outs.swapaxes(0, 1) if batch_first else outs
    last, _ = net.final(xs, lengths=form(lengths))
    for row, n in enumerate(lengths):
        assert (as_numpy(last)[row] == (outs[n - 1, row] if n else 0)).all()
    last.sum().backward()
    by_x = as_numpy(xs.grad)
    by_x = by_x.swapaxes(0, 1) if batch_first else by_x
    assert ((by_x != 0).all(-1) == ~past(lengths, 4)).all()
    whole, _ = net.final(xs)
    whole_outs = as_numpy(net(xs)[0])
    assert (as_numpy(whole) == (whole_outs[:, -1] if batch_first else whole_outs[-1])).all()


def test_without_a_step_the_final_output_is_0():
    for net in (nn.Recurrent(G, 2, 3), nn.Bidirectional(G(2, 3), G(2, 3)), nn.Stacked(G(2, 1), G(3, 2), skip=True)):
        last, _ = net.final(mg.zeros((0, 2, 2)))
        assert last.tolist() == [[0.0] * net.output_size] * 2


# One and many


def falls(net: nn.Module, loss, steps: int = 30) -> None:
    """Training works: the loss falls to less than half, and every weight has a gradient."""
    optimizer, losses = optim.Adam(net.parameters(), lr=0.03), []
    for _ in range(steps):
        value = loss()
        net.zero_grad()
        value.backward()
        assert all(p.grad is not None for p in net.parameters())
        optimizer.step()
        losses.append(value.item())
    assert losses[-1] < 0.5 * losses[0]


def test_one_to_one_a_vector_to_a_vector_is_one_step_of_a_sequence_or_no_recurrence_at_all():
    net = nn.Sequential(nn.Linear(2, 8), mg.tanh, nn.Linear(8, 1))
    x, y = mg.random.normal((16, 2)), mg.random.normal((16, 1))
    falls(net, lambda: ((net(x) - y * 0 - x[:, :1]) ** 2).mean())
    cell = drawn(nn.ElmanCell(2, 3))  # of one step from a state of 0: the same layer as without a recurrence
    outs, _ = nn.Recurrent(cell)(x[None].astype("float64"))
    close(outs[0], np.tanh(x.numpy() @ cell.weight_ih.numpy().T + cell.bias.numpy()), 1e-6)


def test_one_to_many_a_vector_to_a_sequence():
    net = nn.OneToMany(G, 3, 0, 8, into="both")
    read = nn.Linear(8, 1)
    both, vector = nn.Sequential(net, read), mg.random.normal((8, 3))
    truth = mg.stack([vector[:, :1] * 0.5**t for t in range(5)])
    falls(both, lambda: ((read(net(vector, steps=5)[0]) - truth) ** 2).mean())


def test_many_to_one_a_sequence_to_a_number():
    net, read = nn.Bidirectional(G(1, 8), G(1, 8)), nn.Linear(16, 1)
    xs, lengths = mg.random.normal((6, 16, 1)), [1 + b % 6 for b in range(16)]
    truth = mg.sum(mg.where(mg.tensor(past(lengths, 6))[..., None], 0.0, xs), axis=0)
    falls(nn.Sequential(net, read), lambda: ((read(net.final(xs, lengths=lengths)[0]) - truth) ** 2).mean())


def test_many_to_many_of_one_length_a_label_for_each_step():
    net = nn.Stacked(nn.Bidirectional(G(4, 8), G(4, 8)), nn.LSTMCell(16, 8))
    embedding, read = nn.Embedding(3, 4), nn.Linear(8, 2)
    tokens = mg.random.generator().integers(0, 3, (6, 16))
    labels = (np.cumsum(tokens, axis=0)[-1] - np.cumsum(tokens, axis=0)) % 2  # of what is yet to come
    everything = nn.Sequential(embedding, net, read)
    falls(everything, lambda: mg.cross_entropy(read(net(embedding(tokens))[0]), mg.tensor(labels)), 60)


def test_many_to_many_of_two_lengths_a_sequence_to_another():
    net = translator(attend=True)
    source = mg.random.generator().integers(0, V, (5, 8))
    targets = mg.tensor(source[::-1][:3].copy())
    falls(net, lambda: mg.cross_entropy(net(source, targets), targets), 60)


# One to many


def test_a_vector_among_the_inputs_is_a_bias_of_its_own_for_each_row():
    rng = np.random.default_rng(0)
    net = drawn(nn.OneToMany(nn.ElmanCell, 4, 2, 3))
    vector, xs, grad_outs = rng.normal(size=(2, 4)), rng.normal(size=(5, 2, 2)), rng.normal(size=(5, 2, 3))
    cell = net.net.cell
    W, R = np.split(cell.weight_ih.numpy(), [2], axis=1)
    U, b = cell.weight_hh.numpy(), cell.bias.numpy()
    h, expected = np.zeros((2, 3)), []
    for x in xs:
        h = np.tanh(x @ W.T + vector @ R.T + b + h @ U.T)
        expected.append(h)
    v = as_tensor(vector, "numpy", True)
    outs, last = net(v, mg.tensor(xs))
    close(outs, np.stack(expected), 1e-13)
    close(last, h, 1e-13)
    (outs * mg.tensor(grad_outs)).sum().backward()
    weights = {"weight_ih": W, "weight_hh": U}  # and the bias of each row, whose gradient is that of R v
    for row in range(2):
        of_row = {**weights, "bias": b + R @ vector[row]}
        found = elman.layer(xs[:, row], [np.zeros(3)], of_row, grad_outs[:, row], [np.zeros(3)])
        close(v.grad[row], found[4]["bias"] @ R, 1e-12)


def test_a_vector_into_the_state_is_where_it_begins():
    rng = np.random.default_rng(0)
    net = drawn(nn.OneToMany(nn.ElmanCell, 4, 2, 3, into="state"))
    (start,) = net.starts
    vector, xs, grad_outs = rng.normal(size=(2, 4)), rng.normal(size=(5, 2, 2)), rng.normal(size=(5, 2, 3))
    v = as_tensor(vector, "numpy", True)
    outs, last = net(v, mg.tensor(xs), lengths=[5, 0])
    first = vector @ start.weight.numpy().T + start.bias.numpy()
    weights = {name: p.numpy() for name, p in net.net.cell.named_parameters()}
    nothing = [np.zeros((2, 3))]
    expected, (h,), _, (by_first,), grads = by_rows(elman.layer, xs, [first], weights, grad_outs, nothing, [5, 0])
    close(outs, expected, 1e-13)
    close(last, h, 1e-13)
    assert (last.numpy()[1] == first[1]).all()
    (outs * mg.tensor(grad_outs)).sum().backward()
    close(v.grad, by_first @ start.weight.numpy(), 1e-12)
    close(start.weight.grad, by_first.T @ vector, 1e-12)
    close(start.bias.grad, by_first.sum(0), 1e-12)
    for name, p in net.net.cell.named_parameters():
        close(p.grad, grads[name], 1e-12, what=name)


MANY = {
    "elman": nn.ElmanCell,
    "lstm": nn.LSTMCell,
    "projection": lambda i, h: nn.LSTMCell(i, h, projection=2),
    "clockwork": nn.ClockworkCell,
    "jordan": nn.JordanCell,
    "learned": Learned,
    "zoneout": lambda i, h: nn.Zoneout(nn.LSTMCell(i, h), 0.2),
}


@pytest.mark.slow
@pytest.mark.parametrize("into", ["input", "state", "both"])
@pytest.mark.parametrize("layers, bidirectional", [(1, False), (2, False), (1, True), (2, True)])
@pytest.mark.parametrize("kind", MANY)
def test_a_vector_conditions_every_part_of_the_state_of_every_layer_and_direction(kind, layers, bidirectional, into):
    rng, D, I, B, T = np.random.default_rng(0), 3, 2, 2, 4  # noqa: E741
    options = {"num_layers": layers, "bidirectional": bidirectional}
    net = drawn(nn.OneToMany(MANY[kind], D, I, 4, into=into, **options).eval())
    vector, xs = as_tensor(rng.normal(size=(B, D)), "numpy", True), mg.tensor(rng.normal(size=(T, B, I)))
    starts, state = iter(net.starts), []
    for cells in net.net.cells:
        state.append([])
        for cell in cells:
            own = cell.initial_state(B)
            parts = [own] if isinstance(own, mg.Tensor) else tree.leaves(own)
            values = iter([next(starts)(vector) if into != "input" and "float" in str(p.dtype) else p for p in parts])
            state[-1].append(tree.map(lambda _, values=values: next(values), own))
    assert not list(starts)
    inputs = xs if into == "state" else mg.concat([xs, mg.stack([vector] * T)], axis=-1)
    expected, finals = net.net(inputs, state if layers > 1 or bidirectional else state[0][0], [4, 3])
    by_inputs = pulled([expected, floats(finals)], [vector, *net.parameters()])
    outs, last = net(vector, xs, lengths=[4, 3])
    close(outs, expected.numpy(), 1e-13)
    for a, b in zip(tree.leaves(last), tree.leaves(finals), strict=True):
        close(a, b.numpy(), 1e-13)
    found = pulled([outs, floats(last)], [vector, *net.parameters()])
    assert (found[0] != 0).any()
    for a, b in zip(found, by_inputs):
        close(a, b, 1e-11)


@pytest.mark.parametrize("into", ["input", "state", "both"])
@pytest.mark.parametrize("kind", MANY)
def test_without_inputs_a_number_of_steps_is_given(kind, into, backend):
    net = drawn(nn.OneToMany(MANY[kind], 3, 0, 4, into=into).eval(), 0, backend)
    vector = as_tensor(np.random.default_rng(0).normal(size=(2, 3)), backend)
    outs, state = net(vector, steps=5)
    assert (outs.shape[:2], outs.backend) == ((5, 2), backend)
    nothing = mg.zeros((5, 2, 0), dtype="float64", backend=backend)
    for a, b in zip(tree.leaves((outs, state)), tree.leaves(net(vector, nothing)), strict=True):
        assert (as_numpy(a) == as_numpy(b)).all()
    if kind == "clockwork":
        assert state[1].tolist() == [[5]] * 2 and "int64" in str(state[1].dtype)
    assert net(vector, steps=0)[0].shape[0] == 0


@pytest.mark.parametrize("into", ["input", "state", "both"])
def test_a_vector_and_inputs_may_be_arrays_or_lists(into):
    net, vector, xs = nn.OneToMany(G, 3, 2, 4, into=into), np.ones((2, 3), "float32"), np.ones((5, 2, 2), "float32")
    expected = net(mg.tensor(vector), mg.tensor(xs))[0].numpy()
    assert (net(vector, xs)[0].numpy() == expected).all()
    assert (net(vector.tolist(), xs.tolist())[0].numpy() == expected).all()


def test_a_part_of_the_state_without_rows_is_left_as_it_is():
    class Cooling(nn.Cell):
        def initial_state(self, batch_size):
            return mg.zeros((batch_size, 2)), mg.tensor(1.0)

        def forward(self, x, state):
            h, heat = state
            return heat * h, (h, heat / 2)

    net = nn.OneToMany(Cooling, 3, 0, 2, into="state")
    assert len(net.starts) == 1
    vector = mg.random.normal((4, 3))
    outs, (_, heat) = net(vector, steps=3)
    close(outs[2], net.starts[0](vector).numpy() / 4, 1e-6)
    assert heat.item() == 0.125


@pytest.mark.parametrize(
    "arguments, options, words",
    [
        ((G, 4, 0, 3), {"into": "x"}, 'into is "input", "state" or "both"'),
        ((G, 4, 0, 3), {"batch_first": True}, "leave batch_first out"),
        ((G, 0, 2, 3), {}, "vector_size must be an integer from 1, got 0"),
        ((G, 4, -3, 3), {}, "input_size must be an integer from 0, got -3"),
        ((G(4, 3), 4, 0, 3), {}, "a built cell has its own"),
    ],
)
def test_a_network_from_one_to_many_that_cannot_be_is_refused(arguments, options, words):
    with pytest.raises(ArgumentError, match=words):
        nn.OneToMany(*arguments, **options)


@pytest.mark.parametrize("into", ["input", "state", "both"])
@pytest.mark.parametrize(
    "vector, xs, steps, error, words",
    [
        ((2, 5), None, 3, ShapeError, r"expected a vector \(B, 4\), got \(2, 5\)"),
        ((4,), None, 3, ShapeError, r"expected a vector \(B, 4\), got \(4,\)"),
        ((2, 4), None, None, ArgumentError, "give the inputs xs, or without inputs the number of steps"),
        ((2, 4), (3, 2, 2), 3, ArgumentError, "and not both"),
        ((2, 4), None, 3, ArgumentError, "reads inputs of size 2 beside the vector: give xs"),
        ((2, 4), (5, 3, 2), None, ShapeError, r"expected xs \(T, 2, 2\) for vectors \(2, 4\), got \(5, 3, 2\)"),
        ((2, 4), (5, 2, 3), None, ShapeError, r"expected xs of shape \(T, B, "),
        ((2, 4), (5,), None, ShapeError, r"expected xs \(T, 2, 2\)"),
    ],
)
def test_vectors_and_inputs_that_do_not_fit_are_refused(into, vector, xs, steps, error, words):
    net = nn.OneToMany(G, 4, 2, 3, into=into)
    with pytest.raises(error, match=words):
        net(mg.zeros(vector), None if xs is None else mg.zeros(xs), steps=steps)


@pytest.mark.parametrize("steps", [-1, 2.5, True, "3"])
def test_a_number_of_steps_that_is_none_is_refused(steps):
    with pytest.raises(ArgumentError, match="steps must be an integer from 0"):
        nn.OneToMany(G, 4, 0, 3)(mg.zeros((2, 4)), steps=steps)


@pytest.mark.parametrize("into", ["input", "state", "both"])
@pytest.mark.parametrize("inputs", [0, 2])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2}])
def test_step_by_step_a_vector_gives_the_same_sequence_as_at_once(into, inputs, options):
    net = in_float64(nn.OneToMany(nn.LSTMCell, 4, inputs, 3, into=into, **options))
    vector, xs = mg.random.normal((2, 4), dtype="float64"), mg.random.normal((5, 2, inputs), dtype="float64")
    outs, last = net(vector, xs) if inputs else net(vector, steps=5)
    state = net.begin(vector)
    for t in range(5):
        out, state = net.step(state, xs[t]) if inputs else net.step(state)
        close(out, outs[t].numpy(), 1e-12)
    for a, b in zip(tree.leaves(state[0]), tree.leaves(last)):
        close(a, b.numpy(), 1e-12)
    if inputs:
        with pytest.raises(ArgumentError, match="reads inputs of size 2"):
            net.step(state)


# A sequence to another


V, E, H = 7, 3, 4


class Joined(nn.Module):
    """A bridge from the last states of both directions to one."""

    def __init__(self):
        self.layer = nn.Linear(2 * H, H)

    def forward(self, state):
        return mg.tanh(self.layer(mg.concat(state, axis=-1)))


def translator(attend=False, start=None, both=False, kind=G, seed: int | None = None, backend="numpy", hidden=H):
    """From tokens to tokens. With a seed, in float64 with weights that are normal numbers."""
    encoder = nn.Bidirectional(kind(E, H), kind(E, H)) if both else nn.Recurrent(kind, E, hidden)
    M = encoder.output_size
    decoder = kind(E + M, hidden) if attend else kind(E, hidden)
    size = hidden + M if attend else hidden
    net = nn.EncoderDecoder(
        encoder,
        nn.AttentionCell(decoder, nn.AdditiveAttention(hidden, M, 5), M) if attend else decoder,
        start=start,
        attend=attend,
        bridge=Joined() if both else None,
        source_embedding=nn.Embedding(V, E),
        target_embedding=nn.Embedding(V, E),
        output=nn.Linear(size, V),
    )
    return net.to(backend) if seed is None else drawn(net, seed, backend)


KINDS = [
    {"attend": False}, {"attend": True}, {"attend": True, "start": 2}, {"attend": True, "both": True},
    {"both": True}, {"attend": True, "kind": nn.LSTMCell}, {"kind": nn.ClockworkCell, "start": 0},
]  # fmt: skip
NAMES = ["-".join(k if v is True else f"{k}" for k, v in kind.items() if v) or "plain" for kind in KINDS]
any_kind = st.sampled_from(KINDS)
every_kind = pytest.mark.parametrize("kind", KINDS, ids=NAMES)


def tokens(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, V, shape)


@given(kind=any_kind, data=st.data(), S=st.integers(1, 3), T=st.integers(0, 3), B=st.integers(1, 2), seed=SEEDS)
def test_under_teacher_forcing_the_decoder_reads_the_targets_one_step_late(kind, data, S, T, B, seed):
    lengths = data.draw(st.lists(st.integers(0, S), min_size=B, max_size=B))
    net, source, targets = translator(**kind, seed=seed % 97), tokens(S, B, seed=seed), tokens(T, B, seed=seed + 1)
    logits = net(source, targets, lengths).numpy()
    assert logits.shape == (T, B, V)
    for b, n in enumerate(lengths):  # row by row, unpadded, and step by step
        outs, state = net.encoder(net.source_embedding(source[:n, b : b + 1]))
        state = state if net.bridge is None else net.bridge(state)
        read = mg.zeros((1, 1, E), dtype="float64")
        if net.start is not None:
            read = net.target_embedding(mg.tensor([[net.start]], dtype="int64"))
        for t in range(T):
            out, state = net.decoder(read, state, memory=outs if net.attend else None)
            close(logits[t, b], net.output(out).numpy()[0, 0], 1e-12)
            read = net.target_embedding(mg.tensor(targets[t : t + 1, b : b + 1]))


@given(kind=any_kind, t=st.integers(0, 4), seed=SEEDS)
def test_the_prediction_of_a_step_does_not_depend_on_what_is_to_be_predicted(kind, t, seed):
    net, source, targets = translator(**kind, seed=1), tokens(3, 2), tokens(5, 2, seed=seed)
    before = net(source, targets).numpy()
    changed = targets.copy()
    changed[t:] = (targets[t:] + 1 + tokens(5 - t, 2, seed=seed + 1) % (V - 1)) % V
    after = net(source, changed).numpy()
    assert (changed[t:] != targets[t:]).all()
    assert (after[: t + 1] == before[: t + 1]).all()
    assert (after[t + 1 : t + 2] != before[t + 1 : t + 2]).all()


@pytest.mark.parametrize("attend", [False, True])
def test_by_gradient_a_step_depends_on_all_earlier_targets_and_on_none_other(attend):
    rng, M = np.random.default_rng(0), 3
    decoder = nn.AttentionCell(G(2 + M, 4), nn.AdditiveAttention(4, M, 2), M) if attend else G(2, M)
    net = drawn(nn.EncoderDecoder(G(2, M), decoder, attend=attend, bridge=nn.Linear(M, 4) if attend else None))
    targets = as_tensor(rng.normal(size=(5, 2, 2)), "numpy", True)
    source = mg.tensor(rng.normal(size=(3, 2, 2)))
    for t in range(5):
        targets.grad = None
        outs = net(source, targets)
        outs[t, 0].sum().backward()
        found = as_numpy(gradient(targets))
        assert (found[t:] == 0).all() and (found[:, 1] == 0).all()
        assert (found[:t, 0] != 0).all()


@every_kind
def test_encoder_and_decoder_have_weights_of_their_own_and_all_get_a_gradient(kind):
    net = translator(**kind, seed=1)
    parts = {name.split(".")[0] for name, _ in net.named_parameters()}
    assert {"encoder", "decoder", "source_embedding", "target_embedding", "output"} <= parts
    assert ("bridge" in parts) == bool(kind.get("both"))
    targets = tokens(5, 2, seed=1)
    mg.cross_entropy(net(tokens(3, 2), targets), mg.tensor(targets)).backward()
    for name, p in net.named_parameters():
        assert p.grad is not None and np.abs(as_numpy(p.grad)).max() > 1e-12, name


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("attend", [False, True])
def test_the_padding_of_a_source_has_no_effect_and_a_gradient_of_exactly_0(attend, both, backend):
    net, lengths, rng = translator(attend, both=both, seed=1, backend=backend), [4, 0, 2], np.random.default_rng(0)
    net.source_embedding = None
    targets, ended = as_tensor(tokens(5, 3), backend), past(lengths, 4)
    clean, results = rng.normal(size=(4, 3, E)), []
    for fill in (0.5, np.nan, np.inf):
        net.zero_grad()
        source = as_tensor(np.where(ended[..., None], fill, clean), backend, True)
        logits = net(source, targets, lengths)
        mg.cross_entropy(logits, targets).backward()
        results.append([as_numpy(x) for x in (logits, source.grad, *(gradient(p) for p in net.parameters()))])
    for other in results[1:]:
        for a, b in zip(results[0], other):
            np.testing.assert_array_equal(a, b)
            assert np.isfinite(b).all()
    assert (results[1][1][ended] == 0).all() and (results[1][1][~ended] != 0).all()


@pytest.mark.parametrize("attend", [False, True])
def test_where_a_row_of_targets_has_ended_nothing_is_computed_and_its_padding_has_no_effect(attend):
    net, source, lengths = translator(attend, seed=1), tokens(3, 3), [4, 0, 2]
    targets = tokens(4, 3, seed=1)
    whole = net(source, targets).numpy()
    for padding in (0, -1, V - 1):
        padded = np.where(past(lengths, 4), padding, targets)
        logits = net(source, padded, None, lengths).numpy()
        assert (logits[past(lengths, 4)] == net.output.bias.numpy()).all()
        close(logits[~past(lengths, 4)], whole[~past(lengths, 4)], 1e-13)


def forced(net, source, lengths, sequences):
    """The log-probability of each sequence for its row of the source, under teacher forcing, and the logits."""
    steps, counts = max(map(len, sequences)), [len(sequence) for sequence in sequences]
    padded = np.array([[*sequence, *[0] * (steps - n)] for sequence, n in zip(sequences, counts)], "int64").T
    logits = net(source, padded, lengths)
    targets = mg.tensor(padded, backend=logits.backend)
    return nn.log_probability(logits, targets, counts).tolist(), as_numpy(logits)


def talkative(kind, backend) -> nn.EncoderDecoder:
    """One that makes other tokens in each row and at each step, as far as random weights do."""
    net = translator(**kind, seed=11, backend=backend).eval()
    net.target_embedding.weight.data = (3 * net.target_embedding.weight).data
    return net


@pytest.mark.slow
@pytest.mark.parametrize("lengths", [None, [4, 1, 0, 3]])
@every_kind
def test_greedy_decoding_makes_the_likeliest_token_under_teacher_forcing_of_what_it_made(kind, lengths, backend):
    net, source, stop = talkative(kind, backend), as_tensor(tokens(4, 4), backend), 5
    first = net.first(4)
    assert (first.tolist(), first.backend) == ([-1 if net.start is None else net.start] * 4, backend)
    decoded = nn.greedy(net.step, net.begin(source, lengths), first, 8, stop=stop)
    made = [sequence + [stop] * (len(sequence) < 8) for sequence in decoded.tokens]
    assert len({tuple(sequence) for sequence in made}) > 1
    assert max(len(set(sequence)) for sequence in made) > 1
    expected, logits = forced(net, source, lengths, made)
    np.testing.assert_allclose(decoded.log_probabilities, expected, rtol=1e-12, atol=1e-12)
    for row, sequence in enumerate(made):
        assert logits[: len(sequence), row].argmax(-1).tolist() == sequence


@pytest.mark.slow
@pytest.mark.parametrize("lengths", [None, [4, 1, 0, 3]])
@every_kind
def test_in_beam_search_the_memory_and_the_state_follow_their_rows(kind, lengths, backend):
    net, source, stop = talkative(kind, backend), as_tensor(tokens(4, 4), backend), 5
    beams = nn.beam_search(net.step, net.begin(source, lengths), net.first(4), 5, width=4, stop=stop)
    places = [row for row, found in enumerate(beams) for _ in found]
    assert len(places) == 16
    made = [h.tokens + [stop] * (len(h.tokens) < 5) for found in beams for h in found]
    counts = None if lengths is None else [lengths[row] for row in places]
    expected, _ = forced(net, source[:, mg.tensor(places, dtype="int64", backend=backend)], counts, made)
    np.testing.assert_allclose([h.log_probability for found in beams for h in found], expected, rtol=1e-12, atol=1e-12)
    for row in (0, 3):
        n = None if lengths is None else [lengths[row]]
        begun = net.begin(source[:, row : row + 1], n)
        (alone,) = nn.beam_search(net.step, begun, net.first(1), 5, width=4, stop=stop)
        assert [h.tokens for h in alone] == [h.tokens for h in beams[row]]


@every_kind
def test_a_beam_wide_enough_finds_the_likeliest_of_all_sequences(kind):
    net, source, lengths = translator(**kind, seed=5).eval(), tokens(4, 2, seed=2), [4, 2]
    beams = nn.beam_search(net.step, net.begin(source, lengths), net.first(2), 2, width=V)
    pairs = [(i, j) for i in range(V) for j in range(V)]
    for b, row in enumerate(beams):
        everything = np.repeat(source[:, b : b + 1], V * V, axis=1)
        logits = net(everything, np.array(pairs).T, [lengths[b]] * V * V)
        scores = nn.log_probability(logits, mg.tensor(np.array(pairs).T)).numpy()
        assert tuple(row[0].tokens) == pairs[scores.argmax()]


def test_a_source_may_have_lengths_of_any_form_when_decoding_begins():
    net, source = translator(attend=True, seed=1), tokens(4, 2)
    expected = nn.greedy(net.step, net.begin(source, [4, 2]), net.first(2), 4)
    for lengths in (np.array([4, 2]), mg.tensor([4, 2], dtype="int64"), (4, 2)):
        assert nn.greedy(net.step, net.begin(source, lengths), net.first(2), 4) == expected


def test_targets_may_be_arrays_wherever_the_network_is(backend):
    net, source, targets = translator(attend=True, seed=1, backend=backend), tokens(4, 2), tokens(3, 2)
    there = as_tensor(source, backend)
    expected = net(there, as_tensor(targets, backend))
    for given_targets in (targets, targets.astype("int32"), as_tensor(targets.astype("int32"), backend)):
        assert (as_numpy(net(there, given_targets)) == as_numpy(expected)).all()
    assert expected.backend == backend


def test_a_deep_encoder_begins_a_deep_decoder():
    make = lambda: nn.Recurrent(nn.LSTMCell, 2, 3, num_layers=2)
    net = drawn(nn.EncoderDecoder(make(), make()))
    source, targets = (mg.random.normal((n, 2, 2), dtype="float64") for n in (4, 3))
    _, state = net.encoder(source, lengths=[4, 1])
    late = mg.concat([mg.zeros((1, 2, 2), dtype="float64"), targets[:-1]])
    close(net(source, targets, [4, 1]), net.decoder(late, state)[0].numpy(), 1e-14)


def test_float32_stays_float32_from_sequence_to_sequence(backend):
    net = translator(attend=True, both=True, backend=backend)
    logits = net(as_tensor(tokens(4, 2), backend), as_tensor(tokens(3, 2), backend), [4, 0])
    mg.cross_entropy(logits, as_tensor(tokens(3, 2), backend)).backward()
    assert {str(x.dtype).split(".")[-1] for x in (logits, *(p.grad for p in net.parameters()))} == {"float32"}


@pytest.mark.slow
def test_a_sequence_is_learned_backwards_with_attention():
    rng, steps, batch = mg.random.generator(), 4, 64
    net = translator(attend=True, both=False, hidden=24, start=0)
    optimizer = optim.Adam(net.parameters(), lr=0.02)

    def draw(size):
        source = rng.integers(1, V, (steps, size))
        return source, mg.tensor(source[::-1].copy())

    for _ in range(250):
        source, targets = draw(batch)
        loss = mg.cross_entropy(net(source, targets), targets)
        net.zero_grad()
        loss.backward()
        optim.clip_by_norm(net.parameters(), 1.0)
        optimizer.step()
    source, targets = draw(200)
    net.eval()
    decoded = nn.greedy(net.step, net.begin(source), net.first(200), steps)
    assert (targets.numpy() == np.array(decoded.tokens).T).all(0).mean() > 0.97


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: nn.EncoderDecoder(G, G(2, 3)), "expected a built cell, or a network of cells, got the class GRUCell"),
        (lambda: nn.EncoderDecoder(G(2, 3), nn.Recurrent(G, 2, 3, batch_first=True)), "leave batch_first out"),
        (lambda: nn.EncoderDecoder(*[G(2, 3)] * 2), "each side has weights of its own; build two networks"),
        (lambda: nn.EncoderDecoder(*[nn.Recurrent(c) for c in [G(2, 3)] * 2]), "each side has weights of its own"),
        (lambda: nn.EncoderDecoder(G(2, 3), G(2, 3), start=-1), "start is None or a token, an integer from 0, got -1"),
        (lambda: nn.EncoderDecoder(G(2, 3), G(2, 3), start=0.0), "start is None or a token, an integer from 0"),
    ],
)
def test_an_encoder_and_a_decoder_that_cannot_be_are_refused(make, words):
    with pytest.raises(ArgumentError, match=words):
        make()


def test_sources_and_targets_that_do_not_fit_are_refused():
    net, source, targets = translator(), tokens(4, 2), tokens(3, 2)
    with pytest.raises(ShapeError, match=r"expected targets \(T, B, O\), or tokens \(T, B\), got \(3,\)"):
        net(source, targets[:, 0])
    with pytest.raises(MinigradError, match=r"expected \(1, 4\), got \(2, 4\)"):
        net(source, targets[:, :1])
    with pytest.raises(MinigradError, match=r"is not in 0 \.\.\. 6"):
        net(source, targets + V)
    with pytest.raises(ArgumentError, match="lengths must be 2 integers from 0 to 4"):
        net(source, targets, [5, 1])
    with pytest.raises(ArgumentError, match="lengths must be 2 integers from 0 to 3"):
        net(source, targets, None, [4, 1])
    with pytest.raises(DtypeError, match="start=1 is a token, but the targets are floats"):
        translator(start=1)(source, mg.zeros((3, 2, E)))
    pair = mg.zeros((4, 2, 2)), mg.zeros((3, 2, 2))
    net.target_embedding = None
    with pytest.raises(ArgumentError, match="targets that are tokens need a target_embedding"):
        net(source, targets)
    with pytest.raises(ArgumentError, match="there is nothing to attend to"):
        nn.EncoderDecoder(G(2, 3), nn.AttentionCell(G(5, 3), nn.DotAttention(), 3))(*pair)
    with pytest.raises(MinigradError, match="expected a tensor, got a tuple of 2"):
        nn.EncoderDecoder(nn.Bidirectional(G(2, 3), G(2, 3)), G(2, 3))(*pair)


# What a new user ran into


def test_a_memory_that_no_cell_looks_at_is_refused_and_in_a_stack_goes_to_the_cells_that_do():
    xs, memory = mg.random.normal((4, 2, 3)), mg.random.normal((5, 2, 6))
    for net in (
        nn.Recurrent(nn.Zoneout(nn.LSTMCell(3, 4), 0.1)),
        nn.Stacked(nn.ElmanCell(3, 4)),
        nn.Recurrent(G, 3, 4),
    ):
        with pytest.raises(ArgumentError, match="memory was given, but no cell of it looks at one"):
            net(xs, memory=memory)
        with pytest.raises(ArgumentError, match="memory was given"):
            net.final(xs, memory=memory)
    attending = nn.AttentionCell(nn.GRUCell(4 + 6, 5), nn.AdditiveAttention(5, 6, 2), 6)
    stack = nn.Stacked(nn.LSTMCell(3, 4), nn.Zoneout(attending, 0.1)).eval()
    below, _ = stack.layers[0](xs)
    close(stack(xs, memory=memory)[0], stack.layers[1](below, memory=memory)[0].numpy(), 1e-6)
    with pytest.raises(ArgumentError, match="attend=True, but no cell of the decoder attends"):
        nn.EncoderDecoder(nn.Recurrent(G, 3, 4), nn.Recurrent(G, 3, 4), attend=True)


def test_a_teacher_is_refused_wherever_time_runs_backwards():
    xs, teacher = mg.zeros((4, 2, 3)), nn.Teacher(mg.zeros((4, 2, 5)))
    make = lambda i, h: nn.JordanCell(i, h, 5)
    both = nn.Bidirectional(make(3, 4), make(3, 4))
    for net in (nn.Recurrent(make, 3, 4, bidirectional=True), both, nn.Stacked(both)):
        with pytest.raises(ArgumentError, match="time must run forwards"):
            net(xs, memory=teacher)
    with pytest.raises(ArgumentError, match="time must run forwards"):
        nn.Recurrent(make(3, 4))(xs, memory=teacher, reverse=True)


def test_the_commonest_mistakes_are_answered_with_the_way_out():
    net, xs = nn.Recurrent(nn.LSTMCell, 3, 4), mg.zeros((5, 2, 3))
    with pytest.raises(DtypeError, match=r"got a tuple of 2; .*outs, _ = net\(xs\)"):
        nn.Linear(4, 2)(net(xs))
    with pytest.raises(DtypeError, match="outs, _ = net"):
        nn.Sequential(net, nn.Linear(4, 2))(xs)
    with pytest.raises(ShapeError, match=r"tokens become vectors by nn.Embedding"):
        net(mg.zeros((5, 2), dtype="int64"))
    with pytest.raises(MinigradError, match="lengths go by name"):
        net(xs, [4, 2])
    with pytest.raises(ArgumentError, match="lengths go by name"):
        nn.Bidirectional(nn.GRUCell(3, 4), nn.GRUCell(3, 4))(xs, [4, 2, 1])
    with pytest.raises(ArgumentError, match="lengths must be 2 integers"):
        net(xs, lengths=np.array([True, False]))
    with pytest.raises(ArgumentError, match=r"nn.Recurrent\(nn.LSTMCell, ...\) is the network here"):
        nn.Stacked(nn.LSTM(3, 4))
    with pytest.raises(ArgumentError, match=r"activation must be a function of a tensor, such as mg.relu; got 'relu'"):
        nn.ElmanCell(3, 4, activation="relu")


def test_numpys_integers_are_sizes_and_numpys_arrays_are_states_and_memories():
    size = np.int64(3)
    for make in (nn.LSTMCell, nn.ClockworkCell, nn.SCRNCell, nn.JordanCell, nn.EchoStateCell):
        net = nn.Recurrent(make, size, np.int32(4), num_layers=np.int64(2))
        assert net(mg.zeros((5, 2, 3)))[0].shape[:2] == (5, 2) and type(net.cell.input_size) is int
    net, h = nn.Recurrent(G, 3, 4), np.ones((2, 4), "float32")
    close(net(mg.zeros((5, 2, 3)), h)[0], net(mg.zeros((5, 2, 3)), mg.tensor(h))[0].numpy(), 1e-7)
    pool = nn.AttentionPooling(3, 2)
    close(pool(np.ones((5, 2, 3), "float32"))[0], np.ones((2, 3)), 1e-6)


def test_a_cell_that_forgot_its_base_says_so():
    class Forgot(nn.Cell):
        def __init__(self):
            self.layer = nn.Linear(3, 4)

    with pytest.raises(MinigradError, match=r"Forgot has no input_size: call super\(\).__init__"):
        nn.Recurrent(Forgot())(mg.zeros((5, 2, 3)))
    assert not hasattr(nn.LSTMCell(2, 3), "anything_else")


def test_a_bidirectional_encoder_without_a_bridge_names_it():
    net = nn.EncoderDecoder(nn.Recurrent(G, 3, 4, bidirectional=True), nn.Recurrent(G, 3, 4))
    with pytest.raises(ArgumentError, match=r"bridge=..., a function of that state"):
        net(mg.zeros((5, 2, 3)), mg.zeros((4, 2, 3)))


def test_an_encoder_decoder_shows_what_it_looks_at_and_takes_lists_of_tokens():
    cell = nn.AttentionCell(nn.GRUCell(3 + 4, 4), nn.AdditiveAttention(4, 4, 2), 4)
    net = nn.EncoderDecoder(
        nn.Recurrent(G, 3, 4), nn.Recurrent(cell), attend=True,
        source_embedding=nn.Embedding(6, 3), target_embedding=nn.Embedding(6, 3), output=nn.Linear(8, 6),
    )  # fmt: skip
    source, targets, lengths = [[1, 2], [3, 4], [5, 0]], [[1, 2], [3, 4]], [3, 2]
    a = net.alignment(source, targets, lengths)
    assert a.shape == (2, 2, 3) and (a.numpy()[:, 1, 2] == 0).all()
    close(a.sum(axis=-1), np.ones((2, 2)), 1e-6)
    assert net(source, targets, lengths).shape == (2, 2, 6)
    with pytest.raises(ArgumentError, match=r"the state that net.begin\(source, lengths\) gives"):
        nn.greedy(net.step, None, net.first(2), 3)
    with pytest.raises(ArgumentError, match="alignment needs attend=True"):
        nn.EncoderDecoder(nn.Recurrent(G, 3, 4), nn.Recurrent(G, 3, 4)).alignment(
            mg.zeros((2, 1, 3)), mg.zeros((2, 1, 3))
        )
