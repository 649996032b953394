"""A character language model: a recurrent network that learns to write like a text, one character at a time.

    python -m models.char_lm                      train on Python's own documentation, beside Markov models
    python -m models.char_lm --data FILE          train on a text of yours, UTF-8
    python -m models.char_lm --cell all           every cell, in one table
    python -m models.char_lm --sample-only --prompt "The " --temperature 0.5

The network reads a character and predicts the next: P(text) = P(c1) P(c2 | c1) P(c3 | c1 c2) ... Its quality is
measured in bits per character on a part of the text that it has not seen, where a Markov model of order k, which
predicts from the last k characters alone, is the baseline.
"""

from __future__ import annotations

import argparse
import math
import textwrap
import time
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import data, errors, nn, optim, train
from models import ngram
from models.command_line import CELLS, CommandLine, fail, positive, table

STEPS, ROWS = 64, 32  # of a window of truncated backpropagation through time
BITS = train.Measure("bits/char", lambda nats: nats / math.log(2))

command = CommandLine(
    "char_lm", __doc__, data="plain text", cell="lstm", cells=["all"], hidden=256, epochs=6, rate=1.2e-2
)
command.add_argument("--sample-only", action="store_true", help="train nothing: write with the weights in --out")
command.add_argument("--prompt", metavar="TEXT", help="what the sample begins with (without: 'The ')")
command.add_argument(
    "--temperature", type=float, default=0.7, metavar="T", help="of the sample: 1 as learned, lower safer, 0 likeliest"
)
command.add_argument("--length", type=positive(int), default=500, metavar="N", help="characters to write")


class CharModel(nn.Module):
    """Characters (T, B) to the logits of the next ones (T, B, characters): embedding, recurrent layer, linear layer."""

    def __init__(self, characters: int, cell: Any, hidden: int, embedding: int = 64):
        self.embedding = nn.Embedding(characters, embedding)
        self.recurrent = nn.Recurrent(cell, embedding, hidden)
        self.output = nn.Linear(self.recurrent.output_size, characters)

    def forward(self, characters: mg.Tensor, state: Any = None) -> tuple[mg.Tensor, Any]:
        hs, state = self.recurrent(self.embedding(characters), state)
        return self.output(hs), state

    def loss(self, batch: tuple[np.ndarray, np.ndarray], state: Any) -> tuple[mg.Tensor, Any]:
        """The mean cross entropy of the next characters, and the state to go on from."""
        inputs, targets = (mg.tensor(part) for part in batch)
        logits, state = self(inputs, state)
        return mg.cross_entropy(logits, targets), state


def build(about: dict[str, Any]) -> CharModel:
    """The network that these words were said about."""
    return CharModel(len(about["characters"]), command.cell(about["cell"]), about["hidden"])


@command
def main(options: argparse.Namespace) -> None:
    """The program; see --help."""
    if not 0 <= options.temperature < math.inf:
        fail(f"--temperature: must be 0 or more, got {options.temperature}")
    if options.sample_only:
        model, about = command.load(options, build)
        show_sample(model, data.CharVocabulary(about["characters"]), options)
        return

    text = read(options)
    vocabulary = data.CharVocabulary(text)
    check_prompt(options.prompt, vocabulary)
    tokens = vocabulary.encode(text)
    seen = int(len(tokens) * 0.9)
    learned = min(int(len(tokens) * 0.88), seen - 2)
    parts = {"train": tokens[:learned], "validation": tokens[learned:seen], "held out": tokens[seen:]}
    print(f"{len(text):,} characters, {len(vocabulary)} distinct:", end=" ")
    print(", ".join(f"{len(part):,} {name}" for name, part in parts.items()))
    order = min(6, seen - 1)
    markov = ngram.bits_per_symbol(tokens[:seen], tokens[seen:], tokens[:seen], len(vocabulary), order)

    rows: list[list[Any]] = [[f"Markov model of order {k}", bits, "", ""] for k, bits in enumerate(markov)]
    best: tuple[float, str, CharModel | None] = (math.inf, "", None)
    for cell in CELLS if options.cell == "all" else [options.cell]:
        mg.seed(options.seed)
        model = CharModel(len(vocabulary), command.cell(cell), options.hidden)
        start = time.perf_counter()
        print(f"\n{cell} of {options.hidden} units, {model.num_parameters:,} weights")
        try:
            bits = learn(model, cell, parts, vocabulary, options)
        except errors.AnomalyError as error:
            if options.cell != "all":
                raise
            print(error)
            bits = math.nan
        rows.append([cell, bits, f"{model.num_parameters:,}", f"{time.perf_counter() - start:.0f} s"])
        best = min(best, (bits, cell, model), key=lambda each: each[0])

    print("\nheld out\n")
    print(table(["model", "bits/char", "weights", "time"], rows))
    gain = min(markov) - best[0]
    print(f"\n{best[1]} is {abs(gain):.3f} {'below' if gain >= 0 else 'above'} the best Markov model")
    if best[2] is not None:
        show_sample(best[2], vocabulary, options)
    folder = options.out / (best[1] if options.cell == "all" else "")
    print(f"\nweights saved in {folder}; write more with --out {folder} --sample-only --prompt TEXT")


