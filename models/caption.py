"""Captions for pictures: one vector to a sequence of words, given to the network in three ways.

    python -m models.caption                      learn to describe drawings of shapes, in each of the three ways
    python -m models.caption --cell lstm          with another cell
    python -m models.caption --data FILE          pictures of yours: lines of "picture.png TAB its caption"

A picture becomes a vector by two dense layers, and a recurrent network writes its caption word by word, each word its
next input. The vector can be the network's initial state, an input at every step, or both.

The drawings: one or two shapes of 2 sizes, 3 colours and 3 forms, somewhere on 20 by 20 pixels, with noise. Their
captions leave no choice of words: "a large red circle above a small blue square", the upper or left one first, and "a
small green triangle in the top left corner" of a single shape. One description in five is kept for the test: every word
has been learned, but never that sentence. Looking for the most similar picture, the baseline, cannot find those.
"""

from __future__ import annotations

import argparse
import itertools
import textwrap
from typing import Any, NamedTuple

import numpy as np

import minigrad as mg
from minigrad import data, nn
from models.command_line import CommandLine, fail, keep, positive, table

SIDE = 20
SIZES = {"small": 2.6, "large": 4.4}  # half the width, in pixels
COLOURS = {"red": (0.9, 0.2, 0.2), "green": (0.2, 0.75, 0.3), "blue": (0.25, 0.35, 0.95)}
FORMS = ("circle", "square", "triangle")
CORNERS = {"top left": (5, 5), "top right": (5, 14), "bottom left": (14, 5), "bottom right": (14, 14)}
END = "<EOS>"
WAYS = {"state": "initial state", "input": "input at every step", "both": "both"}

command = CommandLine(
    "caption", __doc__, data="lines of PICTURE TAB CAPTION", cell="gru", hidden=96, epochs=9, rate=4e-3
)
command.add_argument("--into", choices=[*WAYS, "all"], default="all", help="how the vector is given to the network")
command.add_argument("--examples", type=positive(int), default=6000, metavar="N", help="drawings to learn from")


class Example(NamedTuple):
    """A picture (SIDE, SIDE, 3) of values from 0 to 1, and its caption; the line it comes from."""

    line: int
    picture: np.ndarray
    words: list[str]


def descriptions() -> list[str]:
    """All that a drawing can show, each in the only words there are for it."""
    things = [" ".join(parts) for parts in itertools.product(SIZES, COLOURS, FORMS)]
    pairs = [f"a {a} {where} a {b}" for a in things for b in things for where in ("left of", "above")]
    return pairs + [f"a {a} in the {corner} corner" for a in things for corner in CORNERS]


def draw(description: str) -> np.ndarray:
    """A drawing of a description: somewhere, of about its size and colour, with noise: (SIDE, SIDE, 3), float32."""
    random = mg.random.generator()
    words = description.split()
    picture = np.ones((SIDE, SIDE, 3))
    places: tuple[tuple[float, float], ...] = ((4.7, 9.5), (14.3, 9.5))
    if "corner" in words:
        places = (CORNERS[" ".join(words[-3:-1])],)
    elif "left" in words:
        places = ((9.5, 4.7), (9.5, 14.3))
    things = description.removesuffix(" corner").replace("left of", "above").split(" above ")
    for thing, (y, x) in zip(things, places):
        _, size, colour, form = thing.split()[:4]
        half = SIZES[size] * random.uniform(0.93, 1.07)
        room = min(4.8 - half, 1.2)
        dy, dx = (np.arange(SIDE) - centre - random.uniform(-room, room) for centre in (y, x))
        dy, dx = dy[:, None], abs(dx[None, :])
        outside = {  # about how far from the shape, in pixels; below 0 inside
            "circle": np.hypot(dy, dx) - half,
            "square": np.maximum(abs(dy), dx) - 0.9 * half,
            "triangle": np.maximum(abs(dy) - half, dx - (dy + half) / 2),
        }[form]
        covered = np.clip(0.5 - outside, 0, 1)[:, :, None]  # the pixels of an edge are covered in part
        picture += covered * (np.array(COLOURS[colour]) + random.normal(0, 0.04, 3) - 1)
    return np.clip(picture + random.normal(0, 0.03, picture.shape), 0, 1).astype("float32")


