"""Optimisers: their equations, PyTorch's numbers, and what they leave alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import io, nn, optim
from minigrad.errors import ArgumentError, MinigradError, ShapeError

from ..conftest import BACKENDS, STRICT
from ..oracles import optim as oracle
from ..strategies import SEEDS, as_numpy, as_tensor

# Name: what makes it of parameters, a rate and its numbers; those numbers; its oracle
OPTIMIZERS = {
    "sgd": (optim.SGD, {}, oracle.sgd),
    "momentum": (optim.SGD, {"momentum": 0.8}, oracle.sgd),
    "nesterov": (optim.SGD, {"momentum": 0.8, "nesterov": True}, oracle.sgd),
    "rmsprop": (optim.RMSprop, {"alpha": 0.9, "eps": 1e-6}, oracle.rmsprop),
    "adam": (optim.Adam, {"betas": (0.8, 0.95), "eps": 1e-7}, oracle.adam),
    "adamw": (optim.AdamW, {"betas": (0.8, 0.95), "eps": 1e-7, "weight_decay": 0.3}, oracle.adam),
}
STEPS = 20


def make(name: str, parameters, rate):
    kind, numbers, _ = OPTIMIZERS[name]
    return kind(parameters, rate, **numbers)


def by_hand(name: str, p0, gradients, rates):
    _, numbers, function = OPTIMIZERS[name]
    numbers = dict(numbers)
    if "betas" in numbers:
        numbers["beta1"], numbers["beta2"] = numbers.pop("betas")
    return function(p0, gradients, rates, **numbers)


def feed(p: mg.Tensor, g: np.ndarray | None) -> None:
    p.grad = None if g is None else as_tensor(g.astype(as_numpy(p).dtype), p.backend)


@pytest.mark.parametrize("name", OPTIMIZERS)
@given(
    shape=st.sampled_from([(), (1,), (3,), (2, 2), (0,)]),
    missing=st.sets(st.integers(0, STEPS - 1)),
    scheduled=st.booleans(),
    scale=st.sampled_from([1.0, 1e-10, 1e6]),
    backend=st.sampled_from(BACKENDS),
    seed=SEEDS,
)
def test_twenty_steps_are_those_of_the_equations(name, shape, missing, scheduled, scale, backend, seed):
    """Gradients may be missing at some steps, even the first; a parameter beside this one never misses any."""
    rng = np.random.default_rng(seed)
    p0 = [rng.normal(size=shape), rng.normal(size=2)]
    gradients = [[scale * rng.normal(size=p.shape) for _ in range(STEPS)] for p in p0]
    gradients[0] = [None if t in missing else g for t, g in enumerate(gradients[0])]
    rate = (lambda t: 0.1 / (1 + t)) if scheduled else 0.05
    rates = [rate(t) if scheduled else rate for t in range(STEPS)]
    parameters = [as_tensor(p, backend, requires_grad=True) for p in p0]
    optimizer = make(name, parameters, rate)
    expected = [by_hand(name, p, g, rates) for p, g in zip(p0, gradients)]
    for t in range(STEPS):
        for p, g in zip(parameters, gradients):
            feed(p, g[t])
        optimizer.step()
        for p, path in zip(parameters, expected):
            # Each step rounds about ten times; what it rounds is no larger than the largest step.
            np.testing.assert_allclose(as_numpy(p), path[t], rtol=1e-12, atol=1e-13 * max(1.0, scale))


class TestPyTorch:
    """The optimisers against numbers of PyTorch 2.13 (CPU), in float64, in recorded/torch_optimizers.json; made by:

    import json, torch
    torch.set_default_dtype(torch.float64)
    makers = {
        "sgd": lambda p: torch.optim.SGD(p, 0.1),
        "momentum": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9),
        "nesterov": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True),
        "rmsprop": lambda p: torch.optim.RMSprop(p, 0.01),
        "adam": lambda p: torch.optim.Adam(p, 0.01),
        "adamw": lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.1),
    }
    record = {}
    for name, make in makers.items():
        p = torch.tensor([1.0, -2.0, 0.5], requires_grad=True)
        optimizer = make([p])
        path = []
        for t in range(20):
            p.grad = torch.sin(1.7 * (3 * t + torch.arange(3))) if t != 7 else None
            optimizer.step()
            path.append(p.tolist())
        record[name] = path
    json.dump(record, open("torch_optimizers.json", "w"))
    """

    recorded = json.loads((Path(__file__).parent / "recorded" / "torch_optimizers.json").read_text())

    @pytest.mark.parametrize(
        "name, maker",
        [
            ("sgd", lambda p: optim.SGD(p, 0.1)),
            ("momentum", lambda p: optim.SGD(p, 0.1, momentum=0.9)),
            ("nesterov", lambda p: optim.SGD(p, 0.1, momentum=0.9, nesterov=True)),
            ("rmsprop", lambda p: optim.RMSprop(p)),
            ("adam", lambda p: optim.Adam(p, 0.01)),
            ("adamw", lambda p: optim.AdamW(p, 0.01, weight_decay=0.1)),
        ],
    )
    def test_an_optimizer_takes_pytorchs_steps_with_its_defaults(self, name, maker, backend):
        p = as_tensor(np.array([1.0, -2.0, 0.5]), backend, requires_grad=True)
        optimizer = maker([p])
        for t, expected in enumerate(self.recorded[name]):
            feed(p, np.sin(1.7 * (3 * t + np.arange(3))) if t != 7 else None)
            optimizer.step()
            np.testing.assert_allclose(as_numpy(p), expected, rtol=1e-12)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_writes_into_no_array_that_anyone_may_hold(name, backend):
    p = as_tensor(np.array([1.0, 2.0]), backend, requires_grad=True)
    optimizer = make(name, [p], 0.1)
    held = []
    for _ in range(3):
        feed(p, np.array([1.0, -1.0]))
        arrays = [p.data, p.grad.data, *optimizer.running[0].values()]
        held += [(array, as_numpy(array).copy()) for array in arrays]
        optimizer.step()
        assert p.data is not arrays[0]
        assert (as_numpy(p) != as_numpy(arrays[0])).all()
    for array, values in held:
        assert (as_numpy(array) == values).all()


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "rate",
    [0.1, 1, np.float64(0.1), lambda t: np.float64(0.1), lambda t: np.array(0.1)],
    ids=["float", "int", "numpy", "schedule of numpy", "schedule of arrays"],
)
def test_a_parameter_and_its_running_values_keep_their_dtype(name, dtype, rate, backend):
    p = as_tensor(np.array([1.0, 2.0], dtype), backend, requires_grad=True)
    optimizer = make(name, [p], rate)
    for _ in range(2):
        feed(p, np.array([1.0, -1.0]))
        optimizer.step()
    kinds = {str(array.dtype).rpartition(".")[2] for array in (p.data, *optimizer.running[0].values())}
    assert kinds == {dtype}
    assert p.requires_grad


@pytest.mark.parametrize(
    "maker",
    [
        lambda p, x: optim.SGD(p, 0.1, momentum=x(0.9)),
        lambda p, x: optim.RMSprop(p, 0.1, alpha=x(0.9), eps=x(1e-8)),
        lambda p, x: optim.AdamW(p, 0.1, betas=(x(0.9), x(0.99)), eps=x(1e-8), weight_decay=x(0.1)),
    ],
    ids=["sgd", "rmsprop", "adamw"],
)
def test_numbers_from_numpy_do_not_widen_a_parameter(maker):
    p = mg.tensor([1.0, 2.0], requires_grad=True)
    optimizer = maker([p], np.float64)
    feed(p, np.array([1.0, -1.0]))
    optimizer.step()
    assert p.dtype == mg.float32
    assert {a.dtype for a in optimizer.running[0].values()} == {mg.float32}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_parameter_without_a_gradient_stays_as_it_is(name):
    p, q = (mg.tensor([1.0, 2.0], requires_grad=True) for _ in range(2))
    optimizer = make(name, [p, q], 0.1)
    array = p.data
    feed(q, np.ones(2))
    optimizer.step()
    assert p.data is array
    assert (q.numpy() != [1.0, 2.0]).all()
    assert not any(key.startswith("0.") for key in optimizer.state_dict())


def test_zero_grad_forgets_the_gradients():
    p = mg.tensor([1.0], requires_grad=True)
    feed(p, np.ones(1))
    optim.SGD([p], 0.1).zero_grad()
    assert p.grad is None


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("how", ["memory", "file", "moved"])
def test_a_state_that_was_saved_continues_bit_for_bit(name, how, tmp_path):
    rng = np.random.default_rng(0)
    gradients = rng.normal(size=(8, 3, 3))
    schedule = lambda t: 0.1 / (1 + t)

    def run(parameters, optimizer, steps):
        for t in steps:
            for i, (p, g) in enumerate(zip(parameters, gradients[t])):
                feed(p, g if (t > 5 if i == 2 else t != 2) else None)  # the last has none until after the saving
            optimizer.step()

    whole = [mg.tensor([1.0, 2.0, 3.0], requires_grad=True) for _ in range(3)]
    run(whole, make(name, whole, schedule), range(8))

    first = [mg.tensor([1.0, 2.0, 3.0], requires_grad=True) for _ in range(3)]
    before = make(name, first, schedule)
    run(first, before, range(5))
    state = before.state_dict()
    if how == "file":
        io.save(tmp_path / "state", state)
        state, _ = io.load(tmp_path / "state")
    if how == "moved":
        state = before.to(STRICT.name).state_dict()
        assert {t.backend for key, t in state.items() if not key.endswith("steps")} <= {STRICT.name}
    second = [mg.tensor(p.numpy(), requires_grad=True) for p in first]
    after = make(name, second, schedule)
    after.load_state_dict(state)
    assert after.steps == 5
    run(second, after, range(5, 8))
    for p, q in zip(whole, second):
        assert (p.numpy() == q.numpy()).all()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_saved_state_is_a_snapshot(name):
    p = mg.tensor([1.0], requires_grad=True)
    optimizer = make(name, [p], 0.1)
    feed(p, np.ones(1))
    optimizer.step()
    state = optimizer.state_dict()
    before = {key: t.numpy().copy() for key, t in state.items()}
    optimizer.step()
    assert all((state[key].numpy() == before[key]).all() for key in before)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_moved_with_its_module_an_optimizer_goes_on_as_if_it_had_not_been(name):
    layers = [nn.Linear(2, 2), nn.Linear(2, 2)]
    layers[1].load_state_dict(layers[0].state_dict())
    optimizers = [make(name, layer.parameters(), 0.1) for layer in layers]
    for t in range(4):
        if t == 2:
            layers[1].to(STRICT.name)
            assert optimizers[1].to(STRICT.name) is optimizers[1]
        for layer, optimizer in zip(layers, optimizers):
            for p in layer.parameters():
                feed(p, np.cos(t + np.arange(p.size)).reshape(p.shape))
            optimizer.step()
    for p, q in zip(*(layer.parameters() for layer in layers)):
        assert q.backend == STRICT.name
        np.testing.assert_allclose(q.numpy(), p.numpy(), rtol=1e-6)


@pytest.mark.parametrize(
    "change, error, words",
    [
        (lambda s: s.update({"1.mean": mg.zeros((3,))}), ArgumentError, "1.mean"),
        (lambda s: s.update({"0.velocity": mg.zeros((3,))}), ArgumentError, "0.velocity"),
        (lambda s: s.update({"nonsense": mg.zeros((3,))}), ArgumentError, "nonsense"),
        (lambda s: s.update({"0.mean": mg.zeros((2,))}), ShapeError, r"0\.mean.*\(2,\).*\(3,\)"),
        (lambda s: s.pop("0.mean"), ArgumentError, "0.mean"),
        (lambda s: s.pop("0.steps"), ArgumentError, "0.steps"),
        (lambda s: s.pop("steps"), ArgumentError, "no steps"),
    ],
)
def test_a_state_of_other_parameters_is_refused_and_the_optimizer_unchanged(change, error, words):
    p = mg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    optimizer = optim.Adam([p], 0.1)
    feed(p, np.ones(3))
    optimizer.step()
    state, before = optimizer.state_dict(), dict(optimizer.running[0])
    change(state)
    with pytest.raises(error, match=words):
        optimizer.load_state_dict(state)
    assert optimizer.steps == 1
    assert optimizer.running[0] == before


@pytest.mark.parametrize(
    "wrong, words",
    [
        (lambda p: optim.SGD([], 0.1), "no parameters"),
        (lambda p: optim.SGD([mg.zeros((2,))], 0.1), "requires_grad"),
        (lambda p: optim.Adam([np.zeros(2)], 0.1), "requires_grad"),
        (lambda p: optim.SGD([p], -0.1), "lr"),
        (lambda p: optim.SGD([p], 0.1, momentum=1.0), "momentum"),
        (lambda p: optim.SGD([p], 0.1, momentum=-0.1), "momentum"),
        (lambda p: optim.SGD([p], 0.1, nesterov=True), "momentum"),
        (lambda p: optim.RMSprop([p], 0.1, alpha=1.5), "alpha"),
        (lambda p: optim.Adam([p], 0.1, betas=(1.0, 0.9)), "beta1"),
        (lambda p: optim.AdamW([p], 0.1, betas=(0.9, -1.0)), "AdamW: beta2"),
    ],
)
def test_arguments_that_make_no_sense_are_refused_by_name(wrong, words):
    with pytest.raises(ArgumentError, match=words):
        wrong(mg.tensor([1.0], requires_grad=True))


def test_parameters_may_come_from_a_generator():
    p = mg.tensor([1.0], requires_grad=True)
    optimizer = optim.SGD((x for x in [p]), 0.5)
    for _ in range(2):
        feed(p, np.ones(1))
        optimizer.step()
    assert p.tolist() == [0.0]


def test_an_optimizer_that_defines_no_update_says_so():
    p = mg.tensor([1.0], requires_grad=True)
    feed(p, np.ones(1))
    with pytest.raises(MinigradError, match="update"):
        optim.Optimizer([p], 0.1).step()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_bowl_is_descended_to_its_bottom(name):
    p = mg.tensor([2.0, -3.0], requires_grad=True, dtype="float64")
    optimizer = make(name, [p], lambda t: 0.2 * 0.98**t)
    if name == "adamw":
        optimizer.weight_decay = 0.0
    for _ in range(500):
        optimizer.zero_grad()
        ((p - mg.tensor([1.0, 1.0], dtype="float64")) ** 2).sum().backward()
        optimizer.step()
    np.testing.assert_allclose(p.numpy(), 1.0, atol=1e-2)


def test_a_rate_of_zero_changes_nothing():
    p = mg.tensor([1.0], requires_grad=True)
    feed(p, np.ones(1))
    optim.SGD([p], 0).step()
    assert p.tolist() == [1.0]


def test_a_parameter_given_twice_is_refused():
    p = mg.tensor([1.0], requires_grad=True)
    with pytest.raises(mg.errors.ArgumentError, match="given twice"):
        optim.SGD([p, p], 0.1)


@pytest.mark.parametrize("parameters", [lambda p: p, lambda p: [p * 2]])
def test_a_bare_tensor_or_a_computed_one_is_no_list_of_parameters(parameters):
    p = mg.tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(mg.errors.ArgumentError):
        optim.SGD(parameters(p), 0.1)


def test_clipping_wants_a_list_and_a_learning_rate_is_a_number():
    p = mg.tensor([1.0, 2.0], requires_grad=True)
    for call in (
        lambda: optim.clip_by_norm(p, 1.0),
        lambda: optim.clip_by_value(p, 1.0),
        lambda: optim.SGD([p], float("nan")),
    ):
        with pytest.raises(mg.errors.ArgumentError):
            call()


def test_a_module_or_a_number_in_place_of_the_parameters_is_refused_with_the_way_out():
    layer = nn.Linear(2, 1)
    for misuse in (lambda: optim.Adam(layer, 0.1), lambda: optim.clip_by_norm(layer, 1.0)):
        with pytest.raises(ArgumentError, match=r"got a Linear; write module.parameters\(\)"):
            misuse()
    with pytest.raises(ArgumentError, match=r"got a float; write module.parameters\(\)"):
        optim.Adam(1e-3, layer.parameters())
