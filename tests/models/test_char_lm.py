"""The character model as a program: what it prints, saves and repeats, and how it fails."""

from __future__ import annotations

import argparse
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
from models.command_line import CELLS
from tests.models import helpers

WORDS = "The cat and the dog ran to the old red barn and sat down in the hay. ".split(" ")
TINY = ["--hidden", "16", "--epochs", "2", "--length", "80"]


def run(*arguments: object) -> tuple[int, str, str]:
    """The program, as from a command line: its exit code, and what it wrote to stdout and stderr."""
    return helpers.run(char_lm.main, *arguments)


def sample_of(out: str) -> str:
    return re.search(r"sample, at temperature [\d.]+\n\n(.*?)(\n\nweights saved|\Z)", out, re.DOTALL)[1].rstrip("\n")


def bits_of(out: str) -> dict[str, float]:
    """The table of bits per character, by the name of the model."""
    (rows,) = helpers.tables(out)
    return {row["model"]: float(row["bits/char"]) for row in rows}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with a tiny text."""
    folder = tmp_path_factory.mktemp("char_lm")
    words = np.random.default_rng(0).choice(WORDS, 800)
    (folder / "text").write_text(" ".join(words), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def trained(place) -> tuple[Path, str]:
    """The folder of a short training, and what was printed meanwhile."""
    folder = place / "folder" / "run"
    code, out, err = run("--data", place / "text", "--out", folder, "--temperature", 0, "--prompt", "The dog", *TINY)
    assert (code, err) == (0, "")
    return folder, out


def test_a_training_tells_of_every_epoch_and_ends_with_a_table_a_sample_and_the_weights(trained, place):
    folder, out = trained
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
    assert sample_of(out).startswith("  The dog")
    assert f"weights saved in {folder}" in out
    files = {path.name for path in folder.iterdir()}
    assert files == {"best.safetensors", "last.safetensors", "log.jsonl", "curves.png", "started"}


def test_the_number_of_weights_is_that_of_its_layers(trained):
    folder, out = trained
    tensors, about = mg.io.load(folder / "best.safetensors")
    characters = len(json.loads(about["about"])["characters"])
    count = 64 * characters + 4 * 16 * (64 + 16 + 1) + (16 + 1) * characters
    assert sum(t.size for t in tensors.values()) == count
    assert f"lstm of 16 units, {count:,} weights" in out


def test_a_sample_from_the_saved_file_repeats_that_of_the_trained_network(trained):
    folder, out = trained
    arguments = ("--sample-only", "--out", folder, "--prompt", "The dog", "--temperature", 0, "--length", 80)
    code, again, err = run(*arguments)
    assert (code, err) == (0, "")
    assert sample_of(again) == sample_of(out)
    assert "epoch" not in again


def test_a_seed_decides_the_sample_and_another_gives_another(trained):
    def sampled(seed):
        return run("--sample-only", "--out", trained[0], "--temperature", 1, "--length", 200, "--seed", seed)[1]

    assert sampled(1) == sampled(1)
    assert sampled(1) != sampled(2)


def test_a_sample_has_the_length_asked_for_after_the_prompt(trained):
    _, out, _ = run("--sample-only", "--out", trained[0], "--prompt", "The old", "--length", 50)
    text = sample_of(out).removeprefix("  ")
    assert text.startswith("The old")
    assert len(text) == len("The old") + 50


def tensors_of(folder: Path) -> dict[str, list]:
    return {name: tensor.tolist() for name, tensor in mg.io.load(folder / "best.safetensors")[0].items()}


@pytest.mark.parametrize("cell", ["elman", "gru"])
def test_the_same_seed_trains_the_same_network(place, cell):
    results = []
    for seed in (3, 3, 4):
        folder = place / f"{cell}{len(results)}"
        code, out, err = run("--data", place / "text", "--out", folder, "--cell", cell, "--seed", seed,
                             "--hidden", 8, "--epochs", 1, "--length", 60)  # fmt: skip
        assert (code, err) == (0, "")
        results.append((bits_of(out), sample_of(out), tensors_of(folder)))
    assert results[0] == results[1]
    assert results[0][2] != results[2][2]
    assert cell in results[0][0]


@pytest.mark.slow
def test_the_network_beats_markov_models_where_the_text_needs_memory(tmp_path):
    """Which bracket closes was decided three characters before: nothing that a model of order 1 or 2 can see."""
    text = "".join(np.random.default_rng(0).choice(["(ab)", "[ab]"], 2000))
    (tmp_path / "text").write_text(text)
    _, out, _ = run("--data", tmp_path / "text", "--out", tmp_path / "w", "--hidden", 16, "--epochs", 20,
                    "--rate", 0.02, "--length", 60, "--temperature", 0.1)  # fmt: skip
    bits = bits_of(out)
    assert bits["lstm"] < bits["Markov model of order 2"] - 0.2 <= bits["Markov model of order 1"]
    assert bits["lstm"] > 0.25 - 0.03  # one bit in four characters is chance; 800 of them miss it by 0.02 at most
    assert set(re.findall(r"[(\[]ab[)\]]", sample_of(out))) <= {"(ab)", "[ab]"}


@pytest.mark.parametrize("length", [65, 66, 130])
def test_the_shortest_text_is_one_sequence(tmp_path, length):
    (tmp_path / "text").write_text(("abcdefg" * 20)[:length])
    code, out, err = run("--data", tmp_path / "text", "--out", tmp_path / "w", *TINY)
    assert (code, err) == (0, "")
    assert "lstm" in bits_of(out)


def test_a_text_without_the_letters_of_the_usual_prompt_gets_another(tmp_path):
    (tmp_path / "text").write_text("äöü ß 漢字 " * 40, encoding="utf-8")
    code, out, err = run("--data", tmp_path / "text", "--out", tmp_path / "w", *TINY)
    assert (code, err) == (0, "")
    assert set(sample_of(out)) <= set("äöü ß 漢字 \n")


def test_a_text_of_very_many_different_characters_gets_its_table(tmp_path):
    (tmp_path / "text").write_text("".join(map(chr, range(0x4E00, 0x4E00 + 700))) * 2, encoding="utf-8")
    code, out, err = run("--data", tmp_path / "text", "--out", tmp_path / "w", *TINY)
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
        (b"good text " * 20 + b"\xff\xfe", ["line 1: expected UTF-8, got the byte 0xff"]),
        ("größer".encode("latin-1") * 20, ["line 1: expected UTF-8, got the byte 0xf6"]),
    ],
    ids=["empty", "too short", "too short, two bytes each", "bytes", "latin-1"],
)
def test_a_text_that_cannot_be_learned_gets_one_clear_line(tmp_path, content, words):
    (tmp_path / "text").write_bytes(content)
    failing(["--data", tmp_path / "text", "--out", tmp_path / "w"], str(tmp_path / "text"), *words)
    assert not list((tmp_path / "w").iterdir())


@pytest.mark.parametrize("name, word", [("nowhere", "no file"), ("", "folder")])
def test_a_text_that_is_not_there_or_a_folder_gets_one_clear_line(tmp_path, name, word):
    failing(["--data", tmp_path / name, "--out", tmp_path / "w"], str(tmp_path / name), word)


def test_a_prompt_with_unknown_characters_gets_one_clear_line_before_any_training(trained, place):
    for arguments in (["--data", place / "text", "--out", place / "w"], ["--sample-only", "--out", trained[0]]):
        failing([*arguments, "--prompt", "The čat €"], "--prompt", "'č'", "'€'")


@pytest.mark.parametrize("value", ["-0.1", "nan", "inf"])
def test_a_temperature_that_is_none_gets_one_clear_line(value):
    failing([f"--temperature={value}"], "--temperature", value.lstrip("-"))


def damaged(kind: str, folder: Path, trained: Path) -> Path:
    """A folder in which best.safetensors is not what it should be."""
    folder.mkdir(exist_ok=True)
    path = folder / "best.safetensors"
    tensors, metadata = mg.io.load(trained / "best.safetensors")
    about = json.loads(metadata["about"])
    if kind == "a text":
        path.write_text("no weights at all")
    elif kind == "cut off":
        path.write_bytes((trained / "best.safetensors").read_bytes()[:-10])
    elif kind == "not described":
        mg.io.save(path, tensors)
    elif kind == "described in no JSON":
        mg.io.save(path, tensors, {"about": "lstm, 16"})
    elif kind == "a folder":
        path.mkdir()
    else:
        changed = {
            "described by nothing": {},
            "described as a list": [1, 2],
            "of another program": dict(about, model="tagger"),
            "of another cell": dict(about, cell="gru"),
            "of no cell": dict(about, cell="none"),
            "without a vocabulary": {"model": "char_lm"},
        }[kind]
        mg.io.save(path, tensors, {"about": json.dumps(changed)})
    return folder


@pytest.mark.parametrize(
    "kind",
    ["a text", "cut off", "not described", "described in no JSON", "a folder", "described by nothing",
     "described as a list", "of another program", "of another cell", "of no cell", "without a vocabulary"],
)  # fmt: skip
def test_weights_that_are_none_of_this_program_get_one_clear_line(trained, tmp_path, kind):
    path = damaged(kind, tmp_path / "damaged", trained[0])
    failing(["--sample-only", "--out", path], "none" if kind == "of no cell" else str(path))


def test_weights_that_are_not_there_get_one_clear_line_with_what_to_do(tmp_path):
    failing(["--sample-only", "--out", tmp_path / "none"], "no trained network", "train one first")


def test_an_output_that_cannot_be_written_gets_one_clear_line_before_any_training(place, tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        failing(["--data", place / "text", "--out", path, *TINY], f"--out {path}")


def test_a_backend_that_is_not_there_gets_one_clear_line():
    try:
        get("cupy")
    except BackendUnavailableError:
        failing(["--backend", "cupy"], "--backend cupy")
    else:
        pytest.skip("CuPy and a GPU are there")


@pytest.mark.parametrize(
    "arguments",
    [["--hidden", "0"], ["--epochs", "-1"], ["--epochs", "1.5"], ["--rate", "nan"], ["--length", "x"],
     ["--cell", "rnn"], ["--temperature", "hot"], ["--unknown"]],
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
        "--data", "--cell", "--hidden", "--seed", "--backend", "--sample-only", "--temperature", "--prompt",
        "--out", "--resume",
    }  # fmt: skip
    for name, same_line, below in options:
        said = re.sub(r"^ (\{.*?\}|[A-Z]+)(?=\s|$)", "", same_line) + below
        assert len(re.findall(r"[a-z]{2,}", said.partition("(default")[0])) >= 2, name


def test_every_cell_gets_a_row_in_one_table(place, tmp_path):
    code, out, err = run("--data", place / "text", "--out", tmp_path, "--cell", "all", "--hidden", 8, "--epochs", 1,
                         "--length", 20)  # fmt: skip
    assert (code, err) == (0, "")
    bits = bits_of(out)
    assert list(bits)[7:] == list(CELLS)
    assert all(0 < b < 6 for b in bits.values())
    assert {path.name for path in tmp_path.iterdir()} == {*CELLS, "started"}


@pytest.mark.slow
def test_the_program_starts_as_a_module():
    command = [sys.executable, "-m", "models.char_lm", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=Path(__file__).parents[2])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: python -m models.char_lm")


def test_what_is_held_out_of_the_documentation_is_new():
    """Many help topics are parts of others."""
    paragraphs = char_lm.read(argparse.Namespace(data=None)).split("\n\n")
    assert len(paragraphs) > 1000 and len(set(paragraphs)) == len(paragraphs)
