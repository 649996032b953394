"""Values that nobody here has produced: recorded from PyTorch 2.13 in float64, rounded to 12 decimals.

`y` and the gradients of its sum by the inputs: torch.autograd.grad(y.sum(), inputs), with torch's functions of the
same names (gather for take_along_axis, cumsum for cumulative_sum).
"""

from __future__ import annotations

import numpy as np
import pytest

from minigrad import ops
from tests.strategies import as_numpy, as_tensor

X = np.array([[0.5, -1.25, 2.0], [-0.75, 0.0, 1.5]])
C = np.array([[1.0, 2.0, -1.0], [0.5, -2.0, 3.0]])
SECOND = {"pow": np.array([1.5, 2.0, 0.5]), "matmul": np.array([[1.0, -1.0], [0.5, 2.0], [0.0, 3.0]])}

# fmt: off
RECORDED = {
    "logsumexp": (lambda x: ops.logsumexp(x, axis=0) * C[0], [
        [0.751929081345, 0.503858162691, -2.47407698418],
        [0.777299861175, 0.445400277651, -0.622459331202, 0.222700138825, 1.554599722349, -0.377540668798],
    ]),
    "softplus": (lambda x: ops.softplus(x) * C, [
        [0.97407698418, 0.503858162691, -2.126928011043, 0.193435503057, -1.38629436112, 5.104239833948],
        [0.622459331202, 0.445400277651, -0.880797077978, 0.160410650412, -1.0, 2.452723428581],
    ]),
    "sigmoid": (lambda x: ops.sigmoid(x) * C, [
        [0.622459331202, 0.445400277651, -0.880797077978, 0.160410650412, -1.0, 2.452723428581],
        [0.235003712202, 0.346209573985, -0.104993585404, 0.108947496881, -0.5, 0.447439356211],
    ]),
    "tanh": (lambda x: ops.tanh(x) * C, [
        [0.46211715726, -1.696567279915, -0.964027580076, -0.317574476194, -0.0, 2.715444760935],
        [0.786447732966, 0.560829732361, -0.070650824853, 0.298292904141, -2.0, 0.542119916771],
    ]),
    "log1p": (lambda x: ops.log1p(ops.abs(x)) * C, [
        [0.405465108108, 1.621860432433, -1.098612288668, 0.279807893968, -0.0, 2.748872195622],
        [0.666666666667, -0.888888888889, -0.333333333333, -0.285714285714, -0.0, 1.2],
    ]),
    "cumulative_sum": (lambda x: ops.cumulative_sum(x * x, axis=1) * C, [
        [0.25, 3.625, -5.8125, 0.28125, -1.125, 8.4375],
        [2.0, -2.5, -4.0, -2.25, 0.0, 9.0],
    ]),
    "pow": (lambda x, b: (ops.abs(x) + 1) ** b * C, [
        [1.837117307087, 10.125, -1.732050807569, 1.157516198591, -2.0, 4.743416490253],
        [1.837117307087, -9.0, -0.288675134595, -0.992156741649, -0.0, 0.948683298051],
        [1.392651307048, 8.21066843919, 2.443496265645],
    ]),
    "maximum": (lambda x: ops.maximum(x, np.array([0.5, 0.0, 0.0])) * C, [
        [0.5, 0.0, -2.0, 0.25, -0.0, 4.5],
        [0.5, 0.0, -1.0, 0.0, -1.0, 3.0],
    ]),
    "amax": (lambda x: ops.max(ops.concat([x, x], axis=1), axis=1) * C[0, :2], [
        [2.0, 3.0],
        [0.0, 0.0, 1.0, 0.0, 0.0, 2.0],
    ]),
    "matmul": (lambda x, m: (x @ m) * C[:, :2], [
        [-0.125, 6.0, -0.375, -10.5],
        [-1.0, 4.5, 6.0, 2.5, -3.75, -6.0],
        [0.125, 2.5, -1.25, -2.5, 2.75, 1.0],
    ]),
    "take_along_axis": (lambda x: ops.take_along_axis(x, np.array([[2, 2], [0, 1]])) * C[:, :2], [
        [2.0, 4.0, -0.375, -0.0],
        [0.0, 0.0, 3.0, 0.5, -2.0, 0.0],
    ]),
}
# fmt: on


@pytest.mark.parametrize("name", RECORDED)
def test_values_and_gradients_are_those_recorded_from_pytorch(name):
    f, recorded = RECORDED[name]
    inputs = [as_tensor(a, "numpy", requires_grad=True) for a in (X, *([SECOND[name]] if name in SECOND else []))]
    y = f(*inputs)
    y.backward(np.ones(y.shape))
    for got, expected in zip((y, *(x.grad for x in inputs)), recorded, strict=True):
        np.testing.assert_allclose(as_numpy(got).reshape(-1), expected, rtol=0, atol=1e-12)
