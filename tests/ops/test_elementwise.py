"""The elementwise operations: the table, and what the table cannot say."""

from __future__ import annotations

import operator as op
import warnings

import numpy as np
import pytest
from hypothesis import strategies as st

import minigrad as mg
from minigrad import backends, errors, ops
from tests import strategies
from tests.conftest import BACKENDS
from tests.ops.harness import FLOATS, INTEGERS, REAL, Row, proofs
from tests.oracles import ops as oracles
from tests.strategies import Domain, as_numpy, as_tensor

POSITIVE = Domain(0.1, 3.0, (1.0, 1e-6, 1e-3, 1e4, 3e5))
NONZERO = Domain(0.2, 3.0, (1.0, -1.0, 1e-3, -1e-2, 1e3))
# Three and a bit times what divides them, so that no neighbour is a whole number of times as large.
DIVIDED, BETWEEN = Domain(4.2, 4.9, (-7.5, 100.25, 0.5)), Domain(1.25, 1.38, (-2.0, 3.0))
MODERATE = Domain(-4.0, 4.0, (0.0, -0.0, 1e-12, -1e-6, 20.0, -20.0))

KINK = [([np.array([0.0, -0.0, 1.0])], {})]
TIES = [([np.array([1.0, 0.0, 2.0]), np.array([1.0, -0.0, 1.0])], {})]

no_static = st.just({})
one = st.tuples(st.tuples(strategies.shapes()), no_static)
two = st.tuples(strategies.broadcastable(2), no_static)
ONE = [(((2, 2),), {}), (((),), {})]
TWO = [(((2, 2), (2, 2)), {}), (((2, 1), (3,)), {}), (((), (2,)), {}), (((1, 2), ()), {})]


def with_static(shapes, **static):
    return st.tuples(shapes, st.fixed_dictionaries(static))


@st.composite
def _where(draw):
    condition, x1, x2 = draw(strategies.broadcastable(3))
    rng = np.random.default_rng(draw(strategies.SEEDS))
    return (x1, x2), {"condition": rng.random(condition) < 0.5}


def unary(name, numpy, oracle, domain=REAL, **more):
    more = {"precise": "last place", "floating": True, **more}
    return Row(name, getattr(ops, name), numpy, oracle, one, ONE, (domain,), **more)


def binary(name, numpy, oracle, domains=(REAL,), **more):
    return Row(name, getattr(ops, name), numpy, oracle, two, TWO, domains, **more)


def comparison(name):
    return binary(name, getattr(np, name), None, (Domain(-1.5, 1.5, (0.0, -0.0, 1.0)),))


exponents = st.sampled_from([0, 1, 2, 3, 0.5, -0.5, -1, -2, 1.5, 2.0])
limits = st.sampled_from([-1.5, -1.0, 0, 0.5, None])
truths = {"dtypes": ("bool",), "precise": "exactly"}

