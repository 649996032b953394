"""What the cells learn, and what they do not: four tasks whose answers lie far back. Each experiment is one function.

The network of the first two is an embedding or none, one recurrent layer, and a linear layer on its last output; of
the last two, what their functions say. Every number is measured on sequences that training has not seen, but for the
waves, which are to be reproduced.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import nn, optim
from minigrad.data import tasks

CELLS = {
    "elman": nn.ElmanCell,
    "irnn": lambda i, h: nn.ElmanCell.irnn(i, h, input_std=0.1),  # the paper's 0.001 learns the same, 4 times slower
    "gru": nn.GRUCell,
    "lstm": nn.LSTMCell,
    "clockwork": lambda i, h: nn.ClockworkCell(i, h, periods=[2**k for k in range(8)]),
}


class ManyToOne(nn.Module):
    """A sequence to one vector: an embedding if it is of tokens, a recurrent layer, and a linear one at its end."""

    def __init__(self, cell: str, inputs: int, hidden: int, outputs: int, tokens: int = 0):
        self.embedding = nn.Embedding(tokens, inputs) if tokens else None
        self.recurrent = nn.Recurrent(CELLS[cell], inputs, hidden)
        self.output = nn.Linear(hidden, outputs)

    def forward(self, xs: mg.Tensor) -> mg.Tensor:
        return self.output(self.recurrent.final(xs if self.embedding is None else self.embedding(xs))[0])


def train(
    parameters: list[nn.Parameter],
    loss: Callable[[], mg.Tensor],
    steps: int,
    rate: Any,
    is_enough: Callable[[], bool] = lambda: False,
) -> int:
    """So many steps of Adam on a loss, gradients clipped to the norm 1; fewer if, asked at each 100th, it is enough.

    Returns the number of steps.
    """
    optimizer = optim.Adam(parameters, rate)
    for step in range(steps):
        if step and step % 100 == 0 and is_enough():
            return step
        optimizer.zero_grad()
        loss().backward()
        optim.clip_by_norm(parameters, 1.0)
        optimizer.step()
    return steps


# The adding problem

ADDING = {"elman": (1600, 0.005), "irnn": (3000, 0.002), "gru": (2000, 0.005), "lstm": (3000, 0.01)}  # steps, rate


def adding(cell: str, seed: int, steps: int = 100) -> tuple[float, int]:
    """The mean squared error of the adding problem over so many steps, and after how many steps of training; 64 units.

    Answering 1 has an error of 1/6. Training ends when that on 500 new sequences is below 0.005, or after the steps of
    the table; the error is then measured on 2,000 others.
    """
    with mg.seed(seed):
        model = ManyToOne(cell, 2, 64, 1)

        def loss(rows: int = 50) -> mg.Tensor:
            xs, ys = map(mg.tensor, tasks.adding(steps, rows))
            return mg.mse(model(xs), ys)

        @mg.no_grad()
        def error(rows: int) -> float:
            return loss(rows).item()

        taken = train(model.parameters(), loss, *ADDING[cell], lambda: error(500) < 0.005)
        return error(2000), taken


# The agreement of a verb with a noun far before it


def agreement(cell: str, seed: int, distances: tuple[int, ...] = (5, 20, 50)) -> list[float]:
    """The share of verbs that agree, at each distance, learned at distances from 1 to 50, 32 units. Chance has 1/2."""
    with mg.seed(seed):
        model = ManyToOne(cell, 16, 32, 2, tokens=len(tasks.WORDS))

        def loss() -> mg.Tensor:
            tokens, answers = tasks.agreement(int(mg.random.generator().integers(1, 51)), 32)
            return mg.cross_entropy(model(mg.tensor(tokens)), mg.tensor(answers))

        train(model.parameters(), loss, 600, 0.01)
        shares = []
        with mg.no_grad():
            for distance in distances:
                tokens, answers = tasks.agreement(distance, 1000)
                shares.append(float((model(mg.tensor(tokens)).numpy().argmax(axis=1) == answers).mean()))
        return shares


# A nonlinear system of tenth order, by an echo state network


def narma10(seed: int, units: int = 100) -> float:
    """The squared error of an echo state network on NARMA-10, divided by the variance of the targets.

    2,200 steps, of which 200 are washout, give the read-out in closed form; 2,000 more are predicted.
    """
    with mg.seed(seed):
        net = nn.EchoStateNetwork(1, units, 1, spectral_radius=0.9, input_scale=0.1, bias_scale=0.2)
        net.astype("float64")
        us, ys = map(mg.tensor, tasks.narma10(4200))
    state = net.fit(us[:2200], ys[:2200], washout=200, ridge=1e-8)
    with mg.no_grad():
        predicted, _ = net(us[2200:], state)
    return float(np.mean((predicted - ys[2200:]).numpy() ** 2) / np.var(ys.numpy()[2200:]))


# A sum of sines, written without an input


def sines(cell: str, seed: int, steps: int = 300, hidden: int = 32) -> float:
    """The mean squared error of a wave of variance 1, a sum of four sines, that a network learns to write by itself.

    It is given nothing but zeros, as in Koutnik et al. (2014, section 4.1), so that it must keep the time. 600 steps.
    """
    with mg.seed(seed):
        wave, silence = mg.tensor(tasks.sines(steps)), mg.zeros((steps, 1, 1))
        recurrent, output = nn.Recurrent(CELLS[cell], 1, hidden), nn.Linear(hidden, 1)

        def loss() -> mg.Tensor:
            return mg.mse(output(recurrent(silence)[0]), wave)

        train([*recurrent.parameters(), *output.parameters()], loss, 600, optim.cosine(0.01, 600))
        with mg.no_grad():
            return loss().item()
