"""Backpropagation through time for Jordan's network, by hand. Plain NumPy, one sequence, loops over time.

The network that hears its own output of the step before (Jordan 1986; notes 003), for one step t = 1 ... T:

    a_t = W x_t + U r_t + b             r_t (O,) is what the step reads back
    h_t = tanh(a_t)
    o_t = V h_t + c                     what the network gives out
    f_t = o_t, or softmax(o_t), or the one-hot vector of the (first) largest entry of o_t: what it feeds back

Left to itself, r_t = f_{t-1}, and f_0 is the state given. With teacher forcing, r_t = y_{t-1}, the target of the step
before, and r_1 = 0. With scheduled sampling (Bengio et al. 2015) each step but the first reads one or the other.

Backwards. do_t is what grad_outs says, and what comes through f_t from the step that reads it, if one does. From df_t:

    output      do_t += df_t
    softmax     d f_i / d o_j = f_i (1[i = j] - f_j), so do_t += f_t * (df_t - f_t . df_t)
    one-hot     constant wherever it has a derivative: nothing

and then

    dV += do_t h_t^T;    dc += do_t;    dh_t = V^T do_t;    da_t = dh_t * (1 - h_t^2)
    dW += da_t x_t^T;    dU += da_t r_t^T;    db += da_t;    dx_t = W^T da_t;    dr_t = U^T da_t

where dr_t is the gradient of f_{t-1} or of y_{t-1}, whichever was read.

The names of the weights: W is weight_ih (H, I), U weight_oh (H, O), b bias (H,), V weight_ho (O, H), c bias_o (O,).
"""

from __future__ import annotations

import numpy as np

from .attention import softmax


def one_hot(o):
    """1 at the largest entry, the first of them if there are several, and 0 elsewhere."""
    f = np.zeros_like(o)
    f[np.argmax(o)] = 1
    return f


FED_BACK = {"output": lambda o: o, "softmax": softmax, "one_hot": one_hot}
PULLED_BACK = {
    "output": lambda df, f: df,
    "softmax": lambda df, f: f * (df - f @ df),
    "one_hot": lambda df, f: np.zeros_like(df),
}


def layer_output(x, states, weights, grad_outs, grad_states):
    """What the layer computes on one sequence, and the gradients of sum_t grad_outs_t o_t + grad_states f_T.

    x (T, I); states and grad_states (f,), each (O,); grad_outs (T, O). Returns outs (T, O), states, and the gradients:
    of x, of the states, of the weights by name. The output itself is fed back.
    """
    return _own(x, states, weights, grad_outs, grad_states, "output")


def layer_softmax(x, states, weights, grad_outs, grad_states):
    """The same where the softmax of the output is fed back."""
    return _own(x, states, weights, grad_outs, grad_states, "softmax")


def layer_one_hot(x, states, weights, grad_outs, grad_states):
    """The same where the one-hot vector of the output's largest entry is fed back, which no gradient passes."""
    return _own(x, states, weights, grad_outs, grad_states, "one_hot")


def forced(x, targets, weights, grad_outs):
    """The same with teacher forcing: every step reads the target of the step before, the first one reads 0.

    x (T, I); targets and grad_outs (T, O). Returns outs (T, O), and the gradients of sum_t grad_outs_t o_t: of x, of
    the targets (0 for the last one, which nothing reads), of the weights by name.
    """
    nothing, always = np.zeros(targets.shape[1]), np.ones(len(x), dtype=bool)
    found = sampled(x, [nothing], targets, always, weights, grad_outs, [nothing], "output")
    return found[0], found[2], found[5], found[4]


def sampled(x, states, targets, forced_mask, weights, grad_outs, grad_states, feedback):
    """Scheduled sampling: step t reads the target of step t - 1 where forced_mask[t], and else what was fed back.

    The first step always reads the state given. x (T, I); states and grad_states (f,), each (O,); targets and
    grad_outs (T, O); forced_mask (T,) booleans; feedback "output", "softmax" or "one_hot". Returns outs (T, O), states
    (the last f is the network's own), and the gradients: of x, of the states, of the weights by name, and, sixth, of
    the targets.
    """
    W, U, b, V, c = (weights[name] for name in ("weight_ih", "weight_oh", "bias", "weight_ho", "bias_o"))
    f, steps, outs = states[0], [], []
    for t in range(len(x)):
        r = targets[t - 1] if t > 0 and forced_mask[t] else f
        h = np.tanh(W @ x[t] + U @ r + b)
        o = V @ h + c
        f = FED_BACK[feedback](o)
        steps.append((r, h, f))
        outs.append(o)

    grad_x, grad_targets = np.zeros_like(x), np.zeros_like(targets)
    grads = {name: np.zeros_like(w) for name, w in weights.items()}
    df = grad_states[0].copy()
    for t in reversed(range(len(x))):
        r, h, f_t = steps[t]
        do = grad_outs[t] + PULLED_BACK[feedback](df, f_t)
        grads["weight_ho"] += np.outer(do, h)
        grads["bias_o"] += do
        da = (V.T @ do) * (1 - h**2)
        grads["weight_ih"] += np.outer(da, x[t])
        grads["weight_oh"] += np.outer(da, r)
        grads["bias"] += da
        grad_x[t] = W.T @ da
        dr = U.T @ da
        if t > 0 and forced_mask[t]:
            grad_targets[t - 1], df = dr, np.zeros_like(dr)
        else:
            df = dr
    return np.array(outs).reshape(len(x), len(c)), (f,), grad_x, (df,), grads, grad_targets


def _own(x, states, weights, grad_outs, grad_states, feedback):
    """Nothing is forced, so that there are no targets that would matter."""
    never = np.zeros(len(x), dtype=bool)
    return sampled(x, states, np.zeros(grad_outs.shape), never, weights, grad_outs, grad_states, feedback)[:5]
