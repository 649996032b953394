"""Backpropagation through time for the gated recurrent unit, by hand. Plain NumPy, one sequence, loops over time.

The equations of notes 004, for one step, with their names; * is elementwise:

    r = sigmoid(U_r x + W_r h + b_r)
    u = sigmoid(U_u x + W_u h + b_u)
    h~ = tanh(U_c x + W_c (r * h) + b_c)
    h' = (1 - u) * h + u * h~

The code under test has z = 1 - u in place of u, and z's weights: u = 1 - sigmoid(a_z) = sigmoid(-a_z), so that U_u,
W_u, b_u are its weights for z with the sign turned, and so are their gradients. The backward formulas:

    du = dh' * (h~ - h);    dh~ = dh' * u;    dh = dh' * (1 - u)
    before the nonlinearities: du * u (1 - u), dh~ * (1 - h~^2) =: k, dr * r (1 - r)
    with q = r * h:    dq = W_c^T k;    dr = dq * h;    dh += dq * r;    dW_c = k q^T

`layer_reset_after` is the form of cuDNN and PyTorch, h~ = tanh(U_c x + b_c + r * p) with p = W_c h + b_hn:

    dr = k * p;    dp = k * r;    dW_c = dp h^T;    db_hn = dp;    dh += W_c^T dp

The weights come stacked in PyTorch's order r, z, n (n is h~): U in weight_ih (3H, I), W in weight_hh (3H, H).
"""

from __future__ import annotations

import numpy as np

from .lstm import sigmoid


def layer(x, states, weights, grad_outs, grad_states):
    """What the layer computes on one sequence, and the gradients of sum_t grad_outs_t h_t + grad_states h_T.

    x (T, I); states and grad_states (h,), each (H,); grad_outs (T, H). Returns outs (T, H), states, and the
    gradients: of x, of the states, of the weights by name. The reset gate is applied before the product.
    """
    return _layer(x, states, weights, grad_outs, grad_states, after=False)


def layer_reset_after(x, states, weights, grad_outs, grad_states):
    """The same with the reset gate applied after the product; weights has a "bias_hn" (H,) as well."""
    return _layer(x, states, weights, grad_outs, grad_states, after=True)


def _layer(x, states, weights, grad_outs, grad_states, after):
    (h,) = states
    H = len(h)
    R, Z, N = slice(0, H), slice(H, 2 * H), slice(2 * H, 3 * H)
    U, W, b = weights["weight_ih"], weights["weight_hh"], weights["bias"]
    U_r, U_u, U_c = U[R], -U[Z], U[N]
    W_r, W_u, W_c = W[R], -W[Z], W[N]
    b_r, b_u, b_c = b[R], -b[Z], b[N]
    steps, outs = [], []
    for x_t in x:
        r = sigmoid(U_r @ x_t + W_r @ h + b_r)
        u = sigmoid(U_u @ x_t + W_u @ h + b_u)
        if after:
            p = W_c @ h + weights["bias_hn"]
            new = np.tanh(U_c @ x_t + b_c + r * p)
        else:
            p = None
            new = np.tanh(U_c @ x_t + W_c @ (r * h) + b_c)
        steps.append((h, r, u, p, new))
        h = (1 - u) * h + u * new
        outs.append(h)

    grad_x, grads = np.zeros_like(x), {name: np.zeros_like(w) for name, w in weights.items()}
    dh_next = grad_states[0].copy()
    for t in reversed(range(len(x))):
        h_before, r, u, p, new = steps[t]
        dh_next = dh_next + grad_outs[t]
        du, dnew, dh = dh_next * (new - h_before), dh_next * u, dh_next * (1 - u)
        k = dnew * (1 - new**2)
        if after:
            dr, dp = k * p, k * r
            grads["weight_hh"][N] += np.outer(dp, h_before)
            grads["bias_hn"] += dp
            dh += W_c.T @ dp
        else:
            q = r * h_before
            dq = W_c.T @ k
            dr = dq * h_before
            grads["weight_hh"][N] += np.outer(k, q)
            dh += dq * r
        before_r, before_u = dr * r * (1 - r), du * u * (1 - u)
        for at, d in ((R, before_r), (Z, -before_u)):
            grads["weight_hh"][at] += np.outer(d, h_before)
        for at, d in ((R, before_r), (Z, -before_u), (N, k)):
            grads["weight_ih"][at] += np.outer(d, x[t])
            grads["bias"][at] += d
        grad_x[t] = U_r.T @ before_r + U_u.T @ before_u + U_c.T @ k
        dh_next = dh + W_r.T @ before_r + W_u.T @ before_u
    return np.array(outs).reshape(len(x), H), (h,), grad_x, (dh_next,), grads
