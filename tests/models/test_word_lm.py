"""The word model: how text becomes sentences, what n-grams and networks make of them, and the program."""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import data, nn
from models import ngram, word_lm
from models.ngram import KneserNey
from models.word_lm import EOS, UNK, Lexicon, Sentence, WordModel

from ..strategies import SEEDS
from .helpers import run, tables

TEXT = "the cat saw the dog . the dog saw a cat . a cat ran . the dog ran to the cat ."
SENTENCES = [Sentence(i, part.split() + ["."]) for i, part in enumerate(TEXT.split(" .")) if part]
COLORS, THINGS = "red blue green pink".split(), "cup hat car box pen".split()


# Text


def test_words_numbers_and_marks_are_told_apart():
    assert word_lm.words_of("Don't call f(x_1, 3.14)... It\u2019s «__init__», 2nd e.g.") == [
        "don't", "call", "f", "(", "x_1", ",", "3.14", ")", ".", ".", ".", "it\u2019s", "«", "__init__", "»", ",", "2",
        "nd", "e", ".", "g", ".",
    ]  # fmt: skip


@given(text=st.text(st.sampled_from("ab Z_1.5,'\"\u2019()[]%-!\n\té"), max_size=40))
def test_words_written_as_text_are_read_as_the_same_words(text):
    words = word_lm.words_of(text)
    assert word_lm.words_of(word_lm.text_of(words)) == words


def test_a_text_is_written_as_people_do():
    text = 'the "with" statement (see below) ends. is it?'
    assert word_lm.text_of(word_lm.words_of(text)) == text


def sentences(paragraph: str) -> list[str]:
    return [" ".join(words) for _, words in word_lm.sentences_of(1, paragraph)]


def test_sentences_end_at_points_before_a_blank_but_not_after_single_letters():
    assert sentences("One, e.g. this. Two (so.) Is 2.5 it? \"Yes!\" by J. S. Bach\nall the same") == [
        "one , e . g . this .", "two ( so . )", "is 2.5 it ?", '" yes ! "', "by j . s . bach all the same",
    ]  # fmt: skip


def test_paragraphs_are_parted_by_empty_lines_and_know_their_lines():
    found = word_lm.paragraphs("\n\none two.\nThree.\n \n\nfour\n")
    assert [[(s.line, s.words) for s in part] for part in found] == [
        [(3, ["one", "two", "."]), (3, ["three", "."])],
        [(7, ["four"])],
    ]


def test_without_empty_lines_every_line_is_a_paragraph():
    assert [[s.line for s in part] for part in word_lm.paragraphs("one. two\nthree\n")] == [[1, 1], [2]]
    assert word_lm.paragraphs(" \n") == []


def test_no_paragraph_of_the_documentation_is_half_the_same_as_those_before_it():
    paragraphs = word_lm.documentation().split("\n\n")
    assert len(paragraphs) > 500
    runs: set[tuple[str, ...]] = set()
    for paragraph in paragraphs:
        words = word_lm.words_of(paragraph)
        own = {tuple(words[i : i + 4]) for i in range(max(1, len(words) - 3))}
        assert 2 * len(own & runs) < len(own)
        assert paragraph[-1] in ".:!?"
        runs |= own


# n-grams


def encoded(size: int | None = None) -> tuple[list[np.ndarray], Lexicon]:
    lexicon = Lexicon.of(SENTENCES, size or 100)
    return lexicon.numbers(SENTENCES), lexicon


def slowly(train: list[list[int]], context: tuple[int, ...], word: int, size: int, n: int) -> float:
    """P(word | context) by the definition, with all counts made anew from lists of n-grams."""
    texts = [(EOS, *words) for words in train]

    def count(h: tuple[int, ...], w: int, k: int) -> int:
        gram = (*h, w)
        if k == n - 1 or h[:1] == (EOS,):  # <EOS> inside a sentence ends it, so it is in h at the beginning alone
            return sum(t[i : i + k + 1] == gram for t in texts for i in range(len(t) - k) if k or i)
        return len({t[i - 1] for t in texts for i in range(1, len(t) - k) if t[i : i + k + 1] == gram})

    def level(h: tuple[int, ...]) -> float:
        k = len(h)
        shorter = level(h[1:]) if k else 1 / size
        own = [count(h, w, k) for w in range(size)]
        if not sum(own):
            return shorter
        grams = {t[i : i + k + 1] for t in texts for i in range(len(t) - k) if k or i}
        kinds = Counter(count(gram[:-1], gram[-1], k) for gram in grams)
        discount = max(kinds[1], 1) / max(kinds[1] + 2 * kinds[2], 2)
        return (max(own[word] - discount, 0) + discount * sum(c > 0 for c in own) * shorter) / sum(own)

    return level(context[len(context) - min(n - 1, len(context)) :])


