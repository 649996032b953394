"""Translation as a program: its dates, what it has to beat, its networks, and what it prints and refuses."""

from __future__ import annotations

import calendar
import datetime
import re
from collections import Counter
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import data, nn, train
from models import translate
from models.command_line import CELLS
from tests.models.helpers import run, tables
from tests.nn.helpers import close, gradient

TINY = ["--hidden", 16, "--epochs", 2, "--examples", 120]

# An independent reader of dates, which knows stems of words and what the separators of numbers mean

STEMS = {
    **dict.fromkeys(["jan", "ene", "gen"], 1),
    **dict.fromkeys(["feb", "fév"], 2),
    **dict.fromkeys(["mar", "mär"], 3),
    **dict.fromkeys(["apr", "avr", "abr"], 4),
    **dict.fromkeys(["may", "mai", "mag"], 5),
    **dict.fromkeys(["jun", "juin", "giu"], 6),
    **dict.fromkeys(["jul", "juil", "lug"], 7),
    **dict.fromkeys(["aug", "aoû", "ago"], 8),
    **dict.fromkeys(["sep", "set"], 9),
    **dict.fromkeys(["oct", "okt", "ott"], 10),
    **dict.fromkeys(["nov"], 11),
    **dict.fromkeys(["dec", "dez", "déc", "dic"], 12),
}
DAY_NAMES = [  # Monday first
    {"monday", "montag", "lundi", "lunes", "lunedì"},
    {"tuesday", "dienstag", "mardi", "martes", "martedì"},
    {"wednesday", "mittwoch", "mercredi", "miércoles", "mercoledì"},
    {"thursday", "donnerstag", "jeudi", "jueves", "giovedì"},
    {"friday", "freitag", "vendredi", "viernes", "venerdì"},
    {"saturday", "samstag", "samedi", "sábado", "sabato"},
    {"sunday", "sonntag", "dimanche", "domingo", "domenica"},
]
SMALL = """zeroth first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth
fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth""".split()


def ordinal(word: str) -> int | None:
    """Of "twenty-third" 23."""
    tens, _, ones = word.rpartition("-")
    if word in ("twentieth", "thirtieth"):
        return 20 if word == "twentieth" else 30
    if ones in SMALL:
        return {"": 0, "twenty": 20, "thirty": 30}[tens] + SMALL.index(ones)
    return None


def readings(source: str) -> set[datetime.date]:
    """Every date that a source could mean, if its weekday is not believed to be right but checked."""
    text = source.lower()
    numbers = [int(n) for n in re.findall(r"\d+", text)]
    words = re.findall(r"[^\W\d_]+(?:-[^\W\d_]+)?", text)
    weekdays = {i for i, names in enumerate(DAY_NAMES) for word in words if word in names}
    words = [word for word in words if not any(word in names for names in DAY_NAMES)]
    year = next(n for n in numbers if n > 31)
    rest = [n for n in numbers if n != year] + [n for n in map(ordinal, words) if n]
    months = {STEMS[stem] for word in words for stem in (word[:3], word[:4]) if stem in STEMS}
    if months:
        (day,), found = rest, months
        pairs = {(month, day) for month in found}
    elif "/" in text:
        pairs = {tuple(rest), tuple(rest[::-1])}
    else:
        pairs = {(rest[1], rest[0])}
    dates = {datetime.date(year, m, d) for m, d in pairs if m <= 12 and d <= calendar.monthrange(year, m)[1]}
    return {date for date in dates if not weekdays or weekdays == {date.weekday()}}


def test_every_source_has_one_meaning_in_every_style_on_every_day_of_a_year():
    meant: dict[str, datetime.date] = {}
    for n in range(366):
        date = datetime.date(2096, 1, 1) + datetime.timedelta(n)
        for language, template in translate.TEMPLATES:
            source = translate.written(date, language, template)
            for written in (source, source.upper()) if source else ():
                if written not in meant:
                    assert readings(written) == {date}, written
                assert meant.setdefault(written, date) == date, written
    assert len(meant) > 366 * 45  # many of the styles coincide in many cases, but never with that of another day


def test_dates_with_strokes_are_written_exactly_if_the_other_reading_is_no_other_date():
    for language, template in [("English", "{d}/{m}/{y}"), ("English", "{m}/{d}/{y}")]:
        assert (language, template) in translate.TEMPLATES
        for n in range(365):
            date = datetime.date(2021, 1, 1) + datetime.timedelta(n)
            source = translate.written(date, language, template)
            other = date.day <= 12 and date.day != date.month
            assert (source is None) == other


