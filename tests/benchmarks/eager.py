"""How fast is an LSTM written as a loop over plain operations? minigrad beside PyTorch eager, autograd and MyGrad.

    pip install -e '.[bench]' && python -m tests.benchmarks.eager

Forward and backward over a whole sequence, float32, 2 threads; milliseconds, the median of several rounds, and in each
round of several runs after one that does not count. Each library runs in a process of its own, so that their pools of
threads do not meet, and they take turns, so that a change in the machine's speed meets them all; with a pause in
between, as an idle BLAS thread spins for a while. Every library's gradient of the recurrent weights is checked against
minigrad's. A library that is not installed is said to be missing and left out. MyGrad is measured twice: with the
logistic function of plain operations, 1 / (1 + exp(-z)), as autograd is, and with the one operation that it has for it.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from typing import Any

from . import alternate
from .alternate import THREADS

SIZES = [(32, 1, 16, 32), (64, 16, 64, 64), (64, 32, 64, 128), (64, 32, 64, 256), (64, 32, 256, 512)]


def data(T: int, B: int, D: int, H: int) -> tuple[Any, ...]:
    """Inputs x (T, B, D) and weights W (D, 4H), U (H, 4H), b (4H,), the same for every library."""
    import numpy as np

    rng = np.random.default_rng(0)
    x, W, U = (rng.standard_normal(shape).astype("float32") for shape in ((T, B, D), (D, 4 * H), (H, 4 * H)))
    return x, W / np.float32(D**0.5), U / np.float32(H**0.5), np.zeros(4 * H, "float32")


def minigrad(T: int, B: int, D: int, H: int) -> Callable[[], Any]:
    import minigrad as mg

    x, *weights = data(T, B, D, H)
    x = mg.tensor(x)
    W, U, b = weights = [mg.tensor(w, requires_grad=True) for w in weights]

    def run() -> Any:
        for w in weights:
            w.grad = None
        h = c = mg.zeros((B, H))
        hs = []
        for xt in mg.unstack(x @ W + b):
            i, f, g, o = mg.split(xt + h @ U, 4, axis=-1)
            c = mg.sigmoid(f) * c + mg.sigmoid(i) * mg.tanh(g)
            h = mg.sigmoid(o) * mg.tanh(c)
            hs.append(h)
        mg.stack(hs).sum().backward()
        return U.grad.numpy()

    return run


def torch(T: int, B: int, D: int, H: int) -> Callable[[], Any]:
    import torch

    torch.set_num_threads(int(THREADS))
    x, W, U, b = map(torch.tensor, data(T, B, D, H))
    weights = [w.requires_grad_() for w in (W, U, b)]

    def run() -> Any:
        for w in weights:
            w.grad = None
        h = c = torch.zeros(B, H)
        hs = []
        for xt in (x @ W + b).unbind(0):
            i, f, g, o = (xt + h @ U).chunk(4, -1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            hs.append(h)
        torch.stack(hs).sum().backward()
        return U.grad.numpy()

    return run


def autograd(T: int, B: int, D: int, H: int) -> Callable[[], Any]:
    import autograd.numpy as np
    from autograd import grad

    x, *weights = data(T, B, D, H)

    def sigmoid(z: Any) -> Any:
        return 0.5 * np.tanh(0.5 * z) + 0.5

    def loss(weights: Any) -> Any:
        W, U, b = weights
        xs = np.dot(x, W) + b
        h = c = np.zeros((B, H), "float32")
        total = 0.0
        for t in range(T):
            z = xs[t] + np.dot(h, U)
            i, f, g, o = z[:, :H], z[:, H : 2 * H], z[:, 2 * H : 3 * H], z[:, 3 * H :]
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
            total = total + np.sum(h)
        return total

    gradient = grad(loss)
    return lambda: gradient(tuple(weights))[1]


def mygrad(T: int, B: int, D: int, H: int, sigmoid: Callable[[Any], Any] | None = None) -> Callable[[], Any]:
    import mygrad as mg
    import numpy as np

    sigmoid = sigmoid or (lambda z: 1 / (1 + mg.exp(-z)))
    x, *weights = data(T, B, D, H)
    W, U, b = (mg.tensor(w) for w in weights)

    def run() -> Any:
        xs = mg.matmul(x, W) + b
        h = c = np.zeros((B, H), "float32")
        total = 0.0
        for t in range(T):
            z = xs[t] + mg.matmul(h, U)
            i, f, g, o = z[:, :H], z[:, H : 2 * H], z[:, 2 * H : 3 * H], z[:, 3 * H :]
            c = sigmoid(f) * c + sigmoid(i) * mg.tanh(g)
            h = sigmoid(o) * mg.tanh(c)
            total = total + mg.sum(h)
        total.backward()
        return U.grad

    return run


def mygrad_sigmoid(T: int, B: int, D: int, H: int) -> Callable[[], Any]:
    from mygrad.nnet.activations import sigmoid

    return mygrad(T, B, D, H, sigmoid)


LIBRARIES = {
    "minigrad": minigrad,
    "torch": torch,
    "autograd": autograd,
    "mygrad": mygrad,
    "mygrad_sigmoid": mygrad_sigmoid,
}


def main() -> None:
    """Measure and print the table."""
    installed = alternate.installed(LIBRARIES)
    peers = installed[1:]
    print("| T, B, D, H |", " | ".join(f"{name}, ms" for name in installed), "|", end=" ")
    print(" | ".join(f"{name} / minigrad" for name in peers), "|")
    print("|---|" + "---:|" * (len(installed) + len(peers)))
    ratios: dict[str, list[float]] = {name: [] for name in peers}
    with alternate.Turns("tests.benchmarks.eager", installed) as turns:
        for size in SIZES:
            first = turns.begin(size)
            medians = turns.medians(7 if max(first.values()) < 1000 else 3)
            for name in peers:
                ratios[name].append(medians[name] / medians["minigrad"])
            row = [f"{medians[name]:.2f}" for name in installed] + [f"{ratios[name][-1]:.2f}" for name in peers]
            print("|", ", ".join(map(str, size)), "|", " | ".join(row), "|", flush=True)
    means = [f"**{statistics.geometric_mean(ratios[name]):.2f}**" for name in peers]
    print("| geometric mean |", " | ".join([""] * len(installed) + means), "|")


if __name__ == "__main__":
    alternate.serve(LIBRARIES[sys.argv[1]]) if len(sys.argv) > 1 else main()
