"""Forecasting: the models by hand on series whose future is known, and the program on its tasks and on files."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import forecast
from tests.models import helpers

TINY = ["--hidden", "16", "--units", "200", "--epochs", "2"]
SMALL = ["--hidden", "4", "--units", "20", "--epochs", "1", "--horizon", "20"]


def run(*arguments: object) -> tuple[int, str, str]:
    """The program: its exit code, and what it wrote to stdout and stderr."""
    return helpers.run(forecast.main, *arguments)


def errors_of(out: str, column: str) -> dict[str, float]:
    """A column of the one table, by the kind of model, as in "echo state" or "Markov, order 2"."""
    (rows,) = helpers.tables(out)
    return {re.split(r"\(|, \d", row["model"])[0]: float(row[column]) for row in rows}


@pytest.fixture
def quick(monkeypatch):
    """Series that are made here, a third as long, and trainings of a few steps: where they are not looked at."""
    monkeypatch.setattr(forecast, "LENGTH", 3000)
    monkeypatch.setattr(forecast, "UPDATES", 10)


def sine(count: int) -> np.ndarray:
    return 1000 + 50 * np.sin(0.3 * np.arange(count))


def is_close(found: np.ndarray, expected: np.ndarray, size: float) -> bool:
    return found.shape == expected.shape and np.abs(found - expected).max() < size


# The models, by hand


def test_a_series_is_scaled_by_its_first_60_percent_and_asks_for_the_next_value():
    values = np.concatenate([sine(600), 1e6 + np.arange(401)])
    task = forecast.series("data", values)
    assert task.is_free and (task.valid, task.test) == (600, 700)
    assert task.inputs[:600].mean() == pytest.approx(0, abs=1e-12) and task.inputs[:600].std() == pytest.approx(1)
    assert (task.inputs[1:, 0] == task.targets[:-1]).all()
    assert is_close(task.original(task.targets), values[1:], 1e-9)


def test_a_driven_series_is_told_the_input_of_the_step_and_the_output_before_it():
    u, y = np.arange(1001.0), sine(1001)
    task = forecast.series("narma10", u, y)
    assert not task.is_free
    assert is_close(task.original(task.inputs[:, 1]), y[:-1], 1e-9)
    assert is_close(task.original(task.targets), y[1:], 1e-9)
    assert is_close(task.inputs[:, 0] * u[1:601].std() + u[1:601].mean(), u[1:], 1e-9)


def test_a_free_run_reads_what_it_said():
    fibonacci = forecast.remembering(2, lambda last: last[..., 0, 0] + last[..., 1, 0])
    said = forecast.free_run(fibonacci, np.array([[1.0, 2.0], [1.0, 0.0]]), 5)
    assert said.T.tolist() == [[2, 3, 5, 8, 13], [2, 2, 4, 6, 10]]


def test_a_free_run_to_infinity_is_an_infinite_error_and_no_warning():
    squares = forecast.remembering(1, lambda last: last[..., 0, 0] ** 2)
    said = forecast.free_run(squares, np.array([[10.0]]), 12)
    assert said[:3, 0].tolist() == [1e2, 1e4, 1e8] and said[-1, 0] == np.inf
    assert forecast.root_mean_square(said[-1]) == np.inf


def test_what_runs_off_is_drawn_to_the_edge_and_no_warning(tmp_path):
    task = forecast.series("data", sine(1001))
    ran_off = task.original(np.array([0.0, 1e200, 1.7e308, -np.inf, np.nan, 0.0]))
    assert ran_off[2] == np.inf
    figure = forecast.draw(task, sine(6), {"a model": ran_off}, 84)
    figure.savefig(tmp_path / "x.png")
    truth, drawn = (line.get_ydata() for line in figure.axes[0].lines)
    assert (truth == sine(6)).all() and np.isnan(drawn[4])
    low, high = figure.axes[0].get_ylim()
    assert drawn[1] == drawn[2] > high > truth.max() and drawn[3] < low < truth.min()


def test_a_markov_chain_answers_with_the_mean_of_what_followed():
    values = np.tile([0.0, 1, 2, 1], 100)
    task = forecast.series("data", values)
    read = (np.array([0.0, 1, 2, 1, 0, 0]) - task.original(np.zeros(1))) / np.ptp(task.original(np.array([0.0, 1])))

    def said(order: int) -> list[float]:
        return task.original(forecast.markov(task, order, 10)(read[:, None, None])[0][:, 0]).round(9).tolist()

    # After a 1 comes a 2 or a 0. The chain of order 2 knows which: but first it knows nothing before the 0, and at the
    # end sees 0 after 0, which never was: then it answers as the chain of order 1, by what follows a 0.
    share = np.mean(values[forecast.WASHOUT + 1 : task.valid + 1][values[forecast.WASHOUT : task.valid] == 1])
    assert said(1) == pytest.approx([1, share, 1, share, 1, 1])
    assert said(2) == pytest.approx([1, 2, 1, 0, 1, 1])


def test_an_autoregression_of_order_2_continues_a_sine():
    task = forecast.series("data", sine(1001))
    model = forecast.autoregression(task, 2, slice(None))
    said = forecast.free_run(model, task.inputs[:700], 300)
    assert is_close(task.original(said[:, 0]), task.original(task.targets[699:999]), 1e-6)
    assert forecast.free_run_error(task, model, 84) < 1e-8
    # One term alone cannot: the best forecast of x_{t+1} by x_t is cos(0.3) x_t, and misses by sin(0.3) of its size.
    one = forecast.autoregression(task, 1, slice(None))
    missed = forecast.one_step(task, one, 700, 1000) - task.targets[700:]
    assert forecast.root_mean_square(missed) == pytest.approx(np.sin(0.3), rel=0.02)


def test_an_autoregression_with_inputs_finds_the_coefficients_of_a_linear_system():
    u = np.random.default_rng(0).normal(size=1001)
    y = np.zeros(1001)
    for t in range(2, 1001):
        y[t] = 0.5 * y[t - 1] + 0.3 * y[t - 2] + 2 * u[t] - u[t - 1] + 7
    task = forecast.series("narma10", u, y)
    for columns, low, high in ((slice(None), 0, 1e-10), (slice(0, 1), 0.2, 2), (slice(1, 2), 0.2, 2)):
        model = forecast.autoregression(task, 2, columns)
        missed = forecast.root_mean_square(forecast.one_step(task, model, 700, 1000) - task.targets[700:])
        assert low <= missed < high


def test_the_last_value_is_as_wrong_as_the_series_moves():
    task = forecast.series("mackey-glass", np.cumsum(np.random.default_rng(0).normal(size=1001)))
    model = forecast.remembering(1, lambda last: last[..., 0, -1])
    assert (forecast.one_step(task, model, 700, 1000) == task.targets[699:999]).all()
    # From 700 to 1000 - 84 there are 217 places to begin at; the 50 that are taken are a part of these.
    moved = np.abs(task.targets[783:1000] - task.inputs[700:917, 0])
    assert moved.min() < forecast.free_run_error(task, model, 84) < moved.max()
    constant = forecast.free_run_error(task, lambda xs, state=None: (0 * xs[..., 0] + task.targets[783], None), 1)
    assert constant > 0


@given(cut=st.integers(1, 29), kind=st.sampled_from(["last", "AR", "Markov"]), order=st.integers(1, 3))
def test_reading_in_two_parts_is_reading_at_once(cut, kind, order):
    task = forecast.series("data", np.random.default_rng(1).normal(size=501))
    model = {
        "last": lambda: forecast.remembering(order, lambda last: last[..., -1, 0]),
        "AR": lambda: forecast.autoregression(task, order, slice(None)),
        "Markov": lambda: forecast.markov(task, order, 5),
    }[kind]()
    xs = np.random.default_rng(2).normal(size=(30, 3, 1))
    whole, _ = model(xs)
    first, state = model(xs[:cut])
    second, _ = model(xs[cut:], state)
    assert is_close(np.concatenate([first, second]), whole, 1e-12)


# The program


@pytest.fixture(scope="module")
def chaos(tmp_path_factory) -> tuple[Path, str]:
    """The folder of a run on Mackey-Glass with small networks, and what it printed."""
    folder = tmp_path_factory.mktemp("chaos")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forecast, "LENGTH", 3000)
        patch.setattr(forecast, "UPDATES", 60)
        code, out, err = run("--task", "mackey-glass", "--out", folder, *TINY)
    assert (code, err) == (0, "")
    return folder, out


def test_on_mackey_glass_the_networks_beat_what_they_must(chaos):
    _, out = chaos
    one, far = errors_of(out, "1 step"), errors_of(out, "84 steps")
    assert list(one) == ["last value", "Markov, order 1", "Markov, order 2", "AR", "echo state", "lstm"]
    assert one["lstm"] < 0.5 * min(one["last value"], one["Markov, order 1"])
    assert one["echo state"] < 0.1 * min(one["last value"], one["Markov, order 1"], one["Markov, order 2"])
    assert far["echo state"] < 0.1 * min(
        far[name] for name in ("last value", "Markov, order 1", "Markov, order 2", "AR")
    )
    assert far["last value"] > 1  # worse than the mean, as the waves have moved on


def test_a_run_leaves_a_picture_and_the_weights(chaos):
    folder, out = chaos
    assert f"picture: {folder / 'mackey-glass.png'}" in out
    assert (folder / "mackey-glass.png").read_bytes()[:4] == b"\x89PNG"
    assert {path.name for path in (folder / "mackey-glass").iterdir()} >= {"best.safetensors", "log.jsonl"}


def test_on_narma_networks_that_read_inputs_alone_beat_a_linear_model_of_them(tmp_path, quick):
    code, out, err = run("--task", "narma10", "--out", tmp_path, *TINY)
    assert (code, err) == (0, "")
    (rows,) = helpers.tables(out)
    assert [row["reads"] for row in rows] == ["y", "y", "y", "u", "u, y", "u", "u"]
    errors = errors_of(out, "1 step")
    assert errors["ARX"] < errors["MA"] < errors["Markov, order 1"]
    assert errors["echo state"] < 0.8 * errors["MA"]
    assert "84 steps" not in rows[0] and (tmp_path / "narma10.png").exists()


@pytest.fixture(scope="module")
def waves(tmp_path_factory) -> Path:
    """A file with a sine of 400 days about 1000."""
    path = tmp_path_factory.mktemp("waves") / "waves.csv"
    path.write_text("day,height\n" + "".join(f"{i},{value:.9f}\n" for i, value in enumerate(sine(400))))
    return path


def rows_of(out: str) -> list[list[str]]:
    """The table without what differs every time."""
    (rows,) = helpers.tables(out)
    return [[text for name, text in row.items() if name != "time"] for row in rows]


@pytest.fixture(scope="module")
def continued(waves) -> tuple[Path, str]:
    """The folder of a run on that file, and what was printed."""
    folder = waves.parent / "continued"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forecast, "UPDATES", 10)
        code, out, err = run("--data", waves, "--column", "height", "--out", folder, *SMALL, "--cell", "gru")
    assert (code, err) == (0, "")
    return folder, out


def test_a_series_of_ones_own_is_continued_after_its_end_in_its_units(continued):
    folder, out = continued
    far = errors_of(out, "20 steps")
    assert far["AR"] < 1e-3 < far["last value"] and "gru" in far
    with (folder / "forecast.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == list(range(1, 21))
    (name,) = (name for name in rows[0] if name.startswith("AR"))
    assert is_close(np.array([float(row[name]) for row in rows]), sine(420)[400:], 1e-3)
    assert is_close(np.array([float(row["last value"]) for row in rows]), np.full(20, sine(400)[-1]), 1e-6)


def test_a_seed_and_a_column_by_its_number_give_the_same_again(continued, waves, tmp_path, quick):
    folder, out = continued
    code, again, _ = run("--data", waves, "--column", 1, "--out", tmp_path, *SMALL, "--cell", "gru")
    assert code == 0 and rows_of(again) == rows_of(out)
    assert (tmp_path / "forecast.csv").read_bytes() == (folder / "forecast.csv").read_bytes()


def test_resume_finds_the_network_that_was_trained(continued, waves, quick):
    folder, out = continued
    code, again, _ = run("--data", waves, "--column", 1, "--out", folder, *SMALL, "--cell", "gru", "--resume")
    assert code == 0 and "epoch" not in again and rows_of(again) == rows_of(out)


def write(path: Path, values: object) -> Path:
    path.write_text("x\n" + "".join(f"{value}\n" for value in values))
    return path


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([5.5] * 700, "column 0 must vary in its first 60%.* it goes from 5.5 to 5.5"),
        ([*range(450), *[450] * 250], "column 0 must vary in its last 30%.* it goes from 450 to 450"),
        (np.arange(700) * 1e200, "neither 0 nor infinite"),
        (np.arange(700) * 1e-300, "neither 0 nor infinite"),
        (range(200), r"200 values are too few, --horizon 84 takes 561: twice .* a lower one takes fewer"),
        ([1, 2, "two"], r"line 4: expected a finite number in column 'x', got 'two'"),
    ],
)
def test_a_file_that_cannot_be_learned_from_is_refused_in_one_line(tmp_path, values, message):
    code, out, err = run("--data", write(tmp_path / "x.csv", values), "--out", tmp_path / "out")
    assert (code, out) == (2, "")
    assert re.fullmatch(rf"forecast: .*{re.escape(str(tmp_path / 'x.csv'))}.*{message}.*\n", err)


def test_with_a_short_horizon_300_values_are_enough_and_299_are_not(tmp_path, quick):
    noise = np.random.default_rng(0).normal(size=300)
    code, _, err = run("--data", write(tmp_path / "x.csv", noise[1:]), "--out", tmp_path / "out", *SMALL)
    assert code == 2 and "299 values are too few, --horizon 20 takes 300\n" in err
    code, out, err = run("--data", write(tmp_path / "x.csv", noise), "--out", tmp_path / "out", *SMALL)
    assert (code, err) == (0, "")
    assert 0.7 < errors_of(out, "20 steps")["Markov, order 1"] < 1.6  # nothing can be known of noise but its mean


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--column", "x"], "--column x: is one of the file that --data names"),
        (["--task", "narma10", "--data", "x.csv"], "--task narma10: is a series that is made here"),
        (["--data", "missing.csv"], "there is no file missing.csv"),
        (["--horizon", "1501"], "--horizon 1501: at most 1500"),
        (["--horizon", "0"], "--horizon"),
        (["--cell", "no_such"], "--cell no_such"),
    ],
)
def test_options_that_make_no_sense_are_refused(tmp_path, arguments, message):
    code, out, err = run(*arguments, "--out", tmp_path)
    assert (code, out) == (2, "") and message in err and err.count("\n") == 1


def test_help_shows_the_options_and_how_to_begin():
    code, out, _ = run("--help")
    assert code == 0
    for word in ("--column", "--horizon", "--units", "--task", "python -m models.forecast --data FILE.csv"):
        assert word in out