@given(n=st.integers(1, 4), size=st.integers(2, 4), count=st.integers(1, 6), seed=SEEDS)
@settings(max_examples=15)
def test_n_grams_have_the_probabilities_of_the_formula_and_they_sum_to_one(n, size, count, seed):
    rng = np.random.default_rng(seed)
    train = [[*rng.integers(1, size, rng.integers(0, 6)).tolist(), EOS] for _ in range(count)]
    model = KneserNey([np.array(words) for words in train], size, n)
    context = (EOS, *rng.integers(1, size, rng.integers(0, 4)).tolist())
    found = [model.probability(context, word) for word in range(size)]
    assert found == pytest.approx([slowly(train, context, word, size, n) for word in range(size)], rel=1e-12)
    assert sum(found) == pytest.approx(1, rel=1e-12)


def test_a_bigram_worked_out_by_hand():
    """Of "1 2" and "1 1", <EOS> being 0: after <EOS> comes 1 (twice), after 1 come 2, 1 and 0, after 2 comes 0.

    Bigrams seen once: 4, twice: 1, so D_1 = 4 / 6. Before 0 came 1 and 2, before 1 came 0 and 1, before 2 came 1: of
    5 kinds of bigrams. D_0 = 1 / (1 + 2 * 2), so P(2) = (1 - 1/5 + 1/5 * 3 * 1/3) / 5 = 1/5.
    P(2 | 1) = (1 - 2/3 + 2/3 * 3 * 1/5) / 3.
    """
    model = KneserNey([np.array([1, 2, 0]), np.array([1, 1, 0])], 3, 2)
    assert model.probability((0, 1), 2) == pytest.approx((1 / 3 + 2 / 5) / 3, rel=1e-14)


