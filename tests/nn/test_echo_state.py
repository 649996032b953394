"""Echo state networks: what a reservoir is, that it forgets, and the read-out against least squares."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import nn, optim, tree
from minigrad.errors import AnomalyError, ArgumentError, ShapeError

from ..oracles import echo_state
from ..strategies import SEEDS, as_numpy, as_tensor
from .helpers import close, in_float64


def network(I: int = 2, H: int = 12, O: int = 2, **options: Any) -> nn.EchoStateNetwork:  # noqa: E741
    """In float64, of a dense reservoir with a bias unless told otherwise."""
    return in_float64(nn.EchoStateNetwork(I, H, O, **{"density": 0.5, "bias_scale": 0.3, **options}))


def numbers(T: int, B: int, I: int, O: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:  # noqa: E741
    rng = np.random.default_rng(seed)
    return rng.normal(size=(T, B, I)), rng.normal(size=(T, B, O))


def collected(net: nn.EchoStateNetwork, xs: np.ndarray, starts: np.ndarray | None = None) -> np.ndarray:
    """[h_t, x_t] of every row and step (T, B, H + I), by the oracle's loop."""
    cell = net.reservoir.cell
    weights = {name: as_numpy(w) for name, w in cell.named_tensors().items()}
    T, B, H = *xs.shape[:2], cell.hidden_size
    starts = np.zeros((B, H)) if starts is None else starts
    nothing = np.zeros((T, H)), [np.zeros(H)]
    hs = [echo_state.layer(xs[:, b], [starts[b]], weights, *nothing, leak=cell.leak)[0] for b in range(B)]
    return np.concatenate([np.stack(hs, axis=1), xs], axis=-1)


# The reservoir


@pytest.mark.parametrize("radius, density", [(0.9, 0.1), (1.2, 0.05), (0.5, 1.0), (0.0, 0.3)])
def test_the_recurrent_weights_have_the_spectral_radius_and_the_density_that_were_asked_for(radius, density):
    H = 200
    w = nn.EchoStateCell(1, H, spectral_radius=radius, density=density).weight_hh.numpy().astype(np.float64)
    # Rounding to float32 moves an eigenvalue by 6e-8 of the norm of w, times a condition number of some dozens.
    assert abs(np.abs(np.linalg.eigvals(w)).max() - radius) < 1e-5
    if radius:
        n = H * H
        assert abs((w != 0).mean() - density) <= 5 * np.sqrt(density * (1 - density) / n)


def test_the_input_weights_and_the_bias_are_uniform_in_what_was_asked_for():
    cell = nn.EchoStateCell(30, 50, input_scale=0.5, bias_scale=0.2)
    for values, scale in ((cell.weight_ih.numpy(), 0.5), (cell.bias.numpy(), 0.2)):
        n = values.size  # all within 3/4 of the scale: a chance of (3/4)^n, at most 6e-7
        assert values.min() < -0.75 * scale and values.max() > 0.75 * scale and np.abs(values).max() <= scale, n
    assert not nn.EchoStateCell(3, 50).bias.numpy().any()


def test_nothing_of_the_reservoir_is_a_parameter_and_all_of_it_is_saved():
    net = nn.EchoStateNetwork(2, 30, 3)
    assert net.reservoir.parameters() == [] and [n for n, _ in net.named_parameters()] == [
        "output.weight",
        "output.bias",
    ]
    assert net.num_parameters == 3 * (30 + 2) + 3
    assert set(net.state_dict()) - {"output.weight", "output.bias"} == {
        f"reservoir.cells.0.0.{name}" for name in ("weight_ih", "weight_hh", "bias")
    }


def test_training_by_gradients_changes_the_read_out_alone():
    net = nn.EchoStateNetwork(2, 30, 1, bias_scale=0.1)
    before = {name: t.numpy().copy() for name, t in net.state_dict().items()}
    optimizer = optim.Adam(net.parameters(), 0.1)
    for _ in range(3):
        net.zero_grad()
        (net(mg.random.normal((6, 2, 2)))[0] ** 2).mean().backward()
        optimizer.step()
    for name, t in net.state_dict().items():
        assert (t.numpy() == before[name]).all() == name.startswith("reservoir"), name


def test_fitting_changes_the_read_out_alone_and_leaves_no_gradient():
    net = network()
    before = {name: t.numpy().copy() for name, t in net.state_dict().items()}
    xs, ys = numbers(30, 2, 2, 2)
    state = net.fit(mg.tensor(xs), mg.tensor(ys))
    for name, t in net.state_dict().items():
        assert (t.numpy() == before[name]).all() == name.startswith("reservoir"), name
    assert not state.requires_grad and all(p.grad is None and p.requires_grad for p in net.parameters())


