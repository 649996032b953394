"""Cells over sequences: lengths, padding, states of every kind, and truncated backpropagation."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import nn, tree
from minigrad.errors import ArgumentError, DtypeError, MinigradError, OutOfRangeError, ShapeError

from ..oracles import elman, gru, lstm
from ..strategies import SEEDS, as_numpy, as_tensor
from .helpers import MGU, by_rows, close, in_float64, run

CELLS = {"elman": nn.ElmanCell, "lstm": nn.LSTMCell, "gru": nn.GRUCell, "mgu": MGU}
ORACLES = {"elman": (elman.layer, 1), "lstm": (lstm.layer, 2), "gru": (gru.layer, 1)}
SIZES = {"T": st.integers(0, 5), "B": st.integers(1, 4), "I": st.integers(1, 3), "H": st.integers(1, 3)}


def states_of(net: nn.Recurrent, batch: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Numbers for every part of the state."""
    return [rng.normal(size=s.shape) for s in tree.leaves(net.cell.initial_state(batch))]


def as_state(net: nn.Recurrent, arrays: list[np.ndarray]):
    """These numbers in the structure of the cell's state."""
    values = iter(arrays)
    return tree.map(lambda s: as_tensor(next(values), s.backend), net.cell.initial_state(len(arrays[0])))


# Lengths


@pytest.mark.parametrize("kind", CELLS)
@given(data=st.data(), seed=SEEDS, **SIZES)
def test_each_row_of_a_batch_with_lengths_comes_out_as_it_does_alone(kind, data, T, B, I, H, seed):  # noqa: E741
    rng = np.random.default_rng(seed)
    net = in_float64(nn.Recurrent(CELLS[kind], I, H))
    lengths = data.draw(st.lists(st.integers(0, T), min_size=B, max_size=B))
    xs, starts = rng.normal(size=(T, B, I)), states_of(net, B, rng)
    outs, state = net(mg.tensor(xs), as_state(net, starts), lengths=lengths)
    for row, n in enumerate(lengths):
        alone, last = net(mg.tensor(xs[:n, row : row + 1]), as_state(net, [s[row : row + 1] for s in starts]))
        close(outs[:n, row], alone.numpy()[:, 0], 1e-13)
        assert (outs[n:, row].numpy() == 0).all()
        for whole, one in zip(tree.leaves(state), tree.leaves(last)):
            close(whole[row], one.numpy()[0], 1e-13)


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("padding", [np.nan, np.inf, 1e300])
def test_what_stands_in_the_padding_has_no_effect_and_gets_a_gradient_of_exactly_zero(kind, padding, backend):
    T, B, lengths = 4, 4, [2, 4, 0, 1]
    rng = np.random.default_rng(0)
    net = in_float64(nn.Recurrent(CELLS[kind], 2, 3), backend)
    past = np.arange(T)[:, None] >= lengths
    clean = rng.normal(size=(T, B, 2))
    starts, grad_outs = states_of(net, B, rng), rng.normal(size=(T, B, 3))
    results = [
        run(net, np.where(past[..., None], fill, clean), starts, grad_outs, starts, lengths) for fill in (0.0, padding)
    ]
    zeros, padded = ([as_numpy(x) for x in tree.leaves(list(r))] for r in results)
    for a, b in zip(zeros, padded):
        np.testing.assert_array_equal(a, b)
    assert (as_numpy(results[1][0])[past] == 0).all()
    assert (as_numpy(results[1][2])[past] == 0).all()
    assert all(np.isfinite(x).all() for x in padded)


@pytest.mark.parametrize("kind", CELLS)
def test_a_row_of_length_zero_keeps_its_initial_state_and_hands_its_gradient_through(kind, backend):
    rng = np.random.default_rng(0)
    net = in_float64(nn.Recurrent(CELLS[kind], 2, 3), backend)
    starts = states_of(net, 2, rng)
    cotangents = [rng.normal(size=s.shape) for s in starts]
    grad_outs = rng.normal(size=(3, 2, 3))
    _, last, _, grads, _ = run(net, rng.normal(size=(3, 2, 2)), starts, grad_outs, cotangents, [0, 3])
    for start, end, cotangent, grad in zip(starts, last, cotangents, grads):
        assert (as_numpy(end)[0] == start[0]).all()
        assert (as_numpy(end)[1] != start[1]).all()
        assert (as_numpy(grad)[0] == cotangent[0]).all()


