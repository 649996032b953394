"""The gradient through time: against formulas by hand, and what bounds it. The network it looks at stays as it is."""

from __future__ import annotations

from contextvars import copy_context
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import graph, nn, random, tree
from minigrad.errors import AnomalyError, ArgumentError, GraphError, ShapeError
from tests.nn.helpers import MGU, Learned, close, in_float64
from tests.oracles import elman, lstm
from tests.strategies import SEEDS

H = "cells.0.0.h"


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def weighted(seed=0):
    """A loss that looks at every output of every step, and at every part of the last state, in a way of its own."""

    def loss(outs, state):
        total = mg.tensor(0.0, dtype="float64")
        for i, y in enumerate([outs, *tree.leaves(state)]):
            total = total + (y * mg.tensor(normal([seed, i], *y.shape))).sum()
        return total

    return loss


def last_output(outs, state):
    return outs[-1].sum()


class Nudged(nn.Modifier):
    """Adds numbers to h at each step, whose gradient is what the flow is to be; the loop is compiled, as always."""

    def __init__(self, cell, nudges):
        super().__init__(cell)
        self.nudges = nudges  # over the parts of the state, each (T, B, H) or None

    def prepare(self, xs, memory=None):
        parts, context = super().prepare(xs, memory)
        return (parts, self.nudges), context

    def forward(self, x, state, *context):
        x, nudges = x
        out, new = self.cell(x, state, *context)
        moved = tree.map(lambda s, n: s if n is None else s + n, new, nudges)
        for s, m in zip(tree.leaves(new), tree.leaves(moved)):
            out = m if s is out else out
        return out, moved


def nudged(make, T, B, nudges):
    """A factory as `make`, whose cells are nudged by new zeros, which are added to the list."""

    def made(i, h):
        cell = make(i, h)

        def zeros(s):
            floats = not isinstance(s, int) and "float" in str(s.dtype)
            return mg.zeros((T, *s.shape), dtype="float64") if floats else None

        at = tree.map(zeros, cell.initial_state(B))
        for leaf in tree.leaves(at):
            leaf.requires_grad = True
        nudges.append(at)
        return Nudged(cell, at)

    return made


# Against formulas by hand


@given(T=st.integers(1, 8), size=st.integers(1, 5), seed=SEEDS)
def test_for_an_elman_network_it_is_the_norm_of_the_derivative_that_the_notes_work_out(T, size, seed):
    classes, inputs = 4, 3
    net = in_float64(nn.Recurrent(nn.ElmanCell, inputs, size))
    output = in_float64(nn.Linear(size, classes))
    x, y = normal([seed, 0], T, 2, inputs), np.random.default_rng(seed).integers(0, classes, (T, 2))
    h0 = normal([seed, 1], 2, size)
    W, U, b, V, c = (
        np.array(p.numpy()) for p in (net.cell.weight_hh, net.cell.weight_ih, net.cell.bias, output.weight, output.bias)
    )
    by_hand = np.stack([elman.network(x[:, k], y[:, k], h0[k], W, U, b, V, c)[1]["h"] for k in range(2)], axis=1)

    def loss(outs, state):
        return mg.cross_entropy(output(outs), mg.tensor(y)) * y.size  # the sum of the steps and rows

    flow = mg.gradient_flow(net, x, loss, state=mg.tensor(h0))
    close(flow[H], np.sqrt((by_hand**2).sum(axis=(1, 2))))


@given(T=st.integers(1, 7), size=st.integers(1, 4), seed=SEEDS)
def test_for_an_lstm_it_is_the_derivative_by_h_and_c_that_each_step_hands_on(T, size, seed):
    net = in_float64(nn.Recurrent(nn.LSTMCell, 2, size))
    weights = {name: np.array(p.numpy()) for name, p in net.cell.named_parameters()}
    x, grad_outs, grad_last = normal([seed, 0], T, 2), normal([seed, 1], T, size), normal([seed, 2], 2, size)
    states = [(np.zeros(size), np.zeros(size))]
    for t in range(T):
        states.append(lstm.layer(x[t : t + 1], states[-1], weights, grad_outs[:1], grad_last)[1])
    by_hand = []
    for t in range(T):
        grads = lstm.layer(x[t + 1 :], states[t + 1], weights, grad_outs[t + 1 :], grad_last)[3]
        by_hand.append((np.linalg.norm(grads[0] + grad_outs[t]), np.linalg.norm(grads[1])))

    def loss(outs, state):
        return (outs[:, 0] * mg.tensor(grad_outs)).sum() + sum(
            (s[0] * mg.tensor(g)).sum() for s, g in zip(state, grad_last)
        )

    flow = mg.gradient_flow(net, x[:, None], loss)
    assert list(flow) == [H, "cells.0.0.c"]
    close(flow[H], np.array(by_hand)[:, 0])
    close(flow["cells.0.0.c"], np.array(by_hand)[:, 1])


