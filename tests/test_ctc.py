"""Connectionist temporal classification: the loss against alpha and beta by hand, and against all paths; decoding."""

from __future__ import annotations

import json
from math import inf, log, nan
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import errors
from minigrad.ctc import beam_decode, collapse, ctc_loss, ctc_loss_of_log_probabilities, greedy_decode
from tests.conftest import BACKENDS
from tests.nn.helpers import close
from tests.oracles import ctc as oracle
from tests.strategies import SEEDS, as_numpy, as_tensor

pytestmark = pytest.mark.filterwarnings("error")  # -inf is everywhere here, and no NaN may come of it
everywhere = pytest.mark.parametrize("backend", BACKENDS)
both = pytest.mark.parametrize("loss", [ctc_loss, ctc_loss_of_log_probabilities])
ORACLES = {ctc_loss: oracle.by_logits, ctc_loss_of_log_probabilities: oracle.by_log_probabilities}
RECORDED = json.loads((Path(__file__).parent / "recorded" / "ctc_reference.json").read_text())["cases"]


@st.composite
def problems(draw, most_frames=7):
    """Frames (T, B, C), targets, lengths and the blank. Ordinary, saturated and nearly equal logits, some -inf."""
    T, B, C = draw(st.integers(0, most_frames)), draw(st.integers(1, 3)), draw(st.integers(1, 4))
    blank = draw(st.integers(0, C - 1))
    labels = [k for k in range(C) if k != blank]
    labellings = st.lists(st.sampled_from(labels), max_size=4) if labels else st.just([])
    targets, lengths = [draw(labellings) for _ in range(B)], [draw(st.integers(0, T)) for _ in range(B)]
    rng = np.random.default_rng(draw(SEEDS))
    frames = rng.normal(size=(T, B, C)) * draw(st.sampled_from([1.0, 40.0, 1e-6]))
    if draw(st.booleans()):
        impossible = rng.random(frames.shape) < 0.2
        impossible[..., 0] = False  # something is possible at every frame
        frames[impossible] = -inf
    return frames, targets, lengths, blank, rng


def same_losses(actual, expected):
    """Equal to 1e-9 of the largest (or of 1: log p of a p near 1 is a difference), and infinite at the same places."""
    actual = as_numpy(actual)
    np.testing.assert_array_equal(actual == inf, expected == inf)
    close(np.where(expected == inf, 0.0, actual), np.where(expected == inf, 0.0, expected), floor=1.0)


# The loss


@everywhere
@both
@given(problems())
def test_losses_and_gradients_are_those_of_alpha_and_beta_by_hand(backend, loss, problem):
    frames, targets, lengths, blank, rng = problem
    expected, by_frames = ORACLES[loss](frames, targets, lengths, blank)
    weights = rng.normal(size=len(targets))
    x = as_tensor(frames, backend, requires_grad=True)
    losses = loss(x, targets, lengths, blank=blank, reduction="none")
    same_losses(losses, expected)
    losses.backward(as_tensor(weights, backend))
    # floor: by the logits, an entry is the difference of two probabilities
    close(x.grad, by_frames * weights[:, None], floor=1.0)


@given(problems(most_frames=5))
def test_the_loss_is_that_of_the_sum_over_all_paths(problem):
    frames, targets, lengths, blank, _ = problem
    losses = ctc_loss_of_log_probabilities(mg.tensor(frames), targets, lengths, blank=blank, reduction="none")
    expected = [
        -oracle.labellings(frames[:n, b], blank).get(tuple(targets[b]), -inf) for b, n in enumerate(lengths)
    ]  # fmt: skip
    same_losses(losses, np.array(expected))


@both
@given(problems())
def test_the_mean_is_over_rows_of_the_loss_for_each_label_and_the_sum_is_the_sum(loss, problem):
    frames, targets, lengths, blank, _ = problem
    x = mg.tensor(frames)
    expected = ORACLES[loss](frames, targets, lengths, blank)[0]
    for_each = expected / [max(len(labelling), 1) for labelling in targets]
    same_losses(loss(x, targets, lengths, blank=blank), for_each.mean())
    same_losses(loss(x, targets, lengths, blank=blank, reduction="sum"), expected.sum())