ROWS = [
    binary("add", np.add, oracles.add),
    binary("subtract", np.subtract, oracles.subtract),
    binary("multiply", np.multiply, oracles.multiply),
    binary("divide", np.divide, oracles.divide, (REAL, NONZERO), precise="last place", floating=True),
    binary("remainder", np.remainder, oracles.remainder, (DIVIDED, BETWEEN), precise="exactly"),
    unary("negative", np.negative, oracles.negative, precise="exactly", floating=False),
    Row(
        "pow by a number",
        lambda x, exponent: ops.pow(x, exponent),
        lambda x, exponent: np.power(x, float(exponent) if exponent < 0 else exponent),
        oracles.power,
        with_static(st.tuples(strategies.shapes()), exponent=exponents),
        [(((2, 2),), {"exponent": e}) for e in (0, 1, 2, 3, 0.5, -1, 2.5)],
        (Domain(0.2, 3.0, (1.0, 1e-3, 1e3)),),
        precise="last place",
        dtypes=FLOATS,
    ),
    binary(
        "pow",
        np.power,
        oracles.exponentiate,
        (Domain(0.2, 3.0, (1.0, 1e-3, 1e3)), Domain(-3, 3, (0.0, 1.0, -1.0, 1e-9))),
        precise="last place",
        dtypes=FLOATS,
    ),
    unary("exp", np.exp, oracles.exp, MODERATE),
    unary("log", np.log, oracles.log, POSITIVE),
    unary("log1p", np.log1p, oracles.log1p, Domain(-0.5, 3.0, (0.0, 1e-12, -1e-7, 1e5))),
    unary("sqrt", np.sqrt, oracles.sqrt, POSITIVE),
    unary("sin", np.sin, oracles.sin),
    unary("cos", np.cos, oracles.cos),
    unary("tanh", np.tanh, oracles.tanh),
    unary("sigmoid", oracles.logistic, oracles.sigmoid, MODERATE),
    unary("softplus", lambda x: np.logaddexp(0, x), oracles.softplus, MODERATE),
    unary(
        "relu",
        lambda x: np.where(x > 0, x, x.dtype.type(0)),
        oracles.relu,
        precise="exactly",
        floating=False,
        extremes=KINK,
    ),
    unary("abs", np.abs, oracles.absolute, precise="exactly", floating=False, extremes=KINK),
    unary("sign", np.sign, None, precise="exactly", floating=False),
    binary("maximum", np.maximum, oracles.maximum, extremes=TIES),
    binary("minimum", np.minimum, oracles.minimum, extremes=TIES),
    Row(
        "clip",
        ops.clip,
        lambda x, min, max: np.clip(x, min, max) if x.size or (min, max) != (None, None) else x,
        oracles.clip,
        with_static(st.tuples(strategies.shapes()), min=limits, max=st.sampled_from([1.0, 1e3, 2, None])),
        [(((2, 3),), {"min": -0.71, "max": 1.07}), (((2, 3),), {"min": None, "max": 0.31})],
        dtypes=FLOATS,
    ),
    Row(
        "where",
        lambda x1, x2, condition: ops.where(condition, x1, x2),
        lambda x1, x2, condition: np.where(condition, x1, x2),
        oracles.where,
        _where(),
        [
            (((2, 2), (2, 2)), {"condition": np.array([True, False])}),
            (((2,), ()), {"condition": np.array([[True, False], [False, False]])}),
            (((), (2,)), {"condition": np.array([[True, False], [True, False]])}),
        ],
    ),
    *map(comparison, ["equal", "not_equal", "less", "less_equal", "greater", "greater_equal"]),
    binary("logical_and", np.logical_and, None, **truths),
    binary("logical_or", np.logical_or, None, **truths),
    unary("logical_not", np.logical_not, None, floating=False, **truths),
    unary(
        "isfinite",
        np.isfinite,
        None,
        Domain(-2, 2, (np.inf, -np.inf, np.nan)),
        precise="exactly",
        floating=False,
        dtypes=FLOATS,
    ),
    *[
        Row(
            f"astype {dtype}",
            lambda x, dtype: ops.astype(x, dtype),
            lambda x, dtype: x.astype(dtype),
            oracles.identity if dtype in FLOATS else None,
            with_static(st.tuples(strategies.shapes()), dtype=st.just(dtype)),
            [(((2, 2),), {"dtype": dtype})] if dtype == "float64" else [],
            (Domain(-2, 2, (0.0, 1.0, -1e5, 1e-3)),),
        )
        for dtype in FLOATS + INTEGERS
    ],
    Row(
        "to",
        lambda x: ops.to(x, "array_api_strict"),
        lambda x: x,
        oracles.identity,
        one,
        ONE,
        lands="array_api_strict",
    ),
]

test_values_are_numpys_and_gradients_the_oracles, test_finite_differences_agree_twice_over = proofs(ROWS)


def gradient_at(f, x, backend="numpy", cotangent=1.0, dtype="float32"):
    """The gradient of f at an array x, for a cotangent that is the same everywhere."""
    x = as_tensor(np.array(x, dtype), backend, requires_grad=True)
    y = f(x)
    y.backward(as_tensor(np.full(y.shape, cotangent, str(as_numpy(y).dtype)), backend))
    return as_numpy(x.grad)


