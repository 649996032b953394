"""Matrix products: the table, and what the table cannot say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import strategies as st

import minigrad as mg
from minigrad import backends, errors, ops
from tests import strategies
from tests.conftest import BACKENDS
from tests.ops.harness import FLOATS, Row, proofs
from tests.oracles import ops as oracles
from tests.strategies import Domain, as_numpy, as_tensor


@st.composite
def multiplied(draw):
    """Vectors, matrices, and stacks of matrices whose batch axes broadcast."""
    n, k, m = (draw(st.integers(0, 3)) for _ in range(3))
    batch1, batch2 = draw(strategies.broadcastable(2, max_dims=2))
    x1 = (k,) if draw(st.integers(0, 3)) == 0 else (*batch1, n, k)
    x2 = (k,) if draw(st.integers(0, 3)) == 0 else (k, m) if draw(st.booleans()) else (*batch2, k, m)
    return (x1, x2), {}


@st.composite
def rows_and_weight(draw):
    """Rows in any number of batch axes, a single one too, and a weight (O, I)."""
    i, o = draw(st.integers(0, 3)), draw(st.integers(0, 3))
    return ((*draw(st.lists(st.integers(0, 3), max_size=3)), i), (o, i)), {}


POINTS = [((2, 3), (3, 2)), ((3,), (3, 2)), ((2, 3), (3,)), ((3,), (3,)), ((2, 1, 2), (2, 2)), ((2, 1, 2), (1, 2, 2))]

ROWS = [
    Row(
        "matmul",
        ops.matmul,
        np.matmul,
        oracles.matmul,
        multiplied(),
        [(shapes, {}) for shapes in POINTS],
        (Domain(-2, 2, (0.0, 1.0, 1e-6, -1e3)),),
        precise="sum",
        dtypes=FLOATS,
    ),
    Row(
        "linear",
        ops.linear,
        lambda x, weight: x @ weight.T,
        oracles.linear,
        rows_and_weight(),
        [(shapes, {}) for shapes in (((2, 3), (4, 3)), ((3,), (2, 3)), ((2, 1, 3), (1, 3)))],
        (Domain(-2, 2, (0.0, 1.0, 1e-6, -1e3)),),
        precise="sum",
        dtypes=FLOATS,
    ),
]

test_values_are_numpys_and_gradients_the_oracles, test_finite_differences_agree_twice_over = proofs(ROWS)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_vector_times_a_vector_is_a_number_by_the_operator_too(backend):
    a, b = (as_tensor(np.array(v, "float32"), backend, requires_grad=True) for v in ([1.0, 2.0], [3.0, 5.0]))
    y = a @ b
    assert y.shape == () and y.item() == 13.0
    y.backward()
    assert as_numpy(a.grad).tolist() == [3.0, 5.0] and as_numpy(b.grad).tolist() == [1.0, 2.0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_stacked_rows_times_one_matrix_are_one_large_product(backend):
    """So the matrix's gradient is one product as well, and no stack of them is summed."""
    x, w = mg.zeros((5, 4, 3), backend=backend), mg.zeros((3, 2), backend=backend)
    w.requires_grad = True
    y = x @ w
    assert y.node.parents[0].saved[0].shape == (20, 3)


@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize(
    "shapes, message",
    [
        (((2, 3), (2, 3)), r"\(float32\(2, 3\), float32\(2, 3\)\)"),
        (((3,), (2,)), r"float32\(.*3.*\), float32\(.*2.*\)"),
        (((2, 2, 3), (3, 3, 2)), r"\(float32\(2, 2, 3\), float32\(3, 3, 2\)\)"),
        (((), (2,)), r"^matmul: shapes \(\) and \(2,\): a 0-d operand; use \* instead"),
    ],
)
def test_shapes_that_do_not_fit_are_named(requires_grad, shapes, message):
    x1, x2 = (mg.tensor(np.ones(shape, "float32"), requires_grad=requires_grad) for shape in shapes)
    with pytest.raises(errors.ShapeError, match=message):
        x1 @ x2


def test_lists_and_numbers_are_no_matrices():
    x = mg.ones((2, 2))
    for call in (lambda: ops.matmul(x, [[1.0]]), lambda: [[1.0, 2.0]] @ x):
        with pytest.raises(errors.DtypeError, match=r"^matmul: expected a tensor, got list; mg.tensor makes one"):
            call()
    with pytest.raises(errors.MinigradError, match=r"^matmul: .*float"):
        ops.matmul(x, 2.0)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("steps", [1, 63, 64, 130])
def test_a_weight_used_at_every_step_gets_the_sum_of_the_steps_in_a_few_products(backend, steps, monkeypatch):
    rng = np.random.default_rng(steps)
    xs, gs = rng.standard_normal((steps, 2, 3)), rng.standard_normal((steps, 2, 4))
    w, v = (as_tensor(rng.standard_normal(s), backend, requires_grad=True) for s in ((3, 4), (4, 3)))
    rows = [as_tensor(x, backend) for x in xs]
    ys = mg.stack([x @ w + ops.linear(x, v) for x in rows])
    products, namespace = [], type(ys.data)
    xp = backends.namespaces[namespace]
    matmul = xp.matmul
    monkeypatch.setattr(xp, "matmul", lambda a, b: products.append(a.shape) or matmul(a, b), raising=False)
    ys.backward(as_tensor(gs, backend))
    expected = sum(x.T @ g for x, g in zip(xs, gs))
    for gradient in (as_numpy(w.grad), as_numpy(v.grad).T):
        np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-13 * steps * np.abs(expected).max())
    assert len(products) == 2 * -(-steps // 64)


def test_linear_adds_the_bias_and_names_the_shapes_that_do_not_fit():
    x, w, b = mg.ones((2, 3)), mg.ones((4, 3)), mg.arange(4.0)
    assert ops.linear(x, w, b).tolist() == [[3.0, 4.0, 5.0, 6.0]] * 2
    with pytest.raises(errors.ShapeError, match=r"^linear: x \(2, 3\) and weight \(3, 4\): expected"):
        ops.linear(x, w.mT)


def test_the_gradient_of_a_weight_read_at_every_step_and_used_whole_is_both():
    w = mg.tensor(np.eye(2), requires_grad=True)
    x = mg.tensor([[1.0, 2.0]], dtype="float64")
    _loop(x, w).sum().backward()
    assert mg.gradcheck(lambda w: _loop(x, w), [w.detach()], order=2)
    np.testing.assert_allclose(w.grad.numpy(), mg.grad(lambda w: _loop(x, w).sum())(w.detach()).numpy())


def _loop(x, w):
    h = x
    for _ in range(3):
        h = h @ w + x * w.sum()
    return h


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_matrix_multiplied_by_and_read_by_index_gets_both_gradients(backend):
    w = as_tensor(np.arange(4.0).reshape(2, 2), backend, requires_grad=True)
    x = as_tensor(np.array([[1.0, 2.0]]), backend)
    ((x @ w).sum() + w[0].sum() + (x @ w).sum() + w[1, 0] * 10).backward()
    assert as_numpy(w.grad).tolist() == [[3.0, 3.0], [14.0, 4.0]]
