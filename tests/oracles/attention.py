"""Attention and its gradients, by hand: one query, one row of memory. Plain NumPy, loops over the memory's places.

A query q (Q,) looks at a memory of S places m_s (M,). mask (S,) is True where a place may be looked at. With a score
e_s for each of these places,

    a_s = exp(e_s) / sum_k exp(e_k)             the weights, over the places that the mask lets through; elsewhere 0
    c = sum_s a_s m_s                           the context (M,); 0, as all a_s are, where the mask lets nothing through

and the scores are one of

    additive    k_s = tanh(W_q q + W_k m_s + b),  e_s = v . k_s     Bahdanau, Cho and Bengio 2015, A.1.2, with a bias
    dot         e_s = r q . m_s, with r = 1 or 1 / sqrt(M)          Luong, Pham and Manning 2015, section 3.1
    general     e_s = q . (W m_s)                                   the same

Backwards, from the cotangents of c and of the weights, dc (M,) and da (S,), for the places that are looked at (what
lies elsewhere is never read, and has gradient 0). The context reads both the weights and the memory:

    da_s += dc . m_s;    dm_s = a_s dc

The softmax: d a_s / d e_k = a_s (1[s = k] - a_k), so that

    de_k = sum_s da_s a_s (1[s = k] - a_k) = a_k (da_k - sum_s a_s da_s)

And the scores:

    additive    dv += de_s k_s;    dk_s = de_s v;    before the tanh: z_s = dk_s * (1 - k_s^2)
                dW_q += z_s q^T;    dW_k += z_s m_s^T;    db += z_s;    dq += W_q^T z_s;    dm_s += W_k^T z_s
    dot         dq += de_s r m_s;    dm_s += de_s r q
    general     dW += de_s q m_s^T;    dq += de_s W m_s;    dm_s += de_s W^T q
"""

from __future__ import annotations

import numpy as np


def softmax(e):
    """exp(e) / sum(exp(e)) of a vector that is not empty. The shift by the largest cancels, and nothing overflows."""
    shifted = np.exp(e - e.max())
    return shifted / shifted.sum()


def additive(query, memory, mask, weights, grad_context, grad_weights):
    """Additive attention, and the gradients of grad_context . context + grad_weights . attention weights.

    query (Q,); memory (S, M); mask (S,), True where a place may be looked at; weights "query.weight" (A, Q),
    "key.weight" (A, M), "bias" (A,), "v" (A,); grad_context (M,); grad_weights (S,). Returns the context (M,), the
    attention weights (S,), and the gradients: of the query, of the memory, of the weights by name.
    """
    W_q, W_k, b, v = (weights[name] for name in ("query.weight", "key.weight", "bias", "v"))
    places = [s for s in range(len(memory)) if mask[s]]
    k = {s: np.tanh(W_q @ query + W_k @ memory[s] + b) for s in places}
    context, a = _look(memory, {s: v @ k[s] for s in places})

    grad_memory, grad_e = _look_backwards(memory, a, places, grad_context, grad_weights)
    grad_query, grads = np.zeros_like(query), {name: np.zeros_like(w) for name, w in weights.items()}
    for s in places:
        z = grad_e[s] * v * (1 - k[s] ** 2)
        grads["v"] += grad_e[s] * k[s]
        grads["query.weight"] += np.outer(z, query)
        grads["key.weight"] += np.outer(z, memory[s])
        grads["bias"] += z
        grad_query += W_q.T @ z
        grad_memory[s] += W_k.T @ z
    return context, a, grad_query, grad_memory, grads


def dot(query, memory, mask, grad_context, grad_weights, scale=1.0):
    """The same for the dot product, where query and memory have one size; its scores are `scale` times the products.

    The gradients of the weights by name are none: {}.
    """
    places = [s for s in range(len(memory)) if mask[s]]
    context, a = _look(memory, {s: scale * (query @ memory[s]) for s in places})

    grad_memory, grad_e = _look_backwards(memory, a, places, grad_context, grad_weights)
    grad_query = np.zeros_like(query)
    for s in places:
        grad_query += grad_e[s] * scale * memory[s]
        grad_memory[s] += grad_e[s] * scale * query
    return context, a, grad_query, grad_memory, {}


