"""Gradients as functions, of every order and nested in every way; and recomputing instead of storing."""

from __future__ import annotations

import gc
import tracemalloc
import weakref
from collections import namedtuple
from functools import partial
from math import cos, exp, sin

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import tree
from minigrad.errors import AnomalyError, ArgumentError, BackendMismatchError, DtypeError, GraphError, ShapeError

EPS = np.finfo(np.float64).eps


def f64(*values: float) -> mg.Tensor:
    return mg.tensor(np.array(values))


def scalar(value: float) -> mg.Tensor:
    return mg.tensor(np.array(value, np.float64))


def leaf(*values: float) -> mg.Tensor:
    return mg.tensor(np.array(values), requires_grad=True)


def close(x: mg.Tensor, expected, operations: int = 20) -> bool:
    """Equal but for the rounding of this many operations, relative to the largest entry."""
    expected = np.asarray(expected)
    return bool(np.all(np.abs(x.numpy() - expected) <= operations * EPS * max(np.abs(expected).max(initial=0.0), EPS)))


# grad and value_and_grad


def test_grad_is_the_gradient_and_value_and_grad_both(backend):
    x = mg.tensor([1.0, 2.0], backend=backend)
    value, gradient = mg.value_and_grad(lambda x: (x * x).sum())(x)
    assert value.item() == 5.0 and gradient.tolist() == [2.0, 4.0]
    assert mg.grad(lambda x: (x * x).sum())(x).tolist() == [2.0, 4.0]
    assert gradient.backend == value.backend == backend and gradient.dtype == x.dtype


@pytest.mark.parametrize(
    ("argnums", "expected"),
    [(0, 20.0), (1, 10.0), (-1, 2.0), (-3, 20.0), ((0, 1), (20.0, 10.0)), ((2,), (2.0,)), ([-1, 0], (2.0, 20.0))],
)
def test_argnums_choose_the_arguments_by_position(argnums, expected):
    def f(x, y, z):
        return 2.0 * x * y + z * z / 5.0

    gradient = mg.grad(f, argnums)(scalar(5.0), scalar(10.0), scalar(5.0))
    if isinstance(expected, tuple):
        assert tuple(g.item() for g in gradient) == expected and type(gradient) is tuple
    else:
        assert gradient.item() == expected


@pytest.mark.parametrize("argnums", [1, -2, (0, 1), (0, 5)])
def test_an_argnum_beyond_the_arguments_is_refused(argnums):
    with pytest.raises(ArgumentError, match=r"argnums=.*1 arguments"):
        mg.grad(lambda x: x, argnums)(scalar(1.0))


@pytest.mark.parametrize("argnums", [(0, 0), (1, -1)])
def test_an_argument_named_twice_is_refused(argnums):
    with pytest.raises(ArgumentError, match="twice"):
        mg.grad(lambda x, y: x * y, argnums)(scalar(1.0), scalar(2.0))


Pair = namedtuple("Pair", "first second")


def test_arguments_may_be_trees_and_so_are_their_gradients():
    def f(p, q):
        return (p["a"] * p["b"][0]).sum() + p["b"][1].second * q[0] * 3.0

    p = {"a": f64(1.0, 2.0), "b": (f64(3.0, 4.0), Pair(None, scalar(5.0)))}
    gradient, other = mg.grad(f, (0, 1))(p, [scalar(7.0)])
    assert gradient["a"].tolist() == [3.0, 4.0] and gradient["b"][0].tolist() == [1.0, 2.0]
    assert type(gradient["b"][1]) is Pair and gradient["b"][1].first is None
    assert gradient["b"][1].second.item() == 21.0 and type(other) is list and other[0].item() == 15.0


def test_other_arguments_pass_through_as_they_are():
    def f(x, n, *, scale, words):
        assert n == 3 and words == ["a"]
        return x**n * scale

    assert mg.grad(f)(scalar(2.0), 3, scale=10.0, words=["a"]).item() == 120.0


