"""The checkers are checked: right rules pass, every kind of wrong rule is caught, anomalies are found where born."""

from __future__ import annotations

import inspect
import re
from types import SimpleNamespace

import numpy as np
import pytest

import minigrad as mg
from minigrad import graph
from minigrad.check import anomaly
from minigrad.errors import AnomalyError, ArgumentError, DtypeError, GradcheckError

POINT = [[0.5, -1.25], [2.0, 0.75]]


def leaf(*values: float) -> mg.Tensor:
    return mg.tensor(values, requires_grad=True)


# gradcheck accepts what is right


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize(
    ("f", "inputs"),
    [
        (mg.tanh, [POINT]),
        (lambda x, y: x * y + mg.sin(x), [POINT, [1.0, 2.0]]),
        (lambda x: mg.split(x, 2, axis=1), [POINT]),
        (lambda x: {"a": (x * x, [mg.exp(x)]), "b": None}, [0.5]),
        (lambda x, i: x[i] ** 2, [POINT, np.array([1, 1, 0])]),
        (lambda x, n: x * n, [POINT, np.array([3, 4])]),
        (lambda x: (x * x, x.argmax()), [POINT]),
        (lambda x: x**3 * 1e6, [1.0]),
        (lambda x: x**3 * 1e-2, [1.0]),
        (lambda x: x * 1.0, [1e6]),
        (lambda x: mg.zeros((2,)) * 1.0, [POINT]),
        (mg.remat(lambda x: mg.sin(x) * x), [POINT]),
        (lambda x: mg.where(x > 0, mg.sqrt(mg.where(x > 0, x, 1.0)), 0.0), [POINT]),
    ],
)
def test_a_right_gradient_passes(f, inputs, order):
    report = mg.gradcheck(f, inputs, order=order)
    assert report and report.worst < 1e-6 and not report.mismatches
    assert str(report).startswith(f"gradcheck: {report.compared} elements agree")


def test_every_element_of_every_float_is_compared_and_no_integer(backend):
    x = mg.tensor(POINT, backend=backend)
    index = mg.tensor(np.array([0, 1]), backend=backend)
    assert mg.gradcheck(lambda x, i, y: x[i] * y, [x, index, mg.tensor(2.0, backend=backend)]).compared == 5
    assert mg.gradcheck(lambda x: x.sum(), [x], order=2).compared == 4 + (4 + 1)


def test_inputs_are_taken_as_float64_and_left_as_they_are():
    x = leaf(0.5, 1.0)
    seen = []

    def f(x, i):
        seen.append((x.dtype, i.dtype))
        return x * 2.0

    i = np.array([1])
    mg.gradcheck(f, [x, i])
    assert set(seen) == {(mg.float64, mg.int64)}
    assert x.tolist() == [0.5, 1.0] and x.grad is None and x.dtype == mg.float32 and i.tolist() == [1]


def test_without_a_float_there_is_nothing_to_check():
    with pytest.raises(ArgumentError, match="no input is a float"):
        mg.gradcheck(lambda i: i, [np.array([1])])
    with pytest.raises(ArgumentError, match="order is 1 or 2, not 3"):
        mg.gradcheck(mg.tanh, [1.0], order=3)
    with pytest.raises(DtypeError):
        mg.gradcheck(mg.tanh, ["a"])


# and rejects what is wrong


def product(rule1, rule2):
    """x1 * x2 with these rules."""

    @mg.primitive
    def wrong(xp, x1, x2, /):
        """x1 * x2."""
        return x1 * x2

    wrong.vjp(rule1, rule2)
    return wrong


