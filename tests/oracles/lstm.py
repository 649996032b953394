"""Backpropagation through time for long short-term memory, by hand. Plain NumPy, one sequence, loops over time.

The equations of notes 004, for one step, with their names; * is elementwise:

    f = sigmoid(U^f x + W^f h + b^f)            what of c is kept
    i = sigmoid(U^i x + W^i h + b^i)            what is written
    o = sigmoid(U^o x + W^o h + b^o)            what is shown (g_t in some of the notes' slides)
    c~ = tanh(U^c x + W^c h + b^c)
    c' = f * c + i * c~
    h' = o * tanh(c')

From the cotangents of h' and c' follow, by the chain rule alone,

    do = dh' * tanh(c');    dc' += dh' * o * (1 - tanh(c')^2)
    df = dc' * c;    di = dc' * c~;    dc~ = dc' * i;    dc = dc' * f
    before the nonlinearities: df * f (1 - f), di * i (1 - i), do * o (1 - o), dc~ * (1 - c~^2)
    and each gate with U, W, b gives dU = d x^T, dW = d h^T, db = d, dx += U^T d, dh += W^T d

The weights come stacked in PyTorch's order i, f, c~ (called g there), o: U in weight_ih (4H, I), W in weight_hh.
"""

from __future__ import annotations

import numpy as np


def sigmoid(a):
    """1 / (1 + exp(-a)), from the side where exp does not overflow."""
    return np.array([1 / (1 + np.exp(-v)) if v >= 0 else np.exp(v) / (1 + np.exp(v)) for v in a])


def layer(x, states, weights, grad_outs, grad_states):
    """What the layer computes on one sequence, and the gradients of sum_t grad_outs_t h_t + grad_states (h_T, c_T).

    x (T, I); states and grad_states (h, c), each (H,); grad_outs (T, H). Returns outs (T, H), states, and the
    gradients: of x, of the states, of the weights by name.
    """
    h, c = states
    H = len(h)
    rows = {"i": slice(0, H), "f": slice(H, 2 * H), "c~": slice(2 * H, 3 * H), "o": slice(3 * H, 4 * H)}
    U = {gate: weights["weight_ih"][at] for gate, at in rows.items()}
    W = {gate: weights["weight_hh"][at] for gate, at in rows.items()}
    b = {gate: weights["bias"][at] for gate, at in rows.items()}
    steps, outs = [], []
    for x_t in x:
        a = {gate: U[gate] @ x_t + W[gate] @ h + b[gate] for gate in rows}
        f, i, o, new = sigmoid(a["f"]), sigmoid(a["i"]), sigmoid(a["o"]), np.tanh(a["c~"])
        c_next = f * c + i * new
        steps.append((h, c, f, i, o, new, c_next))
        h, c = o * np.tanh(c_next), c_next
        outs.append(h)

    grad_x, grads = np.zeros_like(x), {name: np.zeros_like(w) for name, w in weights.items()}
    dh, dc = (g.copy() for g in grad_states)
    for t in reversed(range(len(x))):
        h_before, c_before, f, i, o, new, c_next = steps[t]
        dh = dh + grad_outs[t]
        do = dh * np.tanh(c_next)
        dc = dc + dh * o * (1 - np.tanh(c_next) ** 2)
        df, di, dnew = dc * c_before, dc * new, dc * i
        d = {"f": df * f * (1 - f), "i": di * i * (1 - i), "o": do * o * (1 - o), "c~": dnew * (1 - new**2)}
        dh, dc = np.zeros(H), dc * f
        for gate, at in rows.items():
            grads["weight_ih"][at] += np.outer(d[gate], x[t])
            grads["weight_hh"][at] += np.outer(d[gate], h_before)
            grads["bias"][at] += d[gate]
            grad_x[t] += U[gate].T @ d[gate]
            dh += W[gate].T @ d[gate]
    return np.array(outs).reshape(len(x), H), (h, c), grad_x, (dh, dc), grads
