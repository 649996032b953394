"""Operations element by element, with broadcasting, each beside its rules. `primitive` explains the notation."""

from __future__ import annotations

from typing import Any

from .. import backends
from ..tensor import Tensor
from .primitive import primitive

# Arithmetic


@primitive
def add(xp, x1, x2, /):
    """x1 + x2."""
    return x1 + x2


add.vjp(lambda g: g, lambda g: g)


@primitive
def subtract(xp, x1, x2, /):
    """x1 - x2."""
    return x1 - x2


subtract.vjp(lambda g: g, lambda g: -g)


@primitive
def multiply(xp, x1, x2, /):
    """x1 * x2, element by element."""
    return x1 * x2


multiply.vjp(lambda g, x2: g * x2, lambda g, x1: g * x1)


@primitive(floating=True)
def divide(xp, x1, x2, /):
    """x1 / x2. Integers are divided as float32."""
    return x1 / x2


def _dividend_rule(g, x2, xp):
    return g / x2 if isinstance(x2, (int, float)) else _over(xp, g, x2)


def _divisor_rule(g, y, x2, xp):
    nothing = (g == 0) & (x2 == 0)
    return -g / xp.where(nothing, 1.0, x2) * xp.where(nothing, 0.0, y)


divide.vjp(_dividend_rule, _divisor_rule)


@primitive
def remainder(xp, x1, x2, /):
    """x1 - floor(x1 / x2) * x2, which has the sign of x2. By x2 the gradient is that of floor(x1 / x2) kept fixed."""
    return xp.remainder(x1, x2)


remainder.vjp(lambda g: g, lambda g, x1, x2, y: g * ((y - x1) / x2))


@primitive
def negative(xp, x, /):
    """-x."""
    return -x


negative.vjp(lambda g: -g)


def pow(x1: Any, x2: Any, /) -> Tensor:
    """x1 to the power x2. A Python number as the exponent is a constant; otherwise both have gradients.

    At x1 = 0 the gradient is that of the limit: of x**0 it is 0, and it is 0 wherever the cotangent is.
    """
    x1, x2 = backends.as_number(x1), backends.as_number(x2)
    if isinstance(x2, (int, float)):
        if isinstance(x1, Tensor) and (isinstance(x2, float) or x2 < 0) and not backends.is_floating(x1.data):
            x1 = astype(x1, backends.float32)
        return power(x1, exponent=x2)
    if isinstance(x1, (int, float)) and isinstance(x2, Tensor):
        x1 = Tensor(backends.as_array(x1, x2.dtype, backends.namespace_of(x2.data)))
    return exponentiate(x1, x2)


@primitive
def power(xp, x, /, *, exponent):
    """x to a constant power."""
    return x * x if exponent == 2 else x**exponent


def _power_rule(g, x, exponent, xp):
    if exponent == 2:
        return g * (x * 2)
    if exponent == 0:
        return g * 0
    if exponent >= 1:
        slope = x ** (exponent - 1) * exponent
        return g * (slope if exponent % 1 == 0 else _where_wanted(xp, g, slope))
    return _over(xp, g * exponent, x ** (1 - exponent))


power.vjp(_power_rule)


@primitive(floating=True, name="pow")
def exponentiate(xp, x1, x2, /):
    """x1 to the power x2, both of them tensors."""
    return x1**x2


def _base_rule(g, x1, x2, xp):
    # x2 * x1**(x2-1), where 0 * inf is 0: for x2 = 0, and for a cotangent of 0
    zero = (x1 == 0) & (x2 < 1) & ((x2 == 0) | (g == 0))
    slope = xp.where(zero, 1.0, x1) ** xp.where(zero, 1.0, x2 - 1)
    return g * x2 * _where_wanted(xp, g, slope)


def _exponent_rule(g, x1, x2, y, xp):
    # y log(x1), whose limit at x1 = 0 is 0; log(x1) and, for x2 < 0, y may be NaN or infinite where g is 0
    nothing = (g == 0) & ((x1 <= 0) | (x1 != x1))
    limit = (x1 == 0) & (x2 >= 0)
    return g * xp.where(nothing, 0.0, y) * xp.log(xp.where(nothing | limit, 1.0, x1))


exponentiate.vjp(_base_rule, _exponent_rule)


def _over(xp, g, x):
    """g / x, but 0 where g is 0 and x is 0 or NaN: no cotangent, no gradient, however steep."""
    nothing = (g == 0) & ((x == 0) | (x != x))
    return g / xp.where(nothing, 1.0, x)


def _where_wanted(xp, g, slope):
    """The slope, but 0 where it is NaN and multiplies a cotangent of 0."""
    return xp.where((g == 0) & (slope != slope), 0.0, slope)


# Functions of one real variable


@primitive(floating=True)
def exp(xp, x, /):
    """e to the power x."""
    return xp.exp(x)


exp.vjp(lambda g, y: g * y)


@primitive(floating=True)
def log(xp, x, /):
    """Natural logarithm; -inf at 0."""
    return xp.log(x)


log.vjp(lambda g, x, xp: _over(xp, g, x))


@primitive(floating=True)
def log1p(xp, x, /):
    """log(1 + x), accurate for small x."""
    return xp.log1p(x)