def drawings(options: argparse.Namespace) -> dict[str, list[Example]]:
    """Drawings to train and validate on, of the same descriptions; and two tests, of these and of new ones."""
    known, new = data.split(descriptions(), 0.8, 0.2)
    random = mg.random.generator()

    def examples(whole: list[str], count: int) -> list[Example]:
        chosen = [whole[i] for i in random.integers(len(whole), size=count)]
        return [Example(i, draw(text), text.split()) for i, text in enumerate(chosen, 1)]

    few = max(options.examples // 12, 50)
    sizes = {"train": options.examples, "valid": few, "known descriptions": few}
    return {**{name: examples(known, n) for name, n in sizes.items()}, "new descriptions": examples(new, few)}


def read(options: argparse.Namespace) -> dict[str, list[Example]]:
    """Pictures and captions of the user's, each picture brought to SIDE by SIDE pixels."""
    from matplotlib.image import imread

    rows = data.read_pairs(options.data, "PICTURE TAB CAPTION")
    examples = []
    for row in keep(rows, lambda row: len(row.target.split()), 40, "words", options.data):
        path = options.data.parent / row.source
        try:
            pixels = np.asarray(imread(path))
        except (OSError, ValueError, SyntaxError) as error:
            fail(f"{options.data}, line {row.line}: {path} cannot be read as a picture: {error}")
        pixels = pixels / np.iinfo(pixels.dtype).max if pixels.dtype.kind in "ui" else pixels
        if pixels.ndim == 2:
            pixels = pixels[:, :, None].repeat(3, 2)
        if pixels.shape[2] == 4:  # what is transparent is white
            pixels = 1 - (1 - pixels[:, :, :3]) * pixels[:, :, 3:]
        places = [np.linspace(0, n - 1, SIDE).round().astype(int) for n in pixels.shape[:2]]
        examples.append(Example(row.line, pixels[np.ix_(*places)].astype("float32"), row.target.split()))
    if len(examples) < 10:
        fail(f"--data {options.data}: {len(examples)} pictures are too few; 10 are the least")
    return dict(zip(("train", "valid", "test"), data.split(examples, 0.8, 0.1, 0.1)))


class Captioner(nn.Module):
    """Pictures (B, SIDE, SIDE, 3) and the words so far (T, B) to the logits of the next words (T, B, words)."""

    def __init__(self, words: int, cell: Any, hidden: int, into: str):
        self.see = nn.Sequential(nn.Linear(SIDE * SIDE * 3, 128), mg.relu, nn.Linear(128, hidden), mg.relu)
        self.embedding = nn.Embedding(words, 32)
        self.writer = nn.OneToMany(cell, hidden, 32, hidden, into=into)
        self.output = nn.Linear(self.writer.net.output_size, words)

    def vector(self, pictures: Any) -> mg.Tensor:
        """What the network sees: (B, hidden)."""
        ink = 1 - np.reshape(pictures, (len(pictures), -1))  # most of a picture is white, and is to say nothing
        return self.see(mg.tensor(ink))

    def loss(self, batch: Any, state: None) -> tuple[mg.Tensor, None]:
        """The mean cross entropy of the words, each predicted from the true ones before it: teacher forcing."""
        pictures, words, lengths = batch
        before = np.concatenate([np.zeros((1, words.shape[1]), "int64"), words[:-1]])  # a caption begins after an end
        outs, _ = self.writer(self.vector(pictures), self.embedding(mg.tensor(before)), lengths=lengths)
        counts = (np.arange(len(words))[:, None] < lengths).astype("float32")
        each = mg.cross_entropy(self.output(outs), mg.tensor(words), reduction="none")
        return (each * mg.tensor(counts)).sum() / float(counts.sum()), None

    def captions(self, pictures: Any, steps: int = 40) -> list[list[int]]:
        """The words that the network writes, the likeliest at each step; without the end."""

        def step(tokens: mg.Tensor, state: Any) -> tuple[mg.Tensor, Any]:
            out, state = self.writer.step(state, self.embedding(tokens))
            return self.output(out), state

        with mg.no_grad():
            state = self.writer.begin(self.vector(pictures))
            return nn.greedy(step, state, [0] * len(pictures), steps, stop=0).tokens


def nearest(train: list[Example], pictures: np.ndarray) -> list[list[str]]:
    """The captions of the training pictures that differ least, pixel by pixel: the baseline."""
    known = np.stack([example.picture.ravel() for example in train])
    asked = pictures.reshape(len(pictures), -1)
    distance = (known**2).sum(1) - 2 * asked @ known.T
    return [train[i].words for i in distance.argmin(axis=1)]


@command
def main(options: argparse.Namespace) -> None:
    """The program; see --help."""
    parts = read(options) if options.data else drawings(options)
    train, valid = parts.pop("train"), parts.pop("valid")
    vocabulary = data.Vocabulary([word for example in train for word in example.words], specials=[END, "<UNK>"])
    print(f"{len(train):,} pictures to learn from, {len({tuple(e.words) for e in train}):,} descriptions, ", end="")
    print(f"{len(vocabulary)} words; tests of {', '.join(f'{len(part):,} ({name})' for name, part in parts.items())}")

    def collate(examples: list[Example]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        words, lengths = data.pad([vocabulary.encode([*example.words, END]) for example in examples])
        return np.stack([example.picture for example in examples]), words, lengths

    def exact(captions: list[list[str]], part: list[Example]) -> str:
        return f"{np.mean([caption == example.words for caption, example in zip(captions, part)]):.1%}"

    pictures = {name: np.stack([example.picture for example in part]) for name, part in parts.items()}
    rows = [["nearest picture", "", *(exact(nearest(train, pictures[name]), part) for name, part in parts.items())]]
    written: dict[str, list[list[str]]] = {}
    for way in WAYS if options.into == "all" else [options.into]:
        mg.seed(options.seed)
        model = Captioner(len(vocabulary), command.cell(options.cell), options.hidden, way)
        print(f"\n{options.cell}, the vector as {WAYS[way]}: {model.num_parameters:,} weights")
        command.fit(
            options,
            model,
            model.loss,
            data.Batches(train, 64, collate, shuffle=True),
            data.Batches(valid, 64, collate),
            items=lambda batch: int(batch[-1].sum()),
            item="word",
            about={"into": way, "words": vocabulary.tokens},
            run=way,
        )
        for name in parts:
            written[name] = [vocabulary.decode(tokens) for tokens in model.captions(pictures[name])]
        rows.append([f"{options.cell}, {WAYS[way]}", f"{model.num_parameters:,}",
                     *(exact(written[name], part) for name, part in parts.items())])  # fmt: skip

    print("\nexact captions\n")
    print(table(["", "weights", *parts], rows))
    name, part = list(parts.items())[-1]
    print(f"\n{'right' if options.data is None else 'caption'} and written, {name}:\n")
    for example, caption in list(zip(part, written[name]))[:5]:
        print(f"  {' '.join(example.words)}\n  {' '.join(caption)}\n")
    command.show(options, "captions.png", sheet(part[:12], written[name][:12]))


def sheet(examples: list[Example], captions: list[list[str]]) -> Any:
    """Pictures with the captions written for them; under a wrong one, what would have been right."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 8.8))
    figure.suptitle("Captions written for pictures not seen in training", y=0.99)
    place = {"left": 0.02, "right": 0.98, "top": 0.91, "bottom": 0.07, "hspace": 0.55, "wspace": 0.05}
    grid = figure.subplots(3, 4, gridspec_kw=place)
    for axes in grid.flat[len(examples) :]:
        axes.set_visible(False)
    for axes, example, caption in zip(grid.flat, examples, captions):
        axes.imshow(example.picture, interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        axes.set_title(wrapped(caption), fontsize=9, parse_math=False)
        if caption != example.words:
            axes.set_xlabel(f"wrong; right is\n{wrapped(example.words)}", fontsize=9, parse_math=False)
    return figure


def wrapped(words: list[str]) -> str:
    """Words in two lines of a picture's width; of more, the beginning."""
    return "\n".join(textwrap.wrap(" ".join(words), 30, max_lines=2, placeholder=" ..."))


if __name__ == "__main__":
    main()