@both
def test_the_gradient_of_the_gradient_agrees_with_finite_differences(loss):
    frames = np.random.default_rng(0).normal(size=(4, 2, 3))
    f = lambda x: loss(x, [[1, 1], [2]], [4, 3], reduction="none")
    assert mg.gradcheck(f, [frames], order=2)


@everywhere
@pytest.mark.parametrize("case", RECORDED, ids=["TensorFlow, row 0", "TensorFlow, row 1", "warp-ctc"])
def test_published_values_are_met(backend, case):
    logits = np.log(case["probabilities"]) if "probabilities" in case else np.array(case["activations"])
    x = as_tensor(logits[:, None, :], backend, requires_grad=True)
    loss = ctc_loss(x, [case["targets"]], blank=case["blank"], reduction="sum")
    loss.backward()
    assert loss.item() == pytest.approx(case["loss"], abs=1e-5)  # as many digits as were printed
    if "gradient_row_0" in case:
        np.testing.assert_allclose(as_numpy(x.grad)[0, 0], case["gradient_row_0"], rtol=0, atol=1e-5)


@both
def test_long_sequences_in_float32_are_finite_and_agree_with_float64_to_one_rounding_for_each_frame(loss):
    rng = np.random.default_rng(0)
    frames = rng.normal(size=(200, 4, 30)).astype("float32")
    targets = [[1, 2], rng.integers(1, 30, 60).tolist(), [1], [5] * 30]
    found = {}
    for dtype in ("float32", "float64"):
        x = mg.tensor(frames, dtype=dtype, requires_grad=True)
        losses = loss(x, targets, [200, 180, 3, 200], reduction="none")
        losses.sum().backward()
        assert str(losses.dtype) == str(x.grad.dtype) == dtype
        found[dtype] = losses.numpy().astype("float64"), x.grad.numpy().astype("float64")
    tolerance = 200 * np.finfo("float32").eps
    np.testing.assert_allclose(found["float32"][0], found["float64"][0], rtol=tolerance)
    close(found["float32"][1], found["float64"][1], tolerance)


def test_the_loss_of_a_row_does_not_depend_on_how_much_its_neighbours_say():
    """In the padded rows a path could run on past its end, where there are more ways to be."""
    frames = np.random.default_rng(1).normal(size=(200, 2, 30)).astype("float32")
    frames[:, :, 0] += 10
    alone = ctc_loss(mg.tensor(frames), [[1, 2], [3]], reduction="none").numpy()[0]
    beside = ctc_loss(mg.tensor(frames), [[1, 2], [3, 4] * 30], reduction="none").numpy()[0]
    assert beside == pytest.approx(alone, rel=4 * float(np.finfo("float32").eps))


def test_on_numpy_the_loop_is_compiled_once_and_serves_other_labels_lengths_and_numbers_of_frames():
    x = lambda steps: mg.tensor(np.zeros((steps, 2, 5)), requires_grad=True)
    mg.scan.clear_cache()
    for _ in range(2):
        ctc_loss(x(6), [[1, 2, 3], [4]]).backward()
        ctc_loss(x(9), [[4, 4], [1, 2, 1]], [9, 2], blank=0).backward()
        assert mg.scan.cache_info().programs == 1


# Rows that are special


@everywhere
@both
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_a_row_without_a_path_has_an_infinite_loss_and_no_gradient_and_the_others_have_theirs(backend, loss, reduction):
    rng = np.random.default_rng(3)
    frames = rng.normal(size=(3, 5, 3))
    frames[0, 4] = [0.0, -inf, 0.0]  # row 4 would have to begin with 1
    targets = [[1, 1], [1, 1, 1], [2, 1], [1, 2], [1, 2, 1]]
    lengths = [3, 3, 1, 2, 3]  # row 0 has one path, row 1 would need two blanks, row 2 another frame
    fine = np.array([True, False, False, True, False])
    expected, by_frames = ORACLES[loss](frames, targets, lengths)
    assert (expected < inf).tolist() == fine.tolist()
    counts = {"mean": 5 * np.array([2, 3, 2, 2, 3]), "sum": 1, "none": 1}[reduction]
    for zero_infinity in (False, True):
        x = as_tensor(frames, backend, requires_grad=True)
        y = loss(x, targets, lengths, zero_infinity=zero_infinity, reduction=reduction)
        y.backward(as_tensor(np.ones(y.shape), backend))
        each = np.where(fine, expected, 0.0 if zero_infinity else inf) / counts
        same_losses(y, each if reduction == "none" else each.sum())
        close(x.grad, by_frames / np.reshape(counts, (-1, 1)), floor=1.0)
        assert not as_numpy(x.grad)[:, ~fine].any()