def test_one_tensor_given_as_two_arguments_has_two_partial_derivatives():
    x = leaf(3.0)
    a, b = mg.grad(lambda x, y: (x * x * y).sum(), (0, 1))(x, x)
    assert a.item() == 18.0 and b.item() == 9.0


def test_arrays_and_python_numbers_are_made_tensors():
    assert mg.grad(lambda x: x**2)(3.0).item() == 6.0
    gradient = mg.grad(lambda x: (x * x).sum())(np.array([1.0, 2.0]))
    assert gradient.tolist() == [2.0, 4.0] and gradient.dtype == mg.float64


def test_an_argument_that_does_not_matter_has_a_gradient_of_zeros(backend):
    x = mg.ones((2, 3), backend=backend, dtype="float64")
    for f in (lambda x, y: y, lambda x, y: y + 0.0 * x.detach().sum()):
        gradient = mg.grad(f)(x, mg.tensor(1.0, dtype="float64", backend=backend))
        assert gradient.tolist() == [[0.0] * 3] * 2
        assert (gradient.dtype, gradient.backend) == (x.dtype, backend)


@pytest.mark.parametrize(
    ("f", "x", "error", "message"),
    [
        (lambda x: x * 2.0, f64(1.0, 2.0), GraphError, r"grad: a tensor of shape \(2,\)"),
        (lambda x: (x, x), f64(1.0), DtypeError, "grad: the function returned tuple"),
        (lambda x: 3.0, f64(1.0), DtypeError, "grad: the function returned float"),
        (lambda x: x.item(), f64(1.0), DtypeError, "grad: the function returned float"),
        (lambda x: None, f64(1.0), DtypeError, "grad: the function returned NoneType"),
        (lambda x: x.sum(), mg.tensor(np.array([1, 2])), DtypeError, "grad: only floats have gradients.*int64"),
        (lambda x: x.sum(), (f64(1.0), mg.tensor(True)), DtypeError, "grad: only floats.*bool"),
        (lambda x: x, "a", DtypeError, "expected numbers"),
    ],
)
def test_what_has_no_gradient_is_refused(f, x, error, message):
    with pytest.raises(error, match=message):
        mg.grad(f)(x)


def test_a_partial_function_and_a_method_can_be_differentiated():
    class Model:
        def loss(self, x):
            """The loss."""
            return (x**2).sum()

    assert mg.grad(partial(lambda n, x: (x**n).sum(), 3))(f64(2.0)).item() == 12.0
    gradient = mg.grad(Model().loss)
    assert gradient(f64(2.0)).item() == 4.0 and gradient.__name__ == "loss"


# What is part of a graph, and what is not


def test_results_have_no_graph_where_nothing_else_needs_a_gradient():
    x = f64(1.0, 2.0)
    value, gradient = mg.value_and_grad(lambda x: (x**3).sum())(x)
    out, pull = mg.vjp(lambda x: x**3, x)
    results = [value, gradient, out, *pull(f64(1.0, 1.0)), mg.hvp(lambda x: (x**3).sum(), x, x)]
    results += mg.jvp(lambda x: x**3, (x,), (x,))
    results += [mg.grad(lambda x: mg.grad(lambda x: (x**3).sum())(x).sum())(x)]
    results += [mg.grad(mg.remat(lambda x: mg.remat(mg.sin)(x * x).sum()))(x)]
    assert not any(r.requires_grad for r in results)


@pytest.mark.parametrize("closed_over", [False, True])
def test_grad_leaves_the_grad_of_leaves_alone(closed_over):
    x, w = leaf(1.0, 2.0), leaf(3.0, 4.0)
    held = x.grad = f64(9.0, 9.0)
    f = (lambda x: (x * x * w).sum()) if closed_over else (lambda x: (x * x).sum())
    mg.grad(f)(x)
    mg.hvp(f, x, f64(1.0, 1.0))
    assert x.grad is held and held.tolist() == [9.0, 9.0] and w.grad is None


