"""The lines that a random step function may have, each chosen by the shapes of the values that there are so far."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

import minigrad as mg

TOKENS = 4  # integer inputs are below this
LARGE = 10.0  # what grows beyond is squashed, so that rounding is not what the tests see


class Pair(NamedTuple):
    """A state or an output with names."""

    first: Any
    second: Any


@mg.primitive
def swish(xp, x, /):
    """A primitive of a user: x sigmoid(x)."""
    return x * xp.sigmoid(x)


swish.vjp(lambda g, x, y, xp: g * (xp.sigmoid(x) * (1 - y) + y))


@mg.primitive
def distance(xp, x1, x2, /, *, axis):
    """A primitive of a user, of two tensors: sqrt(1 + sum (x1 - x2)^2)."""
    d = x1 - x2
    return xp.sqrt(xp.sum(d * d, axis=axis, keepdims=True) + 1)


distance.vjp(lambda g, x1, x2, y: g * (x1 - x2) / y, lambda g, x1, x2, y: g * (x2 - x1) / y)

NAMES = {"mg": mg, "np": np, "Pair": Pair, "swish": swish, "distance": distance}


@dataclass(frozen=True)
class Given:
    """A tensor that a program is given: its name, its shape (without time), and what kind of numbers it holds."""

    name: str
    shape: tuple[int, ...]
    kind: str = "float"

    def array(self, rng: np.random.Generator, dtype: str, steps: int | None = None) -> np.ndarray:
        """Values for it; with time as the first axis if there are steps."""
        shape = self.shape if steps is None else (steps, *self.shape)
        if self.kind == "float":
            return rng.normal(scale=0.7, size=shape).astype(dtype)
        if self.kind == "mask":
            return rng.random(shape) < 0.5
        return rng.integers(TOKENS, size=shape)


class Writer:
    """A program that grows: the lines so far, and an example of each value."""

    def __init__(self, draw: Callable[[Any], Any], dtype: str, batch: int):
        self.draw, self.dtype, self.batch = draw, dtype, batch
        self.sizes = [draw(st.integers(1, 4)), draw(st.integers(1, 4))]  # that fit each other more often than not
        self.rng = np.random.default_rng(0)
        self.values: dict[str, Any] = {}
        self.lines: list[str] = []
        self.unused: list[str] = []
        self.weights: list[Given] = []
        self.context: list[Given] = []
        self.count = 0

    # What there is

    def give(self, given: Given) -> str:
        self.values[given.name] = mg.tensor(given.array(self.rng, "float64"))
        if given not in self.weights and given not in self.context:
            self.unused.append(given.name)
        return given.name

    def kind(self, name: str) -> str:
        kind = np.asarray(self.values[name].data).dtype.kind
        return {"f": "float", "b": "mask"}.get(kind, "integer")

    def shape(self, name: str) -> tuple[int, ...]:
        return self.values[name].shape

    def names(self, fits: Callable[[tuple[int, ...]], bool] = lambda shape: True, kind: str = "float") -> list[str]:
        """The values of a kind whose shape fits."""
        given = {g.name for g in (*self.weights, *self.context)}
        return [n for n in self.values if self.kind(n) == kind and fits(self.shape(n)) and n not in given]

    def pick(
        self,
        fits: Callable[[tuple[int, ...]], bool] = lambda shape: True,
        kind: str = "float",
        apart: tuple[str, ...] = (),
    ) -> str | None:
        """One of them, more often one that nothing has used yet, and not one of `apart`; None if there is none."""
        found = self.names(fits, kind)
        fresh = [n for n in found if n in self.unused and n not in apart]
        other = [n for n in found if n not in apart]
        for better in (fresh, other):
            if better and self.draw(st.integers(0, 3)):
                return self.draw(st.sampled_from(better))
        return self.draw(st.sampled_from(found)) if found else None

    def use(self, expression: str) -> str:
        """The expression; what it names is used."""
        self.unused = [n for n in self.unused if n not in re.findall(r"\w+", expression)]
        return expression

    def one(self, *options: Any) -> Any:
        return self.draw(st.sampled_from(options))

    def size(self) -> int:
        return self.draw(st.sampled_from([*self.sizes, *self.sizes, 1, 2, 3]))

    def weight(self, *shape: int) -> str:
        """A weight of this shape: one that there is, or a new one, closed over or from the context."""
        there = [g.name for g in (*self.weights, *self.context) if g.shape == shape and g.kind == "float"]
        if there and self.draw(st.booleans()):
            return self.draw(st.sampled_from(there))
        if self.draw(st.integers(0, 3)) < 3:
            given = Given(f"W{len(self.weights)}", shape)
            self.weights.append(given)
        else:
            given = Given(f"c{len(self.context)}", shape)
            self.context.append(given)
        return self.give(given)

    def axis(self, name: str, several: bool = True) -> Any:
        ndim = len(self.shape(name))
        options: list[Any] = list(range(-1, ndim - 1)) if ndim else []
        if several or not options:
            options += [None, *([(0, -1)] if ndim > 1 else [])]
        return self.draw(st.sampled_from(options))

    # How it grows

    def evaluate(self, expression: str) -> Any:
        with mg.no_grad():
            return eval(expression, dict(NAMES), self.values)

    def add(self, expression: str, targets: int = 1) -> list[str]:
        """A line that gives an expression a name, or its several values."""
        new = [f"v{self.count + i}" for i in range(targets)]
        self.count += targets
        result = self.evaluate(self.use(expression))
        self.values.update(zip(new, result if targets > 1 else [result]))
        self.unused += new
        self.lines.append(f"{', '.join(new)} = {expression}")
        for name in new:
            y = np.asarray(self.values[name].data)
            assert y.size and np.isfinite(y).all(), (self.lines, y)
            if y.dtype.kind == "f" and np.abs(y).max() > LARGE:
                self.values[name] = self.evaluate(f"mg.tanh({name})")
                self.lines.append(f"{name} = mg.tanh({name})")
        return new


def broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    """Whether a value of this shape can stand beside one of another, and the result has the other's shape."""
    return len(shape) <= len(to) and all(n in (1, m) for n, m in zip(shape[::-1], to[::-1]))


