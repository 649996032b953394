"""Cells over sequences: layers, directions, lengths, padding, states of every kind, truncated backpropagation."""

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
from .helpers import MGU, Learned, by_hand, by_rows, close, in_float64, pulled, run

CELLS = {"elman": nn.ElmanCell, "lstm": nn.LSTMCell, "gru": nn.GRUCell, "mgu": MGU}
ORACLES = {"elman": (elman.layer, 1), "lstm": (lstm.layer, 2), "gru": (gru.layer, 1)}
UNROLLS = ["compiled", "eager"]
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


# Layers, directions and new starts


@pytest.mark.parametrize("unroll", UNROLLS)
@pytest.mark.parametrize("make", [nn.LSTMCell, Learned], ids=["lstm", "learned"])
@given(
    data=st.data(),
    T=st.integers(0, 5),
    B=st.integers(1, 3),
    layers=st.integers(1, 3),
    bidirectional=st.booleans(),
    batch_first=st.booleans(),
    given_state=st.booleans(),
    seed=SEEDS,
)
def test_every_row_has_the_values_and_gradients_of_a_loop_over_layers_directions_and_steps(
    make, unroll, data, T, B, layers, bidirectional, batch_first, given_state, seed
):
    lengths = data.draw(st.none() | st.lists(st.integers(0, T), min_size=B, max_size=B))
    row = st.lists(st.booleans(), min_size=B, max_size=B)
    marks = data.draw(st.none() | st.lists(row, min_size=T, max_size=T))
    rng = np.random.default_rng(seed)
    net = in_float64(
        nn.Recurrent(make, 2, 3, num_layers=layers, bidirectional=bidirectional, batch_first=batch_first, unroll=unroll)
    )
    for p in net.parameters():
        p.data = rng.normal(size=p.shape)
    xs, state, inputs = as_tensor(rng.normal(size=(T, B, 2)), "numpy", True), None, net.parameters()
    if given_state:
        state = tree.map(lambda s: _like(s, rng), tuple(tuple(c.initial_state(B) for c in cs) for cs in net.cells))
        inputs += [s for s in tree.leaves(state) if s.requires_grad]
        state = state[0][0] if layers == 1 and not bidirectional else state
    expected, states = by_hand(net, xs, state, lengths, marks)
    expected_gradients = pulled([expected, states], [xs, *inputs])

    reset = None if marks is None else np.array(marks, dtype=bool).reshape(T, B)
    if batch_first:
        outs, last = net(mg.permute_dims(xs, (1, 0, 2)), state, lengths, None if reset is None else reset.T)
        outs = mg.permute_dims(outs, (1, 0, 2))
    else:
        outs, last = net(xs, state, lengths, reset)
    close(outs, expected.numpy(), 1e-12)
    assert len(tree.leaves(last)) == len(states)
    for a, b in zip(tree.leaves(last), states):
        close(a, b.numpy(), 1e-12)
    # Gradients through a chain of saturated gates are rounding, of 1e-16 times the weights met on the way.
    for a, b in zip(pulled([outs, last], [xs, *inputs]), expected_gradients):
        close(a, b, 1e-10, floor=1e-2)


def _like(s: mg.Tensor, rng: np.random.Generator) -> mg.Tensor:
    """Other numbers in the place of a part of a state."""
    if "int" in str(s.dtype):
        return as_tensor(rng.integers(0, 9, s.shape), "numpy")
    return as_tensor(rng.normal(size=s.shape), "numpy", True)


class Sum(nn.Cell):
    """Adds up its inputs."""

    def forward(self, x, h):
        return h + x, h + x


def sums(**options) -> nn.Recurrent:
    return nn.Recurrent(Sum, 1, 1, bidirectional=True, **options)


@pytest.mark.parametrize("unroll", UNROLLS)
@pytest.mark.parametrize(
    "lengths, marks, forward, reverse, finals",
    [
        (None, None, [1, 3, 6, 10, 15], [15, 14, 12, 9, 5], (15, 15)),
        (None, [1, 0, 0, 1, 0], [1, 3, 6, 4, 9], [6, 5, 3, 9, 5], (9, 6)),
        ([4], None, [1, 3, 6, 10, 0], [10, 9, 7, 4, 0], (10, 10)),
        ([4], [1, 0, 0, 1, 1], [1, 3, 6, 4, 0], [6, 5, 3, 4, 0], (4, 6)),  # the mark in the padding counts for nothing
        ([4], [0, 0, 0, 0, 1], [1, 3, 6, 10, 0], [10, 9, 7, 4, 0], (10, 10)),
        ([0], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0], (0, 0)),
        (None, [1, 1, 1, 1, 1], [1, 2, 3, 4, 5], [1, 2, 3, 4, 5], (5, 1)),
    ],
)
def test_each_direction_begins_at_its_end_of_a_row_and_starts_anew_at_its_end_of_a_part(
    lengths, marks, forward, reverse, finals, unroll, backend
):
    with mg.use(backend):  # for a cell without weights, where its state is made
        xs = mg.tensor([1.0, 2.0, 3.0, 4.0, 5.0]).reshape(5, 1, 1)
        reset = None if marks is None else [[bool(m)] for m in marks]
        outs, ((first, last),) = sums(unroll=unroll)(xs, None, lengths, reset)
    assert outs[:, 0, 0].tolist() == forward
    assert outs[:, 0, 1].tolist() == reverse
    assert (first.item(), last.item()) == finals


