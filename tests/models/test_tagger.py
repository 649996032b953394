"""The tagger: what no window knows of the grammar, the kinds of characters, the networks, the scores, the program."""

from __future__ import annotations

import argparse
import io
import itertools
import keyword
import os
import tokenize
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import data
from models import tagger
from models.tagger import LONGEST, NETWORKS, PAIRS, REACH, Tagger, confusion, f1, kinds, pieces, twins

from ..nn.helpers import close
from .helpers import run, tables

SEEDS = st.integers(0, 2**32 - 1)
VERBS, SLOTS = PAIRS
TINY = ["--hidden", 8, "--epochs", 1]


def drawn(seed: int, count: int = 20) -> list[data.Tagged]:
    with mg.seed(seed):
        return twins(count)


def cities(row: data.Tagged) -> list[int]:
    return [t for t, tag in enumerate(row.tags) if tag in SLOTS]


def runs(tags: list[str], text: str) -> list[tuple[str, str]]:
    """Runs of one kind, with their text."""
    pairs = itertools.groupby(zip(tags, text), key=lambda pair: pair[0])
    return [(tag, "".join(c for _, c in run)) for tag, run in pairs]


def small(network: str, rows: list[data.Tagged], task: str = "slots", **more) -> Tagger:
    symbols = sorted({look for row in rows for word in row.words for look in tagger.looks(word, task)})
    tags = sorted({tag for row in rows for tag in row.tags})
    settings = {"hidden": 6, "window": REACH, "cell": "lstm", "size": 8} | more
    return Tagger(network, task, ["<UNK>", *symbols], tags, **settings)


# The grammar


@given(seed=SEEDS)
def test_within_the_window_the_same_context_occurs_with_both_slots_equally_often(seed):
    contexts = {slot: Counter() for slot in SLOTS}
    for row in drawn(seed):
        padded = [""] * REACH + row.words + [""] * REACH
        for t in cities(row):
            contexts[row.tags[t]][tuple(padded[t : t + 2 * REACH + 1])] += 1
    assert contexts[SLOTS[0]] == contexts[SLOTS[1]]
    assert contexts[SLOTS[0]].total() >= 20


@given(seed=SEEDS)
def test_one_more_word_to_each_side_would_sometimes_show_the_verb(seed):
    """So that the distance is no larger than it has to be."""
    near = min(abs(t - v) for row in drawn(seed) for t in cities(row) for v, w in enumerate(row.words) if w in VERBS)
    assert near == REACH + 1


@given(seed=SEEDS)
def test_the_slot_of_a_city_is_that_of_its_own_verb(seed):
    """The n-th city goes with the n-th verb, which stands before it where the sentence does not begin with a city."""
    for row in drawn(seed):
        verbs = [t for t, word in enumerate(row.words) if word in VERBS]
        assert len(verbs) == len(cities(row)) in (1, 2)
        for v, c in zip(verbs, cities(row)):
            assert SLOTS.index(row.tags[c]) == VERBS.index(row.words[v])
            assert (v < c) == (cities(row)[0] != 0)


@given(seed=SEEDS)
def test_a_twin_differs_in_its_verbs_and_the_slots_of_its_cities_alone(seed):
    rows = drawn(seed)
    assert [row.line for row in rows] == list(range(1, len(rows) + 1))
    for one, other in zip(rows[::2], rows[1::2]):
        assert [i for i, pair in enumerate(zip(one.words, other.words)) if pair[0] != pair[1]] == [
            i for i, word in enumerate(one.words) if word in VERBS
        ]
        assert [i for i, pair in enumerate(zip(one.tags, other.tags)) if pair[0] != pair[1]] == cities(one)


def test_what_stands_before_a_city_tells_its_slot_in_half_of_the_sentences_only():
    """In the others the first city is the first word; and the role of a second journey does not depend on the first."""
    rows = drawn(0, 2000)
    first = sum(cities(row)[0] == 0 for row in rows) / len(rows)
    assert abs(first - 0.5) < 4 * 0.5 / 2000**0.5
    two = [[row.tags[t] for t in cities(row)] for row in rows[::2] if len(cities(row)) == 2]
    assert len(two) > 400
    assert abs(np.mean([a == b for a, b in two]) - 0.5) < 4 * 0.5 / len(two) ** 0.5


