"""The error surface: its values and gradients, how far clipped steps go, and what the program shows of the cliff."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from models import error_surface
from tests.models.helpers import run, tables


@given(w=st.floats(0.9, 1.1), steps=st.integers(1, 1000))
def test_the_linear_unit_is_a_power_and_its_gradient_that_of_one(w, steps):
    ws = mg.tensor(np.array([w]), requires_grad=True)
    y = error_surface.power(ws, steps)
    y.sum().backward()
    assert y.item() == pytest.approx(w**steps, rel=1e-11)
    assert ws.grad.item() == pytest.approx(steps * w ** (steps - 1), rel=1e-10)


def error_by_hand(w, b, steps):
    h = 0.5
    for _ in range(steps):
        h = w / (1 + np.exp(-h)) + b
    return (1 / (1 + np.exp(-h)) - 0.7) ** 2


def test_every_point_of_the_surface_is_a_unit_of_its_own():
    """Its gradient by a complex step, which has no rounding to speak of."""
    w, b = np.linspace(4.4, 7.0, 5), np.linspace(-3.4, -2.0, 4)
    errors, norms = error_surface.surface(50, w, b)
    for i, j in np.ndindex(4, 5):
        assert errors[i, j] == pytest.approx(error_by_hand(w[j], b[i], 50), rel=1e-12)
        d = 1e-30
        gradient = [error_by_hand(w[j] + d * 1j, b[i], 50).imag / d, error_by_hand(w[j], b[i] + d * 1j, 50).imag / d]
        assert norms[i, j] == pytest.approx(np.hypot(*gradient), rel=1e-9)


def test_the_cliff_is_steeper_the_more_steps_there_are():
    w, b = np.linspace(*error_surface.W, 40), np.linspace(*error_surface.B, 40)
    heights = [error_surface.surface(steps, w, b)[1].max() for steps in (2, 5, 20, 50)]
    assert heights == sorted(heights) and heights[-1] > 100 * heights[0]


@pytest.mark.parametrize("kind, longest", [("clipped by norm", 0.05), ("clipped by value", 0.05 * 2**0.5)])
def test_a_clipped_step_goes_no_further_than_rate_times_clip(kind, longest):
    descent = error_surface.descend((6.0, -3.25), 50, 40, rate=0.5, clip=0.1, kind=kind)
    assert descent.norms.max() > 0.1  # it would have gone further
    assert error_surface.longest_step(descent) <= longest * (1 + 1e-9)
    assert len(descent.points) == 41 and len(descent.errors) == len(descent.norms) == 40


def test_without_clipping_a_step_is_rate_times_gradient():
    descent = error_surface.descend((6.0, -3.25), 50, 20, rate=0.5, clip=0.1, kind="no clipping")
    lengths = np.linalg.norm(np.diff(descent.points, axis=0), axis=1)
    np.testing.assert_allclose(lengths, 0.5 * descent.norms, rtol=1e-9)


def test_the_program_shows_that_descents_are_thrown_unless_they_are_clipped(tmp_path):
    code, out, err = run(error_surface.main, "--out", tmp_path, "--points", 24, "--descents", 2, "--updates", 200)
    assert (code, err) == (0, "")
    toy, descents = tables(out)
    assert [row["y"] for row in toy if row["w"] == "1.000"] == ["1"]
    assert 2e4 < float(next(row["y"] for row in toy if row["w"] == "1.010")) < 2.2e4
    thrown = {row[""]: int(row["thrown by more than 1"]) for row in descents}
    error = {row[""]: float(row["median error"]) for row in descents}
    assert thrown["no clipping"] == 2 and thrown["clipped by norm"] == thrown["clipped by value"] == 0
    assert error["clipped by norm"] < error["no clipping"] / 3
    assert {path.name for path in tmp_path.iterdir()} == {"toy.png", "cliff.png", "gradient.png"}


@pytest.mark.parametrize("option", ["--steps", "--toy-steps", "--rate", "--clip", "--points", "--descents"])
def test_an_option_that_makes_no_sense_is_named(option, tmp_path):
    code, _, err = run(error_surface.main, "--out", tmp_path, option, "0")
    assert code == 2 and option in err


def test_help_tells_what_is_shown():
    code, out, _ = run(error_surface.main, "--help")
    assert code == 0 and "Pascanu" in out and "--descents" in out


@pytest.mark.parametrize("steps", [1, 20, 3000])
def test_the_toy_is_shown_for_any_number_of_steps(steps, tmp_path):
    arguments = ["--points", 4, "--descents", 1, "--updates", 1, "--toy-steps", steps]
    assert run(error_surface.main, "--out", tmp_path, *arguments)[0] == 0
    code, _, err = run(error_surface.main, "--out", tmp_path, "--points", 1)
    assert code == 2 and "--points" in err
