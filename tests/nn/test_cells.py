"""The recurrent cells over whole sequences: against BPTT by hand, PyTorch's numbers, and the notes'."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import nn, tree
from minigrad.errors import ShapeError

from ..oracles import elman, gru, lstm
from ..strategies import SEEDS, as_numpy, as_tensor
from .helpers import MGU, by_rows, close, in_float64, run

CELLS = {
    "elman": (nn.ElmanCell, elman.layer, 1),
    "lstm": (nn.LSTMCell, lstm.layer, 2),
    "gru": (nn.GRUCell, gru.layer, 1),
    "gru, reset after": (lambda i, h: nn.GRUCell(i, h, reset_after=True), gru.layer_reset_after, 1),
}
SIZES = {"T": st.integers(0, 6), "B": st.integers(1, 3), "I": st.integers(1, 3), "H": st.integers(1, 4)}
# Rows of weights of one kind each: ordinary, saturating every gate, or almost nothing.
SCALES = np.array([1.0, 1.0, 40.0, 1e-9])


def problem(kind: str, T: int, B: int, I: int, H: int, seed: int):  # noqa: E741
    """A network in float64 and everything around it, all from a seed."""
    make, oracle, parts = CELLS[kind]
    rng = np.random.default_rng(seed)
    net = in_float64(nn.Recurrent(make(I, H)))
    for p in net.parameters():
        p.data = rng.normal(size=p.shape) * rng.choice(SCALES, (p.shape[0], *(1,) * (p.ndim - 1)))
    xs = rng.normal(size=(T, B, I)) * rng.choice(SCALES, (T, B, 1))
    states = [rng.normal(size=(B, H)) * rng.choice([0.0, 1.0, 3.0]) for _ in range(parts)]
    return net, oracle, xs, states, rng.normal(size=(T, B, H)), [rng.normal(size=(B, H)) for _ in range(parts)]


def compare(net, oracle, xs, states, grad_outs, grad_states, lengths=None, backend="numpy"):
    weights = {name.removeprefix("cells.0.0."): as_numpy(p) for name, p in net.named_parameters()}
    rows = lengths if lengths is not None else [len(xs)] * xs.shape[1]
    expected = by_rows(oracle, xs, states, weights, grad_outs, grad_states, rows)
    found = run(net.to(backend), xs, states, grad_outs, grad_states, lengths)
    # Where every gate is saturated, 1 - s is itself only rounding, of 1e-16 times the numbers that it meets: inputs and
    # weights of 40, and sums of some dozens. Hence the floor: 1e-9 of it is 1e-13.
    floor = 1e-4 * max(1.0, np.abs(xs).max(initial=0))
    close(found[0], expected[0], floor=floor, what="outs")
    close(found[2], expected[2], floor=floor, what="grad xs")
    for k in range(len(states)):
        close(found[1][k], expected[1][k], floor=floor, what=f"final state {k}")
        close(found[3][k], expected[3][k], floor=floor, what=f"grad initial state {k}")
    for name, grad in expected[4].items():
        close(found[4][name], grad, floor=floor, what=f"grad {name}")


@pytest.mark.parametrize("kind", CELLS)
@given(seed=SEEDS, **SIZES)
def test_a_cell_over_a_sequence_has_the_values_and_gradients_of_bptt_by_hand(kind, T, B, I, H, seed):  # noqa: E741
    compare(*problem(kind, T, B, I, H, seed))


@pytest.mark.parametrize("kind", CELLS)
@given(data=st.data(), seed=SEEDS, **SIZES)
def test_rows_with_lengths_have_the_values_and_gradients_of_each_row_on_its_own(kind, data, T, B, I, H, seed):  # noqa: E741
    lengths = data.draw(st.lists(st.integers(0, T), min_size=B, max_size=B))
    compare(*problem(kind, T, B, I, H, seed), lengths=lengths)


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("lengths", [None, [1, 3, 0]])
def test_every_backend_has_the_values_and_gradients_of_bptt_by_hand(kind, lengths, backend):
    compare(*problem(kind, 3, 3, 2, 2, 5), lengths=lengths, backend=backend)


class ProbedElman(nn.Cell):
    """Elman's hidden layer, with a number added to each h: the gradient of it is the gradient by h."""

    def __init__(self, I: int, H: int):  # noqa: E741
        super().__init__(I + H, H)
        self.inner = nn.ElmanCell(I, H)

    def forward(self, x, h):
        x, probe = mg.split(x, [self.inner.input_size, self.hidden_size], axis=-1)
        h = self.inner(x, h)[0] + probe
        return h, h


