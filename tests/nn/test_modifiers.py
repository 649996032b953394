"""Cells around cells: against the same steps taken one by one with the same noise, and the noise against its law."""

from __future__ import annotations

from itertools import permutations
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import nn, tree
from minigrad.errors import ArgumentError, DtypeError, ShapeError

from ..strategies import SEEDS, as_numpy, as_tensor
from .helpers import Learned, close, in_float64, pulled

UNROLLS = ["compiled", "eager"]


class Memory(NamedTuple):
    h: mg.Tensor
    rest: list


class Nested(nn.Cell):
    """A user's cell: a named tuple with floats of two shapes, integers, a number and a None; parts made by prepare."""

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__(input_size, hidden_size)
        self.weight = nn.Parameter(nn.init.normal((hidden_size, input_size)))

    def initial_state(self, batch_size):
        count = mg.zeros((batch_size,), dtype="int64", backend=self.weight.backend)
        return Memory(self.zeros(batch_size, self.hidden_size), [count, None, self.zeros(batch_size, 2, 1), 0])

    def prepare(self, xs, memory=None):
        return {"x": xs, "next": mg.concat([xs[1:], 0 * xs[:1]])}, (0.5,)

    def forward(self, x, state, half):
        count, _, pair, total = state.rest
        h = mg.tanh(half * state.h + (x["x"] + x["next"]) @ self.weight.mT + pair[:, 0])
        return 2 * h, Memory(h, [count + 1, None, mg.sin(pair + 1 + h[:, :1, None]), total + 1])


class Tapping(nn.Cell):
    """Counts up from one another number in each part of its state, whatever x is; shows none of it."""

    def initial_state(self, batch_size):
        return tuple(self.zeros(batch_size, self.hidden_size) for _ in range(2))

    def forward(self, x, state):
        return x, tuple(s + 1 for s in state)


MODIFIERS = {
    "zoneout": lambda cell: nn.Zoneout(cell, 0.3),
    "variational dropout": lambda cell: nn.VariationalDropout(cell, 0.2, 0.4),
    "residual": nn.Residual,
}
CELLS = {"lstm": nn.LSTMCell, "gru": nn.GRUCell, "nested": Nested}
ORDERS = [order for n in (1, 2, 3) for order in permutations(MODIFIERS, n)] + [("zoneout", "zoneout")]


def wrapped(kind: str, order, input_size: int, hidden_size: int) -> nn.Cell:
    cell = CELLS[kind](input_size, hidden_size)
    for name in order:
        cell = MODIFIERS[name](cell)
    return cell


def step_by_step(cell: nn.Cell, xs: mg.Tensor, state=None, reverse: bool = False):
    """A cell over a sequence by a loop over its steps: (outs, state)."""
    parts, context = cell.prepare(xs)
    state = cell.initial_state(xs.shape[1]) if state is None else state
    outs = {}
    for t in reversed(range(len(xs))) if reverse else range(len(xs)):
        outs[t], state = cell(tree.map(lambda part, t=t: part[t], parts), state, *context)
    return mg.stack([outs[t] for t in range(len(xs))]), state


def network(cell, seed: int = 0, **options) -> nn.Recurrent:
    """In float64, with weights from the seed."""
    net = in_float64(nn.Recurrent(cell, 3, 3, **options) if not isinstance(cell, nn.Cell) else nn.Recurrent(cell))
    rng = np.random.default_rng(seed)
    for p in net.parameters():
        p.data = rng.normal(size=p.shape)
    return net


def floats(state) -> list[mg.Tensor]:
    """The parts of a state that have gradients."""
    return [s for s in tree.leaves(state) if isinstance(s, mg.Tensor) and "float" in str(s.dtype)]


# Any order around any cell