def test_days_are_written_as_people_do():
    def of(year, month, day, language, template):
        return translate.written(datetime.date(year, month, day), language, template)

    nth = {d: of(2021, 5, d, "English", "{nth}") for d in (1, 2, 3, 4, 11, 12, 13, 21, 22, 23, 30, 31)}
    assert " ".join(nth.values()) == "1st 2nd 3rd 4th 11th 12th 13th 21st 22nd 23rd 30th 31st"
    assert of(2021, 5, 1, "French", "le {nth} {month} {y}") == "le 1er mai 2021"
    assert of(2021, 5, 3, "French", "{weekday} {nth} {month} {y}") == "lundi 3 mai 2021"
    assert of(2021, 5, 1, "Italian", "{nth} {short} {y}") == "1º mag. 2021"
    assert of(2021, 5, 3, "German", "{weekday}, den {d}. {month} {y}") == "Montag, den 3. Mai 2021"
    assert of(2021, 5, 3, "German", "{dd}.{mm}.{y}") == "03.05.2021"
    assert of(1969, 7, 20, "English", "{weekday}, {short} {d}, {y}") == "Sunday, Jul 20, 1969"
    assert of(2024, 2, 29, "Spanish", "{weekday}, {d} de {month} de {y}") == "jueves, 29 de febrero de 2024"
    assert of(2021, 5, 31, "English", "the {word} of {month} {y}") == "the thirty-first of May 2021"


def test_the_dates_drawn_are_different_in_range_rightly_answered_and_in_all_styles_and_cases():
    rows = translate.dates(2000)
    assert [row.line for row in rows] == list(range(1, 2001))
    assert len({row.target for row in rows}) == len({row.source for row in rows}) == 2000
    for row in rows:
        assert {d.isoformat() for d in readings(row.source)} == {row.target}
        assert "1900-01-01" <= row.target <= "2099-12-31"
    words = [row.source for row in rows if re.search("[^0-9./]", row.source)]
    assert 0.15 < sum(w.upper() == w for w in words) / len(words) < 0.25
    assert sum("/" in row.source for row in rows) > 20
    for days in DAY_NAMES:
        for name in days:
            assert any(name in row.source.lower() for row in rows), name


def test_no_date_of_a_part_is_in_another():
    rows = translate.dates(500)
    parts = translate.parted(rows)
    assert [len(part) for part in parts] == [400, 50, 50]
    assert sorted(row for part in parts for row in part) == sorted(rows)
    targets = [{row.target for row in part} for part in parts]
    assert sum(map(len, targets)) == len(set.union(*targets)) == 500


@given(st.lists(st.sampled_from("abcdefg"), min_size=3, max_size=40).filter(lambda s: len(set(s)) >= 3))
def test_rows_of_one_source_stay_together(sources):
    rows = [data.Pair(i, source, str(i)) for i, source in enumerate(sources, 1)]
    parts = translate.parted(rows)
    assert sorted(row for part in parts for row in part) == rows
    of = [{row.source for row in part} for part in parts]
    assert all(of) and sum(map(len, of)) == len(set(sources))


# The baseline


def edit_distance(a: str, b: str) -> int:
    """By the recursion of its definition."""

    @lru_cache(None)
    def far(i: int, j: int) -> int:
        if not i or not j:
            return i + j
        return min(far(i - 1, j) + 1, far(i, j - 1) + 1, far(i - 1, j - 1) + (a[i - 1] != b[j - 1]))

    return far(len(a), len(b))


@given(st.text("abc", max_size=7), st.lists(st.text("abc", max_size=7), min_size=1, max_size=6))
def test_the_distance_is_the_number_of_edits(text, others):
    codes, lengths = data.pad([[ord(c) for c in other] for other in others])
    assert translate.distances(text, codes, lengths).tolist() == [edit_distance(text, other) for other in others]


def test_the_neighbour_is_the_nearest_but_for_numbers_and_lends_its_words():
    rows = [
        data.Pair(1, "7. Mai 1932", "1932-05-07"),
        data.Pair(2, "10. Juni 2012", "2012-06-10"),
        data.Pair(3, "the third of May 1950", "1950-05-03"),
    ]
    neighbours = translate.Neighbours(rows)
    assert neighbours.translate("3. Mai 2021") == "2021-05-03"
    assert neighbours.translate("23. Juny 1999") == "1999-06-23"
    assert neighbours.translate("the third of March 1951") == "1951-05-03"  # wrong, as it has no idea of March
    assert neighbours.translate("May 3, 2021 4") == "1932-05-07"  # another number of numbers: as it stands


