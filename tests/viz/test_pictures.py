"""What holds for every picture: it draws itself without a warning, always the same, and leaves nothing behind."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path

import matplotlib
import matplotlib.style
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

import minigrad as mg
from minigrad import viz
from minigrad.viz import style
from tests.viz.helpers import EXAMPLES, example, overlapping, png

ROOT = Path(__file__).parent.parent.parent
NAMES = sorted(EXAMPLES)


@functools.cache
def drawn(name):
    """The picture, and its bytes."""
    figure = example(name)
    FigureCanvasAgg(figure)
    return figure, png(figure)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_a_figure_that_draws_without_a_warning_and_leaves_the_settings_of_matplotlib_alone(name):
    before = dict(matplotlib.rcParams.copy())
    figure, file = drawn(name)
    assert isinstance(figure, Figure) and file.startswith(b"\x89PNG")
    assert dict(matplotlib.rcParams.copy()) == before


@pytest.mark.parametrize("name", NAMES)
def test_the_same_numbers_give_the_same_bytes_under_any_settings_and_as_tensors(name):
    def tensor(x):
        return mg.tensor(x, dtype="int64" if x.dtype.kind == "i" else "float64")

    with matplotlib.rc_context({"font.size": 20, "lines.linewidth": 5, "axes.facecolor": "black", "figure.dpi": 50}):
        other = png(example(name, tensor))
    assert other == drawn(name)[1]


@pytest.mark.parametrize("name", NAMES)
def test_it_has_a_title_and_every_axis_with_ticks_says_what_it_is_or_shares_its_column(name):
    figure, _ = drawn(name)
    assert figure.get_suptitle()
    axes = [ax for ax in figure.findobj(matplotlib.axes.Axes) if ax.get_visible()]
    assert all(ax.get_ylabel() for ax in axes)
    assert any(ax.get_xlabel() for ax in axes)


@pytest.mark.parametrize("name", NAMES)
def test_no_text_leaves_the_picture_and_no_tick_labels_touch(name):
    figure, _ = drawn(name)
    box = figure.get_tightbbox(figure.canvas.get_renderer())  # in inches, of all that is drawn
    assert box.x0 > -0.01 and box.y0 > -0.01 and (box.max < figure.get_size_inches() + 0.01).all()
    for ax in figure.findobj(matplotlib.axes.Axes):
        assert not overlapping(ax.get_xticklabels(), figure) and not overlapping(ax.get_yticklabels(), figure)


def test_a_notebook_shows_the_png():
    assert example("confusion")._repr_png_() == drawn("confusion")[1]


def run(program):
    return subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_minigrad_loads_no_matplotlib_and_pictures_load_no_pyplot_and_no_display():
    program = """
import sys, minigrad
print(any(name.startswith("matplotlib") for name in sys.modules))
from tests.viz.helpers import EXAMPLES, example, png
png(example("curves")), png(example("surface"))
print("matplotlib.pyplot" in sys.modules, "tkinter" in sys.modules)
"""
    assert run(program).split() == ["False", "False", "False"]


def test_without_matplotlib_the_error_says_how_to_get_it():
    program = """
import sys
sys.modules["matplotlib"] = None
try:
    from minigrad import viz
except ImportError as error:
    print(type(error).__name__, error)
"""
    said = run(program)
    assert "BackendUnavailableError" in said and "pip install -e '.[models]'" in said


def test_a_dollar_is_a_dollar_and_a_letter_no_font_has_is_its_number():
    figure = viz.confusion([[1, 0], [0, 2]], ["$x^2$", "\ue123\x00"], title="from $1 to $2")
    assert png(figure)
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["$x^2$", "U+E123U+0000"]
    assert not any(text.get_parse_math() for text in figure.findobj(Text) if "$" in text.get_text())


def test_blanks_are_visible_and_long_names_are_cut():
    assert [style.visible(t) for t in (" ", "a b", "\n", "\t", "")] == ["␣", "a␣b", "↵", "⇥", "∅"]
    assert style.plain("x" * 50) == "x" * 39 + "…" and style.plain("x" * 40) == "x" * 40


def lightness(rgb):
    """L* of CIELAB, of an sRGB colour."""
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in rgb]
    y = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return 116 * y ** (1 / 3) - 16 if y > (6 / 29) ** 3 else y * (29 / 3) ** 3


def test_ink_gets_darker_by_the_same_step_everywhere():
    values = [lightness(style.INK(i)[:3]) for i in range(256)]
    assert values[0] > 99.9 and values[-1] < 16
    np.testing.assert_allclose(np.diff(values), (14 - 100) / 255, atol=0.05)


def test_text_on_ink_has_a_contrast_of_at_least_four_and_a_half():
    """The contrast of WCAG 2, which asks for 4.5."""
    for i in range(256):
        ground, text = style.luminance(style.INK(i)), {"black": 0.0, "white": 1.0}[style.text_colour(style.INK(i))]
        assert (max(ground, text) + 0.05) / (min(ground, text) + 0.05) >= 4.5


def test_lines_differ_without_colour():
    looks = [style.line_style(i) for i in range(36)]
    assert len({(str(look["linestyle"]), look["marker"]) for look in looks}) == 36
    assert len({str(look["linestyle"]) for look in looks[:4]}) == 4
    assert style.DOTTED not in style.DASHES


def test_a_name_that_begins_with_an_underscore_stands_in_the_legend_too():
    pictures = [
        viz.curves({"_train": [1.0, 2.0], "valid": [2.0, 1.0]}, baseline={"least": 0.5}),
        viz.ctc_lattice(np.log(np.full((3, 3), 1 / 3)), [1, 2], ["_", "_a", "b"]),
    ]
    legends = [(*picture.legends, picture.axes[0].get_legend())[0] for picture in pictures]
    shown = [[text.get_text().strip() for text in legend.get_texts()] for legend in legends]
    assert shown == [["_train", "valid"], ["_ (blank)", "_a", "b"]]
