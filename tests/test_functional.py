"""Compositions of ops: softmax and the losses against formulas by hand, dropout, one-hot vectors, embeddings."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import backends, errors
from minigrad import functional as F
from tests import strategies
from tests.conftest import BACKENDS
from tests.oracles import losses as oracles
from tests.strategies import as_numpy, as_tensor

everywhere = pytest.mark.parametrize("backend", BACKENDS)
reductions = pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
EPS = np.finfo("float64").eps
INF = np.inf


def close(got, expected, size=1.0):
    """Equal up to 64 roundings of float64 in numbers as large as the largest entry, or as `size`."""
    got, expected = as_numpy(got), np.asarray(expected)
    assert got.shape == expected.shape
    scale = max(size, np.abs(expected).max(initial=0.0, where=np.isfinite(expected)))
    assert np.all((np.abs(got - expected) <= 64 * EPS * scale) | (got == expected)), f"{got}\nexpected\n{expected}"


@st.composite
def logits(draw, spread=6.0):
    """Arrays of float64 whose last axis has at least one class, some of large and equal entries."""
    shape = (*draw(strategies.shapes(max_dims=2)), draw(st.integers(1, 4)))
    rng = np.random.default_rng(draw(strategies.SEEDS))
    x = rng.uniform(-spread, spread, shape) * rng.choice([1, 1, 10], shape)
    return np.where(rng.random(shape) < 0.2, 5.0, x), rng


def of(loss, x):
    """The loss, and its gradient by x, or that of its sum."""
    y = loss(x)
    y.backward(np.ones(y.shape))
    return y, x.grad


# Softmax


@everywhere
@given(logits(), st.booleans())
def test_softmax_and_its_logarithm_have_the_values_and_gradients_of_their_formulas(backend, drawn, first):
    x, rng = drawn
    g = rng.uniform(-1, 1, x.shape)
    axis, turn = (0, lambda a: np.moveaxis(a, -1, 0)) if first else (-1, lambda a: a)
    for f, value, gradient in [
        (F.softmax, oracles.softmax, oracles.softmax_gradient),
        (F.log_softmax, oracles.log_softmax, oracles.log_softmax_gradient),
    ]:
        t = as_tensor(turn(x), backend, requires_grad=True)
        y = f(t, axis=axis)
        close(y, turn(value(x)))
        y.backward(as_tensor(turn(g), backend))
        close(t.grad, turn(gradient(g, x)))


@everywhere
def test_softmax_keeps_its_digits_however_large_the_numbers(backend):
    small = np.array([0.0, 1.0, 3.0], "float32")
    t = as_tensor(small, backend)
    for shift in (2.0**17, -(2.0**17)):
        moved = as_tensor(small + np.float32(shift), backend)
        assert as_numpy(F.softmax(moved)).tolist() == as_numpy(F.softmax(t)).tolist()
        assert as_numpy(F.log_softmax(moved)).tolist() == as_numpy(F.log_softmax(t)).tolist()
    assert as_numpy(F.softmax(as_tensor(np.array([-INF, 3e38, 3e38]), backend))).tolist() == [0.0, 0.5, 0.5]
    far = as_numpy(F.log_softmax(as_tensor(np.array([0.0, -3e38], "float32"), backend)))
    assert far.tolist() == [0.0, float(np.float32(-3e38))]


@everywhere
def test_softmax_and_its_logarithm_agree_with_finite_differences_twice_over(backend):
    x = as_tensor(np.array([[0.3, -1.0, 0.9], [2.0, 0.1, -0.4]]), backend)
    for f in (F.softmax, F.log_softmax):
        for axis in (0, -1):
            assert mg.gradcheck(lambda x: f(x, axis=axis), [x], order=2)  # noqa: B023


# Cross entropy


@everywhere
@reductions
@given(logits())
def test_cross_entropy_is_the_surprise_at_the_target_and_its_gradient_softmax_minus_one_hot(backend, reduction, drawn):
    x, rng = drawn
    targets = rng.integers(0, x.shape[-1], x.shape[:-1])
    t = as_tensor(x, backend, requires_grad=True)
    if reduction == "mean" and not targets.size:
        return
    value, gradient = of(lambda t: mg.cross_entropy(t, as_tensor(targets, backend), reduction=reduction), t)
    expected, expected_gradient = oracles.cross_entropy(x, targets, reduction)
    close(value, expected, size=np.abs(x).max(initial=1.0))
    close(gradient, expected_gradient)


@everywhere
@reductions
@pytest.mark.parametrize("ignore_index", [-100, 1, 99])
@given(logits())
def test_an_ignored_target_has_no_loss_and_no_gradient_and_does_not_count(backend, reduction, ignore_index, drawn):
    x, rng = drawn
    targets = rng.integers(0, x.shape[-1], x.shape[:-1])
    targets = np.where(rng.random(targets.shape) < 0.5, ignore_index, targets)
    t = as_tensor(x, backend, requires_grad=True)
    loss = lambda t: mg.cross_entropy(t, as_tensor(targets, backend), ignore_index=ignore_index, reduction=reduction)
    value, gradient = of(loss, t)
    expected, expected_gradient = oracles.cross_entropy(x, targets, reduction, ignore_index)
    close(value, expected, size=np.abs(x).max(initial=1.0))
    close(gradient, expected_gradient)
    assert not as_numpy(gradient)[targets == ignore_index].any()


@everywhere
def test_if_every_target_is_ignored_the_mean_and_the_gradient_are_zero(backend):
    x = as_tensor(np.array([[1.0, 2.0], [3.0, 4.0]]), backend, requires_grad=True)
    value, gradient = of(lambda x: mg.cross_entropy(x, as_tensor(np.array([7, 7]), backend), ignore_index=7), x)
    assert value.item() == 0.0 and as_numpy(gradient).tolist() == [[0.0, 0.0], [0.0, 0.0]]


@everywhere
@reductions
@given(logits())
def test_with_probabilities_as_targets_it_is_the_expected_surprise(backend, reduction, drawn):
    x, rng = drawn
    targets = rng.dirichlet(np.ones(x.shape[-1]), x.shape[:-1]) * (rng.random(x.shape) < 0.7)
    t = as_tensor(x, backend, requires_grad=True)
    if reduction == "mean" and not x.size:
        return
    value, gradient = of(lambda t: mg.cross_entropy(t, as_tensor(targets, backend), reduction=reduction), t)
    expected, expected_gradient = oracles.soft_cross_entropy(x, targets, reduction)
    close(value, expected, size=np.abs(x).max(initial=1.0))
    close(gradient, expected_gradient)


@everywhere
def test_an_impossible_class_of_probability_zero_costs_nothing_and_gets_no_gradient(backend):
    x = as_tensor(np.array([[-INF, 0.0, 0.0], [1.0, -INF, -INF]]), backend, requires_grad=True)
    targets = as_tensor(np.array([[0.0, 0.25, 0.75], [1.0, 0.0, 0.0]]), backend)
    value, gradient = of(lambda x: mg.cross_entropy(x, targets, reduction="none"), x)
    close(value, [np.log(2), 0.0])
    close(gradient, [[0.0, 0.25, -0.25], [0.0, 0.0, 0.0]])
    x = as_tensor(as_numpy(x), backend, requires_grad=True)
    value, gradient = of(lambda x: mg.cross_entropy(x, as_tensor(np.array([2, 0]), backend), reduction="sum"), x)
    close(value, np.log(2))
    close(gradient, [[0.0, 0.5, -0.5], [0.0, 0.0, 0.0]])


@everywhere
def test_probabilities_that_need_a_gradient_get_the_surprise_at_each_class_also_where_they_are_zero(backend):
    x = np.array([[0.0, 1.0, 2.0]])
    targets = as_tensor(np.array([[0.0, 0.4, 0.6]]), backend, requires_grad=True)
    _, gradient = of(lambda t: mg.cross_entropy(as_tensor(x, backend), t), targets)
    close(gradient, -oracles.log_softmax(x))


@everywhere
def test_cross_entropy_of_large_logits_is_exact_in_float32(backend):
    x = as_tensor(np.array([[1e5, 1e5 + 1], [-1e30, 1e30]], "float32"), backend, requires_grad=True)
    value, gradient = of(lambda x: mg.cross_entropy(x, as_tensor(np.array([0, 1]), backend), reduction="none"), x)
    e = np.exp(1.0)
    np.testing.assert_allclose(as_numpy(value), [np.log(1 + e), 0.0], rtol=4 * np.finfo("float32").eps)
    np.testing.assert_allclose(as_numpy(gradient)[0], [-e / (1 + e), e / (1 + e)], rtol=8 * np.finfo("float32").eps)
    assert as_numpy(gradient)[1].tolist() == [0.0, 0.0]
    assert backends.dtype_name(value.dtype) == backends.dtype_name(gradient.dtype) == "float32"


@everywhere
def test_every_loss_agrees_with_finite_differences_twice_over(backend):
    x = as_tensor(np.array([[0.3, -1.0, 0.9], [2.0, 0.1, -0.4]]), backend)
    whole = as_tensor(np.array([2, 0]), backend)
    soft = as_tensor(np.array([[0.2, 0.5, 0.3], [0.9, 0.1, 0.0]]), backend)
    assert mg.gradcheck(lambda x: mg.cross_entropy(x, whole), [x], order=2)
    assert mg.gradcheck(lambda x: mg.cross_entropy(x, whole, ignore_index=0, reduction="none"), [x], order=2)
    assert mg.gradcheck(mg.cross_entropy, [x, soft], order=2)
    assert mg.gradcheck(mg.binary_cross_entropy_with_logits, [x, soft], order=2)
    assert mg.gradcheck(mg.mse, [x, soft], order=2)


# Two-class cross entropy and squared error


@everywhere
@reductions
@pytest.mark.parametrize(
    "loss, oracle",
    [(F.binary_cross_entropy_with_logits, oracles.binary_cross_entropy), (F.mse, oracles.mse)],
    ids=["binary_cross_entropy_with_logits", "mse"],
)
@given(logits(spread=60.0))
def test_losses_of_equal_shapes_are_their_formulas(backend, reduction, loss, oracle, drawn):
    x, rng = drawn
    targets = rng.choice([0.0, 0.3, 1.0], x.shape)
    if reduction == "mean" and not x.size:
        return
    t = as_tensor(x, backend, requires_grad=True)
    value, gradient = of(lambda t: loss(t, as_tensor(targets, backend), reduction=reduction), t)
    expected, expected_gradient = oracle(x, targets, reduction)
    close(value, expected, size=np.abs(x).max(initial=1.0))
    close(gradient, expected_gradient)


@everywhere
@pytest.mark.filterwarnings("error")
def test_binary_cross_entropy_of_a_huge_logit_is_finite_without_a_warning(backend):
    x = as_tensor(np.array([1000.0, -1000.0, 1000.0, -1000.0], "float32"), backend, requires_grad=True)
    targets = as_tensor(np.array([1.0, 0.0, 0.0, 1.0], "float32"), backend)
    value, gradient = of(lambda x: mg.binary_cross_entropy_with_logits(x, targets, reduction="none"), x)
    assert as_numpy(value).tolist() == [0.0, 0.0, 1000.0, 1000.0]
    assert np.abs(as_numpy(gradient) - [0.0, 0.0, 1.0, -1.0]).max() <= np.finfo("float32").smallest_normal


@everywhere
def test_targets_may_be_lists_and_then_live_where_the_predictions_do(backend):
    x = as_tensor(np.array([[1.0, 2.0], [0.5, 0.0]], "float32"), backend)
    lists = [
        mg.cross_entropy(x, [1, 0]),
        mg.mse(x, [[0.0, 1.0], [0.0, 0.0]]),
        mg.binary_cross_entropy_with_logits(x, [[0, 1], [0, 0]]),
        mg.embedding(x, [[1, 0, 1]]),
    ]
    assert all(y.backend == backend and backends.dtype_name(y.dtype) == "float32" for y in lists)


@pytest.mark.parametrize(
    "call, kind, message",
    [
        (lambda x: mg.cross_entropy(x, [0]), errors.ShapeError, r"^cross_entropy: targets \(1,\) for logits \(2, 3\)"),
        (lambda x: mg.cross_entropy(x, [[0, 1, 2]] * 2), errors.ShapeError, r"^cross_entropy: targets \(2, 3\) for"),
        (
            lambda x: mg.cross_entropy(x, mg.ones((2, 2))),
            errors.ShapeError,
            r"^cross_entropy: probabilities \(2, 2\) for",
        ),
        (lambda x: mg.cross_entropy(x[0, 0], 0), errors.ShapeError, r"^cross_entropy: targets \(\) for logits \(\)"),
        (
            lambda x: mg.cross_entropy(x, [0, 3]),
            errors.OutOfRangeError,
            r"^cross_entropy: target 3 is not in 0 \.\.\. 2",
        ),
        (lambda x: mg.cross_entropy(x, [-1, 0]), errors.OutOfRangeError, r"^cross_entropy: target -1 is not in"),
        (lambda x: mg.cross_entropy(x, [-1, 5], ignore_index=-1), errors.OutOfRangeError, r"target 5 is not in"),
        (lambda x: mg.cross_entropy(x, [0, 1], reduction="avg"), errors.ArgumentError, r"^cross_entropy: .*not 'avg'"),
        (lambda x: mg.mse(x, mg.ones(3)), errors.ShapeError, r"^mse: targets \(3,\) for predictions \(2, 3\)"),
        (lambda x: mg.mse(x, x, reduction="max"), errors.ArgumentError, r"^mse: .*not 'max'"),
        (
            lambda x: mg.binary_cross_entropy_with_logits(x, mg.ones((2, 1))),
            errors.ShapeError,
            r"^binary_cross_entropy_with_logits: targets \(2, 1\) for logits \(2, 3\)",
        ),
        (lambda x: mg.dropout(x, 1.5), errors.ArgumentError, r"^dropout: p is a probability, got 1.5"),
        (lambda x: mg.dropout(x, -0.1), errors.ArgumentError, r"^dropout: p is a probability, got -0.1"),
        (lambda x: mg.dropout(x, float("nan"), training=False), errors.ArgumentError, r"^dropout: .*nan"),
        (lambda x: mg.one_hot([0, 3], 3), errors.OutOfRangeError, r"^one_hot: index 3 is not in 0 \.\.\. 2"),
        (lambda x: mg.one_hot(x, 3), errors.DtypeError, r"^one_hot: indices are integers, got float32"),
        (lambda x: mg.embedding(x, [2]), errors.OutOfRangeError, r"^embedding: index 2 is not in 0 \.\.\. 1"),
        (lambda x: mg.embedding(x, [-1]), errors.OutOfRangeError, r"^embedding: index -1 is not in"),
        (lambda x: mg.embedding(x, x), errors.DtypeError, r"^embedding: indices are integers, got float32; \.astype"),
    ],
)
def test_a_mistake_is_answered_with_the_function_and_what_it_was_given(call, kind, message):
    with pytest.raises(kind, match=message):
        call(mg.ones((2, 3)))


@pytest.mark.parametrize("other", [b for b in BACKENDS if b != "numpy"])
def test_logits_and_targets_of_two_backends_are_refused(other):
    with pytest.raises(errors.BackendMismatchError, match=rf'^cross_entropy.*"numpy".*"{other}"'):
        mg.cross_entropy(mg.ones((1, 2)), mg.zeros(1, dtype="int64", backend=other))


# Dropout


@everywhere
def test_dropout_keeps_the_mean_and_drops_with_its_probability(backend):
    n, p = 20_000, 0.3
    y = as_numpy(mg.dropout(mg.ones((n,), backend=backend), p))
    assert set(np.unique(y)) == {np.float32(0), np.float32(1) / np.float32(1 - p)}
    spread = (p / (1 - p) / n) ** 0.5  # the standard deviation of the mean
    assert abs(y.mean() - 1) < 5 * spread


@everywhere
def test_dropout_is_reproduced_by_the_seed_and_differs_between_calls(backend):
    x = mg.ones((100,), backend=backend)
    with mg.seed(1):
        first, second = mg.dropout(x, 0.5), mg.dropout(x, 0.5)
    with mg.seed(1):
        again = mg.dropout(x, 0.5)
    assert as_numpy(first).tolist() == as_numpy(again).tolist() != as_numpy(second).tolist()


@everywhere
def test_dropout_without_training_or_with_probability_zero_is_the_input_itself_and_draws_nothing(backend):
    x = mg.ones((3,), backend=backend)
    with mg.seed(1):
        before = mg.random.get_state()
        assert mg.dropout(x, 0.5, training=False) is x and mg.dropout(x, 0.0) is x
        assert mg.random.get_state() == before


@everywhere
def test_dropout_of_everything_is_zero_with_a_gradient_of_zero(backend):
    x = as_tensor(np.array([1.0, -2.0], "float32"), backend, requires_grad=True)
    value, gradient = of(lambda x: mg.dropout(x, 1.0), x)
    assert not as_numpy(value).any() and not as_numpy(gradient).any()


@everywhere
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_gradient_of_dropout_has_the_mask_and_the_scale_of_the_forward_pass(backend, dtype):
    x = as_tensor(np.full((50,), 2.0, dtype), backend, requires_grad=True)
    value, gradient = of(lambda x: mg.dropout(x, 0.4), x)
    assert value.dtype == gradient.dtype == x.dtype
    assert as_numpy(value).tolist() == (2 * as_numpy(gradient)).tolist()
    assert 0 < np.count_nonzero(as_numpy(gradient)) < 50


# One-hot vectors and embeddings


@everywhere
@given(strategies.shapes(max_dims=2), st.integers(1, 4), strategies.SEEDS)
def test_one_hot_has_a_one_at_the_index(backend, shape, size, seed):
    indices = np.random.default_rng(seed).integers(0, size, shape)
    for dtype in ("float32", "float64", "int64"):
        y = mg.one_hot(as_tensor(indices, backend), size, dtype=dtype)
        assert y.backend == backend and backends.dtype_name(y.dtype) == dtype
        np.testing.assert_array_equal(as_numpy(y), oracles.one_hot(indices, size))


@everywhere
@given(strategies.shapes(max_dims=2), strategies.SEEDS)
def test_an_embedding_is_the_product_with_one_hot_vectors_in_value_and_gradient(backend, shape, seed):
    """Rows asked for repeatedly included. Whole numbers make the sums exact."""
    rng = np.random.default_rng(seed)
    weight, indices = rng.integers(-9, 9, (3, 2)).astype("float32"), rng.integers(0, 3, shape)
    g = rng.integers(-9, 9, (*shape, 2)).astype("float32")
    w = as_tensor(weight, backend, requires_grad=True)
    y = mg.embedding(w, as_tensor(indices, backend))
    y.backward(g)
    hot = oracles.one_hot(indices, 3)
    np.testing.assert_array_equal(as_numpy(y), hot @ weight)
    np.testing.assert_array_equal(as_numpy(w.grad), hot.reshape(-1, 3).T @ g.reshape(-1, 2))


@everywhere
def test_an_embedding_agrees_with_finite_differences_twice_over(backend):
    w = as_tensor(np.array([[0.1, 0.2], [0.3, -0.4], [0.5, 0.6]]), backend)
    assert mg.gradcheck(lambda w: mg.embedding(w, as_tensor(np.array([[2, 0], [2, 1]]), backend)), [w], order=2)


# Recorded from PyTorch 2.13 (torch.nn.functional, float64, sums of several outputs), rounded to 12 decimals

X = [[0.5, -1.25, 2.0], [-0.75, 0.0, 1.5]]
C = [[1.0, 2.0, -1.0], [0.5, -2.0, 3.0]]
W = [[0.2, 0.5, 0.3], [1.0, 0.0, 0.0]]


def at(data, like):
    return as_tensor(np.array(data), like.backend)


# fmt: off
RECORDED = {
    "softmax": (lambda x: mg.softmax(x) * at(C, x), [
        [0.176820182107, 0.061453480653, -0.792453077566, 0.039667630154, -0.335905494777, 2.258135976913],
        [0.274810287154, 0.078481607626, -0.353291894779, -0.115980067281, -0.665411672832, 0.781391740113],
    ]),
    "log_softmax": (lambda x: mg.log_softmax(x) * at(C, x), [
        [-1.732621983102, -6.965243966204, 0.232621983102, -1.267036302343, 3.568145209372, -0.852217814059],
        [0.646359635785, 1.938546519347, -2.584906155132, 0.380997109539, -2.251929121083, 1.870932011544],
    ]),
    "cross_entropy": (lambda x: mg.cross_entropy(x, [2, 0]), [
        [1.383347293894],
        [0.088410091054, 0.015363370163, -0.103773461217, -0.460332369846, 0.083976373694, 0.376355996152],
    ]),
    "cross_entropy, ignoring": (lambda x: mg.cross_entropy(x, [-100, 1], ignore_index=-100, reduction="sum"), [
        [1.784072604686],
        [0.0, 0.0, 0.0, 0.079335260307, -0.832047252612, 0.752711992304],
    ]),
    "cross_entropy of probabilities": (lambda x: mg.cross_entropy(x, at(W, x)), [
        [2.345847293894],
        [-0.011589908946, -0.234636629837, 0.246226538783, -0.460332369846, 0.083976373694, 0.376355996152],
    ]),
    "binary_cross_entropy_with_logits": (lambda x: mg.binary_cross_entropy_with_logits(x, at(W, x)), [
        [1.134894256871],
        [0.070409888534, -0.046216643529, 0.096799512996, -0.113196449863, 0.083333333333, 0.136262412699],
    ]),
    "mse": (lambda x: mg.mse(x, at(W, x)), [
        [1.8925],
        [0.1, -0.583333333333, 0.566666666667, -0.583333333333, 0.0, 0.5],
    ]),
    "embedding": (lambda x: mg.embedding(x, [[1, 1], [0, 1]]) * mg.reshape(at(C, x), (2, 1, 3)), [
        [-0.75, 0.0, -1.5, -0.75, 0.0, -1.5,
         0.25, 2.5, 6.0, -0.375, -0.0, 4.5],
        [0.5, -2.0, 3.0, 2.5, 2.0, 1.0],
    ]),
}
# fmt: on


@everywhere
@pytest.mark.parametrize("f, recorded", RECORDED.values(), ids=RECORDED)
def test_values_and_gradients_are_those_recorded_from_pytorch(backend, f, recorded):
    y, gradient = of(f, as_tensor(np.array(X), backend, requires_grad=True))
    for got, expected in zip((y, gradient), recorded, strict=True):
        np.testing.assert_allclose(as_numpy(got).reshape(-1), expected, rtol=0, atol=1e-12)


def test_lists_of_probabilities_and_of_classes_are_told_apart():
    logits = mg.zeros((2, 2))
    by_class, by_probability = mg.cross_entropy(logits, [0, 1]), mg.cross_entropy(logits, [[0.25, 0.75], [1.0, 0.0]])
    assert by_class.item() == by_probability.item() == pytest.approx(np.log(2))
    with pytest.raises(mg.errors.ShapeError, match=r"dtype=mg\.int64"):
        mg.cross_entropy(logits, mg.tensor([0, 1]))


LOSSES = {
    "softmax": mg.softmax,
    "log_softmax": mg.log_softmax,
    "mse": lambda x: mg.mse(x, [[0.0]]),
    "dropout": lambda x: mg.dropout(x, 0.5),
    "cross_entropy": lambda x: mg.cross_entropy(x, [0]),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_list_is_no_tensor_and_an_array_will_do(name):
    with pytest.raises(mg.errors.DtypeError, match=f"^{name}: expected a tensor, got list"):
        LOSSES[name]([[1.0]])
    assert LOSSES[name](np.ones((1, 1))).size == 1