def test_dates_and_times_are_tagged_where_they_stand_and_other_numbers_are_not():
    pairs = Counter((a, b, tag) for row in drawn(0, 300) for a, b, tag in zip(row.words, row.words[1:], row.tags[1:]))
    words = {"time": ["at"], "other": ["with"], "date": tagger.MONTHS}
    for expected, before in words.items():
        assert {tag for (a, b, tag) in pairs if a in before and b.isdigit()} == {expected}


def test_no_sentence_that_is_tested_on_is_trained_on_and_each_is_tested_beside_its_twin():
    with mg.seed(3):
        task = tagger.slots(argparse.Namespace(examples=200))
    assert [len(part) for part in task[1:3]] == [200, 24] and len(task.test) > 400
    assert not {tuple(row.words) for row in task.test} & {tuple(row.words) for row in task.train}
    for one, other in zip(task.test[::2], task.test[1::2]):
        assert [tagger.TWIN.get(word, word) for word in one.words] == other.words


@given(seed=SEEDS)
def test_whatever_its_weights_are_the_window_is_right_on_half_of_the_cities_at_most(seed):
    rows = drawn(seed, 6)
    with mg.seed(seed):
        model = small("window", rows)
    said = model.tag([row.words for row in rows])
    names = model.tags.tokens
    right = [names[tags[t]] == row.tags[t] for tags, row in zip(said, rows) for t in cities(row)]
    assert sum(right) <= len(right) / 2


# The kinds of characters

PARTS = st.sampled_from(
    [
        ("if", "keyword"),
        ("lambda", "keyword"),
        ("None", "keyword"),
        ("iffy", "name"),
        ("match", "name"),
        ("_x9", "name"),
        ("é", "name"),
        ("0x1F", "number"),
        ("1.5e-3j", "number"),
        ("'it # is'", "string"),
        ('rb"a\\"b"', "string"),
        ('"""two\n# lines"""', "string"),
        ("f'{x!r:>{width}} {{}}'", "string"),
        ("f'{f\"{1}\"}'", "string"),
        ("**=", "operator"),
        ("->", "operator"),
        (";", "operator"),
    ]
)
SPACES = st.sampled_from([" ", "  ", "\t", " \\\n"])
ENDS = st.sampled_from([("\n", []), ("\n\n", []), ("  # if 'x' 1\n", [(2, "# if 'x' 1")])])


@st.composite
def programs(draw):
    """A text with the kinds of its characters, made of parts of known kinds."""
    text, expected = "", []
    for _ in range(draw(st.integers(1, 5))):
        for _ in range(draw(st.integers(1, 4))):
            part, kind = draw(PARTS)
            space = draw(SPACES)
            text, expected = text + part + space, expected + [kind] * len(part) + ["space"] * len(space)
        if text.endswith("\\\n"):
            text, expected = text + "x", [*expected, "name"]
        end, comments = draw(ENDS)
        marks = ["space"] * len(end)
        for at, comment in comments:
            marks[at : at + len(comment)] = ["comment"] * len(comment)
        text, expected = text + end, expected + marks
    return text, expected


@given(programs())
def test_a_program_put_together_from_parts_has_the_kinds_of_its_parts(program):
    text, expected = program
    assert kinds(text)[0] == expected


@given(programs(), st.integers(1, 60))
def test_pieces_are_the_program_and_each_has_the_tags_that_it_has_by_itself(program, shortest):
    """So nothing is lost on whoever begins at a piece. (The lines of these programs are not indented.)"""
    text, expected = program
    rows = pieces(text, shortest)
    assert "".join(c for row in rows for c in row.words) == text
    assert [tag for row in rows for tag in row.tags] == expected
    for row in rows:
        assert kinds("".join(row.words))[0] == row.tags
    assert all(len(row.words) >= shortest for row in rows[:-1])
    starts = np.cumsum([0] + [len(row.words) for row in rows])
    assert [row.line for row in rows] == [1 + text[:start].count("\n") for start in starts[:-1]]


