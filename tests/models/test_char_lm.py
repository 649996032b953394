"""The character model as a program: what it prints, saves and repeats, and how it fails."""

from __future__ import annotations

import contextlib
import contextvars
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
from minigrad.backends import get
from minigrad.errors import BackendUnavailableError
from models import char_lm

WORDS = "The cat and the dog ran to the old red barn and sat down in the hay. ".split(" ")
TINY = ["--hidden", "16", "--epochs", "2", "--length", "80"]


def run(*arguments: object) -> tuple[int, str, str]:
    """The program, as from a command line: its exit code, and what it wrote to stdout and stderr."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            contextvars.copy_context().run(char_lm.main, [str(a) for a in arguments])
        except SystemExit as end:
            code = end.code
    return code, out.getvalue(), err.getvalue()


def sample_of(out: str) -> str:
    return re.search(r"sample, at temperature [\d.]+\n\n(.*?)(\n\nweights saved|\Z)", out, re.DOTALL)[1].rstrip("\n")


def bits_of(out: str) -> dict[str, float]:
    """The table of bits per character, by the name of the model."""
    return {name: float(bits) for name, bits in re.findall(r"^  (\S.*?) +(\d+\.\d{3})\b", out, re.MULTILINE)}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with a tiny text."""
    folder = tmp_path_factory.mktemp("char_lm")
    words = np.random.default_rng(0).choice(WORDS, 800)
    (folder / "text").write_text(" ".join(words), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def trained(place) -> tuple[Path, str]:
    """The weights of a short training, and what was printed meanwhile."""
    weights = place / "weights" / "tiny.safetensors"
    code, out, err = run(
        "--text", place / "text", "--weights", weights, "--temperature", 0, "--prompt", "The dog", *TINY
    )
    assert (code, err) == (0, "")
    return weights, out


def test_a_training_tells_of_every_epoch_and_ends_with_a_table_a_sample_and_the_weights(trained, place):
    weights, out = trained
    n = len((place / "text").read_text())
    parts = [int(n * 0.88), int(n * 0.9) - int(n * 0.88), n - int(n * 0.9)]
    assert f"{n:,} characters" in out
    assert ", ".join(f"{k:,} {name}" for k, name in zip(parts, ["train", "validation", "held out"])) in out
    for epoch in (1, 2):
        assert re.search(
            rf"^epoch {epoch}/2   train \d\.\d+ bits/char   validation \d\.\d+ bits/char \*   [\d,]+ chars/s "
            r"  gradient norm \d+\.\d\d$",
            out,
            re.MULTILINE,
        )
    bits = bits_of(out)
    assert list(bits) == [*(f"Markov model of order {k}" for k in range(7)), "lstm"]
    best = min(list(bits.values())[:-1])
    ((difference, side),) = re.findall(r"(\d\.\d{3}) (below|above) the best Markov model", out)
    signed = float(difference) * (1 if side == "below" else -1)
    assert signed == pytest.approx(best - bits["lstm"], abs=1.1e-3)  # of numbers rounded to 5e-4
    (line,) = (line for line in out.splitlines() if "the best of these" in line)
    assert f"{best:.3f}" in line
    assert sample_of(out).startswith("  The dog")
    assert f"weights saved in {weights}" in out
    assert weights.is_file()


def test_the_number_of_weights_is_that_of_its_layers(trained):
    weights, out = trained
    tensors, about = mg.io.load(weights)
    characters = len(json.loads(about["char_lm"])["characters"])
    count = 64 * characters + 4 * 16 * (64 + 16 + 1) + (16 + 1) * characters
    assert sum(t.size for t in tensors.values()) == count
    assert f"lstm of 16 units, {count:,} weights" in out


def test_a_sample_from_the_saved_file_repeats_that_of_the_trained_network(trained):
    weights, out = trained
    arguments = ("--sample-only", "--weights", weights, "--prompt", "The dog", "--temperature", 0, "--length", 80)
    code, again, err = run(*arguments)
    assert (code, err) == (0, "")
    assert sample_of(again) == sample_of(out)
    assert "epoch" not in again


def test_a_seed_decides_the_sample_and_another_gives_another(trained):
    def sampled(seed):
        return run("--sample-only", "--weights", trained[0], "--temperature", 1, "--length", 200, "--seed", seed)[1]

    assert sampled(1) == sampled(1)
    assert sampled(1) != sampled(2)


def test_a_sample_has_the_length_asked_for_after_the_prompt(trained):
    _, out, _ = run("--sample-only", "--weights", trained[0], "--prompt", "The old", "--length", 50)
    text = sample_of(out).removeprefix("  ")
    assert text.startswith("The old")
    assert len(text) == len("The old") + 50


@pytest.mark.parametrize("cell", ["elman", "gru"])
def test_the_same_seed_trains_the_same_network(place, cell):
    results = []
    for seed in (3, 3, 4):
        weights = place / f"{cell}{len(results)}"
        code, out, err = run("--text", place / "text", "--weights", weights, "--cell", cell, "--seed", seed,
                             "--hidden", 8, "--epochs", 1, "--length", 60)  # fmt: skip
        assert (code, err) == (0, "")
        results.append((bits_of(out), sample_of(out), weights.read_bytes()))
    assert results[0] == results[1]
    assert results[0][2] != results[2][2]
    assert cell in results[0][0]


@pytest.mark.slow
def test_the_network_beats_markov_models_where_the_text_needs_memory(tmp_path):
    """Which bracket closes was decided three characters before: nothing that a model of order 1 or 2 can see."""
    text = "".join(np.random.default_rng(0).choice(["(ab)", "[ab]"], 2000))
    (tmp_path / "text").write_text(text)
    _, out, _ = run("--text", tmp_path / "text", "--weights", tmp_path / "w", "--hidden", 16, "--epochs", 20,
                    "--lr", 0.02, "--length", 60, "--temperature", 0.1)  # fmt: skip
    bits = bits_of(out)
    assert bits["lstm"] < bits["Markov model of order 2"] - 0.2 <= bits["Markov model of order 1"]
    assert bits["lstm"] > 0.25 - 0.03  # one bit in four characters is chance; 800 of them miss it by 0.02 at most
    assert set(re.findall(r"[(\[]ab[)\]]", sample_of(out))) <= {"(ab)", "[ab]"}


@pytest.mark.parametrize("length", [65, 66, 130])
def test_the_shortest_text_is_one_sequence(tmp_path, length):
    (tmp_path / "text").write_text(("abcdefg" * 20)[:length])
    code, out, err = run("--text", tmp_path / "text", "--weights", tmp_path / "w", *TINY)
    assert (code, err) == (0, "")
    assert "lstm" in bits_of(out)


def test_a_text_without_the_letters_of_the_usual_prompt_gets_another(tmp_path):
    (tmp_path / "text").write_text("äöü ß 漢字 " * 40, encoding="utf-8")
    code, out, err = run("--text", tmp_path / "text", "--weights", tmp_path / "w", *TINY)
    assert (code, err) == (0, "")
    assert set(sample_of(out)) <= set("äöü ß 漢字 \n")


def test_a_text_of_very_many_different_characters_gets_its_table(tmp_path):
    (tmp_path / "text").write_text("".join(map(chr, range(0x4E00, 0x4E00 + 700))) * 2, encoding="utf-8")
    code, out, err = run("--text", tmp_path / "text", "--weights", tmp_path / "w", *TINY)
    assert (code, err) == (0, "")
    assert len(bits_of(out)) == 8


# What goes wrong


def failing(arguments, *words):
    code, out, err = run(*arguments)
    assert code == 2
    assert err.startswith("char_lm: ")
    assert err.endswith("\n")
    assert err.count("\n") == 1
    assert all(word in err for word in words), err
    assert "epoch" not in out


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", ["0 characters are too few", "65"]),
        (b"x" * 64, ["64 characters are too few", "65"]),
        ("ä".encode() * 64, ["64 characters are too few"]),  # though they are 128 bytes
        (b"good text " * 20 + b"\xff\xfe", ["not UTF-8 at byte 200"]),
        ("größer".encode("latin-1") * 20, ["not UTF-8 at byte 2"]),
    ],
    ids=["empty", "too short", "too short, two bytes each", "bytes", "latin-1"],
)
def test_a_text_that_cannot_be_learned_gets_one_clear_line(tmp_path, content, words):
    (tmp_path / "text").write_bytes(content)
    failing(["--text", tmp_path / "text", "--weights", tmp_path / "w"], f"--text {tmp_path / 'text'}", *words)
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize("name, word", [("nowhere", "No such file"), ("", "directory")])
def test_a_text_that_is_not_there_or_a_folder_gets_one_clear_line(tmp_path, name, word):
    failing(["--text", tmp_path / name, "--weights", tmp_path / "w"], "--text", word)