@pytest.mark.parametrize(
    "form",
    [tuple, np.array, lambda n: np.array(n, "int32"), lambda n: [np.int64(v) for v in n],
     lambda n: mg.tensor(n, dtype="int64")],
    ids=["tuple", "array", "int32", "numpy integers", "tensor"],
)  # fmt: skip
def test_lengths_may_be_any_integers(form):
    net, xs = nn.Recurrent(nn.GRUCell, 2, 3), mg.random.normal((3, 2, 2))
    expected, _ = net(xs, lengths=[3, 1])
    assert (net(xs, lengths=form([3, 1]))[0].numpy() == expected.numpy()).all()


@pytest.mark.parametrize(
    "lengths",
    [[1], [1, 2, 3], [1, 4], [-1, 2], [1.0, 2.0], np.array([1.5, 2.0]), [[1, 2]], np.array([[1], [2]]), 2, np.int64(2)],
)
def test_wrong_lengths_are_refused_with_what_they_must_be(lengths):
    with pytest.raises(ArgumentError, match=r"lengths must be 2 integers from 0 to 3, got"):
        nn.Recurrent(nn.GRUCell, 2, 3)(mg.zeros((3, 2, 2)), lengths=lengths)


def test_full_lengths_are_no_lengths():
    net, xs = nn.Recurrent(nn.LSTMCell, 2, 3), mg.random.normal((3, 2, 2))
    for a, b in zip(tree.leaves(net(xs)), tree.leaves(net(xs, lengths=[3, 3]))):
        assert (a.numpy() == b.numpy()).all()


# Shapes


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("lengths", [None, [0, 0]])
def test_a_sequence_of_no_steps_gives_no_outputs_and_the_state_it_began_with(kind, lengths, backend):
    net = in_float64(nn.Recurrent(CELLS[kind], 2, 3), backend)
    starts = states_of(net, 2, np.random.default_rng(0))
    outs, state = net(as_tensor(np.zeros((0, 2, 2)), backend), as_state(net, starts), lengths=lengths)
    assert (outs.shape, outs.backend, outs.dtype) == ((0, 2, 3), backend, net.parameters()[0].dtype)
    for start, end in zip(starts, tree.leaves(state)):
        assert (end.numpy() == start).all()


@pytest.mark.parametrize("kind", CELLS)
def test_a_batch_of_no_rows_gives_no_rows(kind):
    outs, state = nn.Recurrent(CELLS[kind], 2, 3)(mg.zeros((4, 0, 2)), lengths=[])
    assert outs.shape == (4, 0, 3)
    assert {s.shape for s in tree.leaves(state)} == {(0, 3)}


@pytest.mark.parametrize("lengths", [None, [2, 0, 3, 1]])
def test_batch_first_is_the_same_network_on_transposed_sequences(lengths, backend):
    net = nn.Recurrent(nn.LSTMCell(2, 3)).to(backend)
    rows_first = nn.Recurrent(net.cell, batch_first=True)
    xs = mg.random.normal((3, 4, 2), backend=backend)
    outs, state = net(xs, lengths=lengths)
    transposed, same = rows_first(mg.permute_dims(xs, (1, 0, 2)), lengths=lengths)
    assert transposed.shape == (4, 3, 3)
    assert (transposed.numpy().transpose(1, 0, 2) == outs.numpy()).all()
    assert all((a.numpy() == b.numpy()).all() for a, b in zip(tree.leaves(state), tree.leaves(same)))


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("shape", [(), (3,), (3, 2, 5)])
def test_a_sequence_of_another_shape_is_refused_with_the_shape_expected(shape, batch_first):
    net = nn.Recurrent(nn.GRUCell, 2, 3, batch_first=batch_first)
    with pytest.raises(ShapeError, match=rf"expected xs of shape \({'B, T' if batch_first else 'T, B'}, "):
        net(mg.zeros(shape))


@pytest.mark.parametrize(
    "arguments",
    [(nn.GRUCell,), (nn.GRUCell, 2), (nn.GRUCell, None, 3), (nn.GRUCell(2, 3), 2, 3), (nn.GRUCell(2, 3), 2)],
)
def test_sizes_that_are_missing_or_given_twice_are_refused(arguments):
    with pytest.raises(ArgumentError, match="size"):
        nn.Recurrent(*arguments)


