"""Backpropagation through time for the simplified gated recurrent unit, by hand. Plain NumPy, one sequence, loops.

The unit of notes 001 before the gate r comes in: one gate u, which chooses between the candidate and what was there.
The notes multiply one matrix by [C, x]; here it is apart, W for h (their C) and U for x. * is elementwise:

    u = sigmoid(U_u x + W_u h + b_u)
    n = tanh(U_n x + W_n h + b_n)
    h' = u * n + (1 - u) * h

The code under test has z = 1 - u in place of u, and z's weights: u = 1 - sigmoid(a_z) = sigmoid(-a_z), so that U_u,
W_u, b_u are its weights for z with the sign turned, and so are their gradients. The backward formulas:

    du = dh' * (n - h);    dn = dh' * u;    dh = dh' * (1 - u)
    before the nonlinearities: d_u = du * u (1 - u), d_n = dn * (1 - n^2)
    each with its U, W, b: dU = d x^T, dW = d h^T, db = d, dx += U^T d, dh += W^T d

The weights come stacked in the order z, n: U in weight_ih (2H, I), W in weight_hh (2H, H), b in bias (2H,).
"""

from __future__ import annotations

import numpy as np

from .lstm import sigmoid


def layer(x, states, weights, grad_outs, grad_states):
    """What the layer computes on one sequence, and the gradients of sum_t grad_outs_t h_t + grad_states h_T.

    x (T, I); states and grad_states (h,), each (H,); grad_outs (T, H). Returns outs (T, H), states, and the
    gradients: of x, of the states, of the weights by name.
    """
    (h,) = states
    H = len(h)
    Z, N = slice(0, H), slice(H, 2 * H)
    U, W, b = weights["weight_ih"], weights["weight_hh"], weights["bias"]
    U_u, U_n, W_u, W_n, b_u, b_n = -U[Z], U[N], -W[Z], W[N], -b[Z], b[N]
    steps, outs = [], []
    for x_t in x:
        u = sigmoid(U_u @ x_t + W_u @ h + b_u)
        n = np.tanh(U_n @ x_t + W_n @ h + b_n)
        steps.append((h, u, n))
        h = u * n + (1 - u) * h
        outs.append(h)

    grad_x, grads = np.zeros_like(x), {name: np.zeros_like(w) for name, w in weights.items()}
    dh = grad_states[0].copy()
    for t in reversed(range(len(x))):
        h_before, u, n = steps[t]
        dh = dh + grad_outs[t]
        d_u = dh * (n - h_before) * u * (1 - u)
        d_n = dh * u * (1 - n**2)
        for at, d in ((Z, -d_u), (N, d_n)):  # z's weights are u's with the sign turned
            grads["weight_ih"][at] += np.outer(d, x[t])
            grads["weight_hh"][at] += np.outer(d, h_before)
            grads["bias"][at] += d
        grad_x[t] = U_u.T @ d_u + U_n.T @ d_n
        dh = dh * (1 - u) + W_u.T @ d_u + W_n.T @ d_n
    return np.array(outs).reshape(len(x), H), (h,), grad_x, (dh,), grads