def test_a_gradient_is_part_of_the_graph_of_what_it_depends_on():
    x, w = leaf(2.0), leaf(5.0)
    gradient = mg.grad(lambda x: (x**3 * w).sum())(x)
    assert gradient.requires_grad
    gradient.sum().backward()  # d/dx and d/dw of 3 x**2 w
    assert x.grad.item() == 60.0 and w.grad.item() == 12.0


def test_the_value_next_to_a_gradient_can_be_run_backward_to_the_weights():
    w = leaf(5.0)
    value, gradient = mg.value_and_grad(lambda x: (x**3 * w).sum())(f64(2.0))
    (value + gradient.sum()).backward()
    assert w.grad.item() == 8.0 + 12.0


def test_a_gradient_penalty_reaches_the_weights():
    # |d/dx tanh(x.w)|**2 = (1 - t**2)**2 |w|**2, t = tanh(x.w); its gradient by w by hand
    w, x = np.array([0.3, -0.7]), np.array([0.5, 0.2])
    t = np.tanh(x @ w)
    expected = (1 - t**2) ** 2 * 2 * w - 4 * (1 - t**2) ** 2 * t * x * (w @ w)
    weight = mg.tensor(w, requires_grad=True)
    gradient = mg.grad(lambda x: mg.tanh(x @ weight))(mg.tensor(x))
    (gradient * gradient).sum().backward()
    assert close(weight.grad, expected)


@pytest.mark.parametrize("mode", [mg.no_grad, mg.enable_grad])
def test_grad_neither_visits_nor_uses_up_a_graph_that_it_closes_over(mode):
    @mg.primitive
    def closed(xp, x, /):
        """x, whose rule must not run."""
        return x + 0

    closed.vjp(lambda g: pytest.fail("a rule ran that nobody needs"))
    w = leaf(5.0)
    h, cheap = closed(w), w * 2.0
    with mode():
        assert mg.grad(lambda x: (mg.concat([h, x, cheap]) * 3.0).sum())(f64(1.0)).tolist() == [3.0]
    cheap.backward()
    assert w.grad.item() == 2.0


def test_grad_works_under_no_grad_and_its_results_have_no_graph():
    x, w = leaf(2.0), leaf(5.0)

    def f(x):
        return mg.grad(lambda x: (x**3 * w).sum())(x).sum()

    with mg.no_grad():
        value, gradient = mg.value_and_grad(f)(x)
        out, pull = mg.vjp(f, x)
        (pulled,) = pull(scalar(1.0))
    assert value.item() == out.item() == 60.0 and gradient.item() == pulled.item() == 60.0
    assert not any(r.requires_grad for r in (value, gradient, out, pulled))
    assert not mg.no_grad()(lambda: x * w)().requires_grad


def test_no_grad_inside_cuts_off_what_it_encloses():
    def f(x):
        with mg.no_grad():
            c = x * 1.0
        return (c * x).sum()

    assert mg.grad(f)(f64(3.0)).item() == 3.0


def test_the_graph_of_a_gradient_that_nobody_keeps_is_freed_without_the_collector():
    mg.grad(lambda x: mg.tanh(x * x).sum())(f64(1.0))
    gc.collect()
    gc.disable()
    try:
        inside = []

        def f(x):
            y = mg.tanh(x * x)
            inside.append(weakref.ref(y.data))
            return y.sum()

        gradient, value = mg.grad(f)(f64(1.0)), mg.value_and_grad(f)(leaf(1.0))
        assert inside[0]() is None and inside[1]() is not None
        del value
        assert inside[1]() is None and not gradient.requires_grad
    finally:
        gc.enable()


# Orders and nesting


@pytest.mark.parametrize(
    ("f", "derivatives"),
    [
        (lambda x: x**5, [32.0, 80.0, 160.0, 240.0, 240.0]),
        (mg.sin, [sin(2.0), cos(2.0), -sin(2.0), -cos(2.0), sin(2.0)]),
        (mg.exp, [exp(2.0)] * 5),
        (lambda x: 1.0 / x, [0.5, -0.25, 0.25, -0.375, 0.75]),
        (mg.log, [np.log(2.0), 0.5, -0.25, 0.25, -0.375]),
        (lambda x: mg.split(mg.stack([x * x, x]), 2)[0].reshape(()) * x * x, [16.0, 32.0, 48.0, 48.0, 24.0]),
        (lambda x: mg.stack([x, x, x])[[0, 2, 2]].sum() * x * x * x, [48.0, 96.0, 144.0, 144.0, 72.0]),
    ],
)
def test_nested_gradients_give_every_order(f, derivatives):
    for expected in derivatives:
        assert close(f(scalar(2.0)), expected, operations=100)
        f = mg.grad(f)


