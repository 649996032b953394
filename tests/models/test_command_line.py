"""What the programs share: options, cells by name, tables, rows left out, trainings stopped and gone on with."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import data, nn, train
from models.command_line import CELLS, CommandLine, fail, keep, positive, table
from tests.models.helpers import run, tables

Row = namedtuple("Row", "line text")


class Counter(nn.Module):
    """One number that is to become the mean of the data."""

    def __init__(self):
        self.value = nn.Parameter(mg.random.normal((1,)))

    def loss(self, batch, state):
        return ((self.value - mg.tensor(batch[0])) ** 2).mean(), state


def program(stop_at=None, runs=("",), then=lambda options, model: None, epochs=3):
    """A program that trains a Counter, in each of the runs; Ctrl-C comes in the loss number `stop_at`."""
    command = CommandLine("counter", "Count.", cell="gru", hidden=8, epochs=epochs, rate=0.1, data="numbers")
    calls = []

    @command
    def main(options):
        for name in runs:
            mg.seed(options.seed)
            model = Counter()

            def loss(batch, state):
                calls.append(name)  # noqa: B023
                if len(calls) == stop_at:
                    signal.raise_signal(signal.SIGINT)
                return model.loss(batch, state)  # noqa: B023

            batches = data.Drawn(lambda: (mg.random.generator().normal(2, 1, 4).astype("float32"),), 5)
            valid = [(np.full(4, 2, "float32"),)]
            command.fit(options, model, loss, batches, valid, about={"size": 1}, run=name)
            print("value", name, model.value.item())
            then(options, model)

    return main, command, calls


def values(out):
    return re.findall(r"^value .*$", out, re.MULTILINE)


# Trainings


def test_a_training_leaves_weights_log_and_curves_in_its_folder(tmp_path):
    main, _, _ = program()
    code, _, err = run(main, "--out", tmp_path)
    assert (code, err) == (0, "")
    files = {"best.safetensors", "last.safetensors", "log.jsonl", "curves.png", "started"}
    assert {path.name for path in tmp_path.iterdir()} == files
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"
    about = train.read_about(tmp_path / "best.safetensors")
    assert about.pop("started") == (tmp_path / "started").read_text()
    assert about == {"model": "counter", "size": 1, "cell": "gru", "hidden": 8, "rate": 0.1, "seed": 0}


def test_ctrl_c_says_how_to_go_on_and_that_command_goes_on_bit_for_bit(tmp_path):
    whole = values(run(program()[0], "--out", tmp_path / "whole")[1])
    folder = tmp_path / "a folder"
    code, out, err = run(program(stop_at=8)[0], "--out", folder, "--seed", 0)
    assert (code, err, values(out)) == (130, "", [])
    (said,) = re.findall("go on with: python -m models.counter (.*)", out)
    assert said == f"--out '{folder}' --seed 0 --resume"
    code, out, err = run(program()[0], "--out", folder, "--seed", 0, "--resume")
    assert (code, err) == (0, "")
    assert values(out) == whole


@pytest.mark.parametrize("stop_at", [3, 17, 18, 36])
def test_of_several_trainings_those_that_are_over_are_loaded_and_the_rest_is_done(tmp_path, stop_at):
    runs = ("a", "b")  # each of 3 epochs of 5 steps and a validation: 18 losses
    whole = values(run(program(runs=runs)[0], "--out", tmp_path / "whole")[1])
    assert len(whole) == 2
    code, *_ = run(program(stop_at=stop_at, runs=runs)[0], "--out", tmp_path / "stopped")
    assert code == 130
    main, _, calls = program(runs=runs)
    code, out, err = run(main, "--out", tmp_path / "stopped", "--resume")
    assert (code, err) == (0, "")
    assert values(out) == whole
    assert len(calls) == 36 - stop_at


def test_what_an_older_program_left_is_not_gone_on_with(tmp_path):
    """Of two trainings the first is stopped; the second is there from a program that had fewer epochs."""
    runs = ("a", "b")
    whole = values(run(program(runs=runs)[0], "--out", tmp_path / "whole")[1])
    run(program(runs=runs, epochs=1)[0], "--out", tmp_path / "again")
    assert run(program(stop_at=3, runs=runs)[0], "--out", tmp_path / "again")[0] == 130
    code, out, err = run(program(runs=runs)[0], "--out", tmp_path / "again", "--resume")
    assert (code, err) == (0, "")
    assert values(out) == whole


def test_a_training_that_was_stopped_is_not_lost_by_beginning_another(tmp_path):
    run(program(stop_at=28, runs=("a", "b"))[0], "--out", tmp_path)
    before = (tmp_path / "b" / "last.safetensors").read_bytes()
    main, _, calls = program(runs=("a", "b"))
    code, out, err = run(main, "--out", tmp_path)
    assert (code, out, calls) == (2, "", [])
    assert "stopped after step" in err and "--resume" in err and f"remove {tmp_path / 'b'}" in err
    assert (tmp_path / "b" / "last.safetensors").read_bytes() == before


def test_a_training_that_is_over_may_be_replaced(tmp_path):
    for seed in (0, 1):
        assert run(program()[0], "--out", tmp_path, "--seed", seed)[0] == 0
    assert train.read_about(tmp_path / "best.safetensors")["seed"] == 1


def test_there_must_be_something_to_go_on_with(tmp_path):
    code, out, err = run(program()[0], "--out", tmp_path, "--resume")
    assert (code, out) == (2, "")
    assert err == f"counter: --resume: there is no training in {tmp_path} to go on with; begin one without --resume\n"


@pytest.mark.parametrize("change", [["--hidden", 9], ["--cell", "lstm"], ["--seed", 1], ["--rate", 0.2], ["--data"]])
def test_going_on_under_other_settings_is_refused_by_name(tmp_path, change):
    run(program(stop_at=8)[0], "--out", tmp_path)
    if change == ["--data"]:
        (tmp_path / "file").write_text("1 2 3")
        change = ["--data", tmp_path / "file"]
    code, _, err = run(program()[0], "--out", tmp_path, "--resume", *change)
    assert code == 2
    assert f"was begun with {change[0][2:]} = " in err


def test_going_on_with_other_examples_is_refused_by_name(tmp_path):
    def learner(stop_at=None):
        command = CommandLine("counter", "Count.", hidden=8, epochs=3, rate=0.1)
        command.add_argument("--examples", type=positive(int), default=20)
        calls = []

        @command
        def main(options):
            model = Counter()

            def loss(batch, state):
                calls.append(batch)
                if len(calls) == stop_at:
                    signal.raise_signal(signal.SIGINT)
                return model.loss(batch, state)

            batches = [(np.ones(4, "float32"),)] * options.examples
            command.fit(options, model, loss, batches, batches[:1])

        return main

    assert run(learner(stop_at=5), "--out", tmp_path)[0] == 130
    code, _, err = run(learner(), "--out", tmp_path, "--resume", "--examples", 30)
    assert code == 2 and "was begun with examples = 20, not 30" in err


def test_a_program_is_repeated_exactly_and_leaves_the_random_numbers_of_its_caller_alone(tmp_path):
    with mg.seed(5):
        expected = mg.random.normal((2,)).tolist()
    with mg.seed(5):
        results = [values(run(program()[0], "--out", tmp_path / str(i), "--seed", 3)[1]) for i in range(2)]
        assert mg.random.normal((2,)).tolist() == expected
    assert results[0] == results[1]


def test_a_trained_network_is_loaded_with_what_was_said_about_it(tmp_path):
    run(program()[0], "--out", tmp_path)
    command = CommandLine("counter", "Count.", epochs=1)
    found = []

    @command
    def main(options):
        model, about = command.load(options, lambda about: Counter())
        found.append((model.value.item(), model.training, about["size"]))

    assert run(main, "--out", tmp_path)[0] == 0
    assert found[0][1:] == (False, 1)
    assert found[0][0] == mg.io.load(tmp_path / "best.safetensors")[0]["value"].item()


@pytest.mark.parametrize("kind", ["nothing", "another program", "another network"])
def test_what_cannot_be_loaded_is_said_in_one_line(tmp_path, kind):
    if kind != "nothing":
        run(program()[0], "--out", tmp_path)
    command = CommandLine("other" if kind == "another program" else "counter", "Count.")

    @command
    def main(options):
        command.load(options, lambda about: nn.Linear(2, 2))

    code, _, err = run(main, "--out", tmp_path)
    assert code == 2
    assert {"nothing": "train one first", "another program": "not those of other", "another network": "lacks"}[
        kind
    ] in err


def test_a_loss_that_is_nan_is_one_line(tmp_path):
    command = CommandLine("counter", "Count.", epochs=1, rate=0.1)

    @command
    def main(options):
        model = Counter()
        loss = lambda batch, state: (model.loss(batch, state)[0] * float("nan"), state)
        command.fit(options, model, loss, [(np.ones(4, "float32"),)], [(np.ones(4, "float32"),)])

    code, _, err = run(main, "--out", tmp_path)
    assert code == 2
    assert re.fullmatch(r"counter: fit: the loss is nan at step 1 of epoch 1, .*\n", err)


# The command line


def test_a_failure_is_one_line_and_exit_code_2_and_a_bug_keeps_its_traceback(tmp_path):
    command = CommandLine("counter", "Count.")

    @command
    def main(options):
        fail("--data x.tsv: line 3 is odd")

    assert run(main, "--out", tmp_path) == (2, "", "counter: --data x.tsv: line 3 is odd\n")

    @command
    def broken(options):
        raise mg.errors.ShapeError("a bug")

    with pytest.raises(mg.errors.ShapeError):
        run(broken, "--out", tmp_path)


@pytest.mark.parametrize(
    "arguments, word",
    [
        (["--hidden", "0"], "--hidden"),
        (["--epochs", "1.5"], "--epochs"),
        (["--rate", "nan"], "--rate"),
        (["--seed", "-1"], "--seed"),
        (["--cell", "transformer"], "there are elman, irnn"),
        (["--cell", "nowhere.py:Cell"], "no file nowhere.py"),
        (["--backend", "tpu"], "--backend"),
        (["--unknown"], "--unknown"),
        (["--hid", "3"], "--hid"),
    ],
)
def test_an_option_that_makes_no_sense_is_one_line_with_its_name(tmp_path, arguments, word):
    code, out, err = run(program()[0], "--out", tmp_path, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("counter: ") and err.count("\n") == 1
    assert word in err
    assert not list(tmp_path.iterdir())


def test_a_program_has_only_the_options_that_have_a_default(tmp_path):
    command = CommandLine("picture", "Draw.")
    help = command.format_help()
    assert "--seed" in help and "--out" in help
    assert not re.search("--(data|cell|hidden|epochs|rate|resume)", help)


def test_help_has_the_docstring_as_it_stands_and_every_default(tmp_path):
    code, out, err = run(program()[0], "--help")
    assert (code, err) == (0, "")
    assert "Count." in out
    assert re.search(r"--hidden H .*\(default: 8\)", out)
    assert "(default: None)" not in out and "(default: False)" not in out


@pytest.mark.parametrize("name", CELLS)
def test_every_cell_has_a_name_and_runs(name):
    command = CommandLine("counter", "Count.", cell="gru")
    net = nn.Recurrent(command.cell(name), 3, 8)
    outs, _ = net(mg.ones((4, 2, 3)))
    assert outs.shape == (4, 2, net.output_size)


def test_a_cell_of_ones_own_is_found_in_a_file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from minigrad import nn\n"
        "class Leaky(nn.Cell):\n"
        "    def __init__(self, input_size, hidden_size):\n"
        "        super().__init__(input_size, hidden_size)\n"
        "        self.input = nn.Linear(input_size, hidden_size)\n"
        "    def forward(self, x, h):\n"
        "        h = 0.9 * h + 0.1 * self.input(x)\n"
        "        return h, h\n"
    )
    command = CommandLine("counter", "Count.", cell="gru")
    cell = command.cell(f"{path}:Leaky")(3, 4)
    assert type(cell).__name__ == "Leaky"
    mg.check_cell(cell)
    path.write_text(
        path.read_text() + "class Wide(nn.Cell):\n"
        "    def forward(self, x, h):\n"
        "        return h[:, :2], h\n"
        "class Stateless(nn.Cell):\n"
        "    def forward(self, x, h):\n"
        "        return x @ h, h\n"
        "number = 5\n"
    )
    for wrong, said in [("Wide", r"output is \(3, 2\), not \(B, 8\)"), ("Stateless", "matmul"), ("number", "TypeError"),
                        ("", "defines no class")]:  # fmt: skip
        with pytest.raises(Exception, match=said) as caught:
            command.cell(f"{path}:{wrong}")
        assert str(caught.value).startswith(f"--cell {path}:{wrong}: ")
    (tmp_path / "broken.py").write_text("def f(:\n")
    with pytest.raises(Exception, match="cannot be run: SyntaxError"):
        command.cell(f"{tmp_path / 'broken.py'}:A")
    for name, said in [(f"{path}:Leeky", "defines no Leeky"), (f"{tmp_path / 'text.md'}:A", "no file")]:
        with pytest.raises(Exception, match=said):
            command.cell(name)


def test_a_file_of_cells_is_run_once_and_what_it_does_to_the_random_numbers_has_no_effect(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "import minigrad as mg\nfrom minigrad import nn\nmg.seed(1)\nprint('run')\n"
        "class Mine(nn.ElmanCell):\n    pass\n"
    )
    command = CommandLine("counter", "Count.", cell="elman")

    @command
    def main(options):
        weights = [command.cell(options.cell)(2, 2).weight_hh.tolist() for _ in range(2)]
        print("drawn", weights)

    mine = run(main, "--cell", f"{path}:Mine", "--out", tmp_path / "out")[1]
    elman = run(main, "--cell", "elman", "--out", tmp_path / "out")[1]
    assert mine == "run\n" + elman


# Tables and rows


def test_a_table_is_aligned_with_numbers_to_the_right():
    text = table(["model", "loss", "n"], [["lstm", 1.5, "1,000"], ["a longer name", 10.25, 7]])
    assert text.splitlines() == [
        "  model            loss      n",
        "  -------------  ------  -----",
        "  lstm            1.500  1,000",
        "  a longer name  10.250      7",
    ]


@given(st.lists(st.tuples(st.sampled_from(["a", "bb b", "c-c", ""]), st.integers(-99, 9999)), min_size=1))
def test_a_table_can_be_read_back(rows):
    (found,) = tables("before\n" + table(["name", "n"], rows) + "\nafter")
    assert [(row["name"], row["n"]) for row in found] == [(name, str(n)) for name, n in rows]


def test_rows_that_are_empty_or_too_long_are_counted_and_named(capsys):
    rows = [Row(1, "abc"), Row(2, ""), Row(4, "abcdef"), Row(5, "ab"), *(Row(i, "abcdefg") for i in range(6, 20))]
    assert [row.line for row in keep(rows, lambda row: len(row.text), 5)] == [1, 5]
    assert capsys.readouterr().out == (
        "left out: 1 empty (line 2)\n"
        "left out: 15 longer than 5 characters (lines 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, ...)\n"
    )
    assert keep(rows[:1], lambda row: len(row.text), 3) == rows[:1]
    assert capsys.readouterr().out == ""


def test_if_no_row_is_left_the_program_ends():
    with pytest.raises(Exception, match="no row is left"):
        keep([Row(1, ""), Row(2, "abc")], lambda row: len(row.text), 2)


def test_a_positive_number_is_one():
    assert positive(int)("3") == 3 and positive(float)("0.5") == 0.5
    for text in ("0", "-1", "inf", "nan"):
        with pytest.raises(Exception, match=r"positive|convert"):
            positive(float)(text)


def test_what_is_said_about_weights_is_json(tmp_path):
    run(program()[0], "--out", tmp_path)
    _, metadata = mg.io.load(tmp_path / "best.safetensors")
    assert json.loads(metadata["about"])["cell"] == "gru"


def test_what_was_trained_by_now_is_gone_on_with_after_ctrl_c_between_trainings(tmp_path):
    def interrupt(options, model):
        raise KeyboardInterrupt

    code, out, _ = run(program(then=interrupt)[0], "--out", tmp_path)
    assert code == 130 and "go on with: python -m models.counter" in out


def test_a_reader_that_has_seen_enough_ends_the_program_without_a_traceback(tmp_path):
    """As behind `| head`: the program writes on, and nobody reads."""
    lines = ["from models.command_line import CommandLine", "@CommandLine('talker', 'Talk.')", "def main(options):"]
    lines += ["    for i in range(100_000):", "        print(i, flush=True)", f"main(['--out', {str(tmp_path)!r}])"]
    here = Path(__file__).parents[2]
    command = [sys.executable, "-c", "\n".join(lines)]
    talker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=here)
    assert talker.stdout.readline() == b"0\n"
    talker.stdout.close()
    assert talker.stderr.read() == b""
    assert talker.wait() == 141
    talker.stderr.close()