@pytest.mark.slow
@pytest.mark.parametrize("unroll", UNROLLS)
@pytest.mark.parametrize("training", [True, False], ids=["training", "eval"])
@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("order", ORDERS, ids="+".join)
def test_modifiers_in_any_order_around_any_cell_are_the_steps_taken_one_by_one(order, kind, training, unroll):
    net = network(lambda i, h: wrapped(kind, order, i, h), num_layers=2, dropout=0.0, unroll=unroll)
    net.train(training)
    xs = as_tensor(np.random.default_rng(1).normal(size=(4, 2, 3)), "numpy", True)
    with mg.seed(7):
        layer, finals = xs, []
        for (cell,) in net.cells:
            layer, state = step_by_step(cell, layer)
            finals += floats(state)
    inputs = [xs, *net.parameters()]
    expected = pulled([layer, finals], inputs)
    with mg.seed(7):
        outs, state = net(xs)
    close(outs, layer.numpy(), 1e-12)
    for a, b in zip(floats(state), finals):
        close(a, b.numpy(), 1e-12)
    for a, b in zip(pulled([outs, floats(state)], inputs), expected):
        close(a, b, 1e-10, floor=1e-2)


@pytest.mark.parametrize("order", ORDERS, ids="+".join)
@pytest.mark.parametrize("kind", CELLS)
def test_a_wrapped_cell_has_the_sizes_the_state_and_the_weights_of_the_cell_within(kind, order):
    inner, cell = CELLS[kind](3, 3), wrapped(kind, order, 3, 3)
    assert (cell.input_size, cell.hidden_size, cell.output_size) == (3, 3, inner.output_size)
    shapes = lambda c: tree.map(lambda s: getattr(s, "shape", ()), c.initial_state(5))
    assert shapes(cell) == shapes(inner) and type(cell.initial_state(5)) is type(inner.initial_state(5))
    names = [name for name, _ in cell.named_parameters()]
    assert names == ["cell." * len(order) + name for name, _ in inner.named_parameters()]


@pytest.mark.parametrize("unroll", UNROLLS)
@pytest.mark.parametrize("kind", CELLS)
def test_modifiers_run_in_both_directions_with_lengths_and_marks(kind, unroll, backend):
    T, B, lengths = 4, 3, [2, 0, 4]
    order = ("zoneout", "variational dropout", "residual")
    make = lambda i, h: wrapped(kind, order[: 3 if i == h else 2], i, h)
    net = nn.Recurrent(make, 3, 3, num_layers=2, bidirectional=True, unroll=unroll).to(backend)
    rng = np.random.default_rng(0)
    past = np.arange(T)[:, None] >= lengths
    clean, marks, results = rng.normal(size=(T, B, 3)).astype("float32"), rng.random((T, B)) < 0.3, []
    for fill in (0.0, np.nan):
        xs = as_tensor(np.where(past[..., None], np.float32(fill), clean), backend, True)
        with mg.seed(3):
            outs, state = net(xs, lengths=lengths, reset=marks)
        outs.sum().backward()
        results.append([as_numpy(x) for x in (outs, xs.grad, *floats(state))])
    for a, b in zip(*results):
        np.testing.assert_array_equal(a, b)
    assert (results[1][0][past] == 0).all() and (results[1][1][past] == 0).all()
    assert type(state[0][0]) is type(net.cell.initial_state(1))
    assert (as_numpy(floats(state)[0])[1] == 0).all()  # a row of no steps


@pytest.mark.parametrize("order", ORDERS, ids="+".join)
def test_noise_is_drawn_by_prepare_and_by_no_step(order):
    cell = wrapped("lstm", order, 3, 3)
    parts, context = cell.prepare(mg.ones((2, 1, 3)))
    before = mg.random.get_state()
    first = cell(tree.map(lambda part: part[0], parts), cell.initial_state(1), *context)
    again = cell(tree.map(lambda part: part[0], parts), cell.initial_state(1), *context)
    assert mg.random.get_state() == before
    for a, b in zip(tree.leaves(first), tree.leaves(again)):
        assert (a.numpy() == b.numpy()).all()


@pytest.mark.parametrize("order", ORDERS, ids="+".join)
def test_out_of_training_nothing_is_drawn_and_a_step_can_be_taken_without_prepare(order):
    net = nn.Recurrent(wrapped("lstm", order, 3, 3)).eval()
    xs, before = mg.random.normal((1, 2, 3)), mg.random.get_state()
    outs, _ = net(xs)
    assert mg.random.get_state() == before
    assert (net.cell(xs[0], net.cell.initial_state(2))[0].numpy() == outs[0].numpy()).all()


