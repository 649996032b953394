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

The variants, from one set of equations. Peepholes p (Gers and Schmidhuber 2000; notes 003) let the gates see the cell:
i and f the c before the step, o the c' after it. A projection R (Sak, Senior and Beaufays 2014) makes a smaller h of
what is shown. phi is tanh, or the identity in the linear form (the memory of notes 003, which adds numbers up and shows
the sum as it is):

    i = sigmoid(U^i x + W^i h + p^i * c + b^i);    f = sigmoid(U^f x + W^f h + p^f * c + b^f)
    c~ = phi(U^c x + W^c h + b^c);    c' = f * c + i * c~
    o = sigmoid(U^o x + W^o h + p^o * c' + b^o)
    s = o * phi(c');    h' = R s

Without peepholes p = 0, and without projection R = I. Backwards, in the opposite order. d_ is what arrives before a
nonlinearity; phi' is 1 - phi^2 for tanh and 1 for the identity:

    dR = dh' s^T;    ds = R^T dh'
    do = ds * phi(c');    d_o = do * o (1 - o);    dp^o = d_o * c'
    dc' += ds * o * phi'(c') + d_o * p^o                        c' is seen by phi and by the gate o
    di = dc' * c~;    d_i = di * i (1 - i);    dp^i = d_i * c
    df = dc' * c;     d_f = df * f (1 - f);    dp^f = d_f * c
    dc~ = dc' * i;    d_c~ = dc~ * phi'
    dc = dc' * f + d_i * p^i + d_f * p^f
    and each d_ with its U, W, b as above

These are the whole derivatives; the paper of 2000 cut them at the gates. p is weight_ci, weight_cf, weight_co, each
(H,); R is weight_hr (P, H), and then h is (P,), W in weight_hh (4H, P).
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


def layer_peephole(x, states, weights, grad_outs, grad_states):
    """The same with peepholes; weights has "weight_ci", "weight_cf", "weight_co" (H,) as well."""
    return _variant(x, states, weights, grad_outs, grad_states, TANH)


def layer_projection(x, states, weights, grad_outs, grad_states):
    """The same with a projection; weights has a "weight_hr" (P, H) as well, and "weight_hh" is (4H, P).

    States and grad_states (h, c), (P,) and (H,); outs and grad_outs (T, P).
    """
    return _variant(x, states, weights, grad_outs, grad_states, TANH)


def layer_peephole_projection(x, states, weights, grad_outs, grad_states):
    """The same with both, and the weights of both."""
    return _variant(x, states, weights, grad_outs, grad_states, TANH)


def layer_linear(x, states, weights, grad_outs, grad_states):
    """The same with the identity in place of both tanh; neither peepholes nor projection."""
    return _variant(x, states, weights, grad_outs, grad_states, IDENTITY)


# phi, and phi' as a function of phi
TANH = (np.tanh, lambda y: 1 - y**2)
IDENTITY = (lambda a: a, np.ones_like)


def _variant(x, states, weights, grad_outs, grad_states, nonlinearity):
    """Any of them: a peephole that weights does not have is 0, and a projection that it does not have is I."""
    phi, slope = nonlinearity
    h, c = states
    H = len(c)
    I, F, G, O = (slice(k * H, (k + 1) * H) for k in range(4))  # noqa: E741
    U, W, b = weights["weight_ih"], weights["weight_hh"], weights["bias"]
    p_i, p_f, p_o = (weights.get(name, np.zeros(H)) for name in ("weight_ci", "weight_cf", "weight_co"))
    R = weights.get("weight_hr", np.eye(H))
    steps, outs = [], []
    for x_t in x:
        a = U @ x_t + W @ h + b
        i, f, new = sigmoid(a[I] + p_i * c), sigmoid(a[F] + p_f * c), phi(a[G])
        c_next = f * c + i * new
        o = sigmoid(a[O] + p_o * c_next)
        shown = phi(c_next)
        steps.append((h, c, i, f, new, c_next, o, shown))
        h, c = R @ (o * shown), c_next
        outs.append(h)

    grad_x, grads = np.zeros_like(x), {name: np.zeros_like(w) for name, w in weights.items()}
    dh, dc = (g.copy() for g in grad_states)
    for t in reversed(range(len(x))):
        h_before, c_before, i, f, new, c_next, o, shown = steps[t]
        dh = dh + grad_outs[t]
        ds = R.T @ dh
        d_o = ds * shown * o * (1 - o)
        dc = dc + ds * o * slope(shown) + d_o * p_o
        d_i = dc * new * i * (1 - i)
        d_f = dc * c_before * f * (1 - f)
        d_new = dc * i * slope(new)
        d = np.concatenate([d_i, d_f, d_new, d_o])
        of_step = {
            "weight_ih": np.outer(d, x[t]),
            "weight_hh": np.outer(d, h_before),
            "bias": d,
            "weight_ci": d_i * c_before,
            "weight_cf": d_f * c_before,
            "weight_co": d_o * c_next,
            "weight_hr": np.outer(dh, o * shown),
        }
        for name in grads:
            grads[name] += of_step[name]
        grad_x[t] = U.T @ d
        dh, dc = W.T @ d, dc * f + d_i * p_i + d_f * p_f
    return np.array(outs).reshape(len(x), len(h)), (h, c), grad_x, (dh, dc), grads
