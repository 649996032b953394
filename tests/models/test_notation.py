"""The notation of tunes: what is written is read, what is played is heard, and what is wrong is named."""

from __future__ import annotations

import re
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad import errors
from models import melodies, music, notation
from models.notation import Note, Plan, Tune
from tests.models.helpers import run

WRITTEN = notation.read(melodies.TUNES, "melodies")
TUNES = [notation.to_c(tune) for tune in WRITTEN]
HEAD = "T: t\nM: 4/4\nL: 1/4\nK: {}\n"
QUARTER = notation.WHOLE // 4


def pitches(text: str, key: str = "C") -> list[int | None]:
    (tune,) = notation.read(HEAD.format(key) + text, "x")
    return [note.pitch for note in tune.notes]


# As text


@pytest.mark.parametrize(
    "key, text, expected",
    [
        ("C", "C, C c c'", [48, 60, 72, 84]),
        ("C", "D E F G|A B z4/2", [62, 64, 65, 67, 69, 71, None]),
        ("G", "F f =F F|F z3", [66, 78, 65, 65, 66, None]),
        ("Eb", "A B E D", [68, 70, 63, 62]),
        ("F#", "C D E F", [61, 63, 65, 66]),
        ("Em", "F G ^G G|G4", [66, 67, 68, 68, 67]),
        ("C minor", "E A B C", [63, 68, 70, 60]),
        ("D dorian", "E F B c", [64, 65, 71, 72]),
        ("Emix", "C D F G", [61, 62, 66, 68]),
        ("C", "_B ^A _C' B", [70, 70, 71, 70]),
    ],
)
def test_pitches_are_those_of_the_key_and_its_accidentals(key, text, expected):
    """Worked out by hand from the signatures; an accidental lasts until the end of its bar, in every octave."""
    assert pitches(text, key) == expected


def test_lengths_are_multiples_of_the_unit():
    (tune,) = notation.read(HEAD.format("C") + "A2 A/ A/2 A3/4 A/4|A3/2z5/2", "x")
    assert [note.length / QUARTER for note in tune.notes] == [2, 0.5, 0.5, 0.75, 0.25, 1.5, 2.5]


def test_a_tune_has_its_meter_mode_upbeat_and_bars():
    text = (
        "% by hand\nX: 1\nT: a title\nM: 3/4\nL: 1/8\nK: Am\n|: A2 | cdefga | a6 :|\nw: la la\ne4 |]\n\n\n"
        + HEAD.format("F")
        + "F4|"
    )
    first, second = notation.read(text, "x")
    assert (first.line, first.title, first.tonic) == (1, "a title", 9)
    assert first.plan == Plan("3/4", "minor", QUARTER, 9 * QUARTER) and first.plan.bars == 3
    assert (second.line, second.tonic, second.plan) == (12, 5, Plan("4/4", "major", 0, 4 * QUARTER))


