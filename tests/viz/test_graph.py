"""The picture of the graph: what is in it, in which column, and that it can be read."""

from __future__ import annotations

import re
from itertools import combinations, pairwise
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import nn, viz
from minigrad.errors import ArgumentError, GraphError
from minigrad.viz import layered
from minigrad.viz.columns import unrolled
from minigrad.viz.graph import LABEL, SMALL, _size, _texts

SVG = "{http://www.w3.org/2000/svg}"
CELLS = [nn.ElmanCell, nn.LSTMCell, nn.GRUCell, nn.SimplifiedGRUCell, nn.SCRNCell, nn.ClockworkCell]


def leaf(*shape, seed=0):
    return mg.tensor(np.random.default_rng(seed).normal(size=shape), requires_grad=True)


def elman(steps, W, U, x, by="each"):
    """A loss over an Elman network in an ordinary loop."""
    h, total, hs = mg.zeros((2,), dtype=mg.float64), 0.0, []
    for t in range(steps):
        h = mg.tanh(W @ h + U @ x[t])
        hs.append(h)
        total = total + mg.sum(h * h)
    return total if by == "each" else mg.sum(h * h)


class Seen:
    """The vertices of a picture and their columns."""

    def __init__(self, loss, names=None, gradients=False):
        self.vertices, self.columns = unrolled(loss, names, gradients)

    def named(self, label):
        return [v for v in self.vertices if v.label == label]

    def places(self, label):
        return [self.columns.of[v] for v in self.named(label)]

    def told(self):
        """To compare: of each box what it is, its column, and what it is computed from."""
        number = {v: i for i, v in enumerate(self.vertices)}
        return [
            (v.kind, v.label, v.shape, self.columns.of[v], sorted(number[p] for p in v.parents)) for v in self.vertices
        ]

    def labels(self):
        return [v.label for v in self.vertices]


def boxes(svg):
    """The titles of the boxes of a picture: what is shown to who points at them."""
    root = ElementTree.fromstring(svg.text)
    return [group.find(f"{SVG}title").text for group in root.iter(f"{SVG}g")]


# What is drawn


def test_a_value_used_twice_has_one_box_and_two_lines():
    x = mg.tensor(3.0, requires_grad=True)
    seen = Seen(lambda: x * x + (1 - x) ** 2, {"x": x}, gradients=True)
    assert seen.labels() == ["x", "×", "1 −", "^ 2", "+"]
    leaf, square = seen.vertices[:2]
    assert square.parents == [leaf] * 2
    lines = layered.arrange(seen.vertices, seen.columns, dict.fromkeys(seen.vertices, (30.0, 20.0))).lines
    assert sum(line.parent is leaf and line.child is square for line in lines) == 2


def test_every_weight_of_a_loop_is_drawn_once_and_every_step_stands_in_its_own_column():
    W, U, x = leaf(2, 2), leaf(2, 3, seed=1), mg.ones((4, 3), dtype=mg.float64)
    seen = Seen(lambda: elman(4, W, U, x), {"W": W, "U": U, "x": x})
    assert [(v.label, seen.columns.of[v]) for v in seen.vertices if v.kind == "leaf"] == [("W", None), ("U", None)]
    for label in ("tanh", "x[…]", "Σ"):
        assert seen.places(label) == [0, 1, 2, 3]
    assert seen.columns.steps == {t: [t] for t in range(4)}


