"""Backpropagation through time for the simple recurrent network, by hand. Plain NumPy, one sequence, loops over time.

The network of the notes (000, "Description of RNN"), for x^(t) of size I, h^(t) of size H, C classes, t = 1 ... T:

    a^(t) = b + W h^(t-1) + U x^(t)
    h^(t) = tanh(a^(t))
    o^(t) = c + V h^(t)
    yhat^(t) = softmax(o^(t)),    L^(t) = -log yhat^(t)_{y^(t)}

The loss here is that of notes 000, L = sum_t L^(t). Notes 004 average instead, L = (1 / T) sum_t l(o_t, y_t): its
every gradient is the one here divided by T.
"""

from __future__ import annotations

import numpy as np


def network(x, y, h0, W, U, b, V, c) -> tuple[float, dict[str, np.ndarray]]:
    """The loss of one sequence and its gradients, in the order of notes 000, "Example of calculation of BPTT".

    x (T, I), y (T,) integers, h0 (H,), W (H, H), U (H, I), b (H,), V (C, H), c (C,). The gradients by name: o (T, C)
    and h (T, H), the whole derivative by o^(t) and h^(t); c, b, V, W, U; and x, h0, which the notes leave out.
    """
    T, H = len(x), len(b)
    h, o, probabilities, loss = np.zeros((T, H)), np.zeros((T, len(c))), np.zeros((T, len(c))), 0.0
    before = [h0, *h]  # before[t] is the state that step t reads
    for t in range(T):
        a = b + W @ before[t] + U @ x[t]
        before[t + 1] = h[t] = np.tanh(a)
        o[t] = c + V @ h[t]
        e = np.exp(o[t] - o[t].max())
        probabilities[t] = e / e.sum()
        loss += np.log(e.sum()) - (o[t, y[t]] - o[t].max())

    grad_o, grad_h = np.zeros_like(o), np.zeros_like(h)
    for t in range(T):  # (2): yhat_i - 1_{i = y}
        for i in range(len(c)):
            grad_o[t, i] = probabilities[t, i] - (i == y[t])
    for t in reversed(range(T)):
        grad_h[t] = V.T @ grad_o[t]  # (3), all there is at the last step
        if t + 1 < T:
            grad_h[t] += W.T @ np.diag(1 - h[t + 1] ** 2) @ grad_h[t + 1]

    grad_c = sum((grad_o[t] for t in range(T)), np.zeros_like(c))
    grad_b = sum((np.diag(1 - h[t] ** 2) @ grad_h[t] for t in range(T)), np.zeros_like(b))
    grad_V = sum((np.outer(grad_o[t], h[t]) for t in range(T)), np.zeros_like(V))
    grad_W = sum((np.outer(np.diag(1 - h[t] ** 2) @ grad_h[t], before[t]) for t in range(T)), np.zeros_like(W))
    grad_U = sum((np.outer(np.diag(1 - h[t] ** 2) @ grad_h[t], x[t]) for t in range(T)), np.zeros_like(U))
    grad_x = np.array([U.T @ np.diag(1 - h[t] ** 2) @ grad_h[t] for t in range(T)]).reshape(x.shape)
    grad_h0 = W.T @ np.diag(1 - h[0] ** 2) @ grad_h[0] if T else np.zeros_like(h0)
    names = ("o", "h", "c", "b", "V", "W", "U", "x", "h0")
    return loss, dict(zip(names, (grad_o, grad_h, grad_c, grad_b, grad_V, grad_W, grad_U, grad_x, grad_h0)))


# An activation, and its slope as a function of what it gives. That of ReLU at its kink is 0
TANH = (np.tanh, lambda h: 1 - h**2)
RELU = (lambda a: np.maximum(a, 0), lambda h: np.where(h > 0, 1.0, 0.0))


def layer(x, states, weights, grad_outs, grad_states, activation=TANH):
    """The hidden layer alone, whatever stands above it.

    What it computes, and the gradients of sum_t grad_outs^(t) h^(t) + grad_states h^(T). With RELU in place of tanh it
    is the layer of Le, Jaitly and Hinton 2015, "A Simple Way to Initialize Recurrent Networks of Rectified Linear
    Units".

    x (T, I); states and grad_states (h,), each (H,); weights {"weight_ih": U, "weight_hh": W, "bias": b} in the letters
    of the notes; grad_outs (T, H). Returns outs (T, H), states, and the gradients: of x, of the states, of the weights.
    """
    phi, slope = activation
    U, W, b = weights["weight_ih"], weights["weight_hh"], weights["bias"]
    h, outs = states[0], []
    before = []
    for x_t in x:
        before.append(h)
        h = phi(b + W @ h + U @ x_t)
        outs.append(h)

    grad_x, grads = np.zeros_like(x), {name: np.zeros_like(w) for name, w in weights.items()}
    grad_h = grad_states[0].copy()
    for t in reversed(range(len(x))):
        grad_h = grad_h + grad_outs[t]
        grad_a = slope(outs[t]) * grad_h
        grads["weight_hh"] += np.outer(grad_a, before[t])
        grads["weight_ih"] += np.outer(grad_a, x[t])
        grads["bias"] += grad_a
        grad_x[t] = U.T @ grad_a
        grad_h = W.T @ grad_a
    return np.array(outs).reshape(len(x), len(b)), (h,), grad_x, (grad_h,), grads
