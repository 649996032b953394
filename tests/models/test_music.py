"""Melodies: a network that is told the beat, baselines that are right, and a tune that is no copy."""

from __future__ import annotations

import json
import math
import re
import shlex
import signal

import numpy as np
import pytest

import minigrad as mg
from minigrad import data
from models import melodies, music, notation
from models.notation import Note, Plan, Tune
from tests.models.helpers import run, tables
from tests.models.test_notation import parse_midi

TUNES = [notation.to_c(tune) for tune in notation.read(melodies.TUNES, "melodies")]
ALPHABET = music.Alphabet.of(TUNES)
SMALL = ["--hidden", 16, "--epochs", 4, "--rate", 0.05, "--bars", 8]


# What the network knows


def test_the_network_sees_the_place_in_the_bar_what_fits_and_what_stood_there():
    """By hand: an upbeat of a quarter, then bars of C D E | C D E, in an alphabet of these and two lengths."""
    lines = "T: t\nM: 3/4\nL: 1/4\nK: C\nC | C D E | C D2 | C2 |"
    (tune,) = notation.read(lines, "x")
    alphabet = music.Alphabet.of([tune])
    assert (alphabet.pitches, alphabet.lengths, alphabet.places) == ([60, 62, 64], [480, 960], [0, 480, 960])
    inputs, earlier, fits = music.view(tune.notes, tune.plan, alphabet, "bars")
    P, L, clock = 3, 2, 6
    assert inputs.shape == (len(tune.notes) + 1, alphabet.sizes[1]) == (8, 6 + 3 + 4 + 6 + 8)
    assert inputs[0, :clock].tolist() == [0, 0, 0, 0, 0, 1]  # nothing before the first
    assert inputs[3, :clock].tolist() == [0, 1, 0, 1, 0, 0]  # D, a quarter
    places = inputs[:, clock : clock + 3].argmax(axis=1)
    assert places[:-1].tolist() == [2, 0, 1, 2, 0, 1, 0]
    bars = inputs[:, clock + 3 : clock + 7].argmax(axis=1)
    assert bars[:-1].tolist() == [3, 0, 0, 0, 1, 1, 2]  # -1, 0, 1, 2, modulo 4
    left = inputs[:, clock + 7 : clock + 13].argmax(axis=1)
    assert left[:-1].tolist() == [3, 2, 2, 2, 1, 1, 0]
    assert fits[:-1].tolist() == [[1, 0], [1, 1], [1, 1], [1, 0], [1, 1], [1, 1], [1, 2]]
    stood = np.zeros((8, len(music.BACK), P + L))
    stood[3, 0, [0, P]] = 1  # E, where a bar ago the upbeat C stood
    stood[4, 0, [0, P]] = 1  # C after C, a quarter
    stood[5, 0, [1, P]] = 1  # D, a quarter
    stood[6, 0, [0, P]] = stood[6, 1, [0, P]] = 1  # the last C: a bar ago C, two bars ago C
    assert np.array_equal(earlier[:-1], stood[:-1])
    repeated = inputs[:, -4:]
    assert repeated[:, 0].tolist()[4:7] == [0, 1, 0]  # the notes before: E is not C; C is C; D2 is not D
    inputs, earlier, fits = music.view(tune.notes, tune.plan, alphabet, "notes")
    assert fits.all() and not earlier.any() and not inputs[:, clock:].any()


def test_what_a_note_is_predicted_from_is_before_it():
    """Another end of the tune changes no view of its beginning."""
    tune = TUNES[14]
    other = [*tune.notes[:20], *(Note(60, note.length) for note in tune.notes[20:])]
    for knows in music.KNOWS:
        a, b = (music.view(notes, tune.plan, ALPHABET, knows) for notes in (tune.notes, other))
        assert all(np.array_equal(x[:21], y[:21]) for x, y in zip(a, b))
    assert not np.array_equal(a[0], b[0])


