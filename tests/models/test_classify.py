"""Many to one: the processes and what no bag can know of them, the baseline, the networks, and the program."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import nn
from models import classify
from models.classify import Example
from models.command_line import CELLS

from ..nn.helpers import close, in_float64
from .helpers import run, tables

PROCESSES = {name: draw for name, (draw, *_) in classify.PROCESSES.items()}
SEEDS = st.integers(0, 2**32 - 1)
ANSI = re.compile(r"\033\[[\d;]*m")


def text_of(example: Example) -> str:
    return " ".join(example.steps)


def letters_of(example: Example) -> str:
    return example.steps[0][:2] + "".join(step[2] for step in example.steps)


# The processes


@pytest.mark.parametrize("name", PROCESSES)
@given(seed=SEEDS)
def test_every_example_has_a_twin_of_another_class_and_with_exactly_the_same_bag(name, seed):
    with mg.seed(seed):
        one, other = PROCESSES[name]()
    assert one.label != other.label
    bags = [Counter(step if isinstance(step, str) else step.tobytes() for step in e.steps) for e in (one, other)]
    assert bags[0] == bags[1]
    for example in (one, other):
        assert len(example.keys) == len(example.steps)
        assert 0 < example.keys.sum() < len(example.keys)


@pytest.mark.parametrize("name", PROCESSES)
@given(seed=SEEDS)
def test_whatever_its_weights_are_a_reader_of_bags_is_right_on_half_of_the_twins_at_most(name, seed):
    """Of two twins it says the same, but for the rounding of a sum, and at most one of them is that."""
    with mg.seed(seed):
        twins = [PROCESSES[name]() for _ in range(8)]
        tokens = None if name == "video" else classify.vocabulary(t for e, _ in twins for t in e.steps)
        code = classify.Code(sorted({e.label for pair in twins for e in pair}), tokens)
        model = classify.Bag(64 if tokens is None else len(tokens), len(code.labels), hidden=int(seed % 2) * 9)
    probabilities, _ = classify.ask(model, [e for pair in twins for e in pair], code)
    close(probabilities[::2], probabilities[1::2], 1e-5)
    said = np.array(code.labels)[probabilities.argmax(axis=1)]
    assert sum(s == e.label for s, e in zip(said, [e for pair in twins for e in pair])) <= 8


def verdict(text: str) -> str:
    """What a review says, read as a person would: the clause that counts, its adjective, and what stands before it."""
    clauses = [c.strip() for c in re.split(r"[.,]", text)]
    places = [i for i, c in enumerate(clauses) if " was " in c and c.split()[-1] in ADJECTIVES]
    assert len(places) == 2 and places[1] == places[0] + 1
    first, second = (clauses[i] for i in places)
    if re.match("(although|while) ", first):
        main = second
    elif re.match("(although|even though) ", second):
        main = first
    else:
        assert re.match("(but|yet) ", second)
        main = second
    return "good" if (main.split()[-1] in classify.GOOD) != ("not" in main.split()) else "bad"


ADJECTIVES = classify.GOOD + classify.BAD


@given(seed=SEEDS)
def test_the_label_of_a_review_is_what_its_main_clause_says(seed):
    with mg.seed(seed):
        twins = classify.reviews()
    for review in twins:
        assert review.label == verdict(text_of(review))
        keys = [word for word, key in zip(review.steps, review.keys) if key]
        assert keys[-1] in ADJECTIVES
        assert set(keys[:-1]) <= {"not", *classify.DEGREES}


def test_reviews_are_written_in_all_the_ways_there_are():
    """Every joint, "not" in no, one or both clauses, and twins by an exchange and by a "not" that has moved."""
    twins = [classify.reviews() for _ in range(300)]
    texts = [text_of(review) for pair in twins for review in pair]
    for joint in (", but", ", yet", "although the", "while the", ", although", ", even though"):
        assert any(joint in text for text in texts)
    nots = Counter(len(re.findall("was not (?!full)", text)) for text in texts)
    assert set(nots) == {0, 1, 2}
    moved = [set(classify.GOOD + classify.BAD) & set(a.steps) for a, b in twins if same_adjectives_in_order(a, b)]
    assert 50 < len(moved) < 250


def same_adjectives_in_order(a: Example, b: Example) -> bool:
    return [w for w in a.steps if w in ADJECTIVES] == [w for w in b.steps if w in ADJECTIVES]


@given(seed=SEEDS)
def test_without_mutations_the_order_of_the_boxes_in_a_sequence_is_its_class(seed):
    with pytest.MonkeyPatch.context() as patch, mg.seed(seed):
        patch.setattr(classify, "MUTATION", 0.0)
        twins = classify.promoters()
    for sequence in twins:
        letters, names = letters_of(sequence), sequence.label.split()
        places = [letters.find(classify.MOTIFS[name]) for name in names]
        assert all(letters.count(classify.MOTIFS[name]) == 1 for name in names) <= (-1 < places[0] < places[1])
        assert all(place >= 0 for place in places)
        inside = np.convolve(sequence.keys, np.ones(3)) > 0
        assert sum(inside) == sum(len(classify.MOTIFS[name]) for name in names)
        assert {"".join(np.array(list(letters))[inside])} == {"".join(classify.MOTIFS[name] for name in names)}
        assert 80 <= len(letters) <= 115


def test_one_letter_of_a_box_in_twenty_is_another():
    changed = total = 0
    for _ in range(400):
        sequence, _ = classify.promoters()
        inside = np.convolve(sequence.keys, np.ones(3)) > 0
        box = "".join(np.array(list(letters_of(sequence)))[inside])
        true = "".join(classify.MOTIFS[name] for name in sequence.label.split())
        changed, total = changed + sum(a != b for a, b in zip(box, true)), total + len(true)
    assert abs(changed / total - 0.05) < 4 * (0.05 * 0.95 / total) ** 0.5


def centre(frame: np.ndarray) -> np.ndarray:
    """The centre of a picture, (x, y) with y downwards."""
    y, x = np.nonzero(frame.reshape(8, 8) > 0.5)
    return np.array([x.mean(), y.mean()])


@given(seed=SEEDS)
def test_a_film_shows_its_action_in_the_frames_that_are_its_keys(seed):
    with pytest.MonkeyPatch.context() as patch, mg.seed(seed):
        patch.setattr(classify, "NOISE", 0.0)
        twins = classify.films()
    for film in twins:
        still = [bool((a == b).all()) for a, b in zip(film.steps, film.steps[1:])]
        touched = [not all(still[max(i - 1, 0) : i + 1]) for i in range(len(film.steps))]
        assert touched == film.keys.tolist()
        assert 9 <= len(film.steps) <= 16
        first, last = film.steps[0], film.steps[-1]
        if film.label in ("growing", "shrinking"):
            assert (first.sum() < last.sum()) == (film.label == "growing")
            assert first.sum() != last.sum()
            continue
        assert first.sum() == last.sum() == max(frame.sum() for frame in film.steps)
        moves = [centre(b) - centre(a) for a, b, same in zip(film.steps, film.steps[1:], still) if not same]
        assert len(moves) == 4
        if "clockwise" in film.label:
            turns = [
                a[0] * b[1] - a[1] * b[0] for a, b in itertools.pairwise(moves)
            ]  # y is downwards: clockwise is > 0
            assert sum(turns) * (1 if film.label == "clockwise" else -1) > 0
        else:
            wanted = {"right": (1, 0), "left": (-1, 0), "down": (0, 1), "up": (0, -1)}[film.label]
            assert all(tuple(move) == wanted for move in moves)


@pytest.mark.parametrize("name", PROCESSES)
def test_what_is_tested_on_comes_in_no_training(name):
    """Every network is trained from the same seed; were the test drawn from it too, its sequences would come again."""
    options = argparse.Namespace(examples=480, seed=0, cell="lstm", hidden=8)
    with mg.seed(options.seed):
        task = classify.generated(name, options)

    def sequences(batches):
        return {xs[:n, row].tobytes() for xs, lengths, _ in batches for row, n in enumerate(lengths)}

    held_out = sequences([task.code.collate(task.test), *task.valid])
    assert len(held_out) > 100
    for network in classify.NETWORKS:
        with mg.seed(options.seed):
            classify.build(dict(vars(options), network=network, labels=task.code.labels, tokens=task.code.tokens))
            assert not sequences(task.train) & held_out


# The baseline


def test_a_bag_counts_tokens_and_is_the_mean_of_frames_and_does_not_see_the_padding():
    tokens = np.array([[0, 2, 1], [3, 2, 9], [0, 9, 9]])  # three texts: 0 3 0; 2 2; 1
    assert classify.bag(tokens, np.array([3, 2, 1]), 4).tolist() == [[2, 0, 0, 1], [0, 0, 2, 0], [0, 1, 0, 0]]
    frames = np.array([[[1.0, 0.0], [5.0, 6.0]], [[2.0, 4.0], [9.0, 9.0]]])
    assert classify.bag(frames, np.array([2, 1]), 2).tolist() == [[1.5, 2.0], [5.0, 6.0]]


def test_the_linear_baseline_is_softmax_regression_on_counts():
    model = classify.Bag(3, 2)
    model.layers.load_state_dict({"steps.0.weight": np.array([[1.0, 0.0, -1.0], [0.0, 2.0, 0.0]], np.float32),
                                  "steps.0.bias": np.array([0.5, 0.0], np.float32)})  # fmt: skip
    logits, weights = model(np.array([[0, 1], [0, 2], [1, 7]]), np.array([3, 2]))
    assert logits.numpy().tolist() == [[2.5, 2.0], [-0.5, 2.0]]
    assert weights is None


# The networks


@pytest.mark.parametrize("cell", [nn.LSTMCell, nn.GRUCell, nn.ElmanCell])
@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=4))
def test_what_the_steps_add_sums_to_the_final_state(cell, lengths):
    net = in_float64(nn.Recurrent(cell, 2, 3, bidirectional=True))
    xs = mg.random.normal((max(lengths), len(lengths), 2), dtype=mg.float64)
    steps = classify.added(net(xs, lengths=lengths)[0]).numpy()
    final = net.final(xs, lengths=lengths)[0].numpy()
    sums = np.stack([steps[:n, row].sum(axis=0) for row, n in enumerate(lengths)])
    close(sums, final, 1e-12)


@pytest.mark.parametrize("cell", CELLS)
def test_any_cell_of_the_command_line_reads_in_both_directions(cell):
    about = {"network": "attention", "labels": ["a", "b", "c"], "tokens": list("abcd"), "cell": cell, "hidden": 4}
    logits, weights = classify.build(about)(np.array([[0, 1], [2, 3], [1, 0]]), np.array([3, 2]))
    assert logits.shape == (2, 3)
    close(weights.numpy().sum(axis=1), np.ones(2), 1e-6)


@pytest.mark.parametrize("network", ["final state", "attention"])
@pytest.mark.parametrize("frames", [False, True])
def test_what_a_network_says_of_a_row_does_not_depend_on_its_company_or_the_padding(network, frames):
    """The proof that nobody reads the last step of a padded batch."""
    about = {"network": network, "labels": ["a", "b"], "tokens": None if frames else list("<abc"), "cell": "gru",
             "hidden": 4}  # fmt: skip
    model = classify.build(about)
    random = np.random.default_rng(0)
    rows = [random.normal(size=(n, 64)).astype(np.float32) if frames else random.integers(0, 4, n) for n in (3, 7, 1)]
    xs, lengths = mg.data.pad(rows, value=3)
    together, weights = model(xs, lengths)
    for i, row in enumerate(rows):
        alone, a = model(row[:, None], np.array([len(row)]))
        close(together[i], alone.numpy()[0], 1e-5)
        if weights is not None:
            close(weights[i, : len(row)], a.numpy()[0], 1e-5)
            assert (weights.numpy()[i, len(row) :] == 0).all()


# Highlights


class Terminal:
    """A stdout that is one."""

    def isatty(self) -> bool:
        return True


@pytest.fixture()
def on_terminal(monkeypatch):
    """Calls a function where stdout is a terminal."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)

    def called(function, *args):
        with contextlib.redirect_stdout(Terminal()):
            return function(*args)

    return called