def test_a_mark_at_the_first_step_overrides_the_state_given_and_in_reverse_none_does():
    xs, hundred = mg.ones((2, 1, 1)), mg.full((1, 1), 100.0)
    outs, ((first, last),) = sums()(xs, ((hundred, hundred),), reset=[[True], [False]])
    assert outs[:, 0].tolist() == [[1.0, 102.0], [2.0, 101.0]]
    assert (first.item(), last.item()) == (2.0, 102.0)


@pytest.mark.parametrize("unroll", UNROLLS)
def test_sequences_laid_one_after_another_with_marks_come_out_as_each_does_alone(unroll):
    net = in_float64(nn.Recurrent(nn.GRUCell, 2, 3, num_layers=2, bidirectional=True, unroll=unroll))
    parts = [mg.random.normal((n, 1, 2), dtype="float64") for n in (3, 1, 4)]
    starts = np.zeros((8, 1), bool)
    starts[[0, 3, 4]] = True
    outs, _ = net(mg.concat(parts), reset=starts)
    close(outs, np.concatenate([net(part)[0].numpy() for part in parts]), 1e-14)


@pytest.mark.parametrize("unroll", UNROLLS)
@pytest.mark.parametrize("make", [nn.LSTMCell, Learned], ids=["lstm", "learned"])
def test_padding_under_layers_and_directions_has_no_effect_and_gets_a_gradient_of_exactly_zero(make, unroll, backend):
    T, B, lengths = 4, 4, [2, 4, 0, 1]
    rng = np.random.default_rng(0)
    net = in_float64(nn.Recurrent(make, 2, 3, num_layers=2, bidirectional=True, unroll=unroll), backend)
    past = np.arange(T)[:, None] >= lengths
    clean, marks = rng.normal(size=(T, B, 2)), rng.random((T, B)) < 0.4
    results = []
    for fill in (0.0, np.nan):
        net.zero_grad()
        xs = as_tensor(np.where(past[..., None], fill, clean), backend, requires_grad=True)
        outs, state = net(xs, lengths=lengths, reset=as_tensor(marks | past, backend))
        (outs * outs).sum().backward()
        results.append([as_numpy(x) for x in tree.leaves([outs, xs.grad, state, [p.grad for p in net.parameters()]])])
    for a, b in zip(*results):
        np.testing.assert_array_equal(a, b)
        assert np.isfinite(b).all()
    outs, gradient = results[1][:2]
    assert (outs[past] == 0).all() and (gradient[past] == 0).all()
    assert (gradient[~past] != 0).all()


def test_a_cell_that_cannot_read_zeros_does_not_see_the_zeros_behind_the_layer_below():
    class Inverse(nn.Cell):
        def __init__(self, input_size, hidden_size):
            super().__init__(input_size, hidden_size)
            self.weight = nn.Parameter(nn.init.ones((1,)))

        def forward(self, x, h):
            h = h + self.weight * (1 / x)  # at 0, its gradient is 0 times infinity: NaN
            return h, h

    net = nn.Recurrent(Inverse, 1, 1, num_layers=2)
    xs = mg.tensor([[[4.0]], [[0.0]]], requires_grad=True)
    outs, _ = net(xs, lengths=[1])
    outs.sum().backward()
    assert outs[:, 0, 0].tolist() == [4.0, 0.0]
    assert xs.grad[:, 0, 0].tolist() == [1.0, 0.0]
    assert [p.grad.item() for p in net.parameters()] == [-4.0, 4.0]