def learn(
    model: CharModel,
    cell: str,
    parts: dict[str, np.ndarray],
    vocabulary: data.CharVocabulary,
    options: argparse.Namespace,
) -> float:
    """Train, and return the bits per character on the part that is held out."""

    def windows(part: str) -> data.ContinuousBatches:
        rows = max(1, min(ROWS, len(parts[part]) // STEPS))
        return data.ContinuousBatches(parts[part], batch_size=rows, length=STEPS)

    batches = windows("train")
    steps = options.epochs * len(batches)
    rate = optim.warmup(min(150, steps), optim.cosine(options.rate, steps))
    command.fit(
        options,
        model,
        model.loss,
        batches,
        windows("validation"),
        optimizer=optim.Adam(model.parameters(), rate, betas=(0.9, 0.99)),
        clip=0.25,
        item="char",
        measure=BITS,
        about={"cell": cell, "characters": vocabulary.characters},
        run=cell if options.cell == "all" else "",
    )
    return BITS.value(train.evaluate(model, model.loss, windows("held out")))


def sample(model: nn.Module, vocabulary: data.CharVocabulary, prompt: str, length: int, temperature: float) -> str:
    """A text that begins with the prompt and goes on for so many characters.

    temperature: the logits are divided by it; below 1 the model plays safe, at 0 it takes the likeliest character.
    """
    numbers = vocabulary.encode(prompt).tolist()
    state, unread = None, numbers
    with mg.no_grad():
        for _ in range(length):
            logits, state = model(mg.tensor(np.asarray(unread)[:, None]), state)
            last = logits[-1, 0]
            if temperature > 0:
                z = last.numpy().astype(np.float64)
                p = np.exp((z - z.max()) / temperature)
                unread = [int(mg.random.generator().choice(len(p), p=p / p.sum()))]
            else:
                unread = [last.argmax().item()]
            numbers += unread
    return vocabulary.decode(numbers)


def show_sample(model: nn.Module, vocabulary: data.CharVocabulary, options: argparse.Namespace) -> None:
    """Print a paragraph that the model writes."""
    check_prompt(options.prompt, vocabulary)
    prompt = options.prompt or ("The " if all(c in vocabulary for c in "The ") else vocabulary.characters[0])
    text = sample(model, vocabulary, prompt, options.length, options.temperature)
    print(f"\nsample, at temperature {options.temperature:g}\n")
    print(textwrap.indent(text.strip("\n"), "  "))


def read(options: argparse.Namespace) -> str:
    """The text to learn: of the file, or without one the help topics that every Python carries.

    Each paragraph once: many topics are parts of others, and what is held out must not have been seen.
    """
    if options.data is None:
        from pydoc_data.topics import topics

        parts = (part.strip("\n") for name in sorted(topics) for part in topics[name].split("\n\n"))
        return "\n\n".join(dict.fromkeys(part for part in parts if part))
    text = data.read_text(options.data)
    if len(text) <= STEPS:
        fail(f"--data {options.data}: {len(text)} characters are too few; one sequence takes {STEPS + 1}")
    return text


def check_prompt(prompt: str | None, vocabulary: data.CharVocabulary) -> None:
    """End the program if the prompt has a character that the text does not have."""
    unknown = sorted({c for c in prompt or "" if c not in vocabulary})
    if unknown:
        fail(f"--prompt: {', '.join(map(repr, unknown))} does not occur in the text that the model learned")


if __name__ == "__main__":
    main()