WEIGHTS = np.array([0.02, 0.15, 0.03, 0.3, 0.5, 0.0])
WORDS = "the plot was not bad .".split()


def test_in_plain_text_words_of_much_weight_stand_between_stars():
    assert classify.show_words(WORDS, np.array([0.02, 0.26, 0.02, 0.1, 0.6, 0.0])) == "    the *plot* was not **bad** ."
    assert classify.show_words(WORDS, np.full(6, 1 / 6)) == "    the plot was not bad ."
    assert classify.show_words(["bad"], np.array([1.0])) == "    bad"


def test_on_a_terminal_the_ink_of_a_word_grows_with_its_weight(on_terminal):
    shown = on_terminal(classify.show_words, WORDS, WEIGHTS)
    assert ANSI.sub("", shown) == "    " + " ".join(WORDS)
    codes = dict(re.findall(r"\033\[([\d;]+)m(\w+)\033\[0m", shown))
    codes = {word: code for code, word in codes.items()}
    assert set(codes) == {"not", "bad"}
    assert codes["bad"].startswith("1;38;5;16;48;5;")  # bold, and black on a background
    assert codes["not"].startswith("38;5;16;48;5;")
    assert codes["not"][-3:] != codes["bad"][-3:]


@pytest.mark.parametrize("name, value", [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_whoever_wants_no_colours_gets_plain_text(on_terminal, monkeypatch, name, value):
    assert "\033" in on_terminal(classify.show_words, WORDS, WEIGHTS)
    monkeypatch.setenv(name, value)
    assert on_terminal(classify.show_words, WORDS, WEIGHTS) == "    the plot was **not** **bad** ."


def test_long_texts_are_broken_between_words(on_terminal):
    many = ["word"] * 60 + ["x" * 150]
    lines = ANSI.sub("", on_terminal(classify.show_words, many, np.eye(61)[60] * 0.9 + 0.1 / 61)).split("\n")
    assert " ".join(line.strip() for line in lines) == " ".join(many)
    assert max(len(line) for line in lines[:-1]) <= 104


LETTERS = "ACGTTGCA" * 12
STEPS, DNA_KEYS = classify.kmers(LETTERS), np.arange(94) // 6 == 3  # the 3-mers 18 ... 23: the letters 18 ... 25


def test_in_plain_text_letters_have_their_weight_and_their_boxes_below():
    shown = classify.show_letters(STEPS, np.eye(94)[20], DNA_KEYS).split("\n")
    assert [line[4:] for line in shown[:3]] == [LETTERS[:75], " " * 20 + "###", " " * 18 + "~" * 8]
    assert [line[4:] for line in shown[3:]] == [LETTERS[75:]]
    assert classify.kmers("GATTA") == ["GAT", "ATT", "TTA"]


def test_on_a_terminal_boxes_are_underlined_and_weight_is_ink(on_terminal):
    shown = on_terminal(classify.show_letters, STEPS, np.eye(94)[20], DNA_KEYS)
    assert re.sub(r"\s", "", ANSI.sub("", shown)) == LETTERS
    assert re.findall(r"\033\[4m(\w)\033\[0m", shown) == list(LETTERS[18:20] + LETTERS[23:26])
    assert re.findall(r"\033\[4;1;[\d;]*m(\w)\033\[0m", shown) == list(LETTERS[20:23])


def test_the_filmstrip_has_a_bar_of_its_weight_under_every_frame():
    films = classify.films()
    weights = [np.linspace(0, 0.3, len(film.steps)) for film in films]
    figure = classify.filmstrip(films, weights, ["one", "other"])
    pictures, bars = figure.axes[::2], figure.axes[1::2]
    for axes, below, film, a in zip(pictures, bars, films, weights):
        image = axes.images[0].get_array().reshape(10, len(film.steps), 10)[1:-1, :, 1:-1]
        assert np.array_equal(image.transpose(1, 0, 2).reshape(-1, 64), film.steps)
        assert [bar.get_height() for bar in below.patches] == a.tolist()
        assert [bar.get_facecolor()[0] == 0 for bar in below.patches] == film.keys.tolist()


# The program


def row_of(out: str) -> dict[str, float]:
    """The last row of the last table, shares as numbers."""
    return {name: float(cell[:-1]) / 100 for name, cell in tables(out)[-1][-1].items() if cell.endswith("%")}


@pytest.fixture(scope="module", autouse=True)
def in_seconds():
    """Less to test on than 250 twins, and none of the many pictures of curves, which are not of this program."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classify, "HELD_OUT", 60)
        patch.setattr(classify.command, "_draw_curves", lambda *arguments: None)
        yield


def program(*arguments: object) -> tuple[int, str, str]:
    return run(classify.main, *arguments)


@pytest.fixture(scope="module")
def films_learned(tmp_path_factory) -> tuple[str, object]:
    folder = tmp_path_factory.mktemp("video")
    code, out, err = program("--task", "video", "--out", folder, "--hidden", 16, "--examples", 640, "--epochs", 2,
                             "--rate", 0.02)  # fmt: skip
    assert (code, err) == (0, "")
    return out, folder


def test_both_networks_know_what_a_shape_does_and_no_bag_can(films_learned):
    out, folder = films_learned
    row = row_of(out)
    assert row["bag"] <= 0.5
    assert row["bag, two layers"] <= 0.5
    assert row["final state"] > 0.65
    assert row["attention"] > 0.65
    assert row["attention on them"] > 1.3 * row["key steps"]
    for picture in ("video/films.png", "video/confusion.png"):
        assert f"picture: {folder / picture}" in out
        assert (folder / picture).stat().st_size > 5000


@pytest.mark.slow
@pytest.mark.parametrize("task, examples, more", [("sentiment", 640, 3), ("video", 640, 1.3)])
def test_both_networks_know_what_order_decides_and_no_bag_can(tmp_path, task, examples, more):
    code, out, err = program("--task", task, "--out", tmp_path, "--examples", examples)
    assert (code, err) == (0, "")
    row = row_of(out)
    assert row["bag"] <= 0.5
    assert row["bag, two layers"] <= 0.5
    assert row["final state"] > 0.8
    assert row["attention"] > 0.8
    assert row["attention on them"] > more * row["key steps"]


TINY = ["--hidden", 8, "--epochs", 1, "--examples", 48]


@pytest.fixture(scope="module")
def all_tasks(tmp_path_factory) -> tuple[str, object]:
    folder = tmp_path_factory.mktemp("all")
    code, out, err = program("--out", folder, *TINY)
    assert (code, err) == (0, "")
    return out, folder


def test_without_arguments_all_three_tasks_stand_in_one_table(all_tasks):
    out, folder = all_tasks
    (rows,) = tables(out)
    assert [row["task"] for row in rows] == ["sentiment", "dna", "video"]
    assert rows[0]["bag"] == rows[0]["bag, two layers"] == rows[0]["largest class"] == "50.0%"
    assert {path.name for path in (folder / "dna").iterdir()} >= {"bag", "final_state", "attention", "confusion.png"}
    assert "sentiment: what attention looked at" in out
    assert "~~~~" in out  # the boxes of DNA


def test_the_same_seed_makes_the_same_program(all_tasks, tmp_path):
    """But for the speed and the folder; also where the task stands alone."""
    first, again = (
        re.sub(r"[\d,]+ (review|sequence|film)s/s|picture: .*", "", out).split("\naccuracy")[0].strip()
        for out in (all_tasks[0], program("--out", tmp_path, "--task", "video", *TINY)[1])
    )
    assert "epoch 1/1" in again
    assert first.endswith(again)


def test_a_line_is_classified_by_what_was_trained_and_shows_what_was_looked_at(all_tasks):
    _, folder = all_tasks
    code, out, err = program("--out", folder, "--apply", "The plot was dull, yet the ENDING was not boring")
    assert (code, err) == (0, "")
    said, shown = out.split("\n", 1)
    assert re.fullmatch(r"sentiment: (good|bad) \d+\.\d%, (good|bad) \d+\.\d%", said)
    assert shown.replace("*", "").strip() == "the plot was dull , yet the ending was not boring"
    code, out, err = program("--out", folder, "--task", "dna", "--apply", "ggccaatct acgtacgt tataaaag")
    assert (code, err) == (0, "")
    assert "GGCCAATCTACGTACGTTATAAAAG" in out


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--task", "video", "--apply", "x"], "a film is no line"),
        (["--task", "dna", "--apply", "GATTAXA"], "A, C, G and T, got 'GATTAXA'"),
        (["--task", "dna", "--apply", "GA"], "at least 3"),
        (["--apply", "   "], "no word"),
        (["--task", "file"], "--data"),
    ],
)
def test_a_line_that_cannot_be_read_gets_one_clear_line(all_tasks, arguments, words):
    code, _, err = program("--out", all_tasks[1], *arguments)
    assert code == 2
    assert err.startswith("classify: ")
    assert words in err
    assert err.count("\n") == 1


def test_a_line_before_anything_is_trained_says_what_to_do(tmp_path):
    code, _, err = program("--out", tmp_path, "--apply", "a good film")
    assert (code, "train one first" in err) == (2, True)


# A file


def written(path, rows):
    path.write_text("".join(f"{label}\t{text}\n" for label, text in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def file_learned(tmp_path_factory) -> tuple[str, object]:
    """Three classes that their words tell apart, four fifths of them spam; one empty and one long line."""
    folder = tmp_path_factory.mktemp("file")
    random = np.random.default_rng(0)
    tell = {"spam": "win money now".split(), "ham": "lunch at noon".split(), "news": "the vote today".split()}
    rows = []
    for _ in range(240):
        label = str(random.choice(["spam", "ham", "news"], p=[0.8, 0.1, 0.1]))
        rows.append(
            (label, " ".join(random.permutation([*random.choice(list("abcdef"), 4), random.choice(tell[label])])))
        )
    rows[3], rows[7] = ("ham", ""), ("ham", "word " * 401)
    path = written(folder / "mail.tsv", rows)
    code, out, err = program("--data", path, "--out", folder / "out", "--hidden", 8, "--epochs", 6, "--rate", 0.03)
    assert (code, err) == (0, "")
    return out, folder


def test_a_bag_is_all_it_takes_where_words_alone_decide(file_learned):
    row = row_of(file_learned[0])
    assert row["largest class"] < 0.95
    assert row["bag"] > 0.95
    assert row["attention"] > 0.95
    assert set(row) == {"largest class", "bag", "bag, two layers", "final state", "attention"}
    assert "twin" not in file_learned[0].splitlines()[-1]


def test_rows_left_out_and_unbalanced_classes_are_told(file_learned):
    out, folder = file_learned
    assert "1 empty (line 4)" in out
    assert "1 longer than 400 words (line 8)" in out
    share = re.search(r"classes are unbalanced: (\d+)% are 'spam'", out)
    assert 75 <= int(share[1]) <= 85
    assert (folder / "out" / "file" / "confusion.png").stat().st_size > 5000


def test_a_line_of_the_users_kind_is_classified_with_words_never_seen(file_learned):
    _, folder = file_learned
    for more in ([], ["--task", "file"], ["--data", folder / "mail.tsv"]):
        code, out, err = program("--out", folder / "out", "--apply", "a zebra MONEY b", *more)
        assert (code, err) == (0, "")
        assert out.startswith("file: spam ")
        assert "**money**" in out


def test_balanced_classes_get_no_warning_and_the_majority_is_right(tmp_path):
    rows = [pair for i in range(20) for pair in (("yes", f"a b c{i}"), ("no", f"c{i} b a"))]
    code, out, err = program("--data", written(tmp_path / "d.tsv", rows), "--out", tmp_path / "o", *TINY)
    assert (code, err) == (0, "")
    assert "unbalanced" not in out


@pytest.mark.parametrize(
    "content, words",
    [
        ("good\tfine\nno tab here\n", ["line 2", "label TAB text", "no tab here"]),
        ("good\tfine\n" * 30, ["two classes", "'good'"]),
        ("good\tfine\nbad\tnot\n", ["2 different rows are too few"]),
        ("".join(f"{i}\tnumber {i}\n" for i in range(50)), ["50 labels", "begin with the label"]),
        ("good\tfine\nbad\tnot\n" * 30, ["2 different rows are too few"]),
        ("good\t\n" * 5, ["no row is left"]),
        ("", ["label TAB text"]),
    ],
    ids=["no tab", "one class", "few rows", "many labels", "the same rows", "empty texts", "empty"],
)
def test_a_file_that_cannot_be_learned_gets_one_clear_line(tmp_path, content, words):
    (tmp_path / "d.tsv").write_text(content)
    code, out, err = program("--data", tmp_path / "d.tsv", "--out", tmp_path / "o")
    assert code == 2
    assert err.startswith("classify: ")
    assert err.count("\n") == 1
    assert all(word in err for word in words), err
    assert "epoch" not in out


def test_a_file_and_another_task_contradict_each_other(tmp_path):
    path = written(tmp_path / "d.tsv", [("a", "b")] * 3)
    code, _, err = program("--data", path, "--task", "dna", "--out", tmp_path / "o")
    assert (code, "leave out --task dna" in err) == (2, True)


@given(st.text(max_size=60))
def test_words_leave_out_blanks_alone(text):
    """Every other character is in one word, in its order."""
    assert "".join(classify.words(text)) == "".join(re.findall(r"\S", text.lower()))


def test_words_are_cut_as_readers_would():
    assert classify.words("It isn't BAD, really!") == ["it", "isn't", "bad", ",", "really", "!"]
    assert classify.words("这部电影 good") == [*"这部电影", "good"]


def test_help_names_every_option_and_task():
    code, out, err = program("--help")
    assert (code, err) == (0, "")
    for word in ("--data", "--task", "--apply", "--examples", "--cell", "sentiment", "dna", "video", "label TAB text"):
        assert word in out
