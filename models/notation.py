"""Tunes as text, as MIDI and as sound.

The notation is a part of ABC. One tune is a block of lines, with an empty line after it:

    T: The Cuckoo             a title (other fields, such as X: and w:, are skipped, and what stands after %)
    M: 4/4                    the meter
    L: 1/4                    the length of a note without a number
    K: G                      the key: G, F#, Bb; Am or A minor, D dorian, E mixolydian
    G2 G/A/ B/G/ | ...        the notes

C to B are the notes from middle C up, c to b those above them; C, is an octave lower, c' one higher; ^F sharp, _B flat,
=B natural, until the bar ends; z a rest. A2 is twice as long, A/ half, A3/2 one and a half times, A3/4 three quarters.
A | ends a bar. The first bar may be an upbeat, which the last may lack. There are no chords, ties or triplets.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from fractions import Fraction
from functools import cache
from typing import NamedTuple, NoReturn

import numpy as np

from minigrad import errors

NATURAL = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}  # semitones above C
FIFTHS = "FCGDAEB"  # in this order keys raise the letters, and from its end they lower them
MODES = {"major": 0, "minor": -3, "dorian": -2, "mixolydian": -1}  # how many letters more (below 0: fewer) are raised
KEY = re.compile(r"([A-G])([#b]?) *(?:((?i:maj|min|dor|mix))[a-z]*|(m))?")
SIGN = re.compile(
    r" *(?:(?P<bar>\|[]|:]?|:\|)|(?:(?P<accidental>[_^=]?)(?P<letter>[A-Ga-g])(?P<octave>[',]*)|z)"
    r"(?P<times>\d*)(?P<slash>/?)(?P<under>(?<=/)\d*|)) *"
)
MIDDLE_C = 60  # as MIDI numbers it
WHOLE = 1920  # ticks of a whole note, in which all time is counted


class Note(NamedTuple):
    """A pitch, as MIDI numbers it, or None for a rest; and how long it lasts, in ticks."""

    pitch: int | None
    length: int


class Plan(NamedTuple):
    """What a tune is to be: the meter, such as "6/8"; the mode; the upbeat and the whole length, in ticks."""

    meter: str
    mode: str
    upbeat: int
    length: int

    @property
    def bar(self) -> int:
        """How many ticks a bar has."""
        return bar_of(self.meter)

    @property
    def bars(self) -> int:
        """How many bars there are after the upbeat."""
        return -(-(self.length - self.upbeat) // self.bar)


class Tune(NamedTuple):
    """A melody; the line where it begins, and its tonic, in semitones above C."""

    line: int
    title: str
    tonic: int
    plan: Plan
    notes: list[Note]

    @property
    def pitches(self) -> list[int]:
        """Those of its notes; middle C if it has none but rests."""
        return [note.pitch for note in self.notes if note.pitch is not None] or [MIDDLE_C]


def bar_of(meter: str) -> int:
    """How many ticks a bar of a meter such as "6/8" has."""
    over, under = map(int, meter.split("/"))
    return WHOLE * over // under


def onsets(notes: Sequence[Note], plan: Plan) -> Iterator[tuple[int, Note | None]]:
    """When each note begins, in ticks after the first bar line; and after the last, when it ends."""
    now = -plan.upbeat
    for note in notes:
        yield now, note
        now += note.length
    yield now, None


@cache
def sums(bar: int, lengths: tuple[int, ...]) -> frozenset[int]:
    """The times up to a bar that notes of these lengths can fill."""
    found, new = {0}, {0}
    while new := {time + length for time in new for length in lengths if time + length <= bar} - found:
        found |= new
    return frozenset(found)


def longest_shared(notes: Sequence[Note], tunes: Sequence[Tune]) -> tuple[int, str]:
    """The longest run of notes that a tune has too, and which one."""
    shared = [(SequenceMatcher(None, notes, tune.notes, False).find_longest_match().size, tune.title) for tune in tunes]
    return max([(0, ""), *shared], key=lambda pair: pair[0])


# As text


def read(text: str, name: str) -> list[Tune]:
    """The tunes of a text, each as it is written; `name` is what errors call the text. Raises FileFormatError."""
    blocks: list[list[tuple[int, str]]] = [[]]
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            blocks[-1].append((number, line.partition("%")[0].strip()))
        elif blocks[-1]:
            blocks.append([])
    return [_tune(block, name) for block in blocks if any(line for _, line in block)]


def _tune(block: list[tuple[int, str]], name: str) -> Tune:
    """The tune of a block of lines, each with its number."""

    def wrong(number: int, expected: str, got: str) -> NoReturn:
        raise errors.FileFormatError(f"{name}, line {number}: expected {expected}, got {got}")

    fields: dict[str, str] = {}
    bars: list[list[Note]] = [[]]
    ends: list[int] = []  # the line where each bar ends
    tonic, mode, signature, altered = 0, "major", dict[str, int](), dict[str, int]()
    for number, line in block:
        field = re.match(r"([A-Za-z]):(?!\|) *(.*)", line)
        if field:
            letter, value = field.groups()
            fields[letter] = value
            if letter in "MLK" and bars[0]:
                wrong(number, "M:, L: and K: before the notes", repr(line))
            if letter == "M" and not re.fullmatch(r"[1-9]\d?/(1|2|4|8|16)", value):
                wrong(number, "a meter such as M: 3/4", repr(line))
            if letter == "L" and not re.fullmatch(r"1/[1-9]\d?", value):
                wrong(number, "a length such as L: 1/8", repr(line))
            if letter == "K":
                tonic, mode, signature = _key(value) or wrong(number, "a key such as K: G or Am", repr(line))
            continue
        at = 0
        while at < len(line):
            missing = [key for key in "MLK" if key not in fields]
            if missing:
                wrong(number, f"the field {missing[0]}: before the notes", repr(line))
            sign = SIGN.match(line, at)
            if not sign or not int(sign["times"] or 1) or not int(sign["under"] or 1):
                wrong(number, "a note such as ^F3/2 or c', a rest z or a bar line |", repr(line[at : at + 12]))
            at = sign.end()
            if sign["bar"]:
                if bars[-1]:
                    bars.append([])
                    ends.append(number)
                    altered.clear()
                continue
            pitch = _pitch(sign, signature, altered) if sign["letter"] else None
            if pitch is not None and not 0 <= pitch < 128:
                wrong(number, "a pitch from 0 to 127, as MIDI numbers them", repr(sign[0].strip()))
            parts = int(fields["L"][2:]) * int(sign["under"] or (2 if sign["slash"] else 1))
            length, rest = divmod(WHOLE * int(sign["times"] or 1), parts)
            if rest:
                wrong(number, f"a length of whole ticks, {WHOLE} to a whole note", repr(sign[0].strip()))
            bars[-1].append(Note(pitch, length))

    bars = [bar for bar in bars if bar]
    ends.append(block[-1][0])
    title, meter = fields.get("T", f"the tune of line {block[0][0]}"), fields.get("M", "4/4")
    lengths, full = [sum(note.length for note in bar) for bar in bars], bar_of(meter)
    upbeat = lengths[0] if len(bars) > 1 and lengths[0] < full else 0
    for i, length in enumerate(lengths):
        may_be_short = upbeat > 0 if i == 0 else i == len(bars) - 1 and length + upbeat == full
        if length != full and not may_be_short:
            wrong(ends[i], f"bars of {meter}", f"{Fraction(length, WHOLE)} in bar {i + 1} of {title!r}")
    plan = Plan(meter, mode, upbeat, sum(lengths))
    return Tune(block[0][0], title, tonic, plan, [note for bar in bars for note in bar])


def _pitch(sign: re.Match[str], signature: dict[str, int], altered: dict[str, int]) -> int:
    """The pitch of a letter; `altered` is what the bar's accidentals have done, and learns of this one."""
    letter = sign["letter"].upper()
    if sign["accidental"]:
        altered[letter] = "_=^".index(sign["accidental"]) - 1
    octave = sign["letter"].islower() + sign["octave"].count("'") - sign["octave"].count(",")
    return MIDDLE_C + 12 * octave + NATURAL[letter] + altered.get(letter, signature.get(letter, 0))


