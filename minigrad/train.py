"""The one training loop: progress, clipping, validation after each epoch, the best weights kept."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterable, Sized
from dataclasses import dataclass
from typing import Any

from .errors import AnomalyError, ArgumentError
from .graph import no_grad
from .nn import Module, detach
from .optim import Optimizer, clip_by_norm
from .tensor import Tensor

Loss = Callable[[Any, Any], tuple[Tensor, Any]]


@dataclass
class Epoch:
    """What one epoch came to. Losses are means over items, `gradient_norm` over steps; speed is of training alone."""

    number: int
    train_loss: float
    valid_loss: float
    gradient_norm: float
    seconds: float
    items_per_second: float


@dataclass
class Measure:
    """A loss as people read it: `value(loss)` in `unit`, such as bits per character."""

    unit: str
    value: Callable[[float], float]

    def __call__(self, loss: float) -> str:
        return f"{self.value(loss):.3f} {self.unit}"


def fit(
    model: Module,
    optimizer: Optimizer,
    loss: Loss,
    train: Iterable[Any],
    valid: Iterable[Any],
    *,
    epochs: int,
    clip: float | None = None,
    items: Callable[[Any], int] = lambda batch: batch[-1].size,
    item: str = "item",
    measure: Measure | None = None,
    on_best: Callable[[Epoch], None] = lambda epoch: None,
    quiet: bool = False,
) -> list[Epoch]:
    """Train `model` and leave it with the weights of the epoch that did best on `valid`.

    loss: `loss(batch, state) -> (loss, state)`: the mean loss of a batch, a 0-d tensor, and the state that the next
        batch begins with. It is cut from the graph in between (truncated backpropagation through time), and None at
        the start of an epoch.
    train, valid: batches that can be iterated over once for every epoch.
    clip: the largest norm of the gradients, see `optim.clip_by_norm`.
    items: how many items (characters, words, ...) a batch holds: the weight of its loss in the mean, and what speed
        counts; `item` is their name.
    measure: the loss in other words, for the progress shown.
    on_best: called with each epoch that did better than all before it, to save the weights.
    quiet: show nothing. Otherwise a bar (where tqdm is installed and the output is a terminal) and a line an epoch.

    Ctrl-C ends the training early. Raises AnomalyError if the loss is NaN or infinite. However it ends, the model has
    the weights of the best whole epoch; before the first is over, the latest.
    """
    if epochs < 1:
        raise ArgumentError(f"fit: epochs must be positive, got {epochs}")
    history: list[Epoch] = []
    best, best_weights = math.inf, model.state_dict()
    width = len(str(epochs))
    try:
        for number in range(1, epochs + 1):
            model.train()
            start, total, count, norms, state = time.perf_counter(), 0.0, 0, 0.0, None
            with _Bar(train, f"epoch {number:{width}}/{epochs}", quiet) as bar:
                for step, batch in enumerate(train, 1):
                    value, state = _loss(loss, batch, state)
                    optimizer.zero_grad()
                    value.backward()
                    if all(p.grad is None for p in optimizer.parameters):
                        raise ArgumentError("fit: the loss does not depend on any of the optimizer's parameters")
                    norm = float(clip_by_norm(optimizer.parameters, math.inf if clip is None else clip))
                    value = value.item()
                    if not math.isfinite(value):
                        raise AnomalyError(
                            f"fit: the loss is {value} at step {step} of epoch {number}, with a gradient norm of "
                            f"{norm:.3g}. A lower learning rate or a lower clip may help; detect_anomaly() finds the op"
                        )
                    optimizer.step()
                    state = detach(state)
                    n = items(batch)
                    total, count, norms = total + value * n, count + n, norms + norm
                    seconds = time.perf_counter() - start
                    words = [f"loss {value:.3f}", *([measure(value)] if measure else [])]
                    bar.show(", ".join([*words, f"{count / seconds:,.0f} {item}s/s, gradient norm {norm:.2f}"]))
            if not count:
                raise ArgumentError(f"fit: there are no batches in epoch {number}; train must be readable many times")
            valid_loss = evaluate(model, loss, valid, items)
            epoch = Epoch(number, total / count, valid_loss, norms / step, seconds, count / seconds)
            history.append(epoch)
            better = valid_loss < best
            if not quiet:
                said = measure or Measure("nats", float)
                print(
                    f"epoch {number:{width}}/{epochs}   train {said(epoch.train_loss)}   "
                    f"validation {said(valid_loss)}{' *' if better else '  '}   "
                    f"{epoch.items_per_second:,.0f} {item}s/s   gradient norm {epoch.gradient_norm:.2f}",
                    flush=True,
                )
            if better:
                best, best_weights = valid_loss, model.state_dict()
                on_best(epoch)
    except KeyboardInterrupt:
        if not quiet:
            whose = f"those of the best of {len(history)} whole epochs" if history else "the latest"
            print(f"\nstopped; the weights are {whose}", flush=True)
    finally:
        if history:
            model.load_state_dict(best_weights)
    return history


def evaluate(
    model: Module, loss: Loss, batches: Iterable[Any], items: Callable[[Any], int] = lambda batch: batch[-1].size
) -> float:
    """The mean loss over all items of the batches, without training; the state is carried as in `fit`."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    total, count, state = 0.0, 0, None
    try:
        with no_grad():
            for batch in batches:
                value, state = _loss(loss, batch, state)
                n = items(batch)
                total, count = total + value.item() * n, count + n
    finally:
        for module, training in modes:
            module.training = training
    if not count:
        raise ArgumentError("evaluate: there are no batches; they must be readable many times")
    return total / count


def _loss(loss: Loss, batch: Any, state: Any) -> tuple[Tensor, Any]:
    result = loss(batch, state)
    if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[0], Tensor):
        raise ArgumentError("fit: loss(batch, state) must return (loss, state), a tensor and the state, or None for it")
    return result


class _Bar:
    """Steps, shown as a bar on a terminal where tqdm is installed."""

    def __init__(self, batches: Iterable[Any], title: str, quiet: bool):
        self.bar = None
        if not quiet and sys.stderr.isatty():
            try:
                from tqdm import tqdm
            except ImportError:
                return
            total = len(batches) if isinstance(batches, Sized) else None
            self.bar = tqdm(total=total, desc=title, unit="step", leave=False, dynamic_ncols=True)

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def show(self, said: str) -> None:
        if self.bar is not None:
            self.bar.set_postfix_str(said, refresh=False)
            self.bar.update()