@pytest.mark.parametrize("layers, bidirectional", [(2, False), (1, True), (3, True)])
def test_cells_are_named_by_layer_and_direction_and_read_what_the_layer_below_gives(layers, bidirectional):
    net = nn.Recurrent(Learned, 2, 3, num_layers=layers, bidirectional=bidirectional)
    directions = 1 + bidirectional
    assert [len(cells) for cells in net.cells] == [directions] * layers
    assert net.cell is net.cells[0][0]
    for i, cells in enumerate(net.cells):
        assert [cell.input_size for cell in cells] == [4 * directions if i else 2] * directions
    names = [f"cells.{i}.{d}.{name}" for i in range(layers) for d in range(directions) for name in ("start", "weight")]
    assert [name for name, _ in net.named_parameters()] == names


@pytest.mark.parametrize("layers, bidirectional", [(1, False), (2, False), (1, True), (2, True)])
def test_the_state_is_the_cells_own_or_a_tuple_over_layers_of_tuples_over_directions(layers, bidirectional):
    net = nn.Recurrent(nn.LSTMCell, 2, 3, num_layers=layers, bidirectional=bidirectional)
    for T in (0, 2):
        _, state = net(mg.zeros((T, 5, 2)))
        own = tree.map(lambda s: s.shape, state)
        h_c = ((5, 3), (5, 3))
        assert own == (h_c if layers == 1 and not bidirectional else ((h_c,) * (1 + bidirectional),) * layers)


@pytest.mark.parametrize("unroll", UNROLLS)
def test_a_deep_network_continues_from_a_state_also_after_detach(unroll):
    net = in_float64(nn.Recurrent(nn.LSTMCell, 2, 3, num_layers=2, unroll=unroll))
    xs = mg.random.normal((5, 2, 2), dtype="float64")
    whole, end = net(xs)
    first, middle = net(xs[:2])
    second, last = net(xs[2:], nn.detach(middle))
    close(np.concatenate([first.numpy(), second.numpy()]), whole.numpy(), 1e-14)
    for a, b in zip(tree.leaves(last), tree.leaves(end)):
        close(a, b.numpy(), 1e-14)
    assert not any(s.requires_grad for s in tree.leaves(nn.detach(middle)))


def test_a_state_may_be_left_out_for_some_of_the_cells():
    net, xs = nn.Recurrent(nn.GRUCell, 2, 3, bidirectional=True), mg.random.normal((2, 1, 2))
    one = mg.ones((1, 3))
    expected, _ = net(xs, ((mg.zeros((1, 3)), one),))
    assert (net(xs, [[None, one]])[0].numpy() == expected.numpy()).all()


@pytest.mark.parametrize(
    "state", [mg.zeros((1, 3)), (mg.zeros((1, 3)), mg.zeros((1, 3))), ((mg.zeros((1, 3)),),), [(1, 2), (1, 2)]]
)
def test_a_state_that_is_not_over_the_layers_and_directions_is_refused(state):
    with pytest.raises(ArgumentError, match=r"state must be a tuple of 1 \(layers\), each a tuple of 2 \(directions\)"):
        nn.Recurrent(nn.GRUCell, 2, 3, bidirectional=True)(mg.zeros((2, 1, 2)), state)


@pytest.mark.parametrize("form", [np.array, mg.tensor, list], ids=["array", "tensor", "list"])
@pytest.mark.parametrize("batch_first", [False, True])
def test_marks_may_be_an_array_a_tensor_or_lists(form, batch_first):
    net = nn.Recurrent(Sum(1, 1), batch_first=batch_first)
    marks, xs = [[True, False], [False, True], [False, False]], mg.ones((3, 2, 1))
    expected = np.array([[1, 1], [2, 1], [3, 2]])
    if batch_first:
        marks, xs, expected = [list(row) for row in zip(*marks)], mg.ones((2, 3, 1)), expected.T
    assert (net(xs, reset=form(marks))[0][:, :, 0].numpy() == expected).all()


@pytest.mark.parametrize("batch_first, words", [(False, r"\(T, B\) = \(3, 2\)"), (True, r"\(B, T\) = \(2, 3\)")])
@pytest.mark.parametrize(
    "marks, error",
    [
        (np.zeros((4, 2), bool), ShapeError),
        (np.zeros(3, bool), ShapeError),
        (True, ShapeError),
        ([[True, False], [True]], ArgumentError),
        ("yes", ArgumentError),
    ],
)
def test_marks_of_another_shape_are_refused_with_the_one_expected(marks, error, batch_first, words):
    net = nn.Recurrent(Sum(1, 1), batch_first=batch_first)
    with pytest.raises(error, match=f"reset must be booleans {words}"):
        net(mg.zeros((2, 3, 1) if batch_first else (3, 2, 1)), reset=marks)


