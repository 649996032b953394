"""What may change between two calls of `mg.scan`, and is seen: weights, numbers, modes, sizes."""

from __future__ import annotations

import collections
import functools
import sys
import types
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim
from tests.nn.helpers import in_float64

from .helpers import agrees, calls_of, data, equal, fixed, forget, gradients, leaf, loop, simple, weighted


def test_a_step_is_recorded_once_and_called_again_only_when_something_has_changed():
    step, weights = simple()
    for T, needs in [(50, True), (3, True), (20, True), (20, False)]:
        xs, h, _ = data(T, seed=T)
        xs.requires_grad = needs
        with calls_of(step) as calls:
            weighted(mg.scan(step, xs, h)).backward()
        assert calls[0] <= 3 if (T, needs) in [(50, True), (20, False)] else calls == [0]
        for w in weights.values():
            w.data = w.data * 0.9


def test_an_optimisers_steps_between_the_calls_are_seen():
    losses = {}
    for name, scan in (("loop", loop), ("scan", mg.scan)):
        step, weights = simple()
        optimiser = optim.Adam(weights.values(), lr=0.1)
        losses[name] = []
        for i in range(6):
            xs, h, _ = data(3 + i % 2, seed=i)
            loss = (scan(step, xs, h)[0] ** 2).mean()
            forget(weights.values())
            loss.backward()
            optimiser.step()
            losses[name].append(loss.item())
    np.testing.assert_allclose(losses["scan"], losses["loop"], rtol=1e-10)  # 1000 roundings, six steps of Adam
    assert len(set(losses["scan"])) == 6


@pytest.mark.parametrize("learned", [True, False])
def test_a_tensor_that_the_step_closes_over_is_read_anew(learned):
    w = leaf(2) if learned else fixed(2)
    xs, h, leaves = data(size=2)

    def step(x, h):
        h = mg.tanh(x * w + h)
        return h, h

    for i in range(4):
        w.data = np.full(2, 0.1 * (i + 1))
        agrees(step, xs, h, leaves={**leaves, "w": w})


def test_a_weight_taken_over_from_a_state_dict_or_cast_is_seen():
    net, xs, h = nn.Linear(3, 3), leaf(4, 2, 3), leaf(2, 3)

    def step(x, h):
        h = mg.tanh(net(x) + net(h))
        return h, h

    leaves = {"xs": xs, "h": h, **dict(net.named_parameters())}
    agrees(step, xs, h, leaves=leaves)
    net.load_state_dict({name: p * 0.5 for name, p in net.state_dict().items()})
    agrees(step, xs, h, leaves=leaves)
    in_float64(net)
    agrees(step, xs, h, leaves=leaves)
    net.weight = nn.Parameter(np.eye(3))
    net.bias = None
    agrees(step, xs, h, leaves={"xs": xs, "h": h, "weight": net.weight})


def test_a_weight_of_another_shape_is_seen():
    w = leaf(2, 3)
    for shape in [(2, 3), (2, 5), (2, 3)]:
        w.data, w.requires_grad = np.random.default_rng(0).normal(size=shape), False
        agrees(lambda x, h: (x @ w, h + x), leaf(4, 2, 2), leaf(2, 2))


def test_whether_a_weight_needs_a_gradient_may_change():
    step, weights = simple()
    xs, h, inputs = data()
    for names in ["WUb", "U", "", "Wb", "WUb"]:
        for name, w in weights.items():
            w.requires_grad = name in names
        for needs in [("xs", "h"), (), ("h",), ("xs",)]:
            for name, x in inputs.items():
                x.requires_grad = name in needs
            agrees(step, xs, h, leaves={**weights, **inputs})
            assert mg.scan(step, xs, h)[0].requires_grad == bool(names or needs)


def test_lengths_batches_and_dtypes_may_change_from_call_to_call():
    step, weights = simple()
    for T, B in [(4, 2), (1, 2), (9, 2), (4, 5), (4, 1), (2, 2), (4, 2)]:
        xs, h, inputs = data(T, B, seed=T)
        agrees(step, xs, h, leaves={**weights, **inputs})
        agrees(step, leaf(T, 2), leaf(3), leaves=weights)  # no batch at all
    for dtype in ["float32", "float64", "float32"]:
        for w in weights.values():
            w.data = w.data.astype(dtype)
            w.requires_grad = False
            w.requires_grad = True
        xs, h, inputs = data(dtype=dtype)
        agrees(step, xs, h, leaves={**weights, **inputs})