def test_a_number_that_could_come_from_two_places_is_left_to_the_majority():
    even = data.Pair(1, "5. Mai 1932", "1932-05-05")
    assert translate.renumbered("3. Mai 2021", even) == "2021-03-03"
    assert translate.renumbered("3.4.2021", data.Pair(1, "5.5.1932", "1932-05-05")) == "2021-03-03"  # the first
    rows = [even, data.Pair(2, "7. Mai 1933", "1933-05-07"), data.Pair(3, "8. Mai 1934", "1934-05-08")]
    assert translate.Neighbours(rows).translate("3. Mai 2021") == "2021-05-03"


# The networks


def translator(attention: str = "additive", cell: str = "gru") -> translate.Translator:
    """One with large random weights, in float64, so that it says something, and each source something else."""
    with mg.seed(1):
        model = translate.Translator(list("abcdef"), ["<STOP>", *"xyz"], 6, cell, 8, attention).astype("float64")
    for p in model.parameters():
        p.data = p.data * 2
    return model.eval()


SOURCES = ["fade", "b", "decaf", "abcdefabcdef"]
TARGETS = np.array([[1, 2, 0, 3], [2, 0, -1, 1], [0, -1, -1, 1], [-1, -1, -1, 0]])


@pytest.mark.parametrize("attention", ["none", "additive", "dot", "general"])
def test_sampling_that_is_always_forced_is_teacher_forcing(attention):
    model = translator(attention)
    source, lengths = model.read(SOURCES)
    grads, logits = [], []
    for made in (model(source, TARGETS, lengths), model.sampled(source, lengths, TARGETS, 1.0)):
        model.zero_grad()
        mg.cross_entropy(made, mg.tensor(TARGETS), ignore_index=-1).backward()
        grads.append([np.asarray(gradient(p)) for p in model.parameters()])
        logits.append(made.numpy())
    told = TARGETS >= 0
    close(logits[1][told], logits[0][told])
    for forced, sampled in zip(*grads):
        close(sampled, forced, floor=1e-3)


def test_sampling_that_is_never_forced_reads_what_greedy_decoding_makes():
    model = translator()
    source, lengths = model.read(SOURCES)
    made = model.sampled(source, lengths, np.zeros((6, 4), "int64"), 0.0).argmax(axis=-1).numpy()
    words = nn.greedy(model.step, model.begin(source, lengths), model.first(4), 6, stop=0).tokens
    assert len({tuple(word) for word in words}) > 1
    for row, word in enumerate(words):
        assert [*word, 0][:6] == made[: len(word) + 1, row].tolist()


def test_sampling_mixes_in_proportion():
    model, count = translator("none"), 4000
    source, lengths = model.read(["fade"] * count)
    targets = np.full((2, count), 3)
    with mg.no_grad():
        own = model.sampled(source, lengths, targets, 0.0)[1].numpy()
        true = model.sampled(source, lengths, targets, 1.0)[1].numpy()
        mixed = model.sampled(source, lengths, targets, 0.3)[1].numpy()
    assert not np.allclose(own[0], true[0])
    forced = np.isclose(mixed, true).all(axis=1)
    assert np.isclose(mixed[~forced], own[~forced]).all()
    assert abs(forced.mean() - 0.3) < 5 * (0.3 * 0.7 / count) ** 0.5


@pytest.mark.parametrize("attention", ["none", "additive", "dot", "general"])
def test_a_beam_of_one_is_greedy_and_probabilities_are_those_of_teacher_forcing(attention):
    model = translator(attention)
    source, lengths = model.read(SOURCES)
    expected = nn.greedy(model.step, model.begin(source, lengths), model.first(4), 6, stop=0)
    found = model.translate(SOURCES, 1)
    assert [best[0][0] for best in found] == [model.text(tokens) for tokens in expected.tokens]
    for text, beam in zip(SOURCES, model.translate(SOURCES, 4)):
        assert [p for _, p in beam] == sorted((p for _, p in beam), reverse=True)
        for word, p in beam:
            tokens = [*model.targets.encode(list(word)), 0][:6]
            alone, length = model.read([text])
            targets = np.array(tokens)[:, None]
            assert nn.log_probability(model(alone, targets, length), targets).item() == pytest.approx(p, rel=1e-6)


def test_what_is_padded_has_no_effect_on_a_translation():
    model = translator()
    together = model.translate([*SOURCES, "f" * 40], 3)
    apart = [model.translate([text], 3)[0] for text in SOURCES]
    for beam, alone in zip(together, apart):
        assert [word for word, _ in beam] == [word for word, _ in alone]
        assert [p for _, p in beam] == pytest.approx([p for _, p in alone])
    assert model.read(["abcde"])[0].shape == (8, 1) and model.read(["abcdefab", "a"])[0].shape == (8, 2)


