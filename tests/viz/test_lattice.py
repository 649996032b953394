"""The lattice of CTC against every alignment there is, and the picture of it."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import ctc, viz
from minigrad.errors import ArgumentError, MinigradError
from tests.strategies import SEEDS
from tests.viz.helpers import png, softmax


def distributions(seed, steps, classes):
    return np.log(softmax(2 * np.random.default_rng(seed).normal(size=(steps, classes))))


def by_hand(log_y, labels, blank):
    """Every path of T states from one of the first two to one of the last two, step by step as the lattice allows."""
    steps = len(log_y)
    states = [blank]
    for label in labels:
        states += [label, blank]
    occupancy, total, best = np.zeros((steps, len(states))), 0.0, (0.0, None)
    for path in product(range(len(states)), repeat=steps):
        if path[0] > 1 or path[-1] < len(states) - 2:
            continue
        hops = [b - a for a, b in pairwise(path)]
        skips = [s for s, hop in zip(path[1:], hops) if hop == 2]
        if any(hop not in (0, 1, 2) for hop in hops) or any(s % 2 == 0 or states[s] == states[s - 2] for s in skips):
            continue
        p = float(np.prod([np.exp(log_y[t, states[s]]) for t, s in enumerate(path)]))
        total += p
        best = max(best, (p, path))
        for t, s in enumerate(path):
            occupancy[t, s] += p
    return occupancy / total, total, best


@given(SEEDS, st.integers(1, 6), st.lists(st.integers(1, 2), max_size=3), st.booleans())
def test_the_occupancy_is_that_of_all_alignments_one_by_one(seed, steps, labels, last):
    """With the blank as the first class, or as the last."""
    log_y, blank = distributions(seed, steps, 3), 0
    if last:
        log_y, labels, blank = log_y[:, [1, 2, 0]], [k - 1 for k in labels], 2
    if len(labels) + sum(a == b for a, b in pairwise(labels)) > steps:
        with pytest.raises(ArgumentError, match=f"no alignment of {steps} frames"):
            viz.ctc_occupancy(log_y, labels, blank=blank)
        return
    found = viz.ctc_occupancy(log_y, labels, blank=blank)
    occupancy, total, (p, _) = by_hand(log_y, labels, blank)
    np.testing.assert_allclose(found.occupancy, occupancy, atol=1e-12)
    np.testing.assert_allclose(found.occupancy.sum(axis=1), 1)
    np.testing.assert_allclose(found.log_probability, np.log(total))
    says = [int(found.states[s]) for s in found.best]
    np.testing.assert_allclose(np.prod([np.exp(log_y[t, k]) for t, k in enumerate(says)]), p)
    assert ctc.collapse(says, blank) == labels


@given(SEEDS)
def test_the_gradient_of_the_loss_is_softmax_less_occupancy(seed):
    """Graves et al. 2006, eq. 16, over a length that none could enumerate."""
    logits = mg.tensor(np.random.default_rng(seed).normal(size=(60, 1, 5)), requires_grad=True)
    labels = [1, 1, 4, 2, 3, 3, 1]
    loss = mg.ctc_loss(logits, [labels], reduction="sum")
    loss.backward()
    log_y = mg.log_softmax(logits.detach())[:, 0].numpy()
    found = viz.ctc_occupancy(log_y, labels)
    by_class = np.zeros((60, 5))
    np.add.at(by_class.T, found.states, found.occupancy.T)
    np.testing.assert_allclose(logits.grad.numpy()[:, 0], np.exp(log_y) - by_class, atol=1e-10)
    np.testing.assert_allclose(-found.log_probability, loss.item())


def test_a_thousand_frames_and_impossible_classes_lose_no_digits():
    log_y = distributions(0, 1000, 4)
    log_y[:, 3] = -np.inf
    log_y -= np.log(np.exp(log_y).sum(axis=1, keepdims=True))
    found = viz.ctc_occupancy(log_y, [1, 2, 1])
    np.testing.assert_allclose(found.occupancy.sum(axis=1), 1)


def test_the_lattice_is_drawn_over_time_with_the_best_alignment():
    log_y = distributions(3, 12, 4)
    found = viz.ctc_occupancy(log_y, [2, 1])
    figure = viz.ctc_lattice(mg.tensor(log_y), [2, 1], ["-", "a", " ", "c"], title="Two")
    top, bottom = figure.axes[:2]
    np.testing.assert_array_equal(bottom.images[0].get_array(), found.occupancy.T)
    np.testing.assert_array_equal(bottom.lines[0].get_xydata(), np.stack([np.arange(12), found.best], axis=-1))
    assert [tick.get_text() for tick in bottom.get_yticklabels()] == ["-", "␣", "-", "a", "-"]
    assert top.get_xlim() == bottom.get_xlim() == (-0.5, 11.5) and bottom.get_ylim() == (4.5, -0.5)
    assert (bottom.get_xlabel(), bottom.get_ylabel(), top.get_ylabel()) == ("frame", "state", "probability")
    assert f"{-found.log_probability:.4g} nats" in bottom.get_title(loc="left")
    assert [text.get_text() for text in top.texts] == ["␣", "a"]
    (bar,) = bottom.child_axes
    assert bar.get_ylabel() == "occupancy (probability)" and png(figure)


def test_above_the_blank_is_a_grey_area_and_what_has_no_line_is_summed():
    y = np.full((5, 12), 0.01)
    y[:, 1], y[:, 2] = 0.4, 0.5 - 0.1 + 0.01
    y[:, 0] = 1 - y[:, 1:].sum(axis=1)
    figure = viz.ctc_lattice(np.log(y), [1], [*"_abcdefghijk"])
    top = figure.axes[0]
    lines = {line.get_label(): line.get_ydata() for line in top.lines if not line.get_label().startswith("_")}
    assert list(lines) == ["a", "b", "9 others, summed"]
    np.testing.assert_allclose(lines["a"], 0.4)
    np.testing.assert_allclose(lines["9 others, summed"], 0.09)
    (area,) = top.collections
    assert area.get_label() == " _ (blank)"  # of labels that begin with an underscore matplotlib shows none
    red, green, blue, _ = area.get_facecolor()[0]
    assert red == green == blue


@pytest.mark.parametrize("labels", [[], [1], [1, 1, 1, 1, 1]])
def test_few_frames_and_no_labels_are_drawn(labels):
    assert png(viz.ctc_lattice(distributions(0, 9, 2), labels, ["_", "a"]))
    if len(labels) < 2:
        assert png(viz.ctc_lattice(distributions(0, 1, 2), labels, ["_", "a"]))


@pytest.mark.parametrize(
    "log_y, labels, symbols, options, said",
    [
        (np.zeros((5, 1, 2)), [1], "_a", {}, "of one sequence (T, C), got (5, 1, 2); that of row b is x[:, b]"),
        (np.zeros((5, 2)), [1], "_a", {}, "mg.log_softmax makes them of logits"),
        (np.log([[0.5, 0.5], [0.5, np.nan]]), [1], "_a", {}, "hold NaN"),
        (distributions(0, 5, 2), [1], "_ab", {}, "symbols has 3 names, and there are 2 classes"),
        (distributions(0, 5, 2), [2], "_a", {}, "labels must be among the classes 0 ... 1, got 2"),
        (distributions(0, 5, 2), [0], "_a", {}, "labels hold 0, which is the blank"),
        (distributions(0, 5, 2), [1], "_a", {"blank": 7}, "blank must be among the classes 0 ... 1, got 7"),
        (distributions(0, 5, 2), ["a"], "_a", {}, "labels must be integers (L,)"),
        (distributions(0, 5, 2), [[1], [1, 1]], "_a", {}, "labels must be integers (L,)"),
        (distributions(0, 3, 2), [1, 1, 1], "_a", {}, "no alignment of 3 frames says these 3 labels"),
        (np.log(np.array([[1e-300, 1.0]] * 3)) * [np.inf, 1], [], "_a", {}, "no alignment of 3 frames"),
    ],
)
def test_bad_lattices_are_named(log_y, labels, symbols, options, said):
    with pytest.raises(MinigradError) as error:
        viz.ctc_lattice(log_y, labels, list(symbols), **options)
    assert str(error.value).startswith("ctc_lattice: ") and said in str(error.value)