def test_derivatives_at_two_levels_are_not_confused():
    # Siskind and Pearlmutter 2005: d/dx (x * d/dy (x + y)) at 1 is 1; confused, it comes out as 2.
    def inner(x):
        return x * mg.grad(lambda y: x + y)(scalar(1.0))

    assert mg.grad(inner)(scalar(1.0)).item() == 1.0
    # d/dx (x * d/dy (x * y)) = d/dx x**2
    assert mg.grad(lambda x: x * mg.grad(lambda y: x * y)(scalar(3.0)))(scalar(5.0)).item() == 10.0
    # the inner variable at the outer one: d/dx (x * [d/dy x y**2 at y = x]) = d/dx 2 x**3
    assert mg.grad(lambda x: x * mg.grad(lambda y: x * y * y)(x))(scalar(2.0)).item() == 24.0
    # the inner function shadows: d/dx d/dx x**3
    assert mg.grad(lambda x: mg.grad(lambda x: x**3)(x))(scalar(2.0)).item() == 12.0
    # constant in the inner variable
    assert mg.grad(lambda x: x * mg.grad(lambda y: x)(scalar(1.0)))(scalar(5.0)).item() == 0.0


def test_derivatives_at_two_levels_are_not_confused_by_jvp_and_hvp():
    def tangent(x):
        return x * mg.jvp(lambda y: x * y, (scalar(3.0),), (scalar(1.0),))[1]

    assert mg.grad(tangent)(scalar(5.0)).item() == 10.0
    assert mg.jvp(tangent, (scalar(5.0),), (scalar(1.0),))[1].item() == 10.0
    # d/dx (x * y'' of x y**3 at y = 2) = d/dx 12 x**2
    assert mg.grad(lambda x: x * mg.hvp(lambda y: x * y**3, scalar(2.0), scalar(1.0)))(scalar(5.0)).item() == 120.0


@given(st.lists(st.integers(-3, 3), min_size=2, max_size=5), st.integers(-3, 3), st.integers(-3, 3))
def test_mixed_partial_derivatives_of_polynomials_are_exact_in_either_order(coefficients, a, b):
    def f(x, y):
        total = scalar(0.0)
        for k, c in enumerate(coefficients):
            total = total + float(c) * x**k * y ** (k + 1)
        return total

    x, y = scalar(float(a)), scalar(float(b))
    xy = mg.grad(mg.grad(f, 0), 1)(x, y)
    yx = mg.grad(mg.grad(f, 1), 0)(x, y)
    expected = sum(c * k * (k + 1) * float(a) ** (k - 1) * float(b) ** k for k, c in enumerate(coefficients) if k)
    assert xy.item() == yx.item() == expected


# vjp, jvp, hvp

MATRIX = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])


def test_vjp_and_jvp_are_the_products_with_the_jacobian(backend):
    matrix = mg.tensor(MATRIX, backend=backend)
    x, v = (mg.tensor(np.array(a), backend=backend) for a in ([1.0, 2.0, 3.0], [1.0, 0.0, -1.0]))
    u = mg.tensor(np.array([1.0, -2.0]), backend=backend)
    y, pull = mg.vjp(lambda x: matrix @ x, x)
    assert y.tolist() == [14.0, 32.0] and pull(u)[0].tolist() == (MATRIX.T @ [1.0, -2.0]).tolist()
    y, tangent = mg.jvp(lambda x: matrix @ x, (x,), (v,))
    assert y.tolist() == [14.0, 32.0] and tangent.tolist() == (MATRIX @ [1.0, 0.0, -1.0]).tolist()
    assert tangent.backend == backend and tangent.dtype == x.dtype