def test_the_memory_of_an_lstm_fades_by_its_forget_gates_alone():
    """With U = 0 no gate looks at h, so that the derivative of c_T by c_t is f_{t+1} * ... * f_T, exactly."""
    T, size = 30, 3
    net = in_float64(nn.Recurrent(nn.LSTMCell, 2, size))
    net.cell.weight_hh.data = 0 * net.cell.weight_hh.data
    x = normal(0, T, 1, 2)
    W, b = (np.array(p.numpy())[size : 2 * size] for p in (net.cell.weight_ih, net.cell.bias))
    forget = 1 / (1 + np.exp(-(x[:, 0] @ W.T + b)))
    products = np.array([np.prod(forget[t + 1 :], axis=0) for t in range(T)])
    flow = mg.gradient_flow(net, x, lambda outs, state: state[1].sum())
    close(flow["cells.0.0.c"] / np.linalg.norm(products, axis=1), np.ones(T))
    assert not flow[H].any()


def test_a_gate_that_is_open_keeps_what_an_elman_network_forgets():
    T = 60
    keeps = in_float64(nn.Recurrent(lambda i, h: nn.LSTMCell(i, h, forget_bias=6.0), 2, 8))
    forgets = in_float64(nn.Recurrent(nn.ElmanCell, 2, 8))
    x = normal(1, T, 4, 2)
    kept = mg.gradient_flow(keeps, x, lambda outs, state: state[1].sum())["cells.0.0.c"]
    lost = mg.gradient_flow(forgets, x, last_output)[H]
    assert kept[0] > 0.5 * kept[-1]
    assert lost[0] < 1e-9 * lost[-1]


CELLS = {"Elman": nn.ElmanCell, "LSTM": nn.LSTMCell, "GRU": nn.GRUCell, "a user's": MGU}


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("rows", ["whole", "lengths", "reset", "both"])
def test_it_is_the_gradient_of_what_is_added_to_the_state_in_every_layer_and_direction(name, rows):
    T, B, nudges = 6, 3, []
    arguments = {}
    if rows in ("lengths", "both"):
        arguments["lengths"] = [6, 0, 4]
    if rows in ("reset", "both"):
        arguments["reset"] = np.random.default_rng(3).random((T, B)) < 0.3
    other = nn.Recurrent(nudged(CELLS[name], T, B, nudges), 2, 4, num_layers=2, bidirectional=True)
    net = nn.Recurrent(CELLS[name], 2, 4, num_layers=2, bidirectional=True)
    net.load_state_dict({key.replace("cell.", ""): w for key, w in other.state_dict().items() if "nudges" not in key})
    in_float64(net), in_float64(other)
    x = normal(7, T, B, 2)
    flow = mg.gradient_flow(net, x, weighted(), **arguments)
    weighted()(*other(x, **arguments)).backward()
    expected = [np.sqrt((n.grad.numpy() ** 2).sum(axis=(1, 2))) for n in tree.leaves(nudges)]
    parts = ("h", "c") if name == "LSTM" else ("h",)
    assert list(flow) == [f"cells.{i}.{j}.{part}" for i in range(2) for j in range(2) for part in parts]
    assert flow.reverse == {key for key in flow if key.startswith(("cells.0.1.", "cells.1.1."))}
    for found, right in zip(flow.values(), expected):
        close(found, right)


@pytest.mark.parametrize("reverse", [False, True])
def test_after_the_end_of_a_row_there_is_none_whatever_the_padding_holds(reverse):
    net = in_float64(nn.Recurrent(nn.GRUCell, 2, 3))
    x = normal(0, 7, 1, 2)
    short = mg.gradient_flow(net, x[:4], weighted(), reverse=reverse)[H]
    x[4:] = np.nan

    def loss(outs, state):
        return weighted()(outs[:4], state)

    flow = mg.gradient_flow(net, x, loss, lengths=[4], reverse=reverse)[H]
    close(flow[:4], short)
    assert not flow[4:].any() and short.all()


