"""Attention: against the gradients by hand, against sums over the places, and as part of cells and pooling."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import nn, tree
from minigrad.errors import ArgumentError, DtypeError, MinigradError, ShapeError

from ..oracles import attention as oracle
from ..strategies import SEEDS, as_numpy, as_tensor
from .helpers import close, gradient, in_float64, pulled

KINDS = ["additive", "dot", "scaled", "general"]
UNROLLS = ["compiled", "eager"]
NAMES = {"query.weight": "weight_q", "key.weight": "weight_m", "bias": "bias", "v": "weight_v"}


def made(kind: str, Q: int, M: int, A: int, backend: str = "numpy", seed: int | None = None) -> nn.Attention:
    """An attention in float64; with a seed, all its weights are normal numbers. Dot products have Q = M."""
    if kind in ("dot", "scaled"):
        return nn.DotAttention(scaled=kind == "scaled")
    layer = nn.AdditiveAttention(Q, M, A) if kind == "additive" else nn.GeneralAttention(Q, M)
    return in_float64(drawn(layer, seed), backend)


def drawn(module: nn.Module, seed: int | None) -> nn.Module:
    rng = np.random.default_rng(seed)
    for p in module.parameters() if seed is not None else []:
        p.data = rng.normal(size=p.shape)
    return module


def places(lengths, S: int) -> np.ndarray:
    """The mask (B, S) of these lengths."""
    return np.arange(S) < np.asarray(lengths)[:, None]


# Against the gradients by hand


def rounding(scale: float) -> float:
    """What a gradient is compared to that is smaller: of saturated units it is a difference of numbers of magnitude 1,
    whose rounding (1e-16) is then multiplied by queries or inputs of some `scale`, and by weights."""
    return 1e-4 * max(scale, 1e-2)


def by_hand(kind, layer, queries, memory, mask, grad_c, grad_a):
    """The oracle for one query and one row, over all rows and queries: c, a, and all gradients."""
    weights = {name: as_numpy(getattr(layer, ours)) for name, ours in NAMES.items() if hasattr(layer, ours)}
    if kind == "general":
        weights = {"weight": as_numpy(layer.weight)}
    (B, T, _), (_, S, M) = queries.shape, memory.shape
    c, a = np.zeros((B, T, M)), np.zeros((B, T, S))
    grad_queries, grad_memory = np.zeros_like(queries), np.zeros_like(memory)
    grads = {name: np.zeros_like(w) for name, w in weights.items()}
    for b in range(B):
        for t in range(T):
            arguments = queries[b, t], memory[b], mask[b]
            cotangents = grad_c[b, t], grad_a[b, t]
            if kind in ("dot", "scaled"):
                found = oracle.dot(*arguments, *cotangents, scale=M**-0.5 if kind == "scaled" else 1.0)
            else:
                found = getattr(oracle, kind)(*arguments, weights, *cotangents)
            c[b, t], a[b, t] = found[:2]
            grad_queries[b, t] = found[2]
            grad_memory[b] += found[3]
            for name, g in found[4].items():
                grads[name] += g
    return c, a, grad_queries, grad_memory, {NAMES.get(name, name): g for name, g in grads.items()}


def run(layer, queries, memory, mask, grad_c, grad_a, backend="numpy"):
    """The same by minigrad."""
    layer.zero_grad()
    q, m = as_tensor(queries, backend, True), as_tensor(memory, backend, True)
    c, a = layer(q, m, None if mask is None else as_tensor(mask, backend))
    ((c * as_tensor(grad_c, backend)).sum() + (a * as_tensor(grad_a, backend)).sum()).backward()
    grads = {name: gradient(p) for name, p in layer.named_parameters()}
    return c, a, gradient(q), gradient(m), grads


def same(found, expected, tolerance=1e-9, floor=0.0):
    for what, x, y in zip(("context", "weights", "by query", "by memory"), found, expected):
        close(x, y, tolerance, floor, what)
    assert found[4].keys() == expected[4].keys()
    for name, g in found[4].items():
        close(g, expected[4][name], tolerance, floor, name)


@pytest.mark.parametrize("kind", KINDS)
@given(
    data=st.data(),
    B=st.integers(1, 3),
    T=st.integers(1, 3),
    S=st.integers(0, 4),
    Q=st.integers(1, 3),
    M=st.integers(1, 3),
    A=st.integers(1, 3),
    scale=st.sampled_from([1e-8, 1.0, 40.0]),
    seed=SEEDS,
)
def test_the_context_the_weights_and_all_gradients_are_those_by_hand(kind, data, B, T, S, Q, M, A, scale, seed):
    rng = np.random.default_rng(seed)
    Q = M if kind in ("dot", "scaled") else Q
    mask = np.array(data.draw(st.lists(st.lists(st.booleans(), min_size=S, max_size=S), min_size=B, max_size=B)))
    mask = mask.reshape(B, S).astype(bool)
    layer = made(kind, Q, M, A, seed=seed)
    queries, memory = scale * rng.normal(size=(B, T, Q)), rng.normal(size=(B, S, M))
    cotangents = rng.normal(size=(B, T, M)), rng.normal(size=(B, T, S))
    expected = by_hand(kind, layer, queries, memory, mask, *cotangents)
    same(run(layer, queries, memory, mask, *cotangents), expected, floor=rounding(scale))
    one = run(layer, queries[:, 0], memory, mask, cotangents[0][:, 0], cotangents[1][:, 0])
    first = by_hand(kind, layer, queries[:, :1], memory, mask, *(g[:, :1] for g in cotangents))
    same(one, [x[:, 0] for x in first[:3]] + [*first[3:]], floor=rounding(scale))


@pytest.mark.parametrize("unroll", UNROLLS)
@given(
    data=st.data(),
    T=st.integers(0, 4),
    B=st.integers(1, 3),
    S=st.integers(0, 4),
    I=st.integers(0, 2),
    H=st.integers(1, 3),
    M=st.integers(1, 3),
    A=st.integers(1, 2),
    scale=st.sampled_from([1e-6, 1.0, 40.0]),
    seed=SEEDS,
)
def test_an_attending_network_has_the_values_and_gradients_by_hand(unroll, data, T, B, S, I, H, M, A, scale, seed):  # noqa: E741
    rng = np.random.default_rng(seed)
    lengths = data.draw(st.lists(st.integers(0, T), min_size=B, max_size=B))
    sources = data.draw(st.none() | st.lists(st.integers(0, S), min_size=B, max_size=B))
    cell = nn.AttentionCell(nn.ElmanCell(I + M, H), nn.AdditiveAttention(H, M, A), M)
    net = in_float64(drawn(nn.Recurrent(cell, unroll=unroll), seed))
    xs, memory = scale * rng.normal(size=(T, B, I)), rng.normal(size=(S, B, M))
    starts, grad_outs, grad_state = (rng.normal(size=shape) for shape in ((B, H), (T, B, H + M), (B, H)))
    weights = {f"attention.{name}": as_numpy(getattr(cell.attention, ours)) for name, ours in NAMES.items()}
    weights |= {f"cell.{name}": as_numpy(p) for name, p in cell.cell.named_parameters()}

    expected = [np.zeros((T, B, H + M)), np.zeros((B, H)), np.zeros_like(xs), np.zeros((B, H)), np.zeros_like(memory)]
    grads = {name: np.zeros_like(w) for name, w in weights.items()}
    for b, n in enumerate(lengths):
        mask = np.arange(S) < (S if sources is None else sources[b])
        outs, last, by_x, by_start, by_weights, by_memory = oracle.layer_attending(
            xs[:n, b], [starts[b]], memory[:, b], mask, weights, grad_outs[:n, b], [grad_state[b]]
        )
        expected[0][:n, b], expected[1][b], expected[2][:n, b], expected[3][b] = outs, last[0], by_x, by_start[0]
        expected[4][:, b] = by_memory
        for name, g in by_weights.items():
            grads[name] += g

    x, h, m = (as_tensor(array, "numpy", True) for array in (xs, starts, memory))
    outs, last = net(x, h, lengths, memory=nn.Memory(m, sources))
    ((outs * mg.tensor(grad_outs)).sum() + (last * mg.tensor(grad_state)).sum()).backward()
    for found, wanted in zip([outs, last, gradient(x), gradient(h), gradient(m)], expected):
        close(found, wanted, floor=rounding(scale))
    for name, g in grads.items():
        part, name = name.split(".", 1)
        close(gradient(getattr(getattr(cell, part), NAMES.get(name, name))), g, floor=rounding(scale), what=name)


# What the weights are


@pytest.mark.parametrize("kind", KINDS)
@given(S=st.integers(1, 5), seed=SEEDS, scale=st.sampled_from([1e-6, 1.0, 1e3]))
def test_the_weights_are_not_negative_of_sum_1_where_one_may_look_and_0_elsewhere(kind, S, seed, scale):
    rng = np.random.default_rng(seed)
    mask = rng.random((4, S)) < 0.6
    layer = made(kind, 3, 3, 2, seed=seed)
    query, memory = mg.tensor(scale * rng.normal(size=(4, 3))), mg.tensor(rng.normal(size=(4, S, 3)))
    c, a = (x.numpy() for x in layer(query, memory, mask))
    assert (a >= 0).all() and (a[~mask] == 0).all()
    np.testing.assert_allclose(a.sum(-1), mask.any(-1), atol=1e-15)
    close(c, np.einsum("bs,bsm->bm", a, memory.numpy()), 1e-14)


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_mask_all_may_be_looked_at(kind, backend):
    rng = np.random.default_rng(0)
    layer = made(kind, 3, 3, 2, backend, seed=1)
    query, memory = as_tensor(rng.normal(size=(2, 3)), backend), as_tensor(rng.normal(size=(2, 4, 3)), backend)
    for x, y in zip(layer(query, memory), layer(query, memory, np.ones((2, 4), bool).tolist())):
        assert x.backend == backend
        close(x, y.numpy(), 1e-15)


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_that_may_look_at_nothing_has_weights_a_context_and_gradients_of_0(kind, backend):
    rng = np.random.default_rng(0)
    layer = made(kind, 3, 3, 2, backend, seed=1)
    queries, memory = rng.normal(size=(2, 2, 3)), rng.normal(size=(2, 4, 3))
    cotangents = rng.normal(size=(2, 2, 3)), rng.normal(size=(2, 2, 4))
    mask = np.array([[False] * 4, [True, False, True, True]])
    found = [as_numpy(x) for x in run(layer, queries, memory, mask, *cotangents, backend)[:4]]
    for x in found:
        assert (x[0] == 0).all() and (x[1] != 0).any() and np.isfinite(x).all()
    alone = run(layer, queries[1:], memory[1:], mask[1:], *(g[1:] for g in cotangents), backend)
    both = run(layer, queries, memory, mask, *cotangents, backend)
    for name, g in both[4].items():
        close(g, as_numpy(alone[4][name]), 1e-14)


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_of_a_memory_of_no_places_the_context_is_0(kind, masked, backend):
    layer = made(kind, 3, 3, 2, backend)
    mask = np.zeros((2, 0), bool) if masked else None
    shapes = (2, 3), (2, 0, 3), mask, (2, 3), (2, 0)
    c, a, by_query, *_ = run(layer, *(np.ones(s) if isinstance(s, tuple) else s for s in shapes), backend)
    assert as_numpy(c).tolist() == [[0.0] * 3] * 2 and a.shape == (2, 0)
    assert (as_numpy(by_query) == 0).all()


@pytest.mark.parametrize("fill", [np.nan, np.inf, -np.inf, 1e300, -1e300])
@pytest.mark.parametrize("kind", KINDS)
def test_what_stands_where_the_mask_is_false_has_no_effect_and_a_gradient_of_exactly_0(kind, fill, backend):
    rng = np.random.default_rng(0)
    layer = made(kind, 3, 3, 2, backend, seed=1)
    mask = np.array([[True, False, True], [False, False, False], [False, True, False]])
    queries, clean = rng.normal(size=(3, 2, 3)), rng.normal(size=(3, 3, 3))
    cotangents = rng.normal(size=(3, 2, 3)), rng.normal(size=(3, 2, 3))
    results = [
        run(layer, queries, np.where(mask[..., None], clean, hidden), mask, *cotangents, backend)
        for hidden in (0.5, fill)
    ]
    for x, y in zip(*([as_numpy(x) for x in tree.leaves(list(r))] for r in results)):
        np.testing.assert_array_equal(x, y)
        assert np.isfinite(x).all()
    assert (as_numpy(results[1][3])[~mask] == 0).all()


class Peculiar(nn.Attention):
    """Scores that are no numbers, or huge, for vectors of zeros, as which hidden ones are read."""

    def __init__(self, at_zero: float):
        self.at_zero = at_zero

    def score(self, query, keys):
        e = query @ mg.matrix_transpose(keys)
        hidden = mg.expand_dims(mg.sum(mg.abs(keys), axis=-1), axis=1) == 0
        return mg.where(hidden, self.at_zero, e)


@pytest.mark.parametrize("at_zero", [1e300, -1e300, np.inf, -np.inf, np.nan])
def test_a_score_where_the_mask_is_false_may_be_anything(at_zero):
    rng = np.random.default_rng(0)
    mask = np.array([[True, False, True], [False, False, True]])
    arguments = rng.normal(size=(2, 3)), rng.normal(size=(2, 3, 3)), mask, rng.normal(size=(2, 3)), mask * 1.0
    expected = [as_numpy(x) for x in run(nn.DotAttention(), *arguments)[:4]]
    same(run(Peculiar(at_zero), *arguments), [*expected, {}], 1e-15)


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_large_scores_do_not_overflow(dtype, masked, backend):
    query = mg.tensor([[1e4]], dtype=dtype, backend=backend)
    memory = mg.tensor([[[1.0], [-1.0], [0.5], [1.0]]], dtype=dtype, backend=backend)
    query.requires_grad = memory.requires_grad = True
    c, a = nn.DotAttention()(query, memory, [[True, True, True, False]] if masked else None)
    assert a.tolist() == ([[1.0, 0.0, 0.0, 0.0]] if masked else [[0.5, 0.0, 0.0, 0.5]])
    c.sum().backward()
    assert query.grad.tolist() == [[0.0]]
    assert np.isfinite(as_numpy(memory.grad)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_queries_all_at_once_are_queries_one_by_one(kind, backend):
    rng = np.random.default_rng(0)
    layer = made(kind, 3, 3, 2, backend, seed=1)
    queries, memory = as_tensor(rng.normal(size=(2, 5, 3)), backend), as_tensor(rng.normal(size=(2, 4, 3)), backend)
    ready = layer.prepare(memory, places([4, 2], 4))
    c, a = layer.attend(queries, ready)
    assert (c.shape, a.shape) == ((2, 5, 3), (2, 5, 4))
    for t in range(5):
        c_t, a_t = layer.attend(queries[:, t], ready)
        close(c_t, c[:, t].numpy(), 1e-14)
        close(a_t, a[:, t].numpy(), 1e-14)


@pytest.mark.parametrize("M", [1, 2, 9])
def test_scaled_means_divided_by_the_root_of_the_size(M):
    rng = np.random.default_rng(M)
    query, memory = mg.tensor(rng.normal(size=(2, M))), mg.tensor(rng.normal(size=(2, 4, M)))
    plain, scaled = (nn.DotAttention(scaled=s)(*pair)[1] for s, pair in
                     ((False, (query / M**0.5, memory)), (True, (query, memory))))  # fmt: skip
    close(scaled, plain.numpy(), 1e-14)
    e = np.einsum("bm,bsm->bs", query.numpy(), memory.numpy()) / np.sqrt(M)
    close(scaled, np.exp(e) / np.exp(e).sum(-1, keepdims=True), 1e-14)


@pytest.mark.parametrize("kind", KINDS)
@given(seed=SEEDS)
def test_a_memory_in_another_order_has_its_weights_in_that_order_and_the_same_context(kind, seed):
    rng = np.random.default_rng(seed)
    layer, order = made(kind, 3, 3, 2, seed=seed), rng.permutation(5)
    query, memory, mask = rng.normal(size=(2, 3)), rng.normal(size=(2, 5, 3)), rng.random((2, 5)) < 0.7
    c, a = layer(mg.tensor(query), mg.tensor(memory), mask)
    other_c, other_a = layer(mg.tensor(query), mg.tensor(memory[:, order]), mask[:, order])
    close(other_a, a.numpy()[:, order], 1e-14)
    close(other_c, c.numpy(), 1e-14)


@pytest.mark.parametrize("kind", KINDS)
def test_second_derivatives_agree_with_finite_differences(kind):
    rng = np.random.default_rng(0)
    layer = made(kind, 2, 2, 2, seed=1)
    names = [name for name, _ in layer.named_parameters()]
    mask = np.array([[True, True, False], [False, False, False]])

    def f(query, memory, *values):
        for name, value in zip(names, values):
            vars(layer)[name] = value
        return layer(query, memory, mask)

    points = [rng.normal(size=(2, 2)), rng.normal(size=(2, 3, 2)), *(p.numpy() for p in layer.parameters())]
    assert mg.gradcheck(f, points, order=2, names=["query", "memory", *names])


@pytest.mark.parametrize("kind", KINDS)
def test_float32_stays_float32(kind, backend):
    layer = {"additive": lambda: nn.AdditiveAttention(3, 3, 2), "general": lambda: nn.GeneralAttention(3, 3)}
    layer = layer.get(kind, lambda: nn.DotAttention(scaled=kind == "scaled"))().to(backend)
    query, memory = mg.random.normal((2, 3), backend=backend), mg.random.normal((2, 4, 3), backend=backend)
    query.requires_grad = memory.requires_grad = True
    for mask in (None, places([4, 0], 4)):
        c, a = layer(query, memory, mask)
        (c.sum() + a[:, 0].sum()).backward()
        for x in (c, a, query.grad, memory.grad, *(p.grad for p in layer.parameters())):
            assert "float32" in str(x.dtype)


def test_the_weights_begin_uniform_within_the_bounds_that_are_documented():
    additive, general, pool = nn.AdditiveAttention(30, 40, 25), nn.GeneralAttention(30, 16), nn.AttentionPooling(40, 25)
    for p, bound in [(additive.weight_q, 0.2), (additive.weight_m, 0.2), (additive.weight_v, 0.2),
                     (general.weight, 0.25), (pool.weight, 0.2), (pool.weight_v, 0.2)]:  # fmt: skip
        assert 0.7 * bound < np.abs(p.numpy()).max() <= bound
    assert (additive.bias.numpy() == 0).all() and (pool.bias.numpy() == 0).all()
    shapes = {name: p.shape for name, p in additive.named_parameters()}
    assert shapes == {"weight_q": (25, 30), "weight_m": (25, 40), "bias": (25,), "weight_v": (25,)}


ATTENTIONS = {
    "additive": lambda: nn.AdditiveAttention(3, 4, 2),
    "general": lambda: nn.GeneralAttention(3, 4),
    "dot": nn.DotAttention,
}


@pytest.mark.parametrize("kind", ATTENTIONS)
@pytest.mark.parametrize(
    "query, memory, words",
    [
        ((2, 3), (2, 4), r"expected a memory \(B, S, M\), got \(2, 4\)"),
        ((3,), (2, 5, 4), r"expected a query \(B, Q\) or \(B, T, Q\) .* got \(3,\)"),
        ((2, 1, 1, 3), (2, 5, 4), r"expected a query .* got \(2, 1, 1, 3\)"),
        ((3, 3), (2, 5, 4), r"as many rows as the memory \(2, 5, 4\), got \(3, 3\)"),
        ((1, 3), (2, 5, 4), r"as many rows as the memory \(2, 5, 4\), got \(1, 3\)"),
        ((2, 7), (2, 5, 4), r"a query of (3 numbers, got 7|7 numbers and a memory of)"),
        ((2, 3), (2, 5, 6), r"a memory of (4 numbers, got 6|6; GeneralAttention and AdditiveAttention)"),
    ],
)
def test_queries_and_memories_that_do_not_fit_are_refused(kind, query, memory, words):
    with pytest.raises(ShapeError, match=words):
        ATTENTIONS[kind]()(mg.zeros(query), mg.zeros(memory))


def test_a_mask_is_of_booleans_and_of_the_shape_of_the_memory():
    layer, query, memory = nn.DotAttention(), mg.zeros((2, 3)), mg.zeros((2, 5, 3))
    with pytest.raises(ShapeError, match=r"expected a mask \(2, 5\) .* got \(5, 2\)"):
        layer(query, memory, np.ones((5, 2), bool))
    for mask in (mg.ones((2, 5)), np.ones((2, 5), int), [[1, 0, 0, 0, 1]] * 2):
        with pytest.raises(DtypeError, match=r"a mask is of booleans \(B, S\), got"):
            layer(query, memory, mask)


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.AdditiveAttention(3, 4, 0),
        lambda: nn.AdditiveAttention(0, 4, 2),
        lambda: nn.GeneralAttention(3, 0),
        lambda: nn.GeneralAttention(3.0, 2),
        lambda: nn.AttentionPooling(3, 0),
    ],
)
def test_sizes_that_are_none_are_refused(make):
    with pytest.raises(ArgumentError, match="sizes are integers from 1, got"):
        make()


def test_an_attention_without_a_score_says_what_is_missing():
    with pytest.raises(ArgumentError, match="Attention defines no score"):
        nn.Attention()(mg.zeros((2, 3)), mg.zeros((2, 5, 3)))


# Pooling


@given(
    data=st.data(),
    T=st.integers(0, 5),
    B=st.integers(1, 3),
    M=st.integers(1, 3),
    scale=st.sampled_from([1e-6, 1.0, 40.0]),
    seed=SEEDS,
)
def test_pooling_is_the_sum_weighted_by_the_softmax_over_the_steps_of_a_row(data, T, B, M, scale, seed):
    rng = np.random.default_rng(seed)
    lengths = data.draw(st.none() | st.lists(st.integers(0, T), min_size=B, max_size=B))
    pool = in_float64(drawn(nn.AttentionPooling(M, 2), seed))
    W, b, v = (as_numpy(p) for p in (pool.weight, pool.bias, pool.weight_v))
    xs = scale * rng.normal(size=(T, B, M))
    c, a = pool(mg.tensor(xs), lengths)
    assert (c.shape, a.shape) == ((B, M), (B, T))
    for row in range(B):
        n = T if lengths is None else lengths[row]
        e = [v @ np.tanh(W @ x + b) for x in xs[:n, row]]
        weights = np.exp(e) / np.exp(e).sum() if n else np.zeros(0)
        close(a[row], np.array([*weights, *[0.0] * (T - n)]), 1e-13)
        close(c[row], weights @ xs[:n, row] if n else np.zeros(M), 1e-13, floor=scale)


@pytest.mark.parametrize("lengths", [None, [3, 0, 1]])
def test_the_gradients_of_pooling_agree_with_finite_differences_also_twice(lengths):
    pool = in_float64(drawn(nn.AttentionPooling(2, 2), 0))
    names = [name for name, _ in pool.named_parameters()]

    def f(xs, *values):
        vars(pool).update(zip(names, values))
        return pool(xs, lengths)

    points = [np.random.default_rng(1).normal(size=(3, 3, 2)), *(p.numpy() for p in pool.parameters())]
    assert mg.gradcheck(f, points, order=2, names=["xs", *names])


@pytest.mark.parametrize("fill", [np.nan, np.inf, 1e300])
def test_padding_has_no_effect_on_pooling_and_gets_a_gradient_of_exactly_0(fill, backend):
    lengths, rng = [2, 0, 4], np.random.default_rng(0)
    pool = in_float64(drawn(nn.AttentionPooling(3, 2), 0), backend)
    clean, past = rng.normal(size=(4, 3, 3)), ~places(lengths, 4).T
    results = []
    for hidden in (0.5, fill):
        pool.zero_grad()
        xs = as_tensor(np.where(past[..., None], hidden, clean), backend, True)
        c, a = pool(xs, lengths)
        ((c * c).sum() + (a * a).sum()).backward()
        results.append([as_numpy(x) for x in (c, a, xs.grad, *(p.grad for p in pool.parameters()))])
    for x, y in zip(*results):
        np.testing.assert_array_equal(x, y)
        assert np.isfinite(y).all()
    assert (results[1][0][1] == 0).all() and (results[1][2][past] == 0).all() and (results[1][2][~past] != 0).all()


def test_a_sequence_that_does_not_fit_the_pooling_is_refused():
    pool = nn.AttentionPooling(4, 3)
    with pytest.raises(ShapeError, match=r"AttentionPooling: made for a sequence of 4 numbers, got 5"):
        pool(mg.zeros((3, 2, 5)))
    with pytest.raises(ShapeError, match=r"time first, got \(3, 4\)"):
        pool(mg.zeros((3, 4)))
    with pytest.raises(ArgumentError, match="lengths must be 2 integers from 0 to 3"):
        pool(mg.zeros((3, 2, 4)), [4, 1])


# A cell that attends


I, H, M, A = 2, 3, 4, 2  # noqa: E741
INNER = {
    "elman": nn.ElmanCell,
    "lstm": nn.LSTMCell,
    "gru": nn.GRUCell,
    "projection": lambda i, h: nn.LSTMCell(i, 5, projection=h),
    "clockwork": nn.ClockworkCell,
    "jordan": lambda i, h: nn.JordanCell(i, 5, h, feedback="softmax"),
    "scrn": lambda i, h: nn.SCRNCell(i, h, context_size=2),
}


def attending(kind: str = "gru", seed: int | None = 0, **options) -> nn.Recurrent:
    cell = nn.AttentionCell(INNER[kind](I + M, H), nn.AdditiveAttention(H, M, A), M)
    return in_float64(drawn(nn.Recurrent(cell, **options), seed))


def steps_by_hand(cell, xs, memory, lengths, state=None):
    """The cell of an attending network over a sequence, and what it looks at, from sums over the places."""
    attention, outs, looks = cell.attention, [], []
    state = cell.initial_state(xs.shape[1]) if state is None else state
    for x in xs:
        q = tree.leaves(state)[0]
        rows, weights = [], []
        for b, n in enumerate(lengths):
            e = [
                mg.sum(attention.weight_v * mg.tanh(attention.weight_q @ q[b] + attention.weight_m @ memory[s, b]
                                                    + attention.bias)) for s in range(n)
            ]  # fmt: skip
            p = [mg.exp(score) for score in e]
            total = sum(p[1:], p[0]) if p else None
            a = [part / total for part in p]
            rows.append(sum((w * memory[s, b] for s, w in enumerate(a)), mg.zeros((M,), dtype="float64")))
            weights.append([w.item() for w in a] + [0.0] * (memory.shape[0] - n))
        c = mg.stack(rows)
        out, state = cell.cell(mg.concat([x, c], axis=-1), state)
        outs.append(mg.concat([out, c], axis=-1))
        looks.append(weights)
    return mg.stack(outs), state, np.array(looks)


def floats(state):
    return [s for s in tree.leaves(state) if "float" in str(s.dtype)]


@pytest.mark.parametrize("unroll", UNROLLS)
@pytest.mark.parametrize("kind", INNER)
def test_a_network_that_attends_is_its_steps_by_hand_whatever_the_cell_within(kind, unroll):
    rng = np.random.default_rng(0)
    net, lengths = attending(kind, unroll=unroll), [4, 0, 2]
    xs, memory = (as_tensor(rng.normal(size=shape), "numpy", True) for shape in ((3, 3, I), (4, 3, M)))
    inputs = [xs, memory, *net.parameters()]
    expected, last, looks = steps_by_hand(net.cell, xs, memory, lengths)
    by_inputs = pulled([expected, floats(last)], inputs)
    outs, state = net(xs, memory=nn.Memory(memory, lengths))
    assert outs.shape[2] == net.output_size == net.cell.cell.output_size + M
    close(outs, expected.numpy(), 1e-13)
    for a, b in zip(tree.leaves(state), tree.leaves(last)):
        close(a, b.numpy(), 1e-13)
    for a, b in zip(pulled([outs, floats(state)], inputs), by_inputs):
        close(a, b, 1e-11)
    close(net.cell.alignment(xs, nn.Memory(memory, lengths)), looks, 1e-13)


def test_alignment_is_of_sum_1_over_what_counts_and_goes_on_from_a_state(backend):
    net = attending("lstm")
    net.to(backend)
    rng = np.random.default_rng(0)
    xs, memory = (as_tensor(rng.normal(size=shape), backend) for shape in ((5, 3, I), (4, 3, M)))
    given_memory = nn.Memory(memory, [4, 0, 2])
    whole = net.cell.alignment(xs, given_memory)
    np.testing.assert_allclose(as_numpy(whole).sum(-1), [[1, 0, 1]] * 5, atol=1e-15)
    assert (as_numpy(whole)[:, 2, 2:] == 0).all()
    _, middle = net(xs[:2], memory=given_memory)
    close(net.cell.alignment(xs[2:], given_memory, middle), as_numpy(whole)[2:], 1e-13)
    c = as_numpy(net(xs, memory=given_memory)[0])[..., H:]
    close(np.einsum("tbs,sbm->tbm", as_numpy(whole), as_numpy(memory)), c, 1e-13)


@pytest.mark.parametrize("unroll", UNROLLS)
@pytest.mark.parametrize("fill", [np.nan, np.inf])
def test_padding_of_the_memory_and_of_the_inputs_has_no_effect_and_a_gradient_of_exactly_0(fill, unroll, backend):
    rng, lengths, sources = np.random.default_rng(0), [2, 3, 0], [4, 0, 2]
    net = attending("lstm", unroll=unroll)
    net.to(backend)
    past, hidden = ~places(lengths, 3).T, ~places(sources, 4).T
    clean, memory = rng.normal(size=(3, 3, I)), rng.normal(size=(4, 3, M))
    results = []
    for value in (0.5, fill):
        net.zero_grad()
        xs = as_tensor(np.where(past[..., None], value, clean), backend, True)
        m = as_tensor(np.where(hidden[..., None], value, memory), backend, True)
        outs, state = net(xs, lengths=lengths, memory=nn.Memory(m, sources))
        ((outs * outs).sum() + sum((s * s).sum() for s in state)).backward()
        leaves = [outs, xs.grad, m.grad, *state, *(p.grad for p in net.parameters())]
        results.append([as_numpy(x) for x in leaves])
    for x, y in zip(*results):
        np.testing.assert_array_equal(x, y)
        assert np.isfinite(y).all()
    outs, by_x, by_m = results[1][:3]
    assert (outs[past] == 0).all() and (by_x[past] == 0).all() and (by_m[hidden] == 0).all()


@pytest.mark.parametrize("unroll", UNROLLS)
@pytest.mark.parametrize("training", [True, False])
def test_zoneout_goes_around_a_cell_that_attends(training, unroll):
    rng, lengths = np.random.default_rng(0), [4, 2]
    cell = nn.Zoneout(nn.AttentionCell(nn.LSTMCell(I + M, H), nn.AdditiveAttention(H, M, A), M), (0.3, 0.5))
    net = in_float64(drawn(nn.Recurrent(cell, unroll=unroll), 0))
    net.train(training)
    xs, memory = (as_tensor(rng.normal(size=shape), "numpy", True) for shape in ((4, 2, I), (4, 2, M)))
    inputs = [xs, memory, *net.parameters()]
    with mg.seed(3):
        parts, context = cell.prepare(xs, nn.Memory(memory, lengths))
        state, outs, queries = cell.initial_state(2), [], []
        for t in range(4):
            queries.append(state[0])
            out, state = cell(tree.map(lambda part, t=t: part[t], parts), state, *context)
            outs.append(out)
    by_inputs = pulled([mg.stack(outs), state], inputs)
    with mg.seed(3):
        found, last = net(xs, memory=nn.Memory(memory, lengths))
    close(found, mg.stack(outs).numpy(), 1e-13)
    for a, b in zip(pulled([found, last], inputs), by_inputs):
        close(a, b, 1e-11)
    # The query is h before each step, as the noise has left it.
    c, _ = cell.cell.attention(mg.stack(queries, axis=1), mg.permute_dims(memory, (1, 0, 2)), places(lengths, 4))
    close(found[:, :, H:], c.numpy().swapaxes(0, 1), 1e-13)


def test_layers_and_directions_that_attend_each_have_their_own_attention_to_the_same_memory():
    make = lambda i, h: nn.AttentionCell(nn.GRUCell(i + M, h), nn.AdditiveAttention(h, M, A), M)
    net = in_float64(nn.Recurrent(make, I, H, num_layers=2))
    assert (net.input_size, net.output_size, net.cells[1][0].input_size) == (I, H + M, H + M)
    rng, lengths = np.random.default_rng(0), [4, 2]
    xs, memory = (mg.tensor(rng.normal(size=shape)) for shape in ((3, 2, I), (4, 2, M)))
    below, first, _ = steps_by_hand(net.cells[0][0], xs, memory, lengths)
    expected, second, _ = steps_by_hand(net.cells[1][0], below, memory, lengths)
    outs, state = net(xs, memory=nn.Memory(memory, lengths))
    close(outs, expected.numpy(), 1e-13)
    for a, b in zip(tree.leaves(state), (first, second)):
        close(a, b.numpy(), 1e-13)
    stack = nn.Stacked(net.cells[0][0], net.cells[1][0])
    close(stack(xs, memory=nn.Memory(memory, lengths))[0], expected.numpy(), 1e-13)
    both = in_float64(nn.Recurrent(make, I, H, bidirectional=True))
    assert both(xs, memory=memory)[0].shape == (3, 2, 2 * (H + M))
    with pytest.raises(ArgumentError, match="a built cell is one layer in one direction"):
        nn.Recurrent(net.cell, num_layers=2)


def test_a_layer_that_does_not_attend_may_lie_below_one_that_does():
    net = in_float64(nn.Stacked(nn.GRUCell(I, 3), _reading(3)))
    rng = np.random.default_rng(0)
    xs, memory = (mg.tensor(rng.normal(size=shape)) for shape in ((3, 2, I), (4, 2, M)))
    below, _ = net.layers[0](xs)
    expected, _, _ = steps_by_hand(net.layers[1].cell, below, memory, [4, 4])
    close(net(xs, memory=memory)[0], expected.numpy(), 1e-13)


def _reading(size: int) -> nn.AttentionCell:
    return nn.AttentionCell(nn.GRUCell(size + M, H), nn.AdditiveAttention(H, M, A), M)


def test_a_memory_may_be_tensors_alone_and_its_lengths_any_integers():
    net, xs, memory = attending(), mg.zeros((3, 2, I), dtype="float64"), mg.random.normal((4, 2, M), dtype="float64")
    expected = net(xs, memory=nn.Memory(memory, [4, 4]))[0].numpy()
    for given_memory in (memory, nn.Memory(memory), nn.Memory(memory, np.array([4, 4])),
                         nn.Memory(memory, mg.tensor([4, 4], dtype="int64"))):  # fmt: skip
        assert (net(xs, memory=given_memory)[0].numpy() == expected).all()


def test_float32_stays_float32_in_a_network_that_attends(backend):
    net = nn.Recurrent(_reading(I)).to(backend)
    memory = nn.Memory(mg.zeros((4, 2, M), backend=backend), [4, 0])
    outs, state = net(mg.zeros((3, 2, I), backend=backend), memory=memory)
    outs.sum().backward()
    for x in (outs, state, *(p.grad for p in net.parameters())):
        assert "float32" in str(x.dtype)


ZEROS = mg.zeros((4, 2, M))


@pytest.mark.parametrize(
    "memory, error, words",
    [
        (None, ArgumentError, r"nothing to attend to; net\(xs, memory=nn.Memory\(outs, lengths\)\)"),
        (mg.zeros((4, M)), ShapeError, r"expected a memory \(S, B, M\), time first, got \(4, 4\)"),
        (mg.zeros((4, 3, M)), ShapeError, r"expected a memory \(S, 2, 4\), got \(4, 3, 4\)"),
        (mg.zeros((4, 2, M + 1)), ShapeError, r"expected a memory \(S, 2, 4\), got \(4, 2, 5\)"),
        (nn.Memory(ZEROS, [5, 1]), ArgumentError, "Memory: lengths must be 2 integers from 0 to 4, got"),
        (nn.Memory(ZEROS, [1]), ArgumentError, "Memory: lengths must be 2 integers"),
        ((ZEROS, [1, 2]), ShapeError, "got a tuple"),
        (nn.Teacher(ZEROS), ShapeError, "got a Teacher"),
    ],
)
def test_a_memory_that_is_missing_or_does_not_fit_is_refused(memory, error, words):
    with pytest.raises(error, match=words):
        nn.Recurrent(_reading(I))(mg.zeros((3, 2, I)), memory=memory)


def test_tokens_that_were_not_embedded_are_refused():
    with pytest.raises(ShapeError, match=r"expected xs \(T, B, 2\), got \(3, 2\); tokens become vectors"):
        nn.Recurrent(_reading(I))(mg.zeros((3, 2), dtype="int64"), memory=ZEROS)


class Stateless(nn.Cell):
    def initial_state(self, batch_size):
        return ()

    def forward(self, x, state):
        return x, state


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: nn.AttentionCell(nn.GRUCell(3, H), nn.DotAttention(), M), r"takes 3 inputs, fewer than the 4 of the"),
        (lambda: nn.AttentionCell(nn.GRUCell, nn.DotAttention(), M), "expected a built cell, got the class GRUCell"),
        (lambda: nn.AttentionCell(nn.GRUCell(6, H), nn.DotAttention, M), "expected an attention, such as"),
        (lambda: nn.AttentionCell(nn.GRUCell(6, H), nn.Linear(2, 2), M), "expected an attention, such as"),
    ],
)
def test_a_cell_or_an_attention_that_does_not_fit_is_refused(make, words):
    with pytest.raises(ArgumentError, match=words):
        make()


@pytest.mark.parametrize(
    "cell, words",
    [
        (lambda: nn.Zoneout(nn.GRUCell(I + M, H), 0.1), "Zoneout prepares its inputs"),
        (lambda: nn.VariationalDropout(nn.GRUCell(I + M, H), 0.0, 0.1), "VariationalDropout prepares its inputs"),
        (lambda: _reading(I + M), "there is nothing to attend to"),
        (lambda: Stateless(I + M, H), r"Stateless has no state \(B, Q\) of floats to be the query"),
    ],
)
def test_a_cell_within_that_prepares_its_inputs_or_has_no_state_is_refused(cell, words):
    net = nn.Recurrent(nn.AttentionCell(cell(), nn.AdditiveAttention(H, M, A), M))
    with pytest.raises(ArgumentError, match=words):
        net(mg.zeros((3, 2, I)), memory=ZEROS)


@pytest.mark.parametrize("Q, m, words", [(5, M, "a query of 5 numbers, got 3"), (H, 3, "a memory of 3 numbers, got 4")])
def test_an_attention_of_other_sizes_than_the_cell_is_refused_with_both(Q, m, words):
    net = nn.Recurrent(nn.AttentionCell(nn.GRUCell(I + M, H), nn.AdditiveAttention(Q, m, A), M))
    with pytest.raises(MinigradError, match=words):
        net(mg.zeros((3, 2, I)), memory=ZEROS)
