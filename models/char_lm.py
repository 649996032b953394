"""A character language model: a recurrent network that learns to write like a text, one character at a time.

    python -m models.char_lm                         train on Python's own documentation, beside Markov models
    python -m models.char_lm --text FILE             train on a text of yours
    python -m models.char_lm --sample-only --prompt "The " --temperature 0.5

The network reads a character and predicts the next: P(text) = P(c1) P(c2 | c1) P(c3 | c1 c2) ... Its quality is
measured in bits per character on a part of the text that it has not seen, where a Markov model of order k, which
predicts from the last k characters alone, is the baseline.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import textwrap
import time
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

import minigrad as mg
from minigrad import data, nn, optim, train
from models import ngram

CELLS = {"elman": nn.ElmanCell, "lstm": nn.LSTMCell, "gru": nn.GRUCell}
STEPS, ROWS = 64, 32  # of a window of truncated backpropagation through time
BITS = train.Measure("bits/char", lambda nats: nats / math.log(2))


class CharModel(nn.Module):
    """Characters (T, B) to the logits of the next ones (T, B, characters): embedding, recurrent layer, linear layer."""

    def __init__(self, characters: int, cell: str, hidden: int, embedding: int = 64):
        self.embedding = nn.Embedding(characters, embedding)
        self.recurrent = nn.Recurrent(CELLS[cell], embedding, hidden)
        self.output = nn.Linear(hidden, characters)

    def forward(self, characters: mg.Tensor, state: Any = None) -> tuple[mg.Tensor, Any]:
        hs, state = self.recurrent(self.embedding(characters), state)
        return self.output(hs), state


def sample(model: CharModel, vocabulary: data.CharVocabulary, prompt: str, length: int, temperature: float) -> str:
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


def main(arguments: list[str] | None = None) -> None:
    """The program; see --help."""
    options = parse(arguments)
    try:
        mg.use(options.backend)
    except mg.MinigradError as error:
        fail(f"--backend {options.backend}: {error}")
    mg.seed(options.seed)
    if options.sample_only:
        model, vocabulary = load(options.weights)
        show_sample(model, vocabulary, options)
        return

    check_writable(options.weights)
    text = read(options.text)
    vocabulary = data.CharVocabulary(text)
    check_prompt(options.prompt, vocabulary)
    tokens = vocabulary.encode(text)
    seen = int(len(tokens) * 0.9)
    learned = min(int(len(tokens) * 0.88), seen - 2)
    parts = {"train": tokens[:learned], "validation": tokens[learned:seen], "held out": tokens[seen:]}
    print(f"{len(text):,} characters, {len(vocabulary)} distinct:", end=" ")
    print(", ".join(f"{len(part):,} {name}" for name, part in parts.items()))

    def windows(part: np.ndarray) -> data.ContinuousBatches:
        rows = max(1, min(ROWS, len(part) // STEPS))
        return data.ContinuousBatches(part, batch_size=rows, length=STEPS)

    model = CharModel(len(vocabulary), options.cell, options.hidden)
    batches = windows(parts["train"])
    steps = options.epochs * len(batches)
    rate = optim.warmup(min(150, steps), optim.cosine(options.lr, steps))
    optimizer = optim.Adam(model.parameters(), rate, betas=(0.9, 0.99))
    print(f"{options.cell} of {options.hidden} units, {model.num_parameters:,} weights, {steps:,} steps of Adam")

    def loss(batch: tuple[np.ndarray, np.ndarray], state: Any) -> tuple[mg.Tensor, Any]:
        inputs, targets = (mg.tensor(part) for part in batch)
        logits, state = model(inputs, state)
        return mg.cross_entropy(logits, targets), state

    def save(epoch: train.Epoch) -> None:
        about = {"cell": options.cell, "hidden": options.hidden, "characters": vocabulary.characters}
        mg.io.save(options.weights, model.state_dict(), {"char_lm": json.dumps(about)})

    start = time.perf_counter()
    history = train.fit(
        model,
        optimizer,
        loss,
        batches,
        windows(parts["validation"]),
        epochs=options.epochs,
        clip=0.25,
        item="char",
        measure=BITS,
        on_best=save,
    )
    print(f"trained in {time.perf_counter() - start:.0f} s")

    bits = BITS.value(train.evaluate(model, loss, windows(parts["held out"])))
    order = min(6, seen - 1)
    markov = ngram.bits_per_symbol(tokens[:seen], tokens[seen:], tokens[:seen], len(vocabulary), order)
    print("\nbits per character, held out\n")
    best = min(markov)
    for k, value in enumerate(markov):
        print(f"  Markov model of order {k}    {value:.3f}{'   the best of these' if k == markov.index(best) else ''}")
    gain = best - bits
    side = "below" if gain >= 0 else "above"
    print(f"  {options.cell:<24} {bits:.3f}   {abs(gain):.3f} {side} the best Markov model")
    show_sample(model, vocabulary, options)
    if history:
        print(f"\nweights saved in {options.weights}; write more with --sample-only --prompt TEXT")


def show_sample(model: CharModel, vocabulary: data.CharVocabulary, options: argparse.Namespace) -> None:
    """Print a paragraph that the model writes."""
    check_prompt(options.prompt, vocabulary)
    prompt = options.prompt or ("The " if all(c in vocabulary for c in "The ") else vocabulary.characters[0])
    text = sample(model, vocabulary, prompt, options.length, options.temperature)
    print(f"\nsample, at temperature {options.temperature:g}\n")
    print(textwrap.indent(text.strip("\n"), "  "))


def read(path: str | None) -> str:
    """The text to learn: of the file, or without one the help topics that every Python carries."""
    if path is None:
        from pydoc_data.topics import topics

        return "\n".join(topics[name] for name in sorted(topics))
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        fail(f"--text {path}: {error.strerror or error}")
    except UnicodeDecodeError as error:
        fail(f"--text {path}: not UTF-8 at byte {error.start}; convert it first (iconv -t UTF-8)")
    if len(text) <= STEPS:
        fail(f"--text {path}: {len(text)} characters are too few; one sequence takes {STEPS + 1}")
    return text


def load(path: Path) -> tuple[CharModel, data.CharVocabulary]:
    """The model in a file of weights, and its vocabulary."""
    try:
        weights, metadata = mg.io.load(path)
        about = json.loads(metadata["char_lm"])
        vocabulary = data.CharVocabulary(about["characters"])
        model = CharModel(len(vocabulary), about["cell"], about["hidden"])
        model.load_state_dict(weights)
    except FileNotFoundError:
        fail(f"--weights {path}: there is no such file; train first, without --sample-only")
    except (mg.MinigradError, KeyError, ValueError, TypeError):
        fail(f"--weights {path}: not weights that this program saved")
    return model, vocabulary


def check_writable(path: Path) -> None:
    """End the program if the weights could not be saved there, before it has trained for long."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fail(f"--weights {path}: {error.strerror or error}")
    if (path.exists() and not path.is_file()) or not os.access(path.parent, os.W_OK):
        fail(f"--weights {path}: cannot be written")


