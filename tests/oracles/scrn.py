"""Backpropagation through time for the structurally constrained network, by hand. Plain NumPy, one sequence, loops.

Mikolov, Joulin, Chopra, Mathieu and Ranzato 2015, "Learning Longer Memory in Recurrent Neural Networks", section 3:
beside the hidden units h (H,) there are context units s (S,), which only drift, at a rate fixed by alpha:

    s_t = (1 - alpha) B x_t + alpha s_{t-1}
    h_t = sigmoid(P s_t + A x_t + R h_{t-1})
    out_t = [h_t, s_t]                              both, as both have weights to the paper's output layer

Backwards, with dh and ds the two parts of grad_outs_t and what the next step has sent back:

    d = dh * h_t (1 - h_t);    dP += d s_t^T;    dA += d x_t^T;    dR += d h_{t-1}^T
    ds += P^T d                                     for h_t reads the s of this step; then
    dB += (1 - alpha) ds x_t^T;    dx_t = A^T d + (1 - alpha) B^T ds
    dh_{t-1} = R^T d;    ds_{t-1} = alpha ds

The names of the weights: A is weight_ih (H, I), R weight_hh (H, H), B weight_is (S, I), P weight_sh (H, S).
"""

from __future__ import annotations

import numpy as np

from .lstm import sigmoid


def layer(x, states, weights, grad_outs, grad_states, alpha):
    """What the layer computes on one sequence, and the gradients of sum_t grad_outs_t out_t + grad_states (h_T, s_T).

    x (T, I); states and grad_states (h, s), (H,) and (S,); grad_outs (T, H + S); alpha a number. Returns outs
    (T, H + S), states, and the gradients: of x, of the states, of the weights by name.
    """
    h, s = states
    H = len(h)
    A, R, B, P = (weights[name] for name in ("weight_ih", "weight_hh", "weight_is", "weight_sh"))
    steps, outs = [], []
    for x_t in x:
        before = h
        s = (1 - alpha) * (B @ x_t) + alpha * s
        h = sigmoid(P @ s + A @ x_t + R @ before)
        steps.append((before, h, s))
        outs.append(np.concatenate([h, s]))

    grad_x, grads = np.zeros_like(x), {name: np.zeros_like(w) for name, w in weights.items()}
    dh, ds = (g.copy() for g in grad_states)
    for t in reversed(range(len(x))):
        before, h_t, s_t = steps[t]
        d = (dh + grad_outs[t, :H]) * h_t * (1 - h_t)
        ds = ds + grad_outs[t, H:] + P.T @ d
        grads["weight_sh"] += np.outer(d, s_t)
        grads["weight_ih"] += np.outer(d, x[t])
        grads["weight_hh"] += np.outer(d, before)
        grads["weight_is"] += (1 - alpha) * np.outer(ds, x[t])
        grad_x[t] = A.T @ d + (1 - alpha) * (B.T @ ds)
        dh, ds = R.T @ d, alpha * ds
    return np.array(outs).reshape(len(x), H + len(s)), (h, s), grad_x, (dh, ds), grads