ALPHA = 0.5


class Scaled(nn.Module):
    """A cell with a number, kept in one of several places."""

    shared = 0.5

    def __init__(self, read: Any = lambda self: self.alpha):
        self.read, self.alpha, self.options, self.sizes = read, 0.5, {"alpha": 0.5, "list": [0.5]}, (1, 0.5)
        self.function = lambda: 0.5
        self.config, self.inner = types.SimpleNamespace(alpha=0.5), nn.Dropout(0.5)

    @property
    def doubled(self) -> Any:
        """Computed from the number."""
        return 2 * self.alpha

    def forward(self, x, h):
        h = mg.tanh(x + self.read(self) * h)
        return h, h


class Slotted:
    """A number in a slot."""

    __slots__ = ("alpha",)

    def __init__(self, alpha: float):
        self.alpha = alpha


class Plain:
    """A step that is a method, or the object itself, of a class that minigrad knows nothing of."""

    def __init__(self) -> None:
        self.alpha = 0.5

    def step(self, x, h):
        h = mg.tanh(x + self.alpha * h)
        return h, h

    __call__ = step


def in_a_global():
    def change(alpha):
        globals()["ALPHA"] = alpha

    def step(x, h):
        h = mg.tanh(x + ALPHA * h)
        return h, h

    return step, change


def in_a_global_of_a_helper():
    def helper(h):
        return ALPHA * h

    def step(x, h):
        h = mg.tanh(x + helper(h))
        return h, h

    return step, in_a_global()[1]


def in_a_global_read_from_the_module_object():
    here = sys.modules[__name__]

    def step(x, h):
        h = mg.tanh(x + here.ALPHA * h)
        return h, h

    return step, in_a_global()[1]


def in_a_closure():
    alpha = 0.5

    def change(new):
        nonlocal alpha
        alpha = new

    def step(x, h):
        h = mg.tanh(x + alpha * h)
        return h, h

    return step, change


def in_the_closure_of_a_helper():
    alpha = 0.5

    def change(new):
        nonlocal alpha
        alpha = new

    def helper(h):
        return alpha * h

    def step(x, h):
        h = mg.tanh(x + helper(h))
        return h, h

    return step, change


def in_a_function_of_its_own():
    factor = lambda h: 0.5 * h

    def change(alpha):
        nonlocal factor
        factor = lambda h: alpha * h

    def step(x, h):
        h = mg.tanh(x + factor(h))
        return h, h

    return step, change


def in_a_default_argument():
    def step(x, h, alpha=0.5):
        h = mg.tanh(x + alpha * h)
        return h, h

    def change(alpha):
        step.__defaults__ = (alpha,)

    return step, change


def in_a_partial():
    def step(alpha, x, h):
        h = mg.tanh(x + alpha[0] * h)
        return h, h

    alpha = [0.5]
    return functools.partial(step, alpha), lambda new: alpha.__setitem__(0, new)


def in_a_class():
    class Config:
        alpha = 0.5

    def step(x, h):
        h = mg.tanh(x + Config.alpha * h)
        return h, h

    return step, lambda alpha: setattr(Config, "alpha", alpha)


def in_a_slot():
    config = Slotted(0.5)

    def step(x, h):
        h = mg.tanh(x + config.alpha * h)
        return h, h

    return step, lambda alpha: setattr(config, "alpha", alpha)


def in_a_deque():
    alpha = collections.deque([0.5])

    def step(x, h):
        h = mg.tanh(x + alpha[0] * h)
        return h, h

    return step, lambda new: alpha.__setitem__(0, new)


def in_an_array_written_in_place():
    alpha = np.array([0.5, 0.5])

    def step(x, h):
        h = mg.tanh(x + alpha * h)
        return h, h

    return step, lambda new: alpha.fill(new)


def in_an_object():
    plain = Plain()
    return plain, lambda alpha: setattr(plain, "alpha", alpha)


