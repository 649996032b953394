"""Primitives of one's own: what a rule may read, how broadcasting is undone, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import backends, errors
from minigrad.ops.primitive import unbroadcast
from tests import strategies
from tests.conftest import BACKENDS
from tests.oracles import ops as oracles
from tests.strategies import as_numpy, as_tensor


@mg.primitive
def scaled_product(xp, a, b, /, scale=2.0, *, shift=0.0):
    """scale * a * b + shift."""
    return a * b * scale + shift


scaled_product.vjp(lambda g, b, scale: g * b * scale, lambda g, a, scale: g * a * scale)


def test_a_primitive_keeps_the_name_the_docstring_and_the_signature_of_its_formula_without_xp():
    import inspect

    assert scaled_product.__name__ == "scaled_product" and scaled_product.__doc__ == "scale * a * b + shift."
    assert str(inspect.signature(scaled_product)) == "(a, b, /, scale=2.0, *, shift=0.0)"


@pytest.mark.parametrize("backend", BACKENDS)
def test_static_arguments_come_by_position_or_by_name_and_reach_the_rules(backend):
    for call in (lambda a, b: scaled_product(a, b, 5.0), lambda a, b: scaled_product(a, b, scale=5.0, shift=1.0)):
        a, b = (as_tensor(np.array(v), backend, requires_grad=True) for v in ([1.0, 2.0], [3.0, 4.0]))
        call(a, b).backward(np.ones(2))
        assert as_numpy(a.grad).tolist() == [15.0, 20.0] and as_numpy(b.grad).tolist() == [5.0, 10.0]
        assert mg.gradcheck(call, [a, b], order=2)


def test_a_rule_may_read_cotangent_output_inputs_statics_shapes_dtypes_and_the_namespace():
    read = {}

    @mg.primitive
    def spy(xp, a, b, /, *, power=3):
        return a * b

    def rule(g, y, a, b, power, a_shape, b_shape, a_dtype, shapes, xp):
        read.update(locals())
        return g * b

    spy.vjp(rule, None)
    a, b = mg.tensor([[1.0, 2.0]], requires_grad=True), mg.tensor([[3.0], [4.0]])
    y = spy(a, b)
    y.backward(np.ones((2, 2)))
    assert a.grad.tolist() == [[7.0, 7.0]]
    assert read["y"] is y.data and read["a"] is a.data and read["b"] is b.data and read["power"] == 3
    assert (read["a_shape"], read["b_shape"]) == ((1, 2), (2, 1)) and read["shapes"] == ((1, 2), (2, 1))
    assert read["a_dtype"] == np.float32 and read["xp"] is backends.numpy


def test_a_rule_that_reads_an_unknown_name_is_told_which_there_are():
    @mg.primitive
    def f(xp, x, /, *, axis=0):
        return x * 1

    f.vjp(lambda g, xs: g)
    with pytest.raises(
        errors.ArgumentError, match=r"^f: a rule reads 'xs', but there is only g, xp, \['x', 'y', 'axis'"
    ):
        f(mg.tensor([1.0], requires_grad=True))


def test_a_rule_that_answers_in_a_shape_of_its_own_is_refused():
    @mg.primitive
    def f(xp, x, /):
        return x * 1

    f.vjp(lambda g, xp: xp.reshape(g, (3, 1)))
    with pytest.raises(errors.ShapeError, match=r"a rule answered with shape \(3, 1\) for an input of shape \(3,\)"):
        f(mg.tensor([1.0, 2.0, 3.0], requires_grad=True)).backward(np.ones(3))


@pytest.mark.parametrize(
    "rule, words",
    [
        (lambda g: None, "None instead of a cotangent"),
        (lambda g: 3.0, "a float instead of a cotangent"),
        (lambda g: [1.0], "a list instead of a cotangent"),
        (lambda g, x: g * mg.sigmoid(mg.tensor(x)), "a Tensor for an array; a rule computes with .* xp, not .* mg"),
    ],
)
def test_a_rule_that_returns_no_cotangent_is_named(rule, words):
    @mg.primitive
    def f(xp, x, /):
        return x * 1

    f.vjp(rule)
    with pytest.raises(errors.GraphError, match=f"^a rule of f returned {words}"):
        f(mg.tensor([1.0, 2.0], requires_grad=True)).sum().backward()


def test_a_rule_is_a_function():
    @mg.primitive
    def f(xp, x, /):
        return x * 1

    with pytest.raises(errors.ArgumentError, match=r"^f.vjp: a rule is a function or None, got \(3,\)"):
        f.vjp(3)


def test_a_function_that_formulas_do_not_have_is_answered_with_those_they_have(backend):
    @mg.primitive
    def f(xp, x, /):
        return xp.squeeze(x, axis=0)

    with pytest.raises(AttributeError, match=r"^xp.squeeze: a formula has .*, reshape, .*, sum, .*, unstack$"):
        f(mg.tensor([1.0], backend=backend))


def test_a_primitive_must_say_whether_it_has_a_gradient_before_one_could_be_lost():
    @mg.primitive
    def step(xp, x, /):
        return xp.sign(x)

    x = mg.tensor([1.0], requires_grad=True)
    assert step(x.detach()).tolist() == [1.0]
    with pytest.raises(errors.GraphError, match=r"^step has no backward formula: step.vjp\(...\) gives it one"):
        step(x)
    step.vjp(None)
    assert not step(x).requires_grad


def test_a_primitive_without_a_slash_or_with_too_few_rules_is_refused_when_it_is_defined():
    with pytest.raises(errors.ArgumentError, match="needs a / after its arrays"):

        @mg.primitive
        def open_ended(xp, x):
            return x

    @mg.primitive
    def product(xp, a, b, /):
        return a * b

    with pytest.raises(errors.ArgumentError, match=r"product.vjp: got 1 rules for 2 inputs"):
        product.vjp(lambda g, b: g * b)


def test_an_array_given_to_an_operation_may_be_written_to_afterwards():
    buffer, x = np.ones(2, "float32"), mg.tensor([1.0, 2.0], requires_grad=True)
    y = (x * buffer).sum() + (buffer * x).sum() + mg.linear(buffer[None, :], x.reshape(1, 2)).sum()
    buffer[:] = 1000.0
    y.backward()
    assert x.grad.tolist() == [3.0, 3.0]


@pytest.mark.parametrize("backend", BACKENDS)
@given(st.data())
def test_undoing_broadcasting_is_the_sum_over_the_copies(backend, data):
    shape, other = data.draw(strategies.broadcastable(2))
    rng = np.random.default_rng(data.draw(strategies.SEEDS))
    g = rng.integers(-9, 9, np.broadcast_shapes(shape, other)).astype("float32")  # whole numbers, so sums are exact
    undone = unbroadcast(as_tensor(g, backend).data, shape)
    assert undone.shape == shape
    assert as_numpy(undone).tolist() == oracles.back(np.zeros(shape), g).sum(0).tolist()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_result_is_an_array_of_the_backend_even_where_the_library_answers_with_a_scalar(backend):
    x = as_tensor(np.array([[1.0, 2.0]]), backend)
    for y in (x.sum(), x.max(), x[0, 1], x[0, 0] * 2, mg.argmax(x), mg.all(x > 0), -x.sum(), x.sum() ** 2):
        assert type(y.data) is backends.get(backend).array_type and y.shape == ()


def test_under_no_grad_nothing_is_saved_and_of_inputs_without_gradient_there_is_no_node():
    x, c = mg.tensor([1.0], requires_grad=True), mg.tensor([2.0])
    with mg.no_grad():
        assert all(y.node is None for y in (x * c, mg.concat([x, x]), mg.split(x, 1)[0], mg.exp(x), mg.sum(x)))
    assert (c * c).node is None and mg.concat([c, c]).node is None and mg.split(c, 1)[0].node is None


def test_the_rule_of_an_input_that_needs_no_gradient_does_not_run():
    @mg.primitive
    def product(xp, a, b, /):
        return a * b

    def never(g, a):
        raise AssertionError

    product.vjp(lambda g, b: g * b, never)
    a = mg.tensor([1.0], requires_grad=True)
    product(a, mg.tensor([2.0])).backward()
    assert a.grad.tolist() == [2.0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_primitive_of_several_outputs_sums_what_comes_back_by_each(backend):
    @mg.primitive
    def both(xp, x, /):
        return [x * 2, x * x]

    both.vjp(lambda g, x: g[0] * 2 + g[1] * x * 2)
    x = as_tensor(np.array([1.0, 3.0]), backend, requires_grad=True)
    double, square = both(x)
    (double + square).backward(np.ones(2))
    assert as_numpy(x.grad).tolist() == [4.0, 8.0]
    assert mg.gradcheck(both, [x], order=2)
    assert mg.gradcheck(lambda x: both(x)[1], [x], order=2)


def test_an_input_without_a_rule_takes_no_gradient_and_none_of_its_neighbours():
    @mg.primitive
    def product(xp, a, b, /):
        return a * b

    for first in (True, False):
        rule = (lambda g, a: g * a) if first else (lambda g, b: g * b)
        product.vjp(*((None, rule) if first else (rule, None)))
        a, b = (mg.tensor(v, requires_grad=True) for v in (3.0, 5.0))
        for _ in range(2):  # the second call takes the fast path, if there is one
            a.grad = b.grad = None
            product(a, b).backward()
        found = [None if t.grad is None else t.grad.item() for t in (a, b)]
        assert found == ([None, 3.0] if first else [5.0, None])
        with_rule_only = product(a, b.detach()) if first else product(a.detach(), b)
        assert not with_rule_only.requires_grad


def test_a_primitive_of_several_inputs_and_several_outputs_is_refused_before_its_gradient_is_lost():
    @mg.primitive
    def both(xp, a, b, /):
        return [a * b, a + b]

    both.vjp(lambda g, b: g[0] * b + g[1], lambda g, a: g[0] * a + g[1])
    a = mg.tensor(2.0, requires_grad=True)
    assert [float(y) for y in both(a.detach(), 3.0)] == [6.0, 5.0]
    with pytest.raises(errors.ArgumentError, match=r"^both: a formula of several outputs has a gradient by one array"):
        both(a, 3.0)