def test_it_stops_where_a_row_starts_anew():
    net = in_float64(nn.Recurrent(nn.ElmanCell, 2, 3))
    marks = np.zeros((8, 1), bool)
    marks[5] = True
    flow = mg.gradient_flow(net, normal(0, 8, 1, 2), last_output, reset=marks)[H]
    assert not flow[:5].any() and flow[5:].all()


def test_the_rows_of_a_batch_count_together():
    net = in_float64(nn.Recurrent(nn.ElmanCell, 2, 3))
    x = normal(0, 5, 4, 2)
    rows = [mg.gradient_flow(net, x[:, k : k + 1], lambda outs, state: (outs**2).sum())[H] for k in range(4)]
    close(mg.gradient_flow(net, x, lambda outs, state: (outs**2).sum())[H], np.sqrt(np.sum(np.square(rows), axis=0)))


# Any cell, with any state


def whole_derivative(step, x, h0, loss, through_output=True):
    """|dL/dh_t| of a cell of one row with one state, by running the rest from each h_t on; output t as h_t makes it."""
    norms, states, T = [], [h0], len(x)
    for t in range(T):
        states.append(step(x[t], states[-1])[1].detach())

    for t in range(T):

        def rest(h, t=t):
            outs = [step(x[k], states[k])[0].detach() for k in range(t)]
            outs.append(through_output(x[t], h) if through_output else step(x[t], states[t])[0].detach())
            for k in range(t + 1, T):
                out, h = step(x[k], h)
                outs.append(out)
            return loss(mg.stack(outs), h)

        norms.append(np.linalg.norm(mg.grad(rest)(states[t + 1]).numpy()))
    return np.array(norms)


class Projected(nn.Cell):
    """Its output is computed from the new state, and is no part of it."""

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.weight_hh = nn.Parameter(normal(1, hidden_size, hidden_size))
        self.weight_ho = nn.Parameter(normal(2, self.output_size, hidden_size))

    @property
    def output_size(self):
        return 2

    def shown(self, x, h):
        return mg.tanh(mg.linear(h, self.weight_ho)) * x

    def forward(self, x, h):
        h = mg.tanh(mg.linear(h, self.weight_hh) + x.sum())
        return self.shown(x, h), h


def test_what_an_output_computes_from_the_new_state_counts():
    cell = in_float64(Projected(2, 3))
    x = mg.tensor(normal(0, 5, 1, 2))
    flow = mg.gradient_flow(nn.Recurrent(cell), x, weighted())
    close(flow[H], whole_derivative(cell, x, cell.initial_state(1), weighted(), cell.shown))


def test_an_output_that_the_state_is_computed_from_counts_only_by_what_the_state_hands_on():
    class Echo(nn.Cell):
        def forward(self, x, h):
            out = mg.tanh(x + 0.5 * h)
            return out, 0.5 * out + 0.1 * h

    x, cell = mg.tensor(normal(0, 5, 1, 3)), Echo(3, 3)
    flow = mg.gradient_flow(nn.Recurrent(cell), x, weighted())
    close(flow[H], whole_derivative(cell, x, mg.zeros((1, 3), dtype="float64"), weighted(), None))


def test_a_connection_around_the_cell_and_kept_elements_count():
    inner = in_float64(nn.ElmanCell(3, 3))
    x = mg.tensor(normal(0, 6, 1, 3))
    around = nn.Residual(inner)
    flow = mg.gradient_flow(nn.Recurrent(around), x, weighted())
    close(flow[H], whole_derivative(around, x, inner.initial_state(1), weighted(), lambda x, h: x + h))
    kept = nn.Zoneout(inner, 0.3).eval()
    flow = mg.gradient_flow(nn.Recurrent(kept), x, weighted())
    close(flow[H], whole_derivative(kept, x, inner.initial_state(1), weighted(), lambda x, h: h))


def test_a_cell_without_a_weight_has_a_flow_too():
    class Leaky(nn.Cell):
        def forward(self, x, h):
            h = 0.5 * h + 0.5 * x
            return h, h

    flow = mg.gradient_flow(nn.Recurrent(Leaky(1, 1)), mg.ones((5, 1, 1)), last_output)
    np.testing.assert_array_equal(flow[H], [1 / 16, 1 / 8, 1 / 4, 1 / 2, 1])

    class Squared(Leaky):
        def forward(self, x, h):
            h, _ = super().forward(x, h)
            return h * h, h

    flow = mg.gradient_flow(nn.Recurrent(Squared(1, 1)), mg.ones((2, 1, 1)), lambda outs, state: outs.sum())
    np.testing.assert_array_equal(flow[H], [2 * 0.5 + 0.5 * 2 * 0.75, 2 * 0.75])  # h_1 = 0.5, h_2 = 0.75