@pytest.mark.parametrize("name", ["sched", "shlex", "textwrap"])
def test_modules_have_kinds_that_look_like_it(name):
    text = data.read_text(Path(os.__file__).with_name(f"{name}.py"))
    found, _ = kinds(text)
    for kind, part in runs(found, text):
        if kind == "comment":
            assert part[0] == "#" and "\n" not in part
        elif kind == "string":
            assert part[0] in "rRbBfFuU'\"" and part[-1] in "'\""
        elif kind == "keyword":
            assert keyword.iskeyword(part)
        elif kind == "name":
            assert part.isidentifier() and not keyword.iskeyword(part)
        elif kind == "number":
            assert part[0] in "0123456789."
        elif kind == "space":
            assert not part.strip("\\ \n\f")
    tokens = Counter(tokenize.tok_name[t.type] for t in tokenize.generate_tokens(io.StringIO(text).readline))
    assert Counter(kind for kind, _ in runs(found, text))["comment"] == tokens["COMMENT"] > 0


def test_the_parts_of_the_python_task_are_different_modules_that_are_there():
    names = [name for part in tagger.MODULES.values() for name in part]
    assert len(names) == len(set(names))
    assert all(Path(os.__file__).with_name(f"{name}.py").is_file() for name in names)


# The networks


def test_the_window_by_hand():
    """k = 1, one feature, W = [1, 10, 100]: y_t = tanh(x_{t-1} + 10 x_t + 100 x_{t+1}), 0 beyond the ends."""
    window = tagger.Window(1, 1, 1)
    window.hidden.load_state_dict({"weight": np.array([[1.0, 10.0, 100.0]]), "bias": np.array([0.0])})
    xs = np.array([0.01, 0.02, -0.03])[:, None, None]
    outs, _ = window(mg.tensor(xs, dtype="float64"))
    close(outs, np.tanh(np.array([0.1 + 2, 0.01 + 0.2 - 3, 0.02 - 0.3]))[:, None, None], 1e-6)


@pytest.mark.parametrize("network", NETWORKS)
def test_a_row_is_tagged_alike_alone_and_beside_longer_ones(network):
    rows = [row.words for row in drawn(1, 4)]
    model = small(network, drawn(1, 4))
    together = model.tag(rows)
    for words, tags in zip(rows, together):
        assert len(words) == len(tags)
        xs, lengths = data.pad([model.encode(words)])
        wide = np.concatenate([xs, np.ones((7, 1, 3), np.int64)])
        alone, beside = model(mg.tensor(xs), lengths), model(mg.tensor(wide), lengths)
        close(beside[: len(words)], alone.numpy(), 1e-5)
        assert (alone.argmax(axis=-1).numpy()[:, 0] == tags).all()


@pytest.mark.parametrize(("network", "back", "ahead"), [("elman", 1, 0), ("jordan", 1, 0), ("both ways", 1, 1)])
def test_a_recurrent_network_sees_what_a_window_does_not(network, back, ahead):
    """Does the first word bear on the last logits, and the last word on the first?"""
    words = drawn(2, 1)[0].words[: REACH + 2]
    for name, expected in ((network, (back, ahead)), ("window", (0, 0))):
        model = small(name, drawn(2, 5)).astype("float64")
        read = lambda words: model(*map(np.asarray, data.pad([model.encode(words)]))).numpy()[:, 0]  # noqa: B023
        plain, other_first, other_last = read(words), read(["at", *words[1:]]), read([*words[:-1], "at"])
        assert (np.abs(other_first[-1] - plain[-1]).max() > 0) == expected[0]
        assert (np.abs(other_last[0] - plain[0]).max() > 0) == expected[1]


def test_a_new_word_is_known_by_its_end_and_how_it_is_written():
    model = small("window", [data.Tagged(1, ["Hangzhou", "walking", "7"], ["a", "b", "c"])])
    new = model.encode(["Guangzhou", "talking", "x7", "zzz"])
    old = model.encode(["Hangzhou", "walking", "7"])
    assert new[:, 0].tolist() == [0] * 4
    assert new[:2, 1:].tolist() == old[:2, 1:].tolist()
    assert (new[2, 2], new[3, 1]) == (old[2, 2], 0)


# The scores


def test_f1_by_hand():
    """Class 0: 3 true, 2 said, 2 right: precision 1, recall 2/3, F1 4/5. Class 2 does not occur, 3 is not said."""
    true, said = np.array([0, 0, 0, 1, 1, 3]), np.array([0, 0, 1, 1, 2, 1])
    counts = confusion(true, said, 4)
    assert counts.tolist() == [[2, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 1, 0, 0]]
    np.testing.assert_allclose(f1(counts), [4 / 5, 2 / (2 + 3), np.nan, 0.0])


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30))
def test_f1_is_the_harmonic_mean_of_precision_and_recall(pairs):
    true, said = np.array(pairs).T
    found = f1(confusion(true, said, 4))
    for c in range(4):
        right = sum(a == b == c for a, b in pairs)
        if c not in true:
            assert np.isnan(found[c])
        elif not right:
            assert found[c] == 0
        else:
            precision, recall = right / list(said).count(c), right / list(true).count(c)
            assert found[c] == pytest.approx(2 / (1 / precision + 1 / recall), rel=1e-12)