def test_a_prompt_with_unknown_characters_gets_one_clear_line_before_any_training(trained, place):
    for arguments in (["--text", place / "text", "--weights", place / "w"], ["--sample-only", "--weights", trained[0]]):
        failing([*arguments, "--prompt", "The čat €"], "--prompt", "'č'", "'€'")


@pytest.mark.parametrize("value", ["-0.1", "nan", "inf"])
def test_a_temperature_that_is_none_gets_one_clear_line(value):
    failing([f"--temperature={value}"], "--temperature", value.lstrip("-"))


def damaged(kind: str, folder: Path, weights: Path) -> Path:
    path = folder / "damaged"
    tensors, about = mg.io.load(weights)
    described = json.loads(about["char_lm"])
    if kind == "a text":
        path.write_text("no weights at all")
    elif kind == "cut off":
        path.write_bytes(weights.read_bytes()[:-10])
    elif kind == "of another program":
        mg.io.save(path, tensors)
    elif kind == "not described":
        mg.io.save(path, tensors, {"char_lm": "{}"})
    elif kind == "described in no JSON":
        mg.io.save(path, tensors, {"char_lm": "lstm, 16"})
    elif kind == "described as a list":
        mg.io.save(path, tensors, {"char_lm": "[1, 2]"})
    elif kind == "of another cell":
        mg.io.save(path, tensors, {"char_lm": json.dumps(dict(described, cell="gru"))})
    elif kind == "of no cell":
        mg.io.save(path, tensors, {"char_lm": json.dumps(dict(described, cell="none"))})
    elif kind == "a folder":
        path.mkdir()
    return path