def test_a_state_that_depends_on_nothing_is_shown_all_the_same():
    class Latest(nn.Cell):
        def forward(self, token, h):
            h = mg.one_hot(token, 3)
            return h, h

    flow = mg.gradient_flow(nn.Recurrent(Latest(3, 3)), np.array([[0], [2]]), lambda outs, state: (outs**2).sum())
    np.testing.assert_array_equal(flow[H], [2.0, 2.0])


def test_integers_carry_nothing_and_parts_have_the_names_of_the_state():
    net = in_float64(nn.Recurrent(Learned, 2, 3))
    flow = mg.gradient_flow(net, normal(0, 4, 2, 2), weighted())
    assert list(flow) == [H] and flow[H].all()

    class Pair(NamedTuple):
        fast: mg.Tensor
        slow: mg.Tensor

    class Nested(nn.Cell):
        def initial_state(self, batch_size):
            zeros = mg.zeros((batch_size, self.hidden_size), dtype="float64")
            return [{"n": 0}, Pair(zeros, zeros), (0.0,)]

        def forward(self, x, state):
            count, (fast, slow), (total,) = state
            fast, slow = mg.tanh(0.5 * fast + x + slow), 0.9 * slow + 0.1 * fast
            return fast * count["n"], [{"n": count["n"] + 1}, Pair(fast, slow), (total + fast.sum(),)]

    nested = nn.Recurrent(Nested(3, 3))
    flow = mg.gradient_flow(nested, normal(0, 6, 2, 3), lambda outs, state: state[2][0])
    assert list(flow) == [f"cells.0.0.state.{part}" for part in ("1.fast", "1.slow", "2.0")]
    np.testing.assert_array_equal(flow["cells.0.0.state.2.0"], np.ones(6))
    assert flow["cells.0.0.state.1.slow"][:-2].all() and not flow["cells.0.0.state.1.fast"][-1]


def test_a_state_that_finds_its_shape_and_dtype_in_the_first_step_is_measured_whole():
    class Wide(nn.Cell):
        def initial_state(self, batch_size):
            return mg.zeros((1, 3))

        def forward(self, x, h):
            h = mg.tanh(0.8 * h + x)
            return h, h

    class Ready(Wide):
        def initial_state(self, batch_size):
            return mg.zeros((batch_size, 3), dtype="float64")

    x = normal(0, 5, 4, 3)
    found, right = (mg.gradient_flow(nn.Recurrent(kind(3, 3)), x, weighted())[H] for kind in (Wide, Ready))
    close(found, right)


def test_a_step_that_no_program_can_be_made_of_is_measured_where_the_net_runs_it_eagerly():
    class Branching(nn.Cell):
        def forward(self, x, h):
            h = mg.tanh(h + x) if float(x.sum().item()) > 0 else 0.5 * h
            return h, h

    net = nn.Recurrent(Branching(1, 1), unroll="eager")
    flow = mg.gradient_flow(net, -mg.ones((4, 1, 1)), last_output)
    np.testing.assert_array_equal(flow[H], [0.125, 0.25, 0.5, 1.0])


# Any network


@pytest.mark.parametrize("options", [{"unroll": "eager"}, {"remat": "sqrt"}, {"batch_first": True}])
def test_how_the_loop_is_run_makes_no_difference(options):
    net, x = in_float64(nn.Recurrent(nn.GRUCell, 2, 3)), normal(0, 9, 4, 2)
    other = in_float64(nn.Recurrent(nn.GRUCell, 2, 3, **options))
    other.load_state_dict(net.state_dict())
    flow = mg.gradient_flow(net, x, lambda outs, state: (outs**2).sum())
    again = mg.gradient_flow(other, np.swapaxes(x, 0, 1) if "batch_first" in options else x,
                             lambda outs, state: (outs**2).sum())  # fmt: skip
    np.testing.assert_array_equal(again[H], flow[H])


class Model(nn.Module):
    """Recurrents in a list and a dict, one of them run twice, and the weights of a cell used besides."""

    def __init__(self):
        self.embed = nn.Embedding(7, 3)
        self.encoders = [nn.Recurrent(nn.GRUCell, 3, 4), {"top": nn.Recurrent(nn.ElmanCell, 4, 4)}]
        self.me, self.calls = self, 0

    def forward(self, tokens, scale=1.0):
        self.calls += 1
        below, top = self.encoders[0], self.me.encoders[1]["top"]
        outs, _ = below(self.embed(tokens))
        outs, _ = top(outs)
        outs, _ = top(outs)
        return mg.linear(outs, top.cell.weight_hh) * scale


