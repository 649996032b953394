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
from minigrad.viz.graph import LABEL, SMALL, _size, _texts
from minigrad.viz.unrolled import read

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


def told(found):
    """What a picture shows, to compare: of each box what it is, its column, and what it is computed from."""
    number = {v: i for i, v in enumerate(found.vertices)}
    return [(v.kind, v.label, v.shape, v.step, sorted(number[p] for p in v.parents)) for v in found.vertices]


def boxes(svg):
    """The titles of the boxes of a picture: what is shown to who points at them."""
    root = ElementTree.fromstring(svg.text)
    return [group.find(f"{SVG}title").text for group in root.iter(f"{SVG}g")]


# What is drawn


def test_a_value_used_twice_has_one_box_and_two_lines():
    x = mg.tensor(3.0, requires_grad=True)
    found = read(lambda: x * x + (1 - x) ** 2, {"x": x}, gradients=True)
    assert [v.label for v in found.vertices] == ["x", "×", "1 −", "^ 2", "+"]
    square = found.vertices[1]
    assert square.parents == [found.vertices[0]] * 2
    lines = layered.arrange(found, dict.fromkeys(found.vertices, (30.0, 20.0))).lines
    assert sum(line.parent is found.vertices[0] and line.child is square for line in lines) == 2


def test_every_weight_of_a_loop_is_drawn_once_and_every_step_stands_in_its_own_column():
    W, U, x = leaf(2, 2), leaf(2, 3, seed=1), mg.ones((4, 3), dtype=mg.float64)
    found = read(lambda: elman(4, W, U, x), {"W": W, "U": U, "x": x}, gradients=False)
    weights = [v for v in found.vertices if v.kind == "leaf"]
    assert [(v.label, v.step) for v in weights] == [("W", None), ("U", None)]
    assert [v.step for v in found.vertices if v.label == "tanh"] == [0, 1, 2, 3]
    assert [v.step for v in found.vertices if v.label == "x"] == [0, 1, 2, 3]
    assert [v.step for v in found.vertices if v.label == "Σ"] == [0, 1, 2, 3]


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

    steps = [[v.step for v in read(f, made, False).vertices if v.kind == "operation"] for f in (by_hand, by_scan)]
    if cell is nn.ClockworkCell:  # its step counter is no weight, and some units wait
        assert set(steps[0]) <= set(steps[1])
    else:
        assert steps[0] == steps[1]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("options", [{}, {"bidirectional": True}, {"num_layers": 2}, {"remat": "sqrt"}])
def test_a_compiled_loop_is_drawn_as_the_eager_one(cell, options):
    net, x = nn.Recurrent(cell, 3, 4, **options), mg.ones((4, 2, 3))
    assert told(read(net(x)[0].sum(), net, False)) == told(read(lambda: net(x)[0].sum(), net, False))


def test_in_reverse_each_step_stands_at_the_time_of_its_input():
    net, x = nn.Recurrent(nn.ElmanCell, 3, 4, bidirectional=True), mg.ones((3, 1, 3))
    found = read(lambda: net(x)[0].sum(), {"x": x, **net.named_tensors()}, False)
    backwards = next(v for v in found.vertices if v.label == "cells.0.1.weight_hh")
    firsts = [v for v in found.vertices if backwards in v.parents]
    assert sorted(v.step for v in firsts) == [0, 1, 2]
    state = [v for v in found.vertices if v.label == "tanh" and v.step == 1]
    later = [p.step for v in firsts if v.step == 1 for p in v.parents if p.kind == "operation"]
    assert len(state) == 2 and later == [2]


def test_what_is_detached_is_a_constant_so_that_truncation_is_seen():
    W, x = leaf(2, 2), np.ones((4, 2))

    def loss(cut):
        h = mg.zeros((2,), dtype=mg.float64)
        for t in range(4):
            h = mg.tanh(W @ (h.detach() if t == cut else h) + x[t])
        return mg.sum(h)

    whole = [v.label for v in read(lambda: loss(None), {"W": W}, False).vertices]
    cut = [v.label for v in read(lambda: loss(2), {"W": W}, False).vertices]
    assert whole.count("tanh") == 4 and cut.count("tanh") == 2


def test_names_are_those_of_tensors_of_a_module_and_of_what_is_computed():
    net, x = nn.Linear(3, 2), mg.ones((1, 3))
    y = net(x)
    labels = [v.label for v in read(y.sum(), {**net.named_tensors(), "y": y, "x": x}, False).vertices]
    assert {"weight", "bias", "x", "y = +"} <= set(labels)


