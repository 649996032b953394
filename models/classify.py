"""Many to one: a recurrent network reads a sequence and names its class, and shows which parts it looked at.

    python -m models.classify                        reviews, DNA and films, beside a bag of words, of 3-mers, of frames
    python -m models.classify --task dna             one of them
    python -m models.classify --data reviews.tsv     label TAB text, a line each: whatever the labels are
    python -m models.classify --apply "the plot was dull , yet the ending was not boring ."

Two networks read each sequence in both directions, one step at a time. One keeps what each direction knew last; the
other weighs what each step has added by attention (Yang et al. 2016), and the steps of most weight are its key terms.
They have to beat a bag: how often each word occurs, in whatever order; the mean frame of a film. In the tasks here
every sequence has a twin of another class and with exactly the same bag, so that no reader of bags is right on more
than half of them.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

import minigrad as mg
from minigrad import data, nn, viz
from models.command_line import CommandLine, fail, keep, positive, table


class Example(NamedTuple):
    """A sequence and its class. `steps`: words, 3-mers or frames (T, 64); `keys`: which decide it (T,)."""

    label: str
    steps: Any
    keys: Any


Twins = tuple[Example, Example]  # of different classes, and of the same steps in another order

# Sentiment: the verdict of a review is that of its main clause, and "not" turns the clause that it stands in

GOOD, BAD = "good clever funny moving fresh gripping".split(), "bad dull boring slow silly tired".split()
THINGS = "plot ending acting music dialogue camera cast script".split()
DEGREES = ["", "", "very", "really", "particularly"]
JOINTS = ["{side} , but {main}", "{side} , yet {main}", "although {side} , {main}", "while {side} , {main}",
          "{main} , although {side}", "{main} , even though {side}"]  # fmt: skip
ASIDES = ["i saw it on {day} with my {person} .", "my {person} had not read the book .", "it runs for two hours .",
          "we did not sit in the last row .", "it was {day} and the cinema was not full ."]  # fmt: skip
DAYS, PEOPLE = "monday friday saturday sunday".split(), "sister brother father friend".split()


def reviews() -> Twins:
    """A review of one joint, two clauses "the THING was [not] [DEGREE] ADJECTIVE" and up to three asides; and its twin.

    The twin has the predicates of the two clauses exchanged, or "not" moved from one to the other, whichever turns the
    main clause round. The asides hold a "not" of their own, which says nothing of the film.
    """
    random = mg.random.generator()

    def one(words: Sequence[str]) -> str:
        return words[int(random.integers(len(words)))]

    while True:
        nots = [bool(random.integers(2)) for _ in range(2)]  # of the side clause and of the main clause
        rests = [(one(GOOD + BAD), one(DEGREES)) for _ in range(2)]
        good = [(adjective in GOOD) != negated for (adjective, _), negated in zip(rests, nots)]
        ways = [(nots[::-1], rests[::-1])] * (good[0] != good[1]) + [(nots[::-1], rests)] * (nots[0] != nots[1])
        if ways:
            break
    joint, things = one(JOINTS), random.choice(THINGS, 2, replace=False)
    chosen = random.permutation(ASIDES)[: random.integers(4)]
    asides = [text.format(day=one(DAYS), person=one(PEOPLE)) for text in chosen]
    place = int(random.integers(len(asides) + 1))

    def review(nots: list[bool], rests: list[tuple[str, str]]) -> Example:
        says = [" ".join(filter(None, ["not" * n, degree, a])) for (a, degree), n in zip(rests, nots)]
        starred = " ".join("*" + word for word in says[1].split())  # the predicate of the main clause
        clauses = joint.format(side=f"the {things[0]} was {says[0]}", main=f"the {things[1]} was {starred}")
        words = " ".join([*asides[:place], clauses + " .", *asides[place:]]).split()
        label = "good" if (rests[1][0] in GOOD) != nots[1] else "bad"
        return Example(label, [word.strip("*") for word in words], np.array([word[0] == "*" for word in words]))

    return review(nots, rests), review(*ways[random.integers(len(ways))])


# DNA: which two motifs a sequence has, and which of them comes first

MOTIFS = {"CAAT": "GGCCAATCT", "TATA": "TATAAAAG", "CRE": "TGACGTCA"}  # boxes that stand before genes of animals
LETTERS, K = np.array(list("ACGT")), 3
MUTATION = 0.05 * 4 / 3  # that a letter is drawn anew, as is the same one in four


def promoters() -> Twins:
    """About 90 to 110 letters with two boxes somewhere, named by them in their order (six classes); and its twin.

    The steps are the 3-mers. Each letter of a box is another one with probability 0.05. The two letters before one box
    are those before the other as well, and so are the two after; the twin has the boxes exchanged, and so the same
    3-mers.
    """
    random = mg.random.generator()

    def noise(count: int) -> list[str]:
        return LETTERS[random.integers(4, size=count)].tolist()

    names = random.permutation(list(MOTIFS))[:2].tolist()
    boxes = [
        [new if drawn else old for new, drawn, old in zip(noise(len(box)), random.random(len(box)) < MUTATION, box)]
        for box in (MOTIFS[name] for name in names)
    ]
    before, after, rest = noise(K - 1), noise(K - 1), noise(int(random.integers(65, 86)))
    cuts = sorted(random.integers(0, len(rest) + 1, 2))

    def sequence(order: tuple[int, int]) -> Example:
        first, second = (boxes[i] for i in order)
        parts = [rest[: cuts[0]], before, first, after, rest[cuts[0] : cuts[1]], before, second, after, rest[cuts[1] :]]
        inside = np.repeat([part is first or part is second for part in parts], [len(part) for part in parts])
        keys = np.convolve(inside, np.ones(K), "valid") > K - 0.5
        return Example(" ".join(names[i] for i in order), kmers("".join(map("".join, parts))), keys)

    return sequence((0, 1)), sequence((1, 0))


def kmers(letters: str) -> list[str]:
    """The 3-mers of a sequence: of GATTA they are GAT, ATT and TTA."""
    return [letters[i : i + K] for i in range(len(letters) - K + 1)]


# Video: what a shape does

SIDE, NOISE = 8, 0.2
ACTIONS = {"right": "left", "down": "up", "clockwise": "counterclockwise", "growing": "shrinking"}


def films() -> Twins:
    """9 to 16 noisy frames of 8 x 8: a shape stands still, acts for four frames, and stands still again; and its twin.

    The shape, a square, a diamond or a ring, goes four places to a side, half around a circle, or from a dot to most of
    the picture. The twin is the film backwards.
    """
    random = mg.random.generator()
    action, shape = str(random.choice(list(ACTIONS))), random.integers(3)
    pose, turn = np.arange(5)[:, None, None], (np.arange(5)[:, None, None] + random.integers(8)) * math.tau / 8
    x, y = random.integers(1, 3) + pose, random.integers(1, 7) + 0 * pose  # of the centre
    if action == "down":
        x, y = y, x
    if action in ("clockwise", "growing"):
        x, y = random.integers(3, 5, 2)
    if action == "clockwise":
        x, y = x + np.round(2 * np.cos(turn)), y + np.round(2 * np.sin(turn))  # y is downwards
    dx, dy = np.abs(np.arange(SIDE) - x), np.abs(np.arange(SIDE)[:, None] - y)
    far, radius = (dx + dy if shape == 1 else np.maximum(dx, dy)), pose if action == "growing" else 1
    pictures = (far <= radius) & ((far == radius) | (shape != 2))
    before, after = random.integers(3, 7, 2)
    frames = pictures[[0] * before + [1, 2, 3] + [4] * after].reshape(-1, SIDE * SIDE)
    frames = (frames + random.normal(0, NOISE, frames.shape)).astype(np.float32)
    keys = np.array([0] * (before - 1) + [1] * 5 + [0] * (after - 1)) > 0
    return Example(action, frames, keys), Example(ACTIONS[action], frames[::-1].copy(), keys[::-1])


# Tasks: batches to train on, batches to choose the best epoch by, and examples to test on

BATCH, READ, LONGEST = 16, 100, 400  # examples to learn from at once, and without learning; words of a text
HELD_OUT = 250  # twins to test on, and half as many to choose the best epoch by
WORD = re.compile(r"[\u3040-\u9fff]|[^\W\u3040-\u9fff]+(?:['\u2019][^\W\u3040-\u9fff]+)*|[^\w\s]")
PROCESSES: dict[str, tuple[Callable[[], Twins], str, int]] = {
    "sentiment": (reviews, "review", 960),
    "dna": (promoters, "sequence", 1280),
    "video": (films, "film", 1200),
}


class Code:
    """Examples as numbers. tokens: the vocabulary of the steps, None if they are frames."""

    def __init__(self, labels: list[str], tokens: list[str] | None):
        self.labels, self.tokens = labels, tokens
        self.known = None if tokens is None else data.Vocabulary((), specials=tokens)

    def collate(self, examples: list[Example]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A batch: steps (T, B) or (T, B, 64), lengths (B,), classes (B,)."""
        xs, lengths = data.pad([self.known.encode(e.steps) if self.known else e.steps for e in examples])
        return xs, lengths, np.array([self.labels.index(e.label) for e in examples])

    def batches(self, examples: list[Example], *, shuffle: bool = False) -> data.Batches:
        """Batches of all examples, those of similar length together."""
        size = BATCH if shuffle else READ
        return data.Batches(examples, size, self.collate, shuffle, length=lambda example: len(example.steps))


