"""A tagger: one tag for every word of a sentence, or every character of a program, by nets with and without memory.

    python -m models.tagger                                 both tasks below, by four networks each
    python -m models.tagger --task slots --cell gru         one task; another cell in the network that reads both ways
    python -m models.tagger --data FILE --test FILE         names, parts of speech, ...: words and tags of your own
    python -m models.tagger --task python --apply "x = 1"   tag a line by the networks that were trained before

slots: sentences from a small grammar (`twins`). A city is a destination where the verb is "arrive", and a departure
where it is "leave"; the verb is further away than --window words, so that only a memory can tell.

python: modules of the standard library, character by character. `tokenize` says exactly which are a keyword, a name, a
number, a string, a comment, an operator; the networks are given the text alone. That a character is in a string or a
comment shows only where that began, far behind perhaps; that an "i" begins the keyword "if" shows only ahead.

The networks: a window of so many tokens to each side and a hidden layer, without memory, which is the one to beat;
Elman's, which remembers its hidden units; Jordan's, which remembers what it said; an LSTM that reads both ways.
"""

from __future__ import annotations

import argparse
import io
import itertools
import keyword
import os
import tokenize
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import minigrad as mg
from minigrad import data, nn, viz
from models.command_line import CommandLine, fail, keep, positive, table

BATCH = {"slots": 16, "python": 8, "file": 16}
LONGEST = 1000  # tokens of a row to train on
PADDING = -1
ITEM = {"slots": "word", "python": "character", "file": "word"}

# Slots: where only a verb that is far away tells what a city is

REACH = 3  # so many words stand between a city and any verb, or more
PAIRS = [("arrive", "leave"), ("destination", "departure")]
TWIN = dict(PAIRS) | {b: a for a, b in PAIRS}
CITIES = """Guangzhou Hangzhou Beijing Shanghai Chengdu Kunming Nanjing Harbin Lhasa Taipei Seoul Kyoto Hanoi Bangkok
Delhi Cairo Nairobi Lagos Lisbon Madrid Paris Geneva Vienna Prague Oslo Helsinki Lima Quito Havana Toronto""".split()
OPENINGS = ["i would like to", "we want to", "please help me , i have to", "my friends hope to", "is it possible to"]
LINKS = ["and after that ,", "; some time later", "and in the end"]
PHRASES = """if the weather is fine;with my wife and the dog;as early as possible;after a long week of work
by train if there is one;without a change on the way;for the first time in years;as cheaply as you can
and i am not joking;whatever it may cost""".replace("\n", ";").split(";")
MONTHS = "january february march april may june july august september october november december".split()
DAYS = "monday tuesday wednesday thursday friday saturday sunday".split()


def twins(count: int) -> list[data.Tagged]:
    """2 * count sentences in twos: the same words, but "leave" for "arrive" and the reverse, and the slots accordingly.

    A sentence has one journey or two, each of a verb and a city; the verb, independent of all else, tells the slot of
    its city. Between a city and any verb stand REACH words or more. In half of the sentences the verbs come before
    their cities, in the others after them, so that whoever reads forwards only has to guess. A window of REACH words
    to each side of a city is the same in both twins: what is computed from it is right for one of the two at most.
    """
    rows: list[data.Tagged] = []
    for _ in range(count):
        one = sentence(mg.random.generator())
        for pairs in (one, [(TWIN.get(word, word), TWIN.get(tag, tag)) for word, tag in one]):
            rows.append(data.Tagged(len(rows) + 1, [word for word, _ in pairs], [tag for _, tag in pairs]))
    return rows