def test_a_state_of_another_batch_is_refused():
    with pytest.raises(MinigradError, match=r"3, 3|2, 3"):
        nn.Recurrent(nn.GRUCell, 2, 3)(mg.zeros((1, 2, 2)), mg.zeros((3, 3)))


def test_a_network_may_be_made_of_a_class_a_factory_or_a_built_cell():
    factory = lambda i, h: nn.GRUCell(i, h, reset_after=True)
    for net in (nn.Recurrent(nn.GRUCell, 2, 3), nn.Recurrent(factory, 2, 3), nn.Recurrent(nn.GRUCell(2, 3))):
        assert net(mg.zeros((4, 1, 2)))[0].shape == (4, 1, 3)
    assert nn.Recurrent(factory, 2, 3).cell.reset_after


def test_arrays_and_lists_are_taken_as_sequences():
    net = nn.Recurrent(nn.ElmanCell, 2, 3)
    values = np.arange(8, dtype="float32").reshape(2, 2, 2) / 8
    expected = net(mg.tensor(values))[0].numpy()
    for xs in (values, values.tolist()):
        assert (net(xs)[0].numpy() == expected).all()


# Cells of every kind


class Tokens(nn.Cell):
    """Reads integers: the embedding is in the cell."""

    def __init__(self, count: int, hidden: int):
        super().__init__(count, hidden)
        self.embedding, self.inner = nn.Embedding(count, hidden), nn.ElmanCell(hidden, hidden)

    def forward(self, x, h):
        return self.inner(self.embedding(x), h)


@pytest.mark.parametrize("lengths", [None, [1, 3, 0]])
def test_a_cell_may_read_integers(lengths, backend):
    net = nn.Recurrent(Tokens(5, 3)).to(backend)
    tokens = np.array([[0, 4, 99], [-7, 1, 99], [99, 4, -1]]) if lengths else np.array([[0, 4, 2], [3, 1, 0]])
    outs, state = net(as_tensor(tokens, backend), lengths=lengths)
    vectors = net.cell.embedding(mg.tensor(np.where((tokens < 0) | (tokens > 4), 0, tokens), backend=backend))
    expected, last = nn.Recurrent(net.cell.inner)(vectors, lengths=lengths)
    assert (outs.numpy() == expected.numpy()).all()
    assert (state.numpy() == last.numpy()).all()
    outs.sum().backward()
    assert net.cell.embedding.weight.grad.shape == (5, 3)


def test_integers_beyond_the_vocabulary_and_floats_are_refused_by_the_cell():
    net = nn.Recurrent(Tokens(5, 3))
    with pytest.raises(OutOfRangeError):
        net(np.array([[5]]))
    with pytest.raises(DtypeError):
        net(np.array([[1.0]]))


class Memory(NamedTuple):
    h: mg.Tensor
    count: mg.Tensor
    extras: dict


class Counting(nn.Cell):
    """Its state has a named tuple, an integer counter for each row, one for all rows, a dict and a None."""

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__(input_size, hidden_size)
        self.weight = nn.Parameter(nn.init.normal((hidden_size, input_size)))

    def initial_state(self, batch_size):
        backend = self.weight.backend
        count = mg.zeros((batch_size,), dtype="int64", backend=backend)
        extras = {"all": mg.zeros((), dtype="int64", backend=backend), "pair": [self.zeros(batch_size, 2, 1), None]}
        return Memory(self.zeros(batch_size, self.hidden_size), count, extras)

    def forward(self, x, state):
        count, total = state.count + 1, state.extras["all"] + 1
        h = 0.5 * state.h + (x @ self.weight.mT) / mg.expand_dims(count, axis=1).astype(x.dtype)
        pair = [state.extras["pair"][0] + 1, None]
        return 2 * h, Memory(h, count, {"all": total, "pair": pair})


