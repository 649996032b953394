"""Windows of long sequences: they cover every step once, and what is summed over them is the sum over the whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import data, nn, optim
from minigrad.errors import ArgumentError, DtypeError, ShapeError

from ..nn.helpers import close, in_float64


@given(steps=st.integers(0, 20), length=st.integers(1, 9))
def test_every_step_is_in_exactly_one_window_in_order(steps, length):
    xs, ys = np.arange(steps), mg.tensor(np.arange(2 * steps).reshape(steps, 2))
    cut = data.windows({"x": xs, "more": [ys]}, length)
    parts = list(cut)
    assert len(parts) == len(cut) == -(-steps // length)
    assert all(len(part["x"]) == length for part in parts[:-1])
    assert [x for part in parts for x in part["x"].tolist()] == xs.tolist()
    assert [y for part in parts for y in part["more"][0].tolist()] == ys.tolist()
    assert len(list(cut)) == len(cut)  # once more


@pytest.mark.parametrize("cell", [nn.ElmanCell, nn.LSTMCell, nn.ClockworkCell])
@given(steps=st.integers(1, 12), length=st.integers(1, 7))
def test_losses_of_windows_add_up_to_that_of_the_whole_and_so_do_gradients_if_the_state_is_not_cut(cell, steps, length):
    net = in_float64(nn.Recurrent(cell, 2, 4))
    xs, ys = mg.random.normal((steps, 3, 2), dtype="float64"), mg.random.normal((steps, 3, 4), dtype="float64")

    def loss(parts, cut):
        state, total = None, 0.0
        for x, y in parts:
            outs, state = net(x, nn.detach(state) if cut else state)
            total = total + mg.mse(outs, y, reduction="sum")
        net.zero_grad()
        total.backward()
        return total.item(), net.cell.weight_hh.grad

    whole, gradient = loss([(xs, ys)], cut=False)
    joined, same = loss(data.windows((xs, ys), length), cut=False)
    truncated, _ = loss(data.windows((xs, ys), length), cut=True)
    assert abs(joined - whole) <= 1e-12 * whole and abs(truncated - whole) <= 1e-12 * whole
    close(same, gradient.numpy(), 1e-9, floor=1e-6)


def test_a_cut_state_lets_no_gradient_into_the_windows_before():
    net = in_float64(nn.Recurrent(nn.GRUCell, 1, 3))
    xs = mg.random.normal((6, 1, 1), dtype="float64")
    xs.requires_grad = True
    state = None
    for part in data.windows(xs, 3):
        outs, state = net(part, nn.detach(state))
    outs.sum().backward()
    assert (xs.grad.numpy()[:3] == 0).all() and (xs.grad.numpy()[3:] != 0).all()


def test_training_on_windows_learns_to_continue_a_wave():
    net, output = nn.Recurrent(nn.GRUCell, 1, 16), nn.Linear(16, 1)
    wave = mg.sin(0.3 * mg.arange(241.0)).reshape(-1, 1, 1)
    optimizer = optim.Adam([*net.parameters(), *output.parameters()], 0.01)
    losses = []
    for _ in range(15):
        state = None
        for xs, ys in data.windows((wave[:-1], wave[1:]), 32):
            outs, state = net(xs, nn.detach(state))
            loss = mg.mse(output(outs), ys)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.02 < losses[0]


@pytest.mark.parametrize(
    "sequences, length, error, message",
    [
        (np.arange(3), 0, ArgumentError, "length must be an integer from 1, got 0"),
        (np.arange(3), 1.5, ArgumentError, "got 1.5"),
        ((np.arange(3), np.arange(4)), 2, ShapeError, r"of one T, got the shapes \[\(3,\), \(4,\)\]"),
        (np.array(3), 2, ShapeError, r"\[\(\)\]"),
        ("a text", 2, DtypeError, "got a str; CharVocabulary"),
        ([1, 2, 3], 2, DtypeError, "got a int"),
        ((), 2, ShapeError, r"shapes \[\]"),
    ],
)
def test_what_cannot_be_cut_is_refused(sequences, length, error, message):
    with pytest.raises(error, match=message):
        data.windows(sequences, length)