@given(st.integers(0, 2**16))
def test_jvp_and_vjp_are_adjoint_and_match_the_jacobian_by_hand(seed):
    rng = np.random.default_rng(seed)
    w, x, v, u = rng.normal(size=(3, 2)), rng.normal(size=2), rng.normal(size=2), rng.normal(size=3)
    jacobian = (1 - np.tanh(w @ x) ** 2)[:, None] * w

    def f(x):
        return mg.tanh(mg.tensor(w) @ x)

    (back,) = mg.vjp(f, mg.tensor(x))[1](mg.tensor(u))
    tangent = mg.jvp(f, (mg.tensor(x),), (mg.tensor(v),))[1]
    size = np.abs(jacobian).max() * 20 * EPS  # 1 - t**2 loses no more than an absolute EPS of at most |w|
    bound = 20 * EPS * np.abs(w).max() * max(np.abs(u).sum(), np.abs(v).sum()) + size
    assert np.abs(back.numpy() - jacobian.T @ u).max() <= bound
    assert np.abs(tangent.numpy() - jacobian @ v).max() <= bound


@given(st.integers(0, 2**16))
def test_hvp_is_the_hessian_times_a_vector(seed):
    rng = np.random.default_rng(seed)
    a, x, v = rng.integers(-3, 4, (3, 3)), rng.integers(-3, 4, 3), rng.integers(-3, 4, 3)
    a, x, v = (m.astype(np.float64) for m in (a, x, v))
    # f = (x.Ax)**2, H = 2 s s^T + 2 (x.Ax) (A + A^T), s = (A + A^T) x; integers, hence exact
    s = (a + a.T) @ x
    hessian = 2 * np.outer(s, s) + 2 * (x @ a @ x) * (a + a.T)
    product = mg.hvp(lambda x: (x @ (mg.tensor(a) @ x)) ** 2, mg.tensor(x), mg.tensor(v))
    np.testing.assert_array_equal(product.numpy(), hessian @ v)


def test_inputs_and_outputs_may_be_trees():
    def f(p):
        return {"product": p[0] * p[1]["b"], "sum": (p[0] + p[1]["b"],), "none": None}

    p, v = (f64(2.0), {"b": f64(3.0)}), (f64(1.0), {"b": f64(10.0)})
    out, pull = mg.vjp(f, p)
    ((a, b),) = pull({"product": f64(1.0), "sum": (f64(100.0),), "none": None})
    assert out["product"].item() == 6.0 and a.item() == 103.0 and b["b"].item() == 102.0
    out, tangent = mg.jvp(f, (p,), (v,))
    assert tangent["product"].item() == 23.0 and tangent["sum"][0].item() == 11.0 and tangent["none"] is None
    product = mg.hvp(lambda p: (p[0] * p[1]["b"]).sum(), p, v)
    assert product[0].item() == 10.0 and product[1]["b"].item() == 1.0


def test_one_tensor_returned_twice_takes_both_cotangents():
    def f(x):
        y = x * 3.0
        return y, x, y

    _, pull = mg.vjp(f, f64(2.0))
    assert pull((f64(1.0), f64(10.0), f64(100.0)))[0].item() == 313.0


def test_a_pull_can_be_called_again_and_the_results_are_independent():
    _, pull = mg.vjp(lambda x, y: mg.sin(x) * y, f64(0.0), f64(2.0))
    first = pull(f64(1.0))
    second = pull(f64(10.0))
    assert [g.item() for g in first] == [2.0, 0.0] and [g.item() for g in second] == [20.0, 0.0]


def test_a_pull_can_itself_be_differentiated_by_its_cotangent():
    _, pull = mg.vjp(lambda x: x**3, f64(2.0))
    assert mg.grad(lambda u: (pull(u)[0] ** 2).sum())(f64(1.0)).item() == 2 * 12.0**2


