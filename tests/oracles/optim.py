"""The optimisers' equations, by hand: one parameter, one step after another. Plain NumPy, float64.

Each function takes the parameter p0, the gradients of all steps in order (None: the step is left out for p) and the
learning rate of every step, and returns the parameter after each step.
"""

from __future__ import annotations

import math

import numpy as np


def sgd(p0, gradients, rates, momentum=0.0, nesterov=False):
    """v_t = m v_{t-1} + g_t;  p_t = p_{t-1} - r v_t, or r (g_t + m v_t). Sutskever et al. 2013 in PyTorch's form."""
    p, v, path = p0, np.zeros_like(p0), []
    for g, r in zip(gradients, rates):
        if g is not None:
            v = momentum * v + g
            p = p - r * (g + momentum * v if nesterov else v)
        path.append(p)
    return path


def rmsprop(p0, gradients, rates, alpha=0.99, eps=1e-8):
    """s_t = a s_{t-1} + (1 - a) g_t^2;  p_t = p_{t-1} - r g_t / (sqrt(s_t) + eps), element by element. Hinton 2012."""
    p, s, path = p0.copy(), np.zeros_like(p0), []
    for g, r in zip(gradients, rates):
        if g is not None:
            for i in np.ndindex(p.shape):
                s[i] = alpha * s[i] + (1 - alpha) * g[i] ** 2
                p[i] -= r * g[i] / (math.sqrt(s[i]) + eps)
        path.append(p.copy())
    return path


def adam(p0, gradients, rates, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0):
    """Kingma and Ba 2015, algorithm 1, element by element, in the paper's names:

        m_t = beta1 m_{t-1} + (1 - beta1) g_t;    v_t = beta2 v_{t-1} + (1 - beta2) g_t^2
        m^_t = m_t / (1 - beta1^t);    v^_t = v_t / (1 - beta2^t)
        theta_t = theta_{t-1} - alpha m^_t / (sqrt(v^_t) + eps)

    With a weight_decay lambda, AdamW (Loshchilov and Hutter 2019, algorithm 2): theta_{t-1} first loses
    alpha lambda theta_{t-1}.
    """
    p, m, v, path, t = p0.copy(), np.zeros_like(p0), np.zeros_like(p0), [], 0
    for g, r in zip(gradients, rates):
        if g is not None:
            t += 1
            for i in np.ndindex(p.shape):
                m[i] = beta1 * m[i] + (1 - beta1) * g[i]
                v[i] = beta2 * v[i] + (1 - beta2) * g[i] ** 2
                m_hat, v_hat = m[i] / (1 - beta1**t), v[i] / (1 - beta2**t)
                p[i] = p[i] - r * weight_decay * p[i] - r * m_hat / (math.sqrt(v_hat) + eps)
        path.append(p.copy())
    return path