@pytest.mark.parametrize("cell", CELLS)
def test_every_cell_learns_and_translates_with_and_without_attention(cell):
    for attention in ("none", "general"):
        model = translator(attention, cell)
        source, lengths = model.read(SOURCES)
        mg.cross_entropy(model(source, TARGETS, lengths), mg.tensor(TARGETS), ignore_index=-1).backward()
        assert all(p.grad is not None and np.isfinite(p.grad.numpy()).all() for p in model.parameters())
        assert all(len(beam) == 2 for beam in model.translate(SOURCES, 2))


# The program


@pytest.fixture(scope="module")
def reverse(tmp_path_factory):
    """Words and the same words backwards; numbers and neighbours are of no use. And what a training printed."""
    folder, rng = tmp_path_factory.mktemp("reverse"), np.random.default_rng(0)
    words = sorted({"".join(rng.choice(list("abcdefgh"), rng.integers(2, 5))) for _ in range(1200)})
    path = folder / "pairs.tsv"
    lines = [f"{word}\t{word[::-1]}" for word in words]
    path.write_text("\n".join([*lines[:5], "\tx", "y\t", *lines[5:], "z" * 201 + "\tz"]) + "\n", encoding="utf-8")
    arguments = ["--data", path, "--out", folder / "out", "--attention", "dot"]
    result = run(translate.main, *arguments, "--hidden", 24, "--epochs", 6, "--rate", 0.02)
    return folder, arguments, words, result


def test_a_network_that_attends_learns_what_its_neighbours_cannot_tell_it(reverse):
    _, _, words, (code, out, err) = reverse
    assert (code, err) == (0, "")
    by_length, examples = tables(out)
    assert [row["length"] for row in by_length][-1] == "all"
    everything = {name: float(value.rstrip("%")) for name, value in by_length[-1].items() if value.endswith("%")}
    assert list(everything) == ["neighbour", "dot: greedy", "dot: beam 4"]
    count = int(by_length[-1]["sources"])
    assert count == round(0.1 * len(words)) == sum(int(row["sources"]) for row in by_length[:-1])
    # four standard errors of a share of at most 1/2
    assert everything["dot: greedy"] > everything["neighbour"] + 4 * 50 / count**0.5
    assert everything["dot: beam 4"] > everything["neighbour"] + 4 * 50 / count**0.5
    assert len(examples) == 10 and all(row["expected"] == row["source"][::-1] for row in examples)
    assert all(row["dot"] == row["expected"] or row["dot"].endswith(" *") for row in examples)


def test_rows_that_are_empty_or_long_are_counted(reverse):
    _, _, words, (_, out, _) = reverse
    assert "left out: 2 empty (lines 6, 7)" in out
    assert f"left out: 1 longer than 200 characters (line {len(words) + 3})" in out