def test_an_output_of_integers_has_a_tangent_and_takes_a_cotangent_of_nothing():
    out, pull = mg.vjp(lambda x: (x * 2.0, x.argmax()), f64(1.0, 3.0))
    assert out[1].item() == 1
    assert pull((f64(1.0, 1.0), mg.tensor(np.array(0))))[0].tolist() == [2.0, 2.0]


@pytest.mark.parametrize(
    ("misuse", "error", "message"),
    [
        (lambda: mg.vjp(lambda x: x, f64(1.0, 2.0))[1](f64(1.0)), ShapeError, r"vjp: the cotangent has shape \(1,\)"),
        (lambda: mg.vjp(lambda x: x, f64(1.0, 2.0))[1](None), GraphError, r"vjp: a tensor of shape \(2,\)"),
        (lambda: mg.vjp(lambda x: (x, x), f64(1.0))[1]((f64(1.0),)), ArgumentError, "tuple of 2, got tuple of 1"),
        (lambda: mg.vjp(lambda x: (x, x), f64(1.0))[1](f64(1.0)), ArgumentError, "tuple of 2, got Tensor"),
        (lambda: mg.vjp(lambda x: {"a": x}, f64(1.0))[1]({"b": f64(1.0)}), ArgumentError, r"keys \['a'\], got"),
        (lambda: mg.vjp(lambda x: 3.0, f64(1.0)), DtypeError, "vjp: the function returned float"),
        (lambda: mg.vjp(lambda x: x, mg.tensor(True)), DtypeError, "vjp: only floats"),
        (lambda: mg.jvp(lambda x: x, (f64(1.0),), (f64(1.0, 2.0),)), ShapeError, "jvp: the cotangent has shape"),
        (lambda: mg.jvp(lambda x: x, (f64(1.0),), ()), ArgumentError, "tuple of 1, got tuple of 0"),
        (
            lambda: mg.jvp(lambda x: x, (f64(1.0),), (mg.ones((1,), backend="array_api_strict"),)),
            BackendMismatchError,
            r"jvp: .*\.to\(",
        ),
        (lambda: mg.hvp(lambda x: x, f64(1.0, 2.0), f64(1.0, 2.0)), GraphError, "grad: a tensor of shape"),
    ],
)
def test_products_with_what_does_not_fit_are_refused(misuse, error, message):
    with pytest.raises(error, match=message):
        misuse()


# remat


def block(x):
    """Saves the results of exp, of the sum and of tanh."""
    return mg.tanh(mg.sin(mg.exp(x * 0.5) + 1.0))


@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_remat_changes_neither_the_value_nor_any_derivative(order, backend):
    x = mg.tensor(np.array([0.3, -0.4]), backend=backend)
    plain, rematted = (lambda x: block(block(x)).sum()), (lambda x: mg.remat(block)(mg.remat(block)(x)).sum())
    for _ in range(order):
        plain, rematted = (lambda x, f=f: mg.grad(f)(x).sum() for f in (plain, rematted))
    assert plain(x).item() == rematted(x).item()


def test_weights_that_remat_closes_over_get_their_gradients():
    x, w, v = leaf(2.0), leaf(5.0), leaf(7.0)
    computed = v * 3.0
    parts = mg.split(mg.concat([w, v]), 2)
    y = mg.remat(lambda x: x * w + computed * x + parts[1])(x)
    y.sum().backward()
    assert x.grad.item() == 5.0 + 21.0 and w.grad.item() == 2.0 and v.grad.item() == 6.0 + 1.0


def test_second_derivatives_pass_through_remat_to_weights_it_closes_over():
    w = leaf(5.0)
    gradient = mg.grad(mg.remat(lambda x: (x**3 * w).sum()))(f64(2.0))
    gradient.sum().backward()
    assert gradient.item() == 60.0 and w.grad.item() == 12.0