def together(shape: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return all(n == m or 1 in (n, m) for n, m in zip(shape[::-1], other[::-1]))


# The lines that there may be. Each function writes one, or answers False where nothing fits.

UNARY = [
    *("mg.tanh({a})", "mg.sigmoid({a})", "1 - {a}", "0.5 * {a}", "-{a}", "mg.relu({a})", "mg.softplus({a})"),
    *("mg.exp(mg.tanh({a}))", "mg.exp(mg.clip({a}, -1, 1.5))", "mg.sqrt({a} * {a} + 0.5)", "mg.sin({a})"),
    *("mg.cos({a})", "mg.log(1.5 + mg.tanh({a}))", "mg.log1p({a} * {a})", "{a} ** 2", "{a} ** 3", "{a} ** 0"),
    *("(1.5 + mg.tanh({a})) ** -0.5", "2.0 ** mg.tanh({a})", "2 / (3 + mg.tanh({a}))", "abs({a})", "{a} / 3"),
    *("mg.clip({a}, -0.5, 0.7)", "mg.clip({a}, min=-0.3)", "{a}.clip(max=0.4)", "{a}.detach()", "mg.sign({a})"),
    *("{a} * {a}", "{a} + {a}", "{a} - 0.0", "{a} * mg.ones({a}.shape, dtype=mg.{dtype})", "swish({a})"),
    *("{a} * np.float32(0.3)", "mg.where(mg.isfinite({a}), {a}, 0.0)", "mg.where({a} > 0.1, {a}, 0.2 * {a})"),
    *("mg.where({a} > 0, mg.log(mg.maximum({a}, 0.1)), {a})", "mg.maximum({a}, 0.2)", "mg.minimum(0.5, {a})"),
    *("{a} + np.array(0.25, np.{dtype})", "(lambda z: z * mg.sigmoid(z))({a})", "{a}.astype(mg.{dtype})"),
    *("mg.no_grad()(mg.tanh)({a}) + {a}", "mg.abs({a}) ** 1.5"),
]

BINARY = [
    *("{a} + {b}", "{a} - {b}", "{a} * {b}", "{a} / (2 + mg.tanh({b}))", "mg.maximum({a}, {b})"),
    *("mg.minimum({a}, {b})", "mg.where({a} > {b}, {a}, {b} - {a})", "(1.5 + mg.tanh({a})) ** mg.tanh({b})"),
    *("mg.where({b} <= 0.1, 0.0, {a})", "{a} * mg.sigmoid({b})", "{a} + {b}.detach()", "{a} / mg.exp(mg.tanh({b}))"),
    *("{a} * (1 - {b}) + {b}", "distance({a}, {b}, axis=-1)"),
]


def unary(w: Writer) -> Any:
    a = w.pick()
    return a and w.add(w.one(*UNARY).format(a=a, dtype=w.dtype))


def binary(w: Writer) -> Any:
    a = w.pick()
    b = a and w.pick(lambda shape: together(shape, w.shape(a)), apart=(a,))
    form = w.one(*BINARY)
    if b and "axis" in form and not (w.shape(a) and w.shape(b)):
        return False
    return b and w.add(form.format(a=a, b=b))


def gate(w: Writer) -> Any:
    """The convex combination, with its gate written twice."""
    a = w.pick()
    b = a and w.pick(lambda s: broadcasts(s, w.shape(a)), apart=(a,))
    z = a and w.pick(lambda s: broadcasts(s, w.shape(a)), apart=(a, b))
    return a and w.add(f"mg.sigmoid({z}) * {a} + (1 - mg.sigmoid({z})) * {b}")


def has_rows(shape: tuple[int, ...]) -> bool:
    return len(shape) >= 1


def product(w: Writer) -> Any:
    a = w.pick(has_rows)
    if not a:
        return False
    n, m = w.shape(a)[-1], w.size()
    form = w.one("{a} @ {W}", "mg.linear({a}, {V})", "mg.linear({a}, {V}, {b})", "{a} @ {W} + {b}", "{a} @ {V}.T")
    needs = {"a": a}
    for letter, shape in (("W", (n, m)), ("V", (m, n)), ("b", (m,))):
        if f"{{{letter}}}" in form:
            needs[letter] = w.weight(*shape)
    return w.add(form.format(**needs))


def joint(w: Writer, outputs: int) -> str | None:
    """[a, b] times weights, in one of the ways to write it."""
    a = w.pick(lambda s: len(s) == 2)
    b = a and w.pick(lambda s: len(s) == 2 and s[0] == w.shape(a)[0], apart=(a,))
    if not a:
        return None
    n, m = w.shape(a)[-1], w.shape(b)[-1]
    form = w.one("concat", "concat bias", "linear", "sum", "sum bias", "two linear", "three")
    if form == "concat":
        return f"mg.concat([{a}, {b}], axis=-1) @ {w.weight(n + m, outputs)}"
    if form == "concat bias":
        return f"mg.concat([{a}, {b}], axis=1) @ {w.weight(n + m, outputs)} + {w.weight(outputs)}"
    if form == "linear":
        return f"mg.linear(mg.concat([{a}, {b}], axis=-1), {w.weight(outputs, n + m)}, {w.weight(outputs)})"
    if form == "sum":
        return f"{a} @ {w.weight(n, outputs)} + {b} @ {w.weight(m, outputs)}"
    if form == "sum bias":
        return f"{a} @ {w.weight(n, outputs)} + {b} @ {w.weight(m, outputs)} + {w.weight(outputs)}"
    if form == "two linear":
        return f"mg.linear({a}, {w.weight(outputs, n)}, {w.weight(outputs)}) + mg.linear({b}, {w.weight(outputs, m)})"
    return f"mg.concat([{a}, {b}, {a} * 0.5], axis=-1) @ {w.weight(n + m + n, outputs)}"


def joined(w: Writer) -> Any:
    expression = joint(w, w.size())
    return expression and w.add(w.one("{}", "mg.tanh({})", "mg.sigmoid({})").format(expression))


def gates(w: Writer) -> Any:
    """A product cut into parts, of which some may stay unused."""
    sizes = w.draw(st.lists(st.integers(1, 3), min_size=2, max_size=4))
    if w.draw(st.booleans()):
        sizes = [sizes[0]] * len(sizes)
    expression = joint(w, sum(sizes))
    if not expression:
        return False
    (whole,) = w.add(expression)
    if len(set(sizes)) == 1:
        return w.add(f"mg.split({whole}, {len(sizes)}, axis={w.one(-1, 1)})", len(sizes))
    return w.add(f"{whole}.split({sizes}, axis=-1)", len(sizes))


def reduction(w: Writer) -> Any:
    a = w.pick(has_rows)
    if not a:
        return False
    op, keep = w.one("sum", "mean", "max", "min", "logsumexp"), w.one(True, False)
    return w.add(f"mg.{op}({a}, axis={w.axis(a)}, keepdims={keep})")


def normalised(w: Writer) -> Any:
    a = w.pick(has_rows)
    return a and w.add(
        w.one(
            "mg.softmax({a})",
            "mg.softmax({a}, axis=0)",
            "mg.log_softmax({a})",
            "{a} - mg.mean({a}, axis=-1, keepdims=True)",
            "{a} / mg.sqrt(mg.mean({a} * {a}, axis=-1, keepdims=True) + 0.1)",
            "{a} - mg.max({a}, axis=-1, keepdims=True)",
            "mg.broadcast_to(mg.expand_dims(mg.sum({a}, axis=-1), axis=-1), {a}.shape) * 0.3",
        ).format(a=a)
    )


def along(w: Writer) -> Any:
    a = w.pick(has_rows)
    form = w.one("mg.cumulative_sum({a}, axis={axis})", "mg.flip({a}, axis={axis})")
    return a and w.add(form.format(a=a, axis=w.axis(a, several=False)))


def arranged(w: Writer) -> Any:
    a = w.pick()
    if not a:
        return False
    shape = w.shape(a)
    forms = [f"mg.reshape({a}, {shape[::-1]})", f"mg.expand_dims({a}, axis=0)", f"mg.expand_dims({a}, axis=-1)"]
    forms += [f"{a}[..., None]", f"mg.broadcast_to({a}, {(2, *shape)})"]
    if len(shape) >= 1:
        forms += [f"{a}.reshape(-1)", f"{a}.T", f"mg.reshape({a}, {(1, *shape)})"]
    if len(shape) >= 2:
        forms += [f"mg.matrix_transpose({a})", f"mg.permute_dims({a}, {tuple(range(len(shape)))[::-1]})"]
    if 1 in shape:
        forms += [f"mg.squeeze({a})", f"mg.broadcast_to({a}, {tuple(3 if n == 1 else n for n in shape)})"]
    if shape and shape[-1] % 2 == 0:
        forms += [f"mg.reshape({a}, {(*shape[:-1], 2, shape[-1] // 2)})"]
    return len(shape) < 4 and w.add(w.one(*forms))


def stacked(w: Writer) -> Any:
    a = w.pick(lambda s: len(s) < 4)
    b = a and w.pick(lambda s: s == w.shape(a), apart=(a,))
    if not a:
        return False
    if w.shape(a) and w.draw(st.booleans()):
        return w.add(f"mg.concat([{a}, {b}], axis={w.axis(a, several=False)})")
    return w.add(f"mg.stack([{a}, {b}, {a}], axis={w.one(0, -1)})")


def unstacked(w: Writer) -> Any:
    a = w.pick(lambda s: len(s) >= 1 and s[-1] > 1)
    return a and w.add(f"mg.unstack({a}, axis=-1)", w.shape(a)[-1])


def indexed(w: Writer) -> Any:
    """Parts by plain indices, and by arrays of constants."""
    a = w.pick(has_rows)
    if not a:
        return False
    shape = w.shape(a)
    forms = ["{a}[0]", "{a}[-1]", "{a}[..., 0]", "{a}[..., -1:]", "{a}[::-1]", "{a}[None]", "{a}[..., [0, -1, 0]]"]
    forms += ["mg.take({a}, np.array([0, 0, -1]), axis=-1)", "{a}[np.array([[0, -1]])]", "{a}[0:1]", "{a}[0:]"]
    forms += ["mg.index_update({a}, 0, 0.5)", "mg.index_add({a}, [0, 0], 0.5)"]
    forms += ["mg.index_update({a}, (..., slice(0, 1)), 0.5 * {a}[..., -1:])"]
    forms += [f"mg.scatter({{a}}, (slice(None), ..., slice(0, {shape[-1]})), {(*shape[:-1], shape[-1] + 1)})"]
    if len(shape) == 1:
        forms.pop()
    if len(shape) >= 2:
        forms += ["{a}[:, 0]", "{a}[:, :1]", "{a}[0, -1]", "{a}[:, None, -1]", "{a}[-1:, ::2]"]
    return w.add(w.one(*forms).format(a=a))


def looked_up(w: Writer) -> Any:
    """Rows of a table, or one entry of each row, by integers that are known only when it runs."""
    n = w.pick(lambda s: len(s) <= 1, "integer")
    if not n:
        return False
    index = f"mg.clip({n}, 0, {TOKENS - 1})"
    forms = ["embedding", "take", "one_hot", "float"]
    rows = w.names(lambda s: len(s) == 2 and w.shape(n) == s[:1])
    if rows:
        forms += ["take_along_axis", "index"]
    form = w.one(*forms)
    if form == "embedding":
        return w.add(f"mg.embedding({w.weight(TOKENS, w.size())}, {index})")
    if form == "take":
        return w.add(f"mg.take({w.weight(TOKENS, w.size())}, {index} - {TOKENS}, axis=0)")
    if form == "one_hot":
        return w.add(f"mg.one_hot({index}, {TOKENS}, dtype=mg.{w.dtype}) @ {w.weight(TOKENS, w.size())}")
    if form == "float":
        return w.add(f"{n}.astype(mg.{w.dtype}) * 0.1")
    a = w.draw(st.sampled_from(rows))
    index = f"mg.clip({n}, 0, {w.shape(a)[-1] - 1})"
    if form == "index":
        return w.add(f"{a}[mg.arange({w.shape(a)[0]}), {index}]")
    return w.add(f"mg.take_along_axis({a}, mg.expand_dims({index}, axis=-1), axis=-1)")


def chosen(w: Writer) -> Any:
    m = w.pick(kind="mask")
    a = m and w.pick(lambda s: s[: len(w.shape(m))] == w.shape(m))
    b = a and w.pick(lambda s: broadcasts(s, w.shape(a)), apart=(a,))
    if not b:
        return False
    wide = f"mg.reshape({m}, {(*w.shape(m), *(1,) * (len(w.shape(a)) - len(w.shape(m))))})"
    return w.add(
        w.one(f"mg.where({wide}, {a}, {b})", f"{a} * {wide}.astype(mg.{w.dtype})", f"mg.where({wide}, 0, {a})")
    )


def compared(w: Writer) -> Any:
    a = w.pick()
    b = a and w.pick(lambda s: together(s, w.shape(a)), apart=(a,))
    m = w.pick(kind="mask")
    forms = [f"{a} > {b}", f"{a} <= 0.1", f"mg.isfinite({a})", f"mg.not_equal({a}, {a} + 1)"]
    if m:
        forms += [f"~{m}", f"{m} & ({a} < 0.1)" if together(w.shape(m), w.shape(a)) else f"~{m}", f"mg.any({m})"]
        forms += [f"mg.all({m}, axis=0)"] if w.shape(m) else []
    return a and w.add(w.one(*forms))


def counted(w: Writer) -> Any:
    n, m, a = w.pick(kind="integer"), w.pick(kind="mask"), w.pick(has_rows)
    forms = []
    if n:
        forms += [f"{n} + 1", f"{n} * 2 - {n}", f"{n} % 3", f"mg.maximum({n}, 1)", f"abs({n})"]
    if m:
        forms += [f"{m}.astype(mg.int64)", f"mg.sum({m}.astype(mg.int64))"]
    if a:
        forms += [f"mg.argmax({a}, axis=-1)", f"mg.sum(({a} > 0).astype(mg.int64), axis=-1)"]
    return bool(forms) and w.add(w.one(*forms))


def questioned(w: Writer) -> Any:
    n = w.pick(kind="integer")
    return n and w.add(w.one(f"{n} > 1", f"mg.equal({n}, 2)", f"{n} <= 0"))


def attention(w: Writer) -> Any:
    """Scores of rows of a memory in the context, and what is read from it."""
    a = w.pick(lambda s: len(s) == 2 and s[0] == w.batch)
    if not a:
        return False
    given = Given(f"c{len(w.context)}", (w.batch, 3, w.shape(a)[-1]))
    w.context.append(given)
    memory = w.give(given)
    (p,) = w.add(f"mg.softmax(mg.squeeze({memory} @ mg.expand_dims({a}, axis=-1), -1))")
    return w.add(
        w.one(f"mg.squeeze(mg.expand_dims({p}, axis=1) @ {memory}, 1)", f"mg.sum({p}[..., None] * {memory}, axis=1)")
    )


def batched(w: Writer) -> Any:
    """A product of two values for each row: an outer product, or the inner ones."""
    a = w.pick(lambda s: len(s) == 2)
    b = a and w.pick(lambda s: len(s) == 2 and s[0] == w.shape(a)[0], apart=(a,))
    forms = ["mg.expand_dims({a}, axis=2) @ mg.expand_dims({b}, axis=1)", "{a}.T @ {b}"]
    if a and w.shape(a) == w.shape(b):
        forms += ["mg.expand_dims({a}, axis=1) @ mg.expand_dims({b}, axis=2)", "{a} @ {b}.T"]
    return a and w.add(w.one(*forms).format(a=a, b=b))


def constant(w: Writer) -> Any:
    """Numbers made in the step itself."""
    a = w.pick()
    if not a:
        return False
    shape, dtype = w.shape(a), w.dtype
    forms = [f"{a} + mg.full({a}.shape, 0.3, dtype=mg.{dtype})", f"{a} * np.full({shape}, 0.7, np.{dtype})"]
    if shape:
        n = shape[-1]
        forms += [f"np.linspace(0, 1, {n}, dtype=np.{dtype}) - {a}", f"{a} @ mg.eye({n}, {n + 1}, dtype=mg.{dtype})"]
        forms += [f"{a} + 0.1 * mg.arange({n}, dtype=mg.{dtype})", f"mg.zeros({shape}, dtype=mg.{dtype})"]
    return w.add(w.one(*forms))


def parameter(w: Writer) -> Any:
    """A weight beside a value, not multiplied with it, or alone: a bias, a scale, an initial value."""
    a = w.pick()
    if not a:
        return False
    own = w.shape(a)
    c = w.weight(*w.one(*[own[i:] for i in range(len(own) + 1)]))
    alone = (f"mg.tanh({c})", f"{c} * 2.0")  # the same at every step
    return w.add(w.one(f"{a} + {c}", f"{a} * {c}", f"{a} * mg.sigmoid({c})", f"mg.maximum({a}, {c})", *alone))


FORMS = [
    *(unary, binary, gate, product, joined, gates, unary, binary, joined, gates, product, reduction, normalised),
    *(along, arranged, stacked, unstacked, indexed, looked_up, chosen, compared, counted, questioned, attention),
    *(batched, constant, parameter),
]


# How the next state is made of what there is


def fitted(w: Writer, shape: tuple[int, ...], apart: tuple[str, ...] = ()) -> str:
    """Any float, most of all one that is not yet used, made to broadcast to this shape."""
    a = w.pick(apart=apart)
    assert a is not None
    own = w.shape(a)
    if broadcasts(own, shape):
        return a
    if own[1:] == shape:
        return f"mg.mean({a}, axis=0)"
    if own[:-1] == shape:
        return f"mg.sum({a}, axis=-1)"
    return f"mg.mean({a})"


def next_state(w: Writer, own: Given) -> tuple[str, str]:
    """An expression for a new state in the shape and dtype of the old one; and the same, kept small."""
    h, shape = own.name, own.shape
    others = [n for n in w.names(lambda s: s == shape, w.kind(h)) if n.startswith("h") and n != h]
    if others and w.draw(st.booleans()):  # states that change places, or are those of steps before
        new = w.use(w.draw(st.sampled_from(others)))
        return new, new
    if own.kind == "mask":
        m = w.pick(lambda s: s == shape, "mask", apart=(h,))
        new = w.one(f"{m}", f"mg.logical_or({h}, {m})", f"~{m}", f"mg.logical_and({m}, {h})")
        return w.use(new), new
    if own.kind == "integer":
        n = w.pick(lambda s: s == shape, "integer", apart=(h,))
        a = w.pick(lambda s: s[:-1] == shape and len(s) == len(shape) + 1)
        forms = [f"{h} + 1", f"{n}", f"mg.where({h} > 2, 0, {h} + 1)", f"{n}.detach()"]
        new = w.one(*forms, *([f"mg.argmax({a}, axis=-1)"] if a else []))
        return w.use(new), new
    form = w.one("tanh", "sum", "product", "exact", "gate", "exact", "detached", "same")
    small = ""
    if form in ("tanh", "exact"):
        new = str(w.pick(lambda s: s == shape, apart=(h,)))
        small = f"mg.tanh({new})"
        new = new if form == "exact" else small
    elif form == "same":
        new = small = h
    elif form == "gate":
        v = fitted(w, shape, apart=(h,))
        z = fitted(w, shape, apart=(h, v))
        new = f"(1 - mg.sigmoid({z})) * {h} + mg.sigmoid({z}) * mg.tanh({v})"
    elif form == "detached":
        new = f"mg.tanh({h}.detach() + {fitted(w, shape, apart=(h,))})"
    elif form == "product" and shape:
        a = w.pick(lambda s: len(s) >= 1 and s[:-1] == shape[:-1], apart=(h,))
        new = f"mg.tanh({a} @ {w.weight(w.shape(str(a))[-1], shape[-1])} + {h} @ {w.weight(shape[-1], shape[-1])})"
    else:
        new = f"0.5 * {h} + mg.tanh({fitted(w, shape, apart=(h,))})"
    return w.use(new), small or f"mg.tanh({new})"