@pytest.mark.parametrize(
    "cell",
    [nn.Zoneout(nn.LSTMCell(3, 3), 0.5), nn.VariationalDropout(nn.LSTMCell(3, 3), 0.0, 0.5)],
    ids=["zoneout", "variational dropout"],
)
def test_a_step_in_training_without_prepare_is_told_what_is_missing(cell):
    with pytest.raises(ArgumentError, match=r"in training a step takes its noise .* cell.prepare\(xs\)` does"):
        cell(mg.zeros((2, 3)), cell.initial_state(2))


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS, ids="+".join)
def test_noise_reaches_the_gradients_which_are_those_of_finite_differences(order):
    net = network(wrapped("lstm", order, 3, 3))

    def f(xs, h, c):
        with mg.seed(5):
            return net(xs, (h, c))

    rng = np.random.default_rng(2)
    assert mg.gradcheck(f, [rng.normal(size=shape) for shape in ((2, 2, 3), (2, 3), (2, 3))])


class Reading(nn.Cell):
    def prepare(self, xs, memory=None):
        return xs, (memory,)

    def forward(self, x, h, memory):
        return h + x + memory, h


class Old(nn.Cell):
    """Its prepare knows of no memory."""

    def prepare(self, xs):
        return xs, ()

    def forward(self, x, h):
        return h + x, h


@pytest.mark.parametrize("order", ORDERS, ids="+".join)
def test_a_memory_goes_through_all_modifiers_to_the_cell_and_is_not_asked_of_one_that_takes_none(order):
    def around(cell):
        for name in order:
            cell = MODIFIERS[name](cell)
        return nn.Recurrent(cell).eval()

    xs, memory = mg.ones((2, 1, 3)), mg.full((1, 3), 10.0)
    out = 11.0 + order.count("residual")
    assert around(Reading(3, 3))(xs, memory=memory)[0].tolist() == [[[out] * 3]] * 2
    assert around(Old(3, 3))(xs)[0].tolist() == [[[out - 10.0] * 3]] * 2


@pytest.mark.parametrize("make", [lambda c: nn.Zoneout(c, 0.1), nn.VariationalDropout, nn.Residual])
@pytest.mark.parametrize("cell", [nn.LSTMCell, nn.Linear(3, 3)], ids=["class", "layer"])
def test_only_a_built_cell_can_be_wrapped(make, cell):
    with pytest.raises(ArgumentError, match=r"expected a built cell, .* lambda i, h: nn."):
        make(cell)


def test_a_modifier_of_ones_own_is_ten_lines():
    class Leak(nn.Modifier):
        """Keeps half of h."""

        def forward(self, x, h, *context):
            out, new = super().forward(x, h, *context)
            return out, 0.5 * h + 0.5 * new

    outs, state = nn.Recurrent(Leak(nn.Zoneout(nn.ElmanCell(2, 3), 0.5)))(mg.zeros((3, 1, 2)))
    assert outs.shape == (3, 1, 3) and state.shape == (1, 3)


# Zoneout


def uniform_mixture(p: float, cell: nn.Cell, xs, state) -> list[np.ndarray]:
    """The states of Zoneout out of training, by its formula, and the outputs."""
    outs, values = [], [as_numpy(s) for s in state]
    for x in xs:
        out, new = cell(mg.tensor(x), tuple(mg.tensor(v) for v in values))
        values = [q * v + (1 - q) * as_numpy(s) for q, v, s in zip(p, values, new)]
        outs.append(values[0] if out is new[0] else as_numpy(out))
    return [np.stack(outs), *values]