def test_every_public_operation_has_a_row_or_is_no_function_of_tensors():
    from tests.ops import test_indexing, test_linalg, test_reduction, test_shape

    tables = (ROWS, test_indexing.ROWS, test_linalg.ROWS, test_reduction.ROWS, test_shape.ROWS)
    rows = {row.name.split()[0] for table in tables for row in table}
    creation = {"arange", "eye", "from_dlpack", "full", "ones", "zeros"}
    functions = {name: f for name, f in vars(ops).items() if callable(f) and not isinstance(f, type)}
    public = {name for name, f in functions.items() if f.__module__.startswith("minigrad.ops")}
    assert public - creation - {"primitive"} == rows


# Dtypes

SCALARS = [2, 2.0, np.float64(2.0), np.float32(2.0), np.int64(2), np.array(2.0), np.array(2)]
SCALAR_IDS = [f"{type(s).__name__} {np.asarray(s).dtype}" for s in SCALARS]
ARITHMETIC = [ops.add, ops.subtract, ops.multiply, ops.divide, ops.remainder, ops.pow, ops.maximum, ops.minimum]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("scalar", SCALARS, ids=SCALAR_IDS)
def test_scalars_on_either_side_never_widen_the_value_or_the_gradient(backend, dtype, scalar):
    for f in ARITHMETIC:
        for g in (lambda x: f(x, scalar), lambda x: f(scalar, x)):  # noqa: B023
            x = as_tensor(np.array([1.5, 3.0], dtype), backend, requires_grad=True)
            y = g(x)
            assert backends.dtype_name(y.dtype) == dtype, f.__name__
            y.backward(np.ones(2))
            assert backends.dtype_name(x.grad.dtype) == dtype, f.__name__


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("scalar", SCALARS, ids=SCALAR_IDS)
def test_scalars_in_clip_where_and_comparisons_never_widen(backend, scalar):
    x = as_tensor(np.array([1.5, 3.0], "float32"), backend, requires_grad=True)
    for y in (ops.clip(x, -scalar, scalar), ops.where(x > scalar, scalar, x), ops.where(x > scalar, x, scalar)):
        assert backends.dtype_name(y.dtype) == "float32"
        y.backward(np.ones(2))
        assert backends.dtype_name(x.grad.dtype) == "float32"
    assert as_numpy(x >= scalar).tolist() == [False, True]


@pytest.mark.parametrize("f", [op.add, op.sub, op.mul, op.truediv, op.pow, op.lt, op.ge, op.eq, op.ne])
@pytest.mark.parametrize("scalar", SCALARS, ids=SCALAR_IDS)
def test_operators_take_scalars_on_both_sides_as_numpy_does(f, scalar):
    values = np.array([1.5, 2.0, 3.0], "float32")
    x = as_tensor(values, "numpy")
    plain = float(scalar)
    np.testing.assert_array_equal(as_numpy(f(x, scalar)), f(values, plain), strict=True)
    np.testing.assert_array_equal(as_numpy(f(scalar, x)), f(plain, values), strict=True)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("f", ARITHMETIC, ids=lambda f: f.__name__)
def test_mixed_floats_compute_in_the_wider_and_each_gradient_has_the_dtype_of_its_own_input(backend, f):
    x1 = as_tensor(np.array([1.5, 3.0], "float32"), backend, requires_grad=True)
    x2 = as_tensor(np.array([[2.0], [0.7]], "float64"), backend, requires_grad=True)
    y = f(x1, x2)
    assert backends.dtype_name(y.dtype) == "float64"
    y.backward(np.ones((2, 2)))
    assert [backends.dtype_name(x.grad.dtype) for x in (x1, x2)] == ["float32", "float64"]
    assert [x.grad.shape for x in (x1, x2)] == [(2,), (2, 1)]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("integer", [*INTEGERS, "bool"])