@pytest.mark.parametrize("cell", ["elman", "lstm", "clockwork", "scrn", "jordan"])
def test_the_surprise_of_a_batch_is_that_of_its_rows_and_of_its_steps(cell):
    """Side by side with padding, alone, and one step at a time as in composing: the same."""
    with mg.seed(0):
        model = music.Composer(ALPHABET, music.command.cell(cell), 8)
        model.pair.data[:] = mg.random.normal(model.pair.shape).data
    model.eval()
    pair = [TUNES[3], TUNES[26]]
    examples = [music.example(tune, ALPHABET, "bars") for tune in pair]
    with mg.no_grad():
        both = model.surprise(music.collate(examples)).numpy()
        for row, (tune, example) in enumerate(zip(pair, examples)):
            alone = model.surprise(music.collate([example])).numpy()[:, 0]
            n = len(tune.notes)
            assert np.isfinite(both).all() and not both[n:, row].any()
            assert np.allclose(both[:n, row], alone, rtol=1e-4, atol=1e-5)
            state = model.writer.begin(mg.tensor(example[0][None]))
            for i in range(6):
                inputs, earlier, fits = music.view(tune.notes[:i], tune.plan, ALPHABET, "bars")
                out, state = model.writer.step(state, mg.tensor(inputs[-1:]))
                logits = model.logits(out, earlier[-1:], fits[-1:]).numpy()[0].astype("float64")
                assert math.isclose(np.log(np.exp(logits).sum()) - logits[example[-1][i]], alone[i], rel_tol=1e-3)


def test_the_probabilities_of_notes_that_fit_sum_to_one_and_the_others_are_zero():
    with mg.seed(0):
        model = music.Composer(ALPHABET, music.command.cell("gru"), 8)
    _, earlier, fits = music.view([Note(60, 1440)], Plan("4/4", "major", 0, 4 * 1920), ALPHABET, "bars")
    logits = model.logits(mg.zeros((1, 8)), earlier[-1:], fits[-1:])
    shares = mg.softmax(logits).numpy().reshape(len(ALPHABET.pitches), -1)
    assert shares.sum() == pytest.approx(1, abs=1e-5)
    longer = np.array(ALPHABET.lengths) > 480
    assert (shares[:, longer] == 0).all() and (shares[:, ~longer] > 0).all()


def test_an_alphabet_survives_json_and_numbers_every_pair_once():
    again = music.Alphabet(**json.loads(json.dumps(vars(ALPHABET))))
    assert again == ALPHABET
    assert [again.token(again.note(i)) for i in range(len(again))] == list(range(len(again)))


# The baseline


def test_markov_models_are_right_on_a_case_done_by_hand():
    """One tune C C has been learned, and C is asked, of an alphabet of two pitches and a single length.

    Symbols - C C - among 3. Order 0, by Witten and Bell: (2 + 2/3) / (4 + 2), as C stood 2 times of 4, of 2 kinds.
    Order 1, after -: it was followed by C once: (1 + that) / 2. In turn, with 1/4 for a symbol of 4 and the 7 symbols
    - l C l C l? - no: - l C l C -: l stood 2 times of 6, C 2 times, of 3 kinds: (2 + 3/4) / 9 each.
    """
    quarter, plan = Note(60, 480), Plan("2/4", "major", 0, 960)
    known, asked = Tune(1, "", 0, plan, [quarter] * 2), Tune(1, "", 0, plan, [quarter])
    alphabet = music.Alphabet.of([known, Tune(1, "", 0, plan, [Note(62, 480)])])
    bits = [*music.markov([known], asked, alphabet, order=1).values()]
    p0 = (2 + 2 / 3) / 6
    assert bits[:2] == pytest.approx([-math.log2(p0), -math.log2((1 + p0) / 2)])
    q0 = (2 + 3 / 4) / 9
    length, pitch = (1 + q0) / 2, (2 + q0) / 3  # after -: l, once; after l: C, twice
    assert bits[2:4] == pytest.approx([-2 * math.log2(q0), -math.log2(length) - math.log2(pitch)])
    assert len(bits) == 2 + 4


# A new tune


