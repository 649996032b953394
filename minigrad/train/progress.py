"""What a training says while it runs: a bar on a terminal, a line an epoch, and a log that programs read."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterable, Sized
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from ..errors import FileFormatError
from .position import Epoch


@dataclass
class Measure:
    """A loss as people read it: `value(loss)` in `unit`, such as bits per character."""

    unit: str
    value: Callable[[float], float]

    def __call__(self, loss: float) -> str:
        return f"{self.value(loss):.3f} {self.unit}"


def epoch_line(epoch: Epoch, epochs: int, better: bool, measure: Measure | None, item: str) -> str:
    """The line that is printed when an epoch is over; a star marks the best so far."""
    said = measure or Measure("nats", float)
    return (
        f"epoch {epoch.number:{len(str(epochs))}}/{epochs}   train {said(epoch.train_loss)}   "
        f"validation {said(epoch.valid_loss)}{' *' if better else '  '}   "
        f"{epoch.items_per_second:,.0f} {item}s/s   gradient norm {epoch.gradient_norm:.2f}"
    )


class Bar:
    """Steps, shown as a bar on a terminal where tqdm is installed; elsewhere nothing.

    done: steps of this epoch that were done before, in a training that is gone on with.
    """

    def __init__(self, batches: Iterable[Any], title: str, quiet: bool, done: int = 0):
        self.bar = None
        if not quiet and sys.stderr.isatty():
            try:
                from tqdm import tqdm
            except ImportError:
                return
            total = len(batches) if isinstance(batches, Sized) else None
            self.bar = tqdm(total=total, desc=title, unit="step", leave=False, dynamic_ncols=True, initial=done)

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def show(self, said: str) -> None:
        """One more step, and what there is to say about it."""
        if self.bar is not None:
            self.bar.set_postfix_str(said, refresh=False)
            self.bar.update()


class Log:
    """A file of JSON lines: one for every step, {"step": 7, "loss": ...}, and every epoch, {"epoch": 1, ...}.

    after: keep the lines of so many steps of a training that is gone on with; 0 begins anew. No path: nothing is kept.
    """

    def __init__(self, path: Path | None, after: int = 0):
        self.file = None
        if path is not None:
            kept = [line for line in _lines(path) if line["step"] <= after] if after and path.exists() else []
            path.parent.mkdir(parents=True, exist_ok=True)
            self.file = path.open("w", encoding="utf-8")
            for line in kept:
                self._write(line)

    def __enter__(self) -> Log:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        if self.file is not None:
            self.file.close()

    def step(self, number: int, loss: float, norm: float, rate: float, items_per_second: float) -> None:
        """A step of the optimiser: the batch's loss, the gradient's norm before clipping, the learning rate, speed."""
        self._write(
            {"step": number, "loss": loss, "gradient_norm": norm, "rate": rate, "items_per_second": items_per_second}
        )

    def epoch(self, epoch: Epoch) -> None:
        """An epoch, over."""
        fields = dataclasses.asdict(epoch)
        self._write({"epoch": fields.pop("number"), **fields})
        if self.file is not None:
            self.file.flush()

    def _write(self, line: dict[str, Any]) -> None:
        if self.file is not None:
            self.file.write(json.dumps(line) + "\n")


def read_log(path: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The lines of the steps and of the epochs in a log.jsonl that a training wrote.

    A step has step, loss, gradient_norm, rate and items_per_second; an epoch has epoch, step (how many were done at its
    end), train_loss, valid_loss, gradient_norm, seconds and items_per_second. Raises FileFormatError naming the line.
    """
    steps: list[dict[str, Any]] = []
    epochs: list[dict[str, Any]] = []
    for line in _lines(path):
        (epochs if "epoch" in line else steps).append(line)
    return steps, epochs


def _lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a log; a last one that was cut short by a sudden end is left out."""
    found = []
    lines = Path(path).read_text(encoding="utf-8").splitlines(keepends=True)
    for number, text in enumerate(lines, 1):
        try:
            line = json.loads(text)
            line["step"]
        except (ValueError, KeyError, TypeError):
            if number == len(lines) and not text.endswith("\n"):
                break
            raise FileFormatError(f"{path}, line {number}: expected a step or an epoch of a training") from None
        found.append(line)
    return found