def sentence(random: np.random.Generator) -> list[tuple[str, str]]:
    """Words and their tags; see `twins`."""

    def one(of: list[str]) -> str:
        return of[random.integers(len(of))]

    def tagged(text: str) -> list[tuple[str, str]]:  # "on may/date" -> ("on", "other"), ("may", "date")
        return [(word, tag or "other") for word, _, tag in (part.partition("/") for part in text.split())]

    def phrase() -> str:
        number, kind = random.integers(1, 13), random.integers(8)
        dated = [f"on {one(MONTHS)}/date {number}/date", f"next/date {one(DAYS)}/date"]
        timed = [f"at {number}/time {one(['am', 'pm'])}/time", f"with {number} friends"]
        return [*dated, *timed][kind] if kind < 4 else one(PHRASES)

    parts = []
    verb_first = random.random() < 0.5
    for journey in range(1 + (random.random() < 0.3)):
        role = random.integers(2)
        verb, city = PAIRS[0][role], f"{one(CITIES)}/{PAIRS[1][role]}"
        link = one(LINKS) if journey else one(OPENINGS) if verb_first else ""
        between = phrase() if verb_first or random.random() < 0.5 else ""
        while verb_first and len(between.split()) < REACH:
            between += f" , {phrase()}"
        parts += [link, verb, between, city] if verb_first else [link, city, between, "is where we", verb]
    return tagged(" ".join([*parts, "."]))


# Python: its own standard library, and what its own tokenizer says of it. Modules that all versions since 3.11 have.

MODULES = {
    "train": "bdb calendar cmd code copy csv fileinput getopt".split(),
    "valid": "netrc sched".split(),
    "test": "random shlex".split(),
}
KINDS = {"NAME": "name", "NUMBER": "number", "STRING": "string", "COMMENT": "comment", "OP": "operator"}


def kinds(text: str) -> tuple[list[str], list[int]]:
    """The kind of each character of a program, and the places where its statements end.

    "space" is what is part of no token: blanks, line ends, a backslash before one. An f-string is a string as a whole,
    as `tokenize` had it before Python 3.12.
    """
    starts = np.cumsum([0] + [len(line) + 1 for line in text.split("\n")]).tolist()
    found, ends, opened = ["space"] * len(text), [], []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        name = tokenize.tok_name[token.type]
        start, end = (starts[row - 1] + column for row, column in (token.start, token.end))
        if name.endswith("STRING_START"):
            opened.append(start)
        if name.endswith("STRING_END"):
            name, start = "STRING", opened.pop()
        if name in KINDS:
            found[start:end] = ["keyword" if keyword.iskeyword(token.string) else KINDS[name]] * (end - start)
        if name == "NEWLINE":
            ends.append(min(end, len(text)))
    return found, ends


def pieces(text: str, shortest: int = 100) -> list[data.Tagged]:
    """A program in pieces of so many characters or more (the last may be shorter), tagged with their kinds.

    Each begins where a statement does: who reads it and knows nothing of what came before lacks nothing.
    """
    found, ends = kinds(text)
    rows, start = [], 0
    for end in [*ends, len(text)]:
        if end - start >= shortest or start < end == len(text):
            rows.append(data.Tagged(text.count("\n", 0, start) + 1, list(text[start:end]), found[start:end]))
            start = end
    return rows


# Tasks: rows to train on, to choose the best epoch by, and to test on


class Task(NamedTuple):
    """Rows of tokens and tags."""

    name: str
    train: list[data.Tagged]
    valid: list[data.Tagged]
    test: list[data.Tagged]


