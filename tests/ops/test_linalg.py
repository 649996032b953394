"""Matrix products: the table, and what the table cannot say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import strategies as st

import minigrad as mg
from minigrad import errors, ops
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
