"""nn.RNN, nn.LSTM and nn.GRU: PyTorch's numbers under PyTorch's names, and the sharing that gives the names."""

from __future__ import annotations

import copy
import json
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import nn, optim
from minigrad.errors import ArgumentError, DtypeError, MinigradError, ShapeError
from minigrad.nn.exchange import GRU, LSTM, RNN

from ..conftest import STRICT
from ..strategies import SEEDS, as_numpy, as_tensor
from .helpers import close, gradient, in_float64, pulled

KINDS = {"RNN": RNN, "LSTM": LSTM, "GRU": GRU}
GATES = {"RNN": 1, "LSTM": 4, "GRU": 3}
FLAGS = st.fixed_dictionaries({"bias": st.booleans(), "bidirectional": st.booleans(), "num_layers": st.integers(1, 2)})


def pair(last):
    """The final state as a tuple, of h alone or of h and c."""
    return last if isinstance(last, tuple) else (last,)


class Tagger(nn.Module):
    """A network that has one of these inside, between others."""

    def __init__(self, rnn: nn.Module):
        self.first, self.rnn, self.last = nn.Linear(2, 2), rnn, nn.Linear(2, 2)

    def forward(self, x):
        return self.rnn(self.first(x))


class TestPyTorch:
    """Against numbers of PyTorch 2.13 (CPU), in float64, in recorded/torch_networks.json; made by:

    import json, torch
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    torch.set_default_dtype(torch.float64)
    T, B, I, H = 3, 2, 2, 3
    two = {"num_layers": 2}
    both = {"num_layers": 2, "bidirectional": True}
    configurations = {  # a class, its options, the shape of the input, lengths
        "LSTM, two layers, both directions": ("LSTM", both, (T, B, I), None),
        "LSTM, projected": ("LSTM", {**both, "proj_size": 2}, (T, B, I), None),
        "LSTM, one sequence": ("LSTM", both, (T, I), None),
        "LSTM, packed": ("LSTM", both, (4, 3, I), [2, 4, 1]),
        "LSTM, projected, packed, one layer": ("LSTM", {"proj_size": 1, "bias": False}, (4, 3, I), [2, 4, 1]),
        "GRU, two layers, both directions, batch first": ("GRU", {**both, "batch_first": True}, (B, T, I), None),
        "GRU, packed, batch first": ("GRU", {**both, "batch_first": True}, (3, 4, I), [2, 4, 1]),
        "GRU, one sequence, without biases": ("GRU", {"bias": False, "batch_first": True}, (T, I), None),
        "RNN, relu, two layers": ("RNN", {**two, "nonlinearity": "relu"}, (T, B, I), None),
        "RNN, tanh, without biases": ("RNN", {"bias": False}, (T, B, I), None),
    }

    def wave(shape, start):
        n = torch.Size(shape).numel()
        return torch.sin(1.7 * torch.arange(start, start + n)).reshape(shape)

    record = {}
    for title, (kind, options, shape, lengths) in configurations.items():
        net = getattr(torch.nn, kind)(I, H, **options)
        first = options.get("batch_first", False)
        for k, (name, p) in enumerate(net.named_parameters(), 1):
            p.data = wave(p.shape, 10 * k)
        L = net.num_layers * (2 if net.bidirectional else 1)
        rows = () if len(shape) == 2 else (shape[0 if first else 1],)
        sizes = [net.proj_size or H, H][: 1 + (kind == "LSTM")]
        x = wave(shape, 3).requires_grad_()
        states = [wave((L, *rows, n), 70 + 9 * k).requires_grad_() for k, n in enumerate(sizes)]
        hx = tuple(states) if kind == "LSTM" else states[0]
        if lengths is None:
            out, last = net(x, hx)
        else:
            packed = pack_padded_sequence(x, lengths, batch_first=first, enforce_sorted=False)
            out, last = net(packed, hx)
            out, _ = pad_packed_sequence(out, batch_first=first)
        last = last if kind == "LSTM" else (last,)
        loss = (out * wave(out.shape, 40)).sum()
        for k, s in enumerate(last):
            loss = loss + (s * wave(s.shape, 50 + 9 * k)).sum()
        loss.backward()
        outer = torch.nn.Module()
        outer.first, outer.rnn, outer.last = torch.nn.Linear(2, 2), net, torch.nn.Linear(2, 2)
        record[title] = {
            "kind": kind, "options": options, "lengths": lengths, "input": shape, "keys": list(outer.state_dict()),
            "shapes": {name: list(p.shape) for name, p in net.state_dict().items()},
            "out": out.tolist(), "last": [s.tolist() for s in last],
            "grad input": x.grad.tolist(), "grad hx": [s.grad.tolist() for s in states],
            "grads": {name: p.grad.tolist() for name, p in net.named_parameters()},
        }
    json.dump(record, open("torch_networks.json", "w"))
    """

    recorded = json.loads((Path(__file__).parent / "recorded" / "torch_networks.json").read_text())

    @staticmethod
    def wave(shape, start):
        return np.sin(1.7 * np.arange(start, start + int(np.prod(shape)))).reshape(shape)

    @pytest.mark.parametrize("title", recorded)
    def test_a_network_with_pytorchs_weights_has_its_outputs_and_gradients(self, title, backend):
        expected, H = self.recorded[title], 3
        shape, lengths, options = expected["input"], expected["lengths"], expected["options"]
        net = in_float64(KINDS[expected["kind"]](shape[-1], H, **options), backend)
        net.load_state_dict({n: self.wave(s, 10 * k) for k, (n, s) in enumerate(expected["shapes"].items(), 1)})
        x = as_tensor(self.wave(shape, 3), backend, requires_grad=True)
        states = [
            as_tensor(self.wave(np.shape(s), 70 + 9 * k), backend, requires_grad=True)
            for k, s in enumerate(expected["grad hx"])
        ]
        hx = tuple(states) if expected["kind"] == "LSTM" else states[0]
        out, last = net(x, hx) if lengths is None else net(x, hx, lengths=lengths)
        loss = (out * as_tensor(self.wave(out.shape, 40), backend)).sum()
        for k, s in enumerate(pair(last)):
            loss = loss + (s * as_tensor(self.wave(s.shape, 50 + 9 * k), backend)).sum()
        loss.backward()
        close(out, np.array(expected["out"]), 1e-12, what="out")
        close(x.grad, np.array(expected["grad input"]), 1e-12, what="grad input")
        assert isinstance(last, tuple) == (expected["kind"] == "LSTM")
        assert len(pair(last)) == len(states)
        for k, s in enumerate(pair(last)):
            close(s, np.array(expected["last"][k]), 1e-12, what=f"last {k}")
            close(states[k].grad, np.array(expected["grad hx"][k]), 1e-12, what=f"grad hx {k}")
        assert [name for name, _ in net.named_parameters()] == list(expected["grads"])
        for name, p in net.named_parameters():
            close(p.grad, np.array(expected["grads"][name]), 1e-12, what=name)

    @pytest.mark.parametrize("title", recorded)
    def test_a_network_and_one_that_holds_it_have_pytorchs_names_and_shapes_in_pytorchs_order(self, title):
        expected = self.recorded[title]
        net = KINDS[expected["kind"]](expected["input"][-1], 3, **expected["options"])
        assert [(name, list(t.shape)) for name, t in net.state_dict().items()] == list(expected["shapes"].items())
        assert list(Tagger(net).state_dict()) == expected["keys"]
        assert [name for name, _ in Tagger(net).named_parameters()] == expected["keys"]
        lines = [line.split(":")[0].strip() for line in repr(Tagger(net)).splitlines()[1:]]
        assert lines == expected["keys"]