@pytest.mark.parametrize("cell", CELLS)
def test_a_loop_of_the_library_and_one_by_hand_have_the_same_columns(cell):
    """The one has told its steps; in the other they are seen by the weights."""
    made, x = cell(3, 4), mg.ones((4, 2, 3))

    def by_hand():
        state, outs = made.initial_state(2), []
        for t in range(4):
            out, state = made(x[t], state)
            outs.append(out)
        return mg.stack(outs).sum()

    def by_scan():
        return mg.scan(lambda x, state: made(x, state), x, made.initial_state(2))[0].sum()

    hand, scan = Seen(by_hand, made), Seen(by_scan, made)
    steps = [[seen.columns.of[v] for v in seen.vertices if v.kind == "operation"] for seen in (hand, scan)]
    assert steps[0] == steps[1] and hand.columns.steps == scan.columns.steps


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("options", [{}, {"bidirectional": True}, {"num_layers": 2}, {"remat": "sqrt"}])
def test_a_compiled_loop_is_drawn_as_the_eager_one(cell, options):
    net, x = nn.Recurrent(cell, 3, 4, **options), mg.ones((4, 2, 3))
    assert Seen(net(x)[0].sum(), net).told() == Seen(lambda: net(x)[0].sum(), net).told()


def test_what_remat_wraps_is_drawn_as_if_it_were_not():
    a, b = (mg.tensor(v, requires_grad=True) for v in (2.0, 3.0))
    f = lambda x, y: mg.sin(x * y) * b
    plain, wrapped = (Seen(lambda g=g: g(a, b), {"a": a, "b": b}, True) for g in (f, mg.remat(f)))
    assert wrapped.told() == plain.told()
    assert [float(v.gradient) for v in wrapped.vertices] == [float(v.gradient) for v in plain.vertices]
    assert Seen(mg.remat(f)(a, b), {"a": a, "b": b}).labels() == plain.labels()


def test_a_gradient_in_the_function_is_a_graph_without_boxes_of_its_own_making():
    W = leaf(2, 2)
    seen = Seen(lambda: mg.grad(lambda q: (q**2 * q).sum())(W).sum(), {"W": W}, True)
    assert seen.labels().count("W") == 1 and not [label for label in seen.labels() if "alias" in label]
    np.testing.assert_allclose(seen.named("W")[0].gradient, 6 * W.numpy())


def test_in_reverse_each_step_stands_at_the_time_of_its_input():
    net, x = nn.Recurrent(nn.ElmanCell, 3, 4, bidirectional=True), mg.ones((3, 1, 3))
    seen = Seen(lambda: net(x)[0].sum(), {"x": x, **net.named_tensors()})
    (backwards,) = seen.named("cells.0.1.weight_hh")
    place = seen.columns.of
    users = {place[v]: v for v in seen.vertices if backwards in v.parents}
    assert sorted(users) == [0, 1, 2]
    assert [place[p] for p in users[1].parents if p.kind == "operation"] == [2]


def test_the_layers_of_a_bidirectional_network_stand_above_each_other_step_by_step():
    net = nn.Recurrent(nn.ElmanCell, 3, 4, num_layers=2, bidirectional=True)
    seen = Seen(lambda: net(mg.ones((3, 1, 3)))[0].sum(), net, True)
    joined = [v for v in seen.named("concat") if seen.columns.steps[seen.columns.of[v]]]
    assert sorted(seen.columns.of[v] for v in joined) == [0, 0, 1, 1, 2, 2]
    for v in joined:
        assert [seen.columns.of[p] for p in v.parents] == [seen.columns.of[v]] * 2 and v.gradient.shape == (1, 8)


# Time


def forward_only(seen):
    """Whether no line leads to an earlier column."""
    of = seen.columns.of
    return all(of[p] is None or of[p] <= of[v] for v in seen.vertices if of[v] is not None for p in v.parents)


def test_a_loop_that_goes_on_from_another_one_stands_behind_it_and_counts_anew():
    net, x = nn.Recurrent(nn.ElmanCell, 3, 3), mg.ones((2, 1, 3))

    def twice():
        first, state = net(x)
        second, state = net(x, state)
        return first.sum() + second.sum()

    seen = Seen(twice, net)
    assert forward_only(seen)
    assert [v for v in seen.columns.steps.values() if v] == [[0], [1], [0], [1]]