@both
def test_a_loss_that_is_large_is_not_infinite(loss):
    x = mg.tensor([[[0.0, -1e30]]], requires_grad=True)
    loss(x, [[1]], zero_infinity=True).backward()
    assert loss(x, [[1]], zero_infinity=True).item() == pytest.approx(1e30, rel=1e-6)
    assert x.grad.numpy()[0, 0, 1] == -1


@pytest.mark.slow
@everywhere
@both
@given(problems(), st.sampled_from([nan, inf, -inf]))
def test_frames_past_the_end_may_hold_anything_and_have_a_gradient_of_exactly_zero(backend, loss, problem, filler):
    frames, targets, lengths, blank, _ = problem
    past = np.arange(len(frames))[:, None] >= lengths
    x = as_tensor(np.where(past[:, :, None], filler, frames), backend, requires_grad=True)
    y = loss(x, targets, lengths, blank=blank, zero_infinity=True)
    y.backward()
    clean = as_tensor(frames, backend, requires_grad=True)
    z = loss(clean, targets, lengths, blank=blank, zero_infinity=True)
    z.backward()
    assert y.item() == z.item()
    np.testing.assert_array_equal(as_numpy(x.grad), as_numpy(clean.grad))
    assert not as_numpy(x.grad)[past].any()


@everywhere
@both
def test_no_label_in_no_frame_is_certain_and_a_label_in_no_frame_is_impossible(backend, loss):
    for steps in (0, 2):
        x = as_tensor(np.ones((steps, 2, 3)), backend, requires_grad=True)
        losses = loss(x, [[], [1]], [0, 0], reduction="none")
        assert as_numpy(losses).tolist() == [0.0, inf]
        losses.backward(as_tensor(np.ones(2), backend))
        assert as_numpy(x.grad).tolist() == np.zeros((steps, 2, 3)).tolist()


@everywhere
def test_a_row_that_says_nothing_has_the_probability_of_blanks_alone(backend):
    x = as_tensor(np.zeros((4, 2, 3)), backend)
    losses = ctc_loss(x, [[], [1]], [3, 4], reduction="none")
    assert as_numpy(losses)[0] == pytest.approx(3 * log(3), abs=1e-12)


def test_a_batch_without_rows_has_the_loss_zero():
    x = mg.zeros((3, 0, 2))
    assert ctc_loss(x, []).item() == 0.0
    assert ctc_loss(x, mg.zeros((0, 4), dtype="int64"), reduction="none").shape == (0,)


def test_the_infinities_inside_raise_no_false_alarm_where_anomalies_are_looked_for():
    x = mg.tensor(np.zeros((3, 2, 3)), requires_grad=True)
    with mg.detect_anomaly():
        ctc_loss(x, [[1, 1], []], [3, 2]).backward()
    close(x.grad, oracle.by_logits(np.zeros((3, 2, 3)), [[1, 1], []], [3, 2])[1] / [[2 * 2], [2]])


# What it takes


