"""Heat maps: confusion, attention, gates, surfaces. What is in a cell, what is written there, what names it."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import QuadMesh
from matplotlib.patches import Rectangle

from minigrad import viz
from minigrad.errors import ArgumentError, ShapeError
from tests.viz.helpers import overlapping, png


def image(ax):
    return np.asarray(ax.images[0].get_array().filled(np.nan))


def labels(ticks):
    return [tick.get_text() for tick in ticks]


def hatched(ax):
    return [patch for patch in ax.patches if isinstance(patch, Rectangle) and patch.get_hatch()]


# Confusion


def test_confusion_inks_the_share_of_the_true_class_and_writes_the_counts():
    figure = viz.confusion([[8, 2], [0, 4]], ["a", "b"], title="Test set")
    ax, bar = figure.axes
    np.testing.assert_array_equal(image(ax), [[0.8, 0.2], [0, 1]])
    written = {text.get_position(): (text.get_text(), text.get_color()) for text in ax.texts}
    assert written == {(0, 0): ("8", "white"), (1, 0): ("2", "black"), (0, 1): ("0", "black"), (1, 1): ("4", "white")}
    assert ax.images[0].get_clim() == (0, 1) and bar.get_ylabel() == "share of the true class"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted class", "true class")
    assert ax.get_ylim() == (1.5, -0.5)  # the first class above
    assert figure.get_suptitle() == "Test set"


def test_a_class_that_never_occurs_is_hatched():
    figure = viz.confusion([[3, 1], [0, 0]], ["a", "b"])
    (row,) = hatched(figure.axes[0])
    assert row.get_bbox().bounds == (-0.5, 0.5, 2, 1)
    assert np.isnan(image(figure.axes[0])[1]).all()


def test_counts_are_written_into_at_most_fifteen_classes_and_fractions_with_two_places():
    names = [f"class {i}" for i in range(16)]
    assert len(viz.confusion(np.eye(15), names[:15]).axes[0].texts) == 225
    assert not viz.confusion(np.eye(16), names).axes[0].texts
    assert labels(viz.confusion([[0.5, 0.25], [0, 1]], "ab").axes[0].texts) == ["0.50", "0.25", "0.00", "1.00"]


def test_large_counts_fit_their_cells():
    figure = viz.confusion(np.full((4, 4), 123456789), list("abcd"))
    FigureCanvasAgg(figure)
    png(figure)
    assert not overlapping(figure.axes[0].texts, figure)


@pytest.mark.parametrize("count", [40, pytest.param(150, marks=pytest.mark.slow)])
def test_many_long_labels_make_a_larger_picture_and_never_overlap(count):
    figure = viz.confusion(np.eye(count) + 1, [f"a label that is rather long {i}" for i in range(count)])
    FigureCanvasAgg(figure)
    png(figure)
    assert figure.get_figheight() > 8
    ax = figure.axes[0]
    assert not overlapping(ax.get_xticklabels(), figure) and not overlapping(ax.get_yticklabels(), figure)
    assert len(ax.get_yticks()) == (40 if count == 40 else 75)
    assert labels(ax.get_yticklabels())[1].endswith(" 1" if count == 40 else " 2")


@pytest.mark.parametrize(
    "counts, names, said",
    [
        (np.ones((2, 3)), "ab", "as many rows as columns, got (2, 3)"),
        (np.ones(4), "ab", "must have the shape (true, predicted), got (4,)"),
        (np.ones((2, 2)), "abc", "labels has 3 names, and there are 2 classes"),
        (np.ones((2, 2)), 5, "labels must be a list of names, got a int"),
        ([[1, -1], [0, 1]], "ab", "hold -1"),
        ([[1, np.nan], [0, 1]], "ab", "must be finite, and is nan at [0, 1]"),
        (np.zeros((2, 2)), "ab", "all 0"),
        (np.zeros((0, 0)), [], "counts is empty"),
    ],
)
def test_bad_counts_are_named(counts, names, said):
    with pytest.raises((ArgumentError, ShapeError)) as error:
        viz.confusion(counts, names)
    assert str(error.value).startswith("confusion: ") and said in str(error.value)


# Attention


def test_attention_has_targets_as_rows_and_sources_above_its_columns():
    weights = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]])
    figure = viz.attention(weights, ["a", " ", "b"], ["x", "y z"])
    ax, bar = figure.axes
    np.testing.assert_array_equal(image(ax), weights)
    assert labels(ax.get_xticklabels()) == ["a", "␣", "b"] and labels(ax.get_yticklabels()) == ["x", "y␣z"]
    assert (ax.get_xlabel(), ax.get_ylabel(), bar.get_ylabel()) == ("source", "target", "weight")
    assert ax.xaxis.get_ticks_position() == "top" and ax.images[0].get_clim() == (0, 0.8)


def test_long_source_words_are_turned_and_letters_are_not():
    for sources, turned in (("abc", 0), (["one", "thousand", "three"], 90)):
        ax = viz.attention(np.ones((1, 3)) / 3, sources, ["x"]).axes[0]
        assert {tick.get_rotation() for tick in ax.get_xticklabels()} == {turned}


def test_a_text_of_four_hundred_letters_is_drawn_with_fewer_ticks():
    figure = viz.attention(np.ones((2, 400)) / 400, "It was a long text. " * 20, ["a", "b"])
    FigureCanvasAgg(figure)
    png(figure)
    assert figure.get_figwidth() < 20 and not overlapping(figure.axes[0].get_xticklabels(), figure)


@pytest.mark.parametrize(
    "weights, sources, targets, said",
    [
        (np.ones((2, 3)), "ab", "xy", "sources has 2 names, and there are 3 columns of weights"),
        (np.ones((2, 3)), "abc", "x", "targets has 1 names, and there are 2 rows of weights"),
        (np.ones((2, 3, 1)), "abc", "xy", "must have the shape (targets, sources), got (2, 3, 1)"),
        ([[-0.5, 1]], "ab", "x", "must not be negative, and hold -0.5"),
        ([[np.nan, 1]], "ab", "x", "must be finite"),
    ],
)
def test_bad_weights_are_named(weights, sources, targets, said):
    with pytest.raises((ArgumentError, ShapeError)) as error:
        viz.attention(weights, sources, targets)
    assert str(error.value).startswith("attention: ") and said in str(error.value)


# Gates


def test_gates_stand_above_each_other_over_one_row_of_tokens():
    gate, state, wide = np.array([[0.1, 0.9]] * 3), np.array([[-0.5]] * 3), np.array([[-4.0, 2.0, np.nan]] * 3)
    figure = viz.gates({"f": gate, "h": state, "c": wide}, ["the", " ", "cat"], title="Words")
    panels = figure.axes[:3]
    assert [ax.get_title(loc="left") for ax in panels] == ["f", "h", "c"]
    assert [ax.images[0].get_clim() for ax in panels] == [(0, 1), (-1, 1), (-4, 4)]
    for ax, array in zip(panels, (gate, state, wide)):
        np.testing.assert_array_equal(image(ax), array.T)
    assert len({ax.get_xlim() for ax in panels}) == 1
    assert [labels(ax.get_xticklabels()) for ax in panels] == [[], [], ["the", "␣", "cat"]]
    assert len(hatched(panels[2])) == 1 and not hatched(panels[0])
    png(figure)
    assert len({(round(ax.get_position().x0, 6), round(ax.get_position().x1, 6)) for ax in panels}) == 1


@pytest.mark.parametrize(
    "values, tokens, said",
    [
        ({}, "abc", "values is empty"),
        ({"f": np.ones((3, 2))}, "ab", "tokens has 2 names, and there are 3 steps"),
        ({"f": np.ones((3, 2)), "h": np.ones((4, 2))}, "abc", "'h' has 4 steps, and 'f' has 3"),
        ({"f": np.ones((3, 2, 1))}, "abc", "'f' must have the shape (T, H), got (3, 2, 1)"),
        ({"f": np.full((3, 2), np.nan)}, "abc", "'f' holds no finite number"),
        ({"f": np.ones((0, 2))}, "", "'f' is empty"),
    ],
)
def test_bad_gates_are_named(values, tokens, said):
    with pytest.raises((ArgumentError, ShapeError)) as error:
        viz.gates(values, tokens)
    assert str(error.value).startswith("gates: ") and said in str(error.value)


# Surfaces

X, Y = np.array([0.0, 1.0, 2.0, 3.0]), np.array([10.0, 20.0, 30.0])
Z = 1 + X**2 + Y[:, None]


def mesh(ax):
    return next(c for c in ax.collections if isinstance(c, QuadMesh))


def test_a_surface_has_a_row_for_each_y_and_contours_inside():
    figure = viz.surface(X, Y, Z, x_label="rate", y_label="size", z_label="loss (nats)")
    ax, bar = figure.axes
    np.testing.assert_array_equal(mesh(ax).get_array(), Z)
    corners = mesh(ax).get_coordinates()
    assert corners[0, 0].tolist() == [-0.5, 5] and corners[-1, -1].tolist() == [3.5, 35]
    assert (ax.get_xlabel(), ax.get_ylabel(), bar.get_ylabel()) == ("rate", "size", "loss (nats)")
    assert mesh(ax).get_clim() == (11, 40) and not figure.legends
    contour = next(c for c in ax.collections if hasattr(c, "levels"))
    assert len(contour.levels) >= 3 and all(11 < level < 40 for level in contour.levels)
    assert png(figure)


def test_a_logarithmic_surface_has_ticks_at_powers_of_ten():
    figure = viz.surface(X, Y, 10.0 ** (X + Y[:, None] / 10), log=True)
    ax, bar = figure.axes
    assert type(mesh(ax).norm).__name__ == "LogNorm"
    assert labels(bar.get_yticklabels()) == ["10", "100", "10³", "10⁴", "10⁵", "10⁶"]
    contour = next(c for c in ax.collections if hasattr(c, "levels"))
    np.testing.assert_allclose(contour.levels, 10.0 ** np.arange(2, 6))
    assert png(figure)


def test_cells_that_are_not_finite_are_hatched_where_they_are():
    z = Z.copy()
    z[1, 1:3], z[2, 3] = np.nan, np.inf
    figure = viz.surface(X, Y, z)
    bounds = sorted(patch.get_bbox().bounds for patch in hatched(figure.axes[0]))
    assert bounds == [(0.5, 15, 2, 10), (2.5, 25, 1, 10)]
    assert labels(figure.legends[0].get_texts()) == ["not finite"] and png(figure)


def test_a_path_has_its_start_and_end_marked_and_an_arrow_forwards():
    points = np.array([[0.0, 10], [1, 20], [2, 20], [3, 30]])
    figure = viz.surface(X, Y, Z, paths={"descent": points})
    ax = figure.axes[0]
    path, end, start = ax.lines
    np.testing.assert_array_equal(path.get_xydata(), points)
    assert start.get_xydata().tolist() == [[0, 10]] and start.get_marker() == "o"
    assert end.get_xydata().tolist() == [[3, 30]] and end.get_marker() == "s"
    arrow = next(text for text in ax.texts if getattr(text, "arrow_patch", None))
    direction = np.subtract(arrow.xy, arrow.xyann)
    assert direction[0] > 0 and direction[1] > 0
    assert labels(figure.legends[0].get_texts()) == ["descent", "start", "end"] and png(figure)


def test_a_path_that_leaves_the_grid_or_explodes_says_so_and_the_grid_stays():
    away, wild = [[1, 20], [9, 20]], [[1, 20], [2, 20], [np.nan, np.inf]]
    figure = viz.surface(
        X, Y, Z, paths={"away": away, "back": [[1, 20], [9, 9], [2, 20]], "wild": wild, "rest": [[1, 20]]}
    )
    said = labels(figure.legends[0].get_texts())[:4]
    assert said == ["away (ends outside)", "back (partly outside)", "wild (1 not finite)", "rest"]
    assert figure.axes[0].get_xlim() == (-0.5, 3.5) and figure.axes[0].get_ylim() == (5, 35) and png(figure)


def test_a_flat_surface_is_drawn_without_contours():
    for log in (False, True):
        figure = viz.surface(X, Y, np.ones((3, 4)), log=log)
        assert png(figure) and not any(hasattr(c, "levels") for c in figure.axes[0].collections)


@pytest.mark.parametrize(
    "x, y, z, options, said",
    [
        (X, Y, Z.T, {}, "z must have a row for each y and a column for each x, (3, 4), got (4, 3)"),
        (X[::-1], Y, Z, {}, "x must be two or more numbers, each larger than the one before"),
        (X, Y[:1], Z[:1], {}, "y must be two or more numbers"),
        (X, Y, np.full((3, 4), np.nan), {}, "z holds no finite number"),
        (X, Y, Z - 20, {"log": True}, "log=True takes a positive z, and the smallest is -9"),
        (X, Y, Z, {"paths": {"p": np.ones((4, 3))}}, "'p' must be points (K, 2), got (4, 3)"),
        (X, Y, Z, {"paths": {"p": [[np.nan, 1]]}}, "'p' holds no finite number"),
        (X, Y, Z, {"paths": [[1, 2]]}, "paths must be a dict"),
    ],
)
def test_bad_surfaces_are_named(x, y, z, options, said):
    with pytest.raises((ArgumentError, ShapeError)) as error:
        viz.surface(x, y, z, **options)
    assert str(error.value).startswith("surface: ") and said in str(error.value)


def test_a_single_unit_is_number_0():
    figure = viz.gates({"forget": np.ones((4, 1))}, "abcd")
    assert list(figure.axes[0].get_yticks()) == [0]