def test_a_decoder_stands_behind_its_encoder():
    encoder, decoder = nn.Recurrent(nn.ElmanCell, 3, 4), nn.Recurrent(nn.ElmanCell, 2, 4)

    def answer():
        read, state = encoder(mg.ones((3, 1, 3)))
        mean = read.mean(axis=0)
        written, _ = decoder(mg.ones((2, 1, 2)), state)
        return (written * mean).sum()

    seen = Seen(answer, {"encoder": encoder, "decoder": decoder})
    assert forward_only(seen)
    (own,) = seen.named("decoder.cells.0.0.weight_hh")
    assert min(seen.columns.of[v] for v in seen.vertices if own in v.parents) > 2


def test_of_a_loop_in_a_loop_the_outer_one_is_time():
    W = leaf(2, 2)

    def inner(x, h):
        h = mg.tanh(x + h @ W)
        return h, h

    def outer(x, h):
        _, h = mg.scan(inner, mg.ones((2, 1, 2), dtype="float64") * x, h)
        return h, h

    x = mg.ones((3, 1, 2), dtype="float64")
    seen = Seen(lambda: mg.scan(outer, x, mg.zeros((1, 2), dtype="float64"))[0].sum(), {"W": W})
    assert forward_only(seen) and seen.places("tanh") == [0, 0, 1, 1, 2, 2]


def test_what_is_done_once_for_the_sequence_stands_before_its_steps_and_after_them():
    net, embedding = nn.Recurrent(nn.ElmanCell, 2, 3), nn.Embedding(5, 2)
    tokens = mg.tensor([[1], [2], [3]], dtype="int64")
    seen = Seen(lambda: net(embedding(tokens))[0].sum(), {"net": net, "embedding": embedding})
    steps = seen.columns.steps
    assert [len(steps[k]) for k in sorted(steps)] == [0, 1, 1, 1, 0]
    assert seen.places("embedding.weight") == [-1] and seen.places("Σ") == [3]


@pytest.mark.parametrize("each", [True, False])
def test_where_detach_cuts_the_steps_go_on_and_a_dotted_line_leads_there(each):
    """Truncated backpropagation through time, with a loss at each step or at the last alone."""
    W, x = leaf(2, 2), mg.ones((4, 2), dtype="float64")

    def loss():
        h, total = mg.zeros((2,), dtype="float64"), 0.0
        for t in range(4):
            h = mg.tanh(W @ (h.detach() if t == 2 else h) + x[t])
            total = total + mg.sum(h)
        return total if each else mg.sum(h)

    seen = Seen(loss, {"W": W}, gradients=True)
    assert seen.places("tanh") == [0, 1, 2, 3] and forward_only(seen)
    (after,) = [v for v in seen.vertices if v.cut]
    assert seen.columns.of[after] == 2 and {p.label for p in after.cut} == {"tanh"}
    assert [v.gradient is not None for v in seen.named("tanh")] == [each, each, True, True]
    assert viz.graph(loss).text.count('stroke-dasharray="1.5 3"') == 1


def steps(loss):
    return [numbers for _, numbers in sorted(unrolled(loss, {}, False)[1].steps.items())]


def test_a_tensor_that_one_compiled_loop_after_another_has_made_is_drawn_as_the_function():
    net, x = nn.Recurrent(nn.ElmanCell, 3, 3), mg.ones((2, 1, 3))

    def twice():
        _, state = net(x)
        return net(x, state)[0].sum()

    assert Seen(twice(), net).told() == Seen(twice, net).told()
    deep = nn.Recurrent(nn.ElmanCell, 3, 3, num_layers=2, dropout=0.5)
    assert steps(deep(x)[0].sum()) == [[0], [1], [], [0], [1], []]


def lags(W, U, x):
    """A state of two steps ago."""
    a = b = x[0]
    for _ in range(5):
        a, b = mg.tanh(a @ W + b), a
    return a.sum()


def layers_that_share_a_weight(W, U, x):
    hs = [x[0], x[0]]
    for t in range(3):
        i = x[t]
        for k in range(2):
            hs[k] = i = mg.tanh(i @ U + hs[k] @ W)
    return hs[1].sum()