@pytest.mark.parametrize("unroll", UNROLLS)
@given(p=st.tuples(st.floats(0, 1), st.floats(0, 1)), T=st.integers(1, 4), seed=SEEDS)
def test_out_of_training_zoneout_is_its_expectation(unroll, p, T, seed):
    rng = np.random.default_rng(seed)
    cell = nn.LSTMCell(3, 3)
    net = network(nn.Zoneout(cell, p), seed).eval()
    net.unroll = unroll
    xs, state = rng.normal(size=(T, 2, 3)), [rng.normal(size=(2, 3)) for _ in range(2)]
    outs, last = net(mg.tensor(xs), tuple(mg.tensor(s) for s in state))
    for found, expected in zip([outs, *last], uniform_mixture(p, cell, xs, state)):
        close(found, expected, 1e-13)


@pytest.mark.parametrize("unroll", UNROLLS)
def test_in_training_each_element_of_the_state_is_kept_or_new_as_the_noise_says(unroll):
    T, B = 5, 3
    rng = np.random.default_rng(0)
    inner = nn.LSTMCell(3, 3)
    net = network(nn.Zoneout(inner, (0.2, 0.6)))
    net.unroll = unroll
    xs, state = rng.normal(size=(T, B, 3)), tuple(mg.tensor(rng.normal(size=(B, 3))) for _ in range(2))
    with mg.seed(1):
        (_, keep), _ = net.cell.prepare(mg.tensor(xs))
    with mg.seed(1):
        outs, last = net(mg.tensor(xs), state)
    h, c = (s.numpy() for s in state)
    for t in range(T):
        _, (new_h, new_c) = inner(mg.tensor(xs[t]), (mg.tensor(h), mg.tensor(c)))
        h = np.where(keep[0][t].numpy(), h, new_h.numpy())
        c = np.where(keep[1][t].numpy(), c, new_c.numpy())
        close(outs[t], h, 1e-13)
    close(last[0], h, 1e-13)
    close(last[1], c, 1e-13)


def test_the_noise_of_zoneout_has_the_probability_of_each_part_and_is_independent_in_time_rows_and_units():
    p, shape = (0.1, 0.7), (12, 40, 50)
    (_, keep), _ = nn.Zoneout(Tapping(50, 50), p).prepare(mg.zeros(shape))
    # The share of n independent events of probability q is normal around q, and beyond 6 deviations once in 10^9.
    within = lambda events, q: abs(events.mean() - q) < 6 * (q * (1 - q) / events.size) ** 0.5
    for kept, q in zip(keep, p):
        kept = kept.numpy()
        assert kept.shape == shape and within(kept, q)
        for axis in range(3):  # pairs of neighbours that do not overlap are independent events of q^2
            a, b = np.split(kept, 2, axis=axis)
            assert within(a & b, q * q)
    a, b = (kept.numpy() for kept in keep)
    assert within(a & b, p[0] * p[1])


def test_the_mean_over_many_rows_in_training_is_what_zoneout_gives_out_of_training():
    rows, p = 20_000, 0.3
    net = network(nn.Zoneout(nn.GRUCell(3, 3), p))
    xs, h = mg.ones((1, rows, 3), dtype="float64"), mg.full((rows, 3), 0.5, dtype="float64")
    found, expected = net(xs, h)[0].numpy()[0], net.eval()(xs, h)[0].numpy()[0, 0]
    new = (expected - p * 0.5) / (1 - p)
    assert (np.abs(found.mean(axis=0) - expected) < 6 * np.abs(new - 0.5) * (p * (1 - p) / rows) ** 0.5).all()


@pytest.mark.parametrize("unroll", UNROLLS)
@pytest.mark.parametrize("training", [True, False])
def test_at_probability_0_zoneout_is_the_cell_and_at_1_the_state_never_changes(training, unroll):
    cell, xs = nn.LSTMCell(2, 3), mg.random.normal((4, 2, 2))
    plain = nn.Recurrent(cell)(xs)
    for a, b in zip(tree.leaves(plain), tree.leaves(nn.Recurrent(nn.Zoneout(cell, 0.0), unroll=unroll)(xs))):
        close(b, a.numpy(), 1e-6)
    state = (mg.random.normal((2, 3)), mg.random.normal((2, 3)))
    outs, last = nn.Recurrent(nn.Zoneout(cell, 1), unroll=unroll).train(training)(xs, state)
    for a, b in zip(state, last):
        assert (a.numpy() == b.numpy()).all()
    assert (outs.numpy() == state[0].numpy()).all()