def test_the_product_of_a_matrix_and_a_vector_has_the_name_of_the_vector_that_it_is():
    W, x = leaf(2, 2), mg.ones((2,), dtype=mg.float64)
    h = mg.tanh(W @ x)
    o = W @ h
    labels = [v.label for v in read(mg.sum(mg.tanh(W @ o)), {"W": W, "h": h, "o": o}, False).vertices]
    assert labels.count("o = @") == 1 and labels.count("h = tanh") == 1 and labels.count("W") == 1


def test_names_are_text():
    x = mg.tensor(1.0, requires_grad=True)
    svg = viz.graph(x * 2, names={"<b>&": x}, title='a < b & "c"')
    assert any("<b>&" in title for title in boxes(svg))
    assert ElementTree.fromstring(svg.text).find(f"{SVG}title").text == 'a < b & "c"'


# Values and gradients


@settings(max_examples=10)
@given(st.integers(1, 6), st.booleans())
def test_the_gradients_are_those_of_backward_and_nothing_is_touched(steps, as_function):
    W, U, x = leaf(2, 2), leaf(2, 3, seed=1), np.ones((6, 3))
    loss = elman(steps, W, U, x)
    found = read((lambda: elman(steps, W, U, x)) if as_function else loss, {"W": W, "U": U}, gradients=True)
    assert W.grad is None and U.grad is None
    loss.backward()
    for name, tensor in (("W", W), ("U", U)):
        (vertex,) = [v for v in found.vertices if v.label == name]
        np.testing.assert_allclose(vertex.gradient, tensor.grad.numpy(), rtol=1e-12)


@pytest.mark.parametrize("cell", [nn.LSTMCell, nn.GRUCell])
def test_the_gradients_of_a_compiled_loop_are_seen_inside_it(cell):
    net, x = nn.Recurrent(cell, 3, 4, num_layers=2).astype(mg.float64), mg.ones((4, 2, 3), dtype=mg.float64)
    loss = (net(x)[0] ** 2).sum()
    found = read(loss, net, gradients=True)
    loss.backward()
    for name, weight in net.named_parameters():
        (vertex,) = [v for v in found.vertices if v.label == name]
        np.testing.assert_allclose(vertex.gradient, weight.grad.numpy(), rtol=1e-9, atol=1e-12)
    assert all(v.gradient is not None for v in found.vertices if v.kind != "constant")


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


# That it can be read


def drawing(loss, names=None, values=False):
    found = read(loss, names, values)
    texts = {v: _texts(v, values, values) for v in found.vertices}
    return found, texts, layered.arrange(found, {v: _size(text) for v, text in texts.items()})


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
def test_no_box_covers_another_and_no_line_crosses_a_box(network, values):
    cell, steps, layers, both, end = network
    net = nn.Recurrent(cell, 3, 4, num_layers=layers, bidirectional=both)
    x = mg.ones((steps, 2, 3))
    loss = lambda: net(x)[0].sum() if end == "sum" else net(x)[0][-1].sum()
    found, _, picture = drawing(loss, net, values)
    assert set(picture.boxes) == set(found.vertices)
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
        assert set(crossed) <= ({line.parent} if line.parent.step is None else set())


@settings(max_examples=10)
@given(networks())
def test_time_runs_to_the_right_and_depth_upwards(network):
    cell, steps, layers, both, _ = network
    net = nn.Recurrent(cell, 3, 4, num_layers=layers, bidirectional=both)
    found, _, picture = drawing(lambda: net(mg.ones((steps, 2, 3)))[0].sum(), net)
    for v, box in picture.boxes.items():
        for p in v.parents:
            if p.step == v.step or p.step is None:
                assert box.bottom < picture.boxes[p].top
        for w, other in picture.boxes.items():
            if v.step is not None and w.step is not None and v.step < w.step:
                assert box.x + box.width / 2 < other.x - other.width / 2
    assert sum(v.step is None for v in found.vertices) >= len(net.parameters()) if steps > 1 else True


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
    with pytest.raises(ArgumentError, match="must return a tensor"):
        viz.graph(lambda: 3.0)
    with pytest.raises(ArgumentError, match="names must be a dict"):
        viz.graph(x * x, names=["x"])
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
    with pytest.raises(GraphError):
        viz.graph(x * x, gradients=True)