@pytest.mark.parametrize(
    "kind",
    ["a text", "cut off", "of another program", "not described", "described in no JSON", "described as a list",
     "of another cell", "of no cell", "a folder"],
)  # fmt: skip
def test_weights_that_are_none_of_this_program_get_one_clear_line(trained, tmp_path, kind):
    path = damaged(kind, tmp_path, trained[0])
    failing(["--sample-only", "--weights", path], f"--weights {path}: not weights that this program saved")


def test_weights_that_are_not_there_get_one_clear_line_with_what_to_do(tmp_path):
    failing(["--sample-only", "--weights", tmp_path / "none"], "no such file", "train first")


@pytest.mark.parametrize("kind", ["a folder", "below a file"])
def test_weights_that_cannot_be_saved_get_one_clear_line_before_any_training(place, tmp_path, kind):
    (tmp_path / "file").write_text("")
    path = tmp_path if kind == "a folder" else tmp_path / "file" / "weights"
    failing(["--text", place / "text", "--weights", path, *TINY], f"--weights {path}")


def test_a_backend_that_is_not_there_gets_one_clear_line():
    try:
        get("cupy")
    except BackendUnavailableError:
        failing(["--backend", "cupy"], "--backend cupy")
    else:
        pytest.skip("CuPy and a GPU are there")


@pytest.mark.parametrize(
    "arguments",
    [["--hidden", "0"], ["--epochs", "-1"], ["--epochs", "1.5"], ["--lr", "nan"], ["--length", "x"], ["--cell", "rnn"],
     ["--temperature", "hot"], ["--unknown"]],
    ids=" ".join,
)  # fmt: skip
def test_an_option_that_makes_no_sense_is_named_with_exit_code_2(arguments):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert arguments[0] in err.splitlines()[-1]


def test_help_explains_every_option():
    code, out, err = run("--help")
    assert (code, err) == (0, "")
    options = re.findall(r"^  (?:-\w, )?(--[\w-]+)( .*)?$((?:\n   .*)*)", out, re.MULTILINE)
    assert {name for name, *_ in options} >= {
        "--text", "--cell", "--hidden", "--seed", "--backend", "--sample-only", "--temperature", "--prompt",
        "--weights",
    }  # fmt: skip
    for name, same_line, below in options:
        said = re.sub(r"^ (\{.*?\}|[A-Z]+)(?=\s|$)", "", same_line) + below
        assert len(re.findall(r"[a-z]{2,}", said.partition("(default")[0])) >= 2, name


def test_ctrl_c_before_the_first_epoch_is_over_saves_nothing_and_says_so(place, tmp_path, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(mg.optim.Adam, "step", interrupted)
    _, out, _ = run("--text", place / "text", "--weights", tmp_path / "w", *TINY)
    assert "stopped; the weights are the latest" in out
    assert "weights saved" not in out
    assert not (tmp_path / "w").exists()


@pytest.mark.slow
def test_the_program_starts_as_a_module():
    command = [sys.executable, "-m", "models.char_lm", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=Path(__file__).parents[2])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: python -m models.char_lm")