@everywhere
def test_targets_may_be_lists_or_padded_arrays_of_any_backend_and_what_pads_them_does_not_matter(backend):
    x = as_tensor(np.random.default_rng(0).normal(size=(6, 3, 5)), backend)
    expected = as_numpy(ctc_loss(x, [[1, 2, 2], [], [4]], [6, 5, 4]))
    for filler in (0, -1, 99):
        padded = np.array([[1, 2, 2, filler], [filler] * 4, [4, *[filler] * 3]])
        for targets, n in [
            (padded, np.array([3, 0, 1])),
            (padded.astype("int32"), [3, 0, 1]),
            (mg.tensor(padded), mg.tensor([3, 0, 1], dtype="int64")),
            (as_tensor(padded, backend), as_tensor(np.array([3, 0, 1]), backend)),
            (padded.tolist(), (3, 0, 1)),
            ([np.array([1, 2, 2, filler]), mg.tensor([], dtype="int64"), (4, filler)], [3, 0, 1]),
        ]:
            assert as_numpy(ctc_loss(x, targets, np.array([6, 5, 4]), n)) == expected


@everywhere
def test_the_loss_has_the_dtype_and_the_backend_of_the_logits(backend):
    for dtype in ("float32", "float64"):
        x = as_tensor(np.zeros((3, 2, 3), dtype), backend, requires_grad=True)
        for loss in (ctc_loss, ctc_loss_of_log_probabilities):
            for reduction in ("mean", "sum", "none"):
                y = loss(x, [[1], [2]], reduction=reduction)
                assert y.dtype == x.dtype and y.backend == backend
    assert ctc_loss(np.zeros((3, 1, 3)), [[1]]).item() == ctc_loss(mg.zeros((3, 1, 3), dtype="float64"), [[1]]).item()


ZEROS = mg.zeros((3, 2, 4))


@both
@pytest.mark.parametrize(
    ("arguments", "options", "error", "words"),
    [
        ((mg.zeros((3, 4)), [[1]]), {}, errors.ShapeError, r"\(T, B, C\), got the shape \(3, 4\)"),
        ((mg.zeros((3, 2, 4), dtype="int64"), [[1], [1]]), {}, errors.DtypeError, "expected floats"),
        (([[[1.0]]], [[1]]), {}, errors.DtypeError, "expected a tensor, got list"),
        ((ZEROS, [[1]]), {}, errors.ShapeError, "targets have 1 rows, the batch has 2"),
        ((ZEROS, np.array([1, 1])), {}, errors.ShapeError, r"integers \(B, L\).*got shape \(2,\)"),
        ((ZEROS, [1, 1]), {}, errors.ShapeError, r"integers \(B, L\).*got \[1, 1\]"),
        ((ZEROS, [[1], [[1]]]), {}, errors.DtypeError, "targets must be integers, got a list"),
        ((ZEROS, np.ones((2, 1))), {}, errors.DtypeError, "targets must be integers, got a float: 1.0"),
        ((ZEROS, [[1], [2, 0, 3]]), {}, errors.ArgumentError, "targets of row 1 hold 0, which is the blank"),
        ((ZEROS, [[1], [3]]), {"blank": 3}, errors.ArgumentError, "row 1 hold 3, which is the blank"),
        ((ZEROS, [[4], [1]]), {}, errors.OutOfRangeError, r"row 0 hold 4, which is not in 0 ... 3"),
        ((ZEROS, [[-1], [1]]), {}, errors.OutOfRangeError, "row 0 hold -1"),
        ((ZEROS, [[1], [1]]), {"blank": 4}, errors.OutOfRangeError, "blank 4 is not in 0 ... 3"),
        ((ZEROS, [[1], [1]]), {"blank": -1}, errors.OutOfRangeError, "blank -1"),
        ((ZEROS, [[1], [1]]), {"blank": 1.0}, errors.DtypeError, "blank must be integers, got a float"),
        ((ZEROS, [[1], [1]], [3, 4]), {}, errors.ArgumentError, "input_lengths of row 1 is 4, and the row has 3 frame"),
        ((ZEROS, [[1], [1]], [-1, 3]), {}, errors.ArgumentError, "input_lengths of row 0 is -1"),
        ((ZEROS, [[1], [1]], [3]), {}, errors.ShapeError, "input_lengths must be 2 integers"),
        ((ZEROS, [[1], [1]], 3), {}, errors.ShapeError, "input_lengths must be 2 integers"),
        ((ZEROS, [[1], [1]], [3.0, 3.0]), {}, errors.DtypeError, "input_lengths must be integers, got a float"),
        ((ZEROS, [[1], [1]], None, [1, 2]), {}, errors.ArgumentError, "target_lengths of row 1 is 2, and .* 1 targets"),
        ((ZEROS, [[1], [1]], None, np.ones(2)), {}, errors.DtypeError, "target_lengths must be integers"),
        ((ZEROS, [[1], [1]]), {"reduction": "all"}, errors.ArgumentError, "reduction must be"),
    ],
)
def test_what_does_not_fit_is_named(loss, arguments, options, error, words):
    with pytest.raises(error, match=f"^{loss.__name__}: .*{words}"):
        loss(*arguments, **options)


