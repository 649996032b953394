"""The echo state network: its leaky units with backpropagation through time, by hand, and its read-out in closed form.

Jaeger 2001, "The 'echo state' approach to analysing and training recurrent neural networks"; with leaky units, Jaeger,
Lukosevicius, Popovici and Siewert 2007. Plain NumPy, one sequence, loops over time. With a the leak:

    n_t = tanh(W x_t + U h_{t-1} + b)
    h_t = (1 - a) h_{t-1} + a n_t

W, U and b are drawn once and stay. Their gradients are here nevertheless, for what is not trained is not thereby
without a derivative:

    d = dh_t * a * (1 - n_t^2);    dW += d x_t^T;    dU += d h_{t-1}^T;    db += d
    dx_t = W^T d;    dh_{t-1} = (1 - a) dh_t + U^T d

W is weight_ih (H, I), U weight_hh (H, H), b bias (H,).

The read-out y = V h + v is fitted to the collected states h_n and targets y_n, n = 1 ... N, by ridge regression: it
minimises L = sum_n |V h_n + v - y_n|^2 + k |V|^2. The bias v is not penalised, since moving all targets by a constant
should move all predictions by it. Then dL/dv = 0 says sum_n (V h_n + v - y_n) = 0, so v = mean(y) - V mean(h); put in
L, all that remains is about the centred X = h - mean(h), Y = y - mean(y), as rows:

    L = sum_n |V X_n - Y_n|^2 + k |V|^2;    dL/dV = 2 (V X^T X - Y^T X + k V) = 0;    V = Y^T X (X^T X + k I)^-1

For k > 0 the matrix is positive definite, L strictly convex, and this its one minimum.
"""

from __future__ import annotations

import numpy as np


def layer(x, states, weights, grad_outs, grad_states, leak):
    """What the layer computes on one sequence, and the gradients of sum_t grad_outs_t h_t + grad_states h_T.

    x (T, I); states and grad_states (h,), each (H,); grad_outs (T, H); leak a number in (0, 1]. Returns outs (T, H),
    states, and the gradients: of x, of the states, of the weights by name.
    """
    W, U, b = weights["weight_ih"], weights["weight_hh"], weights["bias"]
    (h,) = states
    steps, outs = [], []
    for x_t in x:
        n = np.tanh(W @ x_t + U @ h + b)
        steps.append((h, n))
        h = (1 - leak) * h + leak * n
        outs.append(h)

    grad_x, grads = np.zeros_like(x), {name: np.zeros_like(w) for name, w in weights.items()}
    dh = grad_states[0].copy()
    for t in reversed(range(len(x))):
        before, n = steps[t]
        dh = dh + grad_outs[t]
        d = dh * leak * (1 - n**2)
        grads["weight_ih"] += np.outer(d, x[t])
        grads["weight_hh"] += np.outer(d, before)
        grads["bias"] += d
        grad_x[t] = W.T @ d
        dh = (1 - leak) * dh + U.T @ d
    return np.array(outs).reshape(len(x), len(b)), (h,), grad_x, (dh,), grads


def ridge(states, targets, strength):
    """The read-out that minimises sum |V h + v - y|^2 + strength |V|^2: its weights V (O, H) and bias v (O,).

    states (N, H), targets (N, O), N >= 1; strength > 0, or 0 where the centred states are of full rank. The bias is not
    penalised.
    """
    mean_state, mean_target = states.mean(axis=0), targets.mean(axis=0)
    X, Y = states - mean_state, targets - mean_target
    # V (X^T X + k I) = Y^T X, and the matrix is its own transpose.
    V = np.linalg.solve(X.T @ X + strength * np.eye(X.shape[1]), X.T @ Y).T
    return V, mean_target - V @ mean_state