def drawn(kind, seed, **options):
    """A network in float64 with an input (5, 3, 2) and a state, all from a seed."""
    rng = np.random.default_rng(seed)
    net = in_float64(KINDS[kind](2, 3, **options))
    for p in net.parameters():
        p.data = rng.normal(size=p.shape)
    count = net.num_layers * (2 if net.bidirectional else 1)
    states = [mg.tensor(rng.normal(size=(count, 3, 3)), requires_grad=True) for _ in range(1 + (kind == "LSTM"))]
    return net, mg.tensor(rng.normal(size=(5, 3, 2)), requires_grad=True), states


def hx(states):
    return states[0] if len(states) == 1 else tuple(states)


@pytest.mark.parametrize("kind", KINDS)
@given(flags=FLAGS, seed=SEEDS, lengths=st.none() | st.lists(st.integers(0, 5), min_size=3, max_size=3))
def test_batch_first_lays_input_and_output_out_anew_and_never_the_state(kind, flags, seed, lengths):
    net, x, states = drawn(kind, seed, **flags)
    turned = in_float64(KINDS[kind](2, 3, batch_first=True, **flags))
    turned.load_state_dict(net.state_dict())
    out, last = net(x, hx(states), lengths=lengths)
    out_turned, last_turned = turned(mg.permute_dims(x, (1, 0, 2)), hx(states), lengths=lengths)
    close(out_turned, out.numpy().transpose(1, 0, 2), 1e-12)
    for s, s_turned in zip(pair(last), pair(last_turned), strict=True):
        close(s_turned, s.numpy(), 1e-12)