# The program


def few(monkeypatch, *names):
    monkeypatch.setattr(tagger, "NETWORKS", {name: NETWORKS[name] for name in names})


@pytest.fixture(scope="module", autouse=True)
def no_curves():
    """Curves are drawn in the tests of the command line; here they would take most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tagger.command, "_draw_curves", lambda *arguments: None)
        yield


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """A file of words and tags."""
    path = tmp_path_factory.mktemp("tagger") / "corpus.tsv"
    sentences = ["\n".join(f"{w}\t{t}" for w, t in zip(row.words, row.tags)) for row in drawn(5, 30)]
    path.write_text("\n\n".join(sentences) + "\n")
    return path


@pytest.fixture(scope="module")
def trained(corpus) -> tuple[Path, str]:
    """The networks of a short training on it, and what was printed."""
    out = corpus.parent / "out"
    code, text, err = run(tagger.main, "--data", corpus, "--out", out, *TINY)
    assert (code, err) == (0, "")
    return out, text


def test_a_network_with_memory_knows_the_slots_that_the_window_cannot(tmp_path, monkeypatch):
    """With fewer phrases it is learned in a second; the whole grammar is learned below."""
    few(monkeypatch, "window", "elman")
    for name in ("PHRASES", "OPENINGS", "LINKS"):
        monkeypatch.setattr(tagger, name, getattr(tagger, name)[2:3])
    small_run = ["--task", "slots", "--examples", 1000, "--epochs", 5, "--out", tmp_path]
    code, out, err = run(tagger.main, *small_run)
    assert (code, err) == (0, "")
    scores, where = tables(out)
    score = {row["tag"]: row for row in scores}
    assert float(score["date"]["window"]) > 0.95 < float(score["time"]["window"])  # the baseline does what it can
    assert float(score["macro F1"]["elman"]) > float(score["macro F1"]["window"]) + 0.05
    before, after = where
    assert int(before["cities"]) + int(after["cities"]) == sum(
        int(score[slot]["words"].replace(",", "")) for slot in SLOTS
    )
    assert float(before["elman"]) > 0.8
    for row in where:
        assert float(row["window"]) <= 0.5
    assert 0.4 < float(after["elman"]) < 0.6  # forwards only, it cannot know
    assert "slots: best is elman with a macro F1 of" in out
    assert (tmp_path / "slots.png").stat().st_size > 1000


def test_the_python_task_is_trained_on_some_modules_and_tested_on_others(tmp_path, monkeypatch):
    few(monkeypatch, "window", "both ways")
    monkeypatch.setattr(tagger, "MODULES", {"train": ["sched"], "valid": ["this"], "test": ["colorsys"]})
    code, out, err = run(tagger.main, "--task", "python", "--out", tmp_path, "--hidden", 16, "--epochs", 2)
    assert (code, err) == (0, "")
    [scores] = tables(out)
    length = len(data.read_text(Path(os.__file__).with_name("colorsys.py")))
    counted = {row["tag"]: int(row["characters"].replace(",", "")) for row in scores if row["characters"]}
    assert sum(counted.values()) == length
    assert set(counted) == {"keyword", "space", *tagger.KINDS.values()}
    accuracy = scores[-1]
    assert all(float(accuracy[name]) > max(counted.values()) / length for name in ("window", "both ways"))
    code, out, err = run(tagger.main, "--task", "python", "--out", tmp_path, "--apply", "x = 'y'\n")
    assert (code, err) == (0, "")
    [rows] = tables(out)
    assert "".join(eval(row["characters"]) for row in rows) == "x = 'y'\n"
    assert all(row[name] in counted for row in rows for name in ("window", "both ways"))


def test_a_file_of_ones_own_is_parted_learned_and_scored(trained):
    _, out = trained
    assert out.startswith("file, train: 48 rows") and "file, validation: 6 rows" in out and "file, test: 6 rows" in out
    [scores] = tables(out)
    assert [row["tag"] for row in scores][-2:] == ["macro F1", "accuracy"]
    assert list(scores[0]) == ["tag", "words", *NETWORKS]
    assert "picture: " in out


def test_the_same_seed_gives_the_same_numbers_and_resume_only_loads_what_is_over(trained, corpus, monkeypatch):
    """Also with fewer networks, as each begins anew with the seed."""
    few(monkeypatch, "window", "jordan")
    folder, out = trained
    [first] = tables(out)
    for more in (["--out", folder, "--resume"], ["--out", folder.with_name("other")]):
        code, again, err = run(tagger.main, "--data", corpus, *TINY, *more)
        assert (code, err) == (0, "")
        assert ("epoch 1/1" in again) == ("--resume" not in more)
        [rows] = tables(again)
        assert [[row[name] for name in row] for row in rows] == [[row[name] for name in rows[0]] for row in first]


def test_a_line_is_tagged_by_the_networks_that_were_trained(trained):
    folder, _ = trained
    code, out, err = run(tagger.main, "--out", folder, "--apply", "we want to leave by train Xi'an .")
    assert (code, err) == (0, "")
    [rows] = tables(out)
    assert [row["word"] for row in rows] == "we want to leave by train Xi'an .".split()
    assert {row[name] for row in rows for name in NETWORKS} <= {"other", "date", "time", *SLOTS}


def test_a_file_to_test_on_is_left_out_of_the_training(corpus, tmp_path, monkeypatch):
    few(monkeypatch, "window")
    test = tmp_path / "test.tsv"
    test.write_text("\n\n".join(corpus.read_text().split("\n\n")[:7]))
    code, out, err = run(tagger.main, "--data", corpus, "--test", test, "--out", tmp_path / "o", *TINY)
    assert (code, err) == (0, "")
    assert "file, train: 54 rows" in out and "file, validation: 6 rows" in out and "file, test: 7 rows" in out


def test_a_sentence_that_is_too_long_is_left_out_and_named(corpus, tmp_path, monkeypatch):
    few(monkeypatch, "window")
    path = tmp_path / "long.tsv"
    path.write_text("a\tother\n" * (LONGEST + 1) + "\n" + corpus.read_text())
    code, out, _ = run(tagger.main, "--data", path, "--out", tmp_path / "o", *TINY)
    assert code == 0
    assert f"left out: 1 longer than {LONGEST} words (line 1)" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "bad.tsv"], "bad.tsv, line 3: expected word TAB tag, got 'here'"),
        (["--data", "none.tsv"], "there is no file none.tsv"),
        (["--data", "two.tsv"], "--data two.tsv: 2 different sentences are too few; 3 parts are made of them"),
        (["--data", "two.tsv", "--task", "slots"], "--data two.tsv: is a task of its own; leave out --task slots"),
        (["--task", "file"], "--data: give the file to learn from"),
        (["--test", "two.tsv"], "--data: give the file to learn from"),
        (["--apply", "x"], "--out o: there is no trained network in o/slots/window; train one first"),
        (["--apply", " "], "--apply: there is nothing to tag"),
        (["--task", "slots", "--cell", "nonsense"], "--cell nonsense: there is none of this name"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    few(monkeypatch, "window", "both ways") if "--cell" not in arguments else few(monkeypatch, "both ways")
    Path("bad.tsv").write_text("we\tother\n\nhere\n")
    Path("two.tsv").write_text("we\tother\n\ngo\tother\n")
    code, _, err = run(tagger.main, "--out", "o", *arguments)
    assert code == 2
    assert err.startswith(f"tagger: {message}") and err.count("\n") == 1


def test_help_tells_the_options():
    code, out, _ = run(tagger.main, "--help")
    assert code == 0
    assert all(option in out for option in ("--task", "--data", "--test", "--window", "--apply", "--cell"))


@pytest.mark.slow
def test_the_whole_grammar_is_learned_forwards_by_elman_and_both_ways_by_the_lstm(tmp_path):
    code, out, err = run(tagger.main, "--task", "slots", "--out", tmp_path)
    assert (code, err) == (0, "")
    before, after = tables(out)[1]
    assert float(before["elman"]) > 0.97 < float(before["both ways"]) and float(after["both ways"]) > 0.97
    assert 0.4 < float(after["elman"]) < 0.6
    assert float(before["window"]) <= 0.5 >= float(after["window"])