class Task(NamedTuple):
    """What there is to learn. `item`: what one of its sequences is called."""

    name: str
    item: str
    code: Code
    train: Any
    valid: Any
    test: list[Example]
    majority: float  # the share in the test of the class that is most frequent in training


def generated(name: str, options: argparse.Namespace) -> Task:
    """A task whose examples are drawn by a process: fresh ones in every epoch, so that none is learned by heart."""
    draw, item, usual = PROCESSES[name]
    with mg.seed(options.seed + 2**32):  # numbers of their own: those of --seed come again when a network is trained
        valid, test = ([example for _ in range(count) for example in draw()] for count in (HELD_OUT // 2, HELD_OUT))
    tokens = None if name == "video" else vocabulary(token for example in valid for token in example.steps)
    code = Code(sorted({example.label for example in valid}), tokens)
    train = data.Drawn(
        lambda: code.collate([example for _ in range(BATCH // 2) for example in draw()]),
        max(1, (options.examples or usual) // BATCH),
    )
    majority = max(Counter(example.label for example in test).values()) / len(test)
    return Task(name, item, code, train, code.batches(valid), test, majority)


def file(options: argparse.Namespace) -> Task:
    """The rows of --data."""
    rows = keep(data.read_labelled(options.data), lambda row: len(words(row.text)), LONGEST, "words", options.data)
    labels = Counter(row.label for row in rows)
    if len(labels) < 2:
        fail(f"--data {options.data}: all {len(rows)} rows are {rows[0].label!r}; it takes two classes to tell apart")
    examples = [Example(row.label, words(row.text), None) for row in rows]
    texts = len({tuple(example.steps) for example in examples})
    if texts < max(20, 2 * len(labels)):
        fail(
            f"--data {options.data}: {texts} different rows are too few for {len(labels)} labels (at least 20, and two "
            "of each on average). Does each line begin with the label, and then a tab?"
        )
    train, valid, test = data.split(examples, 0.8, 0.1, 0.1, key=lambda example: tuple(example.steps))
    train = train[: options.examples]
    seen = Counter(token for example in train for token in example.steps)
    tokens = vocabulary(token for token, count in seen.items() if count > 1)  # a word seen once is <UNK>, to learn it
    frequent, count = Counter(example.label for example in train).most_common(1)[0]
    if count > 1.5 * len(train) / len(labels):
        print(f"classes are unbalanced: {count / len(train):.0%} are {frequent!r}; to say so always is right as often")
    code, majority = Code(sorted(labels), tokens), float(np.mean([example.label == frequent for example in test]))
    return Task("file", "text", code, code.batches(train, shuffle=True), code.batches(valid), test, majority)


def words(text: str) -> list[str]:
    """The words and signs of a text, in lower case; of Chinese and Japanese the characters.

    >>> words("It isn't bad!")
    ['it', "isn't", 'bad', '!']
    """
    return WORD.findall(text.lower())


def vocabulary(tokens: Iterable[str]) -> list[str]:
    """The tokens there are, frequent ones first, after <UNK> for all others."""
    return data.Vocabulary(tokens, specials=["<UNK>"]).tokens


# The networks: steps and lengths to the logits (B, classes), and to the weights of the steps (B, T) if they have any


class Bag(nn.Module):
    """No order: what the steps are, summed up, through a linear layer (softmax regression) or two."""

    def __init__(self, inputs: int, classes: int, hidden: int = 0):
        self.inputs = inputs
        first = [nn.Linear(inputs, hidden), mg.tanh] if hidden else []
        self.layers = nn.Sequential(*first, nn.Linear(hidden or inputs, classes))

    def forward(self, xs: np.ndarray, lengths: np.ndarray) -> tuple[mg.Tensor, None]:
        return self.layers(mg.tensor(bag(xs, lengths, self.inputs))), None


def bag(xs: np.ndarray, lengths: np.ndarray, inputs: int) -> np.ndarray:
    """Of each row (B, inputs) how often each token occurs, of tokens (T, B); the mean frame, of frames (T, B, 64)."""
    inside = np.arange(len(xs))[:, None] < lengths
    if xs.ndim == 3:
        return (xs * inside[:, :, None]).sum(axis=0, dtype=np.float32) / lengths[:, None].astype(np.float32)
    counts = np.zeros((len(lengths), inputs), np.float32)
    np.add.at(counts, (np.broadcast_to(np.arange(len(lengths)), xs.shape)[inside], xs[inside]), 1)
    return counts


class Reader(nn.Module):
    """Recurrent in both directions; then what each direction knew last, or what all steps added, by attention."""

    def __init__(self, inputs: int, classes: int, about: dict[str, Any], *, attention: bool, size: int = 32):
        frames, hidden = about["tokens"] is None, about["hidden"]
        self.embedding = nn.Sequential(nn.Linear(inputs, size), mg.tanh) if frames else nn.Embedding(inputs, size)
        self.recurrent = nn.Recurrent(command.cell(about["cell"]), size, hidden, bidirectional=True)
        self.pool = nn.AttentionPooling(self.recurrent.output_size, hidden) if attention else None
        self.output = nn.Linear(self.recurrent.output_size, classes)

    def forward(self, xs: np.ndarray, lengths: np.ndarray) -> tuple[mg.Tensor, mg.Tensor | None]:
        vectors = self.embedding(mg.tensor(xs))
        if self.pool is None:
            return self.output(self.recurrent.final(vectors, lengths=lengths)[0]), None
        outs, _ = self.recurrent(vectors, lengths=lengths)
        context, weights = self.pool(added(outs), lengths)
        return self.output(context), weights


def added(outs: mg.Tensor) -> mg.Tensor:
    """What each step adds to what a network of both directions knows: h_t - h_{t-1}, and in reverse h_t - h_{t+1}.

    outs: (T, B, 2 H). Over all steps of a row this sums to its final state, which so is attention that weighs all steps
    alike. Attention over the outputs themselves may look anywhere behind a word, as they all still know of it; over
    what is added it has to look at the word.
    """
    half = outs.shape[2] // 2
    forward, reverse = outs[:, :, :half], outs[:, :, half:]
    edge = mg.zeros((1, *forward.shape[1:]), dtype=outs.dtype, backend=outs.backend)
    return mg.concat([forward - mg.concat([edge, forward[:-1]]), reverse - mg.concat([reverse[1:], edge])], axis=-1)


NETWORKS: dict[str, Callable[[int, int, dict[str, Any]], nn.Module]] = {
    "bag": lambda inputs, classes, about: Bag(inputs, classes),
    "bag, two layers": lambda inputs, classes, about: Bag(inputs, classes, about["hidden"]),
    "final state": lambda inputs, classes, about: Reader(inputs, classes, about, attention=False),
    "attention": lambda inputs, classes, about: Reader(inputs, classes, about, attention=True),
}


def build(about: dict[str, Any]) -> nn.Module:
    """The network that these words describe."""
    inputs = SIDE * SIDE if about["tokens"] is None else len(about["tokens"])
    return NETWORKS[about["network"]](inputs, len(about["labels"]), about)


def train(network: str, task: Task, options: argparse.Namespace) -> nn.Module:
    """One network, trained."""
    mg.seed(options.seed)
    about = {
        "network": network,
        "labels": task.code.labels,
        "tokens": task.code.tokens,
        "cell": options.cell,
        "hidden": options.hidden,
    }
    model = build(about)

    def loss(batch: Any, state: None) -> tuple[mg.Tensor, None]:
        xs, lengths, ys = batch
        return mg.cross_entropy(model(xs, lengths)[0], mg.tensor(ys)), None

    print(f"\n{task.name}, {network}: {model.num_parameters:,} weights")
    where = folder(task.name, network)
    command.fit(options, model, loss, task.train, task.valid, item=task.item, about=about, run=where)
    return model


def folder(task: str, network: str) -> str:
    """Where a trained network lies in --out."""
    return f"{task}/{network.replace(',', '').replace(' ', '_')}"


class Answers(NamedTuple):
    """What a network says of examples: the probabilities (N, classes), and the weights (T,) of each one's steps."""

    probabilities: np.ndarray
    weights: list[np.ndarray]


def ask(model: nn.Module, examples: list[Example], code: Code) -> Answers:
    """The answers of a network."""
    probabilities, weights = [], []
    with mg.no_grad():
        for start in range(0, len(examples), READ):
            xs, lengths, _ = code.collate(examples[start : start + READ])
            logits, a = model(xs, lengths)
            probabilities.append(mg.softmax(logits).numpy())
            weights += [] if a is None else [row[:n] for row, n in zip(a.numpy(), lengths)]
    return Answers(np.concatenate(probabilities), weights)


# What they looked at


INKS = [[], ["38;5;16", "48;5;230"], ["38;5;16", "48;5;228"], ["38;5;16", "48;5;220"], ["1", "38;5;16", "48;5;208"]]


def colours() -> bool:
    """Whether the output is a terminal that shows colours, and nobody has asked for none (no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def ink(text: str, share: float, underlined: bool = False) -> str:
    """A piece of text on a background that is the stronger the larger its share, from 0 to 1; as terminals read it."""
    codes = (["4"] if underlined else []) + INKS[min(int(share * 5), 4)]
    return f"\033[{';'.join(codes)}m{text}\033[0m" if codes else text


def strength(weights: np.ndarray) -> np.ndarray:
    """Weights as shares of the largest; 0 for those that hardly exceed what each would have if all weighed alike."""
    return np.where(weights * len(weights) > 1.5, weights / weights.max(), 0.0)


def show_words(words: Sequence[str], weights: np.ndarray, width: int = 100) -> str:
    """A text inked by the weights of its words; without colours, *from a fifth* and **from half** of the largest."""
    lines, room = [""], width
    for word, share in zip(words, strength(weights)):
        stars = "" if colours() else "*" * (int(share > 0.2) + int(share > 0.5))
        length = len(stars + word + stars) + 1
        if length > room:
            lines, room = [*lines, ""], width
        lines[-1] += " " + (ink(word, share) if colours() else stars + word + stars)
        room -= length
    return "\n".join("   " + line for line in lines)


def show_letters(steps: Sequence[str], weights: np.ndarray, keys: np.ndarray | None, width: int = 75) -> str:
    """DNA whose letters are inked by the mean weight of their 3-mers, and the boxes underlined."""
    letters = steps[0] + "".join(step[-1] for step in steps[1:])
    shares = strength(np.convolve(weights, np.ones(K) / K))
    inside = np.zeros(len(letters), bool) if keys is None else np.convolve(keys, np.ones(K)) > 0
    if colours():
        pieces = [ink(*piece) for piece in zip(letters, shares, inside)]
        return "\n".join("    " + "".join(pieces[i : i + width]) for i in range(0, len(letters), width))
    bars, lines = "".join(" .:=#"[min(int(share * 5), 4)] for share in shares), "".join(" ~"[int(i)] for i in inside)
    rows = [row[i : i + width].rstrip() for i in range(0, len(letters), width) for row in (letters, bars, lines)]
    return "\n".join("    " + row for row in rows if row)


def filmstrip(films: Sequence[Example], weights: Sequence[np.ndarray], titles: Sequence[str]) -> viz.Picture:
    """Films, each a row of frames with the weight of each frame under it; dark where something moves."""
    figure = viz.Picture(figsize=(11, 2.2 * len(films)), layout="constrained")
    longest = max(len(film.steps) for film in films)
    axes = figure.subplots(2 * len(films), 1, squeeze=False, height_ratios=[1.4, 1] * len(films))[:, 0]
    for film, a, title, frames, bars in zip(films, weights, titles, axes[::2], axes[1::2]):
        framed = [np.pad(frame.reshape(SIDE, SIDE), 1, constant_values=1) for frame in film.steps]
        extent = (-0.5, len(a) - 0.5, 0, 1)
        frames.imshow(np.concatenate(framed, axis=1), "Greys", vmin=-0.5, vmax=1.2, extent=extent, aspect="auto")
        frames.set_title(title, loc="left")
        frames.set(xlim=(-0.5, longest - 0.5), xticks=[], yticks=[])
        bars.bar(np.arange(len(a)), a, color=np.where(film.keys, "black", "silver"))
        bars.set(xlim=(-0.5, longest - 0.5), ylim=(0, 1), ylabel="attention", xticks=np.arange(len(a)))
        for axis in (frames, bars):
            axis.spines[:].set_visible(False)
    axes[-1].set_xlabel("frame (black: something moves)")
    return figure


def show_examples(task: Task, answers: Answers, options: argparse.Namespace) -> None:
    """The first two examples of the test, which are twins if they were drawn, and two that were taken for another."""
    labels = np.array(task.code.labels)
    said = labels[answers.probabilities.argmax(axis=1)]
    wrong = [i for i, example in enumerate(task.test) if said[i] != example.label]
    chosen = list(dict.fromkeys([0, 1, *wrong[:2]]))
    titles = [f"{task.test[i].label}, taken for {said[i]} ({answers.probabilities[i].max():.0%})" for i in chosen]
    if task.name == "video":
        picture = filmstrip([task.test[i] for i in chosen], [answers.weights[i] for i in chosen], titles)
        command.show(options, "video/films.png", picture)
        return
    print(f"\n{task.name}: what attention looked at\n")
    for i, title in zip(chosen, titles):
        print(f"  {title}")
        print(highlighted(task.name, task.test[i], answers.weights[i]))


def highlighted(task: str, example: Example, weights: np.ndarray) -> str:
    """An example as a text in which the weights can be seen."""
    if task == "dna":
        return show_letters(example.steps, weights, example.keys)
    return show_words(example.steps, weights)


# The program


def compare(task: Task, options: argparse.Namespace) -> list[Any]:
    """Train the four networks on a task and show what they do on its test: a row of the table."""
    true = np.array([task.code.labels.index(example.label) for example in task.test])
    accuracy, answers = [], None
    for network in NETWORKS:
        answers = ask(train(network, task, options), task.test, task.code)
        accuracy.append(f"{np.mean(answers.probabilities.argmax(axis=1) == true):.1%}")
    assert answers is not None
    classes = len(task.code.labels)
    counts = np.bincount(true * classes + answers.probabilities.argmax(axis=1), minlength=classes**2)
    figure = viz.confusion(counts.reshape(classes, -1), task.code.labels, title=f"{task.name}: attention")
    print()
    command.show(options, f"{task.name}/confusion.png", figure)
    show_examples(task, answers, options)
    drawn = [(example.keys, a) for example, a in zip(task.test, answers.weights) if example.keys is not None]
    shares = (
        [np.mean([keys.mean() for keys, _ in drawn]), np.mean([a[keys].sum() for keys, a in drawn])] if drawn else []
    )
    return [task.name, f"{task.majority:.1%}", *accuracy, *(f"{share:.0%}" for share in shares)]


def show_line(options: argparse.Namespace) -> None:
    """What the network with attention says of the line in --apply, and what it looked at."""
    known = [name for name in ("file", "sentiment", "dna") if (options.out / folder(name, "attention")).is_dir()]
    task = "file" if options.data else options.task or (known + ["sentiment"])[0]
    if task == "video":
        fail("--apply: a film is no line of text")
    model, about = command.load(options, build, run=folder(task, "attention"))
    text = "".join(options.apply.upper().split())
    if task == "dna" and (not set(text) <= set("ACGT") or len(text) < K):
        fail(f"--apply: DNA is at least {K} of the letters A, C, G and T, got {options.apply!r}")
    steps = kmers(text) if task == "dna" else words(options.apply)
    if not steps:
        fail("--apply: there is no word to read")
    example = Example(about["labels"][0], steps, None)
    answers = ask(model, [example], Code(about["labels"], about["tokens"]))
    ranked = sorted(zip(answers.probabilities[0], about["labels"]), reverse=True)
    print(f"{task}: " + ", ".join(f"{label} {probability:.1%}" for probability, label in ranked[:5]))
    print(highlighted(task, example, answers.weights[0]))


command = CommandLine("classify", __doc__, data="label TAB text", cell="lstm", hidden=32, epochs=5, rate=0.01)
command.add_argument(
    "--task",
    choices=[*PROCESSES, "file"],
    help="what to learn; file: a file of yours, --data (default: sentiment, dna and video)",
)
command.add_argument(
    "--examples",
    type=positive(int),
    metavar="N",
    help="train on so many in every epoch (default: 960 reviews, 1280 sequences, 1200 films; all rows of a file)",
)
command.add_argument(
    "--apply", metavar="TEXT", help="classify this line by the network in --out, of --task; train nothing"
)


@command
def main(options: argparse.Namespace) -> None:
    """The program; see --help."""
    if options.apply is not None:
        show_line(options)
        return
    if options.data and options.task not in (None, "file"):
        fail(f"--data {options.data}: is a task of its own; leave out --task {options.task}")
    if options.task == "file" and not options.data:
        fail("--data: give the file to learn from")
    names = ["file"] if options.data else [options.task] if options.task else list(PROCESSES)
    rows = []
    for name in names:
        mg.seed(options.seed)
        rows.append(compare(file(options) if options.data else generated(name, options), options))
    keys = [] if options.data else ["key steps", "attention on them"]
    print(
        "\naccuracy on the test"
        + ("; of all steps, and of the attention, the share of those that decide" if keys else "")
    )
    print("\n" + table(["task", "largest class", *NETWORKS, *keys], rows))
    if not options.data:
        print("\nno reader of bags can be right on more than half: every example has a twin with the same bag")


if __name__ == "__main__":
    main()
