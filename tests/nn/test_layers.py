"""Linear, Embedding, LayerNorm, Dropout, Sequential against NumPy, with gradients to second order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import nn
from minigrad.errors import ArgumentError, DtypeError, OutOfRangeError, ShapeError

from ..conftest import BACKENDS
from ..strategies import SEEDS, as_numpy, as_tensor, shapes
from .helpers import close, in_float64

EVERY_BACKEND = st.sampled_from(BACKENDS)


def with_weights(layer: nn.Module, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Give the layer new weights of float64, and return them."""
    backend = layer.parameters()[0].backend
    arrays = {name: rng.normal(size=p.shape) for name, p in layer.named_parameters()}
    for name, p in layer.named_parameters():
        p.data = as_tensor(arrays[name], backend).data
    return arrays


def check(layer: nn.Module, x: np.ndarray) -> None:
    """gradcheck at order 2, by the input and by every weight."""
    names = [name for name, _ in layer.named_parameters()]

    def f(x, *weights):
        for name, weight in zip(names, weights):
            setattr(layer, name, weight)
        return layer(x)

    mg.gradcheck(f, [x, *(p.numpy() for p in layer.parameters())], order=2, names=["x", *names])


@given(shape=shapes(max_dims=3), inputs=st.integers(0, 3), outputs=st.integers(0, 3), bias=st.booleans(),
       backend=EVERY_BACKEND, seed=SEEDS)  # fmt: skip
def test_linear_is_x_w_transposed_plus_b(shape, inputs, outputs, bias, backend, seed):
    rng = np.random.default_rng(seed)
    layer = in_float64(nn.Linear(inputs, outputs, bias=bias), backend)
    weights = with_weights(layer, rng)
    x = rng.normal(size=(*shape, inputs))
    expected = np.zeros((*shape, outputs))
    for place in np.ndindex(*shape, outputs):
        row, unit = x[place[:-1]], place[-1]
        expected[place] = sum(row[i] * weights["weight"][unit, i] for i in range(inputs))
        expected[place] += weights["bias"][unit] if bias else 0.0
    close(layer(as_tensor(x, backend)), expected, 1e-13, floor=1.0)
    assert list(weights) == (["weight", "bias"] if bias else ["weight"])


@given(shape=shapes(max_dims=2), count=st.integers(1, 5), size=st.integers(0, 3), backend=EVERY_BACKEND, seed=SEEDS)
def test_embedding_gives_the_row_of_each_index_and_adds_up_the_gradients_of_each_row(shape, count, size, backend, seed):
    rng = np.random.default_rng(seed)
    layer = in_float64(nn.Embedding(count, size), backend)
    weight = with_weights(layer, rng)["weight"]
    indices, cotangent = rng.integers(0, count, shape), rng.normal(size=(*shape, size))
    out = layer(as_tensor(indices, backend))
    assert out.shape == (*shape, size)
    assert (as_numpy(out) == weight[indices]).all()
    out.backward(as_tensor(cotangent, backend))
    expected = np.zeros_like(weight)
    for place in np.ndindex(*shape):
        expected[indices[place]] += cotangent[place]
    close(layer.weight.grad, expected, 1e-14, floor=1.0)


@given(shape=shapes(max_dims=2, min_side=1), size=st.integers(1, 5), scale=st.sampled_from([1e-6, 1.0, 1e8]),
       backend=EVERY_BACKEND, seed=SEEDS)  # fmt: skip
def test_layer_norm_has_mean_zero_and_variance_one_before_weight_and_bias(shape, size, scale, backend, seed):
    rng = np.random.default_rng(seed)
    layer = in_float64(nn.LayerNorm(size, eps=1e-3), backend)
    weights = with_weights(layer, rng)
    x = scale * rng.normal(size=(*shape, size)) + 1.0
    expected = np.empty_like(x)
    for place in np.ndindex(*shape):
        mean = sum(x[place]) / size
        variance = sum((v - mean) ** 2 for v in x[place]) / size
        expected[place] = [
            (x[place][i] - mean) / (variance + 1e-3) ** 0.5 * weights["weight"][i] + weights["bias"][i]
            for i in range(size)
        ]
    close(layer(as_tensor(x, backend)), expected, 1e-12, floor=1.0)


@pytest.mark.parametrize(
    "layer, shape",
    [
        (lambda: nn.Linear(2, 3), (2, 2)),
        (lambda: nn.Linear(2, 3, bias=False), (2,)),
        (lambda: nn.LayerNorm(3), (2, 3)),
        (lambda: nn.LayerNorm(4, eps=0.1), (4,)),
    ],
)
def test_the_gradients_of_a_layer_are_right_to_second_order(layer, shape):
    rng = np.random.default_rng(0)
    built = layer()
    with_weights(built, rng)
    check(built, rng.normal(size=shape))


