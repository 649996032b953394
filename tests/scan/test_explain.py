"""A program as a person would write it: `nn.Recurrent.explain` prints it, `explain_scan` answers with it."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.scan import explain_scan
from tests.nn.helpers import MGU

from .helpers import fixed, leaf, simple

T, B, N, H = 7, 2, 3, 4
HEADS = ["before the loop, for all steps at once:", f"loop, {T} times, first to last:", "after the loop"]


def explained(capsys: Any, net: nn.Recurrent, *args: Any, **options: Any) -> str:
    assert net.explain(*args, **options) is None
    return capsys.readouterr().out


def sections(text: str) -> dict[str, list[str]]:
    """The lines below each head, as "forward loop", of the first forward and backward pass there are."""
    found: dict[str, list[str]] = {}
    page = head = ""
    for line in text.splitlines():
        if line and not line.startswith(" "):
            page = line.split(":")[0]
        elif re.match(r"  \S", line):
            head = f"{page} {re.split('[ ,]', line.strip())[0]}"
            if head in found:
                return found
            found[head] = []
        elif line:
            found[head].append(line.strip())
    return found


def test_it_says_what_is_before_in_and_after_the_loop(capsys):
    text = explained(capsys, nn.Recurrent(MGU, N, H), mg.zeros((T, B, N)))
    assert list(sections(text)) == [
        f"{page} {head}" for page in ("forward", "backward") for head in ("before", "for", "loop", "after")
    ]
    forward, backward = text.split("backward:")
    assert all(head in forward for head in HEADS)
    assert HEADS[0] in backward and HEADS[2] in backward and f"loop, {T} times, last to first:" in backward


def test_it_says_that_the_input_projection_is_before_the_loop(capsys):
    found = sections(explained(capsys, nn.Recurrent(MGU, N, H), mg.zeros((T, B, N))))
    before, loop = found["forward before"], found["forward loop"]
    assert sum("= x @ " in line for line in before) == 2 and not any(re.search(r"\bx\b", line) for line in loop)
    assert sum(" @ " in line for line in loop) == sum(" @ " in line for line in found["backward loop"]) == 2
    assert sum("as one product" in line for line in found["backward after"]) == 2
    assert any(re.search(r"sum over t of v\d+\^T @ x, as one product", line) for line in found["backward after"])


def test_it_gives_names_shapes_places_and_bytes(capsys):
    text = explained(capsys, nn.Recurrent(MGU, N, H), mg.zeros((T, B, N)))
    assert "gate.weight^T" in text and "candidate.bias" in text
    assert re.search(rf"gate\.weight\^T +float32\[{N + H}, {H}\] +a view of gate\.weight", text)
    size = T * B * H * 4
    assert re.search(rf"out = .* float32\[{B}, {H}\] +a slot per step, {size} bytes, given to the caller", text)
    assert re.search(rf"sigmoid\(v\d+\) +float32\[{B}, {H}\] +a slot per step, {size} bytes, kept", text)
    assert re.search(r"forward: [\d.]+ K?B?(bytes)? ?kept for the backward pass, [\d.]+ (bytes|KB) of buffers", text)
    assert "out is the next state" in text and "is the next d_state" in text


def test_bytes_grow_with_the_number_of_steps_where_there_is_a_slot_per_step(capsys):
    net = nn.Recurrent(MGU, N, H)
    short, long = (explained(capsys, net, mg.zeros((steps, B, N))) for steps in (10, 1000))
    assert f"{10 * B * H * 4} bytes, given to the caller" in short
    assert f"{1000 * B * H * 4 / 1000:.1f} KB, given to the caller" in long
    assert "loop, 1000 times" in long


def test_blocks_are_named_where_a_long_sequence_is_done_in_blocks(capsys):
    net = nn.Recurrent(nn.LSTMCell, N, 64)
    assert re.search(r"for the steps of the loop in blocks of \d+:", explained(capsys, net, mg.zeros((1000, 8, N))))
    assert "in blocks of" not in explained(capsys, net, mg.zeros((2, 8, N)))


def test_there_is_a_page_for_each_layer_and_direction(capsys):
    net = nn.Recurrent(MGU, N, H, num_layers=2, bidirectional=True)
    pages = explained(capsys, net, mg.zeros((T, B, N)), lengths=[3, T]).rstrip().split("\n\n")
    assert len(pages) == 4
    for k, page in enumerate(pages):
        forward, backward = page.split("\nbackward:")
        orders = ["first to last", "last to first"]
        assert f"loop, {T} times, {orders[k % 2]}:" in forward and f"loop, {T} times, {orders[1 - k % 2]}:" in backward
        assert f"cells.{k // 2}.{k % 2}.gate.weight" in page
        assert " = where(" in forward  # a row that has ended keeps its state


def test_without_gradients_there_is_only_the_forward_pass(capsys):
    net = nn.Recurrent(nn.LSTMCell, N, H)
    with mg.no_grad():
        text = explained(capsys, net, mg.zeros((T, B, N)))
    assert text.startswith("forward: 0 bytes kept for the backward pass") and "backward:" not in text
    assert "weight_ih" in text and ", kept" not in text


def test_layers_directions_and_lengths_are_explained_without_gradients_too(capsys):
    net = nn.Recurrent(nn.GRUCell, N, H, num_layers=2, bidirectional=True)
    with mg.no_grad():
        text = explained(capsys, net, mg.zeros((T, B, N)), lengths=[0, T])
    assert text.count("forward:") == 4 and "backward:" not in text and " = where(" in text


@pytest.mark.parametrize("cell", [nn.LSTMCell, nn.GRUCell])
def test_it_does_not_change_what_the_network_computes(cell, capsys):
    net, xs = nn.Recurrent(cell, N, H), fixed(T, B, N, dtype="float32")
    before = net(xs)[0].numpy().copy()
    assert explained(capsys, net, xs) == explained(capsys, net, xs)
    assert (net(xs)[0].numpy() == before).all() and all(p.grad is None for p in net.parameters())


def test_a_scan_of_ones_own_step_is_explained_with_the_names_that_are_given():
    step, weights = simple()
    text = explain_scan(step, leaf(T, B, 2), leaf(B, 3), names=weights)
    found = sections(text)
    assert any("x @ W" in line for line in found["forward before"])
    assert any("state @ U" in line for line in found["forward loop"])
    assert "W" not in " ".join(found["forward loop"]) and "d_out + d_state" in " ".join(found["backward loop"])
    assert sum("gradient = " in line for line in found["backward after"]) == 3
    assert "weight0" in explain_scan(step, leaf(T, B, 2), leaf(B, 3))


def test_several_inputs_states_and_outputs_have_numbers():
    def step(x, s, w):
        return (x[0] + s[0], s[1]), (mg.tanh(s[0] + x[1]), s[1] * w)

    xs, s = (leaf(T, B), leaf(T, B)), (leaf(B), leaf(B))
    text = explain_scan(step, xs, s, (leaf(B),))
    assert {"x0", "x1", "state0", "state1", "context", "out0", "d_state0", "d_state1"} <= set(re.findall(r"\w+", text))
    backwards = explain_scan(step, xs, s, (leaf(B),), reverse=True)
    assert f"loop, {T} times, last to first:" in backwards.split("\nbackward:")[0]


def test_a_loop_with_nothing_in_it_says_so():
    found = sections(explain_scan(lambda x, h: (x * h, x), leaf(T, B), leaf(B)))
    assert found["forward loop"] == ["nothing"]
    assert found["forward before"][0].startswith("state = x of the step before")


def test_every_kind_of_line_can_be_written():
    table, w = leaf(5, 3), leaf(3)

    def step(x, h):
        k, x = x
        a, b = mg.split(mg.concat([-h, x], axis=-1), 2, axis=-1)
        h = mg.where(a > b, table[k], mg.softmax(a / (1 + b**3), axis=-1)) * w
        return (h.mT, h.sum(), k + 1), h

    xs = (mg.tensor(np.array([[0, 1]] * T)), leaf(T, B, 3))
    text = explain_scan(step, xs, leaf(B, 3), names={"table": table, "w": w})
    parts = [" > ", " / ", " ** 3", "1 + ", "= -state", "where(", "^T", "concat(", "split(", "table", "a new array"]
    for part in parts:
        assert part in text, part