log1p.vjp(lambda g, x, xp: _over(xp, g, 1 + x))


@primitive(floating=True)
def sqrt(xp, x, /):
    """Square root."""
    return xp.sqrt(x)


sqrt.vjp(lambda g, y, xp: _over(xp, g, 2 * y))


@primitive(floating=True)
def sin(xp, x, /):
    """Sine of x in radians."""
    return xp.sin(x)


sin.vjp(lambda g, x, xp: g * xp.cos(x))


@primitive(floating=True)
def cos(xp, x, /):
    """Cosine of x in radians."""
    return xp.cos(x)


cos.vjp(lambda g, x, xp: -g * xp.sin(x))


@primitive(floating=True)
def tanh(xp, x, /):
    """Hyperbolic tangent."""
    return xp.tanh(x)


tanh.vjp(lambda g, y: g - g * (y * y))


@primitive(floating=True)
def sigmoid(xp, x, /):
    """1 / (1 + exp(-x)), the logistic function; neither overflows nor loses the small values."""
    return xp.sigmoid(x)


sigmoid.vjp(lambda g, y: g * (y - y * y))


@primitive(floating=True)
def softplus(xp, x, /):
    """log(1 + exp(x)), without overflow."""
    return xp.logaddexp(x, xp.zeros((), dtype=x.dtype))


softplus.vjp(lambda g, x, xp: g * xp.sigmoid(x))


@primitive
def relu(xp, x, /):
    """max(x, 0); its gradient at 0 is 0."""
    return xp.maximum(x, 0)


relu.vjp(lambda g, y, xp: xp.where(y > 0, g, 0.0))


@primitive
def abs(xp, x, /):
    """|x|; its gradient at 0 is 0."""
    return xp.abs(x)


abs.vjp(lambda g, x, xp: g * xp.sign(x))


@primitive
def sign(xp, x, /):
    """-1, 0 or 1. Piecewise constant, so no gradient passes."""
    return xp.sign(x)


sign.vjp(None)


# Choices


@primitive
def maximum(xp, x1, x2, /):
    """The larger of x1 and x2. Where they are equal each gets half of the gradient."""
    return xp.maximum(x1, x2)


def _to_larger(xp, g, x, other):
    return xp.where(x > other, g, xp.where(x == other, g * 0.5, 0.0))


maximum.vjp(lambda g, x1, x2, xp: _to_larger(xp, g, x1, x2), lambda g, x1, x2, xp: _to_larger(xp, g, x2, x1))


@primitive
def minimum(xp, x1, x2, /):
    """The smaller of x1 and x2. Where they are equal each gets half of the gradient."""
    return xp.minimum(x1, x2)


minimum.vjp(lambda g, x1, x2, xp: _to_larger(xp, g, x2, x1), lambda g, x1, x2, xp: _to_larger(xp, g, x1, x2))


@primitive(name="clip")
def clipped(xp, x, /, *, min, max):
    """`clip` for floats, or for integers between integers."""
    return xp.clip(x, min, max)


clipped.vjp(lambda g, x, y, xp: xp.where(x == y, g, 0.0))


def clip(x: Any, /, min: float | None = None, max: float | None = None) -> Tensor:
    """x limited to [min, max], two numbers or None. The gradient passes within the limits, and at them."""
    min, max = backends.as_number(min), backends.as_number(max)
    if (
        isinstance(x, Tensor)
        and not backends.is_floating(x.data)
        and (isinstance(min, float) or isinstance(max, float))
    ):
        x = astype(x, backends.float32)
    return clipped(x, min=min, max=max)


@primitive
def where(xp, condition, x1, x2, /):
    """x1 where the condition holds, else x2. The branch that is not taken gets a gradient of exactly 0."""
    return xp.where(condition, x1, x2)


where.vjp(
    None,
    lambda g, condition, xp: xp.where(condition, g, 0.0),
    lambda g, condition, xp: xp.where(condition, 0.0, g),
)


# Dtype and backend


@primitive(name="astype")
def cast(xp, x, /, *, dtype):
    """x in the dtype of this name."""
    return xp.astype(x, xp.dtype(dtype))


cast.vjp(lambda g, x_dtype, xp: xp.astype(g, x_dtype))


def astype(x: Any, dtype: Any, /) -> Tensor:
    """x in another dtype ("float64", mg.float64, ...). The gradient comes back in that of x, and none from integers."""
    name = backends.dtype_name(dtype)
    if isinstance(x, Tensor) and name not in backends.FLOATING:
        x = x.detach()
    return cast(x, dtype=name)


@primitive(name="to")
def move(xp, x, /, *, source, target):
    """x as an array of the backend `target`."""
    return backends.get(target).from_numpy(xp.to_numpy(x))


move.vjp(lambda g, source: to(g, source))


def to(x: Any, backend: str, /) -> Any:
    """x on another backend; the gradient comes back to the backend of x. Tensors, or plain arrays."""
    if isinstance(x, Tensor):
        return move(x, source=x.backend, target=backend)
    return backends.get(backend).from_numpy(backends.namespace_of(x).to_numpy(x))
