"""Speech: a bidirectional LSTM hears which digits were said, and is never told when: it learns by CTC.

    python -m models.speech                          learn spoken digits, made by the synthesiser below
    python -m models.speech --data FILE              learn from recordings: on each line a WAV file, a tab, its labels
    python -m models.speech --apply FILE.wav         what the trained network hears in a recording

--data: the paths are relative to FILE; labels are words (or letters, or phonemes) with spaces between them, in the
order in which they are said. WAV files of any sample rate become 8 kHz.

An utterance is one to five digits, perhaps the same one twice in a row, which is why CTC needs its blank. What has to
be beaten is a network without memory, that hears each 45 ms by themselves and learns by the same CTC. It must fail on
some words: "nine" has no sound that is not in "one" or "five" too; only what comes before and after tells. The
measure is the label error rate: the labels to be put in, taken out or replaced, per label that was said.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import minigrad as mg
from minigrad import data, nn, train, viz
from minigrad.viz import style
from models.command_line import CommandLine, fail, keep, positive, table

RATE = 8000  # samples a second, as on the telephone
BATCH = 16
LONGEST = 3000  # frames of a recording to learn from: 30 s

# The synthesiser: pulses of the glottis and hiss, through the resonances of a vocal tract that moves

# How long a sound is, where the tract of a man resonates (Hz; F1 to F3 of the vowels: the means of Peterson and Barney
# 1952; of the consonants: Klatt 1980), how loud voice and hiss are, and the band that the hiss is in (Hz).
TABLE = """
     ms   F1    F2    F3   voice  hiss  centre  width
IY  110  270  2290  3010    1.0   0.0        0      1
IH   80  390  1990  2550    1.0   0.0        0      1
EH   95  530  1840  2480    1.0   0.0        0      1
AA   95  730  1090  2440    1.0   0.0        0      1
AO  110  570   840  2410    1.0   0.0        0      1
AH   95  640  1190  2390    1.0   0.0        0      1
UH   60  440  1020  2240    1.0   0.0        0      1
UW  120  300   870  2240    1.0   0.0        0      1
W    60  290   610  2150    0.6   0.0        0      1
R    60  310  1060  1380    0.6   0.0        0      1
N    65  480  1340  2470    0.3   0.0        0      1
V    50  220  1100  2080    0.3   0.06    2500   1500
Z    75  240  1390  2530    0.25  0.25    3700    500
S    95  320  1390  2530    0.0   0.5     3700    500
F    85  340  1100  2080    0.0   0.12    2500   1500
TH   80  320  1290  2540    0.0   0.12    3000   1500
T    30  400  1600  2600    0.0   0.6     3200    700
K    30  300  1990  2850    0.0   0.6     1900    400
-    50  400  1500  2500    0.0   0.0        0      1
"""  # the last one is silence: the gap before the burst of T and K, and the pause between words
ROWS = [row.split() for row in TABLE.strip().splitlines()[1:]]
SOUNDS = {row[0]: i for i, row in enumerate(ROWS)}
VALUES = np.array([row[1:] for row in ROWS], np.float32)
BANDWIDTHS = (60, 90, 150)  # of the resonances, Hz
WORDS = {
    "zero": "Z IH R AO UH",
    "one": "W AH N",
    "two": "- T UW",
    "three": "TH R IY",
    "four": "F AO R",
    "five": "F AA IH V",
    "six": "S IH - K S",
    "seven": "S EH V AH N",
    "eight": "EH IH - T",
    "nine": "N AA IH N",
}
HOP, SIZE = 80, 240  # samples: a step of 10 ms, and how long what begins in it can ring
NOISE, SPEED = (5, 30), (0.8, 1.25)  # what is trained with: decibels below the speech, and how fast beside the table
FREQUENCIES = np.fft.rfftfreq(SIZE, 1 / RATE).astype(np.float32)
FADE = np.hanning(2 * HOP + 1)[:-1]  # that of one step and of the next sum to 1


class Speaker(NamedTuple):
    """A voice: its mean pitch (Hz), its resonances beside a man's, and how it says each sound (sounds, 3), near 1."""

    pitch: float
    scale: float
    accent: np.ndarray