@given(T=st.integers(1, 6), I=st.integers(1, 3), H=st.integers(1, 3), C=st.integers(1, 4), seed=SEEDS)
def test_an_elman_network_under_cross_entropy_has_every_gradient_of_notes_000(T, I, H, C, seed):  # noqa: E741
    rng = np.random.default_rng(seed)
    net, output = in_float64(nn.Recurrent(ProbedElman(I, H))), in_float64(nn.Linear(H, C))
    for p in [*net.parameters(), *output.parameters()]:
        p.data = rng.normal(size=p.shape) * rng.choice([1.0, 3.0])
    cell = net.cell.inner
    x, y, h0 = rng.normal(size=(T, I)), rng.integers(0, C, T), rng.normal(size=H)
    loss, expected = elman.network(
        x, y, h0, cell.weight_hh.data, cell.weight_ih.data, cell.bias.data, output.weight.data, output.bias.data
    )

    xs = mg.tensor(np.concatenate([x, np.zeros((T, H))], axis=1)[:, None], requires_grad=True)
    start, probe_o = mg.tensor(h0[None], requires_grad=True), mg.tensor(np.zeros((T, 1, C)), requires_grad=True)
    hs, _ = net(xs, start)
    total = mg.cross_entropy(output(hs) + probe_o, mg.tensor(y[:, None]), reduction="sum")
    total.backward()
    found = {"o": probe_o.grad[:, 0], "h": xs.grad[:, 0, I:], "x": xs.grad[:, 0, :I], "h0": start.grad[0]}
    found |= {"c": output.bias.grad, "V": output.weight.grad}
    found |= {"b": cell.bias.grad, "W": cell.weight_hh.grad, "U": cell.weight_ih.grad}
    assert abs(total.item() - loss) <= 1e-12 * max(1.0, loss)
    assert found.keys() == expected.keys()
    # The probabilities sum to 1 but for rounding: with one class, o has the gradient 0 and all others are rounding.
    for name, value in found.items():
        close(value, expected[name], floor=1e-4, what=name)


def test_the_average_loss_of_notes_004_has_the_gradient_of_the_sum_over_t():
    T, C = 5, 3
    net, output = in_float64(nn.Recurrent(nn.ElmanCell, 2, 4)), in_float64(nn.Linear(4, C))
    x, y = mg.random.normal((T, 1, 2), dtype="float64"), mg.tensor(np.arange(T)[:, None] % C)
    weights = {name.removeprefix("cells.0.0."): p.data for name, p in net.named_parameters()}
    _, expected = elman.network(
        x.numpy()[:, 0], y.numpy()[:, 0], np.zeros(4), weights["weight_hh"], weights["weight_ih"], weights["bias"],
        output.weight.data, output.bias.data,
    )  # fmt: skip
    mg.cross_entropy(output(net(x)[0]), y, reduction="mean").backward()
    close(net.cell.weight_hh.grad, expected["W"] / T)
    close(output.weight.grad, expected["V"] / T)


@pytest.mark.parametrize(
    "inputs, expected",
    # Notes 003: y_t = (1 + 1) h_t and h_t = (x_1 + x_2) + (1 + 1) h_{t-1}, in both components alike. In the changed
    # order h = 4, then 2 + 8 = 10, then 2 + 20 = 22, and y is twice that.
    [([1, 1, 2], [4, 12, 32]), ([2, 1, 1], [8, 20, 44])],
)
def test_the_linear_network_of_ones_gives_the_numbers_of_notes_003(inputs, expected, backend):
    net, output = nn.Recurrent(nn.ElmanCell(2, 2, activation=lambda a: a)), nn.Linear(2, 2, bias=False)
    for p in [*net.parameters(), *output.parameters()]:
        p.data = mg.ones(p.shape, backend=backend).data
    net.cell.bias.data = mg.zeros((2,), backend=backend).data
    hs, _ = net(mg.tensor([[[x, x]] for x in inputs], backend=backend))
    assert output(hs)[:, 0].tolist() == [[y, y] for y in expected]


