"""Backpropagation through time for the clockwork network, by hand. Plain NumPy, one sequence, loops over time.

Koutnik, Greff, Gomez and Schmidhuber 2014, "A Clockwork RNN". H units lie in g modules of H / g neighbours, with
periods T_1 < ... < T_g. The state is h (H,) and the number n of steps that came before, 0 at the start. At a step, with
h what the step before left,

    h'_i = tanh(sum over j >= i of U_ij h_j + W_i x + b_i)      for the modules i with n mod T_i = 0
    h'_i = h_i                                                  for the others
    n' = n + 1

so that a module hears itself and the slower ones, and at n = 0 all are moved. The blocks U_ij with j < i (of the slow
hearing the fast) count as 0, whatever stands there. Backwards, a module that stood still hands its cotangent on:

    d_i = dh'_i * (1 - h'_i^2) where module i was moved, 0 where it stood
    dW = d x^T;    dU_ij = d_i h_j^T for j >= i, and exactly 0 else;    db = d;    dx = W^T d
    dh_j = sum over i <= j of U_ij^T d_i, and where module j stood dh'_j as well

n is a count and has no gradient. U is weight_hh (H, H), W weight_ih (H, I), b bias (H,).
"""

from __future__ import annotations

import numpy as np


def layer(x, states, weights, grad_outs, grad_states, periods):
    """What the layer computes on one sequence, and the gradients of sum_t grad_outs_t h_t + grad_states h_T.

    x (T, I); states (h, n), (H,) and an integer; grad_states (h, anything); grad_outs (T, H); periods of the modules,
    the fastest first. Returns outs (T, H), states (h, n), and the gradients: of x, of the states (h's, and 0 for n), of
    the weights by name.
    """
    h, n = states
    H, size = len(h), len(h) // len(periods)
    assert size * len(periods) == H, "the modules are of one size"
    module = [k // size for k in range(H)]
    hears = np.array([[module[j] >= module[k] for j in range(H)] for k in range(H)])
    W, U, b = weights["weight_ih"], np.where(hears, weights["weight_hh"], 0), weights["bias"]
    steps, outs = [], []
    for x_t in x:
        moved = np.array([n % periods[module[k]] == 0 for k in range(H)])
        before = h
        h = np.where(moved, np.tanh(U @ before + W @ x_t + b), before)
        steps.append((before, moved))
        outs.append(h)
        n = n + 1

    grad_x, grads = np.zeros_like(x), {name: np.zeros_like(w) for name, w in weights.items()}
    dh = grad_states[0].copy()
    for t in reversed(range(len(x))):
        before, moved = steps[t]
        dh = dh + grad_outs[t]
        d = np.where(moved, dh * (1 - outs[t] ** 2), 0)
        grads["weight_ih"] += np.outer(d, x[t])
        grads["weight_hh"] += np.where(hears, np.outer(d, before), 0)
        grads["bias"] += d
        grad_x[t] = W.T @ d
        dh = np.where(moved, 0, dh) + U.T @ d
    return np.array(outs).reshape(len(x), H), (h, n), grad_x, (dh, 0), grads
