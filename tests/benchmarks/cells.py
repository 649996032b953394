"""Every cell and network of the library under the compiled loop, beside its own eager loop: the long table.

    python -m tests.benchmarks.cells [--rounds 5] [--sizes 0,1,2]

Forward and backward over a whole sequence, float32, 2 threads: the gradient of the sum of all outputs by every weight
(of an echo state network, which has none to learn, by the inputs). The noise of Zoneout and dropout is drawn anew in
each pass, from one seed. The decoder that attends has a memory of 32 steps. What is measured how: `alternate.py`. The
gradients of both must agree.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import nn

from . import alternate

MODULE = "tests.benchmarks.cells"
SIZES = [(32, 1, 32, 32), (64, 32, 64, 128), (64, 32, 256, 256)]
MEMORY = 32


def around(modifier: Callable[..., nn.Cell], *args: float) -> Callable[[int, int], nn.Cell]:
    """A modifier around an LSTM."""
    return lambda i, h: modifier(nn.LSTMCell(i, h), *args)


def attending(i: int, h: int) -> nn.Cell:
    """A GRU with additive attention."""
    return nn.AttentionCell(nn.GRUCell(i + h, h), nn.AdditiveAttention(h, h, h // 4), h)


NETWORKS: dict[str, Callable[[int, int, str], Any]] = {
    name: lambda i, h, unroll, make=make: nn.Recurrent(make(i, h), unroll=unroll)
    for name, make in {
        "Elman": nn.ElmanCell,
        "IRNN": nn.ElmanCell.irnn,
        "Jordan": nn.JordanCell,
        "Jordan, softmax fed back": partial(nn.JordanCell, feedback="softmax"),
        "Jordan, one-hot fed back": partial(nn.JordanCell, feedback="one_hot"),
        "Jordan, teacher forcing": nn.JordanCell,
        "LSTM": nn.LSTMCell,
        "LSTM, peepholes": partial(nn.LSTMCell, peepholes=True),
        "LSTM, projection to H / 2": lambda i, h: nn.LSTMCell(i, h, projection=h // 2),
        "GRU": nn.GRUCell,
        "GRU, reset after": partial(nn.GRUCell, reset_after=True),
        "simplified GRU": nn.SimplifiedGRUCell,
        "clockwork": nn.ClockworkCell,
        "SCRN": nn.SCRNCell,
        "echo state": nn.EchoStateCell,
        "Zoneout(LSTM)": around(nn.Zoneout, 0.1),
        "VariationalDropout(LSTM)": around(nn.VariationalDropout, 0.1, 0.1),
        "Residual(GRU of D units)": lambda i, h: nn.Residual(nn.GRUCell(i, i)),
        "GRU that attends": attending,
    }.items()
} | {
    "nn.RNN": lambda i, h, unroll: nn.RNN(i, h, unroll=unroll),
    "nn.LSTM": lambda i, h, unroll: nn.LSTM(i, h, unroll=unroll),
    "nn.GRU": lambda i, h, unroll: nn.GRU(i, h, unroll=unroll),
    "nn.LSTM, 2 layers, both directions": lambda i, h, unroll: nn.LSTM(i, h, 2, bidirectional=True, unroll=unroll),
}


def minigrad(name: str, T: int, B: int, D: int, H: int, unroll: str = "compiled") -> Callable[[], Any]:
    rng = np.random.default_rng(0)
    with mg.seed(0):
        net = NETWORKS[name](D, H, unroll)
    x = mg.tensor(rng.standard_normal((T, B, D)).astype("float32"))
    more: dict[str, Any] = {}
    if "attends" in name:
        more["memory"] = mg.tensor(rng.standard_normal((MEMORY, B, H)).astype("float32"))
    if "teacher" in name:
        more["memory"] = nn.Teacher(mg.tensor(rng.standard_normal((T, B, H)).astype("float32")))
    weights = net.parameters()
    x.requires_grad = not weights

    def run() -> Any:
        net.zero_grad()
        if not weights:
            x.grad = None
        with mg.seed(0):
            outs, _ = net(x, **more)
        outs.sum().backward()
        grads = [w.grad for w in weights or [x]]
        return np.concatenate([np.zeros(0) if g is None else g.numpy().ravel() for g in grads])

    return run


def minigrad_eager(name: str, T: int, B: int, D: int, H: int) -> Callable[[], Any]:
    return minigrad(name, T, B, D, H, unroll="eager")


LIBRARIES = {"minigrad": minigrad, "minigrad_eager": minigrad_eager}


def table(sizes: list[int], rounds: int) -> None:
    """Measure and print the table."""
    print("| network |", " | ".join(f"{', '.join(map(str, SIZES[k]))}: ms | eager, ms | ratio" for k in sizes), "|")
    print("|---|" + "---:|---:|---:|" * len(sizes), flush=True)
    ratios: list[list[float]] = [[] for _ in sizes]
    with alternate.Turns(MODULE, LIBRARIES) as turns:
        for name in NETWORKS:
            row = []
            for k, size in enumerate(sizes):
                turns.begin([name, *SIZES[size]])
                ms = turns.medians(rounds)
                ratios[k].append(ms["minigrad_eager"] / ms["minigrad"])
                row += [f"{ms['minigrad']:.2f}", f"{ms['minigrad_eager']:.2f}", f"{ratios[k][-1]:.2f}"]
            print("|", name, "|", " | ".join(row), "|", flush=True)
    print(
        "| geometric mean |", " | ".join(f" | | **{statistics.geometric_mean(values):.2f}**" for values in ratios), "|"
    )


if __name__ == "__main__":
    if len(sys.argv) == 2 and sys.argv[1] in LIBRARIES:
        alternate.serve(LIBRARIES[sys.argv[1]])
    else:
        parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("--rounds", type=int, default=5)
        parser.add_argument("--sizes", default="0,1,2")
        options = parser.parse_args()
        table([int(k) for k in options.sizes.split(",")], options.rounds)