class TestPyTorch:
    """The cells against numbers of PyTorch 2.13 (CPU), in float64, in recorded/torch_cells.json; made by:

    import json, torch
    torch.set_default_dtype(torch.float64)
    T, B, I, H = 4, 2, 3, 2

    def wave(*shape, start):
        n = torch.Size(shape).numel()
        return torch.sin(1.7 * torch.arange(start, start + n)).reshape(shape)

    record = {}
    for kind, gates in ("RNN", 1), ("LSTM", 4), ("GRU", 3):
        net = getattr(torch.nn, kind)(I, H)
        weights = {n: wave(*p.shape, start=10 * k) for k, (n, p) in enumerate(net.named_parameters(), 1)}
        for n, p in net.named_parameters():
            p.data = weights[n]
        x = wave(T, B, I, start=3).requires_grad_()
        states = [wave(1, B, H, start=70 + 9 * k).requires_grad_() for k in range(1 + (kind == "LSTM"))]
        outs, last = net(x, states[0] if len(states) == 1 else tuple(states))
        last = last if isinstance(last, tuple) else (last,)
        loss = (outs * wave(T, B, H, start=40)).sum()
        for k, s in enumerate(last):
            loss = loss + (s * wave(1, B, H, start=50 + 9 * k)).sum()
        loss.backward()
        record[kind] = {
            "outs": outs.tolist(), "last": [s[0].tolist() for s in last], "grad xs": x.grad.tolist(),
            "grad states": [s.grad[0].tolist() for s in states],
            "grads": {n.removesuffix("_l0"): p.grad.tolist() for n, p in net.named_parameters()},
        }
    json.dump(record, open("torch_cells.json", "w"), indent=None)
    """

    recorded = json.loads((Path(__file__).parent / "recorded" / "torch_cells.json").read_text())

    @staticmethod
    def wave(*shape, start):
        return np.sin(1.7 * np.arange(start, start + int(np.prod(shape)))).reshape(shape)

    @pytest.mark.parametrize(
        "kind, cell, gates",
        [("RNN", nn.ElmanCell, 1), ("LSTM", nn.LSTMCell, 4), ("GRU", CELLS["gru, reset after"][0], 3)],
    )
    def test_a_cell_with_pytorchs_weights_has_its_outputs_and_gradients(self, kind, cell, gates, backend):
        T, B, I, H = 4, 2, 3, 2  # noqa: E741
        expected, wave = self.recorded[kind], self.wave
        shapes = {"weight_ih": (gates * H, I), "weight_hh": (gates * H, H), "bias_ih": (gates * H,)}
        theirs = {name: wave(*shape, start=10 * k) for k, (name, shape) in enumerate(shapes.items(), 1)}
        bias_hh = wave(gates * H, start=40)
        ours = {"weight_ih": theirs["weight_ih"], "weight_hh": theirs["weight_hh"], "bias": theirs["bias_ih"] + bias_hh}
        grads = dict(expected["grads"], bias=expected["grads"]["bias_ih"])
        if kind == "GRU":  # the second bias of n stands inside the product with r
            ours["bias"][2 * H :] -= bias_hh[2 * H :]
            ours["bias_hn"], grads["bias_hn"] = bias_hh[2 * H :], expected["grads"]["bias_hh"][2 * H :]
        net = in_float64(nn.Recurrent(cell(I, H)))
        net.cell.load_state_dict(ours)
        parts = len(expected["last"])
        outs, last, grad_xs, grad_states, found = run(
            net.to(backend),
            wave(T, B, I, start=3),
            [wave(B, H, start=70 + 9 * k) for k in range(parts)],
            wave(T, B, H, start=40),
            [wave(B, H, start=50 + 9 * k) for k in range(parts)],
        )
        close(outs, np.array(expected["outs"]), 1e-12)
        close(grad_xs, np.array(expected["grad xs"]), 1e-12)
        for k in range(parts):
            close(last[k], np.array(expected["last"][k]), 1e-12)
            close(grad_states[k], np.array(expected["grad states"][k]), 1e-12)
        for name, grad in found.items():
            close(grad, np.array(grads[name]), 1e-12, what=name)


def test_the_recorded_script_is_pytorchs_gru_with_reset_after():
    """Were the reset gate before the product, the recorded outputs would be others: the record tells them apart."""
    expected, H, wave = np.array(TestPyTorch.recorded["GRU"]["outs"]), 2, TestPyTorch.wave
    net = in_float64(nn.Recurrent(nn.GRUCell(3, H)))
    bias = wave(3 * H, start=30) + wave(3 * H, start=40)
    net.cell.load_state_dict(
        {"weight_ih": wave(3 * H, 3, start=10), "weight_hh": wave(3 * H, H, start=20), "bias": bias}
    )
    outs, _ = net(mg.tensor(wave(4, 2, 3, start=3)), mg.tensor(wave(2, H, start=70)))
    assert np.abs(outs.numpy() - expected).max() > 1e-3


@pytest.mark.parametrize(
    "cell, count",
    [
        (nn.ElmanCell, lambda d, h: h * (d + h + 1)),
        (nn.LSTMCell, lambda d, h: 4 * h * (d + h + 1)),
        (nn.GRUCell, lambda d, h: 3 * h * (d + h + 1)),
        (CELLS["gru, reset after"][0], lambda d, h: 3 * h * (d + h + 1) + h),
    ],
)
@given(d=st.integers(0, 9), h=st.integers(1, 9))
def test_a_cell_has_as_many_weights_as_the_notes_count(cell, count, d, h):
    assert cell(d, h).num_parameters == count(d, h)