@pytest.mark.parametrize("unroll", UNROLLS)
def test_zoneout_leaves_integers_numbers_and_the_structure_of_the_state_as_they_are(unroll, backend):
    net = nn.Recurrent(nn.Zoneout(Nested(3, 3), 1.0), unroll=unroll).to(backend)
    for mode in (True, False):
        _, state = net.train(mode)(mg.ones((4, 2, 3), backend=backend))
        count, nothing, pair, total = state.rest
        assert type(state) is Memory and nothing is None
        assert count.tolist() == [4, 4] and total == 4 and "int64" in str(count.dtype)
        assert (as_numpy(state.h) == 0).all() and (as_numpy(pair) == 0).all()


def test_an_output_that_is_no_part_of_the_state_is_what_the_cell_gives():
    outs, state = nn.Recurrent(nn.Zoneout(Tapping(3, 3), 1.0))(mg.ones((2, 1, 3)))
    assert (outs.numpy() == 1).all() and (state[0].numpy() == 0).all()


@pytest.mark.parametrize("p", [-0.1, 1.5, "often", (0.1,), (0.1, 0.2, 0.3), (0.1, 2.0), {"h": 0.5}])
def test_a_zoneout_of_other_than_one_probability_or_one_for_each_part_is_refused(p):
    with pytest.raises(ArgumentError, match="Zoneout: p must be"):
        nn.Zoneout(nn.LSTMCell(2, 3), p)


# Variational dropout


@pytest.mark.parametrize("unroll", UNROLLS)
@given(input_p=st.floats(0, 0.9), state_p=st.floats(0, 0.9), T=st.integers(1, 4), seed=SEEDS)
def test_variational_dropout_multiplies_input_and_h_by_the_same_masks_at_every_step(unroll, input_p, state_p, T, seed):
    rng, B = np.random.default_rng(seed), 2
    inner = nn.LSTMCell(3, 3)
    net = network(nn.VariationalDropout(inner, input_p, state_p), seed)
    net.unroll = unroll
    xs, state = rng.normal(size=(T, B, 3)), tuple(mg.tensor(rng.normal(size=(B, 3))) for _ in range(2))
    with mg.seed(seed):
        ones, context = net.cell.prepare(mg.ones((T, B, 3), dtype="float64"))
    z_x, z_h = ones.numpy(), context[0].numpy() if context else 1.0
    assert (z_x == z_x[0]).all()
    with mg.seed(seed):
        outs, last = net(mg.tensor(xs), state)
    h, c = state
    for t in range(T):
        out, (h, c) = inner(mg.tensor(xs[t] * z_x[0]), (h * z_h, c))
        close(outs[t], out.numpy(), 1e-13)
    close(last[0], h.numpy(), 1e-13)
    close(last[1], c.numpy(), 1e-13)


def test_the_masks_have_their_probability_and_are_scaled_to_a_mean_of_one():
    p, shape = 0.25, (300, 400)
    cell = nn.VariationalDropout(Tapping(400, 400), p, p)
    xs, (z_h,) = cell.prepare(mg.ones((2, *shape)))
    for mask in (xs.numpy()[0], z_h.numpy()):
        assert set(np.unique(mask)) == {np.float32(0), np.float32(1 / (1 - p))}
        # 120,000 independent elements: beyond 6 deviations once in 10^9.
        assert abs((mask == 0).mean() - p) < 6 * (p * (1 - p) / mask.size) ** 0.5
    other, (z,) = cell.prepare(mg.ones((2, *shape)))
    for a, b in ((xs, other), (z_h, z)):  # another call has other masks
        both = ((a.numpy() == 0) & (b.numpy() == 0)).mean()
        assert abs(both - p * p) < 6 * (p * p / b.size) ** 0.5


