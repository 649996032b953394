"""Melodies: one to many, a vector to a tune, each note that is drawn the next input.

    python -m models.music                        learn from old melodies, and compose: a .mid, a .wav, a piano roll
    python -m models.music --sample-only --meter 3/4 --mode minor --bars 16 --seed 3        another tune
    python -m models.music --data tunes.abc       learn from tunes of yours

The vector says meter, mode and the number of bars. The notes are pairs (pitch, length), all tunes on the tonic C. How
good a prediction is, is measured in bits per note on tunes not seen, in five parts that are held out in turn, beside
Markov models of the same notes. They know the notes before; so does the network at first. Then it knows the beat as
well: the place in the bar, the bars that are left, and that a note ends at the bar line at the latest. Then also what
began at this place 1, 2, 4 and 8 bars ago: tunes repeat themselves, and how strongly it repeats is for it to say. So
only the first of the three networks has the Markov models' means; the table says what each of the other two adds. The
end of a tune, which the network is told by the number of bars, counts for none of them.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import data, nn, train
from minigrad.viz import style
from models import melodies, ngram, notation
from models.command_line import CommandLine, fail, keep, positive, table
from models.notation import MODES, WHOLE, Note, Plan, Tune, bar_of, onsets

BACK = (1, 2, 4, 8)  # bars
FOLDS = 5
FEWEST, LONGEST, MOST_BARS = 10, 500, 64
KNOWS = {"notes": "the notes before", "beat": "and the beat", "bars": "and what stood bars ago"}
BITS = train.Measure("bits/note", lambda nats: nats / math.log(2))
NAMES = "C C♯ D E♭ E F F♯ G A♭ A B♭ B".split()

manual = f"{__doc__}\n{notation.__doc__}"
command = CommandLine("music", manual, data="tunes, as above", cell="gru", hidden=64, epochs=14, rate=2e-2)
command.add_argument("--sample-only", action="store_true", help="train nothing: compose with the weights in --out")
command.add_argument("--meter", default="4/4", metavar="M", help="of the new tune, one that has been learned")
command.add_argument("--mode", default="major", choices=MODES, help="of the new tune")
command.add_argument("--bars", type=positive(int), default=16, metavar="N", help="of the new tune")
command.add_argument("--temperature", type=float, default=0.7, metavar="T", help="1 as learned, lower safer")
command.add_argument("--tempo", type=positive(float), default=120, metavar="BPM", help="quarter notes a minute")


# What the network is told


@dataclass
class Alphabet:
    """What tunes are made of, numbered: pitches and lengths, which pair into tokens; places in a bar, meters, modes."""

    pitches: list[int | None]
    lengths: list[int]
    places: list[int]
    meters: list[str]
    modes: list[str]

    @classmethod
    def of(cls, tunes: Sequence[Tune]) -> Alphabet:
        pitches = {note.pitch for tune in tunes for note in tune.notes}
        lengths = {note.length for tune in tunes for note in tune.notes}
        places = {now % tune.plan.bar for tune in tunes for now, _ in onsets(tune.notes, tune.plan)}
        meters, modes = {tune.plan.meter for tune in tunes}, {tune.plan.mode for tune in tunes}
        return cls(sorted(pitches, key=lambda pitch: -1 if pitch is None else pitch), sorted(lengths), sorted(places),
                   sorted(meters), [mode for mode in MODES if mode in modes])  # fmt: skip

    def __len__(self) -> int:
        return len(self.pitches) * len(self.lengths)

    def pair(self, note: Note) -> list[int]:
        """Its pitch and its length, the lengths numbered on after the pitches."""
        return [self.pitches.index(note.pitch), len(self.pitches) + self.lengths.index(note.length)]

    def token(self, note: Note) -> int:
        return self.pitches.index(note.pitch) * len(self.lengths) + self.lengths.index(note.length)

    def note(self, token: int) -> Note:
        pitch, length = divmod(token, len(self.lengths))
        return Note(self.pitches[pitch], self.lengths[length])

    def vector(self, plan: Plan) -> np.ndarray:
        """What the network is told of a tune: meter and mode, one of each, bars, and whether there is an upbeat."""
        chosen = [plan.meter == meter for meter in self.meters] + [plan.mode == mode for mode in self.modes]
        return np.array([*chosen, plan.bars / 16, plan.upbeat > 0], "float32")

    @property
    def sizes(self) -> tuple[int, int]:
        """Of the vector and of the inputs."""
        inputs = len(self.pitches) + len(self.lengths) + 1 + len(self.places) + 4 + 6 + 2 * len(BACK)
        return len(self.meters) + len(self.modes) + 2, inputs


def view(notes: Sequence[Note], plan: Plan, alphabet: Alphabet, knows: str) -> tuple[np.ndarray, ...]:
    """What the network knows before each of the notes, and before one more. knows: the last of KNOWS.

    Inputs (T, I). What began here bars ago, its pitch and its length one-hot (T, bars ago, pitches + lengths). Whether
    a note of each length fits into the bar (T, lengths): 0 no, 1 yes, 2 it does, and the tune ends with it.
    """
    level, steps = [*KNOWS].index(knows), len(notes) + 1
    both = len(alphabet.pitches) + len(alphabet.lengths)
    clock = both + 1 + len(alphabet.places)
    inputs = np.zeros((steps, alphabet.sizes[1]), "float32")
    earlier, fits = np.zeros((steps, len(BACK), both), "float32"), np.ones((steps, len(alphabet.lengths)), int)
    begun: dict[int, Note | None] = {}
    end, can = plan.length - plan.upbeat, notation.sums(plan.bar, tuple(alphabet.lengths))
    for i, (now, note) in enumerate(onsets(notes, plan)):
        inputs[i, alphabet.pair(notes[i - 1]) if i else both] = 1
        if level >= 1:
            bar, place = divmod(now, plan.bar)
            if place in alphabet.places:
                inputs[i, both + 1 + alphabet.places.index(place)] = 1
            inputs[i, [clock + bar % 4, clock + 3 + min(max(plan.bars - bar, 1), 6)]] = 1
            room = min((bar + 1) * plan.bar, end) - now
            fits[i] = [(room - length in can) * (1 + (length == end - now)) for length in alphabet.lengths]
        for k, bars in enumerate(BACK if level >= 2 else ()):
            was = begun.get(now - bars * plan.bar)
            if was:
                earlier[i, k, alphabet.pair(was)] = inputs[i, k - 2 * len(BACK)] = 1
            if i:
                before = now - notes[i - 1].length
                inputs[i, k - len(BACK)] = begun.get(before - bars * plan.bar) == notes[i - 1]
        begun[now] = note
    return inputs, earlier, fits


def example(tune: Tune, alphabet: Alphabet, knows: str) -> tuple[np.ndarray, ...]:
    """A tune as the network reads it: the vector, a view, the tokens."""
    known = (part[:-1] for part in view(tune.notes, tune.plan, alphabet, knows))
    return alphabet.vector(tune.plan), *known, np.array([alphabet.token(note) for note in tune.notes])


def collate(examples: Sequence[Any]) -> tuple[np.ndarray, ...]:
    """Vectors, views, tokens and lengths side by side, time first."""
    vectors, inputs, earlier, fits, tokens = zip(*examples)
    fitting, _ = data.pad(fits, 1)  # after the end all lengths fit: no logit is NaN
    return np.stack(vectors), data.pad(inputs)[0], data.pad(earlier)[0], fitting, *data.pad(tokens)


# The network


class Composer(nn.Module):
    """Vectors and views to the logits of the next tokens (T, B, tokens).

    The logit of a note is that of its pitch, of its length, of the pair, and of its pitch as a tune's last. A pitch or
    a length that stood here 1, 2, 4 or 8 bars ago is likelier by as much as the network finds right at this step.
    """

    def __init__(self, alphabet: Alphabet, cell: Any, hidden: int):
        P, L = len(alphabet.pitches), len(alphabet.lengths)
        vector, inputs = alphabet.sizes
        self.writer = nn.OneToMany(cell, vector, inputs, hidden, into="both")
        self.dropout = nn.Dropout(0.3)
        size = self.writer.net.output_size
        self.pitch, self.length, self.copy = nn.Linear(size, P), nn.Linear(size, L), nn.Linear(size, 2 * len(BACK))
        self.last, self.pair = nn.Linear(size, P), nn.Parameter(mg.zeros((P, L)))

    def logits(self, outs: mg.Tensor, earlier: Any, fits: Any) -> mg.Tensor:
        """The logits (..., tokens) from outputs (..., H) of the writer; -inf for notes that cross the bar line."""
        outs, earlier = self.dropout(outs), mg.tensor(earlier)
        P, n = self.pair.shape[0], len(BACK)
        strength = mg.expand_dims(self.copy(outs), axis=-1)
        pitch = self.pitch(outs) + (strength[..., :n, :] * earlier[..., :P]).sum(axis=-2)
        length = self.length(outs) + (strength[..., n:, :] * earlier[..., P:]).sum(axis=-2)
        length = mg.where(mg.tensor(fits > 0), length, -math.inf)
        last = mg.expand_dims(self.last(outs), axis=-1) * mg.tensor((fits == 2)[..., None, :].astype("float32"))
        both = mg.expand_dims(pitch, axis=-1) + mg.expand_dims(length, axis=-2) + self.pair + last
        return mg.reshape(both, (*both.shape[:-2], -1))

    def surprise(self, batch: Any) -> mg.Tensor:
        """Minus the log-probability of each token (T, B) after the true ones before it: teacher forcing."""
        vectors, inputs, earlier, fits, tokens, lengths = batch
        outs, _ = self.writer(mg.tensor(vectors), self.dropout(mg.tensor(inputs)), lengths=lengths)
        each = mg.cross_entropy(self.logits(outs, earlier, fits), mg.tensor(tokens), reduction="none")
        counts = np.arange(len(tokens))[:, None] < lengths
        return each * mg.tensor(counts.astype("float32"))

    def loss(self, batch: Any, state: None) -> tuple[mg.Tensor, None]:
        """The mean surprise of a note."""
        return self.surprise(batch).sum() / float(batch[-1].sum()), None


def learn(examples: Sequence[Any], alphabet: Alphabet, options: argparse.Namespace, run: str = "") -> Composer:
    """A network that has learned from tunes, in --out or `run` there; a tenth of them tell which epoch was the best."""
    mg.seed(options.seed)
    seen, valid = data.split(examples, 0.9, 0.1)
    model = Composer(alphabet, command.cell(options.cell), options.hidden)
    batches = data.Batches(seen, 8, collate, shuffle=True, length=lambda tune: len(tune[-1]))
    few = data.Batches(valid, 8, collate, length=lambda tune: len(tune[-1]))
    command.fit(options, model, model.loss, batches, few, items=lambda batch: int(batch[-1].sum()), patience=8,
                quiet=True, measure=BITS, run=run, curves=not run, about={"alphabet": vars(alphabet)})  # fmt: skip
    return model


# What it is measured by


def markov(rest: Sequence[Tune], tune: Tune, alphabet: Alphabet, order: int = 4) -> dict[str, float]:
    """Bits per note of a tune, by name of Markov models that have learned the rest, of orders 0 ... order.

    Besides those of notes as whole symbols, those in which a note is two, its length and then its pitch. Their orders,
    0 ... 2 order + 1, count these symbols: what was never seen together is no surprise there.
    """
    found = {}

    def measured(kind: str, symbols: Callable[[Note], list[int]], size: int, order: int) -> None:
        *known, asked = [[symbol for note in each.notes for symbol in symbols(note)] for each in [*rest, tune]]
        text = [size, *(symbol for each in known for symbol in [*each, size])]  # `size` stands before each tune
        bits = ngram.bits_per_symbol(np.array(text), np.array(asked), np.array([size]), size + 1, order)
        for k, value in enumerate(bits):
            found[f"Markov model {kind}of order {k}"] = value * len(asked) / len(tune.notes)

    measured("", lambda note: [alphabet.token(note)], len(alphabet), order)
    size = len(alphabet.pitches) + len(alphabet.lengths)
    measured("of length and pitch in turn, ", lambda note: alphabet.pair(note)[::-1], size, 2 * order + 1)
    return found


def measure(tunes: Sequence[Tune], alphabet: Alphabet, options: argparse.Namespace) -> None:
    """Print how many bits the models need for a note of tunes not seen, each tune in one of the parts held out."""
    mg.seed(options.seed)
    order = mg.random.generator().permutation(len(tunes))
    examples = {knows: [example(tune, alphabet, knows) for tune in tunes] for knows in KNOWS}
    counts = np.array([len(tune.notes) for tune in tunes])
    bits: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(len(tunes)))  # of each tune, by model

    def mean(which: np.ndarray) -> dict[str, float]:
        """Bits per note of these tunes, by model: Markov models, and at the end the networks."""
        return {name: float(each[which].sum() / counts[which].sum()) for name, each in bits.items()}

    for part in range(FOLDS):
        out = order[part::FOLDS]
        rest = sorted(set(order) - set(out))
        for i in out:
            for name, value in markov([tunes[j] for j in rest], tunes[i], alphabet).items():
                bits[name][i] = value * counts[i]
        for knows, name in KNOWS.items():
            model = learn([examples[knows][i] for i in rest], alphabet, options, f"part{part + 1}/{knows}")
            with mg.no_grad():
                nats = model.surprise(collate([examples[knows][i] for i in out])).numpy().sum(axis=0)
            bits[f"{options.cell}, {name}"][out] = nats / math.log(2)
        *baselines, first, second, third = mean(out).values()
        print(f"part {part + 1} of {FOLDS}, {len(out)} tunes: {min(baselines):.3f} bits/note by the best Markov model,"
              f" {first:.3f}, {second:.3f}, {third:.3f} by the networks", flush=True)  # fmt: skip

    said = mean(order)
    *markovs, _, _, net = said
    best = min(markovs, key=said.__getitem__)
    worse = sorted((name for name in markovs if "in turn" in name), key=said.__getitem__)[1:]
    rows = [[name, value, "" if name in markovs else f"{model.num_parameters:,}"] for name, value in said.items()]
    print(f"\nheld out\n\n{table(['model', 'bits/note', 'weights'], [row for row in rows if row[0] not in worse])}")
    each = (bits[best] - bits[net]) / counts
    mean_of_tunes = f"{each.mean():.2f} ± {each.std() / len(tunes) ** 0.5:.2f}"
    print(f"\nthe best Markov model needs {said[best] - said[net]:.3f} bits/note more than the network; it needs more")
    print(f"in {(each > 0).sum()} of {len(tunes)} tunes, {mean_of_tunes} on their average")


# A new tune


def compose(model: Composer, alphabet: Alphabet, plan: Plan, temperature: float) -> list[Note]:
    """Notes drawn one by one, each the next input, until the bars are full."""
    end = len(alphabet)  # a token that is impossible before, and the only one possible then

    def step(tokens: mg.Tensor, state: Any) -> tuple[mg.Tensor, Any]:
        inner, notes = state
        token = int(tokens.tolist()[0])
        notes = notes if token < 0 else (*notes, alphabet.note(token))
        if sum(note.length for note in notes) >= plan.length:
            return mg.tensor([[-math.inf] * end + [0.0]]), (inner, notes)
        inputs, earlier, fits = (part[-1:] for part in view(notes, plan, alphabet, "bars"))
        out, inner = model.writer.step(inner, mg.tensor(inputs))
        logits = model.logits(out, earlier, fits)
        return mg.concat([logits, mg.tensor([[-math.inf]], dtype=logits.dtype)], axis=-1), (inner, notes)

    with mg.no_grad():
        state = model.writer.begin(mg.tensor(alphabet.vector(plan)[None])), ()
    most = plan.length // alphabet.lengths[0] + 1
    drawn = nn.sample(step, state, [-1], most, temperature=temperature, stop=end)
    return [alphabet.note(token) for token in drawn.tokens[0]]


@style.drawn
def piano_roll(tune: Tune) -> Any:
    """A picture of the tune: pitch against time in quarter notes, with its bar lines."""
    low, high = min(tune.pitches) - 1, max(tune.pitches) + 1
    quarter, begun = WHOLE / 4, list(onsets(tune.notes, tune.plan))
    width = max(6.0, min(0.16 * tune.plan.length / quarter, 14))
    figure = style.picture(width, 1.4 + 0.16 * (high - low), tune.title)
    axes = figure.subplots()
    for pitch in range(low, high + 1):
        if pitch % 12 in (1, 3, 6, 8, 10):
            axes.axhspan(pitch - 0.5, pitch + 0.5, color="#f2f2f2", linewidth=0, zorder=-1)  # the black keys
    for now, note in begun:
        if note is not None and note.pitch is not None:
            axes.broken_barh([(now / quarter, note.length / quarter)], (note.pitch - 0.4, 0.8),
                             facecolor=style.COLOURS[0], edgecolor="white", linewidth=0.8)  # fmt: skip
    lines = np.arange(0, begun[-1][0] + 1, tune.plan.bar) / quarter
    axes.vlines(lines, low - 0.5, high + 0.5, color=style.GREY, linewidth=0.7, zorder=0)
    axes.set_xticks(lines[:: 1 if len(lines) <= 17 else 2])
    axes.set_yticks(range(low, high + 1), [f"{NAMES[p % 12]}{p // 12 - 1}" for p in range(low, high + 1)])
    axes.set(xlim=(begun[0][0] / quarter, begun[-1][0] / quarter), ylim=(low - 0.5, high + 0.5))
    axes.set(xlabel="time (quarter notes; a line at each bar)", ylabel="pitch")
    return figure


def show(model: Composer, alphabet: Alphabet, tunes: Sequence[Tune], options: argparse.Namespace) -> None:
    """Compose a tune, print it, and write it as .mid, .wav and a picture."""
    mg.seed(options.seed)
    plan = Plan(options.meter, options.mode, 0, options.bars * bar_of(options.meter))
    title = f"A new tune: {options.mode}, {options.meter}, at temperature {options.temperature:g}, seed {options.seed}"
    tune = Tune(0, title, 0, plan, compose(model, alphabet, plan, options.temperature))
    run, known = notation.longest_shared(tune.notes, tunes)
    print(f"\n{notation.write(tune)}\n\nthe longest run of notes that it shares with a tune it learned from: "
          f"{run} of {len(tune.notes)}{f', with {known}' if run else ''}")  # fmt: skip
    heard, wave = options.out / "tune.mid", options.out / "tune.wav"
    heard.write_bytes(notation.midi(tune, options.tempo))
    data.write_wav(wave, 22050, notation.sound(tune, options.tempo))
    print(f"music: {heard}, {wave}")
    command.show(options, "tune.png", piano_roll(tune))


@command
def main(options: argparse.Namespace) -> None:
    """The program; see --help."""
    if not 0 <= options.temperature < math.inf:
        fail(f"--temperature: must be 0 or more, got {options.temperature}")
    if not 10 <= options.tempo <= 1000:
        fail(f"--tempo: must be from 10 to 1000 quarter notes a minute, got {options.tempo:g}")
    if options.bars > MOST_BARS:
        fail(f"--bars {options.bars}: a tune has {MOST_BARS} at most")
    text, name = (data.read_text(options.data), str(options.data)) if options.data else (melodies.TUNES, "melodies")
    read = keep(notation.read(text, name), lambda tune: len(tune.notes), LONGEST, "notes")
    tunes = [notation.to_c(tune) for tune in read]
    if options.sample_only:
        model, about = command.load(
            options, lambda a: Composer(Alphabet(**a["alphabet"]), command.cell(a["cell"]), a["hidden"])
        )
        alphabet = Alphabet(**about["alphabet"])
    elif len(tunes) < FEWEST:
        fail(f"{name}: {len(tunes)} tunes are too few; {FEWEST} are the least")
    else:
        alphabet = Alphabet.of(tunes)
    if options.meter not in alphabet.meters:
        fail(f"--meter {options.meter}: learned were {', '.join(alphabet.meters)}")
    if options.mode not in alphabet.modes:
        fail(f"--mode {options.mode}: learned were {', '.join(alphabet.modes)}")
    if (bar := bar_of(options.meter)) not in notation.sums(bar, tuple(alphabet.lengths)):
        fail(f"--meter {options.meter}: the lengths that were learned cannot fill a bar")
    if not options.sample_only:
        count = sum(len(tune.notes) for tune in tunes)
        print(f"{len(tunes)} tunes, {count:,} notes: {len(alphabet.pitches)} pitches, {len(alphabet.lengths)} lengths")
        kinds = Counter(kind for tune in tunes for kind in (tune.plan.mode, tune.plan.meter))
        print(f"of them {', '.join(f'{kinds[kind]} {kind}' for kind in [*alphabet.modes, *alphabet.meters])}")
        model = learn([example(tune, alphabet, "bars") for tune in tunes], alphabet, options)
        measure(tunes, alphabet, options)
    show(model, alphabet, tunes, options)
    print(f"weights in {options.out}; compose more with --sample-only --seed N --meter M --mode MODE --bars N")


if __name__ == "__main__":
    main()