@pytest.mark.parametrize("kind", CELLS)
def test_a_new_cell_has_weights_uniform_within_one_over_root_h(kind):
    H = 25
    cell = CELLS[kind][0](30, H)
    for name, p in cell.named_parameters():
        values = p.numpy()
        if kind == "lstm" and name == "bias":  # open, as far as the forget gate goes
            assert values.tolist() == [0.0] * H + [1.0] * H + [0.0] * (2 * H)
        else:
            # Of n uniform numbers all are within half the bound with probability 2^-n, here at most 2^-25.
            assert H**-0.5 / 2 < np.abs(values).max() <= H**-0.5
    assert [name for name, _ in cell.named_parameters()][:3] == ["weight_ih", "weight_hh", "bias"]


def test_the_forget_bias_of_an_lstm_is_what_is_asked_for():
    assert nn.LSTMCell(2, 3, forget_bias=-2.5).bias.tolist() == [0.0] * 3 + [-2.5] * 3 + [0.0] * 6


def test_an_elman_cell_takes_any_activation():
    cell = nn.ElmanCell(1, 1, activation=mg.relu)
    cell.load_state_dict({"weight_ih": np.ones((1, 1)), "weight_hh": np.ones((1, 1)), "bias": np.zeros(1)})
    out, h = cell(mg.tensor([[-3.0], [2.0]]), mg.tensor([[1.0], [5.0]]))
    assert out.tolist() == h.tolist() == [[0.0], [7.0]]


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_cell_works_in_the_dtype_of_its_weights(kind, dtype, backend):
    net = nn.Recurrent(CELLS[kind][0](2, 3))
    net = (in_float64(net) if dtype == "float64" else net).to(backend)
    outs, state = net(mg.zeros((2, 1, 2), dtype=dtype, backend=backend))
    outs.sum().backward()
    seen = [outs, *tree.leaves(state), *tree.leaves(net.cell.initial_state(1)), *(p.grad for p in net.parameters())]
    assert {(str(t.dtype).rpartition(".")[2], t.backend) for t in seen} == {(dtype, backend)}


@pytest.mark.parametrize("kind", [*CELLS, "mgu"])
def test_a_step_is_a_pure_function_of_its_input_and_state(kind):
    cell = MGU(2, 3) if kind == "mgu" else CELLS[kind][0](2, 3)
    before = dict(vars(cell))
    x, state = mg.random.normal((4, 2)), tree.map(lambda s: s + 0.5, cell.initial_state(4))
    first, second = cell(x, state), cell(x, state)
    assert vars(cell) == before
    assert all((a.numpy() == b.numpy()).all() for a, b in zip(tree.leaves(first), tree.leaves(second)))


@pytest.mark.parametrize("kind", CELLS)
def test_gradients_of_gradients_pass_through_a_cell(kind):
    cell = in_float64(CELLS[kind][0](2, 2))
    names = [name for name, _ in cell.named_parameters()]
    values = [p.numpy() for p in cell.parameters()]
    states = tree.leaves(cell.initial_state(2))

    def f(x, *others):
        for p, value in zip(names, others[len(states) :]):
            setattr(cell, p, value)
        state = others[: len(states)]
        return cell(x, state[0] if len(state) == 1 else state)

    rng = np.random.default_rng(0)
    inputs = [rng.normal(size=(2, 2)), *(rng.normal(size=s.shape) for s in states), *values]
    assert mg.gradcheck(f, inputs, order=2)


@pytest.mark.parametrize("lengths", [None, [2, 0, 3]])
def test_a_users_own_cell_runs_over_sequences_and_passes_gradcheck(lengths, backend):
    net = in_float64(nn.Recurrent(MGU, 2, 3, unroll="eager"), backend)  # the weights that gradcheck gives have a graph
    names, values = zip(*net.named_parameters())
    rng = np.random.default_rng(1)

    def f(xs, h0, *weights):
        for name, weight in zip(names, weights):
            *_, part, attribute = name.split(".")
            setattr(getattr(net.cell, part), attribute, weight)
        return net(xs, h0, lengths=lengths)

    inputs = [as_tensor(rng.normal(size=shape), backend) for shape in ((3, 3, 2), (3, 3))]
    assert mg.gradcheck(f, [*inputs, *values], names=["xs", "h0", *names])


@pytest.mark.parametrize("kind", CELLS)
def test_an_input_of_the_wrong_size_is_refused_with_both_sizes(kind):
    cell = CELLS[kind][0](2, 3)
    with pytest.raises(ShapeError, match=r"\(4, 5\)"):
        cell(mg.zeros((4, 5)), cell.initial_state(4))