RIGHT1, RIGHT2 = (lambda g, x2: g * x2), (lambda g, x1: g * x1)
WRONG = {
    "sign": (product(lambda g, x2: -g * x2, RIGHT2), r"ratio is -1 everywhere: a sign is wrong"),
    "factor": (product(RIGHT1, lambda g, x1: g * x1 * 2), r"ratio is 2 everywhere: a constant factor is wrong"),
    "a missing operand": (product(lambda g: g, RIGHT2), "input 0"),
    "the wrong operand": (product(lambda g, x1: g * x1, RIGHT2), "input 0"),
    "zero": (product(RIGHT1, lambda g: g * 0), r"ratio is 0 everywhere: the rule answers 0"),
    "no rule": (product(RIGHT1, None), r"ratio is 0 everywhere: .*cut from the graph"),
    "a missing cotangent": (product(lambda g, x2: g * 0 + x2, RIGHT2), "input 0"),
    "NaN": (product(RIGHT1, lambda g: g * float("nan")), "nan"),
    "one element": (product(lambda g, x2, xp: xp.where(x2 == 2.0, 0.0, g * x2), RIGHT2), "2 of 6 elements differ"),
    "a part in a thousand": (product(lambda g, x2: g * x2 * 1.001, RIGHT2), "1.0010"),
    "a part in a hundred thousand": (product(lambda g, x2: g * x2 * 1.00001, RIGHT2), "input 0"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_rule_is_rejected(name):
    f, message = WRONG[name]
    with pytest.raises(GradcheckError, match=message) as caught:
        mg.gradcheck(f, [POINT, [1.5, 2.0]])
    assert isinstance(caught.value, AssertionError)
    with pytest.raises(GradcheckError, match="differ from finite differences"):
        mg.gradcheck(f, [[1.0, 3.0], [[1.5, 2.0], [2.5, -3.0]]])


def test_a_wrong_rule_for_one_of_several_outputs_is_rejected():
    @mg.primitive
    def halves(xp, x, /):
        """The two halves of x."""
        return xp.split(x, (2, 2), axis=0)

    halves.vjp(lambda g, xp: xp.concat([g[1], g[0]], axis=0))
    with pytest.raises(GradcheckError, match="4 of 4 elements differ"):
        mg.gradcheck(halves, [[1.0, 2.0, 3.0, 4.0]])
    halves.vjp(lambda g, xp: xp.concat([g[0], g[1] * 0.5], axis=0))
    with pytest.raises(GradcheckError, match="2 of 4 elements differ"):
        mg.gradcheck(halves, [[1.0, 2.0, 3.0, 4.0]])
    halves.vjp(lambda g, xp: xp.concat(g, axis=0))
    assert mg.gradcheck(halves, [[1.0, 2.0, 3.0, 4.0]], order=2)


def cube():
    @mg.primitive
    def cubed(xp, x, /):
        """x**3."""
        return x * x * x

    return cubed


def cut(x):
    """x without its graph, where it is a tensor."""
    return x.detach() if isinstance(x, mg.Tensor) else x


@pytest.mark.parametrize(
    ("rule", "culprit"),
    [
        (lambda g, x: g * (3 * cut(x) * x), "input 0"),  # half of the second derivative
        (lambda g, x: g * (3 * cut(x) * cut(x)), "input 0"),  # none of it
        (lambda g, x: cut(g) * (3 * x * x), "cotangent 0"),  # a gradient that is not linear in its cotangent
    ],
)
def test_a_rule_that_is_right_to_first_order_and_wrong_to_second_is_rejected_at_order_2(rule, culprit):
    wrong = cube()
    wrong.vjp(rule)
    assert mg.gradcheck(wrong, [[0.5, 2.0]])
    with pytest.raises(GradcheckError, match=rf"\n +2  {culprit}\[0\]"):
        mg.gradcheck(wrong, [[0.5, 2.0]], order=2)


def test_the_report_lists_order_element_both_values_and_their_ratio():
    wrong = cube()
    wrong.vjp(lambda g, x: g * 6 * x * x)
    with pytest.raises(GradcheckError) as caught:
        mg.gradcheck(wrong, [[2.0, 1.0]], names=["velocity"])
    lines = str(caught.value).splitlines()
    assert lines[0] == "gradcheck: 2 of 2 elements differ from finite differences"
    assert lines[1].split() == ["order", "element", "backward", "difference", "ratio"]
    order, element, backward, difference, ratio = lines[2].split()
    assert (order, element, ratio) == ("1", "velocity[0]", "2.0000")
    assert float(backward) == pytest.approx(2 * float(difference), rel=1e-5)
    assert lines[-1].strip() == "The ratio is 2 everywhere: a constant factor is wrong."


def test_a_long_report_is_cut_short():
    wrong = cube()
    wrong.vjp(lambda g, x: g * x)
    with pytest.raises(GradcheckError, match=r"(?s)30 of 30.*\.\.\. and 18 more") as caught:
        mg.gradcheck(wrong, [np.linspace(1, 2, 30).reshape(5, 6)])
    assert len(str(caught.value).splitlines()) < 18
    caught.match(r"input 0\[0, 1\]")


def test_a_kink_at_the_point_is_no_agreement():
    with pytest.raises(GradcheckError):
        mg.gradcheck(mg.relu, [0.0])
    assert mg.gradcheck(mg.relu, [0.5])


def test_an_infinite_difference_hides_no_other():
    with np.errstate(over="ignore"), pytest.raises(GradcheckError, match="2 of 2 elements differ"):
        mg.gradcheck(lambda x: mg.stack([x[0] * 1.0, mg.exp(x[1])]), [np.array([0.5, 709.782712893384])])


def test_a_detached_part_is_found():
    with pytest.raises(GradcheckError, match=r"ratio is 0\.5 everywhere"):
        mg.gradcheck(lambda x: x * x.detach(), [[1.0, 2.0]])


# detect_anomaly


def born(f, *args) -> str:
    """The message of the anomaly that f(*args) raises."""
    with np.errstate(all="ignore"), mg.detect_anomaly(), pytest.raises(AnomalyError) as caught:
        f(*args)
    assert isinstance(caught.value, ArithmeticError)
    return str(caught.value)


@pytest.mark.parametrize("x", [leaf(1.0, 0.0), mg.tensor([1.0, 0.0])], ids=["recorded", "not recorded"])
@pytest.mark.parametrize(
    ("f", "message"),
    [
        (lambda x: mg.log(x), r"^log made -inf \(at index \(1,\) of shape \(2,\)\) from finite numbers, at "),
        (lambda x: x / x, r"^divide made nan \(at index \(1,\)"),
        (lambda x: 1.0 / x, r"^divide made inf \(at index \(1,\)"),
        (lambda x: mg.exp(x * 1000.0), r"^exp made inf \(at index \(0,\)"),
        (lambda x: mg.sqrt(x - 0.5), r"^sqrt made nan \(at index \(1,\)"),
        (lambda x: (x - 1.0) ** -1.0, r"^power made inf \(at index \(0,\)"),
        (lambda x: mg.split(mg.log(x), 2), r"^log made"),
        (lambda x: (x * 3e38).sum() * 3.0, r"^multiply made inf \(at index \(\) of shape \(\)\)"),
    ],
)
def test_the_operation_that_makes_the_first_bad_number_is_named(f, message, x):
    assert re.search(message, born(f, x))


def line_of(f, text: str) -> str:
    """`file:line: text`, for the line of f that contains the text."""
    lines, first = inspect.getsourcelines(f)
    (offset,) = [i for i, line in enumerate(lines) if text in line]
    return f"{__file__}:{first + offset}: {lines[offset].strip()}"


def test_the_message_has_the_users_line():
    def f(x):
        y = x * 1.0
        return mg.mean(mg.log(y))  # here

    assert born(f, leaf(0.0)).endswith(line_of(f, "# here"))


def test_an_anomaly_in_a_backward_pass_names_the_operation_and_the_line_of_its_forward_call():
    def f(x):
        y = x * 2.0
        y = mg.sqrt(y)  # the culprit
        y = y + 1.0
        y.sum().backward()

    message = born(f, leaf(1.0, 0.0))
    assert message.startswith("the backward formula of sqrt made inf (at index (1,) of shape (2,))")
    assert message.endswith(line_of(f, "# the culprit"))


def test_an_anomaly_in_a_backward_pass_changes_no_gradient():
    x = leaf(0.0)
    born(lambda: (mg.sqrt(x) + x).sum().backward())
    assert x.grad is None


def test_an_anomaly_in_a_gradient_of_a_gradient_is_found():
    assert "made" in born(lambda: mg.grad(lambda x: mg.grad(lambda x: (x**1.5).sum())(x).sum())(mg.tensor([0.0])))


def test_a_graph_from_before_is_checked_without_its_line():
    y = mg.sqrt(leaf(0.0))
    assert "sqrt made inf (at index (0,) of shape (1,)); the forward call was at a place outside" in born(y.backward)


def test_zero_cotangents_make_no_anomaly():
    x = leaf(1.0, 0.0)
    with np.errstate(all="ignore"), mg.detect_anomaly():
        mg.where(x > 0, mg.sqrt(x), 0.0).sum().backward()
    assert x.grad.tolist() == [0.5, 0.0]


def test_inputs_that_are_infinite_already_are_no_anomaly():
    x = mg.tensor([1.0, -float("inf")])
    with np.errstate(all="ignore"), mg.detect_anomaly():
        y = mg.exp(x) + 0.0 * x
        assert np.isnan(y.numpy()[1])
        assert mg.softmax(x).tolist() == [1.0, 0.0]
        assert mg.logsumexp(x, axis=0).item() == 1.0
        mg.tensor([float("nan")]) * 2.0
        x[1], x.reshape(2, 1), mg.isfinite(x)


def test_finite_computations_and_integers_pass_and_give_the_same():
    def f():
        x = leaf(0.5, 1.0)
        y = mg.tanh(x) * mg.tensor(np.array([1, 2])) + x[0] * x[[1, 1]] + mg.split(x, 2)[1]
        y.sum().backward()
        return x.grad.tolist()

    with mg.detect_anomaly():
        checked = f()
    assert checked == f()


def test_nested_checks_end_one_by_one_also_when_they_raise():
    with np.errstate(all="ignore"):
        with mg.detect_anomaly() as outer:
            with pytest.raises(AnomalyError), mg.detect_anomaly():
                mg.log(leaf(0.0))
            assert graph.watcher.get() is outer
            with outer:
                pass
            with pytest.raises(AnomalyError):
                mg.log(leaf(0.0))
        assert graph.watcher.get() is None
        assert mg.log(leaf(0.0)).item() == -float("inf")


def test_the_check_holds_no_graph_alive_after_its_block():
    with mg.detect_anomaly() as anomaly:
        x = leaf(1.0)
        y = x * 2.0
        assert y.node in anomaly._origins
    assert not anomaly._origins


def test_a_users_directory_whose_name_begins_as_minigrads_own_is_the_users(monkeypatch):
    code = SimpleNamespace(co_filename=anomaly._PACKAGE.rstrip("/\\") + "_models/cell.py")
    users = SimpleNamespace(f_code=code, f_lineno=7, f_back=SimpleNamespace())
    inside = SimpleNamespace(f_code=SimpleNamespace(co_filename=anomaly.__file__), f_lineno=1, f_back=users)
    monkeypatch.setattr(anomaly.sys, "_getframe", lambda depth: inside)
    assert anomaly._users_line() == f"{code.co_filename}:7"


def test_cotangents_that_overflow_only_as_a_sum_are_found():
    y = mg.tensor([1.0], requires_grad=True)
    with mg.detect_anomaly(), np.errstate(over="ignore"), pytest.raises(AnomalyError, match="inf"):
        mg.concat([y * 1.0, y * 1.0]).backward([3e38, 3e38])


def test_a_cotangent_that_was_infinite_from_the_start_is_blamed_on_no_operation():
    y = mg.tensor([1.0], requires_grad=True)
    with mg.detect_anomaly():
        (y * 2.0).backward([np.inf])
    assert y.grad.tolist() == [np.inf]