def check_prompt(prompt: str | None, vocabulary: data.CharVocabulary) -> None:
    """End the program if the prompt has a character that the text does not have."""
    unknown = sorted({c for c in prompt or "" if c not in vocabulary})
    if unknown:
        fail(f"--prompt: {', '.join(map(repr, unknown))} does not occur in the text that the model learned")


def fail(message: str) -> NoReturn:
    """End the program with one line and exit code 2."""
    print(f"char_lm: {message}", file=sys.stderr)
    raise SystemExit(2)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m models.char_lm",
        description="Train a recurrent network to write like a text, and compare it with Markov models.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--text", metavar="FILE", help="the text to learn, UTF-8 (None: Python's documentation)")
    parser.add_argument("--cell", choices=CELLS, default="lstm", help="the recurrent cell")
    parser.add_argument("--hidden", type=positive(int), default=256, metavar="H", help="units of the recurrent layer")
    parser.add_argument("--epochs", type=positive(int), default=6, metavar="N", help="passes over the training part")
    parser.add_argument("--lr", type=positive(float), default=1.2e-2, metavar="R", help="highest learning rate")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the weights and the sample")
    parser.add_argument("--backend", choices=["numpy", "cupy"], default="numpy", help="where to compute")
    parser.add_argument("--weights", type=Path, default="runs/char_lm.safetensors", metavar="FILE", help="of the model")
    parser.add_argument("--sample-only", action="store_true", help="train nothing: read the weights and write a sample")
    parser.add_argument("--prompt", metavar="TEXT", help="what the sample begins with (None: 'The ')")
    parser.add_argument(
        "--temperature",
        type=float,
        default=0.7,
        metavar="T",
        help="of the sample: 1 as learned, lower safer, 0 the likeliest",
    )
    parser.add_argument("--length", type=positive(int), default=500, metavar="N", help="characters to write")
    options = parser.parse_args(arguments)
    if not 0 <= options.temperature < math.inf:
        fail(f"--temperature: must be 0 or more, got {options.temperature}")
    if options.seed < 0:
        fail(f"--seed: must be 0 or more, got {options.seed}")
    return options


def positive(kind: type) -> Any:
    """A reader of positive numbers for the command line."""

    def number(text: str) -> Any:
        value = kind(text)
        if not 0 < value < math.inf:
            raise argparse.ArgumentTypeError(f"must be positive, got {text}")
        return value

    number.__name__ = kind.__name__
    return number


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