def test_a_state_may_be_nested_and_count_steps_in_integers(backend):
    net, lengths = nn.Recurrent(Counting(2, 3)).to(backend), [3, 0, 2]
    xs = mg.random.normal((3, 3, 2), backend=backend)
    outs, state = net(xs, lengths=lengths)
    assert type(state) is Memory
    assert state.count.tolist() == lengths
    assert "int64" in str(state.count.dtype)
    assert state.extras["all"].item() == 3  # a part without rows goes on with every step
    assert state.extras["pair"][0][:, 0, 0].tolist() == lengths
    assert state.extras["pair"][1] is None
    assert (outs[1, 2] / 2).tolist() == state.h[2].tolist()
    (outs.sum() + state.h.sum()).backward()
    assert net.cell.weight.grad.shape == (3, 2)
    assert not state.count.requires_grad


class Remembering(nn.Cell):
    """Adds to its input, at every step, something made once of the whole sequence."""

    def __init__(self):
        super().__init__(2, 2)
        self.calls = []

    def prepare(self, xs):
        self.calls.append(xs.shape)
        return 2 * xs, (mg.sum(xs, axis=0), "fixed")

    def forward(self, x, h, total, word):
        assert word == "fixed"
        h = h + x + total
        return h, h


@pytest.mark.parametrize("batch_first", [False, True])
def test_what_prepare_makes_of_the_sequence_comes_to_every_step(batch_first, backend):
    net = nn.Recurrent(Remembering(), batch_first=batch_first)
    xs = np.arange(12.0).reshape(3, 2, 2)
    outs, _ = net(mg.tensor(xs.swapaxes(0, 1) if batch_first else xs, backend=backend),
                  mg.zeros((2, 2), dtype="float64", backend=backend))  # fmt: skip
    steps = np.arange(1, 4)[:, None, None]
    expected = np.cumsum(2 * xs, axis=0) + steps * xs.sum(0)
    assert (outs.numpy() == (expected.swapaxes(0, 1) if batch_first else expected)).all()
    assert net.cell.calls == [(3, 2, 2)]


def test_prepare_sees_the_last_valid_input_in_place_of_padding_and_zeros_in_rows_without_any():
    xs = np.array([[[1.0, 2.0], [np.nan, 3.0]], [[np.nan, np.inf], [4.0, np.nan]]])
    net, seen = nn.Recurrent(Remembering()), []
    net.cell.prepare = lambda xs: seen.append(xs.tolist()) or (xs, (0.0, "fixed"))
    net(mg.tensor(xs), mg.zeros((2, 2), dtype="float64"), lengths=[1, 0])
    assert seen == [[[[1.0, 2.0], [0.0, 0.0]], [[1.0, 2.0], [0.0, 0.0]]]]


# Truncated backpropagation


@pytest.mark.parametrize("kind", ORACLES)
@given(T=st.integers(1, 7), k=st.integers(1, 4), B=st.integers(1, 2), seed=SEEDS)
def test_detaching_every_k_steps_gives_the_sum_of_the_gradients_of_the_windows(kind, T, k, B, seed):
    oracle, parts = ORACLES[kind]
    rng = np.random.default_rng(seed)
    net = in_float64(nn.Recurrent(CELLS[kind], 2, 3))
    for p in net.parameters():
        p.data = rng.normal(size=p.shape)
    xs, grad_outs = rng.normal(size=(T, B, 2)), rng.normal(size=(T, B, 3))
    weights = {name.removeprefix("cell."): p.data for name, p in net.named_parameters()}
    first = [rng.normal(size=(B, 3)) for _ in range(parts)]
    nothing = [np.zeros((B, 3))] * parts

    state = as_state(net, first)
    leaves = tree.leaves(state)
    for s in leaves:
        s.requires_grad = True
    total, expected, at = mg.tensor(0.0, dtype="float64"), dict.fromkeys(weights, 0.0), first
    for start in range(0, T, k):
        window = slice(start, start + k)
        outs, state = net(mg.tensor(xs[window]), state)
        total = total + (outs * mg.tensor(grad_outs[window])).sum()
        state = nn.detach(state)
        lengths = [len(xs[window])] * B
        _, at, _, at_start, grads = by_rows(oracle, xs[window], at, weights, grad_outs[window], nothing, lengths)
        expected = {name: expected[name] + grads[name] for name in weights}
        if start == 0:
            of_first = at_start
    total.backward()
    for name, p in net.named_parameters():
        close(p.grad, expected[name.removeprefix("cell.")], what=name)
    for leaf, grad, end, s in zip(leaves, of_first, at, tree.leaves(state)):
        close(leaf.grad, grad)  # that of the first window alone
        close(s, end)  # while the values go through every window