@pytest.mark.parametrize("f", [ops.multiply, ops.divide, ops.maximum], ids=lambda f: f.__name__)
def test_integers_meeting_floats_become_floats_of_the_same_dtype(backend, integer, f):
    whole = as_tensor(np.array([1, 1], integer), backend)
    for dtype in FLOATS:
        x = as_tensor(np.array([0.5, 4.0], dtype), backend, requires_grad=True)
        y = f(whole, x)
        assert backends.dtype_name(y.dtype) == dtype
        y.backward(np.ones(2))
        assert backends.dtype_name(x.grad.dtype) == dtype
    if integer != "bool":
        assert backends.dtype_name(ops.multiply(whole, 0.5).dtype) == "float32"
        assert backends.dtype_name(ops.multiply(whole, 2).dtype) == integer


@pytest.mark.parametrize("backend", BACKENDS)
def test_integers_to_a_whole_power_stay_integers_and_to_any_other_become_float32(backend):
    x = as_tensor(np.array([2, 3]), backend)
    assert as_numpy(x**2).tolist() == [4, 9] and backends.dtype_name((x**3).dtype) == "int64"
    for exponent in (-1, 0.5, 2.0):
        y = x**exponent
        assert backends.dtype_name(y.dtype) == "float32"
        np.testing.assert_allclose(as_numpy(y), np.array([2.0, 3.0]) ** exponent, rtol=4 * np.finfo("float32").eps)


@pytest.mark.parametrize("backend", BACKENDS)
def test_where_joins_the_dtypes_of_the_branches_and_not_of_the_condition(backend):
    condition = as_tensor(np.array([True, False]), backend)
    x = as_tensor(np.array([1.5, 2.5], "float64"), backend)
    assert backends.dtype_name(ops.where(condition, x, 0).dtype) == "float64"
    assert backends.dtype_name(ops.where(condition, 1.0, 0.0).dtype) == "float32"
    assert as_numpy(ops.where(condition, 1.0, x)).tolist() == [1.0, 2.5]


def test_casting_to_integers_cuts_the_graph_and_casting_back_does_not_mend_it():
    x = mg.tensor([1.5, -2.5], requires_grad=True)
    y = ops.astype(x, "int64")
    assert not y.requires_grad and y.tolist() == [1, -2]
    assert not ops.astype(y, "float32").requires_grad


# Where derivatives are infinite or undefined

STEEP = {
    "sqrt": (ops.sqrt, [0.0, -1.0]),
    "log": (ops.log, [0.0, -1.0]),
    "log1p": (ops.log1p, [-1.0, -2.0]),
    "x**0.5": (lambda x: x**0.5, [0.0, -1.0]),
    "x**1.5": (lambda x: x**1.5, [0.0, -1.0]),
    "x**-1": (lambda x: x**-1, [0.0, -0.0]),
    "x**-0.5": (lambda x: x**-0.5, [0.0, -1.0]),
    "x**0": (lambda x: x**0, [0.0, -1.0]),
    "x**tensor": (lambda x: x ** as_tensor(np.array([0.5, -1.0], "float32"), x.backend), [0.0, 0.0]),
    "x**fractional tensor": (lambda x: x ** as_tensor(np.array([0.5, 1.5], "float32"), x.backend), [-1.0, -1.0]),
    "0**tensor": (lambda x: as_tensor(np.zeros(2, "float32"), x.backend) ** x, [0.5, -1.0]),
    "negative**tensor": (lambda x: as_tensor(np.full(2, -2, "float32"), x.backend) ** x, [0.5, 2.0]),
    "norm": (lambda x: ops.sqrt(ops.sum(x * x)), [0.0, 0.0]),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of the forward pass
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", STEEP.values(), ids=STEEP)
def test_a_cotangent_of_zero_gives_a_gradient_of_zero_however_steep_the_function(backend, case):
    f, x = case
    assert gradient_at(f, x, backend, cotangent=0.0).tolist() == [0.0, 0.0]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["sqrt", "log", "x**0.5", "x**1.5", "x**-0.5"])
