"""A word language model: a recurrent network that knows how probable a sentence is, word by word.

    python -m models.word_lm                             learn from Python's documentation, beside n-grams
    python -m models.word_lm --data book.txt --vocabulary 3000 --input embedding
    python -m models.word_lm --apply "An object is a list if it was made by a list display."

P(sentence) = P(w1) P(w2 | w1) P(w3 | w1 w2) ... P(<EOS> | all of it): the network reads a word and predicts the next.
It knows the most frequent words; all others are predicted as <UNK>, but read by their letters (--input trigrams). What
it has to beat are n-grams, which count what followed the last one to four words, with the same vocabulary.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

import minigrad as mg
from minigrad import data, nn, optim, train
from models import ngram
from models.command_line import CommandLine, fail, keep, positive, table

SPECIALS, EOS, UNK = ["<EOS>", "<UNK>"], 0, 1
PAD = ""  # the trigram of number 0, which fills up words that have fewer than others
LONGEST = 100
BATCH = 16
PERPLEXITY = train.Measure("perplexity", lambda nats: math.exp(min(nats, 700.0)))
INPUTS = ["one-hot", "embedding", "trigrams"]

# Words, sentences, paragraphs


class Sentence(NamedTuple):
    """The words of a sentence, without <EOS>, and the line where its paragraph begins."""

    line: int
    words: list[str]


def words_of(text: str) -> list[str]:
    """Words (letters, digits and _, from a letter or _), numbers, and all other marks one by one; in small letters.

    >>> words_of("Isn't __init__ 3.5 times f(x)?")
    ["isn't", '__init__', '3.5', 'times', 'f', '(', 'x', ')', '?']
    """
    return re.findall(r"[^\W\d]\w*(?:['\u2019][^\W\d_]+)?|\d+(?:\.\d+)*|[^\w\s]", text.lower())


def text_of(words: Iterable[str]) -> str:
    """Words as people write them; `words_of` makes the same words of it again."""
    text = re.sub(r" ([.,:;?!)\]}%])", r"\1", " ".join(words))
    return re.sub(r'" (.*?) "', r'"\1"', re.sub(r"([(\[{]) ", r"\1", text))


def sentences_of(line: int, paragraph: str) -> list[Sentence]:
    """The sentences of a paragraph: one ends after . ! ? (and what it closes) before a blank, but not after "e.g."."""
    parts = re.split(r"(?<!\b\w\.)(?:(?<=[.!?])|(?<=[.!?][\"')\]]))\s+", paragraph)
    return [Sentence(line, words) for words in map(words_of, parts) if words]


def paragraphs(text: str) -> list[list[Sentence]]:
    """A text parted at its empty lines, or where it has none, at every line; as sentences."""
    gap = r"\n([^\S\n]*\n)+"
    gap = gap if re.search(gap, text.strip()) else r"\n"
    found, start = [], 0
    for part in [*re.finditer(gap, text), None]:
        end = part.start() if part else len(text)
        line = 1 + text.count("\n", 0, end - len(text[start:end].lstrip()))
        found.append(sentences_of(line, text[start:end]))
        start = part.end() if part else end
    return [sentences for sentences in found if sentences]


def documentation() -> str:
    """The prose of the help topics that every Python carries, each paragraph once.

    Prose is what ends in . : ! or ?, which grammar, headings and most examples do not. Many topics are parts of others,
    some with small changes: a paragraph is left out if half or more of its runs of four words have been there before.
    """
    from pydoc_data.topics import topics

    kept: list[str] = []
    seen: set[tuple[str, ...]] = set()
    for part in "\n\n".join(topics[name] for name in sorted(topics)).split("\n\n"):
        part = re.sub(r"(?<!\w)\*+(\w[^*]*)\*+", r"\1", " ".join(part.split()))
        words = words_of(part)
        runs = {tuple(words[i : i + 4]) for i in range(max(1, len(words) - 3))}
        if part.endswith((".", ":", "!", "?")) and len(runs & seen) < len(runs) / 2:
            kept.append(part)
        seen |= runs
    return "\n\n".join(kept)


# The network


class Batch(NamedTuple):
    """Sentences side by side: places in the lists of the batch's distinct words (T, B), and what is to be predicted."""

    read: np.ndarray  # (T, B)
    numbers: np.ndarray  # (distinct words,): in the vocabulary, or <UNK>
    trigrams: np.ndarray  # (distinct words, of the longest); 0 where a word has fewer
    places: np.ndarray  # of the words that count among T * B: the others are padding
    targets: np.ndarray  # (words that count,)