@pytest.mark.parametrize("unroll", ["compiled", "eager"])
def test_gradients_by_inputs_and_state_flow_through_the_reservoir(unroll):
    net = network(leak=0.6)
    net.reservoir.unroll = unroll
    xs, grad_ys = numbers(5, 1, 2, 2)
    x, h = as_tensor(xs, "numpy", True), as_tensor(np.random.default_rng(1).normal(size=(1, 12)), "numpy", True)
    (net(x, h)[0] * mg.tensor(grad_ys)).sum().backward()
    cell, V = net.reservoir.cell, net.output.weight.data
    weights = {name: t.data for name, t in cell.named_tensors().items()}
    through = grad_ys[:, 0] @ V
    _, _, grad_x, (grad_h,), _ = echo_state.layer(
        xs[:, 0], [h.data[0]], weights, through[:, :12], [np.zeros(12)], leak=0.6
    )
    close(x.grad, (grad_x + through[:, 12:])[:, None])
    close(h.grad, grad_h[None])
    for name, t in weights.items():
        assert getattr(cell, name).grad is None, (name, t.shape)


@pytest.mark.parametrize("leak", [1.0, 0.5])
def test_below_a_radius_of_1_the_state_forgets_where_it_began_and_above_it_does_not(leak):
    """For the input 0 and no bias: the state 0 is then stable, and one that is not 0 is never reached by it."""
    apart = {}
    for radius in (0.9, 1.5):
        with mg.seed(3):
            net = nn.Recurrent(nn.EchoStateCell(1, 60, spectral_radius=radius, leak=leak))
        starts = mg.stack([mg.zeros((60,)), 0.5 * mg.ones((60,))])
        outs = net(mg.zeros((400, 2, 1)), starts)[0].numpy()
        apart[radius] = np.abs(outs[:, 0] - outs[:, 1]).max(axis=1)
    assert apart[0.9][-1] < 1e-6 * apart[0.9][0]
    assert apart[1.5][-100:].max() > 0.1


def test_two_states_under_one_input_converge_and_stay_together():
    net = nn.Recurrent(nn.EchoStateCell(2, 80, spectral_radius=0.9))
    xs = mg.broadcast_to(mg.random.normal((250, 1, 2)), (250, 2, 2))
    outs = net(xs, mg.random.uniform((2, 80), -1, 1))[0].numpy()
    apart = np.abs(outs[:, 0] - outs[:, 1]).max(axis=1)
    assert apart[0] > 0.1 and apart[-1] < 1e-6 and np.abs(outs[-1]).max() > 0.1


def test_one_seed_gives_the_same_reservoir_and_another_another():
    def tensors(seed):
        with mg.seed(seed):
            return {name: t.numpy() for name, t in nn.EchoStateNetwork(2, 25, 1, bias_scale=1.0).state_dict().items()}

    a, b, c = tensors(1), tensors(1), tensors(2)
    assert all((a[name] == b[name]).all() and (a[name] != c[name]).any() for name in a)


# The read-out


@given(
    data=st.data(),
    B=st.integers(1, 3),
    O=st.integers(1, 3),
    washout=st.integers(0, 8),
    ridge=st.sampled_from([1e-6, 1e-2, 10.0]),
    leak=st.sampled_from([1.0, 0.4]),
    seed=SEEDS,
)
def test_a_fit_is_the_ridge_regression_on_the_states_of_all_rows_after_the_washout(
    data, B, O, washout, ridge, leak, seed  # noqa: E741
):  # fmt: skip
    T = 12
    lengths = data.draw(st.none() | st.lists(st.integers(0, T), min_size=B, max_size=B).filter(lambda n: max(n) > 8))
    with mg.seed(seed):
        net = network(2, 5, O, leak=leak)
    xs, ys = numbers(T, B, 2, O, seed)
    starts = np.random.default_rng(seed).normal(size=(B, 5))
    ends = [T] * B if lengths is None else lengths
    given_xs, given_ys = xs.copy(), ys.copy()
    for b, n in enumerate(ends):  # what is past a row's end does not count, whatever it is
        given_xs[n:, b] = given_ys[n:, b] = np.nan
    state = net.fit(
        mg.tensor(given_xs), mg.tensor(given_ys), washout=washout, ridge=ridge, state=mg.tensor(starts), lengths=lengths
    )
    features = collected(net, xs, starts)
    pairs = [(features[t, b], ys[t, b]) for b in range(B) for t in range(washout, ends[b])]
    V, v = echo_state.ridge(*(np.array(part) for part in zip(*pairs)), ridge)
    # V is 1e-16 times the condition of X^T X + ridge I away, whose eigenvalues are from 1e-6 to some hundreds.
    close(net.output.weight, V, 1e-6)
    close(net.output.bias, v, 1e-6, floor=np.abs(V).max())
    last = np.array([features[n - 1, b, :5] if n else starts[b] for b, n in enumerate(ends)])
    close(state, last, 1e-12)