@pytest.mark.parametrize(
    "text, line, said",
    [
        ("M: 4/4\nL: 1/4\nK: C\nCCCC|CCC|CCCC|", 4, "bars of 4/4, got 3/4 in bar 2"),
        ("M: 4/4\nL: 1/4\nK: C\nCCCC|\nCCCCC|", 5, "bars of 4/4, got 5/4 in bar 2"),
        ("M: 4/4\nL: 1/4\nK: C\nC|CCCC|CC|", 4, "bars of 4/4, got 1/2 in bar 3"),
        ("M: 4/4\nL: 1/4\nK: C\nCCC|", 4, "bars of 4/4, got 3/4 in bar 1"),
        ("M: 4/4\nL: 1/4\nK: C\nCC-CC|", 4, "a note such as ^F3/2 or c', a rest z or a bar line |, got '-CC|'"),
        ("M: 4/4\nL: 1/4\nK: C\nCC0C|", 4, "a note such as .*got 'C0C|'"),
        ("M: 4/4\nL: 1/4\nK: C\nCC/0C|", 4, "a note such as .*got 'C/0C|'"),
        ("M: 4/4\nL: 1/4\nK: C\n^z", 4, "a note such as "),
        ("M: 4/4\nL: 1/4\nK: C\nC,,,,,,C", 4, "a pitch from 0 to 127.*'C,,,,,,'"),
        ("M: 4/4\nL: 1/4\nK: C\nC/7C", 4, "a length of whole ticks, 1920 to a whole note, got 'C/7'"),
        ("M: four\nL: 1/4\nK: C\nC4|", 1, "a meter such as M: 3/4, got 'M: four'"),
        ("M: 4/4\nL: 2\nK: C\nC4|", 2, "a length such as L: 1/8, got 'L: 2'"),
        ("M: 4/4\nL: 1/4\nK: H\nC4|", 3, "a key such as K: G or Am, got 'K: H'"),
        ("M: 4/4\nL: 1/4\nK: G#\nC4|", 3, "a key such as"),
        ("M: 4/4\nL: 1/4\nK: c\nC4|", 3, "a key such as"),
        ("M: 4/4\nK: C\nC4|", 3, "the field L: before the notes"),
        ("M: 4/4\nL: 1/4\nK: C\nC4|\nK: G\nG4|", 5, "M:, L: and K: before the notes"),
    ],
)  # fmt: skip
def test_what_is_malformed_is_named_by_file_line_and_what_was_expected(text, line, said, tmp_path):
    path = tmp_path / "tunes.abc"
    path.write_text("% a first line\n\n" + text + "\n")
    code, _, err = run(music.main, "--data", path, "--out", tmp_path / "run")
    assert code == 2
    named, message = err.split(": expected ", 1)
    assert named == f"music: {path}, line {line + 2}"
    assert re.match(said.replace("|", r"\|").replace("^", r"\^"), message), message


@st.composite
def tunes(draw) -> Tune:
    """Tunes on the tonic C, of any pitches, whose bars add up."""
    meter = draw(st.sampled_from(["2/4", "3/4", "4/4", "6/8"]))
    bar = notation.bar_of(meter)
    rooms = [bar] * draw(st.integers(1, 6))
    upbeat = draw(st.sampled_from([0, 120, 240, 480, 720]))
    rooms = [upbeat, *rooms] if upbeat else rooms
    if upbeat and draw(st.booleans()):
        rooms.append(bar - upbeat)
    notes = []
    for room in rooms:
        while room:
            length = draw(st.sampled_from([n for n in (30, 90, 120, 240, 360, 480, 720, 960, room) if n <= room]))
            notes.append(Note(draw(st.none() | st.integers(12, 115)), length))
            room -= length
    plan = Plan(meter, draw(st.sampled_from(list(notation.MODES))), upbeat, sum(note.length for note in notes))
    return Tune(1, "a title", 0, plan, notes)


@given(tunes())
def test_what_is_written_is_read_back(tune):
    assert notation.read(notation.write(tune), "x") == [tune]


def test_the_melodies_that_are_here_are_tunes():
    """That their bars add up is what `read` checks; they differ, end on the tonic or near, and can be sung."""
    assert len(WRITTEN) == 57
    assert len({tune.title for tune in WRITTEN}) == len({tuple(tune.notes) for tune in TUNES}) == 57
    assert {tune.plan.meter for tune in TUNES} == {"2/4", "3/4", "4/4", "6/8"}
    assert {tune.plan.mode for tune in TUNES} == {"major", "minor", "dorian"}
    ends = [[note.pitch for note in tune.notes if note.pitch][-1] % 12 for tune in TUNES]
    assert ends.count(0) >= 50
    for tune in TUNES:
        sung = [note.pitch for note in tune.notes if note.pitch is not None]
        assert max(sung) - min(sung) <= 17 and min(sung) >= 52 and max(sung) <= 77, tune.title
        leaps = np.abs(np.diff(sung))
        assert leaps.max() <= 15 and leaps.mean() < 4, tune.title  # 15 once, between two lines of Greensleeves


def test_a_tune_on_c_is_the_same_tune():
    for before, after in zip(WRITTEN, TUNES):
        shifts = {b.pitch - a.pitch for a, b in zip(before.notes, after.notes) if a.pitch is not None}
        assert len(shifts) == 1 and (shifts.pop() + before.tonic) % 12 == 0 and after.tonic == 0
        assert [note.length for note in before.notes] == [note.length for note in after.notes]


def test_errors_are_those_of_files():
    with pytest.raises(errors.FileFormatError, match="mine, line 4"):
        notation.read("M: 4/4\nL: 1/4\nK: C\nH", "mine")