def test_the_picture_and_the_weights_are_in_the_folder(reverse):
    folder, _, _, (_, out, _) = reverse
    assert f"picture: {folder / 'out' / 'dot' / 'attention.png'}" in out
    for name in ("attention", "curves"):
        assert (folder / "out" / "dot" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_a_line_is_translated_with_the_three_best_and_their_probabilities(reverse):
    folder, _, _, _ = reverse
    code, out, err = run(translate.main, "--out", folder / "out", "--apply", "hag")
    assert (code, err) == (0, "")
    (rows,) = tables(out)
    values = [float(row["log-probability"]) for row in rows]
    assert len(rows) == 3 and len({row["translation"] for row in rows}) == 3
    assert values == sorted(values, reverse=True) and values[0] > -1
    assert rows[0]["translation"] == "gah"


@pytest.mark.parametrize(
    ("text", "said"), [("héé", "'é' does not occur"), ("", "an empty line"), ("xyw", "'w', 'x', 'y' does not occur")]
)
def test_a_line_of_other_characters_is_refused(reverse, text, said):
    code, out, err = run(translate.main, "--out", reverse[0] / "out", "--apply", text)
    assert (code, out) == (2, "") and err.startswith("translate: --apply: ") and said in err


def test_without_a_trained_network_nothing_is_applied(tmp_path):
    code, _, err = run(translate.main, "--out", tmp_path, "--apply", "3 May 2021")
    assert code == 2 and "train one first" in err


LOSSES = r"train (\d\.\d+) nats   validation (\d\.\d+) nats"


@pytest.fixture(scope="module")
def default(tmp_path_factory):
    """What a very short training on dates printed, and its folder."""
    folder = tmp_path_factory.mktemp("default")
    code, out, err = run(translate.main, *TINY, "--out", folder)
    assert (code, err) == (0, "")
    return folder, out


def test_by_default_dates_are_translated_with_and_without_attention(default):
    folder, out = default
    assert "96 rows to learn, 12 rows to choose, 12 rows to test" in out
    by_length, examples = tables(out)
    ways = [f"{name}: {way}" for name in ("none", "additive") for way in ("greedy", "beam 4")]
    assert list(by_length[0]) == ["length", "sources", "neighbour", *ways]
    assert list(examples[0]) == ["source", "expected", "none", "additive"] and len(examples) == 10
    for row in examples:
        assert {d.isoformat() for d in readings(row["source"])} == {row["expected"]}
    assert {path.parent.name for path in folder.glob("*/best.safetensors")} == {"none", "additive"}
    assert train.read_about(folder / "none" / "best.safetensors")["network"]["steps"] == len("2021-05-03") + 1
    assert [path.parent.name for path in folder.glob("*/attention.png")] == ["additive"]


def test_sampling_trains_a_second_network_annealed_from_step_to_step(default, tmp_path, monkeypatch):
    asked = []
    sampled = translate.Translator.sampled

    def watched(self, source, lengths, targets, probability):
        asked.append(probability)
        return sampled(self, source, lengths, targets, probability)

    monkeypatch.setattr(translate.Translator, "sampled", watched)
    code, out, err = run(translate.main, *TINY, "--out", tmp_path, "--attention", "additive", "--sampling", 3)
    assert (code, err) == (0, "")
    assert asked == pytest.approx([3 / (3 + np.exp(step / 3)) for step in range(6)])  # 96 rows, 3 batches, 2 epochs
    assert (tmp_path / "additive_sampled" / "best.safetensors").exists()
    by_length, examples = tables(out)
    assert list(by_length[0])[3:] == [
        f"additive{how}: {way}" for how in ("", ", sampled") for way in ("greedy", "beam 4")
    ]

    before = re.findall(LOSSES, default[1])[2:]
    losses = re.findall(LOSSES, out)
    assert losses[:2] == before  # the same seed, the same network, whichever others are trained
    assert losses[2] != losses[0]  # it has not read the same
    assert [row["additive"] for row in examples] == [row["additive"] for row in tables(default[1])[1]]


MALFORMED = [
    ("a\tb\nonly\n", "line 2: expected source TAB target, got no tab"),
    ("a\tb\tc\n", "line 1: expected source TAB target, got 2 tabs"),
    ("", "line 1: expected source TAB target"),
    ("a\tb\nc\td\n", "2 different sources are too few"),
    ("\tb\nc\t\n", "no row is left"),
]


@pytest.mark.parametrize(("text", "said"), MALFORMED)
def test_a_file_that_cannot_be_learned_from_ends_with_one_line(tmp_path, text, said):
    path = tmp_path / "pairs.tsv"
    path.write_text(text, encoding="utf-8")
    code, _, err = run(translate.main, "--data", path, "--out", tmp_path / "out")
    assert code == 2 and err.startswith("translate: ") and said in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--sampling", "0.5"], "--sampling 0.5: must be 1 or more"),
        (["--attention", "loud"], "invalid choice: 'loud'"),
        (
            ["--attention", "dot", "--cell", "scrn", "--examples", "60"],
            "--attention dot: a state of --cell scrn has 64 numbers",
        ),
        (["--examples", "80000"], "--examples 80000: there are 73,049 dates"),
        (["--data", "nowhere.tsv"], "nowhere.tsv"),
    ],
)
def test_options_that_cannot_be_followed_end_with_one_line(tmp_path, arguments, said):
    code, _, err = run(translate.main, "--out", tmp_path, *arguments)
    assert code == 2 and err.startswith("translate: ") and said in err and err.count("\n") == 1


def test_help_says_what_the_data_is_and_shows_commands():
    code, out, _ = run(translate.main, "--help")
    assert code == 0 and "source TAB target" in out and "--sampling K" in out and "python -m models.translate" in out


def test_the_neighbour_cannot_be_right_about_all_dates():
    rows = translate.dates(1000)
    neighbours = translate.Neighbours(rows[:800])
    right = Counter()
    for row in rows[800:]:
        in_words = any(ordinal(word) for word in re.findall("[a-z-]+", row.source.lower()))
        right[in_words, neighbours.translate(row.source) == row.target] += 1
    shares = {kind: right[kind, True] / (right[kind, True] + right[kind, False]) for kind in (True, False)}
    assert shares[True] < 0.5 < shares[False] < 0.95