# Decoding


@given(st.lists(st.integers(0, 3), max_size=8), st.integers(0, 3))
def test_collapse_merges_repeats_and_then_takes_blanks_out(path, blank):
    assert tuple(collapse(path, blank)) == oracle.collapsed(tuple(path), blank)
    labelling = [k for k in path if k != blank]
    assert collapse(oracle.with_blanks(labelling, blank), blank) == labelling  # so that everything can be said


def test_without_a_blank_between_a_word_that_is_longer_is_the_same_word_said_slower():
    assert "".join(collapse("好好好棒棒棒棒棒", "_")) == "好棒"
    assert "".join(collapse("好棒_棒", "_")) == "".join(collapse("_好好_棒棒__棒_", "_")) == "好棒棒"
    assert collapse(np.array([1, 1, 0, 1])) == collapse(mg.tensor([1, 1, 0, 1], dtype="int64")) == [1, 1]


@everywhere
@given(problems())
def test_greedy_decoding_collapses_the_largest_of_each_frame(backend, problem):
    frames, _, lengths, blank, _ = problem
    expected = [list(oracle.collapsed(tuple(frames[:n, b].argmax(1).tolist()), blank)) for b, n in enumerate(lengths)]
    assert greedy_decode(as_tensor(frames, backend), lengths, blank=blank) == expected


@everywhere
@given(problems(most_frames=4))
def test_a_wide_beam_finds_every_labelling_with_the_probability_of_all_of_its_paths(backend, problem):
    frames, _, lengths, blank, _ = problem
    found = beam_decode(as_tensor(frames, backend, requires_grad=True), lengths, width=4**4, blank=blank)
    for b, n in enumerate(lengths):
        log_y = np.array([oracle.log_softmax(frames[t, b]) for t in range(n)]).reshape(n, frames.shape[2])
        expected = {k: v for k, v in oracle.labellings(log_y, blank).items() if v > -inf}
        assert {tuple(labelling) for labelling, _ in found[b]} == expected.keys()
        for labelling, log_p in found[b]:
            assert log_p == pytest.approx(expected[tuple(labelling)], rel=1e-9, abs=1e-9)
        scores = [log_p for _, log_p in found[b]]
        assert scores == sorted(scores, reverse=True)


@given(problems(), st.integers(1, 5))
def test_a_narrow_beam_keeps_as_many_as_it_is_wide_and_never_promises_too_much(problem, width):
    frames, _, lengths, blank, _ = problem
    x = mg.tensor(frames)
    for b, row in enumerate(beam_decode(x, lengths, width=width, blank=blank)):
        assert 1 <= len(row) <= width and len({tuple(labelling) for labelling, _ in row}) == len(row)
        for labelling, log_p in row:
            true = -ctc_loss(x[:, b : b + 1], [labelling], [lengths[b]], blank=blank, reduction="sum").item()
            assert log_p <= true + 1e-9 * max(1.0, abs(true))


def test_a_beam_finds_what_the_most_probable_path_misses():
    log_y = mg.log(mg.tensor([[[0.6, 0.4]], [[0.6, 0.4]]], dtype="float64"))
    assert greedy_decode(log_y) == [[]]
    ((labelling, log_p), (second, log_q)) = beam_decode(log_y)[0]
    assert (labelling, second) == ([1], []) and (log_p, log_q) == pytest.approx((log(0.64), log(0.36)))