def in_the_object_of_a_method():
    plain = Plain()
    return plain.step, lambda alpha: setattr(plain, "alpha", alpha)


def on_a_module(read: Any, write: Any):
    def build():
        cell = Scaled(read)
        return cell, lambda alpha: write(cell, alpha)

    return build


PLACES = {
    "a global": in_a_global,
    "a global that a helper reads": in_a_global_of_a_helper,
    "a global read from the module object": in_a_global_read_from_the_module_object,
    "a closure": in_a_closure,
    "the closure of a helper": in_the_closure_of_a_helper,
    "a function that is replaced": in_a_function_of_its_own,
    "a default argument": in_a_default_argument,
    "a partial": in_a_partial,
    "a class": in_a_class,
    "a slot": in_a_slot,
    "a deque": in_a_deque,
    "an array written in place": in_an_array_written_in_place,
    "an object": in_an_object,
    "the object of a method": in_the_object_of_a_method,
    "a cell": on_a_module(lambda c: c.alpha, lambda c, a: setattr(c, "alpha", a)),
    "the class of a cell": on_a_module(lambda c: c.shared, lambda c, a: setattr(Scaled, "shared", a)),
    "a dict of a cell": on_a_module(lambda c: c.options["alpha"], lambda c, a: c.options.update(alpha=a)),
    "a list in a dict of a cell": on_a_module(
        lambda c: c.options["list"][0], lambda c, a: c.options["list"].__setitem__(0, a)
    ),
    "a property of a cell": on_a_module(lambda c: c.doubled / 2, lambda c, a: setattr(c, "alpha", a)),
    "a tuple of a cell": on_a_module(lambda c: c.sizes[1], lambda c, a: setattr(c, "sizes", (1, a))),
    "an object of a cell": on_a_module(lambda c: c.config.alpha, lambda c, a: setattr(c.config, "alpha", a)),
    "a module that is replaced": on_a_module(
        lambda c: c.inner.p, lambda c, a: setattr(c, "inner", nn.Dropout(0.5)) or setattr(c.inner, "p", a)
    ),
    "a module of a cell": on_a_module(lambda c: c.inner.p, lambda c, a: setattr(c.inner, "p", a)),
    "a function of a cell": on_a_module(lambda c: c.function(), lambda c, a: setattr(c, "function", lambda: a)),
}


@pytest.mark.parametrize("build", PLACES.values(), ids=PLACES)
def test_a_number_that_changes_is_seen_wherever_it_is_kept(build):
    step, change = build()
    xs, h, leaves = data(size=2)
    try:
        for alpha in (0.5, 0.9, -0.3, 0.5):
            change(alpha)
            agrees(step, xs, h, leaves=leaves)
            for scan in (mg.scan, loop):
                (first, *_) = scan(step, xs, h)[0].numpy()
                np.testing.assert_allclose(first, np.tanh(xs.numpy()[0] + alpha * h.numpy()), rtol=1e-12)
    finally:
        change(0.5)


@pytest.mark.parametrize("place", [place for place in PLACES if place != "an array written in place"])
def test_a_weight_is_found_and_read_anew_wherever_it_is_kept(place):
    step, change = PLACES[place]()
    xs, h, leaves = data(size=2)
    first, second, other = leaf(2), leaf(2, 2, seed=1), fixed(2, seed=2)
    leaves = {**leaves, "first": first, "second": second}
    try:
        for w in (first, second, 0.25, other, first):
            change(w)
            agrees(step, xs, h, leaves=leaves)
            if isinstance(w, mg.Tensor):
                w.data = -w.data
                agrees(step, xs, h, leaves=leaves)
    finally:
        change(0.5)


def test_numbers_and_objects_in_the_context_are_seen():
    xs, h, leaves = data(size=2)
    w = leaf(2)

    def step(x, h, alpha, options):
        h = mg.tanh(x * options["w"] + alpha * h * options["beta"])
        return h, h

    for alpha, beta in [(0.5, 1), (0.9, 1), (0.9, 2.5), (w, 1), (0.5, 1)]:
        agrees(step, xs, h, (alpha, {"beta": beta, "w": w}), leaves={**leaves, "w": w})