@pytest.mark.parametrize("kind", KINDS)
@given(flags=FLAGS, batch_first=st.booleans(), seed=SEEDS, length=st.none() | st.integers(0, 5), begun=st.booleans())
def test_one_sequence_is_a_batch_of_one_without_its_axis(kind, flags, batch_first, seed, length, begun):
    net, x, states = drawn(kind, seed, batch_first=batch_first, **flags)
    one, row = x[:, 1], (mg.permute_dims(x[:, 1:2], (1, 0, 2)) if batch_first else x[:, 1:2])
    alone = net(one, hx([s[:, 1] for s in states]) if begun else None, lengths=length)
    batched = net(row, hx([s[:, 1:2] for s in states]) if begun else None, lengths=None if length is None else [length])
    close(alone[0], batched[0].numpy().squeeze(0 if batch_first else 1), 1e-12)
    for s, s_batched in zip(pair(alone[1]), pair(batched[1]), strict=True):
        close(s, s_batched.numpy().squeeze(1), 1e-12)


@pytest.mark.parametrize("kind", KINDS)
@given(flags=FLAGS, seed=SEEDS)
def test_an_input_in_two_windows_and_the_state_between_them_is_the_whole_input(kind, flags, seed):
    flags = {**flags, "bidirectional": False}
    net, x, states = drawn(kind, seed, **flags)
    out, last = net(x, hx(states))
    begin, between = net(x[:2], hx(states))
    end, last_again = net(x[2:], between)
    close(mg.concat([begin, end]), out.numpy(), 1e-12)
    for s, expected in zip(pair(last_again), pair(last), strict=True):
        close(s, expected.numpy(), 1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lengths", [None, [2, 5, 0]])
def test_loops_run_otherwise_have_the_same_outputs_and_gradients(kind, lengths):
    options = {"num_layers": 2, "bidirectional": True}
    net, x, states = drawn(kind, 1, **options)
    expected = pulled(net(x, hx(states), lengths=lengths), [x, *states, *net.parameters()])
    for loop in {"remat": "sqrt"}, {"remat": 2}, {"unroll": "eager"}:
        other, x, states = drawn(kind, 1, **options, **loop)
        assert all(getattr(other.recurrent, key) == value for key, value in loop.items())
        found = pulled(other(x, hx(states), lengths=lengths), [x, *states, *other.parameters()])
        for a, b in zip(found, expected, strict=True):
            close(a, b, 1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_no_state_is_a_state_of_zeros_in_the_dtype_and_backend_of_the_weights(kind, backend):
    net = KINDS[kind](2, 3, 2).to(backend)
    x = as_tensor(np.ones((4, 2, 2), np.float32), backend)
    zeros = [as_tensor(np.zeros((2, 2, 3), np.float32), backend) for _ in range(1 + (kind == "LSTM"))]
    (out, last), (expected, _) = net(x), net(x, hx(zeros))
    assert (as_numpy(out) == as_numpy(expected)).all()
    assert {(t.backend, str(t.dtype).rpartition(".")[2]) for t in (out, *pair(last))} == {(backend, "float32")}


def test_arrays_that_are_no_tensors_are_taken_as_input_and_state():
    net = in_float64(LSTM(2, 3))
    x, h, c = np.ones((4, 1, 2)), np.ones((1, 1, 3)), np.zeros((1, 1, 3))
    out, _ = net(x, [h, c])
    assert (out.numpy() == net(mg.tensor(x), (mg.tensor(h), mg.tensor(c)))[0].numpy()).all()


@pytest.mark.parametrize("kind", KINDS)
def test_new_weights_are_uniform_within_one_over_root_hidden_size_biases_too(kind):
    options = {"proj_size": 20} if kind == "LSTM" else {}
    net = KINDS[kind](30, 25, num_layers=2, bidirectional=True, **options)
    for name, p in net.named_parameters():
        values = p.numpy()
        # Of n uniform numbers all are within half the bound with probability 2^-n, here at most 2^-25.
        assert 0.1 < np.abs(values).max() <= 0.2, name
        assert values.min() < 0 < values.max(), name
    assert (net.bias_ih_l0.numpy() != net.bias_hh_l0.numpy()).all()
    H, G = 25, 25 * GATES[kind]
    P = net.proj_size if kind == "LSTM" else H
    one = [G * (size + P + 2) + (P * H if kind == "LSTM" else 0) for size in (30, 2 * P)]
    assert net.num_parameters == 2 * sum(one)


def test_what_a_user_reads_from_pytorchs_modules_stands_here_too():
    net = LSTM(2, 3, 2, True, True, 0.5, True, 1)
    names = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional", "proj_size")
    assert [getattr(net, name) for name in names] == [2, 3, 2, True, True, 0.5, True, 1]
    assert RNN(2, 3, 2, "relu", False).nonlinearity == "relu"
    assert not RNN(2, 3, 2, "relu", False).bias
    assert not hasattr(GRU(2, 3, bias=False), "bias_ih_l0")


# What is shared


def assert_shared(net, what=""):
    """Each parameter here is the very one that its cell has, and what the network computes follows from it."""
    for name, (part, attribute) in net._places.items():
        here, there = getattr(net, name), getattr(part, attribute)
        assert here is there if isinstance(here, nn.Parameter) else here == there, (what, name)
    cells = [cell for layer in net.recurrent.cells for cell in layer]
    assert {id(p) for cell in cells for p in cell.parameters()} == {id(p) for p in net.parameters()}, what
    x = mg.ones((2, 1, 2), dtype=net.weight_ih_l0.dtype, backend=net.weight_ih_l0.backend)
    net.zero_grad()
    mg.sum(net(x)[0] * net(x)[0]).backward()
    assert all(p.grad is not None for p in net.parameters()), what
    before = as_numpy(net(x)[0])
    for p in net.parameters():
        p.data = p.data * 0
    assert not as_numpy(net(x)[0]).any(), what
    assert before.any(), what


DEEP = {"num_layers": 2, "bidirectional": True}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "copied",
    [lambda m: m, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))],
    ids=["itself", "deepcopy", "pickle"],
)
def test_a_copy_shares_its_weights_with_its_own_cells_and_with_no_others(kind, copied):
    tagger = Tagger(KINDS[kind](2, 3, **DEEP))
    clone = copied(tagger)
    x = mg.random.normal((3, 2, 2))
    before = tagger(x)[0].numpy()
    assert (clone(x)[0].numpy() == before).all()
    assert list(clone.state_dict()) == list(tagger.state_dict())
    assert_shared(clone.rnn)
    if clone is not tagger:
        assert not {id(p) for p in clone.parameters()} & {id(p) for p in tagger.parameters()}
        assert (tagger(x)[0].numpy() == before).all()


