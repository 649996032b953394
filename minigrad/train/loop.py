"""The training loop."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from os import PathLike
from pathlib import Path
from types import FrameType
from typing import Any

from .. import random
from ..errors import AnomalyError, ArgumentError, CheckpointError
from ..graph import no_grad
from ..nn import Module, detach
from ..optim import Optimizer, clip_by_norm
from ..tensor import Tensor
from . import checkpoint
from .position import Epoch, History, Position
from .progress import Bar, Log, Measure, epoch_line

Loss = Callable[[Any, Any], tuple[Tensor, Any]]
Items = Callable[[Any], int]


def fit(
    model: Module,
    optimizer: Optimizer,
    loss: Loss,
    train: Iterable[Any],
    valid: Iterable[Any],
    *,
    epochs: int,
    clip: float | None = None,
    patience: int | None = None,
    goal: float | None = None,
    folder: str | PathLike[str] | None = None,
    resume: bool = False,
    about: Any = None,
    items: Items = lambda batch: batch[-1].size,
    item: str = "item",
    measure: Measure | None = None,
    on_best: Callable[[Epoch], None] = lambda epoch: None,
    quiet: bool = False,
) -> History:
    """Train `model`, and leave it ready for use with the weights of the epoch that did best on `valid`.

    loss: `loss(batch, state) -> (loss, state)`: the mean loss of a batch, a 0-d tensor, and the state that the next
        batch begins with. It is cut from the graph in between (truncated backpropagation through time), and None at
        the start of an epoch.
    train, valid: batches that can be iterated over once for every epoch. Whatever is random about them is drawn from
        `mg.random`, while they are iterated over.
    clip: the largest norm of the gradients, see `optim.clip_by_norm`.
    patience: end the training when so many epochs in a row were no better than the best before them.
    goal: end it when the loss in validation is no larger than this.
    folder: where to keep best.safetensors (the weights of the best epoch), last.safetensors (all that is needed to go
        on, after every epoch and at Ctrl-C) and log.jsonl (see `read_log`). A training that is there is replaced.
    resume: go on with the training in `folder`, bit for bit as if it had never stopped: weights, optimiser, schedule,
        random numbers, recurrent state and the place in the data. One that is over is only loaded.
    about: what to say about the weights in the files, plain data that JSON can hold (sizes, a vocabulary); see
        `read_about`. A training can be gone on with only under the same.
    items: how many items (characters, words, ...) a batch holds: the weight of its loss in the mean, and what speed
        counts; `item` is their name.
    measure: the loss in other words, for the progress shown.
    on_best: called with each epoch that did better than all before it.
    quiet: show nothing. Otherwise a bar (where tqdm is installed and the output is a terminal) and a line an epoch.

    Ctrl-C ends the training after the step that is being done; a second one at once. Raises AnomalyError if a loss or
    a gradient is NaN or infinite (and again if that training is gone on with), CheckpointError if there is nothing to
    go on with. However it ends, the model has the weights of the best whole epoch; before the first is over, the
    latest.
    """
    if epochs < 1:
        raise ArgumentError(f"fit: epochs must be positive, got {epochs}")
    if patience is not None and patience < 1:
        raise ArgumentError(f"fit: patience is a number of epochs, at least 1, got {patience}")
    if resume and folder is None:
        raise ArgumentError("fit: resume needs the folder of the training to go on with")
    place = None if folder is None else Path(folder)
    at, best, state = Position(), model.state_dict(), None
    if resume and place is not None:
        at, best, state = checkpoint.restore(place, model, optimizer, about)
        at.history.interrupted = False
        if at.failed:
            model.load_state_dict(best)
            raise AnomalyError(at.failed)
    elif place is not None:
        checkpoint.clear(place)

    def save() -> None:
        if place is not None:
            checkpoint.save(place, model, best, optimizer, state, at, about)

    with _Interrupt() as interrupt, Log(place and place / checkpoint.LOG, at.steps) as log:
        try:
            while not at.is_over(epochs, patience, goal) and not interrupt.asked:
                model.train()
                if at.step == 0:
                    at.begin_epoch(random.get_state())
                    state = None
                title = f"epoch {len(at.history.epochs) + 1:{len(str(epochs))}}/{epochs}"
                with Bar(train, title, quiet, at.step) as bar:
                    then = time.perf_counter()
                    for batch in _rest(train, at):
                        value, norm, state = _gradients(loss, batch, state, optimizer, clip)
                        if not math.isfinite(value) or not math.isfinite(norm):
                            raise AnomalyError(
                                f"fit: the loss is {value} at step {at.step + 1} of epoch "
                                f"{len(at.history.epochs) + 1}, with a gradient norm of {norm:.3g}. A lower learning "
                                "rate or a lower clip may help; detect_anomaly() finds the op"
                            )
                        rate = optimizer.rate
                        optimizer.step()
                        now = time.perf_counter()
                        count, seconds, then = items(batch), now - then, now
                        at.add(value, norm, count, seconds)
                        log.step(at.steps, value, norm, rate, count / seconds)
                        words = [f"loss {value:.3f}", *([measure(value)] if measure else [])]
                        speed = f"{at.items / at.seconds:,.0f} {item}s/s"
                        bar.show(", ".join([*words, speed, f"gradient norm {norm:.2f}"]))
                        if interrupt.asked:
                            break
                if interrupt.asked and at.step:
                    at.history.interrupted = True
                    save()
                    break
                if not at.step:
                    raise ArgumentError(
                        f"fit: there are no batches in epoch {len(at.history.epochs) + 1}; train must be readable many "
                        "times"
                    )
                valid_loss = evaluate(model, loss, valid, items)
                if math.isnan(valid_loss):
                    raise AnomalyError(
                        f"fit: the loss in validation is nan after {at.steps} steps, though in training it was "
                        f"{at.loss / at.items:.3g}. Are the data sound? detect_anomaly() finds the op"
                    )
                epoch = at.end_epoch(valid_loss)
                better = at.history.best == epoch.number
                log.epoch(epoch)
                if not quiet:
                    print(epoch_line(epoch, epochs, better, measure, item), flush=True)
                if better:
                    best = model.state_dict()
                    if place is not None:
                        checkpoint.save_best(place, best, about)
                    on_best(epoch)
                at.finished = at.is_over(epochs, patience, goal)
                at.history.interrupted = interrupt.asked
                state = None
                save()
        except AnomalyError as error:
            at.failed = str(error)
            save()
            raise
        finally:
            if at.history.epochs:
                model.load_state_dict(best)
            model.eval()
    if not quiet:
        _say_how_it_ended(at, epochs, place)
    return at.history


def _gradients(
    loss: Loss, batch: Any, state: Any, optimizer: Optimizer, clip: float | None
) -> tuple[float, float, Any]:
    """Give the parameters their gradients, clipped: the loss, the norm before clipping, and the next state."""
    value, state = _loss(loss, batch, state)
    optimizer.zero_grad()
    value.backward()
    if all(p.grad is None for p in optimizer.parameters):
        raise ArgumentError("fit: the loss does not depend on any of the optimizer's parameters")
    norm = clip_by_norm(optimizer.parameters, math.inf if clip is None else clip)
    return value.item(), norm.item(), detach(state)


def _rest(train: Iterable[Any], at: Position) -> Iterator[Any]:
    """The batches of this epoch that have not been trained on.

    In the middle of an epoch, the random numbers go back to where its order was drawn; the batches that were trained on
    are drawn again and passed over; and the random numbers are again those of now.
    """
    if not at.step:
        yield from train
        return
    now = random.get_state()
    random.set_state(at.random)
    batches = iter(train)
    for done in range(at.step):
        try:
            next(batches)
        except StopIteration:
            raise CheckpointError(
                f"fit: the training stopped after {at.step} batches of an epoch, and train has only {done}"
            ) from None
    random.set_state(now)
    yield from batches


def _say_how_it_ended(at: Position, epochs: int, folder: Path | None) -> None:
    """A line or two if it did not come to the last epoch."""
    history = at.history
    if history.interrupted:
        whose = f"those of the best of {len(history.epochs)} whole epochs" if history.epochs else "the latest"
        print(f"\nstopped; the weights are {whose}", flush=True)
        if folder is not None:
            print(f"all that is needed to go on is in {folder / checkpoint.LAST}", flush=True)
    elif len(history.epochs) < epochs:
        why = "the goal is reached" if history.best == len(history.epochs) else f"no better since epoch {history.best}"
        print(f"{why}: done", flush=True)


def evaluate(model: Module, loss: Loss, batches: Iterable[Any], items: Items = lambda batch: batch[-1].size) -> float:
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


class _Interrupt:
    """Ctrl-C as a wish, so that no step is cut in two; a second one is KeyboardInterrupt, as ever."""

    asked = False

    def __enter__(self) -> _Interrupt:
        in_main = threading.current_thread() is threading.main_thread()  # no other may, or is ever interrupted
        if in_main and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as of programs in the background
            self.before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *exc: object) -> None:
        if hasattr(self, "before"):
            signal.signal(signal.SIGINT, self.before)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