def speaker(low: float = 0.95, high: float = 1.2) -> Speaker:
    """Somebody. The resonances' scale is uniform in this range: men are at about 1, women at 1.17, children above 1.25.

    The pitch goes with it: 125 scale^3.3 Hz, give or take 10%. Each resonance of each sound is off by some 4%.
    """
    random = mg.random.generator()
    scale = random.uniform(low, high)
    pitch = 125 * scale**3.3 * np.exp(0.1 * random.normal())
    return Speaker(pitch, scale, np.exp(0.04 * random.normal(size=(len(VALUES), 3))).astype(np.float32))


def synthesise(words: Sequence[str], who: Speaker, speed: float = 1.0, noise: float = 30.0) -> np.ndarray:
    """What somebody says, one word at least, as samples float32 (N,) in [-1, 1], at 8 kHz.

    speed: 2 takes half the time. Besides, every sound is some 15% longer or shorter, and pauses are drawn with a mean
        of 70 ms; the next word may follow at once. noise: how many decibels the white noise is below the speech, each
        in its mean power.

    The resonances glide from sound to sound in some 70 ms, so that no sound is the same in two words. Within an
    utterance the pitch falls by a quarter and wavers, and the loudness of words differs by some 3 dB. Left out are
    the zeros of nasals, aspiration, and resonances above the third.
    """
    random = mg.random.generator()
    parts = [["-"], *([*WORDS[word].split(), "-"] for word in words)]
    sounds = np.array([SOUNDS[sound] for part in parts for sound in part])
    ends = np.cumsum([len(part) for part in parts]) - 1  # the pauses
    ms = VALUES[sounds, 0] * np.exp(0.15 * random.normal(size=len(sounds)))
    ms[ends] = random.exponential(70, len(ends)) + np.isin(ends, ends[[0, -1]]) * 60
    loudness = np.repeat(10 ** (3 * random.normal(size=len(parts)) / 20), [len(part) for part in parts])

    values = VALUES[sounds, 1:]
    values[:, :3] *= who.scale * who.accent[sounds]
    values[:, 3:5] *= loudness[:, None]
    steps = np.maximum(1, np.round(ms / speed * RATE / 1000 / HOP)).astype(int)
    tracks = np.repeat(values, steps, axis=0)
    formants, (voice, hiss) = glide(tracks[:, :3], 7), glide(tracks[:, 3:5], 3).T[:, :, None]

    count = len(tracks)
    time = np.linspace(0, 1, count)
    waver = 0.05 * np.sin(2 * np.pi * (random.uniform(1, 3) * time + random.random()))
    pitch = who.pitch * (1.12 - 0.25 * time + waver + 0.02 * random.normal(size=count))
    turns = np.cumsum(np.repeat(pitch / RATE, HOP))
    pulses = np.diff(np.floor(turns), prepend=0) * (RATE / who.pitch) ** 0.5  # one a turn; their power is 1
    band = np.exp(-0.5 * ((FREQUENCIES - tracks[:, 5:6]) / tracks[:, 6:7]) ** 2)
    spectrum = pieces(pulses) * voice * tract(formants, who.scale)
    spectrum += pieces(random.normal(size=count * HOP)) * hiss * band
    rings = np.fft.irfft(spectrum, SIZE).reshape(count, -1, HOP)
    speech = np.zeros((count + SIZE // HOP, HOP))
    for i in range(SIZE // HOP):
        speech[i : i + count] += rings[:, i]
    flat = speech.ravel()
    heard = flat + random.normal(size=flat.size) * flat.std() * 10 ** (-noise / 20)
    return np.clip(heard / np.abs(flat).max() * 10 ** (random.uniform(-26, -6) / 20), -1, 1).astype(np.float32)


def tract(formants: np.ndarray, scale: float = 1.0) -> np.ndarray:
    """The resonances (T, 3) in Hz as a filter: its spectrum (T, bins), product of F^2 / (F^2 - f^2 + i f bandwidth)."""
    inverse: Any = 1
    for k, width in enumerate(BANDWIDTHS):
        ratio = FREQUENCIES / formants[:, k : k + 1]
        inverse = inverse * (1 - ratio**2 + 1j * (width * scale / formants[:, k : k + 1] * ratio))
    return 1 / inverse


def glide(tracks: np.ndarray, steps: int) -> np.ndarray:
    """Values (T, D) that jump, smoothed over so many steps, an odd number."""
    weights = np.hanning(steps + 2)[1:-1].astype(np.float32)
    padded = np.pad(tracks, ((steps // 2, steps // 2), (0, 0)), mode="edge")
    return sum(w * padded[i : i + len(tracks)] for i, w in enumerate(weights / weights.sum()))


def pieces(samples: np.ndarray) -> np.ndarray:
    """The spectra (T, bins) of windows of two steps, each a step after the one before; they overlap and sum to all."""
    rows = np.concatenate([np.zeros(HOP), samples]).reshape(-1, HOP)
    return np.fft.rfft(np.concatenate([rows[:-1], rows[1:]], axis=1) * FADE, SIZE).astype(np.complex64)


class Utterance(NamedTuple):
    """What was said, as it sounds, samples (N,), and as the network hears it, frames (T, BANDS). line: in its file."""

    line: int
    labels: list[str]
    samples: np.ndarray
    frames: np.ndarray


def digits(
    count: int, speakers: Sequence[Speaker], noise: tuple[float, float] = NOISE, speed: tuple[float, float] = SPEED
) -> list[Utterance]:
    """Utterances of one to five digits, each by one of the speakers, at a noise and a speed uniform in these ranges."""
    random, names, rows = mg.random.generator(), list(WORDS), []
    for line in range(1, count + 1):
        labels = [names[i] for i in random.integers(0, len(names), random.integers(1, 6))]
        who = speakers[int(random.integers(len(speakers)))]
        samples = synthesise(labels, who, random.uniform(*speed), random.uniform(*noise))
        rows.append(Utterance(line, labels, samples, hear(samples)))
    return rows


# The ear: loudness in bands that are as wide as the ear has them

WINDOW, SHIFT, BANDS = 200, 80, 24  # samples: 25 ms, every 10 ms
STACK = 3  # frames are one input of the networks, which so have a third of the steps


def mel_bands() -> tuple[np.ndarray, np.ndarray]:
    """The weights (bins, BANDS) of triangular bands, evenly on the mel scale from 100 Hz to 4 kHz; and their peaks."""
    low, high = 2595 * np.log10(1 + np.array([100, RATE / 2]) / 700)
    edges = 700 * (10 ** (np.linspace(low, high, BANDS + 2) / 2595) - 1)
    bins = np.fft.rfftfreq(SIZE, 1 / RATE)[:, None]
    rising, falling = (bins - edges[:-2]) / np.diff(edges)[:-1], (edges[2:] - bins) / np.diff(edges)[1:]
    return np.maximum(0, np.minimum(rising, falling)), edges[1:-1]


MEL, PEAKS = mel_bands()


def hear(samples: np.ndarray) -> np.ndarray:
    """The spectrogram: log power in mel bands (T, BANDS) of samples at 8 kHz, brought to a mean power of 1 before."""
    if len(samples) < WINDOW:
        return np.zeros((0, BANDS), np.float32)
    samples = samples / (np.sqrt(np.mean(samples**2)) + 1e-9)
    windows = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::SHIFT] * np.hanning(WINDOW)
    power = np.abs(np.fft.rfft(windows, SIZE)) ** 2
    return np.log(power @ MEL + 1e-2).astype(np.float32)


def read_sound(path: Path) -> np.ndarray:
    """The samples of a WAV file at 8 kHz. Of other rates the spectrum is cut at 4 kHz, or zeros are put on its end."""
    rate, samples = data.read_wav(path)
    count = round(len(samples) * RATE / rate)
    if rate == RATE or not count:
        return samples
    return (np.fft.irfft(np.fft.rfft(samples), count) * (count / len(samples))).astype(np.float32)


def recordings(path: Path) -> list[Utterance]:
    """The utterances of --data."""
    rows = []
    for line, source, labels in data.read_pairs(path, "WAV file TAB labels"):
        if not source.strip():
            fail(f"--data {path}, line {line}: expected the path of a WAV file TAB labels, got no path")
        try:
            samples = read_sound(path.parent / source.strip())
        except (mg.errors.FileFormatError, mg.errors.MissingFileError) as error:
            fail(f"--data {path}, line {line}: {error}")
        rows.append(Utterance(line, labels.split(), samples, hear(samples)))
    rows = keep(rows, lambda row: len(row.frames), LONGEST, "frames of 10 ms")
    for row in rows:
        steps, blanks = -(-len(row.frames) // STACK), sum(map(str.__eq__, row.labels, row.labels[1:]))
        if len(row.labels) + blanks > steps:
            fail(
                f"--data {path}, line {row.line}: expected at most {steps} labels, as one takes 30 ms, got "
                f"{len(row.labels)}, and {blanks} blanks between equal ones"
            )
    if len(rows) < 10 or not any(row.labels for row in rows):
        fail(f"--data {path}: expected 10 recordings or more, and some with labels, got {len(rows)} recordings")
    return rows


# The networks


class Recogniser(nn.Module):
    """Inputs (T, B, STACK x BANDS) to logits (T, B, 1 + labels), class 0 the blank.

    memory: a recurrent layer of `hidden` units in each direction. Else each step by itself goes through two layers of
        4 x `hidden` units, which are about as many weights. mean, deviation: of the frames it learns from (BANDS,).
    """

    def __init__(
        self, labels: list[str], mean: list[float], deviation: list[float], memory: bool, cell: str, hidden: int
    ):
        self.labels = data.Vocabulary((), specials=labels)
        self.mean, self.deviation = mean, deviation
        size, classes = STACK * BANDS, 1 + len(labels)
        self.memory = memory
        self.layers: Any
        if memory:
            self.layers = nn.Recurrent(command.cell(cell), size, hidden, bidirectional=True)
            self.output = nn.Linear(self.layers.output_size, classes)
        else:
            wide = 4 * hidden
            self.layers = nn.Sequential(nn.Linear(size, wide), mg.relu, nn.Linear(wide, wide), mg.relu)
            self.output = nn.Linear(wide, classes)

    def forward(self, xs: mg.Tensor, lengths: np.ndarray) -> mg.Tensor:
        return self.output(self.layers(xs, lengths=lengths)[0] if self.memory else self.layers(xs))

    def collate(self, rows: list[Utterance]) -> tuple[np.ndarray, np.ndarray, list[list[int]]]:
        """A batch: inputs (T, B, STACK x BANDS), how many steps each has (B,), and the classes that are said."""
        inputs = []
        for row in rows:
            frames = (row.frames - np.array(self.mean, np.float32)) / np.array(self.deviation, np.float32)
            frames = np.pad(frames, ((0, -len(frames) % STACK), (0, 0)), mode="edge")
            inputs.append(frames.reshape(-1, STACK * BANDS))
        return *data.pad(inputs), [(self.labels.encode(row.labels) + 1).tolist() for row in rows]

    def read(self, rows: list[Utterance]) -> tuple[mg.Tensor, np.ndarray]:
        """The logits (T, B, 1 + labels) of a batch, and how many steps each utterance has."""
        inputs, lengths, _ = self.collate([row._replace(labels=[]) for row in rows])
        with mg.no_grad():
            return self(mg.tensor(inputs), lengths), lengths

    def write(self, rows: list[Utterance], width: int | None = None) -> list[list[str]]:
        """The labels that are heard in each utterance: of the best path, or found by a beam search of this width."""
        said: list[list[int]] = []
        for i in range(0, len(rows), BATCH):
            logits, lengths = self.read(rows[i : i + BATCH])
            found = mg.ctc.beam_decode(logits, lengths, width=width) if width else None
            said += [beam[0][0] for beam in found] if found else mg.ctc.greedy_decode(logits, lengths)
        return [self.labels.decode([k - 1 for k in classes]) for classes in said]


NETWORKS = {"recurrent": True, "memoryless": False}  # whether it has a memory


def learn(name: str, labels: list[str], rows: list[Utterance], valid: list[Utterance], options: Any) -> Recogniser:
    """One of the networks, trained."""
    mg.seed(options.seed)
    frames = np.concatenate([row.frames for row in rows])
    about = {
        "labels": labels,
        "mean": frames.mean(axis=0).tolist(),
        "deviation": (frames.std(axis=0) + 1e-3).tolist(),
        "memory": NETWORKS[name],
        "cell": options.cell,
        "hidden": options.hidden,
    }
    model = Recogniser(**about)

    def loss(batch: Any, state: Any) -> tuple[mg.Tensor, Any]:
        inputs, lengths, labels = batch
        logits = model(mg.tensor(inputs), lengths)
        return mg.ctc_loss(logits, labels, lengths, reduction="sum") / said(batch), None

    def said(batch: Any) -> int:
        return max(1, sum(map(len, batch[-1])))

    def batches(rows: list[Utterance], shuffle: bool) -> data.Batches:
        return data.Batches(rows, BATCH, model.collate, shuffle, length=lambda row: len(row.frames))

    print(f"\n{name}: {model.num_parameters:,} weights")
    how: Any = {"about": about, "items": said, "item": "label", "measure": train.Measure("nats/label", float)}
    command.fit(options, model, loss, batches(rows, True), batches(valid, False), run=name, **how)
    return model


# How well they do


def edit_distance(said: Sequence[Any], meant: Sequence[Any]) -> int:
    """The fewest labels to put in, take out or replace that make one of the other (Levenshtein 1966)."""
    row = list(range(len(meant) + 1))
    for i, a in enumerate(said, 1):
        above, row = row, [i]
        for j, b in enumerate(meant, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (a != b)))
    return row[-1]


def error_rate(said: list[list[str]], rows: list[Utterance]) -> float:
    """The label error rate: edits per label, over all utterances together. More than 1 is possible."""
    edits = sum(edit_distance(labels, row.labels) for labels, row in zip(said, rows))
    return edits / max(1, sum(len(row.labels) for row in rows))


def by_length(known: list[Utterance], rows: list[Utterance]) -> list[list[str]]:
    """What can be said without listening: the commonest label, as often as fits the length."""
    labels = [label for row in known for label in row.labels]
    common = max(sorted(set(labels)), key=labels.count, default="")
    rate = len(labels) / sum(len(row.frames) for row in known)
    return [[common] * round(len(row.frames) * rate) for row in rows]


@style.drawn
def picture(row: Utterance, y: np.ndarray, symbols: list[str]) -> viz.Picture:
    """The spectrogram of an utterance, and below it the probability (T, 1 + labels) of each label over time."""
    figure, seconds = style.picture(10, 6, f"Said: {' '.join(row.labels)}"), len(row.frames) * SHIFT / RATE
    top, bottom = figure.subplots(2, 1, sharex=True)
    top.imshow(row.frames.T, style.INK, origin="lower", aspect="auto", extent=(0, seconds, -0.5, BANDS - 0.5))
    ticks = range(1, BANDS, 4)
    top.set_yticks(ticks, [f"{PEAKS[i]:,.0f}" for i in ticks])
    top.set(ylabel="frequency (Hz)", title="Power in mel bands")
    time = (np.arange(len(y)) + 0.5) * STACK * SHIFT / RATE
    bottom.fill_between(time, y[:, 0], color=style.PALE, linewidth=0, label="blank: nothing new")
    for i, k in enumerate(k for k in range(1, y.shape[1]) if y[:, k].max() > 0.1):
        line = style.line_style(i)
        bottom.plot(time, y[:, k], label=style.plain(symbols[k]), markevery=style.marks(len(y), i), **line)
    best = y.argmax(axis=1)
    for t in np.flatnonzero((best > 0) & (np.diff(best, prepend=0) != 0)):  # where a label begins
        bottom.text(time[t], 1.05, style.plain(symbols[best[t]]))
    bottom.set(xlabel="time (s)", ylabel="probability", ylim=(-0.03, 1.15), xlim=(0, seconds), title="Heard")
    bottom.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def show(model: Recogniser, row: Utterance, options: argparse.Namespace) -> None:
    """One utterance, to look at and to listen to."""
    log_y = mg.log_softmax(model.read([row])[0][:, 0]).numpy()
    symbols = ["_", *model.labels.tokens]
    said = model.write([row])[0]
    print(f"\nexample: said {' '.join(row.labels)!r}, heard {' '.join(said)!r}")
    command.show(options, "posterior.png", picture(row, np.exp(log_y), symbols))
    classes = model.collate([row])[2][0]
    lattice = viz.ctc_lattice(log_y, classes, symbols, title=f"All ways to say {' '.join(row.labels)!r}")
    command.show(options, "lattice.png", lattice)
    data.write_wav(options.out / "example.wav", RATE, row.samples)
    print(f"sound: {options.out / 'example.wav'}")


def apply(options: argparse.Namespace) -> None:
    """What the trained network hears in --apply."""
    names = ("labels", "mean", "deviation", "memory", "cell", "hidden")
    model, _ = command.load(options, lambda about: Recogniser(**{k: about[k] for k in names}), run="recurrent")
    samples = read_sound(options.apply)
    row = Utterance(1, [], samples, hear(samples))
    if not len(row.frames):
        fail(f"--apply {options.apply}: {len(samples) / RATE:.3f} s of sound are too short; one frame takes 25 ms")
    print(f"heard: {' '.join(model.write([row])[0])}\n")
    best = mg.ctc.beam_decode(model.read([row])[0], width=10)[0][:5]
    rows = [[" ".join(model.labels.decode([k - 1 for k in labels])), float(np.exp(log_p))] for labels, log_p in best]
    print(table(["labels", "probability"], rows))


command = CommandLine(
    "speech",
    __doc__,
    data="path of a WAV file TAB labels with spaces between them, a line for each recording",
    cell="lstm",
    hidden=64,
    epochs=6,
    rate=0.01,
)
command.add_argument(
    "--examples",
    type=positive(int),
    default=960,
    metavar="N",
    help="synthetic utterances to learn from; tests: a tenth each",
)
command.add_argument("--apply", type=Path, metavar="FILE", help="what a WAV file says, by the network in --out")


@command
def main(options: argparse.Namespace) -> None:
    """The program; see --help."""
    if options.apply is not None:
        apply(options)
        return
    tests: dict[str, list[Utterance]]
    if options.data:
        rows, valid, held_out = data.split(recordings(options.data), 0.8, 0.1, 0.1)
        example = noisiest = "held out"
        tests = {example: held_out}
    else:
        known, new, children = ([speaker(*scales) for _ in range(30)] for scales in ((), (), (1.25, 1.35)))
        n, example, noisiest = max(4, options.examples // 10), "new speakers", "new speakers, 0 dB"
        rows, valid = digits(options.examples, known), digits(n, known)
        tests = {"speakers it knows": digits(n, known), example: digits(n, new)}
        tests["children, and it knows none"] = digits(n, children)
        tests |= {f"new speakers, {d} dB": digits(n, new, noise=(d, d)) for d in (30, 15, 5, 0)}
        tests |= {f"new speakers, {s} times as fast": digits(n, new, speed=(s, s)) for s in (0.6, 1.0, 1.6)}
    labels = sorted({label for part in (rows, valid, *tests.values()) for row in part for label in row.labels})
    minutes = sum(len(row.samples) for row in rows) / RATE / 60
    print(f"{len(rows):,} utterances to learn from, {minutes:.1f} minutes; {len(labels)} labels")

    models = {name: learn(name, labels, rows, valid, options) for name in NETWORKS}
    print("\nlabel error rate\n")
    lines = []
    for name, part in tests.items():
        rates = [error_rate(model.write(part), part) for model in models.values()]
        lines.append([name, *rates, error_rate(by_length(rows, part), part)])
    print(table(["said by", *NETWORKS, "by length"], lines))
    if not options.data:
        print(
            f"\n  trained with noise {NOISE[0]} to {NOISE[1]} dB below the speech, at speeds {SPEED[0]} to {SPEED[1]}"
        )
    model, part = models["recurrent"], tests[noisiest]
    path, beam = (error_rate(model.write(part, width), part) for width in (None, 8))
    print(f"\n{noisiest}: {path:.3f} by the best path, {beam:.3f} by a beam search of width 8")
    twice = [row for row in tests[example] if any(map(str.__eq__, row.labels, row.labels[1:]))]
    show(model, max(twice or tests[example], key=lambda row: min(len(row.labels), 5)), options)


if __name__ == "__main__":
    main()