@pytest.mark.parametrize("kind", KINDS)
def test_what_moves_loads_trains_or_replaces_weights_leaves_them_shared(kind):
    source = KINDS[kind](2, 3, **DEEP).state_dict()

    def load(net):
        net.load_state_dict(source)
        assert all((p.numpy() == source[name].numpy()).all() for name, p in net.named_parameters())

    def move(net):
        assert net.to(STRICT.name).weight_hh_l1_reverse.backend == STRICT.name

    def step(net):
        before = net.weight_hh_l1.numpy()
        net(mg.ones((2, 1, 2)))[0].sum().backward()
        optim.SGD(net.parameters(), lr=0.1).step()
        assert (net.weight_hh_l1.numpy() != before).any()

    def replace(net):
        for name, p in net.named_parameters():
            setattr(net, name, nn.Parameter(nn.init.normal(p.shape)))

    def rebind(net):
        net.weight_hh_l0.data = nn.init.orthogonal(net.weight_hh_l0.shape).data

    for change in load, move, step, replace, rebind:
        net = KINDS[kind](2, 3, **DEEP)
        change(net)
        assert list(net.state_dict()) == list(source)
        assert_shared(net, change.__name__)


@pytest.mark.parametrize("kind", KINDS)
def test_two_networks_can_share_a_weight_by_assignment(kind):
    a, b = KINDS[kind](2, 3), KINDS[kind](2, 3)
    b.weight_hh_l0 = a.weight_hh_l0
    x, h = mg.ones((1, 1, 2)), mg.ones((1, 1, 3))
    b(x, hx([h] * (1 + (kind == "LSTM"))))[0].sum().backward()
    assert np.abs(a.weight_hh_l0.grad.numpy()).max() > 0
    assert a.weight_ih_l0.grad is None