def test_a_model_is_searched_for_its_recurrents_and_a_cell_that_runs_twice_has_its_steps_in_a_row():
    model = in_float64(Model())
    tokens = np.random.default_rng(0).integers(0, 7, (5, 2))
    flow = mg.gradient_flow(model, tokens, lambda logits: logits[-1].sum(), scale=0.5)
    assert {name: len(norms) for name, norms in flow.items()} == {
        "encoders.0.cells.0.0.h": 5,
        "encoders.1.top.cells.0.0.h": 10,
    }
    second = flow["encoders.1.top.cells.0.0.h"][5:]
    outs, _ = model.encoders[0](model.embed(tokens))
    outs, _ = model.encoders[1]["top"](outs)
    loss = lambda outs, state: 0.5 * mg.linear(outs, model.encoders[1]["top"].cell.weight_hh)[-1].sum()
    np.testing.assert_array_equal(mg.gradient_flow(model.encoders[1]["top"], outs, loss)[H], second)
    assert model.calls == 0


def test_stacks_directions_and_the_networks_of_exchange_are_seen_into():
    x = normal(0, 5, 2, 3)
    both = nn.Bidirectional(nn.GRUCell(3, 4), nn.ElmanCell(3, 4))
    flow = mg.gradient_flow(in_float64(nn.Stacked(both, nn.LSTMCell(8, 2))), x, last_output)
    assert list(flow) == [
        f"layers.{k}.cells.0.0.{part}" for k, part in (("0.ahead", "h"), ("0.back", "h"), ("1", "h"), ("1", "c"))
    ]
    assert flow.reverse == {"layers.0.back.cells.0.0.h"}
    torch_like = in_float64(nn.LSTM(3, 4))
    flow = mg.gradient_flow(torch_like, x, lambda outs, state: outs[-1].sum())
    plain = nn.Recurrent(torch_like.recurrent.cell)
    np.testing.assert_array_equal(flow["recurrent.cells.0.0.c"], mg.gradient_flow(plain, x, last_output)["cells.0.0.c"])


def test_from_a_decoder_it_flows_into_the_encoder():
    net = in_float64(nn.EncoderDecoder(nn.Recurrent(nn.GRUCell, 3, 4), nn.Recurrent(nn.GRUCell, 2, 4)))
    targets = mg.tensor(normal(1, 3, 2, 2))
    flow = mg.gradient_flow(net, normal(0, 6, 2, 3), lambda outs: outs[-1].sum(), targets=targets)
    encoder, decoder = flow["encoder.cells.0.0.h"], flow["decoder.cells.0.0.h"]
    assert encoder.shape == (6,) and decoder.shape == (3,) and encoder.all() and decoder.all()
    assert [line.split()[1:4] for line in str(flow).splitlines() if "T =" in line] == [["T", "=", "3"], ["T", "=", "6"]]


def test_on_every_backend_it_is_the_same(backend):
    net, x = in_float64(nn.Recurrent(nn.LSTMCell, 2, 3)), normal(0, 5, 2, 2)
    here = mg.gradient_flow(net, x, lambda outs, state: (outs**2).sum(), lengths=[5, 3])
    net.to(backend)
    there = mg.gradient_flow(net, mg.tensor(x, backend=backend), lambda outs, state: (outs**2).sum(), lengths=[5, 3])
    for name, norms in here.items():
        assert type(there[name]) is np.ndarray
        close(there[name], norms)


# The network stays as it is


def looks(net):
    """Everything about a network that may be seen to change."""
    modules = [(id(m), m.training, [(k, id(v)) for k, v in vars(m).items()]) for m in net.modules()]
    tensors = [(id(p.data), None if p.grad is None else p.grad.tolist()) for p in net.parameters()]
    return modules, tensors, random.get_state(), graph.watcher.get(), mg.scan.cache_info().programs