def test_the_baseline_is_no_weaker_than_markov_models_with_the_smoothing_of_witten_and_bell():
    found = [s for part in word_lm.paragraphs(word_lm.documentation())[:400] for s in part]
    learned, held_out = found[: len(found) * 9 // 10], found[len(found) * 9 // 10 :]
    lexicon = Lexicon.of(learned, 1000)
    train, test = lexicon.numbers(learned), lexicon.numbers(held_out)
    size, stream = len(lexicon.words), np.concatenate(train)
    bits = min(ngram.bits_per_symbol(stream, np.concatenate(test), stream, size, 4))
    ours = min(word_lm.perplexity(KneserNey(train, size, n).log_probabilities(test)) for n in (2, 3, 4))
    assert ours < 0.95 * 2**bits


# The network


def network(input: str = "trigrams", sentences: list[Sentence] = SENTENCES, size: int = 7, **sizes: int) -> WordModel:
    model = WordModel(Lexicon.of(sentences, size), input, nn.LSTMCell, 6, 0.3, **{"embedding": 5, **sizes})
    for p in model.parameters():
        p.data = mg.random.normal(p.shape, std=0.5).data
    model.eval()
    return model


def test_the_vocabulary_has_the_words_seen_most_and_none_seen_once():
    assert Lexicon.of(SENTENCES, 100).words.tokens == ["<EOS>", "<UNK>", "the", ".", "cat", "dog", "a", "ran", "saw"]
    assert Lexicon.of(SENTENCES, 4).words.tokens == ["<EOS>", "<UNK>", "the", "."]


@pytest.mark.parametrize("input", word_lm.INPUTS)
def test_the_conditionals_of_all_words_after_a_beginning_sum_to_one(input):
    model = network(input)
    words = [*model.lexicon.words.tokens[2:], "zebra"]
    logs = model.log_probabilities([Sentence(1, ["the", "cat", word]) for word in words])
    end = model.log_probabilities([Sentence(1, ["the", "cat"])])[0]
    assert sum(math.exp(log[2]) for log in logs) + math.exp(end[2]) == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("input", word_lm.INPUTS)
def test_a_sentence_has_the_same_probability_alone_and_beside_others(input):
    model = network(input)
    others = [Sentence(1, ["the"] * n + ["yak"]) for n in (0, 3, 1, 20)]
    together = model.log_probabilities(SENTENCES + others)
    for sentence, log in zip(SENTENCES + others, together):
        assert log.shape == (len(sentence.words) + 1,)
        np.testing.assert_allclose(log, model.log_probabilities([sentence])[0], rtol=1e-4, atol=1e-5)


def test_the_loss_is_of_the_words_and_not_of_the_padding():
    model = network()
    losses = model.losses(model.lexicon.batch(SENTENCES)).numpy()
    logs = np.concatenate(model.log_probabilities(SENTENCES))
    np.testing.assert_allclose(np.sort(losses), np.sort(-logs), rtol=1e-4, atol=1e-5)


def test_one_hot_input_is_an_embedding_whose_vectors_are_the_columns_of_the_weights():
    one_hot, embedding = network("one-hot"), network("embedding")
    weights = dict(embedding.state_dict())
    weights["recurrent.cells.0.0.weight_ih"] = weights["recurrent.cells.0.0.weight_ih"] @ embedding.table.detach().T
    one_hot.load_state_dict(weights)
    for a, b in zip(one_hot.log_probabilities(SENTENCES), embedding.log_probabilities(SENTENCES)):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("input", word_lm.INPUTS)
def test_unknown_words_differ_by_their_letters_alone(input):
    model = network(input)
    pair = [Sentence(1, ["the", word, "ran"]) for word in ("catdog", "sawthe")]
    open_, hidden = ([log[2] for log in model.log_probabilities(pair, letters=way)] for way in (True, False))
    assert hidden[0] == hidden[1]
    assert (abs(open_[0] - open_[1]) > 1e-3) == (input == "trigrams")


def test_in_training_one_word_in_ten_is_read_by_its_letters_and_half_of_the_unknown_without_them():
    model, count = network(), 4000
    model.train()
    size = len(model.table)
    with mg.no_grad():
        for word, share in ((EOS, 0.0), (UNK, 1.0), (2, 0.1), (size - 1, 0.1)):
            trigrams = np.tile(model.lexicon.spell(["cat"])[1], (count, 1))
            vectors = model.vectors(np.full(count, word), trigrams).numpy()
            letters = model.spelling(trigrams[:1]).numpy()[0]
            table = model.table.numpy()
            kinds = [table[word] + letters] * (word != UNK) + [table[UNK] + letters, table[UNK]]
            shares = [np.isclose(vectors, kind, atol=1e-5).all(axis=1).mean() for kind in kinds]
            assert sum(shares) == pytest.approx(1)
            for found in shares[-2:]:  # 5 standard deviations of a share of so many
                assert abs(found - share / 2) <= 5 * math.sqrt(share / 2 * (1 - share / 2) / count)


def test_a_word_of_trigrams_never_seen_is_like_no_other_and_one_of_known_ones_is():
    model = network()
    assert model.alike("zzz") == []
    assert model.alike("cats", 1) in (["cat"], ["saw"], ["dog"], ["the"], ["."])
    model.letters.data = np.eye(len(model.lexicon.trigrams), dtype="float32")
    assert model.alike("cats", 1) == ["cat"]


def test_samples_hold_no_unk_however_likely_it_is_and_begin_with_the_prompt():
    model = network()
    bias = np.zeros(len(model.bias), "float32")
    bias[UNK] = 50
    model.bias.data = bias
    made = model.sample("The Zebra", 20, 1.0)
    assert len(made) == 20
    assert all(text.startswith("the zebra") for text in made)
    known = {*model.lexicon.words.tokens[2:], "zebra"}
    assert {word for text in made for word in word_lm.words_of(text)} <= known
    assert len(set(made)) > 5


def test_a_sample_goes_on_after_an_unknown_word_by_its_letters():
    model = network()
    model.letters.data = model.letters.data * 20
    assert model.sample("catdog", 1, 0) != [t.replace("sawthe", "catdog") for t in model.sample("sawthe", 1, 0)]


# What is measured


@given(words=st.lists(st.sampled_from("abcd"), min_size=5, max_size=12), seed=SEEDS)
def test_twins_have_the_same_words_in_another_order_and_the_same_end(words, seed):
    if len(set(words[:-1])) == 1:
        words[0] = "e"
    with mg.seed(seed):
        for neighbours in (False, True):
            other = word_lm.twin(Sentence(3, words), neighbours=neighbours)
            assert Counter(other.words) == Counter(words)
            assert (other.line, other.words[-1]) == (3, words[-1])
            different = [i for i, (a, b) in enumerate(zip(words, other.words)) if a != b]
            assert different
            if neighbours:
                assert len(different) == 2 and different[1] == different[0] + 1


def test_equals_count_half_and_a_unigram_cannot_tell_a_sentence_from_its_twin():
    assert word_lm.above([np.array([-1.0]), np.array([-2.0])], [np.array([-1.0]), np.array([-3.0])]) == 75
    numbers, lexicon = encoded()
    twins = lexicon.numbers([word_lm.twin(s, neighbours=False) for s in SENTENCES])
    one, two = (KneserNey(numbers, len(lexicon.words), n) for n in (1, 2))
    assert word_lm.above(one.log_probabilities(numbers), one.log_probabilities(twins)) == 50
    assert word_lm.above(two.log_probabilities(numbers), two.log_probabilities(twins)) > 50


def test_the_table_tells_known_words_and_those_after_unknown_ones_from_the_others(capsys):
    model = network(size=9)
    held_out = [
        Sentence(1, text.split()) for text in ("the yak ran .", "a gnu saw a cow", "zebu", "the cat saw the dog .")
    ]
    word_lm.compare({"net": model}, SENTENCES, held_out)
    out = capsys.readouterr().out
    (rows,) = tables(out)
    by_name = {row["model"]: row for row in rows}
    assert "the 4 after an unknown one" in out and "each of 2 sentences" in out
    logs = model.log_probabilities(held_out)
    after = [logs[0][2], logs[1][2], logs[1][5], logs[2][1]]  # ran, saw, <EOS>, <EOS>
    known = np.concatenate([logs[0][[0, 2, 3, 4]], logs[1][[0, 2, 3, 5]], logs[2][[1]], logs[3]])
    hidden = model.log_probabilities(held_out, letters=False)
    one = KneserNey(model.lexicon.numbers(SENTENCES), len(model.lexicon.words), 1)
    one_logs = np.concatenate(one.log_probabilities(model.lexicon.numbers(held_out)))
    for name, column, values in (
        ("net", "all", np.concatenate(logs)),
        ("net", "known", known),
        ("net", "after unknown", after),
        ("net, letters hidden", "after unknown", [hidden[0][2], hidden[1][2], hidden[1][5], hidden[2][1]]),
        ("1-gram", "all", one_logs),
    ):
        assert float(by_name[name][column]) == pytest.approx(math.exp(-np.mean(values)), abs=0.051)
    best = min((row for row in rows if row["model"].endswith("-gram")), key=lambda row: float(row["all"]))["model"]
    n = int(best[0])
    best_logs = np.concatenate(KneserNey(model.lexicon.numbers(SENTENCES), len(model.lexicon.words), n)
                               .log_probabilities(model.lexicon.numbers(held_out)))  # fmt: skip
    mean = (np.exp(np.concatenate(logs)) + np.exp(best_logs)) / 2
    assert float(by_name[f"net and {best}"]["all"]) == pytest.approx(math.exp(-np.log(mean).mean()), abs=0.051)


def test_a_model_that_knows_nothing_has_the_perplexity_of_the_vocabulary():
    assert word_lm.perplexity([np.log([1 / 7] * 3), np.log([1 / 7])]) == pytest.approx(7)


# The program


def far(count: int) -> list[str]:
    """Sentences whose color at the end is that at the beginning, five words before: no 5-gram sees it."""
    rng = np.random.default_rng(0)
    lines = []
    for _ in range(count):
        color = rng.choice(COLORS)
        lines.append(f"{color}: {' '.join(rng.choice(THINGS, 5))} {color}.")
    return lines


TINY = ["--hidden", 32, "--epochs", 6, "--rate", 0.04, "--dropout", 0]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, str]:
    """The folder and the output of a short training with all kinds of input."""
    folder = tmp_path_factory.mktemp("word_lm")
    (folder / "text").write_text("\n".join([*far(200), "red: " + "cup " * 150 + "red."]), encoding="utf-8")
    code, out, err = run(word_lm.main, "--data", folder / "text", "--out", folder / "out", "--input", "all", *TINY)
    assert (code, err) == (0, "")
    return folder, out