@pytest.mark.parametrize("kind", KINDS)
def test_an_optimiser_takes_each_weight_once_and_training_lowers_the_loss(kind):
    net = Tagger(KINDS[kind](2, 2, 2))
    x, y = mg.random.normal((5, 4, 2)), 0.5 * mg.random.uniform((5, 4, 2))
    optimiser = optim.Adam(net.parameters(), lr=0.02)
    losses = []
    for _ in range(30):
        net.zero_grad()
        loss = ((net(x)[0] - y) ** 2).mean()
        loss.backward()
        losses.append(loss.item())
        optimiser.step()
    assert losses[-1] < 0.7 * losses[0]


# Dropout


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_acts_between_layers_in_training_alone(kind):
    net, plain = KINDS[kind](2, 8, 2, dropout=0.5), KINDS[kind](2, 8, 2)
    plain.load_state_dict(net.state_dict())
    x = mg.ones((3, 2, 2))
    expected = plain(x)[0].numpy()
    assert (net(x)[0].numpy() != expected).any()
    assert (Tagger(net).eval().rnn(x)[0].numpy() == expected).all()
    net.train().dropout = 0.0  # as it can be changed in PyTorch
    assert (net(x)[0].numpy() == expected).all()
    net.dropout = 1.0  # nothing comes through: all rows and steps of the second layer have the input 0
    silenced = net(x * 5)[0].numpy()
    assert (silenced == net(x)[0].numpy()).all()


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_with_one_layer_does_nothing_and_warns_of_it_where_the_user_asked(kind):
    with pytest.warns(UserWarning, match=rf"^{kind}: dropout=0.5 acts between layers") as caught:
        net = KINDS[kind](2, 3, dropout=0.5)
    assert caught[0].filename == __file__
    plain, x = KINDS[kind](2, 3), mg.ones((4, 2, 2))
    plain.load_state_dict(net.state_dict())
    assert (net(x)[0].numpy() == plain(x)[0].numpy()).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        KINDS[kind](2, 3, 2, dropout=0.5)