@pytest.mark.parametrize("training", [True, False])
def test_the_network_its_gradients_and_the_random_numbers_stay_as_they_are(training):
    make = lambda i, h: nn.Zoneout(nn.VariationalDropout(nn.LSTMCell(i, h), 0.2, 0.2), 0.1)
    net = nn.Recurrent(make, 3, 4, num_layers=2, bidirectional=True, dropout=0.5).train(training)
    x = mg.tensor(normal(0, 5, 2, 3).astype("float32"))
    net(x)[0].sum().backward()
    before = looks(net)
    values = []

    def loss(outs, state):
        values.append((outs**2).sum().item())
        return (outs**2).sum()

    mg.gradient_flow(net, x, loss)
    with mg.no_grad():
        mg.gradient_flow(net, x, loss)
    with mg.detect_anomaly():
        mg.gradient_flow(net, x, loss)

    def fails(outs, state):
        raise KeyError("as some do")

    with pytest.raises(KeyError):
        mg.gradient_flow(net, x, fails)
    assert looks(net) == before
    # Noise is that of the next call.
    assert values == [pytest.approx((net(x)[0] ** 2).sum().item(), rel=1e-5)] * 3


def test_graphs_around_it_stay_whole():
    net = in_float64(nn.Recurrent(nn.ElmanCell, 2, 2))
    x = mg.tensor(normal(0, 4, 1, 2), requires_grad=True)
    _, carried = net(x * 2)
    flow = mg.gradient_flow(net, x * 3, last_output, state=carried)
    assert x.grad is None and flow[H].all()
    carried.sum().backward()
    assert x.grad is not None
    mg.gradient_flow(net, x, last_output, state=carried)  # though its graph has been released


def test_random_numbers_that_nobody_has_seeded_stay_unseeded():
    def unseeded():
        random._stream.set(None)
        mg.gradient_flow(net, mg.zeros((1, 1, 1)), last_output)
        return random._stream.get()

    net = nn.Recurrent(nn.ElmanCell, 1, 1)
    assert copy_context().run(unseeded) is None


# What it says


def test_it_prints_as_a_table():
    cell = nn.ElmanCell(1, 1, activation=lambda a: a)
    for parameter, value in zip(cell.parameters(), (1.0, 0.5, 0.0)):
        parameter.data = np.full(parameter.shape, value, "float32")
    flow = mg.gradient_flow(nn.Recurrent(cell), mg.ones((9, 1, 1)), lambda outs, state: outs[6].sum())
    assert str(flow).splitlines() == [
        "|dL/ds_t|, T = 9       t = 0     t = 2     t = 4     t = 6     t = 8  first/last",
        "cells.0.0.h           0.0156    0.0625      0.25         1         0      0.0156",
    ]
    assert flow.ratio(H) == 2.0**-6
    back = mg.gradient_flow(nn.Recurrent(cell), mg.ones((2, 1, 1)), lambda outs, state: outs[0].sum(), reverse=True)
    assert back.reverse == {H} and back.ratio(H) == 0.5 and str(back).endswith("0.5  in reverse")
    none = mg.gradient_flow(nn.Recurrent(cell), mg.ones((1, 1, 1)), lambda outs, state: 0 * outs.sum())
    assert np.isnan(none.ratio(H)) and str(none).split()[-1] == "-"


def test_what_cannot_be_measured_says_so():
    net, x = nn.Recurrent(nn.ElmanCell, 2, 3), mg.ones((4, 1, 2))
    for arguments, error, words in [
        ((nn.Linear(2, 3), x, last_output), ArgumentError, "Linear holds no Recurrent"),
        ((len, x, last_output), ArgumentError, "net must be a Module"),
        ((net, x, lambda outs: outs.sum()), ArgumentError, "2 results, such as \\(outs, state\\)"),
        ((net, x, lambda outs, state: 0.5), ArgumentError, "loss must return a tensor of one element, got a float"),
        ((net, x, lambda outs, state: outs.detach().sum()), GraphError, "does not depend"),
        ((net, x, lambda outs, state: outs), GraphError, "gradient_flow: a tensor of shape \\(4, 1, 3\\)"),
        ((net, x[:0], last_output), ArgumentError, "has taken a step"),
        ((net, mg.ones((4, 1, 3)), last_output), ShapeError, "Recurrent: expected xs"),
    ]:
        with pytest.raises(error, match=words):
            mg.gradient_flow(*arguments)

    class Stored(nn.Module):
        def __init__(self):
            self.net = net

        def forward(self, xs):
            return mg.remat(lambda xs: self.net(xs)[0])(xs)

    with pytest.raises(ArgumentError, match=r"mg\.remat around a Recurrent"):
        mg.gradient_flow(Stored(), x, lambda outs: outs.sum())


