"""Print the table of what the cells learn: `python -m tests.learning [--seeds 0,1,2]`."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator
from typing import Any

from . import experiments as e

ROWS: list[tuple[str, Callable[[int], Any], str]] = [
    *((f"adding, T = 100, {cell}", lambda s, c=cell: e.adding(c, s), "error, steps of training") for cell in e.ADDING),
    *(
        (f"agreement at 5, 20, 50 words, {cell}", lambda s, c=cell: e.agreement(c, s), "share")
        for cell in ("elman", "gru", "lstm")
    ),
    ("NARMA-10, echo state network of 100 units", e.narma10, "error / variance"),
    *((f"sum of sines, {cell}", lambda s, c=cell: e.sines(c, s), "error") for cell in ("elman", "clockwork")),
]


def lines(seeds: list[int]) -> Iterator[str]:
    """The table, line by line."""
    yield "| task, cell | | " + " | ".join(f"seed {seed}" for seed in seeds) + " | median |"
    yield "|---|---|" + "---:|" * (len(seeds) + 1)
    for title, run, what in ROWS:
        found = [run(seed) for seed in seeds]
        many = [value if isinstance(value, (list, tuple)) else [value] for value in found]
        texts = [", ".join(f"{v:.4g}" for v in values) for values in many]
        middle = ", ".join(f"{statistics.median(column):.4g}" for column in zip(*many))
        yield f"| {title} | {what} | {' | '.join(texts)} | **{middle}** |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.learning", description="What the cells learn.")
    parser.add_argument("--seeds", default="0,1,2", help="comma-separated")
    for line in lines([int(seed) for seed in parser.parse_args().seeds.split(",")]):
        print(line, flush=True)
