"""One sequence into another, character by character: dates as people write them to ISO 8601.

    python -m models.translate                              with and without attention, greedily and by beam search
    python -m models.translate --sampling 100               and each once more, trained by scheduled sampling
    python -m models.translate --data pairs.tsv             source TAB target, a line each, whatever they are
    python -m models.translate --apply "Montag, den 3. Mai 2021"

Without attention all that the decoder is told of the source is one vector, the encoder's last state (Cho et al. 2014).
With it, each character that it writes may look back at every character that was read (Bahdanau et al. 2015), and the
picture shows where it looked. Judged by exact match: a date that is wrong in one digit is wrong.

The one to beat has no idea of characters: the nearest neighbour by edit distance among the sources of the training, its
numbers replaced by those of the source at hand. "7. Mai 1932" is 1932-05-07, so "3. Mai 2021" is 2021-05-03; but a
number that is a word, or a weekday that makes another month look nearer, leads it astray.

What to look for: with attention the dates come right within three epochs, and beyond the neighbour's. Without it the
years come right first, then the rest, much later: `--attention none --hidden 96 --epochs 8 --examples 9000` has two
dates in five. The beam, which weighs whole words, mends little where the next character is nearly always certain.
"""

from __future__ import annotations

import datetime
import re
from argparse import Namespace
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import data, nn, optim, tree, viz
from models.command_line import CommandLine, adam, fail, keep, positive, table

BATCH = 32
TEST = 1000  # sources at most to test on: each is compared with all of the training
LONGEST = 200  # characters of a source or a target
EMBEDDING = 32
STOP, PADDING = 0, -1  # the token that ends a target, and what stands behind it in a batch
SAMPLED = ", sampled"  # behind the name of a network that was trained by scheduled sampling
WIDTH, SHOWN = 4, 3  # of the beam, and how much of it --apply shows

# Dates: the same day in several languages and styles

FIRST, LAST = datetime.date(1900, 1, 1), datetime.date(2099, 12, 31)
MONTHS = {
    "English": "January February March April May June July August September October November December",
    "German": "Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
    "French": "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
    "Spanish": "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
    "Italian": "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre",
}
SHORT = {
    "English": "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec",
    "German": "Jan. Feb. März Apr. Mai Juni Juli Aug. Sept. Okt. Nov. Dez.",
    "French": "janv. févr. mars avr. mai juin juil. août sept. oct. nov. déc.",
    "Spanish": "ene. feb. mar. abr. may. jun. jul. ago. sept. oct. nov. dic.",
    "Italian": "gen. feb. mar. apr. mag. giu. lug. ago. set. ott. nov. dic.",
}
WEEKDAYS = {
    "English": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
    "German": "Montag Dienstag Mittwoch Donnerstag Freitag Samstag Sonntag",
    "French": "lundi mardi mercredi jeudi vendredi samedi dimanche",
    "Spanish": "lunes martes miércoles jueves viernes sábado domingo",
    "Italian": "lunedì martedì mercoledì giovedì venerdì sabato domenica",
}
WORDS = """first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth
fifteenth sixteenth seventeenth eighteenth nineteenth twentieth twenty-first twenty-second twenty-third twenty-fourth
twenty-fifth twenty-sixth twenty-seventh twenty-eighth twenty-ninth thirtieth thirty-first""".split()
STYLES = {  # the name's last word is the language; d, m: 3, 5; dd, mm: 03, 05; nth: 3rd; word: third
    "British English": """{d} {month} {y};{d} {short} {y};{nth} {month} {y};the {nth} of {month}, {y};{d}/{m}/{y}
        the {word} of {month} {y};{weekday}, {d} {month} {y};{weekday} the {nth} of {month}, {y}""",
    "American English": """{month} {d}, {y};{short} {d}, {y};{month} {nth}, {y};{month} {word}, {y};{m}/{d}/{y}
        {weekday}, {month} {d}, {y};{weekday}, {short} {d}, {y}""",
    "German": """{d}. {month} {y};{d}. {short} {y};{d}.{m}.{y};{dd}.{mm}.{y}
        {weekday}, {d}. {month} {y};{weekday}, den {d}. {month} {y}""",
    "French": """{nth} {month} {y};{nth} {short} {y};le {nth} {month} {y}
        {weekday} {nth} {month} {y};le {weekday} {nth} {month} {y}""",
    "Spanish": """{d} de {month} de {y};{d} {short} {y};el {d} de {month} de {y}
        {weekday}, {d} de {month} de {y};{d} de {month} del {y}""",
    "Italian": """{nth} {month} {y};{nth} {short} {y};il {nth} {month} {y}
        {weekday} {nth} {month} {y};{weekday}, {nth} {month} {y}""",
}
TEMPLATES = [
    (style.split()[-1], template.strip())
    for style, templates in STYLES.items()
    for template in templates.replace("\n", ";").split(";")
]