def test_the_branch_that_where_does_not_take_gets_a_gradient_of_zero_though_it_is_nan(backend, name):
    f, _ = STEEP[name]
    gradient = gradient_at(lambda x: ops.where(x > 0, f(x), 0.0), [0.0, -1.0, 1.0], backend)
    assert gradient[:2].tolist() == [0.0, 0.0] and 0 < abs(gradient[2]) <= 1.5


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_where_gives_nothing_to_an_untaken_nan_or_infinity(backend, bad):
    condition = as_tensor(np.array([True, False]), backend)
    x1 = as_tensor(np.array([1.0, bad], "float32"), backend, requires_grad=True)
    x2 = as_tensor(np.array([bad, 2.0], "float32"), backend, requires_grad=True)
    y = ops.where(condition, x1, x2)
    assert as_numpy(y).tolist() == [1.0, 2.0]
    y.backward(np.array([3.0, 4.0]))
    assert as_numpy(x1.grad).tolist() == [3.0, 0.0] and as_numpy(x2.grad).tolist() == [0.0, 4.0]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_square_root_is_infinitely_steep_at_zero_for_any_other_cotangent(backend):
    assert gradient_at(ops.sqrt, [0.0], backend).tolist() == [np.inf]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("exponent, slope", [(0, 0.0), (1, 1.0), (1.5, 0.0), (2, 0.0), (3, 0.0)])
def test_powers_at_zero_have_the_slope_of_the_limit_by_number_and_by_tensor(backend, exponent, slope):
    by_number = gradient_at(lambda x: x**exponent, [0.0], backend)
    by_tensor = gradient_at(lambda x: x ** as_tensor(np.array([exponent], "float32"), backend), [0.0], backend)
    assert by_number.tolist() == by_tensor.tolist() == [slope]


def test_the_slope_of_a_power_at_zero_is_the_same_forward_as_backward():
    """Forward derivatives come by a cotangent of zero, which must not be mistaken for no cotangent."""
    for exponent in (1.0, 2.0, 3.0):
        by_number = mg.jvp(lambda x: x**exponent, (mg.tensor([0.0, -2.0]),), (mg.tensor([1.0, 1.0]),))[1]  # noqa: B023
        f = lambda x: x ** mg.tensor([exponent, exponent])  # noqa: B023
        by_tensor = mg.jvp(f, (mg.tensor([0.0, -2.0]),), (mg.tensor([1.0, 1.0]),))[1]
        assert by_tensor.tolist() == by_number.tolist() == [float(exponent == 1), exponent * (-2.0) ** (exponent - 1)]


def test_a_negative_base_has_its_gradient_for_whole_exponents():
    y = gradient_at(lambda x: x ** mg.tensor([3.0, -1.0]), [-2.0, -2.0])
    assert y.tolist() == [12.0, -0.25]