def test_without_detach_the_gradient_is_that_of_the_whole_sequence():
    rng = np.random.default_rng(3)
    net = in_float64(nn.Recurrent(nn.ElmanCell, 2, 3))
    xs, g = rng.normal(size=(4, 1, 2)), rng.normal(size=(4, 1, 3))
    state, total = None, 0.0
    for t in range(4):
        outs, state = net(mg.tensor(xs[t : t + 1]), state)
        total = total + (outs * mg.tensor(g[t : t + 1])).sum()
    total.backward()
    weights = {name.removeprefix("cell."): p.data for name, p in net.named_parameters()}
    zeros = [np.zeros((1, 3))]
    close(net.cell.weight_hh.grad, by_rows(elman.layer, xs, zeros, weights, g, zeros, [4])[4]["weight_hh"])


def test_detach_keeps_the_structure_and_the_numbers_and_cuts_every_part():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    state = Memory(2 * x, mg.tensor([1], dtype="int64"), {"pair": [x * x, None]})
    cut = nn.detach(state)
    assert type(cut) is Memory
    assert cut.extras["pair"][1] is None
    for a, b in zip(tree.leaves(state), tree.leaves(cut)):
        assert b.data is a.data
        assert not b.requires_grad
    assert nn.detach(None) is None


def test_a_bare_recurrent_network_keeps_nothing_between_calls():
    net, xs = nn.Recurrent(nn.LSTMCell, 2, 3), mg.random.normal((2, 1, 2))
    first, second = net(xs), net(xs)
    assert all((a.numpy() == b.numpy()).all() for a, b in zip(tree.leaves(first), tree.leaves(second)))


@pytest.mark.parametrize("kind", CELLS)
def test_a_float64_network_continued_from_a_state_equals_one_run(kind):
    net = in_float64(nn.Recurrent(CELLS[kind], 2, 3))
    xs = mg.random.normal((5, 2, 2), dtype="float64")
    whole, end = net(xs)
    first, middle = net(xs[:2])
    second, last = net(xs[2:], middle)
    close(np.concatenate([first.numpy(), second.numpy()]), whole.numpy(), 1e-14)
    for a, b in zip(tree.leaves(last), tree.leaves(end)):
        close(a, b.numpy(), 1e-14)


def test_an_unbatched_sequence_of_floats_is_refused_and_not_taken_for_a_batch():
    with pytest.raises(mg.errors.DtypeError, match=r"one sequence is xs\[:, None, :\]"):
        nn.Recurrent(nn.LSTMCell, 3, 5)(mg.ones((4, 3)))


@pytest.mark.parametrize("state", [mg.zeros((2, 5)), (mg.zeros((1, 2, 5)), mg.zeros((1, 2, 5)))])
def test_a_state_of_another_structure_or_with_another_axis_is_refused(state):
    with pytest.raises(mg.MinigradError):
        nn.Recurrent(nn.LSTMCell, 3, 5)(mg.ones((4, 2, 3)), state)


def test_a_cell_that_returns_only_its_output_is_told_what_is_missing():
    class Half(nn.Cell):
        def forward(self, x, h):
            return x

    with pytest.raises(mg.errors.ArgumentError, match=r"returns \(out, state\), Half returned one Tensor"):
        nn.Recurrent(Half(2, 2))(mg.ones((3, 2, 2)))


def test_a_counter_that_is_a_python_number_may_be_part_of_the_state():
    class Counting(nn.Cell):
        def initial_state(self, batch_size):
            return self.zeros(batch_size, 2), 0

        def forward(self, x, state):
            h, n = state
            return x + n, (h + x, n + 1)

    outs, state = nn.Recurrent(Counting(2, 2))(mg.ones((3, 2, 2)), lengths=[3, 1])
    h, n = nn.detach(state)
    assert n == 3 and h.tolist() == [[3.0, 3.0], [1.0, 1.0]] and outs[2].tolist() == [[3.0, 3.0], [0.0, 0.0]]


@pytest.mark.parametrize(
    "make", [lambda: nn.LSTMCell(3, 0), lambda: nn.GRUCell(3, 2.0), lambda: nn.Recurrent(nn.Linear, 3, 5)]
)
def test_sizes_that_are_none_and_cells_that_are_none_are_refused(make):
    with pytest.raises(mg.errors.ArgumentError):
        make()