@pytest.mark.parametrize("ridge", [0.0, 0.5])
def test_a_fit_is_least_squares_on_the_augmented_system(ridge):
    """By NumPy's lstsq, of another method: rows sqrt(ridge) for each weight but the bias, and targets 0 there."""
    net = network(2, 8, 3)
    xs, ys = numbers(60, 2, 2, 3)
    net.fit(mg.tensor(xs), mg.tensor(ys), washout=5, ridge=ridge)
    features, targets = collected(net, xs)[5:].reshape(-1, 10), ys[5:].reshape(-1, 3)
    rows = np.concatenate([features, np.sqrt(ridge) * np.eye(10)])
    rows = np.concatenate([rows, np.repeat([1.0, 0.0], [len(features), 10])[:, None]], axis=1)
    solution = np.linalg.lstsq(rows, np.concatenate([targets, np.zeros((10, 3))]), rcond=None)[0]
    close(net.output.weight, solution[:-1].T, 1e-9)
    close(net.output.bias, solution[-1], 1e-9)


def test_a_target_that_the_read_out_can_say_is_found_whatever_its_offset(backend):
    net = network(2, 6, 2)
    xs, _ = numbers(50, 2, 2, 2)
    V, v = np.random.default_rng(1).normal(size=(2, 8)), np.array([100.0, -3.0])
    ys = collected(net, xs) @ V.T + v
    net.to(backend)
    net.fit(as_tensor(xs, backend), as_tensor(ys, backend), washout=3, ridge=1e-10)
    close(net.output.weight, V, 1e-7)
    close(net.output.bias, v, 1e-7)
    close(net(as_tensor(xs, backend))[0], ys, 1e-8)


def test_a_large_ridge_leaves_the_mean_of_the_targets():
    net = network()
    xs, ys = numbers(40, 2, 2, 2)
    net.fit(mg.tensor(xs), mg.tensor(ys + 7), ridge=1e12)
    assert np.abs(net.output.weight.numpy()).max() < 1e-9
    close(net.output.bias, (ys + 7).mean(axis=(0, 1)), 1e-9)


def test_what_is_fitted_is_what_a_call_says_and_from_the_state_it_goes_on():
    net = network()
    xs, ys = numbers(40, 2, 2, 2)
    state = net.fit(mg.tensor(xs[:30]), mg.tensor(ys[:30]))
    V, v = net.output.weight.data, net.output.bias.data
    expected = collected(net, xs) @ V.T + v
    close(net(mg.tensor(xs))[0], expected, 1e-12)
    late, last = net(mg.tensor(xs[30:]), state)
    close(late, expected[30:], 1e-12)
    close(last, collected(net, xs)[-1, :, :12], 1e-12)


def test_after_a_rows_end_the_outputs_are_0_and_nothing_has_an_effect():
    net = network()
    xs, _ = numbers(8, 3, 2, 2)
    lengths = [5, 0, 8]
    padding = np.arange(8)[:, None] >= np.array(lengths)
    x = as_tensor(np.where(padding[:, :, None], np.nan, xs), "numpy", True)
    ys, state = net(x, lengths=lengths)
    expected = collected(net, xs) @ net.output.weight.data.T + net.output.bias.data
    close(ys, np.where(padding[:, :, None], 0, expected), 1e-12)
    (ys.sum() + state.sum()).backward()
    assert not as_numpy(x.grad)[padding].any()
    grads = [as_numpy(t.grad) for t in (x, *net.parameters())]
    assert all(np.isfinite(g).all() and g.any() for g in grads)


# Generation


@pytest.mark.parametrize("leak", [1.0, 0.5])
def test_to_generate_is_to_feed_each_output_back(leak, backend):
    net = network(2, 12, 2, leak=leak)
    xs, ys = numbers(40, 3, 2, 2)
    state = net.fit(mg.tensor(xs), mg.tensor(ys)).numpy()
    x, h, said = xs[-1], state, []
    for _ in range(6):
        found = collected(net, x[None], h)[0]
        h, x = found[:, :12], found @ net.output.weight.numpy().T + net.output.bias.numpy()
        said.append(x)
    net.to(backend)
    generated, last = net.generate(as_tensor(xs[-1], backend), as_tensor(state, backend), 6)
    close(generated, np.array(said), 1e-10)
    close(last, h, 1e-10)
    first, middle = net.generate(as_tensor(xs[-1], backend), as_tensor(state, backend), 4)
    rest, _ = net.generate(first[-1], middle, 2)  # and goes on from where it was
    close(mg.concat([first, rest]), np.array(said), 1e-10)