def test_networks_of_every_input_beat_n_grams_where_what_counts_is_far_away(trained):
    """The end is one of four colors to an n-gram, which costs log 4 in 9 words: perplexity times 4**(1/9) = 1.17."""
    (rows,) = tables(trained[1])
    scores = {row["model"]: float(row["all"]) for row in rows}
    best = min(value for name, value in scores.items() if re.fullmatch(r"\d-gram", name))
    for name in word_lm.INPUTS:
        assert scores[f"lstm, {name}"] < 0.88 * best
    assert rows[0]["model"] == "1-gram" and rows[0]["scrambled"] == rows[0]["exchanged"] == "50.0%"
    (said,) = re.findall(r"(\d+\.\d)% below the best n-gram", trained[1])
    ours = min(scores[f"lstm, {name}"] for name in word_lm.INPUTS)
    assert float(said) == pytest.approx(100 * (1 - ours / best), abs=1.5)  # of perplexities rounded to 0.05 in 6


def test_what_is_too_long_is_counted_and_named(trained):
    assert "left out: 1 longer than 100 words (line 201)" in trained[1]
    assert "201 paragraphs, 201 sentences" in trained[1]


def test_samples_are_sentences_of_known_words(trained):
    made = trained[1].split("without <UNK>\n\n")[1].split("\n\n--apply")[0].splitlines()
    assert len(made) == 5
    assert {word for text in made for word in word_lm.words_of(text)} <= {*COLORS, *THINGS, ":", "."}


