"""Curves and the gradient through time: which lines there are, and what the axes say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg

import minigrad as mg
from minigrad import nn, viz
from minigrad.errors import ArgumentError, ShapeError
from minigrad.viz.lines import log_ticks, power_of_ten, spread
from tests.viz.helpers import png


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_values_alone_are_at_one_two_three_and_pairs_where_they_say():
    figure = viz.curves(
        {"a": [3, 2, 1], "b": ([0, 10], [5, 4]), "c": (np.array([7]), np.array([1]))}, x="step", y="bits"
    )
    ax = figure.axes[0]
    data = [line.get_xydata().tolist() for line in ax.lines]
    assert data == [[[1, 3], [2, 2], [3, 1]], [[0, 5], [10, 4]], [[7, 1]]]
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_yscale()) == ("step", "bits", "linear")
    assert legend(figure) == ["a", "b", "c"] and png(figure)


def test_baselines_are_dotted_lines_named_beside_the_picture_that_keep_apart():
    figure = viz.curves({"net": [3.0, 1.0]}, baseline={"bigrams": 2.0, "trigrams": 2.001, "uniform": 3.3})
    FigureCanvasAgg(figure)
    png(figure)
    ax = figure.axes[0]
    assert [line.get_ydata()[0] for line in ax.lines[1:]] == [2.0, 2.001, 3.3]
    assert legend(figure) == ["net"]
    assert [text.get_text() for text in ax.texts] == ["bigrams  2", "trigrams  2.001", "uniform  3.3"]
    renderer = figure.canvas.get_renderer()
    found = [super(type(t), t).get_window_extent(renderer) for t in ax.texts]
    assert not any(a.overlaps(b) for i, a in enumerate(found) for b in found[:i])
    assert all(box.x0 > ax.get_window_extent(renderer).x1 for box in found)
    low, high = ax.get_ylim()
    assert low < 1.0 and high > 3.3


def test_what_is_not_finite_is_a_gap_that_the_legend_counts():
    figure = viz.curves({"run": [1.0, np.nan, np.inf, 2.0]})
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), [1, np.nan, np.nan, 2])
    assert legend(figure) == ["run (2 not finite)"] and png(figure)


def test_twenty_nets_have_a_legend_that_covers_no_data():
    figure = viz.curves({f"a network with a rather long name, {i}": [i, i + 1.0] for i in range(20)})
    FigureCanvasAgg(figure)
    png(figure)
    renderer = figure.canvas.get_renderer()
    assert not figure.legends[0].get_window_extent(renderer).overlaps(figure.axes[0].get_window_extent(renderer))
    assert figure.axes[0].get_window_extent(renderer).height > 200


@pytest.mark.parametrize(
    "arguments, said",
    [
        (({},), "series is empty"),
        (([1, 2],), "series must be a dict"),
        (({"a": []},), "'a' is empty"),
        (({"a": [np.nan, np.inf]},), "'a' holds no finite number"),
        (({"a": [[1.0]]},), "'a' must have the shape (N,), got (1, 1)"),
        (({"a": ([1, 2], [1])},), "'a' has 2 positions and 1 values"),
        (({"a": ([1, np.nan], [1, 2])},), "must be finite"),
        (({"a": ["x"]},), "must be numbers"),
        (({"a": [1j]},), "must be numbers"),
    ],
)
def test_bad_curves_are_named(arguments, said):
    with pytest.raises((ArgumentError, ShapeError)) as error:
        viz.curves(*arguments)
    assert str(error.value).startswith("curves: ") and said in str(error.value)


def test_a_logarithmic_axis_refuses_zero_in_series_and_baselines():
    for series, baseline, said in [([1.0, 0.0], {}, "series 'a' holds 0"), ([1.0], {"b": -1}, "baseline 'b' holds -1")]:
        with pytest.raises(ArgumentError, match=said):
            viz.curves({"a": series}, baseline=baseline, log=True)
    with pytest.raises(ArgumentError, match="baseline 'b' must be finite"):
        viz.curves({"a": [1.0]}, baseline={"b": np.nan})


@given(st.lists(st.floats(0, 1), max_size=8), st.floats(0.01, 0.3))
def test_places_spread_keep_their_order_the_gap_and_stay_where_they_do_not_crowd(wanted, gap):
    places = spread(wanted, gap)
    order = np.argsort(wanted, kind="stable")
    assert (np.diff(np.array(places)[order]) > gap * (1 - 1e-9)).all()
    if len(wanted) > 1 and np.diff(np.sort(wanted)).min() >= gap:
        np.testing.assert_allclose(places, wanted)
    assert np.isclose(sum(places), sum(wanted))  # blocks move about their mean


@given(st.floats(-300, 300), st.floats(0.01, 300))
def test_logarithmic_ticks_are_few_inside_and_numbered_right(start, length):
    low, high = 10.0**start, 10.0 ** min(start + length, 307)
    ticks, labels = log_ticks(low, high)
    assert 1 <= len(ticks) == len(labels) <= 12
    assert all(low * (1 - 1e-8) <= tick <= high * (1 + 1e-8) for tick in ticks) and len(set(labels)) == len(labels)


def test_powers_of_ten_are_written_with_their_exponents():
    assert [power_of_ten(v) for v in (1e-12, 0.1, 1.0, 10.0, 1e5)] == ["10⁻¹²", "0.1", "1", "10", "10⁵"]


def test_gradient_flows_of_networks_are_drawn_as_they_come():
    xs = mg.ones((12, 2, 3))
    flow = mg.gradient_flow(nn.Recurrent(nn.LSTMCell, 3, 4, bidirectional=True), xs, lambda outs, state: outs.sum())
    figure = viz.gradient_flow(flow)
    parts = ["cells.0.0.h", "cells.0.0.c (0 at 1 of 12 steps)"]
    assert legend(figure) == [*parts, "cells.0.1.h (in reverse)", "cells.0.1.c (in reverse, 0 at 1 of 12 steps)"]
    for line, norms in zip(figure.axes[0].lines, flow.values()):
        np.testing.assert_array_equal(line.get_ydata(), np.where(norms == 0, np.nan, norms))
        np.testing.assert_array_equal(line.get_xdata(), np.arange(12))
    elman = mg.gradient_flow(nn.Recurrent(nn.ElmanCell, 3, 4), xs, lambda outs, state: outs[5].sum())
    figure = viz.gradient_flow({"LSTM": flow, "Elman": elman})
    assert len(figure.axes[0].lines) == 5 and figure.axes[0].get_yscale() == "log"
    assert legend(figure)[0] == "LSTM: cells.0.0.h" and legend(figure)[-1] == "Elman (0 at 6 of 12 steps)"
    assert np.isnan(figure.axes[0].lines[-1].get_ydata()[6:]).all() and png(figure)


def test_a_gradient_over_three_hundred_decades_is_drawn():
    assert png(viz.gradient_flow({"a": 10.0 ** np.arange(-300, 300), "nothing": np.zeros(5)}))


@pytest.mark.parametrize(
    "norms, said",
    [
        ({}, "norms is empty"),
        ({"a": {}}, "'a' is empty"),
        ({"a": [1.0, -1.0]}, "'a' holds -1"),
        ({"a": [0.0, np.inf, np.nan]}, "nothing positive and finite"),
        ({"a": np.ones((2, 2))}, "'a' must have the shape (T,), got (2, 2)"),
    ],
)
def test_bad_norms_are_named(norms, said):
    with pytest.raises((ArgumentError, ShapeError)) as error:
        viz.gradient_flow(norms)
    assert str(error.value).startswith("gradient_flow: ") and said in str(error.value)