@pytest.mark.parametrize("dtype", ["float32", "int64"])
def test_marks_that_are_numbers_are_refused_with_the_way_out(dtype):
    marks = mg.zeros((3, 2), dtype=dtype)
    with pytest.raises(DtypeError, match=rf"reset must be booleans .* got {dtype}; mg.tensor\(reset, dtype=mg.bool_\)"):
        nn.Recurrent(Sum(1, 1))(mg.zeros((3, 2, 1)), reset=marks)
    assert nn.Recurrent(Sum(1, 1))(mg.zeros((3, 2, 1)), reset=mg.tensor(marks, dtype=mg.bool_))[0].shape == (3, 2, 1)


class Echo(nn.Cell):
    """Gives its input."""

    def forward(self, x, h):
        return x, h


@pytest.mark.parametrize("unroll", UNROLLS)
@pytest.mark.parametrize("layers", [2, 3])
def test_dropout_acts_between_the_layers_in_training_only(layers, unroll, backend):
    p, shape = 0.25, (20, 10, 50)
    net = nn.Recurrent(Echo, 50, 50, num_layers=layers, dropout=p, unroll=unroll)
    xs = mg.ones(shape, backend=backend)
    xs.requires_grad = True
    state = ((mg.zeros((10, 50), backend=backend),),) * layers
    outs, _ = net(xs, state)
    outs.sum().backward()
    whole, kept = (1 - p) ** (1 - layers), (1 - p) ** (layers - 1)
    values = as_numpy(outs)
    assert np.isin(values, np.array([0.0, whole], "float32")).all()
    # 10,000 independent elements: their share is normal around `kept`, and beyond 6 deviations once in 10^9.
    assert abs((values > 0).mean() - kept) < 6 * (kept * (1 - kept) / values.size) ** 0.5
    assert (as_numpy(xs.grad) == values).all()
    net.eval()
    assert (as_numpy(net(xs, state)[0]) == 1).all()


@pytest.mark.parametrize("unroll", UNROLLS)
@pytest.mark.parametrize("remat", ["sqrt", 1, 2, 100])
def test_recomputing_in_place_of_storing_changes_no_value_and_no_gradient(remat, unroll):
    plain = in_float64(nn.Recurrent(nn.LSTMCell, 2, 3, num_layers=2, bidirectional=True, unroll=unroll))
    net = in_float64(nn.Recurrent(nn.LSTMCell, 2, 3, num_layers=2, bidirectional=True, remat=remat, unroll=unroll))
    net.load_state_dict(plain.state_dict())
    xs = as_tensor(np.random.default_rng(0).normal(size=(7, 2, 2)), "numpy", requires_grad=True)
    marks = np.random.default_rng(1).random((7, 2)) < 0.3
    expected, found = (pulled(n(xs, lengths=[4, 7], reset=marks), [xs, *n.parameters()]) for n in (plain, net))
    for a, b in zip(found, expected):
        close(a, b, 1e-12)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"num_layers": 0}, "num_layers must be an integer from 1, got 0"),
        ({"num_layers": True}, "num_layers must be"),
        ({"num_layers": 2.0}, "num_layers must be"),
        ({"num_layers": 2, "dropout": 1.5}, "dropout is a probability, got 1.5"),
        ({"num_layers": 2, "dropout": -0.1}, "dropout is a probability"),
        ({"dropout": 0.5}, "acts between layers, and there is one; nn.Dropout"),
        ({"unroll": "lazy"}, "unroll must be 'compiled' or 'eager', got 'lazy'"),
        ({"remat": 0}, "remat must be None, 'sqrt' or an integer from 1, got 0"),
        ({"remat": True}, "remat must be"),
        ({"remat": "log"}, "remat must be"),
    ],
)
def test_options_that_mean_nothing_are_refused_when_the_network_is_made(options, words):
    with pytest.raises(ArgumentError, match=words):
        nn.Recurrent(nn.GRUCell, 2, 3, **options)


@pytest.mark.parametrize("options", [{"num_layers": 2}, {"bidirectional": True}])
def test_a_built_cell_is_one_layer_in_one_direction(options):
    with pytest.raises(ArgumentError, match=r"give a cell class, .*: Recurrent\(GRUCell, 2, 3, ...\)"):
        nn.Recurrent(nn.GRUCell(2, 3), **options)


def test_a_factory_that_does_not_use_the_sizes_it_is_given_is_told_which_do_not_fit():
    with pytest.raises(ArgumentError, match="the layer below has 3 outputs, GRUCell takes 2"):
        nn.Recurrent(lambda i, h: nn.GRUCell(2, h), 2, 3, num_layers=2)