def test_a_cell_that_returns_no_pair_gets_the_words_of_recurrent():
    class Single(nn.Cell):
        def forward(self, x, h):
            return h

    with pytest.raises(ArgumentError, match="a cell returns"):
        mg.gradient_flow(nn.Recurrent(Single(1, 1)), mg.ones((2, 1, 1)), last_output)


def test_inside_detect_anomaly_the_first_nan_is_found():
    class Bad(nn.Cell):
        def forward(self, x, h):
            h = mg.where(x > 0, h, mg.exp(h + 1e9))
            return h, h

    with np.errstate(over="ignore"), pytest.raises(AnomalyError, match="exp made inf"), mg.detect_anomaly():
        mg.gradient_flow(nn.Recurrent(Bad(1, 1)), mg.ones((2, 1, 1)), last_output)


# What bounds it: the corrections to the notes


def elman_net(W, inputs, activation):
    """An Elman network with these recurrent weights, to which the inputs are added as they are."""
    size = len(W)
    cell = in_float64(nn.ElmanCell(size, size, activation=activation))
    cell.weight_ih.data, cell.weight_hh.data, cell.bias.data = np.eye(size), np.array(W), np.zeros(size)
    return nn.Recurrent(cell), np.asarray(inputs, float)


def linear(a):
    return a


GROWS_FIRST = np.array([[0.9, 10.0], [0.0, 0.9]])


def test_a_spectral_radius_below_1_does_not_keep_the_gradient_from_growing():
    """The notes bound |dh_{i+1} / dh_i| by the largest eigenvalue, 0.9 here, which would let it only shrink."""
    T = 300
    v = np.array([1.0, 0.0])
    net, x = elman_net(GROWS_FIRST, np.zeros((T, 1, 2)), linear)
    flow = mg.gradient_flow(net, x, lambda outs, state: (outs[-1] * mg.tensor(v)).sum())[H]
    assert mg.spectral_radius(GROWS_FIRST) == pytest.approx(0.9)
    assert flow[-1] == 1 and flow[-2] > 10 and flow.max() > 35 * flow[-1]
    assert flow[0] < 1e-9
    powers = [np.linalg.norm(np.linalg.matrix_power(GROWS_FIRST.T, T - 1 - t) @ v) for t in range(T)]
    close(flow / powers, np.ones(T), tolerance=1e-8)
    # The bound that does hold, at every step.
    assert (flow[:-1] <= mg.spectral_norm(GROWS_FIRST) * flow[1:] * (1 + 1e-12)).all()


@given(
    size=st.integers(1, 5),
    norm=st.floats(0.05, 0.99),
    T=st.integers(2, 25),
    through=st.sampled_from([linear, mg.tanh]),
    seed=SEEDS,
)
def test_a_spectral_norm_below_1_makes_it_vanish(size, norm, T, through, seed):
    W = normal(seed, size, size)
    W *= norm / mg.spectral_norm(W)
    net, x = elman_net(W, normal([seed, 1], T, 2, size), through)
    v = normal([seed, 2], 2, size)
    flow = mg.gradient_flow(net, x, lambda outs, state: (outs[-1] * mg.tensor(v)).sum())[H]
    assert flow[-1] == pytest.approx(np.linalg.norm(v))
    assert (flow <= flow[-1] * norm ** np.arange(T - 1, -1, -1) * (1 + 1e-9)).all()


def test_a_spectral_radius_above_1_need_not_make_it_explode():
    """Units that saturate let nothing through, however large W_h is; without the tanh it explodes."""
    T, size = 50, 4
    W = 1.5 * random.orthogonal((size, size), dtype="float64").numpy()
    assert mg.spectral_radius(W) == pytest.approx(1.5)
    inputs = np.full((T, 1, size), 6.0)
    straight = mg.gradient_flow(*elman_net(W, inputs, linear), last_output)[H]
    close(straight / straight[-1] / 1.5 ** np.arange(T - 1, -1, -1), np.ones(T))
    through_tanh = mg.gradient_flow(*elman_net(W, inputs, mg.tanh), last_output)[H]
    assert (np.diff(through_tanh) > 0).all() and through_tanh[0] < 1e-20
    # With nothing to saturate them, tanh' is 1, and the same network explodes.
    at_rest = mg.gradient_flow(*elman_net(W, 0 * inputs, mg.tanh), last_output)[H]
    np.testing.assert_array_equal(at_rest, straight)


