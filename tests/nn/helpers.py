"""What the tests of networks share: modules in float64, and an oracle for one sequence run over a batch of rows."""

from __future__ import annotations

from typing import Any

import numpy as np

import minigrad as mg
from minigrad import nn, tree
from tests.strategies import as_numpy, as_tensor


def in_float64(module: nn.Module, backend: str = "numpy") -> nn.Module:
    """The module with weights of float64, on `backend`."""
    return module.astype("float64").to(backend)


def close(actual: Any, expected: np.ndarray, tolerance: float = 1e-9, floor: float = 0.0, what: str = "") -> None:
    """Equal to `tolerance` of the largest expected entry, or of `floor` if that is larger."""
    actual = as_numpy(actual)
    assert actual.shape == expected.shape, what
    if expected.size:
        scale = max(np.abs(expected).max(), floor)
        np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * scale, err_msg=what)


def by_rows(layer: Any, xs: Any, states: Any, weights: Any, grad_outs: Any, grad_states: Any, lengths: Any) -> Any:
    """The oracle `layer`, which knows one sequence, run for each row on its own as far as its length goes.

    xs (T, B, I); states, grad_states: tuples of (B, H); grad_outs (T, B, H). Beyond a row's end the outputs and the
    gradient of xs are 0. The gradients of the weights are summed over rows.
    """
    outs, grad_xs = np.zeros(grad_outs.shape), np.zeros(xs.shape)
    last, grad_first = [np.zeros_like(s) for s in states], [np.zeros_like(s) for s in states]
    grads = {name: np.zeros_like(w) for name, w in weights.items()}
    for row, n in enumerate(lengths):
        found = layer(xs[:n, row], [s[row] for s in states], weights, grad_outs[:n, row], [g[row] for g in grad_states])
        outs[:n, row], grad_xs[:n, row] = found[0], found[2]
        for k in range(len(states)):
            last[k][row], grad_first[k][row] = found[1][k], found[3][k]
        for name in grads:
            grads[name] += found[4][name]
    return outs, last, grad_xs, grad_first, grads


def run(net: nn.Recurrent, xs: Any, states: Any, grad_outs: Any, grad_states: Any, lengths: Any = None) -> Any:
    """`by_rows`, as minigrad has it: the arrays given become tensors on the backend of the weights.

    What no step has used (there may be none) has no gradient, which counts as 0.
    """
    backend = net.parameters()[0].backend
    net.zero_grad()
    leaves = [as_tensor(s, backend, requires_grad=True) for s in states]
    x = as_tensor(xs, backend, requires_grad=True)
    outs, last = net(x, leaves[0] if len(leaves) == 1 else tuple(leaves), lengths=lengths)
    loss = (outs * as_tensor(grad_outs, backend)).sum()
    for s, g in zip(tree.leaves(last), grad_states):
        loss = loss + (s * as_tensor(g, backend)).sum()
    loss.backward()
    grads = {name.removeprefix("cells.0.0."): gradient(p) for name, p in net.named_parameters()}
    return outs, tree.leaves(last), gradient(x), [gradient(s) for s in leaves], grads


def gradient(tensor: mg.Tensor) -> Any:
    """Its gradient, 0 where nothing has used it."""
    return np.zeros(tensor.shape) if tensor.grad is None else tensor.grad


class MGU(nn.Cell):
    """The cell of a user: minimal gated unit, Zhou et al. 2016, as DESIGN.md has it."""

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__(input_size, hidden_size)
        self.gate = nn.Linear(input_size + hidden_size, hidden_size)
        self.candidate = nn.Linear(input_size + hidden_size, hidden_size)

    def forward(self, x, h):
        f = mg.sigmoid(self.gate(mg.concat([x, h], axis=-1)))
        n = mg.tanh(self.candidate(mg.concat([x, f * h], axis=-1)))
        h = (1 - f) * h + f * n
        return h, h


class Learned(nn.Cell):
    """The cell of another user: its state is a dict that begins with a parameter, and counts the steps of each row."""

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__(input_size, hidden_size)
        self.start = nn.Parameter(nn.init.normal((1, hidden_size)))
        self.weight = nn.Parameter(nn.init.normal((hidden_size, input_size)))

    @property
    def output_size(self) -> int:
        return self.hidden_size + 1

    def initial_state(self, batch_size):
        age = mg.zeros((batch_size,), dtype="int64", backend=self.start.backend)
        return {"age": age, "h": mg.broadcast_to(self.start, (batch_size, self.hidden_size))}

    def forward(self, x, state):
        age = state["age"] + 1
        years = mg.expand_dims(age, axis=1).astype(x.dtype)
        h = mg.tanh(0.7 * state["h"] + (x @ self.weight.mT) / years)
        return mg.concat([h, years], axis=-1), {"age": age, "h": h}


def by_hand(net: nn.Recurrent, xs: mg.Tensor, state: Any = None, lengths: Any = None, marks: Any = None) -> Any:
    """What a network of cells computes, as a loop over rows, layers, directions and steps, without a mask anywhere.

    xs (T, B, I); lengths: of each row; marks: (T, B) booleans, where a row starts anew. Returns outs (T, B, ...) and
    the leaves of the state.
    """
    T, B = xs.shape[:2]
    all_outs, all_states = [], []
    for b in range(B):
        n = T if lengths is None else lengths[b]
        steps, finals = [xs[t, b : b + 1] for t in range(n)], []
        for i, cells in enumerate(net.cells):
            columns = []
            for d, cell in enumerate(cells):
                s = cell.initial_state(1)
                if state is not None:
                    given = state if len(net.cells) == len(cells) == 1 else state[i][d]
                    s = tree.map(lambda leaf, b=b: leaf[b : b + 1], given)
                column: dict[int, mg.Tensor] = {}
                for t in reversed(range(n)) if d else range(n):
                    begins = t + 1 if d else t
                    if marks is not None and begins < n and marks[begins][b]:
                        s = cell.initial_state(1)
                    column[t], s = cell(steps[t], s)
                columns.append(column)
                finals += tree.leaves(s)
            steps = [mg.concat([column[t] for column in columns], axis=-1) for t in range(n)]
        size = sum(cell.output_size for cell in net.cells[-1])
        ended = mg.zeros((T - n, 1, size), dtype=xs.dtype)
        all_outs.append(mg.concat([mg.stack(steps), ended]) if n else ended)
        all_states.append(finals)
    return mg.concat(all_outs, axis=1), [mg.concat(parts) for parts in zip(*all_states)]


def pulled(outputs: Any, inputs: list[mg.Tensor], seed: int = 0) -> list[np.ndarray]:
    """The gradients by the inputs of a sum of all floats in `outputs`, each weighted with a number of its own."""
    rng = np.random.default_rng(seed)
    for x in inputs:
        x.grad = None
    total = mg.tensor(0.0, dtype="float64")
    for y in tree.leaves(outputs):
        total = total + (y * mg.tensor(rng.normal(size=y.shape))).sum()
    if total.requires_grad:
        total.backward()
    return [as_numpy(gradient(x)) for x in inputs]