def test_no_steps_and_no_rows_keep_their_shapes_through_layers_and_directions():
    net = nn.Recurrent(nn.LSTMCell, 2, 3, num_layers=2, bidirectional=True, batch_first=True, dropout=0.5)
    for B, T in ((2, 0), (0, 4), (0, 0)):
        outs, state = net(mg.zeros((B, T, 2)), lengths=[0] * B, reset=np.zeros((B, T), bool))
        assert outs.shape == (B, T, 6)
        assert {s.shape for s in tree.leaves(state)} == {(B, 3)}


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


class Reader(nn.Cell):
    """Reads a memory (B, S), by a number for each step, and notes what prepare was given."""

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__(input_size, hidden_size)
        self.weight = nn.Parameter(nn.init.normal((hidden_size, input_size)))

    def prepare(self, xs, memory=None):
        T, B = xs.shape[:2]
        positions = mg.arange(T, dtype=xs.dtype, backend=xs.backend)
        parts = {"x": (xs,), "position": mg.broadcast_to(positions.reshape(T, 1, 1), (T, B, 1)), "none": None}
        return parts, ({"scale": 2.0, "memory": memory}, "tanh")

    def forward(self, x, h, fixed, activation):
        read = fixed["scale"] * mg.sum(fixed["memory"] / (1 + x["position"]), axis=1, keepdims=True)
        h = getattr(mg, activation)(0.5 * h + x["x"][0] @ self.weight.mT + read)
        return h, h


@pytest.mark.parametrize("unroll", UNROLLS)
def test_a_memory_comes_to_every_cell_and_what_prepare_makes_of_it_to_every_step(unroll):
    T, B, rng = 4, 2, np.random.default_rng(0)
    net = in_float64(nn.Recurrent(Reader, 3, 3, num_layers=2, bidirectional=True, unroll=unroll))
    xs, memory = (as_tensor(rng.normal(size=shape), "numpy", True) for shape in ((T, B, 3), (B, 5)))
    layer = [xs[t] for t in range(T)]
    finals = []
    for cells in net.cells:
        columns = [{}, {}]
        for d, cell in enumerate(cells):
            h = mg.zeros((B, 3), dtype="float64")
            for t in reversed(range(T)) if d else range(T):
                read = 2 * mg.sum(memory / (1 + t), axis=1, keepdims=True)
                h = columns[d][t] = mg.tanh(0.5 * h + layer[t] @ cell.weight.mT + read)
            finals.append(h)
        layer = [mg.concat([columns[0][t], columns[1][t]], axis=-1) for t in range(T)]
    inputs = [xs, memory, *net.parameters()]
    expected = mg.stack(layer)
    gradients = pulled([expected, finals], inputs)
    outs, state = net(xs, memory=memory)
    close(outs, expected.numpy(), 1e-13)
    for a, b in zip(pulled([outs, state], inputs), gradients):
        close(a, b, 1e-12)


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
    weights = {name.removeprefix("cells.0.0."): p.data for name, p in net.named_parameters()}
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
        close(p.grad, expected[name.removeprefix("cells.0.0.")], what=name)
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
    weights = {name.removeprefix("cells.0.0."): p.data for name, p in net.named_parameters()}
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


@pytest.mark.parametrize(
    ("state", "words"),
    [(mg.zeros((2, 5)), "LSTMCell.initial_state.*tuple of 2, got Tensor"),
     ((mg.zeros((3, 5)), mg.zeros((3, 5))), r"expected \(2, 5\), got \(3, 5\)"),
     ([1, 2, 3], "list of 3")],
)  # fmt: skip
def test_a_state_that_is_unlike_the_cells_own_is_refused_with_both(state, words):
    with pytest.raises(MinigradError, match=words):
        nn.Recurrent(nn.LSTMCell, 3, 5)(mg.ones((4, 2, 3)), state)


@pytest.mark.parametrize("steps", [2, 3])
def test_a_cell_that_prepares_no_context_is_told_what_is_missing(steps):
    class Half(nn.ElmanCell):
        def prepare(self, xs, memory=None):
            return xs

    with pytest.raises(ArgumentError, match=r"Half.prepare returns \(xs, context\)"):
        nn.Recurrent(Half, 3, 5)(mg.ones((steps, 2, 3)))


def test_a_cell_whose_output_is_no_tensor_is_told_of_scan():
    class Two(nn.Cell):
        def forward(self, x, h):
            return (x, h), h

    with pytest.raises(ArgumentError, match=r"a tuple of 2; several go by mg.scan"):
        nn.Recurrent(Two(2, 2))(mg.ones((4, 2, 2)))