# What is refused


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "options, words",
    [
        ({"num_layers": 0}, "num_layers must be an integer from 1, got 0"),
        ({"num_layers": True}, "num_layers must be an integer from 1, got True"),
        ({"bias": 0.5}, "bias must be True or False, got 0.5"),
        ({"batch_first": 1}, "batch_first must be True or False, got 1"),
        ({"bidirectional": None}, "bidirectional must be True or False, got None"),
        ({"num_layers": 2, "dropout": 1.5}, "dropout is a probability, got 1.5"),
        ({"num_layers": 2, "dropout": True}, "dropout is a probability, got True"),
    ],
)
def test_options_that_cannot_be_are_refused_by_name(kind, options, words):
    with pytest.raises(ArgumentError, match=f"^{kind}: {words}$"):
        KINDS[kind](2, 3, **options)


@pytest.mark.parametrize("sizes", [(2, 0), (-1, 3), (2, 3.0)])
@pytest.mark.parametrize("kind", KINDS)
def test_sizes_that_cannot_be_are_refused(kind, sizes):
    with pytest.raises(ArgumentError, match="must be an integer from"):
        KINDS[kind](*sizes)


@pytest.mark.parametrize("proj_size", [3, 4, -1, 1.0, None])
def test_a_projection_is_smaller_than_the_hidden_size(proj_size):
    with pytest.raises(ArgumentError, match=r"^LSTM: proj_size .* hidden_size=3, got"):
        LSTM(2, 3, proj_size=proj_size)


@pytest.mark.parametrize("kind", ["RNN", "GRU"])
def test_only_an_lstm_takes_a_projection(kind):
    with pytest.raises(TypeError, match="proj_size"):
        KINDS[kind](2, 3, proj_size=2)


@pytest.mark.parametrize("nonlinearity", ["sigmoid", True, None])
def test_an_rnn_knows_tanh_and_relu(nonlinearity):
    with pytest.raises(ArgumentError, match=f"^RNN: nonlinearity must be 'tanh' or 'relu', got {nonlinearity!r}"):
        RNN(2, 3, 1, nonlinearity)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_first, layout", [(False, "T, B, 2"), (True, "B, T, 2")])
@pytest.mark.parametrize("shape", [(4, 3, 5), (4, 5), (2,), (), (1, 4, 3, 2)])
def test_an_input_of_another_shape_is_refused_with_both(kind, batch_first, layout, shape):
    with pytest.raises(ShapeError) as caught:
        KINDS[kind](2, 3, batch_first=batch_first)(mg.zeros(shape))
    assert str(caught.value).startswith(f"{kind}: expected input of shape ({layout}), or (T, 2)")
    assert str(caught.value).endswith(f"got {shape}")


@pytest.mark.parametrize("kind", KINDS)
def test_an_input_of_integers_is_refused(kind):
    with pytest.raises(DtypeError, match=f"^{kind}: expected input of floats, got int64; nn.Embedding"):
        KINDS[kind](2, 3)(mg.zeros((4, 1, 2), dtype="int64"))


@pytest.mark.parametrize("kind", ["RNN", "GRU"])
@pytest.mark.parametrize("given", [lambda h: (h, h), lambda h: [h]])
def test_a_state_of_h_alone_is_one_tensor(kind, given):
    with pytest.raises(ArgumentError, match=f"^{kind}: h_0 must be one tensor, got a (tuple|list) of"):
        KINDS[kind](2, 3)(mg.zeros((4, 1, 2)), given(mg.zeros((1, 1, 3))))