def test_steps_of_one_code_with_different_closures_are_different_steps():
    def make(activation, scale, w):
        def step(x, h):
            h = activation(x * w + scale * h)
            return h, h

        return step

    xs, h, leaves = data(size=2)
    for activation in (mg.tanh, mg.sigmoid, lambda x: mg.tanh(x) * 2):
        for scale in (1, 1.0, True, 0.5, np.float64(0.25)):
            w = leaf(2, seed=int(scale * 4))
            agrees(make(activation, scale, w), xs, h, leaves={**leaves, "w": w})


def test_numbers_that_are_equal_but_of_different_types_are_told_apart():
    """1, 1.0 and True are equal in Python, and mean different dtypes."""
    box = [1]
    for value in (1, 1.0, True, 1, np.float32(1), 0.0, -0.0, 0):
        box[0] = value
        ours, _ = mg.scan(lambda n, s: (n * box[0] + s, s), mg.arange(3), mg.tensor(1, dtype="int64"))
        theirs, _ = loop(lambda n, s: (n * box[0] + s, s), mg.arange(3), mg.tensor(1, dtype="int64"))
        assert ours.dtype == theirs.dtype and ours.tolist() == theirs.tolist(), value


def test_steps_that_are_made_and_dropped_are_never_taken_for_each_other():
    """Their addresses are used again and again."""
    xs, h = fixed(2, 2), fixed(2)
    for i in range(100):
        config = types.SimpleNamespace(alpha=i / 100)
        outs, _ = mg.scan(lambda x, h, config=config: (x + config.alpha * h, h), xs, h)
        np.testing.assert_allclose(outs.numpy(), xs.numpy() + i / 100 * h.numpy(), rtol=1e-13)


def test_the_mode_of_training_is_seen():
    class Noisy(nn.Module):
        def __init__(self):
            self.inner = nn.Sequential(nn.Dropout(0.0))

        def forward(self, x, h):
            h = mg.tanh(x + (h if self.training else 0.5 * h)) * (2 if self.inner.training else 1)
            return h, h

    cell = Noisy()
    xs, h, leaves = data(size=2)
    seen = []
    for mode in (cell.train, cell.eval, cell.train, cell.inner.eval, cell.eval):
        mode()
        agrees(cell, xs, h, leaves=leaves)
        seen.append(mg.scan(cell, xs, h)[1].tolist())
    assert seen[0] == seen[2] and seen[1] == seen[4] and seen[0] not in (seen[1], seen[3]) and seen[1] != seen[3]


@pytest.mark.parametrize("remat", [None, "sqrt"])
def test_a_backward_pass_uses_the_numbers_of_its_forward_pass(remat):
    """As every operation does: what it saved is what there was."""
    step, weights = simple()
    xs, h, inputs = data()
    leaves = {**weights, **inputs}
    found = []
    for scan in (loop, mg.scan):
        before = {name: x.data for name, x in leaves.items()}
        forget(leaves.values())
        outs, state = scan(step, xs, h, remat=remat)
        for x in leaves.values():
            x.data = x.data * 3
        weighted((outs, state)).backward()
        found.append(gradients(leaves))
        for name, x in leaves.items():
            x.data = before[name]
    equal(found[1], found[0])


def test_a_number_of_an_imported_module_that_changes_is_seen():
    config = types.ModuleType("config")
    config.alpha = 0.5
    space = {"mg": mg, "config": config}
    exec("def step(x, h):\n    h = h * config.alpha + x\n    return h, h", space)
    for alpha in (0.5, 0.25):
        config.alpha = alpha
        assert mg.scan(space["step"], mg.ones((3, 1)), mg.zeros((1,)))[0][1].item() == 1 + alpha


def test_a_small_array_that_numpy_computes_with_is_seen_when_it_changes():
    mask = np.array([0.0, 1.0])
    step = lambda x, h: (h, h + x * mg.tensor(1 - mask, dtype="float32"))
    for value in (0.0, 1.0, 0.5):
        mask[0] = value
        assert mg.scan(step, mg.ones((3, 2)), mg.zeros((2,)))[1].tolist() == [3 * (1 - value), 0.0]