def test_the_gradient_of_an_embedding_is_right_to_second_order():
    layer = nn.Embedding(3, 2)

    def f(weight):
        layer.weight = weight
        return layer(np.array([[0, 2], [2, 2]])) ** 2

    mg.gradcheck(f, [np.random.default_rng(0).normal(size=(3, 2))], order=2)


@pytest.mark.parametrize(
    "layer, x, error, words",
    [
        (nn.Linear(2, 3), mg.zeros((4, 3)), ShapeError, r"\(\.\.\., 2\).*\(4, 3\)"),
        (nn.Linear(2, 3), mg.zeros(()), ShapeError, r"\(\.\.\., 2\)"),
        (nn.LayerNorm(2), mg.zeros((2, 1)), ShapeError, r"\(\.\.\., 2\).*\(2, 1\)"),
        (nn.Embedding(3, 2), np.array([0, 3]), OutOfRangeError, "3 is not in 0 ... 2"),
        (nn.Embedding(3, 2), np.array([-1]), OutOfRangeError, "-1"),
        (nn.Embedding(3, 2), mg.zeros((2,)), DtypeError, "integers"),
    ],
)
def test_an_input_that_does_not_fit_is_refused_with_what_was_expected(layer, x, error, words):
    with pytest.raises(error, match=words):
        layer(x)


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_dropout_refuses_what_is_no_probability(p):
    with pytest.raises(ArgumentError, match="probability"):
        nn.Dropout(p)


@given(p=st.floats(0.05, 0.95), backend=EVERY_BACKEND, seed=st.integers(0, 2**31))
def test_dropout_zeroes_elements_with_probability_p_and_divides_the_others_by_1_minus_p(p, backend, seed):
    n = 4000
    layer = nn.Dropout(p)
    x = as_tensor(np.linspace(1, 2, n).astype("float32"), backend, requires_grad=True)
    with mg.seed(seed):
        y = layer(x)
    y.sum().backward()
    kept = y.numpy() != 0
    np.testing.assert_allclose(y.numpy()[kept], x.numpy()[kept] / (1 - p), rtol=1e-6)
    np.testing.assert_allclose(x.grad.numpy(), kept / (1 - p), rtol=1e-6)
    # A binomial count is 6 standard deviations off once in 10^9.
    assert abs(kept.sum() - n * (1 - p)) < 6 * (n * p * (1 - p)) ** 0.5
    with mg.seed(seed):
        assert (layer(x).numpy() == y.numpy()).all()
        assert (layer(x).numpy() != y.numpy()).any()  # the next call has other noise


@pytest.mark.parametrize("p, expected", [(0.0, 1.0), (1.0, 0.0)])
def test_dropout_of_nothing_or_everything_is_exact(p, expected, backend):
    x = mg.ones((3,), backend=backend)
    assert nn.Dropout(p)(x).tolist() == [expected] * 3


def test_dropout_does_nothing_in_use():
    x = mg.random.normal((5,))
    assert nn.Dropout(0.9).eval()(x) is x


def test_the_defaults_are_a_dropout_of_one_half_and_an_epsilon_of_a_hundred_thousandth():
    assert set(nn.Dropout()(mg.ones((50,))).tolist()) == {0.0, 2.0}
    x = mg.tensor([-1e-3, 1e-3], dtype="float64")
    np.testing.assert_allclose(nn.LayerNorm(2)(x).numpy()[1], 1e-3 / (1e-6 + 1e-5) ** 0.5, rtol=1e-6)


def test_sequential_runs_modules_and_functions_one_after_another(backend):
    first, second = nn.Linear(2, 3), nn.Linear(3, 1)
    net = nn.Sequential(first, mg.tanh, second).to(backend)
    x = mg.random.normal((4, 2), backend=backend)
    assert (net(x).numpy() == second(mg.tanh(first(x))).numpy()).all()
    assert [n for n, _ in net.named_parameters()] == [
        "steps.0.weight", "steps.0.bias", "steps.2.weight", "steps.2.bias",
    ]  # fmt: skip
    assert nn.Sequential()(x) is x


def test_a_new_linear_layer_is_uniform_within_one_over_root_of_its_inputs():
    layer = nn.Linear(100, 50)
    for (
        p
    ) in layer.parameters():  # the largest of n is below 0.9 of the bound with probability 0.9^n: 0.005 for the bias
        assert 0.09 < np.abs(p.numpy()).max() <= 0.1


def test_a_new_layer_norm_changes_no_normalised_vector():
    x = np.array([[-1.0, 1.0], [3.0, 3.0]], "float32")
    np.testing.assert_allclose(nn.LayerNorm(2, eps=0.0)(mg.tensor(x[:1])).numpy(), x[:1], rtol=1e-6)
    assert nn.LayerNorm(2)(mg.tensor(x[1:])).tolist() == [[0.0, 0.0]]