def _key(text: str) -> tuple[int, str, dict[str, int]] | None:
    """The tonic, the mode and the signature; None for what is no key, and for more than seven sharps or flats."""
    found = KEY.fullmatch(text)
    if not found:
        return None
    mode = "minor" if found[4] else next(m for m in MODES if m.startswith((found[3] or "maj").lower()))
    alter = {"#": 1, "b": -1, "": 0}[found[2]]
    sharps = FIFTHS.index(found[1]) - 1 + 7 * alter + MODES[mode]
    return ((NATURAL[found[1]] + alter) % 12, mode, _signature(sharps)) if abs(sharps) <= 7 else None


def _signature(sharps: int) -> dict[str, int]:
    """By how much a key of so many sharps (below 0: flats) raises letters."""
    return dict.fromkeys(FIFTHS[:sharps], 1) if sharps >= 0 else dict.fromkeys(FIFTHS[sharps:], -1)


def write(tune: Tune) -> str:
    """A tune on the tonic C in the notation, which `read` reads back."""
    plan = tune.plan
    signature, altered = _signature(MODES[plan.mode]), dict[str, int]()
    key = "C" if plan.mode == "major" else f"C {plan.mode}"
    text = f"T: {tune.title}\nM: {plan.meter}\nL: 1/8\nK: {key}\n"
    for now, note in onsets(tune.notes, plan):
        if note is None:
            break
        if now % plan.bar == 0 and now > -plan.upbeat:
            altered.clear()
            text += "|\n" if now and now % (4 * plan.bar) == 0 else "| "
        pitch = "z" if note.pitch is None else _spelled(note.pitch, signature, altered)
        text += pitch + re.sub(r"^1\b", "", str(Fraction(note.length, WHOLE // 8))) + " "
    return text + "|"


def _spelled(pitch: int, signature: dict[str, int], altered: dict[str, int]) -> str:
    """A pitch as a letter, with its octave and, where the bar does not know it yet, its accidental; see `_pitch`."""
    ways = [(a, letter) for letter in NATURAL for a in (-1, 0, 1) if (NATURAL[letter] + a - pitch) % 12 == 0]
    alter, letter = min(ways, key=lambda way: (way[0] != signature.get(way[1], 0), way[0] != 0, way[0] < 0, way[1]))
    accidental = "_=^"[alter + 1] if altered.get(letter, signature.get(letter, 0)) != alter else ""
    altered[letter] = alter
    octave = (pitch - alter - MIDDLE_C) // 12
    return accidental + (letter.lower() + "'" * (octave - 1) if octave > 0 else letter + "," * -octave)


def to_c(tune: Tune) -> Tune:
    """The tune on the tonic C, in the octave in which its mean pitch is nearest to E above middle C."""
    shift = -tune.tonic + 12 * round((MIDDLE_C + 4 - float(np.mean(tune.pitches)) + tune.tonic) / 12)
    notes = [Note(None if note.pitch is None else note.pitch + shift, note.length) for note in tune.notes]
    return tune._replace(tonic=0, notes=notes)


# To be heard


def midi(tune: Tune, tempo: float) -> bytes:
    """A standard MIDI file of one track, format 0, 480 ticks to a quarter; tempo: quarters a minute."""
    over, under = map(int, tune.plan.meter.split("/"))
    track = b"\0\xff\x51\x03" + round(60e6 / tempo).to_bytes(3, "big")
    track += b"\0\xff\x58\x04" + bytes([over, under.bit_length() - 1, 24, 8])
    rest = 0
    for note in tune.notes:
        if note.pitch is None:
            rest += note.length
        else:
            track += _variable(rest) + bytes([0x90, note.pitch, 80])
            track += _variable(note.length) + bytes([0x80, note.pitch, 0])
            rest = 0
    track += _variable(rest) + b"\xff\x2f\0"
    return b"MThd" + struct.pack(">IHHH", 6, 0, 1, WHOLE // 4) + b"MTrk" + struct.pack(">I", len(track)) + track


def _variable(number: int, high: int = 0) -> bytes:
    """A number in groups of seven bits, the highest first, each but the last with its high bit set."""
    return (_variable(number >> 7, 128) if number > 127 else b"") + bytes([number & 127 | high])


def sound(tune: Tune, tempo: float, rate: int = 22050) -> np.ndarray:
    """The tune as sound: for each note six partials, the higher the softer and the sooner gone; samples in [-1, 1]."""
    tick = 240 / tempo / WHOLE  # seconds
    samples = np.zeros(round(tune.plan.length * tick * rate) + rate // 2)
    for now, note in onsets(tune.notes, tune.plan):
        if note is None or note.pitch is None:
            continue
        begin, seconds = round((now + tune.plan.upbeat) * tick * rate), note.length * tick
        t = np.arange(round((seconds + 0.1) * rate)) / rate
        envelope = np.minimum(t / 0.01, 1) * np.clip((seconds + 0.1 - t) / 0.12, 0, 1)  # so that nothing clicks
        pitch = 440 * 2 ** ((note.pitch - 69) / 12)
        for k in range(1, 7):
            if k * pitch < rate / 2:
                part = envelope * np.exp(-1.5 * k * t) * np.sin(2 * np.pi * k * pitch * t) / k**1.5
                samples[begin : begin + len(t)] += part[: len(samples) - begin]
    return 0.8 * samples / max(np.abs(samples).max(), 1e-9)