def masked_weights(W, U, x):
    h, mask = x[0], mg.tensor([[1.0, 0, 0], [1, 1, 0], [1, 1, 1]], dtype="float64")
    for t in range(4):
        h = mg.tanh(h @ (W * mask) + x[t])
    return h.sum()


def a_norm_of_the_weight(W, U, x):
    h, w = x[0], W / mg.sqrt(mg.sum(W * W))
    for t in range(4):
        h = mg.tanh(h @ w + x[t])
    return h.sum()


@pytest.mark.parametrize(
    "loss, count", [(lags, 5), (layers_that_share_a_weight, None), (masked_weights, 4), (a_norm_of_the_weight, 4)]
)
def test_steps_by_hand_are_counted_through(loss, count):
    W, U, x = leaf(3, 3), leaf(3, 3, seed=1), mg.ones((4, 2, 3), dtype="float64")
    found = [numbers for numbers in steps(lambda: loss(W, U, x)) if numbers]
    assert found == [[t] for t in range(len(found))] and len(found) == (count or len(found))


def test_what_comes_after_all_steps_belongs_to_all():
    net, x = nn.Recurrent(nn.ElmanCell, 3, 3), mg.ones((4, 1, 3))
    assert steps(lambda: net(x)[0].sum() + net(x[:2])[0].sum()) == [[0], [1], [2], [3], []]
    assert steps(lambda: net(x[:2])[0].mean()) == [[0], [1], []]


def test_a_loop_that_was_broken_off_leaves_no_step_behind():
    net, x = nn.Recurrent(nn.ElmanCell, 3, 3), mg.ones((4, 1, 3))

    def loss():
        def step(x, h):
            raise KeyError("in the middle")

        with pytest.raises(KeyError):
            mg.scan(step, x, x[0])
        return net(x)[0].sum()

    assert steps(loss) == [[0], [1], [2], [3], []]


def test_where_detach_has_cut_is_seen_through_operations():
    W, x = leaf(3, 3), mg.ones((2, 3), dtype="float64")

    def loss():
        h = x
        for t in range(4):
            h = h.detach() * mg.tensor([[1.0], [0.0]], dtype="float64") if t == 2 else h  # a row begins anew
            h = mg.tanh(h @ W)
        return h.sum()

    seen = Seen(loss, {"W": W})
    assert seen.places("tanh") == [0, 1, 2, 3] and forward_only(seen)
    (constant,) = [v for v in seen.vertices if v.cut]
    assert constant.kind == "constant" and {p.label for p in constant.cut} == {"tanh"}


# Names


def test_names_are_those_of_tensors_of_a_module_and_of_what_is_computed():
    net, x = nn.Linear(3, 2), mg.ones((1, 3))
    y = net(x)
    labels = Seen(y.sum(), {**net.named_tensors(), "y": y, "x": x}).labels()
    assert {"weight", "bias", "x", "y = +"} <= set(labels)


def test_of_several_modules_the_names_begin_with_theirs():
    one, two = nn.Linear(2, 2), nn.Linear(2, 2)
    labels = Seen(lambda: two(one(mg.ones((1, 2)))).sum(), {"one": one, "two": two}).labels()
    assert {"one.weight", "one.bias", "two.weight", "two.bias"} <= set(labels)


def test_the_outputs_of_a_compiled_loop_have_names_too():
    net = nn.Recurrent(nn.ElmanCell, 2, 3)
    outs, h = net(mg.ones((3, 1, 2)))
    labels = Seen((outs.sum() + h.sum()), {"outs": outs, "h": h}).labels()
    assert "outs = stack" in labels and "h = tanh" in labels


def test_the_product_of_a_matrix_and_a_vector_has_the_name_of_the_vector_that_it_is():
    W, x = leaf(2, 2), mg.ones((2,), dtype=mg.float64)
    h = mg.tanh(W @ x)
    o = W @ h
    labels = Seen(mg.sum(mg.tanh(W @ o)), {"W": W, "h": h, "o": o}).labels()
    assert labels.count("o = @") == 1 and labels.count("h = tanh") == 1 and labels.count("W") == 1


