"""Cells compared on tasks of long memory: the baselines are right, the verdicts follow from the numbers, and so on."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, train
from models import long_memory
from models.long_memory import TASKS

from .helpers import run, tables

TINY = ("--hidden", 8, "--updates", 2, "--steps", 10)


def table_of(out: str) -> list[dict[str, str]]:
    (rows,) = tables(out)
    return rows


def curve_of(folder, task: str, cell: str) -> dict[int, float]:
    """The losses in validation, by the number of updates."""
    return {epoch["step"]: epoch["valid_loss"] for epoch in train.read_log(folder / task / cell / "log.jsonl")[1]}


class Trivial(nn.Module):
    """What remembers nothing: 1, the classes with equal chances, or blanks until the mark was seen and then symbols."""

    def __init__(self, task: str):
        self.task = task

    def forward(self, xs: mg.Tensor) -> mg.Tensor:
        rows = xs.shape[1]
        if self.task == "adding":
            return mg.ones((rows, 1))
        if self.task == "order":
            return mg.zeros((rows, 4))
        after_mark = np.cumsum(xs.numpy()[:, :, 9], axis=0) - xs.numpy()[:, :, 9] > 0
        is_blank = np.arange(9) == 8
        return mg.tensor(np.where(after_mark[:, :, None] == is_blank, -50.0, 0.0))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("steps", [10, 37])
def test_the_trivial_answer_comes_to_the_loss_and_the_share_that_the_table_names(task, steps):
    losses, right = long_memory.measure(Trivial(task), TASKS[task], TASKS[task].draw(steps, 5000))
    assert losses.shape == (5000,)
    error = float(losses.std()) / 5000**0.5  # more than 4 of these once in 16,000 draws
    assert losses.mean() == pytest.approx(TASKS[task].trivial(steps), abs=1e-6 + 4 * error)
    share, answers = TASKS[task].chance, 50_000 if task == "copy" else 5000
    assert right == pytest.approx(share, abs=4 * (share * (1 - share) / answers) ** 0.5)


@pytest.mark.parametrize("task, by_hand", [("adding", 1 / 6), ("copy", 10 * 2.0794415 / 120), ("order", 1.3862944)])
def test_the_trivial_losses_are_those_published(task, by_hand):
    assert TASKS[task].trivial(100) == pytest.approx(by_hand, rel=1e-6)


def test_right_answers_are_counted_by_hand():
    adding, copy, order = TASKS.values()
    sums = np.array([[1.0], [0.5], [1.5], [0.2]])
    assert adding.right(sums + [[0.09], [-0.09], [0.11], [0.0]], sums) == 0.75
    assert order.right(np.array([[9.0, 0, 0, 0], [0, 0, 9, 0]]), np.array([0, 3])) == 0.5
    said = np.eye(9)[[[8], [3], [8], [1]]]  # of the symbols 4 and 1, one is right; blanks do not count
    assert copy.right(said, np.array([[8], [8], [4], [1]])) == 0.5


def test_every_cell_is_tried_on_every_task_and_gets_its_row_its_log_and_a_curve(tmp_path):
    code, out, err = run(long_memory.main, *TINY, "--out", tmp_path)
    assert (code, err) == (0, "")
    rows = table_of(out)
    assert [(row["task"], row["cell"]) for row in rows] == [
        (task, cell) for task in TASKS for cell in long_memory.CELLS
    ]
    assert len(rows) == 18
    for row in rows:
        assert float(row["trivial"]) == pytest.approx(TASKS[row["task"]].trivial(10), abs=5.1e-5)
        assert row["updates"] == "2"
        assert list(curve_of(tmp_path, row["task"], row["cell"])) == [2]
    for task in TASKS:
        assert (tmp_path / f"{task}.png").read_bytes().startswith(b"\x89PNG")
        assert f"picture: {tmp_path / task}.png" in out


@pytest.fixture(scope="module")
def solved(tmp_path_factory):
    """A short temporal order, which a GRU learns at once, and an Elman network of one unit does not."""
    folder = tmp_path_factory.mktemp("solved")
    own = folder / "own.py"
    own.write_text("from minigrad import nn\nTiny = lambda i, h: nn.ElmanCell(i, 1)\n")
    arguments = ("--task", "order", "--cell", "gru", f"{own}:Tiny", "--steps", 12, "--hidden", 16, "--updates", 300)
    code, out, err = run(long_memory.main, *arguments, "--out", folder)
    assert (code, err) == (0, "")
    return table_of(out), folder


def test_a_gru_solves_a_short_temporal_order_and_beats_chance_on_new_sequences(solved):
    (gru, tiny), _ = solved
    assert gru["verdict"] == "solved"
    assert float(gru["loss"]) < 0.2 * math.log(4)
    assert float(gru["right"].rstrip("%")) > 95
    assert int(gru["updates"]) < 300 == int(tiny["updates"])
    assert tiny["verdict"] != "solved"
    assert float(tiny["right"].rstrip("%")) < 80  # XY and YX cannot both be told from a sum


def test_training_ends_at_the_first_validation_at_or_below_a_twentieth_of_the_trivial_loss(solved):
    rows, folder = solved
    goal = math.log(4) / 20
    for row in rows:
        curve = curve_of(folder, "order", long_memory.folder(row["cell"]))
        *before, last = curve.values()
        assert all(value > goal for value in before)
        assert (last <= goal) == (row["verdict"] == "solved")
        assert list(curve) == list(range(25, int(row["updates"]) + 1, 25))


def test_the_verdict_asks_for_four_standard_errors():
    def verdict(loss, **changes):
        curve = {25: 0.9, 50: 0.06}
        result = long_memory.Result("adding", "gru", 1.0, 50, 1.0, curve, False, loss, error=0.01, right=0.5)
        return result._replace(**changes).verdict

    assert verdict(0.95) == "better"
    assert verdict(0.97) == verdict(1.5) == "no better"
    assert verdict(0.01, curve={25: 0.9, 50: 0.05}) == "solved"
    assert verdict(0.5, has_diverged=True) == "diverged"


def test_all_are_validated_on_the_same_sequences_and_tested_on_others_whatever_the_seed(tmp_path, monkeypatch):
    valid, test = [], []
    measure, fit = long_memory.measure, long_memory.command.fit

    def watched(network, task, batch):
        test.append(batch[0])
        return measure(network, task, batch)

    def fitted(options, network, loss, batches, validation, **how):
        valid.append(validation[0][0])
        return fit(options, network, loss, batches, validation, **how)

    monkeypatch.setattr(long_memory, "measure", watched)
    monkeypatch.setattr(long_memory.command, "fit", fitted)
    for seed in (0, 1):
        run(long_memory.main, *TINY, "--task", "adding", "--cell", "elman", "irnn", "--out", tmp_path, "--seed", seed)
    assert valid[0].shape[1] == 250 and test[0].shape[1] == 1000
    assert len(valid) == len(test) == 4
    assert all((again == valid[0]).all() for again in valid) and all((again == test[0]).all() for again in test)
    assert not (test[0][:, :250] == valid[0]).all()


def test_a_comparison_that_was_stopped_goes_on_where_it_was(tmp_path):
    """Ctrl-C in the second of three cells: the first is loaded, the second gone on with, the third begun."""
    own = tmp_path / "own.py"
    own.write_text(
        "import pathlib, signal\nfrom minigrad import nn\ncalls = []\n"
        "class Stopping(nn.GRUCell):\n"
        "    def prepare(self, xs, memory=None):\n"
        "        calls.append(1)\n"
        f"        if len(calls) == 3 and not pathlib.Path({str(tmp_path / 'done')!r}).exists():\n"
        f"            pathlib.Path({str(tmp_path / 'done')!r}).touch()\n"
        "            signal.raise_signal(signal.SIGINT)\n"
        "        return xs, ()\n"
    )
    arguments = ["--task", "order", "--cell", "gru", f"{own}:Stopping", "elman", "--updates", 50, "--steps", 10]
    code, out, _ = run(long_memory.main, *arguments, "--hidden", 4, "--out", tmp_path / "run")
    assert code == 130 and "--resume" in out
    _, resumed, _ = run(long_memory.main, *arguments, "--hidden", 4, "--out", tmp_path / "run", "--resume")
    _, whole, _ = run(long_memory.main, *arguments, "--hidden", 4, "--out", tmp_path / "whole")
    losses = [[(row["cell"], row["loss"], row["updates"]) for row in table_of(out)] for out in (resumed, whole)]
    assert len(losses[0]) == 3 and losses[0] == losses[1]


def test_a_seed_decides_everything_but_the_seconds(tmp_path):
    def losses(seed):
        out = run(long_memory.main, *TINY, "--task", "order", "--cell", "elman", "--out", tmp_path, "--seed", seed)[1]
        return [row["loss"] for row in table_of(out)]

    first = losses(3)
    assert losses(3) == first
    assert all(a != b for a, b in zip(first, losses(4)))


def test_a_cell_learns_the_same_alone_as_beside_others(tmp_path):
    together = run(long_memory.main, *TINY, "--task", "order", "--cell", "elman", "gru", "--out", tmp_path)[1]
    alone = run(long_memory.main, *TINY, "--task", "order", "--cell", "gru", "--out", tmp_path)[1]
    assert table_of(alone)[0]["loss"] == table_of(together)[1]["loss"]


def test_a_cell_that_diverges_says_so_and_the_others_go_on(tmp_path):
    arguments = ("--task", "adding", "--cell", "irnn", "gru", "--rate", 1e9, "--updates", 30, "--steps", 10)
    code, out, err = run(long_memory.main, *arguments, "--hidden", 8, "--out", tmp_path)
    assert (code, err) == (0, "")
    irnn, gru = table_of(out)
    assert irnn["verdict"] == "diverged" and int(irnn["updates"]) < 30
    assert gru["verdict"] == "no better" and gru["updates"] == "50"  # two times 25, the way from check to check


def test_a_cell_that_diverges_after_its_first_validation_keeps_the_weights_of_that(tmp_path):
    own = tmp_path / "own.py"
    own.write_text(
        "import minigrad as mg\nfrom minigrad import nn\ncalls = []\n"
        "class Late(nn.ElmanCell):\n"
        "    def prepare(self, xs, memory=None):\n"
        "        calls.append(xs.shape)\n"
        "        return xs * (float('nan') if len(calls) == 27 else 1.0), ()\n"  # 25 batches, a validation, and this
    )
    arguments = ("--task", "order", "--cell", f"{own}:Late", "--updates", 30, "--steps", 10, "--hidden", 4)
    code, out, err = run(long_memory.main, *arguments, "--out", tmp_path)
    assert (code, err) == (0, "")
    (row,) = table_of(out)
    assert (row["verdict"], row["updates"]) == ("diverged", "25")
    assert float(row["loss"]) < 2


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("--steps", 9), ["--steps 9", "10 at least"]),
        (("--task", "adding", "--steps", 1), ["--steps 1", "2 at least"]),
        (("--cell", "gru", "nothing"), ["--cell nothing", "elman", "FILE.py:CLASS"]),
        (("--task", "reading"), ["--task", "reading", "adding"]),
        (("--updates", 0), ["--updates", "positive"]),
        (("--rate", -1), ["--rate", "positive"]),
    ],
)
def test_what_cannot_be_done_gets_one_line_before_any_training(tmp_path, arguments, words):
    code, out, err = run(long_memory.main, *arguments, "--out", tmp_path)
    assert code == 2
    assert err.startswith("long_memory: ") and err.count("\n") == 1
    assert all(word in err for word in words), err
    assert "updates," not in out


def test_help_says_what_the_trivial_answers_are_and_what_the_options_do():
    code, out, _ = run(long_memory.main, "--help")
    assert code == 0
    assert "1/6" in out and "10 log 8" in out and "log 4" in out
    assert all(
        re.search(rf"^  {option}\b", out, re.MULTILINE) for option in ("--task", "--cell", "--steps", "--updates")
    )


@pytest.mark.slow
def test_gates_learn_to_add_and_to_order_over_forty_steps_where_tanh_does_not(tmp_path):
    out = run(long_memory.main, "--task", "adding", "order", "--cell", "elman", "gru", "--out", tmp_path)[1]
    assert [row["verdict"] == "solved" for row in table_of(out)] == [False, True, False, True]


def test_two_cells_of_one_class_name_have_a_folder_each():
    names = [*long_memory.CELLS, "a.py:Mine", "b.py:Mine", "c/a.py:Mine"]
    assert len({long_memory.folder(name) for name in names}) == len(names)