@pytest.mark.parametrize(
    "given, words",
    [
        (lambda h: h, "hx must be a pair (h_0, c_0), got Tensor"),
        (lambda h: (h,), "hx must be a pair (h_0, c_0), got a tuple of 1"),
        (lambda h: {"h": h, "c": h}, "hx must be a pair (h_0, c_0), got dict"),
        (lambda h: (h, None), "c_0 must be one tensor, got NoneType"),
        (lambda h: ((h, h), h), "h_0 must be one tensor, got a tuple of 2"),
    ],
)
def test_a_state_of_an_lstm_is_a_pair(given, words):
    with pytest.raises(ArgumentError) as caught:
        LSTM(2, 3)(mg.zeros((4, 1, 2)), given(mg.zeros((1, 1, 3))))
    assert str(caught.value) == f"LSTM: {words}"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("shape", [(1, 5, 3), (5, 4, 3), (4, 5, 2), (5, 3), (4, 3), (4, 1, 3)])
def test_a_state_of_another_shape_is_refused_with_both(kind, batch_first, shape):
    net = KINDS[kind](2, 3, batch_first=batch_first, **DEEP)
    x, bad, good = mg.zeros((5, 7, 2) if batch_first else (7, 5, 2)), mg.zeros(shape), mg.zeros((4, 5, 3))
    with pytest.raises(ShapeError) as caught:
        net(x, hx([bad, good][: 1 + (kind == "LSTM")]))
    assert str(caught.value) == f"{kind}: expected h_0 of shape (4, 5, 3), got {shape}"
    with pytest.raises(ShapeError) as caught:
        net(x[0], hx([mg.zeros((4, 1, 3)), good][: 1 + (kind == "LSTM")]))
    assert str(caught.value) == f"{kind}: expected h_0 of shape (4, 3), got (4, 1, 3)"


def test_h_and_c_of_a_projected_lstm_have_each_their_own_size():
    net, x = LSTM(2, 3, proj_size=1), mg.zeros((4, 2, 2))
    h, c = mg.zeros((1, 2, 1)), mg.zeros((1, 2, 3))
    _, (h_n, c_n) = net(x, (h, c))
    assert (h_n.shape, c_n.shape) == (h.shape, c.shape)
    with pytest.raises(ShapeError) as caught:
        net(x, (h, h))
    assert str(caught.value) == "LSTM: expected c_0 of shape (1, 2, 3), got (1, 2, 1)"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape, lengths", [((4, 2, 2), [1]), ((4, 2, 2), 3), ((4, 2), [3]), ((4, 2), 5)])
def test_lengths_that_do_not_fit_are_refused(kind, shape, lengths):
    with pytest.raises(ArgumentError, match="lengths must be"):
        KINDS[kind](2, 3)(mg.zeros(shape), lengths=lengths)


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_dict_of_another_network_is_refused_and_nothing_is_changed(kind):
    net = KINDS[kind](2, 3)
    before = {name: p.numpy().copy() for name, p in net.named_parameters()}
    for other in KINDS[kind](2, 3, 2), KINDS[kind](2, 3, bias=False), KINDS[kind](2, 4), KINDS[kind](1, 3):
        with pytest.raises(MinigradError, match="_l"):
            net.load_state_dict(other.state_dict())
    assert all((p.numpy() == before[name]).all() for name, p in net.named_parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_an_input_of_no_steps_gives_no_outputs_and_the_state_it_began_with(kind):
    net, _, states = drawn(kind, 0, **DEEP)
    out, last = net(mg.zeros((0, 3, 2), dtype="float64"), hx(states))
    assert out.shape == (0, 3, 6)
    for s, first in zip(pair(last), states, strict=True):
        assert (s.numpy() == first.numpy()).all()
    assert all(gradient(p).shape == p.shape for p in net.parameters())