@pytest.mark.parametrize("backend", BACKENDS)
def test_maximum_and_minimum_give_each_of_two_equal_numbers_half(backend):
    for f in (ops.maximum, ops.minimum):
        x1 = as_tensor(np.array([1.0, 0.0, np.inf], "float32"), backend, requires_grad=True)
        x2 = as_tensor(np.array([1.0, -0.0, np.inf], "float32"), backend, requires_grad=True)
        f(x1, x2).backward(np.array([2.0, 4.0, 6.0]))
        assert as_numpy(x1.grad).tolist() == as_numpy(x2.grad).tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_kinks_have_the_gradients_that_their_docstrings_name(backend):
    assert gradient_at(ops.relu, [0.0, -0.0, 1e-30, -1e-30], backend).tolist() == [0, 0, 1, 0]
    assert gradient_at(ops.abs, [0.0, -0.0, 1e-30, -1e-30], backend).tolist() == [0, 0, 1, -1]
    assert gradient_at(lambda x: ops.clip(x, -1, 1), [-1.0, 1.0, 0.0, 2.0, -2.0], backend).tolist() == [1, 1, 1, 0, 0]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_sigmoid_and_softplus_keep_their_digits_in_the_tails_without_a_warning(backend, dtype):
    limits = np.finfo(dtype)
    far = -np.log(float(limits.smallest_normal)) - 0.5  # beyond it the answer is no normal number
    x = np.array([-1000, -far, -30, -5, -1e-3, 0, 1e-3, 5, 30, far, 1000], dtype)
    with warnings.catch_warnings(), np.errstate(all="warn", under="ignore"):
        warnings.simplefilter("error")
        sigmoid, softplus = (as_numpy(f(as_tensor(x, backend))) for f in (ops.sigmoid, ops.softplus))
        slope_of_sigmoid, slope_of_softplus = (
            gradient_at(f, x, backend, dtype=dtype) for f in (ops.sigmoid, ops.softplus)
        )
    wide = x.astype("longdouble")
    e = np.exp(-np.abs(wide))
    s = np.where(wide >= 0, 1, e) / (1 + e)
    for got, expected in [
        (sigmoid, s),
        (softplus, np.maximum(wide, 0) + np.log1p(e)),
        (slope_of_softplus, s),
        (slope_of_sigmoid[:6], (s * (1 - s))[:6]),
    ]:
        # exp(x) answers for a rounding of x by eps/2 relatively, which is |x| eps/2 in the value; 8 eps for the rest
        allowed = (8 + np.abs(wide[: len(got)])) * limits.eps * expected + limits.smallest_normal
        assert np.all(np.abs(got - expected) <= allowed)


# What is saved, and what is said


def saved(f, *shapes):
    """What the node of f holds: "x1", "x2", "y", or the value itself of what is no array of these."""
    inputs = [mg.tensor(np.full(shape, 0.5 + i, "float32"), requires_grad=True) for i, shape in enumerate(shapes)]
    y = f(*inputs)
    names = {id(x.data): f"x{i + 1}" for i, x in enumerate(inputs)} | {id(y.data): "y"}
    return [names.get(id(value), value) for value in y.node.saved]


@pytest.mark.parametrize(
    "f, arity, names",
    [
        (ops.add, 2, []),
        (ops.subtract, 2, []),
        (ops.negative, 1, []),
        (ops.multiply, 2, ["x1", "x2"]),
        (lambda x: ops.multiply(x, 3.0), 1, [3.0]),
        (lambda x: ops.multiply(mg.tensor([7.0]), x).detach() + x, 1, []),
        (ops.divide, 2, ["x2", "y"]),
        (lambda x: ops.divide(x, 4.0), 1, [4.0]),
        (ops.tanh, 1, ["y"]),
        (ops.sigmoid, 1, ["y"]),
        (ops.exp, 1, ["y"]),
        (ops.sqrt, 1, ["y"]),
        (ops.relu, 1, ["y"]),
        (ops.log, 1, ["x1"]),
        (ops.sin, 1, ["x1"]),
        (ops.softplus, 1, ["x1"]),
        (ops.matmul, 2, ["x1", "x2"]),
        (ops.matrix_transpose, 1, []),
        (lambda x: ops.sum(x), 1, [(2, 2), None, False]),
        (lambda x: ops.reshape(x, (4,)), 1, [(2, 2)]),
        (lambda x1, x2: ops.concat([x1, x2], axis=1), 2, [1, ((2, 2), (2, 2))]),
    ],
)
def test_only_what_a_rule_reads_is_saved(f, arity, names):
    assert sorted(saved(f, *[(2, 2)] * arity), key=str) == sorted(names, key=str)


def test_multiply_saves_only_the_factor_that_the_wanted_gradient_needs():
    x, w = mg.tensor([2.0], requires_grad=True), mg.tensor([3.0])
    assert [value is w.data for value in (x * w).node.saved] == [True]
    assert [value is w.data for value in (w * x).node.saved] == [True]