def test_an_index_is_written_as_it_stands_in_the_code():
    x = leaf(3, 4, 5)
    assert Seen(lambda: x[0, 1:3, ::2].sum(), {"x": x}).labels() == ["x", "[0, 1:3, ::2]", "Σ"]


def test_names_are_text():
    x = mg.tensor(1.0, requires_grad=True)
    svg = viz.graph(x * 2, names={"<b>&\x01": x}, title='a < b & "c"\x02')
    assert any("<b>&U+0001" in title for title in boxes(svg))
    assert ElementTree.fromstring(svg.text).find(f"{SVG}title").text == 'a < b & "c"U+0002'
    assert "漢字" in viz.graph(x * 2, names={"漢字": x}).text


# Values and gradients


@settings(max_examples=10)
@given(st.integers(1, 6), st.booleans())
def test_the_gradients_are_those_of_backward_and_nothing_is_touched(steps, as_function):
    W, U, x = leaf(2, 2), leaf(2, 3, seed=1), np.ones((6, 3))
    loss = elman(steps, W, U, x)
    seen = Seen((lambda: elman(steps, W, U, x)) if as_function else loss, {"W": W, "U": U}, gradients=True)
    assert W.grad is None and U.grad is None
    loss.backward()
    for name, tensor in (("W", W), ("U", U)):
        (vertex,) = seen.named(name)
        np.testing.assert_allclose(vertex.gradient, tensor.grad.numpy(), rtol=1e-12)


@pytest.mark.parametrize("cell", [nn.LSTMCell, nn.GRUCell])
def test_the_gradients_of_a_compiled_loop_are_seen_inside_it(cell):
    net, x = nn.Recurrent(cell, 3, 4, num_layers=2).astype(mg.float64), mg.ones((4, 2, 3), dtype=mg.float64)
    loss = (net(x)[0] ** 2).sum()
    seen = Seen(loss, net, gradients=True)
    loss.backward()
    for name, weight in net.named_parameters():
        (vertex,) = seen.named(name)
        np.testing.assert_allclose(vertex.gradient, weight.grad.numpy(), rtol=1e-9, atol=1e-12)
    one_output = [v for v in seen.vertices if v.kind != "constant" and not isinstance(v.shape, list)]
    assert all(v.gradient is not None for v in one_output)


def test_what_the_backward_pass_keeps_and_what_is_named_has_a_value_without_a_run():
    a, b = (mg.tensor(v, requires_grad=True) for v in (2.0, 3.0))
    c = a * b
    seen = Seen(c + mg.exp(a), {"a": a, "b": b, "c": c})
    assert [v.value is not None for v in seen.vertices] == [True] * 5


def test_a_picture_of_a_function_draws_no_random_numbers_that_would_be_missed():
    net, x = nn.Recurrent(nn.Zoneout(nn.ElmanCell(2, 3), 0.5)), mg.ones((3, 1, 2))
    with mg.seed(1):
        expected = net(x)[0].numpy()
    with mg.seed(1):
        viz.graph(lambda: net(x)[0].sum())
        assert (net(x)[0].numpy() == expected).all()


def test_values_and_gradients_are_written_on_request_alone():
    x = mg.tensor(3.0, requires_grad=True)
    plain = viz.graph(lambda: x * x, names={"x": x}).text
    full = viz.graph(lambda: x * x, names={"x": x}, values=True, gradients=True).text
    assert ">9<" not in plain and "∂" not in plain
    assert ">9<" in full and ">∂ 6<" in full and ">3<" in full


def test_of_a_large_value_the_norm_is_written():
    x = mg.tensor(np.full((4, 4), 0.5), requires_grad=True)
    text = viz.graph(lambda: mg.sum(x), names={"x": x}, values=True).text
    assert ">|2|<" in text and ">8<" in text
    large = mg.tensor(np.full(9, 1e200), requires_grad=True)
    assert ">|3e+200|<" in viz.graph(lambda: large[0] * 1.0, names={"large": large}, values=True).text