class Lexicon(NamedTuple):
    """What a network knows of words."""

    words: data.Vocabulary
    trigrams: data.Vocabulary

    @classmethod
    def of(cls, sentences: Sequence[Sentence], size: int) -> Lexicon:
        """The `size` most frequent words, without those seen once, so that it is learned when to expect <UNK>."""
        counts = Counter(word for sentence in sentences for word in sentence.words)
        trigrams = sorted({trigram for word in counts for trigram in data.letter_trigrams(word)})
        often = [word for word, count in counts.items() for _ in range(count) if count > 1]
        return cls(data.Vocabulary(often, size, SPECIALS), data.Vocabulary((), specials=[PAD, *trigrams]))

    def spell(self, words: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """The numbers of words, and of their trigrams: those seen in training. <EOS> and <UNK> have none."""
        spelled = [() if word in SPECIALS else data.letter_trigrams(word) for word in words]
        known = [[trigram for trigram in trigrams if trigram in self.trigrams] or [PAD] for trigrams in spelled]
        return self.words.encode(words), data.pad([self.trigrams.encode(trigrams) for trigrams in known])[0].T

    def numbers(self, sentences: Sequence[Sentence]) -> list[np.ndarray]:
        """What is to be predicted: sentences as numbers, with <EOS> at their ends."""
        return [np.append(self.words.encode(sentence.words), EOS) for sentence in sentences]

    def batch(self, sentences: Sequence[Sentence]) -> Batch:
        distinct = ["<EOS>", *sorted({word for sentence in sentences for word in sentence.words})]
        place = {word: i for i, word in enumerate(distinct)}
        read, _ = data.pad([[0, *(place[word] for word in sentence.words)] for sentence in sentences])
        targets, lengths = data.pad(self.numbers(sentences))
        counts = np.arange(len(targets))[:, None] < lengths
        return Batch(read, *self.spell(distinct), np.flatnonzero(counts), targets[counts])


class WordModel(nn.Module):
    """Words to the logits of those that follow. A word comes in as one of three vectors:

    one-hot: 1 at its number and 0 elsewhere, with one number for all others, <UNK>. The first thing that a network does
        with it is to multiply it by a matrix, and that picks a column: one-hot input *is* an embedding, whose vectors
        are the columns of the cell's weight_ih.
    embedding: its row of a table. The same rows, as weights of the output, predict it (Press and Wolf 2017).
    trigrams: its row, plus a row for each of its letter trigrams (word hashing, Huang et al. 2013; both together,
        Bojanowski et al. 2017), by which words that are not in the vocabulary differ. In training one word in ten is
        read as if it were unknown, by its letters alone, and half of the unknown are read without their letters.
    """

    def __init__(self, lexicon: Lexicon, input: str, cell: Any, hidden: int, dropout: float, embedding: int = 128):
        words = len(lexicon.words)
        self.lexicon, self.input, self.dropout = lexicon, input, dropout
        self.table = nn.Parameter(mg.random.normal((words, embedding), std=0.1))
        if input == "trigrams":
            self.letters = nn.Parameter(mg.random.normal((len(lexicon.trigrams), embedding), std=0.1))
        self.recurrent = nn.Recurrent(cell, words if input == "one-hot" else embedding, hidden)
        self.narrow = nn.Linear(self.recurrent.output_size, embedding)
        self.bias = nn.Parameter(mg.zeros((words,)))

    def vectors(self, numbers: np.ndarray, trigrams: np.ndarray) -> mg.Tensor:
        """The vectors of words, (words, input_size), from what `Lexicon.spell` says of them."""
        if self.input == "one-hot":
            return mg.one_hot(mg.tensor(numbers), len(self.table))
        if self.input == "trigrams" and self.training:
            chance = mg.random.generator().random((2, len(numbers)))
            numbers = np.where((chance[0] < 0.1) & (numbers != EOS), UNK, numbers)
            trigrams = np.where(((chance[1] < 0.5) & (numbers == UNK))[:, None], 0, trigrams)
        own = mg.embedding(self.table, mg.tensor(numbers))
        return own + self.spelling(trigrams) if self.input == "trigrams" else own

    def spelling(self, trigrams: np.ndarray) -> mg.Tensor:
        """Half the sums of the vectors of trigrams (words, trigrams), of which 0 is none."""
        there = mg.tensor((trigrams > 0).astype("float32")[..., None])
        return (mg.embedding(self.letters, mg.tensor(trigrams)) * there).sum(axis=1) / 2

    def forward(self, read: np.ndarray, numbers: np.ndarray, trigrams: np.ndarray, state: Any = None) -> Any:
        """Outputs (T, B, embedding) of which `logits` makes logits, and the state after the last step."""
        xs = self.vectors(numbers, trigrams)[mg.tensor(read)]
        outs, state = self.recurrent(mg.dropout(xs, self.dropout / 2, training=self.training), state)
        return self.narrow(mg.dropout(outs, self.dropout, training=self.training)), state

    def logits(self, outs: mg.Tensor) -> mg.Tensor:
        """(..., embedding) to (..., words)."""
        return mg.linear(outs, self.table, self.bias)

    def losses(self, batch: Batch) -> mg.Tensor:
        """-log P of all words of the batch that count, (words that count,)."""
        outs, _ = self(batch.read, batch.numbers, batch.trigrams)
        logits = self.logits(outs.reshape((-1, outs.shape[-1]))[mg.tensor(batch.places)])
        return mg.cross_entropy(logits, mg.tensor(batch.targets), reduction="none")

    def log_probabilities(self, sentences: Sequence[Sentence], *, letters: bool = True) -> list[np.ndarray]:
        """log P of each word of each sentence, with its <EOS>. letters: whether those of unknown words are read."""
        found = [np.empty(0)] * len(sentences)
        order = sorted(range(len(sentences)), key=lambda i: len(sentences[i].words))
        for rows in (order[i : i + 16] for i in range(0, len(order), 16)):
            batch = self.lexicon.batch([sentences[i] for i in rows])
            if not letters:
                batch = batch._replace(trigrams=np.where(batch.numbers[:, None] == UNK, 0, batch.trigrams))
            logs = np.zeros(batch.read.size)
            with mg.no_grad():
                logs[batch.places] = -self.losses(batch).numpy()
            for i, column in zip(rows, logs.reshape(batch.read.shape).T):
                found[i] = column[: len(sentences[i].words) + 1]
        return found

    def sample(self, prompt: str, count: int, temperature: float) -> list[str]:
        """Sentences that begin with the prompt; <UNK> is forbidden."""
        words, known, state = ["<EOS>", *words_of(prompt)], self.lexicon.words, None

        def step(numbers: mg.Tensor, state: Any) -> tuple[mg.Tensor, Any]:  # only the prompt's last word may be <UNK>
            read = [words[-1] if number == UNK else known.tokens[number] for number in numbers.numpy()]
            outs, state = self(np.arange(count)[None], *self.lexicon.spell(read), state)
            return self.logits(outs[0]), state

        with mg.no_grad():
            if len(words) > 1:
                _, state = self(np.tile(np.arange(len(words) - 1)[:, None], count), *self.lexicon.spell(words[:-1]))
        first = known.encode([words[-1]] * count)
        made = nn.sample(step, state, first, LONGEST, temperature=temperature, stop=EOS, forbidden=[UNK])
        return [text_of([*words[1:], *known.decode(tokens)]) for tokens in made.tokens]

    def alike(self, word: str, count: int = 3) -> list[str]:
        """The known words whose trigrams' vectors point most nearly the way of this one's; none, if it has none."""
        words = [word, *self.lexicon.words.tokens[UNK + 1 :]]
        with mg.no_grad():
            one, *others = vectors = self.spelling(self.lexicon.spell(words)[1]).numpy()
        cosines = np.array(others) @ one / np.maximum(np.linalg.norm(vectors[1:], axis=1), 1e-9)
        return [words[1 + i] for i in np.argsort(-cosines)[:count]] if one.any() else []


# What is measured


def perplexity(log_probabilities: Iterable[np.ndarray]) -> float:
    """exp of the mean of -log P: as unsure as if it had to choose among so many words, all equally probable."""
    logs = np.concatenate(list(log_probabilities))
    return math.exp(-logs.mean()) if logs.size else math.nan


def twin(sentence: Sentence, *, neighbours: bool) -> Sentence:
    """The same words in another order, but for the last: all of them shuffled, or only two neighbours exchanged."""
    random, (*words, last) = mg.random.generator(), sentence.words
    twins = words
    while twins == words:
        i = int(random.integers(len(words) - 1))
        order = [*range(i), i + 1, i, *range(i + 2, len(words))] if neighbours else random.permutation(len(words))
        twins = [words[i] for i in order]
    return Sentence(sentence.line, [*twins, last])


def above(ones: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> float:
    """How often, in percent, one sentence is more probable than the other; equals count half."""
    gains = np.array([math.fsum(one) - math.fsum(other) for one, other in zip(ones, others)])
    return 100 * float(((gains > 0) + (gains == 0) / 2).mean()) if gains.size else math.nan


def compare(networks: dict[str, WordModel], learned: list[Sentence], held_out: list[Sentence]) -> None:
    """Print how n-grams and networks do on the same held-out sentences, and on their twins."""
    lexicon = next(iter(networks.values())).lexicon
    train, unknown = lexicon.numbers(learned), [words == UNK for words in lexicon.numbers(held_out)]
    after = [np.append(False, words[:-1]) for words in unknown]
    long = [len(s.words) >= 5 and len(set(s.words[:-1])) > 1 for s in held_out]
    twins = [[twin(s, neighbours=way) for s, is_long in zip(held_out, long) if is_long] for way in (False, True)]
    logs: dict[str, list[list[np.ndarray]]] = {}  # of the sentences and both kinds of twins
    for n in range(1, 6):
        model = ngram.KneserNey(train, len(lexicon.words), n, EOS)
        logs[f"{n}-gram"] = [model.log_probabilities(lexicon.numbers(part)) for part in (held_out, *twins)]
    best = min(logs, key=lambda name: perplexity(logs[name][0]))
    for name, network in networks.items():
        logs[name] = [network.log_probabilities(part) for part in (held_out, *twins)]
    ours = min(networks, key=lambda name: perplexity(logs[name][0]))
    for name, network in networks.items():
        if network.input == "trigrams":
            logs[f"{name}, letters hidden"] = [
                network.log_probabilities(part, letters=False) for part in (held_out, *twins)
            ]
    pairs = zip(logs[ours], logs[best])
    logs[f"{ours} and {best}"] = [[np.logaddexp(a, b) - math.log(2) for a, b in zip(*pair)] for pair in pairs]
    rows = []
    for name, (found, *others) in logs.items():
        parts = [found, [log[~u] for log, u in zip(found, unknown)], [log[a] for log, a in zip(found, after)]]
        ones = [log for log, is_long in zip(found, long) if is_long]
        numbers = [perplexity(part) for part in parts] + [above(ones, other) for other in others]
        rows.append([name, *("-" if math.isnan(x) else f"{x:.1f}" + "%" * (i > 2) for i, x in enumerate(numbers))])
    print(
        f"\nperplexity of all held-out words, of the known, of the {sum(map(sum, after))} after an unknown one; and how"
    )
    print(f"often each of {sum(long)} sentences is more probable than itself scrambled, or with neighbours exchanged\n")
    print(table(["model", "all", "known", "after unknown", "scrambled", "exchanged"], rows))
    gain = 1 - perplexity(logs[ours][0]) / perplexity(logs[best][0])
    print(f"\n{ours}: {abs(gain):.1%} {'below' if gain > 0 else 'above'} the best n-gram; the last row is their mean")


# The program

command = CommandLine(
    "word_lm", __doc__, cell="lstm", hidden=224, epochs=5, rate=0.014,
    data="plain text; sentences end at . ! ? and empty lines (at line ends, where there are none)",
)  # fmt: skip
command.add_argument(
    "--vocabulary", type=positive(int), default=2000, metavar="N", help="words known at most, all seen twice or more"
)
command.add_argument("--input", choices=[*INPUTS, "all"], default="trigrams", help="how words are read; all: compare")
command.add_argument(
    "--dropout", type=float, default=0.45, metavar="P", help="of outputs, in training; of inputs half of it"
)
command.add_argument("--apply", metavar="TEXT", help="train nothing: how probable is TEXT to the network in --out?")
command.add_argument("--samples", type=positive(int), default=5, metavar="N", help="sentences to make")
command.add_argument("--prompt", default="", metavar="TEXT", help="what they begin with")
command.add_argument("--temperature", type=float, default=0.7, metavar="T", help="0: the likeliest; 1: as learned")


def build(about: dict[str, Any]) -> WordModel:
    """The network of these sizes and words."""
    lexicon = Lexicon(*(data.Vocabulary((), specials=about[name]) for name in ("words", "trigrams")))
    return WordModel(lexicon, about["input"], command.cell(about["cell"]), about["hidden"], about["dropout"])


@command
def main(options: Any) -> None:
    """The program; see --help."""
    for name, good in (("dropout", 0 <= options.dropout < 1), ("temperature", 0 <= options.temperature < math.inf)):
        if not good:
            fail(f"--{name}: must be 0 or more{' and below 1' * (name == 'dropout')}, got {vars(options)[name]}")
    if options.vocabulary < 3:
        fail(f"--vocabulary: <EOS> and <UNK> are two of the words, so it takes 3, got {options.vocabulary}")
    if options.apply is not None:
        apply(options)
        return
    text = documentation() if options.data is None else data.read_text(options.data)
    found = paragraphs(text)
    if len(found) < 20:
        fail(f"--data {options.data}: {len(found)} paragraphs are too few to learn from some and be tested on others; "
             "it takes 20, parted by empty lines, or lines where there are none")  # fmt: skip
    print(f"{len(found):,} paragraphs, {sum(map(len, found)):,} sentences: 85% learned, 5% to choose by, 10% held out")
    parts = [[s for sentences in part for s in sentences] for part in data.split(found, 0.85, 0.05, 0.1)]
    learned, valid, held_out = (keep(part, lambda s: len(s.words), LONGEST, "words") for part in parts)
    lexicon = Lexicon.of(learned, options.vocabulary)
    numbers, seen = np.concatenate(lexicon.numbers(held_out)), {tuple(s.words) for s in learned}
    both = sum(tuple(sentence.words) in seen for sentence in held_out)
    print(
        f"{len(lexicon.words):,} words known; {len(numbers):,} held out, {(numbers == UNK).mean():.1%} of them unknown;"
    )
    print(f"of {len(held_out)} held-out sentences {both} are also among the learned")

    networks: dict[str, WordModel] = {}
    for name in INPUTS if options.input == "all" else [options.input]:
        mg.seed(options.seed)
        sizes = {key: getattr(options, key) for key in ("cell", "hidden", "dropout")}
        about = {"input": name, "words": lexicon.words.tokens, "trigrams": lexicon.trigrams.tokens, **sizes}
        network = networks[f"{options.cell}, {name}"] = build(about)
        print(f"\n{options.cell}, {name} input, {network.num_parameters:,} weights")
        batches, checks = (
            data.Batches(part, BATCH, lexicon.batch, shuffle=part is learned, length=lambda s: len(s.words))
            for part in (learned, valid)
        )
        often = np.bincount(np.concatenate(lexicon.numbers(learned)), minlength=len(lexicon.words)) + 1
        network.bias = nn.Parameter(mg.tensor(np.log(often / often.sum()), dtype="float32"))  # known before training
        loss = lambda batch, state, network=network: (network.losses(batch).mean(), None)
        steps = options.epochs * len(batches)
        rate = optim.warmup(min(60, steps), optim.cosine(options.rate, steps))
        adam = optim.Adam(network.parameters(), rate, betas=(0.9, 0.99))
        how: dict[str, Any] = {"optimizer": adam, "item": "word", "measure": PERPLEXITY}
        command.fit(options, network, loss, batches, checks, about=about, run=name, **how)
    compare(networks, learned, held_out)
    print(f"\nsentences that it makes, at temperature {options.temperature:g}, without <UNK>\n")
    for made in network.sample(options.prompt, options.samples, options.temperature):
        print(f"  {made}")
    print('\n--apply "TEXT" says how probable a sentence of yours is')


def apply(options: Any) -> None:
    """Print the probability of each word of a text, and their product for each sentence."""
    trained = [name for name in (options.input, *INPUTS[::-1]) if (options.out / name).is_dir()]
    model, _ = command.load(options, build, run=(trained or INPUTS[-1:])[0])
    sentences = [sentence for part in paragraphs(options.apply) for sentence in part]
    if not sentences:
        fail("--apply: there is no word in the text")
    for sentence, logs in zip(sentences, model.log_probabilities(sentences)):
        rows = []
        for word, log, total in zip([*sentence.words, "<EOS>"], logs, np.cumsum(logs) / math.log(10)):
            unknown = word not in model.lexicon.words
            like = model.alike(word) if unknown and model.input == "trigrams" else []
            known = "<UNK>" * unknown + (", read like " + ", ".join(like)) * bool(like)
            rows.append([word, f"{math.exp(log):.3g}", f"10^{total:.2f}", known])
        print("\n" + table(["word", "P(word | before)", "product", "unknown words"], rows))
        print(f"\n  P(sentence) = 10^{total:.2f}, perplexity {perplexity([logs]):.1f}")


if __name__ == "__main__":
    main()