def test_a_sine_is_continued_for_hundreds_of_steps():
    with mg.seed(1):
        net = nn.EchoStateNetwork(1, 100, 1, spectral_radius=0.9, input_scale=0.5, bias_scale=0.2)
    wave = np.sin(0.2 * np.arange(1101.0)).astype("float32")[:, None, None]
    state = net.fit(mg.tensor(wave[:800]), mg.tensor(wave[1:801]), washout=100)
    said, _ = net.generate(mg.tensor(wave[800]), state, 300)
    assert np.abs(said.numpy() - wave[801:]).max() < 0.05


def test_without_a_state_it_generates_from_the_beginning_and_no_steps_give_none():
    net = nn.EchoStateNetwork(2, 20, 2)
    first = mg.random.normal((3, 2))
    ys, state = net.generate(first, None, 4)
    again, _ = net.generate(first.numpy(), mg.zeros((3, 20)), 4)
    assert (ys.numpy() == again.numpy()).all() and state.shape == (3, 20)
    ys, same = net.generate(first, state, 0)
    assert ys.shape == (0, 3, 2) and (same.numpy() == state.numpy()).all()


# As a module


def test_a_saved_network_is_loaded_into_one_of_another_reservoir(tmp_path):
    net, other = (nn.EchoStateNetwork(2, 20, 2, bias_scale=0.1) for _ in range(2))
    xs = mg.random.normal((20, 2, 2))
    net.fit(xs, xs)
    mg.io.save(tmp_path / "net.safetensors", net.state_dict())
    tensors, _ = mg.io.load(tmp_path / "net.safetensors")
    assert (other(xs)[0].numpy() != net(xs)[0].numpy()).any()
    other.load_state_dict(tensors)
    assert (other(xs)[0].numpy() == net(xs)[0].numpy()).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_network_works_in_the_dtype_and_on_the_backend_of_its_weights(dtype, backend):
    net = nn.EchoStateNetwork(2, 20, 2)
    net = (in_float64(net) if dtype == "float64" else net).to(backend)
    xs = mg.random.normal((30, 2, 2), dtype=dtype, backend=backend)
    state = net.fit(xs, xs, washout=2)
    ys, last = net(xs, state)
    said, after = net.generate(xs[-1], last, 3)
    seen = [state, ys, last, said, after, *net.state_dict().values(), *tree.leaves(net.reservoir.cell.initial_state(1))]
    assert {(str(t.dtype).rpartition(".")[2], t.backend) for t in seen} == {(dtype, backend)}


def test_a_float32_network_is_fitted_in_float64():
    """The read-out is that of the states, which are of float32, to the precision of float32, for a tiny ridge too."""
    net = nn.EchoStateNetwork(1, 15, 1, density=0.5)
    xs, ys = (a.astype("float32") for a in numbers(300, 1, 1, 1))
    hs, _ = net.reservoir(mg.tensor(xs))
    net.fit(mg.tensor(xs), mg.tensor(ys), ridge=1e-8)
    features = np.concatenate([hs.numpy(), xs], axis=-1).astype("float64").reshape(300, -1)
    V, v = echo_state.ridge(features, ys.astype("float64").reshape(300, -1), 1e-8)
    close(net.output.weight, V, 1e-6)
    close(net.output.bias, v, 1e-6, floor=np.abs(V).max())


def test_arrays_will_do_for_inputs_and_targets():
    net, xs = nn.EchoStateNetwork(2, 20, 2), np.random.default_rng(0).normal(size=(20, 2, 2)).astype("float32")
    net.fit(xs, xs)
    by_arrays = net(xs)[0].numpy()
    net.fit(mg.tensor(xs), mg.tensor(xs))
    assert (net(mg.tensor(xs))[0].numpy() == by_arrays).all()


# What is refused

XS = mg.zeros((10, 2, 2))