@pytest.mark.parametrize("other", [b for b in BACKENDS if b != "numpy"])
def test_mixed_backends_are_refused_by_the_name_of_the_operation_and_both_backends(other):
    x, y = mg.tensor([1.0]), mg.tensor([1.0], backend=other)
    calls = [
        ("add", lambda: x + y), ("matmul|matrix_product", lambda: ops.matmul(x[None], y[None])),
        ("where", lambda: ops.where(x > 0, y, 0.0)), ("concat", lambda: ops.concat([x, y])),
        ("take", lambda: ops.take(x, ops.astype(y, "int64"), axis=0)), ("index", lambda: x[ops.astype(y, "int64")]),
    ]  # fmt: skip
    for name, call in calls:
        with pytest.raises(errors.BackendMismatchError, match=rf'^({name}).*"numpy".*"{other}".*\.to\("numpy"\)'):
            call()
        with pytest.raises(TypeError):
            call()


@pytest.mark.parametrize(
    "call, kind, message",
    [
        (lambda x: ops.add(x, [1.0, 2.0]), errors.DtypeError, r"^add: .* got list; mg.tensor makes one"),
        (lambda x: ops.exp([1.0, 2.0]), errors.DtypeError, r"^exp: .* got list; mg.tensor makes one"),
        (lambda x: ops.add(x, "1"), errors.DtypeError, r"^add: .* got str"),
        (lambda x: ops.add(x, None), errors.DtypeError, r"^add: .* got NoneType"),
        (lambda x: ops.add(x), TypeError, r"^add\(\) missing 1 required"),
        (lambda x: ops.add(x, x, x), TypeError, r"^add\(\) takes 2"),
        (lambda x: ops.add(x, ops.ones((2,))), errors.ShapeError, r"^add\(float32\(3,\), float32\(2,\)\)"),
        (
            lambda x: ops.where(x > 0, x, ops.ones((2,))),
            errors.ShapeError,
            r"^where\(bool\(3,\), float32\(3,\), float32",
        ),
        (lambda x: ops.astype(x, "float16"), errors.DtypeError, r"float16.* is not one of"),
        (lambda x: ops.to(x, "cuda"), errors.ArgumentError, r"unknown backend 'cuda'"),
    ],
)
def test_a_mistake_is_answered_with_the_operation_and_what_it_was_given(call, kind, message):
    for requires_grad in (False, True, True):  # the plan of the first call with a gradient serves the second
        with pytest.raises(kind, match=message):
            call(mg.tensor([1.0, 2.0, 3.0], requires_grad=requires_grad))


def test_a_number_alone_is_an_operand_too():
    assert mg.exp(0.0).item() == 1.0 and mg.add(1, 2).item() == 3 and mg.add(1.0, 2).dtype == mg.float32
    assert mg.multiply(np.array([1.0, 2.0]), 3).tolist() == [3.0, 6.0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_division_by_zero_in_the_branch_not_taken_leaves_no_nan(backend):
    x, a = (as_tensor(np.array(v), backend, requires_grad=True) for v in ([0.0, 2.0], [3.0, 5.0]))
    with np.errstate(divide="ignore"):
        quotient = a / x
    ops.where(x > 0, quotient, 0.0).sum().backward()
    assert as_numpy(x.grad).tolist() == [0.0, -1.25] and as_numpy(a.grad).tolist() == [0.0, 0.5]


def test_clipping_integers_between_floats_gives_float32():
    y = ops.clip(mg.tensor([0, 1, 2], dtype="int64"), 0.5, 1.5)
    assert str(y.dtype) == "float32" and y.tolist() == [0.5, 1.0, 1.5]


def test_errors_call_an_operation_by_its_public_name():
    x = mg.ones((2, 3))
    for call, name in (
        (lambda: x @ x, "matmul"),
        (lambda: ops.concat([x, x[0]]), "concat"),
        (lambda: ops.stack([x, x[0]]), "stack"),
        (lambda: ops.index_update(x, 0, mg.ones((4,))), "index_update"),
        (lambda: ops.pow(x, mg.ones((4,))), "pow"),
    ):
        with pytest.raises(mg.MinigradError, match=rf"^{name}\("):
            call()
