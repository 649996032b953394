"""Random graphs, grown step by step, against forward mode with dense Jacobians.

Every number is an integer far below 2**53 in a float64, so both sides are exact and must be equal, not close.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, multiple, rule

import minigrad as mg
from minigrad.errors import GraphError

from .conftest import STRICT
from .oracles import graph as oracle

LARGEST = 2.0**24  # products and sums of a few such numbers stay below 2**53
SIZE = 24
SHAPES = [(), (2,), (3,), (1, 3), (2, 1), (2, 3), (3, 2), (2, 2, 3), (0, 2)]
shapes = st.sampled_from(SHAPES)
seeds = st.integers(0, 2**16)

BINARY = {
    "add": (mg.add, lambda a, b: oracle.linear(np.add, a, b)),
    "subtract": (mg.subtract, lambda a, b: oracle.linear(np.subtract, a, b)),
    "multiply": (mg.multiply, lambda a, b: oracle.bilinear(np.multiply, a, b)),
}
UNARY = {
    "negative": (mg.negative, lambda a: oracle.linear(np.negative, a)),
    "square": (lambda x: x**2, lambda a: oracle.pointwise(np.square, lambda x: 2 * x, a)),
    "relu": (mg.relu, lambda a: oracle.pointwise(lambda x: np.maximum(x, 0), lambda x: (x > 0) * 1.0, a)),
    "transpose": (mg.transpose, lambda a: oracle.linear(np.transpose, a)),
    "flatten": (lambda x: x.reshape(-1), lambda a: oracle.linear(np.ravel, a)),
    "flip": (mg.flip, lambda a: oracle.linear(np.flip, a)),
    "repeat": (
        lambda x: mg.broadcast_to(x, (2, *x.shape)),
        lambda a: oracle.linear(lambda x: np.broadcast_to(x, (2, *x.shape)), a),
    ),
    "plus itself": (lambda x: x + x, lambda a: oracle.linear(lambda x: 2 * x, a)),
    "two views": (lambda x: x.reshape(-1) + x.reshape(-1), lambda a: oracle.linear(lambda x: 2 * np.ravel(x), a)),
    "odd or zero": (
        lambda x: mg.where(mg.tensor(x.numpy() % 2 == 1, backend=x.backend), x, 0.0),
        lambda a: oracle.pointwise(lambda x: x * (x % 2 == 1), lambda x: (x % 2 == 1) * 1.0, a),
    ),
}


def integers(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(seed).integers(-3, 4, shape).astype(np.float64)


class Graphs(RuleBasedStateMachine):
    """Pairs (tensor, what the oracle says of it)."""

    backend = "numpy"
    values = Bundle("values")

    def __init__(self) -> None:
        super().__init__()
        self.pairs: list[tuple[mg.Tensor, oracle.Value]] = []
        self.leaves: dict[int, mg.Tensor] = {}
        self.expected: dict[int, np.ndarray] = {}
        self.used_up: set[int] = set()
        self.seen: list[tuple[Any, np.ndarray]] = []  # arrays that the user can see, and what they must remain

    def teardown(self) -> None:
        whole = [(x, v) for x, v in self.pairs if v.tracked and not v.operations & self.used_up]
        if whole:
            total = mg.stack([x.sum() for x, _ in whole])
            self.backward_from(
                total, oracle.linear(lambda *xs: np.stack([x.sum() for x in xs]), *(v for _, v in whole))
            )
        for array, content in self.seen:
            np.testing.assert_array_equal(np.asarray(array), content)

    def keep(self, x: mg.Tensor, value: oracle.Value) -> Any:
        """The pair, checked; nothing where it would leave the exact numbers, or grow too large to be quick."""
        if value.array.size > SIZE or value.magnitude > LARGEST:
            return multiple()
        assert x.requires_grad == value.tracked
        assert x.shape == value.array.shape
        np.testing.assert_array_equal(x.numpy(), value.array)
        return self.kept(x, value)

    def kept(self, x: mg.Tensor, value: oracle.Value) -> Any:
        self.seen.append((x.data, value.array.copy()))
        self.pairs.append((x, value))
        return x, value

    # Where graphs begin

    @initialize(target=values)
    def first(self) -> Any:
        return self.create((2, 3), 0)

    @rule(target=values, shape=shapes, seed=seeds)
    def create(self, shape: tuple[int, ...], seed: int) -> Any:
        array = integers(seed, shape)
        x = mg.tensor(array, requires_grad=True, backend=self.backend)
        name, value = oracle.leaf(array)
        self.leaves[name] = x
        return self.kept(x, value)

    # How they grow

    @rule(target=values, op=st.sampled_from(sorted(UNARY)), a=values)
    def unary(self, op: str, a: Any) -> Any:
        ours, theirs = UNARY[op]
        return self.keep(ours(a[0]), theirs(a[1]))

    @rule(target=values, op=st.sampled_from(sorted(BINARY)), a=values, b=values)
    def binary(self, op: str, a: Any, b: Any) -> Any:
        ours, theirs = BINARY[op]
        (x, v), (y, w) = a, self.fitting(a, b)
        return self.keep(ours(x, y), theirs(v, w))

    def fitting(self, a: Any, b: Any) -> Any:
        """b, summed up where it does not broadcast against a."""
        try:
            np.broadcast_shapes(a[0].shape, b[0].shape)
        except ValueError:
            return b[0].sum(), oracle.linear(np.sum, b[1])
        return b

    @rule(target=values, a=values, b=values, transposed=st.booleans())
    def matmul(self, a: Any, b: Any, transposed: bool) -> Any:
        (x, v), (y, w) = a, b
        if transposed:
            y, w = y.T, oracle.linear(np.transpose, w)
        try:
            np.matmul(v.array, w.array)
        except ValueError:  # the outer product always fits
            x, v = x.reshape(-1, 1), oracle.linear(lambda m: m.reshape(-1, 1), v)
            y, w = y.reshape(1, -1), oracle.linear(lambda m: m.reshape(1, -1), w)
        if v.array.shape[0] * w.array.shape[-1] > SIZE:
            return multiple()
        return self.keep(x @ y, oracle.bilinear(np.matmul, v, w))

    @rule(target=values, a=values, keepdims=st.booleans(), data=st.data())
    def sum(self, a: Any, keepdims: bool, data: st.DataObject) -> Any:
        axis = data.draw(st.one_of(st.none(), st.integers(0, a[0].ndim - 1)) if a[0].ndim else st.none())
        y = a[0].sum(axis=axis, keepdims=keepdims)
        return self.keep(y, oracle.linear(lambda x: np.sum(x, axis=axis, keepdims=keepdims), a[1]))

    @rule(target=values, a=values, data=st.data())
    def index(self, a: Any, data: st.DataObject) -> Any:
        length = a[0].shape[0] if a[0].ndim else 0
        if not length:
            return multiple()
        place = st.integers(-length, length - 1)
        key = data.draw(
            st.one_of(
                place,
                st.slices(length),
                st.lists(place, min_size=1, max_size=4).map(np.array),
                st.tuples(st.none(), place),
                st.tuples(st.just(...), st.integers(-a[0].shape[-1], a[0].shape[-1] - 1)),
            )
            if a[0].size
            else st.slices(length)
        )
        ours = mg.tensor(key, backend=self.backend) if isinstance(key, np.ndarray) else key
        return self.keep(a[0][ours], oracle.linear(lambda x: x[key], a[1]))

    @rule(target=values, a=values, data=st.data())
    def parts(self, a: Any, data: st.DataObject) -> Any:
        if not a[0].ndim:
            return multiple()
        axis = data.draw(st.integers(0, a[0].ndim - 1))
        length = a[0].shape[axis]
        if data.draw(st.booleans()):
            xs = mg.unstack(a[0], axis=axis)
            functions = [lambda x, i=i: np.take(x, i, axis=axis) for i in range(length)]
        else:
            cut = data.draw(st.integers(0, length))
            xs = mg.split(a[0], [cut, length - cut], axis=axis)
            functions = [lambda x: np.split(x, [cut], axis)[0], lambda x: np.split(x, [cut], axis)[1]]
        kept = data.draw(st.permutations(range(len(xs))))[:2]
        values = oracle.siblings([oracle.linear(functions[i], a[1]) for i in kept])
        made = [self.keep(xs[i], v) for i, v in zip(kept, values)]
        return multiple(*(m for m in made if isinstance(m, tuple)))

    @rule(target=values, a=values, b=values, new_axis=st.booleans())
    def join(self, a: Any, b: Any, new_axis: bool) -> Any:
        (x, v), (y, w) = a, b
        if x.shape != y.shape or not x.ndim:
            return multiple()
        ours, theirs = (mg.stack, np.stack) if new_axis else (mg.concat, np.concatenate)
        return self.keep(ours([x, y, x], axis=-1), oracle.linear(lambda m, n: theirs([m, n, m], axis=-1), v, w))

    @rule(target=values, a=values, b=values)
    def recomputed(self, a: Any, b: Any) -> Any:
        (x, v), (y, w) = a, self.fitting(a, b)
        z = mg.remat(lambda x: mg.remat(lambda x: x * y)(x) + x)(x)
        times, plus = BINARY["multiply"][1], BINARY["add"][1]
        return self.keep(z, plus(times(v, w), v))

    @rule(target=values, a=values, b=values)
    def gradient_inside(self, a: Any, b: Any) -> Any:
        (x, v), (y, w) = a, self.fitting(a, b)
        if np.broadcast_shapes(x.shape, y.shape) != x.shape:
            return multiple()
        gradient = mg.grad(lambda x: (x * x * y).sum())
        if y.requires_grad and w.operations & self.used_up:
            with pytest.raises(GraphError, match="released"):
                gradient(x)
            return multiple()
        return self.keep(gradient(x), oracle.bilinear(lambda m, n: 2 * m * n, v, w))

    # Where they end

    @rule(target=values, a=values)
    def detach(self, a: Any) -> Any:
        y = a[0].detach()
        assert np.shares_memory(np.asarray(y.data), np.asarray(a[0].data)) or not y.size
        return self.kept(y, oracle.cut(a[1]))

    @rule(target=values, a=values, b=values)
    def half_recorded(self, a: Any, b: Any) -> Any:
        (x, v), (y, w) = a, self.fitting(a, b)
        with mg.no_grad():
            factor = x - y
            with mg.enable_grad():
                z = x * y
            assert not (z + factor).requires_grad
        times, minus = BINARY["multiply"][1], BINARY["subtract"][1]
        return self.keep(z * factor, times(times(v, w), oracle.cut(minus(v, w))))

    @rule(a=consumes(values))
    def forget(self, a: Any) -> None:
        self.pairs = [pair for pair in self.pairs if pair is not a]

    @rule(a=values, retain=st.booleans(), seed=seeds)
    def backward(self, a: Any, retain: bool, seed: int) -> None:
        self.backward_from(*a, retain, seed)

    def backward_from(self, y: mg.Tensor, value: oracle.Value, retain: bool = False, seed: int = 0) -> None:
        cotangent = integers(seed, y.shape)
        g = mg.tensor(cotangent, backend=self.backend)
        if not value.tracked or value.operations & self.used_up:
            with pytest.raises(GraphError, match="released" if value.tracked else "needs no gradient"):
                y.backward(g, retain_graph=retain)
        else:
            y.backward(g, retain_graph=retain)
            for name, gradient in oracle.gradients(value, cotangent).items():
                self.expected[name] = self.expected.get(name, 0) + gradient
            if not retain:
                self.used_up |= value.operations
        for name, x in self.leaves.items():
            if name not in self.expected:
                assert x.grad is None
                continue
            assert not x.grad.requires_grad and x.grad.dtype == x.dtype and x.grad.backend == self.backend
            np.testing.assert_array_equal(x.grad.numpy(), self.expected[name].reshape(x.shape))
            self.seen.append((x.grad.data, x.grad.numpy().copy()))
        self.seen.append((g.data, cotangent))


class StrictGraphs(Graphs):
    backend = STRICT.name


TestRandomGraphs = Graphs.TestCase
TestRandomGraphs.settings = settings(
    max_examples=2 * settings().max_examples, stateful_step_count=40, report_multiple_bugs=False
)
TestRandomGraphsOfTheStandard = StrictGraphs.TestCase
TestRandomGraphsOfTheStandard.settings = settings(stateful_step_count=30, report_multiple_bugs=False)