# To be heard


def parse_midi(content: bytes) -> tuple[int, list[tuple[int, bytes]]]:
    """Ticks to a quarter, and (time in ticks, event) of a file of format 0: written from the specification."""
    kind, size, form, tracks, division = struct.unpack(">4sIHHH", content[:14])
    assert (kind, size, form, tracks) == (b"MThd", 6, 0, 1)
    kind, size = struct.unpack(">4sI", content[14:22])
    assert kind == b"MTrk" and len(content) == 22 + size
    at, now, events = 22, 0, []
    while at < len(content):
        delta = 0
        while True:
            byte, at = content[at], at + 1
            delta = delta * 128 + (byte & 0x7F)
            if byte < 0x80:
                break
        now += delta
        length = 3 + content[at + 2] if content[at] == 0xFF else 3
        assert content[at] in (0xFF, 0x80, 0x90)
        events.append((now, content[at : at + length]))
        at += length
    return division, events


def test_a_midi_file_is_that_of_the_specification_byte_by_byte():
    """Packed by hand: 120 quarters a minute are 500,000 µs each; 480 ticks are 0x83 0x60; a rest is waited for."""
    plan = Plan("6/8", "major", 0, 1440)
    tune = Tune(1, "", 0, plan, [Note(60, 480), Note(None, 240), Note(67, 480), Note(None, 240)])
    track = bytes.fromhex(
        "00 ff5103 07a120  00 ff5804 06031808  00 903c50 8360 803c00  8170 904350 8360 804300  8170 ff2f00"
    )
    header = bytes.fromhex("4d546864 00000006 0000 0001 01e0 4d54726b") + struct.pack(">I", len(track))
    assert notation.midi(tune, 120) == header + track


@given(tunes(), st.sampled_from([30.0, 90.0, 133.0]))
def test_a_midi_file_plays_the_notes_when_they_are_due(tune, tempo):
    division, events = parse_midi(notation.midi(tune, tempo))
    assert division == QUARTER
    assert events[0] == (0, b"\xff\x51\x03" + round(60_000_000 / tempo).to_bytes(3, "big"))
    over, under = map(int, tune.plan.meter.split("/"))
    assert events[1] == (0, bytes([0xFF, 0x58, 4, over, {4: 2, 8: 3}[under], 24, 8]))
    due, now = [], 0
    for note in tune.notes:
        if note.pitch is not None:
            due += [(now, bytes([0x90, note.pitch, 80])), (now + note.length, bytes([0x80, note.pitch, 0]))]
        now += note.length
    assert events[2:-1] == due
    assert events[-1] == (tune.plan.length, b"\xff\x2f\x00")


def test_the_sound_has_the_pitch_of_each_note_while_it_lasts_and_rests_are_silent():
    plan = Plan("4/4", "major", 0, 1920)
    tune = Tune(1, "", 0, plan, [Note(69, 480), Note(60, 480), Note(None, 480), Note(81, 480)])
    samples = notation.sound(tune, tempo=60)
    assert samples.shape == (4 * 22050 + 11025,) and np.abs(samples).max() == pytest.approx(0.8)
    for begin, hertz in ((0, 440.0), (1, 261.63), (3, 880.0)):
        part = samples[int((begin + 0.2) * 22050) : int((begin + 0.95) * 22050)]
        spectrum = np.abs(np.fft.rfft(part * np.hanning(len(part)), 8 * len(part)))
        assert np.argmax(spectrum) * 22050 / (8 * len(part)) == pytest.approx(hertz, abs=0.5)
    assert not samples[int(2.11 * 22050) : 3 * 22050].any()
    assert (
        np.abs(samples[:20]).max() < 0.1 and np.abs(samples[int(2.09 * 22050) : int(2.1 * 22050)]).max() < 0.02
    )  # nothing clicks


def test_the_longest_run_that_is_shared_is_found():
    tune = TUNES[0]
    run_of_8 = tune.notes[9:17]
    other = [Note(61, 30), *run_of_8, Note(61, 30)]
    assert notation.longest_shared(other, TUNES) == (8, tune.title)
    assert notation.longest_shared(tune.notes, TUNES) == (len(tune.notes), tune.title)
    assert notation.longest_shared([Note(61, 30)], TUNES) == (0, "")