def general(query, memory, mask, weights, grad_context, grad_weights):
    """The same for the product through a matrix: weights has one "weight" (Q, M)."""
    W = weights["weight"]
    places = [s for s in range(len(memory)) if mask[s]]
    context, a = _look(memory, {s: query @ (W @ memory[s]) for s in places})

    grad_memory, grad_e = _look_backwards(memory, a, places, grad_context, grad_weights)
    grad_query, grads = np.zeros_like(query), {"weight": np.zeros_like(W)}
    for s in places:
        grads["weight"] += grad_e[s] * np.outer(query, memory[s])
        grad_query += grad_e[s] * (W @ memory[s])
        grad_memory[s] += grad_e[s] * (W.T @ query)
    return context, a, grad_query, grad_memory, grads


def _look(memory, scores):
    """The context and the weights (S,), from the scores {place: e} of the places that are looked at."""
    context, a = np.zeros_like(memory, shape=memory.shape[1:]), np.zeros_like(memory, shape=len(memory))
    if scores:
        for s, weight in zip(scores, softmax(np.array(list(scores.values())))):
            a[s] = weight
            context = context + weight * memory[s]
    return context, a


def _look_backwards(memory, a, places, grad_context, grad_weights):
    """The gradient of the memory as far as the context reads it, and those of the scores {place: de}."""
    grad_memory = np.zeros_like(memory)
    grad_a = {s: grad_weights[s] + grad_context @ memory[s] for s in places}
    mean = sum(a[s] * grad_a[s] for s in places)
    for s in places:
        grad_memory[s] = a[s] * grad_context
    return grad_memory, {s: a[s] * (grad_a[s] - mean) for s in places}


def layer_attending(x, states, memory, mask, weights, grad_outs, grad_states):
    """A simple recurrent network that looks at the memory before every step, additively, with its state as the query.

        c_t = attend(h_{t-1});    h_t = tanh(W [x_t, c_t] + U h_{t-1} + b);    out_t = [h_t, c_t]

    x (T, I); states and grad_states (h,), each (H,); memory (S, M); mask (S,), True where a place may be looked at;
    grad_outs (T, H + M). weights: "attention." before each name of `additive`, with Q = H, and "cell.weight_ih"
    (H, I + M) = W, "cell.weight_hh" (H, H) = U, "cell.bias" (H,) = b. Returns outs (T, H + M), states, and the
    gradients of sum_t grad_outs_t out_t + grad_states h_T: of x, of the states, of the weights by name, and, sixth, of
    the memory.

    Backwards, with the parts dh and dc of grad_outs_t, and dh the larger by what the next step has sent back:

        d = dh * (1 - h_t^2);    dW = d [x_t, c_t]^T;    dU = d h_{t-1}^T;    db = d;    [dx_t, dc +=] = W^T d
        dh_{t-1} = U^T d + dq, with dq and the gradients of memory and weights from the attention, given dc
    """
    W, U, b = weights["cell.weight_ih"], weights["cell.weight_hh"], weights["cell.bias"]
    of_attention = {n.removeprefix("attention."): w for n, w in weights.items() if n.startswith("attention.")}
    I, H, S, M = x.shape[1], len(b), *memory.shape  # noqa: E741
    h, steps, outs = states[0], [], []
    for x_t in x:
        c, *_ = additive(h, memory, mask, of_attention, np.zeros(M), np.zeros(S))
        before, inputs = h, np.concatenate([x_t, c])
        h = np.tanh(W @ inputs + U @ before + b)
        steps.append((before, inputs, h))
        outs.append(np.concatenate([h, c]))

    grad_x, grad_memory = np.zeros_like(x), np.zeros_like(memory)
    grads = {name: np.zeros_like(w) for name, w in weights.items()}
    dh = grad_states[0].copy()
    for t in reversed(range(len(x))):
        before, inputs, after = steps[t]
        d = (dh + grad_outs[t, :H]) * (1 - after**2)
        grads["cell.weight_ih"] += np.outer(d, inputs)
        grads["cell.weight_hh"] += np.outer(d, before)
        grads["cell.bias"] += d
        grad_x[t] = (W.T @ d)[:I]
        dc = grad_outs[t, H:] + (W.T @ d)[I:]
        _, _, dq, dm, of_step = additive(before, memory, mask, of_attention, dc, np.zeros(S))
        dh = U.T @ d + dq
        grad_memory += dm
        for name, g in of_step.items():
            grads[f"attention.{name}"] += g
    return np.array(outs).reshape(len(x), H + M), (h,), grad_x, (dh,), grads, grad_memory