def test_after_a_repeat_without_a_blank_the_beam_is_still_saying_the_same_label():
    """Both ways are open at the last frame: 1 goes on, or, out of a blank, is said again."""
    log_y = mg.log(mg.tensor([[[0.1, 0.9]], [[0.5, 0.5]], [[0.1, 0.9]]], dtype="float64"))
    found = {tuple(labelling): log_p for labelling, log_p in beam_decode(log_y, width=2)[0]}
    assert found[1, 1] == pytest.approx(log(0.9 * 0.5 * 0.9))


def test_a_beam_counts_in_float64_whatever_the_dtype_of_the_logits():
    frames = np.random.default_rng(0).normal(size=(20, 1, 4)).astype("float32")
    assert beam_decode(mg.tensor(frames)) == beam_decode(mg.tensor(frames.astype("float64")))


@everywhere
@pytest.mark.parametrize("filler", [nan, inf, -inf])
def test_frames_past_the_end_are_not_decoded_whatever_they_hold(backend, filler):
    frames = np.full((4, 3, 3), filler)
    frames[:2] = np.random.default_rng(0).normal(size=(2, 3, 3))
    x = as_tensor(frames, backend)
    short = as_tensor(frames[:2], backend)
    assert greedy_decode(x, [2, 0, 1]) == greedy_decode(short, np.array([2, 0, 1]))
    assert beam_decode(x, [2, 0, 1]) == beam_decode(short, np.array([2, 0, 1]))
    assert greedy_decode(x, [2, 0, 1])[1] == [] and beam_decode(x, [2, 0, 1])[1] == [([], 0.0)]
    nothing = as_tensor(np.zeros((0, 2, 3)), backend)
    assert greedy_decode(nothing) == [[], []] and beam_decode(nothing) == [[([], 0.0)]] * 2


@everywhere
@pytest.mark.parametrize("decode", [greedy_decode, beam_decode])
@pytest.mark.parametrize(
    "bad",
    [[nan] * 3, [0.0, nan, 1.0], [nan, 0.0, 0.0], [0.0, inf, 0.0], [inf, 0.0, inf], [-inf, nan, -inf], [-inf] * 3],
)
def test_a_frame_of_which_no_class_is_the_likeliest_is_an_error_and_not_an_empty_labelling(backend, decode, bad):
    for dtype in ("float32", "float64"):
        frames = np.zeros((4, 3, 3), dtype)
        frames[1, 0, 1:], frames[:, 0, 0] = -inf, 2.0  # what is possible at all is fine
        frames[2, 1], frames[3, 1], frames[3, 2] = bad, bad, bad
        x = as_tensor(frames, backend)
        words = "are all -inf" if bad == [-inf] * 3 else "hold NaN or inf"
        for lengths in (None, [4, 3, 4], [4, 3, 0]):
            with pytest.raises(
                errors.AnomalyError, match=f"^{decode.__name__}: at frame 2 the logits of row 1 {words}"
            ):
                decode(x, lengths)
        with pytest.raises(errors.AnomalyError, match=f"^{decode.__name__}: at frame 3 the logits of row 2 {words}"):
            decode(x, [4, 2, 4])
        frames[2:, 1:] = 0.0
        assert decode(x, [4, 2, 3]) == decode(as_tensor(frames, backend), [4, 2, 3])


@pytest.mark.parametrize("decode", [greedy_decode, beam_decode])
@pytest.mark.parametrize(
    ("arguments", "options", "error", "words"),
    [
        ((mg.zeros((3, 4)),), {}, errors.ShapeError, r"\(T, B, C\), got the shape \(3, 4\)"),
        ((ZEROS, [3, 4]), {}, errors.ArgumentError, "lengths of row 1 is 4"),
        ((ZEROS,), {"blank": 4}, errors.OutOfRangeError, "blank 4 is not in 0 ... 3"),
    ],
)
def test_what_cannot_be_decoded_is_named(decode, arguments, options, error, words):
    with pytest.raises(error, match=f"^{decode.__name__}: .*{words}"):
        decode(*arguments, **options)


@pytest.mark.parametrize(("width", "error"), [(0, errors.ArgumentError), (2.5, errors.DtypeError)])
def test_a_beam_has_a_width_of_at_least_one(width, error):
    with pytest.raises(error, match=r"^beam_decode: width"):
        beam_decode(ZEROS, width=width)
