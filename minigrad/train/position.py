"""Where a training stands: plain numbers, which a checkpoint keeps as they are."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Epoch:
    """What one epoch came to. Losses are means over items, `gradient_norm` over steps; speed is of training alone."""

    number: int
    step: int  # steps of the optimiser since the training began
    train_loss: float
    valid_loss: float
    gradient_norm: float
    seconds: float
    items_per_second: float


@dataclass
class History:
    """The epochs of a training, in order; `best` is the number of the one whose weights the model was left with.

    interrupted: whether Ctrl-C ended it.
    """

    epochs: list[Epoch] = field(default_factory=list)
    best: int = 0
    interrupted: bool = False

    @property
    def best_loss(self) -> float:
        """The lowest loss in validation; infinite before the first epoch is over."""
        return self.epochs[self.best - 1].valid_loss if self.best else float("inf")


@dataclass
class Position:
    """The epochs that are over, and how far the one that is being trained has come.

    random: the random numbers' state at the beginning of this epoch, from which the order of its batches follows.
    step, items, loss, norm, seconds: of this epoch so far: steps, items, and sums of loss by item, norm by step, time.
    finished: whether the training is over. failed: why it could not go on, if it could not: it would fail again.
    """

    history: History = field(default_factory=History)
    random: dict[str, Any] = field(default_factory=dict)
    steps: int = 0
    step: int = 0
    items: int = 0
    loss: float = 0.0
    norm: float = 0.0
    seconds: float = 0.0
    finished: bool = False
    failed: str = ""

    def begin_epoch(self, random: dict[str, Any]) -> None:
        """The next epoch, of which nothing is done yet."""
        self.random, self.step, self.items, self.loss, self.norm, self.seconds = random, 0, 0, 0.0, 0.0, 0.0

    def add(self, loss: float, norm: float, items: int, seconds: float) -> None:
        """A step of the optimiser is done: its mean loss, its gradient's norm, its items and its time."""
        self.steps, self.step, self.items = self.steps + 1, self.step + 1, self.items + items
        self.loss, self.norm, self.seconds = self.loss + loss * items, self.norm + norm, self.seconds + seconds

    def end_epoch(self, valid_loss: float) -> Epoch:
        """What this epoch came to, noted in the history; `best` if it did better than all before it."""
        epoch = Epoch(
            len(self.history.epochs) + 1,
            self.steps,
            self.loss / self.items,
            valid_loss,
            self.norm / self.step,
            self.seconds,
            self.items / self.seconds,
        )
        better = valid_loss < self.history.best_loss
        self.history.epochs.append(epoch)
        if better:
            self.history.best = epoch.number
        self.step = 0
        return epoch

    def is_over(self, epochs: int, patience: int | None, goal: float | None) -> bool:
        """Whether all epochs are done, as many in a row as patience has were no better, or the goal is reached."""
        done, best = len(self.history.epochs), self.history.best
        impatient = patience is not None and done - best >= patience
        return done >= epochs or impatient or (goal is not None and self.history.best_loss <= goal)

    def to_dict(self) -> dict[str, Any]:
        """As plain data that JSON can hold; `from_dict` reads it."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_dict(data: dict[str, Any]) -> Position:
        """The position that `to_dict` wrote."""
        history = data["history"]
        epochs = [Epoch(**epoch) for epoch in history["epochs"]]
        return Position(**{**data, "history": History(epochs, history["best"], history["interrupted"])})