@pytest.mark.parametrize("w, y", [(0.01, 0.0), (0.99, 4.36073e-5), (1.0, 1.0), (1.01, 20751.64)])
def test_the_toy_example_of_the_notes_over_a_thousand_steps(w, y):
    """y^1000 = w^999, and so is its derivative by y^1: nothing, nothing, 1, about 20000."""
    x = np.zeros((1000, 1, 1))
    x[0] = 1
    net, x = elman_net([[w]], x, linear)
    outs, _ = net(x)
    flow = mg.gradient_flow(net, x, last_output)[H]
    assert abs(outs[-1].item() - y) <= 1e-6 * y and abs(flow[0] - y) <= 1e-6 * y
    np.testing.assert_allclose(flow, w ** np.arange(999.0, -1, -1), rtol=1e-11, atol=1e-320)


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_norms_neither_overflow_nor_vanish_before_the_numbers_do(scale):
    v = mg.tensor([3.0 * scale, 4.0 * scale], dtype="float64")
    flow = mg.gradient_flow(*elman_net(np.zeros((2, 2)), np.zeros((1, 1, 2)), linear), lambda outs, _: (outs * v).sum())
    assert abs(flow[H][0] / scale - 5) < 1e-14


# The two numbers of a matrix


@given(rows=st.integers(1, 5), columns=st.integers(1, 5), seed=SEEDS)
def test_the_spectral_norm_is_the_most_that_a_vector_is_stretched(rows, columns, seed):
    A = normal(seed, rows, columns)
    norm, v = mg.spectral_norm(A), np.ones(columns)
    some = normal([seed, 1], columns, 50)
    assert (np.linalg.norm(A @ some, axis=0) <= norm * np.linalg.norm(some, axis=0) * (1 + 1e-12)).all()
    for _ in range(1000):  # the vector that is stretched most, by the power method
        v = A.T @ (A @ v)
        v /= np.linalg.norm(v)
    assert np.linalg.norm(A @ v) == pytest.approx(norm, rel=1e-2)
    assert mg.spectral_norm(mg.tensor(A.T)) == pytest.approx(norm, rel=1e-12)


@given(size=st.integers(1, 5), seed=SEEDS)
def test_the_spectral_radius_is_never_above_the_norm_and_is_the_norm_of_symmetric_matrices(size, seed):
    A = normal(seed, size, size)
    assert mg.spectral_radius(A) <= mg.spectral_norm(A) * (1 + 1e-12)
    assert mg.spectral_radius(A + A.T) == pytest.approx(mg.spectral_norm(A + A.T), rel=1e-9)


def test_two_matrices_by_hand():
    turn = 1.25 * np.array([[0.6, -0.8], [0.8, 0.6]])  # a rotation: its eigenvalues are 0.75 +- 1.0 i
    assert mg.spectral_radius(turn) == pytest.approx(1.25) == mg.spectral_norm(turn)
    assert mg.spectral_radius([[0, 7], [0, 0]]) == 0 and mg.spectral_norm([[0, 7], [0, 0]]) == 7
    # [[a, b], [0, a]]: the larger root of s^2 - (2 a^2 + b^2) s + a^4, and of that the root
    s = 2 * 0.81 + 100
    assert mg.spectral_norm(GROWS_FIRST) == pytest.approx(np.sqrt((s + np.sqrt(s**2 - 4 * 0.9**4)) / 2))


def test_weights_of_a_cell_are_taken_gate_by_gate(backend):
    cell = in_float64(nn.GRUCell(3, 4), backend)
    with pytest.raises(ShapeError, match=r"spectral_radius.*\(12, 4\).*mg.split"):
        mg.spectral_radius(cell.weight_hh)
    for gate in mg.split(cell.weight_hh, 3):
        assert 0 < mg.spectral_radius(gate) <= mg.spectral_norm(gate) <= mg.spectral_norm(cell.weight_hh)


@pytest.mark.parametrize("function", [mg.spectral_norm, mg.spectral_radius])
def test_what_is_no_matrix_says_so(function):
    name = function.__name__
    for given_, words in [
        (nn.ElmanCell(1, 1), "got a ElmanCell; give one of its weights"),
        (np.zeros(3), r"got the shape \(3,\)"),
        (mg.ones((2, 2, 2)), r"got the shape \(2, 2, 2\)"),
        ([[np.nan]], "NaN or infinity"),
        ([[1.0], [1.0, 2.0]], "got a list"),
        ("W", "got a str"),
    ]:
        with pytest.raises(ArgumentError, match=f"{name}.*{words}"):
            function(given_)
    assert function(np.zeros((0, 0))) == 0