@pytest.mark.parametrize(
    "call, error, words",
    [
        (lambda net: net.fit(XS, XS, washout=10), ArgumentError, "washout=10 leaves none of the 10 steps"),
        (lambda net: net.fit(XS, XS, washout=99), ArgumentError, "washout=99 leaves none"),
        (lambda net: net.fit(XS, XS, washout=4, lengths=[4, 2]), ArgumentError, "washout=4 leaves none"),
        (lambda net: net.fit(XS[:0], XS[:0]), ArgumentError, "none of the 0 steps"),
        (lambda net: net.fit(XS, XS, washout=-1), ArgumentError, "got -1"),
        (lambda net: net.fit(XS, XS, washout=2.5), ArgumentError, "got 2.5"),
        (lambda net: net.fit(XS, XS, ridge=-1.0), ArgumentError, "-1.0"),
        (lambda net: net.fit(XS, XS, ridge=float("nan")), ArgumentError, "nan"),
        (lambda net: net.fit(XS, XS, ridge=0.0), ArgumentError, "20 steps do not determine 22 weights"),
        (lambda net: net.fit(mg.zeros((99, 2, 2)), mg.zeros((99, 2, 2)), ridge=0.0), ArgumentError, "ridge above 0"),
        (lambda net: net.fit(XS, XS[:9]), ShapeError, r"\(10, 2, 2\), got \(9, 2, 2\)"),
        (lambda net: net.fit(XS, XS[:, :, :1]), ShapeError, r"\(10, 2, 2\), got \(10, 2, 1\)"),
        (lambda net: net.fit(XS, XS, lengths=[11, 0]), ArgumentError, "lengths must be 2 integers from 0 to 10"),
        (lambda net: net.fit(XS[:, :, :1], XS), ShapeError, r"\(T, B, 2\), got \(10, 2, 1\)"),
        (lambda net: net.generate(XS[0], None, -1), ArgumentError, "steps must be an integer from 0, got -1"),
        (lambda net: net.generate(XS[0], None, 2.0), ArgumentError, "got 2.0"),
    ],
)
def test_a_fit_that_cannot_be_is_refused_and_the_read_out_is_as_it_was(call, error, words):
    net = nn.EchoStateNetwork(2, 20, 2)
    before = [p.numpy().copy() for p in net.parameters()]
    with pytest.raises(error, match=words):
        call(net)
    assert all((p.numpy() == q).all() for p, q in zip(net.parameters(), before))


@pytest.mark.parametrize("O", [1, 3])
def test_a_network_of_other_outputs_than_inputs_cannot_run_by_itself(O):  # noqa: E741
    with pytest.raises(ArgumentError, match=f"generate: {O} outputs cannot be the 2 inputs"):
        nn.EchoStateNetwork(2, 20, O).generate(XS[0], None, 3)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"leak": 0}, "leak must be above 0"),
        ({"leak": -0.5}, "leak must be above 0"),
        ({"leak": 1.01}, "at most 1, got 1.01"),
        ({"leak": float("nan")}, "leak"),
        ({"leak": "half"}, "leak must be above 0, and at most 1, got 'half'"),
        ({"input_scale": -1.0}, "input_scale must be a number from 0, got -1.0"),
        ({"bias_scale": float("nan")}, "bias_scale must be a number from 0, got nan"),
        ({"density": 0}, "density must be above 0"),
        ({"density": 1.5}, "at most 1"),
        ({"density": float("nan")}, "density"),
        ({"spectral_radius": -0.1}, "spectral_radius finite and not negative"),
        ({"spectral_radius": float("nan")}, "spectral_radius"),
        ({"density": 1e-9}, "has no cycle that a signal could echo in"),
        ({"hidden_size": 0}, "hidden_size"),
    ],
)
@pytest.mark.parametrize("make", [nn.EchoStateCell, lambda i, h, **more: nn.EchoStateNetwork(i, h, 1, **more)])
def test_a_reservoir_that_cannot_be_is_refused(make, options, words):
    options = {"hidden_size": 20, **options}
    with pytest.raises(ArgumentError, match=words):
        make(2, options.pop("hidden_size"), **options)


def test_what_fit_and_generate_cannot_use_is_refused():
    net = nn.EchoStateNetwork(2, 20, 2)
    xs = mg.ones((30, 1, 2))
    bad = mg.tensor(np.where(np.arange(60).reshape(30, 1, 2) == 7, np.nan, 1.0))
    before = net.output.weight.numpy()
    for pair in ((bad, xs), (xs, bad)):
        with pytest.raises(AnomalyError, match="the read-out would be NaN"), np.errstate(invalid="ignore"):
            net.fit(*pair)
    assert (net.output.weight.numpy() == before).all()
    for first in (xs[-1:], xs[-1, 0], mg.ones((1, 3))):
        with pytest.raises(ShapeError, match=r"expected a first input \(B, 2\)"):
            net.generate(first, None, 3)