# That it can be read


def test_integers_and_truths_are_written_as_they_are():
    x, mask = mg.tensor([1.0, 2.0], requires_grad=True), mg.tensor([True, False])
    text = viz.graph(lambda: mg.where(mask, x, 0.0).sum(), names={"mask": mask}, values=True).text
    assert ">True, False<" in text


def drawing(loss, names=None, values=False):
    seen = Seen(loss, names, values)
    texts = {v: _texts(v, values, values) for v in seen.vertices}
    sizes = {v: _size(text) for v, text in texts.items()}
    return seen, texts, layered.arrange(seen.vertices, seen.columns, sizes)


def curve(points):
    """Points along a line that is curved upwards from corner to corner."""
    s = np.linspace(0, 1, 30)[:, None]
    for (x, y), (u, v) in pairwise(points):
        p = np.array([[x, y], [x, (y + v) / 2], [u, (y + v) / 2], [u, v]])
        yield from (1 - s) ** 3 * p[0] + 3 * s * (1 - s) ** 2 * p[1] + 3 * s**2 * (1 - s) * p[2] + s**3 * p[3]


def straight(points):
    s = np.linspace(0, 1, 60)[:, None]
    for p, q in pairwise(points):
        yield from (1 - s) * np.array(p) + s * np.array(q)


def networks():
    """Networks of all kinds of cells, layers and directions, over a few steps."""
    return st.tuples(
        st.sampled_from(CELLS), st.integers(1, 5), st.integers(1, 2), st.booleans(), st.sampled_from(["sum", "last"])
    )