@pytest.mark.parametrize("unroll", UNROLLS)
def test_out_of_training_variational_dropout_is_the_cell(unroll):
    cell, xs = nn.LSTMCell(3, 3), mg.random.normal((4, 2, 3))
    expected = nn.Recurrent(cell, unroll=unroll)(xs)
    found = nn.Recurrent(nn.VariationalDropout(cell, 0.5, 0.5), unroll=unroll).eval()(xs)
    for a, b in zip(tree.leaves(found), tree.leaves(expected)):
        assert (a.numpy() == b.numpy()).all()


@pytest.mark.parametrize("unroll", UNROLLS)
def test_of_a_nested_state_the_first_part_of_floats_with_rows_is_masked(unroll):
    net = network(nn.VariationalDropout(Learned(3, 3), 0.0, 1.0))
    net.unroll = unroll
    xs = np.random.default_rng(0).normal(size=(3, 2, 3))
    _, state = net(mg.tensor(xs))
    weight = net.cell.cell.weight.numpy()
    assert state["age"].tolist() == [3, 3]
    close(state["h"], np.tanh(xs[-1] @ weight.T / 3), 1e-13)


def test_what_has_no_floats_to_mask_is_refused():
    class Count(nn.Cell):
        def initial_state(self, batch_size):
            return mg.zeros((batch_size, 1), dtype="int64"), mg.zeros(())

    with pytest.raises(ArgumentError, match=r"state_p=0.5, but no part of the state of Count is a tensor \(B, ...\)"):
        nn.VariationalDropout(Count(2, 2), 0.0, 0.5)
    with pytest.raises(DtypeError, match=r"input_p needs one tensor of floats as xs; .* embedding"):
        nn.Recurrent(nn.VariationalDropout(nn.LSTMCell(3, 3), 0.5))(mg.zeros((2, 2), dtype="int64"))


@pytest.mark.parametrize("options", [{"input_p": 1.5}, {"state_p": -0.5}, {"input_p": "half"}])
def test_a_variational_dropout_of_no_probability_is_refused(options):
    with pytest.raises(ArgumentError, match=f"{next(iter(options))} must be a probability, got"):
        nn.VariationalDropout(nn.LSTMCell(3, 3), **options)


# Residual


@pytest.mark.parametrize("unroll", UNROLLS)
def test_residual_adds_its_input_to_the_output_and_leaves_the_state(unroll, backend):
    cell = nn.GRUCell(3, 3)
    xs = mg.random.normal((4, 2, 3))
    outs, last = nn.Recurrent(cell, unroll=unroll)(xs)
    found, state = nn.Recurrent(nn.Residual(cell), unroll=unroll).to(backend)(xs.to(backend))
    close(found, (outs + xs).numpy(), 1e-6)
    close(state, last.numpy(), 1e-6)


def test_residual_adds_what_it_is_given_and_not_what_prepare_makes_of_it():
    xs, inner = mg.random.normal((3, 2, 3)), Nested(3, 3)
    outs, _ = nn.Recurrent(inner)(xs)
    close(nn.Recurrent(nn.Residual(inner))(xs)[0], (outs + xs).numpy(), 1e-6)
    twice = nn.Recurrent(nn.Residual(nn.Residual(inner)))(xs)[0]
    close(twice, (outs + xs + xs).numpy(), 1e-6)


def test_residual_refuses_a_cell_whose_outputs_are_of_another_size_than_its_inputs():
    with pytest.raises(ArgumentError, match="LSTMCell has 2 inputs and 3 outputs"):
        nn.Residual(nn.LSTMCell(2, 3))
    with pytest.raises(ArgumentError, match="Learned has 3 inputs and 4 outputs"):
        nn.Residual(Learned(3, 3))


def test_residual_refuses_to_add_tokens_to_vectors():
    class Embedded(nn.Cell):
        def forward(self, x, h):
            return h, h

    with pytest.raises(ShapeError, match=r"output of shape \(2, 3\) cannot be added to an input of \(2,\)"):
        nn.Recurrent(nn.Residual(Embedded(3, 3)))(mg.zeros((4, 2), dtype="int64"))