def test_apply_prints_conditionals_whose_product_is_the_probability_of_the_sentence(trained):
    folder, _ = trained
    code, out, err = run(word_lm.main, "--out", folder / "out", "--apply", "red: cup zup cup hat pen red. Red")
    assert (code, err) == (0, "")
    first, second = tables(out)
    assert [row["word"] for row in first] == "red : cup zup cup hat pen red . <EOS>".split()
    assert [row["word"] for row in second] == ["red", "<EOS>"]
    totals = [float(text) for text in re.findall(r"P\(sentence\) = 10\^(-[\d.]+)", out)]
    for rows, total in zip((first, second), totals):
        product = math.prod(float(row["P(word | before)"]) for row in rows)
        assert math.log10(product) == pytest.approx(total, abs=0.03)  # of up to 10 factors with three digits
        assert float(rows[-1]["product"].removeprefix("10^")) == total
    assert re.search(r"zup .*<UNK>, read like .*cup", out)
    assert out.count("<UNK>") == 1


def test_the_same_seed_gives_the_same_output_and_another_one_another(tmp_path):
    (tmp_path / "text").write_text("\n".join(far(40)))
    outs = []
    for i, seed in enumerate((1, 1, 2)):
        arguments = ["--data", tmp_path / "text", "--out", tmp_path / str(i), "--epochs", 1, "--hidden", 4]
        code, out, _ = run(word_lm.main, *arguments, "--input", "embedding", "--seed", seed, "--prompt", "blue")
        assert code == 0
        outs.append(re.sub(r"[\d,]+ words/s|\S*/\d/\S*", "", out))
    assert outs[0] == outs[1] != outs[2]
    assert outs[0].split("without <UNK>\n\n")[1].count("  blue") >= 5
    code, out, _ = run(word_lm.main, "--out", tmp_path / "0", "--apply", "red cup")  # finds what input there is
    assert code == 0 and "P(sentence)" in out


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"one.\n\ntwo \xff.\n", ["line 3", "UTF-8"]),
        (b"only one paragraph.\n", ["1 paragraphs", "20"]),
        (b"", ["0 paragraphs"]),
        (None, ["no file"]),
    ],
)
def test_a_file_that_is_no_text_to_learn_from_gets_one_clear_line(content, said, tmp_path):
    if content is not None:
        (tmp_path / "text").write_bytes(content)
    code, out, err = run(word_lm.main, "--data", tmp_path / "text", "--out", tmp_path / "out")
    assert (code, out) == (2, "")
    assert err.startswith("word_lm: ") and err.count("\n") == 1
    assert all(part in err for part in [*said, str(tmp_path / "text")])


@pytest.mark.parametrize(
    "arguments",
    [["--dropout", "1"], ["--temperature", "-1"], ["--temperature", "nan"], ["--input", "x"], ["--vocabulary", "0"],
     ["--vocabulary", "2"], ["--apply", "cat"], ["--apply", " "]],
    ids=" ".join,
)  # fmt: skip
def test_an_option_that_makes_no_sense_is_named_with_exit_code_2(arguments, tmp_path):
    code, out, err = run(word_lm.main, "--out", tmp_path, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("word_lm: ") and err.count("\n") == 1


def test_help_names_every_option_of_its_own():
    code, out, _ = run(word_lm.main, "--help")
    assert code == 0
    for option in "data vocabulary input dropout apply samples prompt temperature".split():
        assert f"--{option} " in out


def test_trigrams_are_those_of_the_library():
    lexicon = Lexicon.of(SENTENCES, 100)
    numbers, trigrams = lexicon.spell(["<EOS>", "cat", "catnip", "the"])
    assert numbers.tolist() == [EOS, lexicon.words.encode(["cat"])[0], UNK, lexicon.words.encode(["the"])[0]]
    spelled = [[t for t in lexicon.trigrams.decode(row) if t] for row in trigrams]
    assert spelled == [[], data.letter_trigrams("cat"), ["#ca", "cat"], data.letter_trigrams("the")]
