"""Captions: drawings that have one description each, and a network that describes those it has not seen described."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imsave

import minigrad as mg
from models import caption
from tests.models.helpers import run, tables

DESCRIPTIONS = caption.descriptions()


def test_every_drawing_has_one_description_and_all_of_them_differ():
    assert len(set(DESCRIPTIONS)) == len(DESCRIPTIONS) == 18 * 18 * 2 + 18 * 4


def nearest_colour(pixels: np.ndarray) -> str:
    return min(caption.COLOURS, key=lambda name: np.abs(pixels.mean(axis=0) - caption.COLOURS[name]).sum())


def thing(picture: np.ndarray) -> list[str]:
    """Size, colour and form of the one shape in a part of a drawing, measured."""
    shape = (picture < 0.6).any(axis=2)
    height, width = (np.ptp(np.flatnonzero(shape.any(axis=axis))) + 1 for axis in (1, 0))
    full = shape.sum() / (height * width)
    form = "square" if full > 0.95 else "circle" if full > 0.66 else "triangle"
    return ["small" if height < 6.5 else "large", nearest_colour(picture[shape]), form]


def test_a_drawing_shows_what_its_description_says():
    """Its parts measured by hand; only the forms of small shapes are sometimes in doubt."""
    forms = []
    with mg.seed(0):
        drawn = [(text.split(), caption.draw(text)) for text in DESCRIPTIONS for _ in range(2)]
    for words, picture in drawn:
        if "corner" in words:
            parts = {1: picture[slice(0, 10) if "top" in words else slice(10, 20)]}
            sides = slice(0, 10) if "left" in words else slice(10, 20)
            parts[1] = parts[1][:, sides]
            assert (picture < 0.6).any(axis=2).sum() == (parts[1] < 0.6).any(axis=2).sum()  # nothing elsewhere
        elif "above" in words:
            parts = {1: picture[:10], 6: picture[10:]}
        else:
            parts = {1: picture[:, :10], 7: picture[:, 10:]}
        for at, part in parts.items():
            size, colour, form = thing(part)
            assert [size, colour] == words[at : at + 2], (words, size, colour)
            forms.append(form == words[at + 2])
    assert np.mean(forms) > 0.85


@given(st.sampled_from(DESCRIPTIONS), st.integers(0, 99))
def test_a_drawing_is_a_picture_and_its_seed_repeats_it(description, seed):
    with mg.seed(seed):
        first = caption.draw(description)
    with mg.seed(seed):
        assert np.array_equal(first, caption.draw(description))
    assert first.shape == (20, 20, 3) and first.dtype == np.float32
    assert first.min() >= 0 and first.max() <= 1


def test_no_description_of_the_test_was_learned_though_every_word_was():
    with mg.seed(0):
        parts = caption.drawings(caption.command.parse_args(["--examples", "600"]))
    texts = {name: {" ".join(e.words) for e in part} for name, part in parts.items()}
    assert not texts["new descriptions"] & (texts["train"] | texts["valid"] | texts["known descriptions"])
    words = {name: {word for text in found for word in text.split()} for name, found in texts.items()}
    assert words["new descriptions"] <= words["train"]


def test_the_nearest_picture_is_found():
    with mg.seed(1):
        train = [caption.Example(i, caption.draw(text), text.split()) for i, text in enumerate(DESCRIPTIONS[::40])]
        noisy = np.stack([e.picture + mg.random.generator().normal(0, 0.02, e.picture.shape) for e in train])
    assert caption.nearest(train, noisy) == [e.words for e in train]


@pytest.mark.parametrize("into", caption.WAYS)
def test_a_caption_does_not_depend_on_its_neighbours_padding(into):
    """The loss of a batch is that of its rows, weighed by their words."""
    with mg.seed(0):
        model = caption.Captioner(9, caption.command.cell("gru"), 8, into)
        pictures = mg.random.uniform((2, 20, 20, 3)).numpy()
    words, lengths = np.array([[1, 2], [3, 0], [0, 0]]), np.array([3, 2])
    whole, _ = model.loss((pictures, words, lengths), None)
    parts = [
        model.loss((pictures[i : i + 1], words[:n, i : i + 1], lengths[i : i + 1]), None)[0].item()
        for i, n in enumerate(lengths)
    ]
    assert whole.item() == pytest.approx((3 * parts[0] + 2 * parts[1]) / 5, rel=1e-5)


@pytest.mark.slow
def test_the_network_describes_what_the_nearest_picture_cannot(tmp_path):
    code, out, err = run(caption.main, "--out", tmp_path, "--examples", 3000, "--epochs", 7, "--into", "input",
                         "--hidden", 64, "--rate", 0.006)  # fmt: skip
    assert (code, err) == (0, "")
    baseline, network = tables(out)[0]
    share = lambda row: float(row["new descriptions"].rstrip("%"))
    assert share(baseline) == 0
    assert share(network) > 10
    assert (tmp_path / "captions.png").is_file()


def test_the_three_ways_stand_in_one_table(tmp_path):
    code, out, err = run(caption.main, "--out", tmp_path, "--examples", 100, "--epochs", 1, "--hidden", 8)
    assert (code, err) == (0, "")
    (rows,) = tables(out)
    assert [row[""] for row in rows] == ["nearest picture", *(f"gru, {way}" for way in caption.WAYS.values())]
    assert len({row["weights"] for row in rows}) == 4


@pytest.fixture
def pictures(tmp_path):
    """A file of twelve pictures and their captions, of several sizes and kinds."""
    lines = []
    for i in range(12):
        pixels = np.zeros((15 + i, 30, 3 if i % 2 else 4))
        pixels[..., i % 3] = 1
        imsave(tmp_path / f"{i}.png", np.clip(pixels, 0, 1))
        lines.append(f"{i}.png\tall {['red', 'green', 'blue'][i % 3]}")
    (tmp_path / "captions.tsv").write_text("\n".join(lines) + "\n")
    return tmp_path / "captions.tsv"


def test_pictures_of_ones_own_are_learned(pictures, tmp_path):
    code, out, err = run(caption.main, "--data", pictures, "--out", tmp_path / "run", "--epochs", 2, "--hidden", 8,
                         "--into", "both")  # fmt: skip
    assert (code, err) == (0, "")
    assert list(tables(out)[0][0]) == ["", "weights", "test"]


@pytest.mark.parametrize(
    "line, said",
    [("99.png\tmissing", "line 13: .*99.png cannot be read"), ("0.png", "line 13: expected"),
     ("captions.tsv\tno picture", "line 13: .*cannot be read as a picture")],
)  # fmt: skip
def test_a_line_that_cannot_be_learned_is_named(pictures, tmp_path, line, said):
    with pictures.open("a") as file:
        file.write(line + "\n")
    code, _, err = run(caption.main, "--data", pictures, "--out", tmp_path / "run")
    assert code == 2 and re.search(said, err)


def test_empty_captions_and_too_few_pictures_are_told(pictures, tmp_path):
    lines = pictures.read_text().splitlines()
    pictures.write_text("\n".join([*lines[:3], "4.png\t", *lines[4:5]]) + "\n")
    code, out, err = run(caption.main, "--data", pictures, "--out", tmp_path / "run")
    assert code == 2
    assert "left out: 1 empty (line 4)" in out and "4 pictures are too few" in err


def test_help_names_the_ways():
    code, out, _ = run(caption.main, "--help")
    assert code == 0 and "--into {state,input,both,all}" in out


def test_what_is_transparent_is_white(tmp_path):
    pixels = np.zeros((20, 20, 4))
    pixels[:10, :, 3] = 1  # black above, and nothing at all below
    imsave(tmp_path / "a.png", pixels)
    (tmp_path / "list.tsv").write_text("".join(f"a.png\tblack {i}\n" for i in range(12)))
    parts = caption.read(caption.command.parse_args(["--data", str(tmp_path / "list.tsv")]))
    picture = parts["train"][0].picture
    assert (picture[:10] == 0).all() and (picture[10:] == 1).all()