def test_the_piano_roll_shows_every_note_where_it_is():
    tune = TUNES[15]  # with an upbeat, and a rest
    figure = music.piano_roll(tune)
    (axes,) = figure.axes
    boxes = [c.get_paths()[0].get_extents() for c in axes.collections if type(c).__name__ == "PolyCollection"]
    due = [(now, note) for now, note in music.onsets(tune.notes, tune.plan) if note and note.pitch is not None]
    assert len(boxes) == len(due)
    for box, (now, note) in zip(boxes, due):
        assert (box.x0, box.x1) == pytest.approx((now / 480, (now + note.length) / 480))
        assert (box.y0 + box.y1) / 2 == pytest.approx(note.pitch)
    assert "quarter notes" in axes.get_xlabel() and axes.get_ylabel() == "pitch"
    names = {label.get_text() for label in axes.get_yticklabels()}
    assert {"C4", "G4", "E♭4"} <= names
    lines = [
        path.vertices[0, 0] for c in axes.collections if type(c).__name__ == "LineCollection" for path in c.get_paths()
    ]
    assert lines == [3.0 * i for i in range(tune.plan.bars + 1)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small setting, trained once."""
    folder = tmp_path_factory.mktemp("music")
    path = folder / "tunes.abc"
    path.write_text("\n\n".join(notation.write(tune) for tune in TUNES[:14]) + "\n\n% no tune\nT: nothing in it\n")
    code, out, err = run(music.main, "--data", path, "--out", folder / "run", *SMALL)
    assert (code, err) == (0, "")
    return path, folder / "run", out


def test_the_network_beats_every_markov_model(trained):
    _, _, out = trained
    (rows,) = tables(out)
    bits = {row["model"]: float(row["bits/note"]) for row in rows}
    assert [name for name in bits if name.startswith("Markov")][:5] == [f"Markov model of order {k}" for k in range(5)]
    assert any("in turn" in name for name in bits) and len(bits) == 9
    best = min(value for name, value in bits.items() if name.startswith("Markov"))
    assert bits["gru, and what stood bars ago"] < best - 0.5
    assert "left out: 1 empty (line " in out


def test_a_new_tune_is_heard_seen_and_read(trained):
    _, folder, out = trained
    (tune,) = notation.read(re.search(r"\n(T: A new tune.*?)\n\n", out, re.DOTALL)[1], "x")
    assert tune.plan == Plan("4/4", "major", 0, 8 * 1920)
    _, events = parse_midi((folder / "tune.mid").read_bytes())
    assert [event[1] for _, event in events if event[0] == 0x90] == [n.pitch for n in tune.notes if n.pitch is not None]
    rate, samples = data.read_wav(folder / "tune.wav")
    assert rate == 22050 and len(samples) == 16 * rate + rate // 2 and np.abs(samples).max() > 0.5
    assert (folder / "tune.png").stat().st_size > 5000 and (folder / "curves.png").is_file()
    assert re.search(rf"shares with a tune it learned from: \d+ of {len(tune.notes)}, with ", out)


def test_more_tunes_are_composed_without_training_as_asked_for(trained):
    path, folder, _ = trained
    ask = ["--data", path, "--out", folder, "--sample-only", "--meter", "3/4", "--bars", 12, "--tempo", 60]
    code, out, err = run(music.main, *ask)
    assert (code, err) == (0, "") and "held out" not in out
    (tune,) = notation.read(re.search(r"\n(T: .*?)\n\n", out, re.DOTALL)[1], "x")
    assert tune.plan == Plan("3/4", "major", 0, 12 * 1440)
    assert len(data.read_wav(folder / "tune.wav")[1]) == 36 * 22050 + 11025
    heard = (folder / "tune.mid").read_bytes()
    assert run(music.main, *ask)[1] == out and (folder / "tune.mid").read_bytes() == heard  # the same seed


def test_a_seed_is_a_tune_and_at_temperature_0_there_is_one(trained):
    _, folder, _ = trained
    model, about = music.command.load(
        music.command.parse_args(["--out", str(folder)]),
        lambda a: music.Composer(music.Alphabet(**a["alphabet"]), music.command.cell(a["cell"]), a["hidden"]),
    )
    plan, alphabet = Plan("4/4", "major", 0, 4 * 1920), music.Alphabet(**about["alphabet"])

    def composed(seed: int, temperature: float) -> list[Note]:
        with mg.seed(seed):
            return music.compose(model, alphabet, plan, temperature)

    assert composed(1, 1.0) == composed(1, 1.0) != composed(2, 1.0)
    assert composed(1, 0) == composed(2, 0)
    for seed in range(3):  # however wild, the bars add up
        tune = Tune(1, "a title", 0, plan, composed(seed, 50.0))
        assert notation.read(notation.write(tune), "x") == [tune]


@pytest.mark.parametrize(
    "options, said",
    [
        (["--meter", "7/8"], r"--meter 7/8: learned were .*4/4"),
        (["--mode", "mixolydian"], "--mode mixolydian: learned were major, minor, dorian"),
        (["--bars", "100"], "--bars 100: a tune has 64 at most"),
        (["--temperature", "-1"], "--temperature: must be 0 or more"),
        (["--cell", "nope"], "--cell nope"),
        (["--tempo", "2"], "--tempo: must be from 10 to 1000"),
    ],
)
def test_what_cannot_be_composed_is_said(options, said, tmp_path):
    code, out, err = run(music.main, "--out", tmp_path, *options)
    assert code == 2 and re.search(said, err) and "tunes of" not in out


def test_too_few_tunes_are_told_and_a_file_that_is_not_there(tmp_path):
    path = tmp_path / "few.abc"
    path.write_text("\n\n".join(notation.write(tune) for tune in TUNES[:3]))
    code, _, err = run(music.main, "--data", path, "--out", tmp_path / "run")
    assert code == 2 and f"{path}: 3 tunes are too few; 10 are the least" in err
    code, _, err = run(music.main, "--data", tmp_path / "none.abc", "--out", tmp_path / "run")
    assert code == 2 and "none.abc" in err


def test_help_documents_the_notation():
    code, out, _ = run(music.main, "--help")
    assert code == 0 and "C, is an octave lower" in out and "--temperature" in out and "one block" not in out
    example = "\n".join(line.split("   ")[0] for line in re.findall(r"\n    ([TMLK]: .*)", out))
    assert [key[0] for key in example.splitlines()] == list("TMLK")
    assert notation.read(example + "\nG2 G/A/ B/G/|", "help")[0].plan.meter == "4/4"


def test_every_note_of_every_tune_fits_and_the_last_alone_ends_it():
    for tune in TUNES:
        _, _, fits = music.view(tune.notes, tune.plan, ALPHABET, "bars")
        lengths = [ALPHABET.lengths.index(note.length) for note in tune.notes]
        assert fits[np.arange(len(lengths)), lengths].tolist() == [1] * (len(lengths) - 1) + [2]


def test_a_training_that_is_over_is_gone_on_with(trained):
    path, folder, out = trained
    code, resumed, err = run(music.main, "--data", path, "--out", folder, *SMALL, "--resume")
    assert (code, err) == (0, "")
    assert tables(resumed) == tables(out) and resumed.split("T: A new")[1] == out.split("T: A new")[1]


def test_ctrl_c_within_the_parts_is_gone_on_with_and_the_table_is_as_if_it_never_came(trained, tmp_path, monkeypatch):
    path, _, out = trained
    ask = ["--data", path, "--out", tmp_path / "run", *SMALL]
    runs, loss = [], music.Composer.loss

    def interrupted(model, batch, state):
        runs.append(model)
        if len(set(map(id, runs))) == 6 and runs.count(model) == 5:  # of the second part the second network
            signal.raise_signal(signal.SIGINT)
        return loss(model, batch, state)

    with monkeypatch.context() as patch:
        patch.setattr(music.Composer, "loss", interrupted)
        code, stopped, err = run(music.main, *ask)
    assert (code, err) == (130, "")
    assert stopped.splitlines()[-1].endswith(shlex.join([str(word) for word in ask] + ["--resume"]))
    assert "part 1 of 5" in stopped and "part 2 of 5" not in stopped
    trainings = {str(file.parent.relative_to(tmp_path / "run")) for file in tmp_path.rglob("last.safetensors")}
    assert trainings == {".", "part1/notes", "part1/beat", "part1/bars", "part2/notes", "part2/beat"}
    code, _, err = run(music.main, *ask)
    assert code == 2 and "holds a training that was stopped after step" in err and "part2/beat" in err
    code, resumed, err = run(music.main, *ask, "--resume")
    assert (code, err) == (0, "")
    assert resumed.replace(str(tmp_path / "run"), "") == out.replace(str(path.parent / "run"), "")