def written(date: datetime.date, language: str, template: str) -> str | None:
    """A date in a style; None if it could be read as another date: 3/5/2021 is in May in London, in March in Boston."""
    d, m = date.day, date.month
    if "/" in template and d <= 12 and d != m:
        return None
    if language == "English":
        ending = {1: "st", 2: "nd", 3: "rd"}.get(d % 10 if d // 10 != 1 else 0, "th")
    else:
        ending = {"French": "er", "Italian": "º"}.get(language, "") if d == 1 else ""
    month, short, weekday = (of[language].split() for of in (MONTHS, SHORT, WEEKDAYS))
    return template.format(
        d=d, m=m, y=date.year, dd=f"{d:02}", mm=f"{m:02}", nth=f"{d}{ending}", word=WORDS[d - 1],
        month=month[m - 1], short=short[m - 1], weekday=weekday[date.weekday()],
    )  # fmt: skip


def dates(count: int) -> list[data.Pair]:
    """So many different dates from FIRST to LAST, each written once, in a style drawn at random; and in ISO 8601.

    A fifth is in lower case, a fifth in upper case. Weekdays are right, and so of no use. No source could mean two
    dates. As no date occurs twice, whoever is tested on some of these rows has seen none of their dates before.
    """
    random, rows = mg.random.generator(), []
    days = (LAST - FIRST).days + 1
    if count > days:
        fail(f"--examples {count}: there are {days:,} dates from {FIRST} to {LAST}")
    for line, day in enumerate(random.choice(days, count, replace=False), 1):
        date, source = FIRST + datetime.timedelta(int(day)), None
        while source is None:
            source = written(date, *TEMPLATES[random.integers(len(TEMPLATES))])
        cases = [source, source, source, source.lower(), source.upper()]
        rows.append(data.Pair(line, cases[random.integers(5)], date.isoformat()))
    return rows


def parted(rows: list[data.Pair]) -> tuple[list[data.Pair], ...]:
    """Rows to learn from, to choose the epoch by and to test on (a tenth, at most TEST); one source, one part."""
    sources = len({row.source for row in rows})
    if sources < 3:
        fail(f"{sources} different sources are too few to train on some and test on others")
    share = min(0.1, TEST / sources)
    return data.split(rows, 1 - 2 * share, share, share, key=lambda row: row.source)


# What has to be beaten


class Neighbours:
    """Translates as the nearest source in training was translated, with the numbers exchanged; see the head."""

    def __init__(self, rows: list[data.Pair]):
        self.rows: dict[str, list[data.Pair]] = defaultdict(list)
        for row in rows:
            self.rows[_without_numbers(row.source)].append(row)
        texts, self.lengths = data.pad([[ord(c) for c in text] for text in self.rows])
        self.texts = texts.astype(np.int32)

    def translate(self, source: str) -> str:
        """What most of the nearest would say; numbers do not count for the distance."""
        text = _without_numbers(source)
        nearest = [text]
        if text not in self.rows:
            far = distances(text, self.texts, self.lengths)
            nearest = [other for other, d in zip(self.rows, far) if d == far.min()]
        votes = Counter(renumbered(source, row) for other in nearest for row in self.rows[other])
        return votes.most_common(1)[0][0]


def _without_numbers(text: str) -> str:
    return re.sub("[0-9]+", "0", text)


def renumbered(source: str, row: data.Pair) -> str:
    """The target of the row, with the numbers that its source has too replaced by those of the source given."""
    old, new = (re.findall("[0-9]+", text) for text in (row.source, source))
    of = dict(zip(map(int, reversed(old)), reversed(new)))  # of equal numbers the first counts
    if len(old) != len(new):
        return row.target
    return re.sub("[0-9]+", lambda n: of.get(int(n[0]), n[0]).lstrip("0").zfill(len(n[0])), row.target)


def distances(text: str, others: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """How many characters to insert, delete or replace from a text to each of many (S, N): Levenshtein 1966."""
    steps = np.arange(len(others) + 1, dtype=np.int16)[:, None]  # int16 is fast, and enough for LONGEST
    row = np.repeat(steps, len(lengths), axis=1)  # from what was read of the text to each beginning of the others
    for i, character in enumerate(text, 1):
        row = np.concatenate([np.full_like(row[:1], i), np.minimum(row[1:] + 1, row[:-1] + (others != ord(character)))])
        row = np.minimum.accumulate(row - steps) + steps  # and insertions, from any beginning to all longer ones
    return row[lengths, np.arange(len(lengths))]


# The network

ATTENTION: dict[str, Callable[[int, int], nn.Attention]] = {
    "additive": lambda query, memory: nn.AdditiveAttention(query, memory, query),
    "dot": lambda query, memory: nn.DotAttention(scaled=True),
    "general": nn.GeneralAttention,
}


class Translator(nn.EncoderDecoder):
    """Sources (S, B) and lengths (B,), and targets (T, B), as numbers of characters, to logits (T, B, characters).

    The encoder reads in both directions and adds them up, so that the decoder, a cell of the same kind and size, can
    begin with the sum of their last states.
    """

    def __init__(self, sources: list[str], targets: list[str], steps: int, cell: str, hidden: int, attention: str):
        self.sources, self.targets = (data.Vocabulary((), specials=tokens) for tokens in (sources, targets))
        self.steps = steps  # that a translation has at most
        make = command.cell(cell)
        encoder = nn.Bidirectional(make(EMBEDDING, hidden), make(EMBEDDING, hidden), merge="sum")
        size = encoder.output_size
        if attention == "dot" and size != hidden:
            fail(f"--attention dot: a state of --cell {cell} has {hidden} numbers, an output {size}; general fits them")
        if attention == "none":
            decoder = nn.Recurrent(make(EMBEDDING, hidden))
        else:
            looks = ATTENTION[attention](hidden, size)
            decoder = nn.Recurrent(nn.AttentionCell(make(EMBEDDING + size, hidden), looks, size))
        super().__init__(
            encoder,
            decoder,
            attend=attention != "none",
            bridge=lambda state: tree.map(lambda ahead, back: ahead + back, *state),
            source_embedding=nn.Embedding(len(sources), EMBEDDING),
            target_embedding=nn.Embedding(len(targets), EMBEDDING),
            output=nn.Linear(decoder.output_size, len(targets)),
        )

    def sampled(self, source: Any, lengths: Any, targets: np.ndarray, probability: float) -> mg.Tensor:
        """The logits where each step reads the true character with this probability, else the likeliest of its own.

        Scheduled sampling (Bengio et al. 2015): alone, a decoder reads its own words, mistakes and all, which it never
        meets while it is taught.
        """
        state, read, found = self.begin(source, lengths), self.first(targets.shape[1]), []
        forced = mg.random.generator().random(targets.shape) < probability
        for truth, is_forced in zip(targets, forced):
            logits, state = self.step(read, state)
            found.append(logits)
            read = mg.where(mg.tensor(is_forced), mg.tensor(truth), logits.detach().argmax(axis=-1))
        return mg.stack(found)

    def translate(self, texts: Sequence[str], width: int) -> list[list[tuple[str, float]]]:
        """For each text the best translations that a beam of this width finds, and their log-probabilities."""
        found = []
        for start in range(0, len(texts), 4 * BATCH):
            source, lengths = self.read(texts[start : start + 4 * BATCH])
            first = self.first(len(lengths))
            beams = nn.beam_search(self.step, self.begin(source, lengths), first, self.steps, width=width, stop=STOP)
            found += [[(self.text(best.tokens), best.log_probability) for best in beam] for beam in beams]
        return found

    def read(self, texts: Iterable[str]) -> tuple[mg.Tensor, np.ndarray]:
        """Sources (S, B) and lengths (B,), S a multiple of 8: a loop that attends is compiled anew for each S."""
        source, lengths = data.pad([self.sources.encode(list(text)) for text in texts])
        return mg.tensor(np.pad(source, ((0, -len(source) % 8), (0, 0)))), lengths

    def text(self, tokens: Iterable[int]) -> str:
        return "".join(self.targets.decode(tokens))


def trained(name: str, rows: Sequence[list[data.Pair]], about: dict[str, Any], options: Namespace) -> Translator:
    """One network, trained on the first of the parts; validated, under teacher forcing, on the second."""
    mg.seed(options.seed)
    model = Translator(**about)

    def collate(rows: list[data.Pair]) -> tuple[mg.Tensor, np.ndarray, np.ndarray]:
        targets = [np.append(model.targets.encode(list(row.target)), STOP) for row in rows]
        return *model.read(row.source for row in rows), data.pad(targets, PADDING)[0]

    train, valid = (
        data.Batches(part, BATCH, collate, shuffle, length=lambda row: len(row.source))
        for part, shuffle in zip(rows, (True, False))
    )
    optimizer = adam(model, options.rate, options.epochs * len(train))  # here, as its steps are those of the sampling

    def loss(batch: Any, state: None) -> tuple[mg.Tensor, None]:
        source, lengths, targets = batch
        if name.endswith(SAMPLED) and model.training:
            probability = optim.inverse_sigmoid(options.sampling)(optimizer.steps)
            logits = model.sampled(source, lengths, targets, probability)
        else:
            logits = model(source, targets, lengths)
        return mg.cross_entropy(logits, mg.tensor(targets), ignore_index=PADDING), None

    print(f"\n{name}: {model.num_parameters:,} weights")
    command.fit(
        options, model, loss, train, valid, optimizer=optimizer, about={"network": about}, run=folder(name),
        item="character", items=lambda batch: int((batch[-1] != PADDING).sum()),
    )  # fmt: skip
    return model


def folder(name: str) -> str:
    return name.replace(SAMPLED, "_sampled")


# What comes of it


def show_matches(test: list[data.Pair], said: dict[str, list[str]]) -> None:
    """How many translations are right to the last character, by the length of the source."""
    lengths = np.array([len(row.source) for row in test])
    right = {name: np.array([a == row.target for a, row in zip(texts, test)]) for name, texts in said.items()}
    edges = np.unique(np.quantile(lengths, [0, 0.25, 0.5, 0.75, 1], method="nearest"))
    bins = [(low, high) for low, high in zip([edges[0], *(edges[1:-1] + 1)], edges[1:])] or [(edges[0], edges[0])]
    rows: list[list[str]] = []
    for low, high in [*bins, (edges[0], edges[-1])]:
        chosen = (lengths >= low) & (lengths <= high)
        title = "all" if len(rows) == len(bins) else f"{low} to {high}" if low < high else f"{low}"
        rows.append([title, f"{chosen.sum():,}", *(f"{of[chosen].mean():.1%}" for of in right.values())])
    print("\ntest: exact match, by the characters of the source\n")
    print(table(["length", "sources", *said], rows))


def show_attention(name: str, model: Translator, row: data.Pair, options: Namespace) -> None:
    """The picture of where the network looked while it translated a row."""
    text = model.translate([row.source], 1)[0][0][0]
    targets = np.array([*model.targets.encode(list(text)), STOP])[:, None]
    source, lengths = model.read([row.source])
    with mg.no_grad():
        weights = model.alignment(source, targets, lengths)[:, 0, : lengths[0]]
    figure = viz.attention(weights.numpy(), list(row.source), [*text, "END"], title=f"{row.source} is {text}")
    command.show(options, f"{folder(name)}/attention.png", figure)


def show_line(options: Namespace) -> None:
    """What a trained network makes of the line in --apply."""
    names = [name + SAMPLED * bool(options.sampling) for name in ([options.attention] if options.attention else KINDS)]
    name = next((name for name in names if (options.out / folder(name)).is_dir()), names[0])
    model, _ = command.load(options, lambda about: Translator(**about["network"]), run=folder(name))
    unknown = sorted({character for character in options.apply if character not in model.sources})
    if not options.apply or unknown:
        fail(f"--apply: {', '.join(map(repr, unknown)) or 'an empty line'} does not occur in what was trained on")
    found = model.translate([options.apply], WIDTH)[0][:SHOWN]
    print(table(["translation", "log-probability"], [[text, f"{value:.2f}"] for text, value in found]))


command = CommandLine("translate", __doc__, data="source TAB target", cell="gru", hidden=64, epochs=3, rate=0.005)
KINDS = [*ATTENTION, "none"]
command.add_argument("--attention", choices=KINDS, help="train one network (default: additive, and none)")
command.add_argument(
    "--sampling",
    type=positive(float),
    metavar="K",
    help="also train by scheduled sampling; after K log K steps half of what the decoder reads is its own",
)
command.add_argument(
    "--examples", type=positive(int), metavar="N", help="of N dates, or the first N rows of --data (default: 7000, all)"
)
command.add_argument("--apply", metavar="TEXT", help="translate this line with a network in --out; nothing is trained")


@command
def main(options: Namespace) -> None:
    """The program; see --help."""
    if options.sampling is not None and options.sampling < 1:
        fail(f"--sampling {options.sampling:g}: must be 1 or more")
    if options.apply is not None:
        show_line(options)
        return
    if options.data:
        rows = keep(
            data.read_pairs(options.data),
            lambda row: max(len(row.source), len(row.target)) if row.source and row.target else 0,
            LONGEST,
            of=options.data,
        )[: options.examples]
    else:
        rows = dates(options.examples or 7000)
    *learned, test = parted(rows)
    print(", ".join(f"{len(part):,} rows to {use}" for part, use in zip([*learned, test], ("learn", "choose", "test"))))
    about = {
        "sources": data.Vocabulary([c for row in rows for c in row.source]).tokens,
        "targets": data.Vocabulary([c for row in rows for c in row.target], specials=["<STOP>"]).tokens,
        "steps": max(len(row.target) for row in rows) + 1,
        "cell": options.cell,
        "hidden": options.hidden,
    }
    names = [options.attention] if options.attention else ["none", "additive"]
    names += [name + SAMPLED for name in names if options.sampling]
    neighbours = Neighbours(learned[0])
    said = {"neighbour": [neighbours.translate(row.source) for row in test]}
    for name in names:
        model = trained(name, learned, {**about, "attention": name.removesuffix(SAMPLED)}, options)
        for way, width in (("greedy", 1), (f"beam {WIDTH}", WIDTH)):
            said[f"{name}: {way}"] = [best[0][0] for best in model.translate([row.source for row in test], width)]
        if model.attend:
            show_attention(name, model, max(test, key=lambda row: len(row.source)), options)
    show_matches(test, said)
    print("\nthe first ten of the test, by beam search; what is wrong has a star\n")
    got = zip(*(said[f"{name}: beam {WIDTH}"] for name in names))
    found = [
        [row.source, row.target, *(text if text == row.target else f"{text} *" for text in texts)]
        for row, texts in zip(test[:10], got)
    ]
    print(table(["source", "expected", *names], found))


if __name__ == "__main__":
    main()
