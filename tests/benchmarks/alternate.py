"""Libraries measured side by side: each in a process of its own, and they take turns.

In processes of their own, so that their pools of threads do not meet; in turns, so that a change in the machine's speed
meets them all; with a pause in between, as an idle BLAS thread spins for a while. Times are milliseconds, the median of
several rounds, and in each round of several runs after one that does not count.

A benchmark has a table of libraries: name -> function, which makes of a message (a size) the `run()` to be measured.
`run` returns a gradient, to be compared with that of the first library, or None. Called with the name of a library,
the benchmark's module is that library's process and calls `serve`; without, it leads and has `Turns`.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

THREADS = "2"
PAUSE, ROUND = 0.15, 0.2  # seconds, between two rounds and about how long one is


def installed(names: Iterable[str]) -> list[str]:
    """Those that can be imported, by the part of the name before "_"; says which cannot."""
    names = list(names)
    found = [name for name in names if importlib.util.find_spec(name.partition("_")[0])]
    missing = [name for name in names if name not in found]
    if missing:
        print(f"not installed, and left out: {', '.join(missing)}")
    return found


def environment() -> dict[str, str]:
    """The variables of a process that computes with THREADS threads."""
    return {**os.environ, "OMP_NUM_THREADS": THREADS, "OPENBLAS_NUM_THREADS": THREADS}


def serve(make: Callable[..., Callable[[], Any]]) -> None:
    """The process of one library: reads a size or "run", answers with milliseconds and the digest of a gradient."""
    run: Any = None
    for line in sys.stdin:
        message = json.loads(line)
        if message != "run":
            run = make(*message)
            run()
        elapsed, gradient = clock(run)
        print(json.dumps([elapsed, digest(gradient)]), flush=True)


def clock(run: Callable[[], Any]) -> tuple[float, Any]:
    """One round: the median of its runs in milliseconds, and what the last returned."""
    start = time.perf_counter()
    result = run()
    runs = max(1, min(20, int(ROUND / (time.perf_counter() - start))))
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        result = run()
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times), result


def digest(gradient: Any) -> list[float] | None:
    """The norm of a gradient and its component along a fixed direction: an order or a sign that differs shows."""
    import numpy as np

    if gradient is None:
        return None
    flat = np.asarray(gradient, "float64").ravel()
    return [float(np.linalg.norm(flat)), float(flat @ np.cos(np.arange(flat.size)))]


class Turns:
    """The processes of the libraries `names` of the benchmark `module`, for a `with` block. The first is the measure.

    with Turns("tests.benchmarks.eager", names) as turns:
        first = turns.begin(size)
        medians = turns.medians(7)
    """

    def __init__(self, module: str, names: Iterable[str]):
        self.workers = {
            name: subprocess.Popen(
                [sys.executable, "-m", module, name],
                env=environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for name in names
        }

    def __enter__(self) -> Turns:
        return self

    def __exit__(self, *exc: object) -> None:
        for worker in self.workers.values():
            worker.terminate()

    def ask(self, name: str, message: Any) -> tuple[float, list[float] | None]:
        """What the process of `name` answers, when the machine has come to rest."""
        worker = self.workers[name]
        time.sleep(PAUSE)
        assert worker.stdin is not None and worker.stdout is not None
        print(json.dumps(message), file=worker.stdin, flush=True)
        answer = worker.stdout.readline()
        assert answer, f"the process of {name} has ended; what it said stands above"
        elapsed, gradient = json.loads(answer)
        return elapsed, gradient

    def begin(self, message: Any, names: Iterable[str] | None = None) -> dict[str, float]:
        """Make the libraries (all, or `names`) ready for a size: their first milliseconds. Their gradients must agree.

        To 1e-3 of the gradient's norm: in float32 those of one sequence differ by about 1e-6.
        """
        self.taking = list(self.workers if names is None else names)
        first = {name: self.ask(name, message) for name in self.taking}
        reference = first[self.taking[0]][1]
        assert reference is not None, f"{self.taking[0]}: no gradient to compare with"
        for name, (_, gradient) in first.items():
            agree = gradient is None or all(
                math.isclose(a, b, rel_tol=0, abs_tol=1e-3 * reference[0]) for a, b in zip(gradient, reference)
            )
            assert agree, f"{name}: another gradient"
        return {name: elapsed for name, (elapsed, _) in first.items()}

    def medians(self, rounds: int) -> dict[str, float]:
        """Milliseconds of the size begun with, the median of so many rounds."""
        times: dict[str, list[float]] = {name: [] for name in self.taking}
        for _ in range(rounds):
            for name in self.taking:
                times[name].append(self.ask(name, "run")[0])
        return {name: statistics.median(values) for name, values in times.items()}