def test_a_tensor_from_outside_that_remat_returns_as_it_is_gets_its_gradient():
    x, w = leaf(2.0), leaf(5.0)
    computed = w * 2.0
    for outside, factor in [(w, 1.0), (computed, 2.0), (mg.split(mg.concat([w, w]), 2)[0], 1.0)]:
        w.grad = None
        y, z, same = mg.remat(lambda x, outside=outside: (x * 3.0, outside, x))(x)
        (y + z + same).sum().backward()
        assert w.grad.item() == factor
    assert x.grad.item() == 3 * (3.0 + 1.0)


def test_remat_of_a_tensor_whose_graph_is_released_raises_in_the_backward_pass_as_without_it():
    w = leaf(5.0)
    part = mg.split(w * 2.0, 1)[0]
    part.backward()
    for f in (lambda x: x * part, mg.remat(lambda x: x * part)):
        y = f(leaf(2.0))
        with pytest.raises(GraphError, match=r"retain_graph=True.*detach\(\)"):
            y.backward()


def test_remat_of_a_function_without_arguments_reaches_its_weights():
    w = leaf(5.0)
    mg.remat(lambda: w * w)().sum().backward()
    assert w.grad.item() == 10.0


def test_dropout_draws_the_same_noise_when_it_is_computed_again():
    x = mg.ones((64,))
    x.requires_grad = True
    y = mg.remat(lambda x: mg.dropout(x, 0.5) * x)(x)
    following = mg.random.uniform((4,))
    y.sum().backward()
    # y = m x**2 at x = 1 for the mask m that was drawn, so the gradient is 2 y
    np.testing.assert_array_equal(x.grad.numpy(), 2 * y.numpy())
    assert 0 < np.count_nonzero(y.numpy()) < 64
    with mg.seed(0):  # as every test begins: neither remat nor its backward pass disturbs the stream
        mg.dropout(x, 0.5)
        np.testing.assert_array_equal(mg.random.uniform((4,)).numpy(), following.numpy())
        expected = mg.random.uniform((4,)).numpy()
    np.testing.assert_array_equal(mg.random.uniform((4,)).numpy(), expected)


def test_remat_takes_and_returns_trees_and_passes_other_arguments_on():
    def f(p, n, *, q, mode):
        assert mode == "fast" and n == 2
        return {"a": p["x"] ** n * q[0], "b": [p["k"], q[0] + 1.0]}

    p, q = {"x": leaf(3.0), "k": mg.tensor(np.array([1]))}, (leaf(5.0),)
    out = mg.remat(f)(p, 2, q=q, mode="fast")
    assert out["b"][0] is not None and not out["b"][0].requires_grad and out["b"][0].dtype == mg.int64
    (out["a"] + out["b"][1]).sum().backward()
    assert p["x"].grad.item() == 30.0 and q[0].grad.item() == 10.0


@pytest.mark.parametrize("used", [(0,), (1,), (2,), (0, 2)])
def test_outputs_of_remat_may_go_unused(used):
    x = leaf(2.0)
    outputs = mg.remat(lambda x: (x * 2.0, x * 30.0, x * 400.0))(x)
    sum((outputs[i] for i in used), start=mg.tensor(0.0)).sum().backward()
    assert x.grad.item() == sum((2.0, 30.0, 400.0)[i] for i in used)


def test_an_argument_given_to_remat_twice_counts_twice():
    x = leaf(3.0)
    mg.remat(lambda a, b: a * a * b)(x, x).sum().backward()
    assert x.grad.item() == 27.0
    assert mg.grad(lambda x: mg.grad(lambda x: mg.remat(lambda a, b: a * a * b)(x, x).sum())(x).sum())(x).item() == 18.0


def test_remat_nests():
    x, w = leaf(0.3), leaf(0.7)
    inner = mg.remat(lambda x: mg.sin(x * w))
    outer = mg.remat(lambda x: inner(inner(x)) * x)
    outer(x).backward()
    gx, gw = mg.grad(lambda x, w: (mg.sin(mg.sin(x * w) * w) * x).sum(), (0, 1))(x, w)
    assert close(x.grad, gx.numpy()) and close(w.grad, gw.numpy())