@settings(max_examples=20)
@given(networks(), st.booleans())
def test_no_box_covers_another_no_line_crosses_a_box_and_none_runs_upon_another(network, values):
    cell, steps, layers, both, end = network
    net = nn.Recurrent(cell, 3, 4, num_layers=layers, bidirectional=both)
    x = mg.ones((steps, 2, 3))
    loss = lambda: net(x)[0].sum() if end == "sum" else net(x)[0][-1].sum()
    seen, _, picture = drawing(loss, net, values)
    assert set(picture.boxes) == set(seen.vertices)
    edges = {v: (b.x - b.width / 2, b.top, b.x + b.width / 2, b.bottom) for v, b in picture.boxes.items()}
    for (_, a), (_, b) in combinations(edges.items(), 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
    places = np.array(list(edges.values()))
    for line in picture.lines:
        assert line.parent in line.child.parents
        points = np.array(list((straight if line.straight else curve)(line.points)))
        x, y = points[:, :1], points[:, 1:]
        inside = (x > places[:, 0]) & (x < places[:, 2]) & (y > places[:, 1] + 0.1) & (y < places[:, 3] - 0.1)
        crossed = [v for v, hit in zip(edges, inside.any(0)) if hit]
        assert set(crossed) <= ({line.parent} if seen.columns.of[line.parent] is None else set())
    level = [  # where straight lines run along a level
        (y, min(a, b), max(a, b), line.parent)
        for line in picture.lines
        if line.straight
        for (a, y), (b, z) in pairwise(line.points)
        if y == z
    ]
    for (y, a, b, p), (z, c, d, q) in combinations(level, 2):
        assert p is q or abs(y - z) > 1 or b < c or d < a


@settings(max_examples=10)
@given(networks())
def test_time_runs_to_the_right_and_depth_upwards(network):
    cell, steps, layers, both, _ = network
    net = nn.Recurrent(cell, 3, 4, num_layers=layers, bidirectional=both)
    seen, _, picture = drawing(lambda: net(mg.ones((steps, 2, 3)))[0].sum(), net)
    of = seen.columns.of
    for v, box in picture.boxes.items():
        for p in v.parents:
            if of[p] == of[v] or of[p] is None:
                assert box.bottom < picture.boxes[p].top
        for w, other in picture.boxes.items():
            if of[v] is not None and of[w] is not None and of[v] < of[w]:
                assert box.x + box.width / 2 < other.x - other.width / 2
    if steps > 1:
        assert sum(of[v] is None for v in seen.vertices) >= len(net.parameters())


def test_an_lstm_over_eight_steps_can_be_read():
    """In a column of a thousand pixels, its letters are at least six pixels high, and stand in their boxes."""
    net, x = nn.Recurrent(nn.LSTMCell, 3, 16), mg.ones((8, 4, 3))
    loss = lambda: net(x)[0].sum()
    width = int(re.search(r'width="(\d+)"', viz.graph(loss, names={"x": x}).text)[1])
    assert LABEL * 1000 / width >= 6
    _, texts, picture = drawing(loss, {"x": x})
    for v, lines in texts.items():
        for k, line in enumerate(lines):
            assert 72 * viz.style.width_of(line, SMALL if k else LABEL) <= picture.boxes[v].width


def test_the_same_graph_gives_the_same_picture():
    net, x = nn.Recurrent(nn.GRUCell, 3, 4), mg.ones((5, 2, 3))
    draw = lambda: viz.graph(lambda: net(x)[0].sum(), names=net, values=True, gradients=True).text
    assert draw() == draw()


def test_it_is_svg_that_stands_alone(tmp_path):
    net = nn.Recurrent(nn.LSTMCell, 3, 4)
    svg = viz.graph(net(mg.ones((8, 1, 3)))[0].sum(), names=net)
    svg.savefig(tmp_path / "lstm.svg")
    text = (tmp_path / "lstm.svg").read_text(encoding="utf-8")
    assert text == svg.text == svg._repr_svg_()
    root = ElementTree.fromstring(text)
    assert root.tag == f"{SVG}svg" and "href" not in text and "script" not in text
    left, top, width, height = map(float, root.get("viewBox").split())
    for rect in root.iter(f"{SVG}rect"):
        if rect.get("rx"):
            assert left <= float(rect.get("x")) and float(rect.get("x")) + float(rect.get("width")) <= left + width
            assert top <= float(rect.get("y")) and float(rect.get("y")) + float(rect.get("height")) <= top + height


# What is refused


def test_what_cannot_be_drawn_says_what_to_do(tmp_path):
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    loss = (x * x).sum()
    loss.backward()
    with pytest.raises(GraphError, match=r"released.*retain_graph"):
        viz.graph(loss)
    with pytest.raises(GraphError, match="no graph"):
        viz.graph(mg.tensor(1.0))
    with pytest.raises(ArgumentError, match="tensor or a function"):
        viz.graph([x])
    with pytest.raises(ArgumentError, match=r"without arguments.*lambda: net\(xs\)"):
        viz.graph(nn.Linear(2, 2))
    with mg.no_grad(), pytest.raises(GraphError, match="outside of no_grad"):
        viz.graph(x * x)
    with pytest.raises(ArgumentError, match="must return a tensor"):
        viz.graph(lambda: 3.0)
    for names, words in (
        (["x"], "names must be a dict"),
        (x, "names must be a dict"),
        ({"x": [x]}, "names 'x' must be a tensor or a module, got a list"),
    ):
        with pytest.raises(ArgumentError, match=words):
            viz.graph(x * x, names=names)
    for options in ({"title": None}, {"first": "x"}, {"first": 1.5}):
        with pytest.raises(ArgumentError, match="title is a text and first an integer"):
            viz.graph(x * x, **options)
    with pytest.raises(ArgumentError, match=r"\.svg"):
        viz.graph(x * x).savefig(tmp_path / "x.png")

    def long():
        y = x
        for _ in range(4000):
            y = y + 1.0
        return y.sum()

    with pytest.raises(ArgumentError, match="fewer steps"):
        viz.graph(long)


def test_gradients_of_what_is_not_a_scalar_need_one():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    assert "<svg" in viz.graph(x * x).text
    with pytest.raises(GraphError, match="derivative of one number"):
        viz.graph(x * x, gradients=True)