def slots(options: argparse.Namespace) -> Task:
    """Sentences of the grammar. Those to test on are not trained on, and neither are their twins."""
    pairs = max(2, (options.examples or 1600) // 2)
    rows = twins(pairs)
    seen = {tuple(row.words) for row in rows}
    test = [row for row in twins(300) if tuple(row.words) not in seen]
    return Task("slots", rows, twins(max(1, pairs // 8)), test)


def python(options: argparse.Namespace) -> Task:
    """Pieces of the standard library of this Python."""
    parts = []
    for names in MODULES.values():
        texts = [data.read_text(Path(os.__file__).with_name(f"{name}.py")) for name in names]
        parts.append([row for text in texts for row in pieces(text)])
    long = sum(len(row.words) > LONGEST for row in parts[0])
    print(f"python: of {long} long docstrings only the first {LONGEST:,} characters are trained on")
    train = [data.Tagged(line, words[:LONGEST], tags[:LONGEST]) for line, words, tags in parts[0]]
    return Task("python", train[: options.examples], parts[1], parts[2])


def file(options: argparse.Namespace) -> Task:
    """Sentences of --data, and of --test if it is given."""

    def rows(path: Path) -> list[data.Tagged]:
        return keep(data.read_tagged(path), lambda row: len(row.words), LONGEST, "words", path)

    found = rows(options.data)
    shares = [0.9, 0.1] if options.test else [0.8, 0.1, 0.1]
    sentences = len({tuple(row.words) for row in found})
    if sentences < len(shares):
        fail(
            f"--data {options.data}: {sentences} different sentences are too few; {len(shares)} parts are made of "
            "them. Is there an empty line after each sentence?"
        )
    train, valid, *test = data.split(found, *shares, key=lambda row: tuple(row.words))
    return Task("file", train[: options.examples], valid, rows(options.test) if options.test else test[0])


TASKS = {"slots": slots, "python": python, "file": file}


def looks(token: str, task: str) -> list[str]:
    """What the networks are told of a token; of a word also how it ends and how it is written, in case it is new."""
    if task == "python":
        return [token]
    written = "0" if any(c.isdigit() for c in token) else "Aa" if token[0].isupper() else "aa"
    return [token, "-" + token[-3:].lower(), f"<{written}>"]


# The networks


class Window(nn.Module):
    """No memory: y_t = tanh(W [x_{t-k}, ..., x_{t+k}] + b), where x is 0 before a row begins and after it ends."""

    def __init__(self, size: int, hidden: int, k: int):
        self.k, self.output_size = k, hidden
        self.hidden = nn.Linear((2 * k + 1) * size, hidden)

    def forward(self, xs: mg.Tensor, lengths: Any = None) -> tuple[mg.Tensor, None]:
        edge = mg.zeros((self.k, *xs.shape[1:]), dtype=xs.dtype, backend=xs.backend)
        padded = mg.concat([edge, xs, edge])
        shifted = [padded[i : i + xs.shape[0]] for i in range(2 * self.k + 1)]
        return mg.tanh(self.hidden(mg.concat(shifted, axis=-1))), None


def identity(size: int, hidden: int, task: str) -> nn.Cell:
    """Elman's cell, begun so that it keeps what it has seen; begun at random with tanh, it does not learn `slots`.

    Of the much longer rows of `python` it has to keep less from step to step, or its states, which nothing bounds,
    explode in training. Some batches still do that, and show in the mean loss of an epoch; clipping brings it back.
    """
    scale, std = (0.7, 0.01) if task == "python" else (0.9, 0.03)
    return nn.ElmanCell.irnn(size, hidden, scale=scale, input_std=std)


NETWORKS: dict[str, Callable[..., Any]] = {  # the first is the one to beat; the last has the cell of --cell
    "window": lambda size, hidden, window, **_: Window(size, 2 * hidden, window),
    "elman": lambda size, hidden, task, **_: nn.Recurrent(identity(size, hidden, task)),
    "jordan": lambda size, hidden, tags, **_: nn.Recurrent(nn.JordanCell(size, hidden, len(tags), feedback="softmax")),
    "both ways": lambda size, hidden, cell, **_: nn.Recurrent(command.cell(cell), size, hidden, bidirectional=True),
}


class Tagger(nn.Module):
    """Looks as numbers (T, B, looks) and lengths (B,) to the logits of the tags (T, B, tags).

    The vectors of a token's looks are added. What a Jordan network says are the logits; on others is a linear layer.
    """

    def __init__(self, network: str, task: str, symbols: list[str], tags: list[str], size: int = 32, **more: Any):
        self.task = task
        self.symbols, self.tags = data.Vocabulary((), specials=symbols), data.Vocabulary((), specials=tags)
        self.embedding = nn.Embedding(len(symbols), size)
        self.body = NETWORKS[network](size=size, tags=tags, task=task, **more)
        self.output = nn.Sequential() if network == "jordan" else nn.Linear(self.body.output_size, len(tags))

    def forward(self, xs: mg.Tensor, lengths: np.ndarray) -> mg.Tensor:
        inside = np.arange(xs.shape[0])[:, None, None] < lengths[:, None]
        vectors = mg.where(mg.tensor(inside), self.embedding(xs).sum(axis=2), 0.0)
        return self.output(self.body(vectors, lengths=lengths)[0])

    def encode(self, words: list[str]) -> np.ndarray:
        """The looks of a row of tokens as numbers (T, looks)."""
        return self.symbols.encode([x for word in words for x in looks(word, self.task)]).reshape(len(words), -1)

    def tag(self, rows: list[list[str]]) -> list[np.ndarray]:
        """The likeliest tags of each row of tokens, as numbers (T,)."""
        found = []
        with mg.no_grad():
            for start in range(0, len(rows), 16):
                xs, lengths = data.pad([self.encode(words) for words in rows[start : start + 16]])
                best = self(mg.tensor(xs), lengths).argmax(axis=-1).numpy()
                found += [best[:n, row] for row, n in enumerate(lengths)]
        return found


def collate(examples: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A batch: looks (T, B, looks), lengths (B,), tags (T, B) with PADDING behind the ends."""
    xs, lengths = data.pad([x for x, _ in examples])
    return xs, lengths, data.pad([y for _, y in examples], PADDING)[0]


def learn(network: str, task: Task, about: dict[str, Any], options: argparse.Namespace) -> Tagger:
    """One network, trained."""
    mg.seed(options.seed)
    about = {"network": network, "task": task.name, **about}
    model = Tagger(**about)
    print(f"\n{task.name}, {network}: {model.num_parameters:,} weights")

    def batches(rows: list[data.Tagged], shuffle: bool) -> data.Batches:
        examples = [(model.encode(row.words), model.tags.encode(row.tags)) for row in rows]
        return data.Batches(examples, BATCH[task.name], collate, shuffle, length=lambda example: len(example[1]))

    def loss(batch: Any, state: None) -> tuple[mg.Tensor, None]:
        xs, lengths, ys = batch
        return mg.cross_entropy(model(mg.tensor(xs), lengths), mg.tensor(ys), ignore_index=PADDING), None

    command.fit(
        options, model, loss, batches(task.train, True), batches(task.valid, False), item=ITEM[task.name],
        items=lambda batch: int(batch[1].sum()), about=about, run=folder(task.name, network),
    )  # fmt: skip
    return model


def folder(task: str, network: str) -> str:
    """Where a trained network lies in --out."""
    return f"{task}/{network.replace(' ', '_')}"


# How well they do


def confusion(true: np.ndarray, said: np.ndarray, classes: int) -> np.ndarray:
    """How often each class (row) was given each tag (column)."""
    return np.bincount(true * classes + said, minlength=classes**2).reshape(classes, classes)


def f1(counts: np.ndarray) -> np.ndarray:
    """Of each class the harmonic mean of precision and recall, 2 right / (true + said); NaN where there is none.

    Tokens are counted, each by itself; (the scores of CoNLL count whole names).
    """
    true, said = counts.sum(axis=1), counts.sum(axis=0)
    return np.where(true > 0, 2 * np.diagonal(counts) / np.maximum(true + said, 1), np.nan)


def compare(task: Task, options: argparse.Namespace) -> None:
    """Train the four networks on a task, and show how they do on its test."""
    for part, rows in zip(("train", "validation", "test"), task[1:]):
        print(f"{task.name}, {part}: {len(rows):,} rows, {sum(len(row.words) for row in rows):,} {ITEM[task.name]}s")
    seen = Counter(look for row in task.train for word in row.words for look in looks(word, task.name))
    symbols = data.Vocabulary([look for look, n in seen.items() if n > 1], specials=["<UNK>"]).tokens
    tags = sorted({tag for rows in task[1:] for row in rows for tag in row.tags})
    window = options.window or (5 if task.name == "python" else REACH)
    about = {"symbols": symbols, "tags": tags, "hidden": options.hidden, "cell": options.cell, "window": window}
    said, counts = {}, {}
    for name in NETWORKS:
        model = learn(name, task, about, options)
        said[name] = model.tag([row.words for row in task.test])
        true = [model.tags.encode(row.tags) for row in task.test]
        counts[name] = confusion(np.concatenate(true), np.concatenate(said[name]), len(tags))

    score = {name: f1(c) for name, c in counts.items()}
    macro = {name: float(np.nanmean(s)) for name, s in score.items()}
    there = np.bincount(np.concatenate(true), minlength=len(tags))
    lines = [[tag, f"{there[i]:,}", *(float(s[i]) for s in score.values())] for i, tag in enumerate(tags) if there[i]]
    lines.append(["macro F1", "", *macro.values()])
    lines.append(["accuracy", "", *(float(np.trace(c) / c.sum()) for c in counts.values())])
    print(f"\n{task.name}, test: F1 of each tag\n\n{table(['tag', ITEM[task.name] + 's', *NETWORKS], lines)}")
    if task.name == "slots":
        show_cities(task.test, said, tags)
    best = max(macro, key=macro.__getitem__)
    gain = f"{macro[best] - macro['window']:.3f} above the {macro['window']:.3f} of the window of {window}"
    print(f"\n{task.name}: best is {best} with a macro F1 of {macro[best]:.3f}, {gain} to each side, without memory")
    command.show(options, f"{task.name}.png", viz.confusion(counts[best], tags, title=f"{task.name}, {best}: test"))


def show_cities(rows: list[data.Tagged], said: dict[str, list[np.ndarray]], tags: list[str]) -> None:
    """How many cities are given their slot, where the verb stands before them and where after."""
    lines = []
    for what, verb_first in (("before", True), ("after", False)):
        at = [(i, t) for i, row in enumerate(rows) for t, tag in enumerate(row.tags)
              if tag in PAIRS[1] and verb_first == (row.tags[0] == "other")]  # fmt: skip
        right = {name: [tags[said[name][i][t]] == rows[i].tags[t] for i, t in at] for name in NETWORKS}
        lines.append([f"{what} the city", f"{len(at)}", *(float(np.mean(r or [0])) for r in right.values())])
    print(f"\nslots, test: share of cities in the right slot, which is 0.5 by chance\n\n"
          f"{table(['verb', 'cities', *NETWORKS], lines)}")  # fmt: skip


def show_line(options: argparse.Namespace) -> None:
    """What the four trained networks say of the line in --apply."""
    known = [task for task in TASKS if (options.out / task).is_dir()]
    task = options.task or (known or ["slots"])[0]
    tokens = list(options.apply) if task == "python" else options.apply.split()
    if not tokens:
        fail("--apply: there is nothing to tag")
    said = []
    for name in NETWORKS:
        model, _ = command.load(options, lambda about: Tagger(**about), run=folder(task, name))
        said.append(model.tags.decode(model.tag([tokens])[0]))
    rows = list(zip(tokens, zip(*said)))
    if task == "python":  # characters in runs of which each network says the same
        runs = itertools.groupby(rows, key=lambda row: row[1])
        rows = [(repr("".join(token for token, _ in run)), tags) for tags, run in runs]
    print(table([ITEM[task] + "s" * (task == "python"), *NETWORKS], [[text, *tags] for text, tags in rows]))


about = "a word, a tab and its tag on each line, an empty line after each sentence"
command: CommandLine = CommandLine("tagger", __doc__, data=about, cell="lstm", hidden=32, epochs=5, rate=0.02)
add = command.add_argument
add("--task", choices=TASKS, help="what to tag (slots and python, one after the other; or file, with --data)")
add("--test", type=Path, metavar="FILE", help="test on this file (without it: on a tenth of --data)")
add("--examples", type=positive(int), metavar="N", help="sentences or pieces to train on (1600 sentences, all pieces)")
add("--window", type=positive(int), metavar="K", help=f"tokens to each side ({REACH} words, 5 characters)")
add("--apply", metavar="TEXT", help="train nothing, but tag this line by the networks in --out")


@command
def main(options: argparse.Namespace) -> None:
    """The program; see --help."""
    if options.apply is not None:
        show_line(options)
        return
    if options.data and options.task not in (None, "file"):
        fail(f"--data {options.data}: is a task of its own; leave out --task {options.task}")
    if (options.task == "file" or options.test) and not options.data:
        fail("--data: give the file to learn from")
    for task in ["file"] if options.data else [options.task] if options.task else ["slots", "python"]:
        compare(TASKS[task](options), options)


if __name__ == "__main__":
    main()