def test_remat_keeps_a_graph_that_is_to_be_retained():
    x = leaf(3.0)
    y = mg.remat(lambda x: x**3)(x)
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.item() == 54.0
    with pytest.raises(GraphError, match="retain_graph"):
        y.backward()


def test_remat_is_computed_again_with_a_graph_though_the_backward_pass_runs_under_no_grad():
    x = leaf(3.0)
    y = mg.remat(lambda x: x**3)(x)
    with mg.no_grad():
        y.backward()
    assert x.grad.item() == 27.0


def test_remat_computes_twice_and_under_no_grad_once():
    calls = []

    def f(x):
        calls.append(x.requires_grad)
        return x * x

    x = leaf(2.0)
    with mg.no_grad():
        assert not mg.remat(f)(x).requires_grad
    assert len(calls) == 1
    y = mg.remat(f)(x)
    assert len(calls) == 2
    y.backward()
    assert calls == [True, True, True]


@pytest.mark.parametrize("result", [None, (), {"a": None}])
def test_remat_of_a_function_that_returns_no_tensor_gives_what_it_returns(result):
    assert mg.remat(lambda x: result)(leaf(1.0)) == result


def test_remat_refuses_a_function_that_returns_other_things():
    with pytest.raises(DtypeError, match="remat: the function must return tensors"):
        mg.remat(lambda x: (x, 3.0))(leaf(1.0))


def test_an_anomaly_inside_remat_is_found_in_the_value_and_in_the_gradient():
    with np.errstate(all="ignore"), mg.detect_anomaly():
        with pytest.raises(AnomalyError, match="log made -inf"):
            mg.remat(lambda x: mg.log(x))(leaf(0.0))
        with pytest.raises(AnomalyError, match="log made -inf"):
            mg.remat(lambda x: mg.remat(mg.log)(x * 1.0))(leaf(0.0))
        y = mg.remat(lambda x: mg.sqrt(x))(leaf(0.0))
        with pytest.raises(AnomalyError, match="sqrt"):
            y.backward()
        with pytest.raises(AnomalyError, match="sqrt"):
            mg.remat(lambda x: mg.grad(lambda x: mg.sqrt(x).sum())(x.detach()))(leaf(0.0))
    x = leaf(0.5)
    with mg.detect_anomaly():
        mg.remat(mg.sqrt)(x).backward()
    assert close(x.grad, 0.5**0.5)


def test_remat_stores_no_array_between_its_arguments_and_its_result():
    gc.collect()
    gc.disable()
    try:
        inside = []

        def f(x):
            for _ in range(5):
                x = mg.sin(x)
                inside.append(weakref.ref(x.data))
            return x * 2.0

        x = leaf(1.0)
        y = mg.remat(f)(x)
        assert len(inside) == 5 and not any(ref() is not None for ref in inside)
        y.backward()
        assert len(inside) == 10 and not any(ref() is not None for ref in inside)
        assert x.grad is not None
    finally:
        gc.enable()


def test_remat_of_every_block_needs_the_memory_of_one():
    size, blocks = 50_000, 12

    def peak(wrap):
        h = x = mg.zeros((size,))
        x.requires_grad = True
        tracemalloc.start()
        try:
            for _ in range(blocks):
                h = wrap(block)(h)
            y = h.sum()
            del h
            y.backward()
            return tracemalloc.get_traced_memory()[1] / (4 * size)
        finally:
            tracemalloc.stop()

    stored = 3  # arrays that `block` saves; with remat one, its argument, is kept for each, and one block is recomputed
    assert peak(lambda f: f) >= stored * blocks
    assert peak(mg.remat) <= blocks + 3 * stored


def test_the_gradient_of_a_tree_has_its_structure():
    weights = {"w": [f64(1.0, 2.0), f64(3.0)], "b": (scalar(4.0),)}
    gradient = mg.grad(lambda p: sum((leaf * leaf).sum() for leaf in tree.leaves(p)))(weights)
    assert [g.tolist() for g in tree.leaves(gradient)] == [[2.0, 4.0], [6.0], 8.0]
    assert gradient.keys() == weights.keys() and type(gradient["b"]) is tuple
