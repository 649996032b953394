"""How fast is a cell of plain operations under the compiled loop? minigrad beside its eager loop, PyTorch and JAX.

    pip install -e '.[bench]'
    python -m tests.benchmarks.scan [--cells lstm,gru,pmgu] [--sizes 0,1,2,3,4] [--rounds 7]
    python -m tests.benchmarks.scan --extras [compile,decode,lengths,memory,remat] [--rounds 7]

Three cells: the LSTM; the GRU that resets before the product; and one found in no library, the minimal gated unit with
a peephole ("pmgu"). Forward and backward over a whole sequence, float32, 2 threads: the gradient of the sum of all
outputs by every parameter, W (D, G*H), U (H, G*H), b (G*H,) and for pmgu p (H,), and not by the input. minigrad runs
each as an `nn.Cell` under `nn.Recurrent`, compiled and as the eager loop; PyTorch as a loop over plain operations with
the inputs projected for all T at once; JAX as a jitted `lax.scan`, likewise. For scale, `nn.LSTM` is PyTorch's own,
written by hand in C++ (its nn.GRU resets after the product, which is another cell, and is left out); and the floor is
the products of matrices that nobody can avoid, alone, through NumPy's BLAS: the projection of the inputs, each product
with U at each step forward and back, and the gradients of W and U. What is measured how: `alternate.py`. The gradient
of U must agree between all of them.

With --extras, lines in place of the table, of all or of some of:

compile: milliseconds to record and compile the forward and backward pass of an LSTM of a shape not seen before: the
    first call less a later one; the median over several shapes, each with a cell of its own and an empty cache.
decode: microseconds of one step (T = B = 1, D = 64, H = 256) under `no_grad`, the state handed on; compiled and eager
    in turns.
lengths: steps * rows per second, forward and backward, of batches whose T is drawn from 20 to 200, as against 110
    always. Every round has lengths of its own, most of them never seen before, so that what a new T costs is in it.
memory: the peak of forward and backward as tracemalloc saw it, to which NumPy reports its arrays; compiled and eager
    loop, each in a process of its own. It is the peak of the second call beyond what there was before the first:
    weights, input and the cotangent of the outputs. So whatever the compiled loop keeps between calls, its pool of
    buffers, programs and views, counts as used by it; outputs and gradients count for both; and neither has modules
    to import any more, as a call of another shape comes before.
remat: an LSTM over T = 10,000 (B = 4, D = 16, H = 64) with remat="sqrt" as against all steps stored: that peak, here
    without the outputs too, and the time, in turns.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import nn

from . import alternate
from .alternate import THREADS

SIZES = [(32, 1, 16, 32), (64, 16, 64, 64), (64, 32, 64, 128), (64, 32, 64, 256), (64, 32, 256, 512)]
CELLS = {"lstm": (4,), "gru": (2, 1), "pmgu": (1, 1)}  # the products with U in one step, by how many times H are made
MODULE = "tests.benchmarks.scan"


def arrays(kind: str, T: int, B: int, D: int, H: int) -> tuple[Any, ...]:
    """Inputs x (T, B, D) and weights W (D, G*H), U (H, G*H), b (G*H,), p (H,), the same for every library."""
    rng = np.random.default_rng(0)
    G = sum(CELLS[kind])
    x, W, U, p = (rng.standard_normal(shape).astype("float32") for shape in ((T, B, D), (D, G * H), (H, G * H), (H,)))
    return x, W / np.float32(D**0.5), U / np.float32(H**0.5), np.zeros(G * H, "float32"), p * np.float32(0.1)


# minigrad: cells as a user writes them


class LSTM(nn.Cell):
    """i, f, g, o in this order; state (h, c)."""

    def __init__(self, W: Any, U: Any, b: Any, p: Any):
        super().__init__(len(W), len(U))
        self.W, self.U, self.b = nn.Parameter(W), nn.Parameter(U), nn.Parameter(b)

    def initial_state(self, batch_size: int) -> Any:
        return self.zeros(batch_size, self.hidden_size), self.zeros(batch_size, self.hidden_size)

    def forward(self, x: Any, state: Any) -> Any:
        h, c = state
        i, f, g, o = mg.split(x @ self.W + self.b + h @ self.U, 4, axis=-1)
        c = mg.sigmoid(f) * c + mg.sigmoid(i) * mg.tanh(g)
        h = mg.sigmoid(o) * mg.tanh(c)
        return h, (h, c)


class GRU(nn.Cell):
    """r, z, n in this order; resets before the product."""

    def __init__(self, W: Any, U: Any, b: Any, p: Any):
        super().__init__(len(W), len(U))
        self.W, self.U, self.b = nn.Parameter(W), nn.Parameter(U), nn.Parameter(b)

    def forward(self, x: Any, h: Any) -> Any:
        r, z, n = mg.split(x @ self.W + self.b, 3, axis=-1)
        U_r, U_z, U_n = mg.split(self.U, 3, axis=-1)
        r = mg.sigmoid(r + h @ U_r)
        z = mg.sigmoid(z + h @ U_z)
        n = mg.tanh(n + (r * h) @ U_n)
        h = (1 - z) * n + z * h
        return h, h


class PMGU(nn.Cell):
    """f, n in this order; the gate f sees the cell state c through p; state (h, c)."""

    def __init__(self, W: Any, U: Any, b: Any, p: Any):
        super().__init__(len(W), len(U))
        self.W, self.U, self.b, self.p = nn.Parameter(W), nn.Parameter(U), nn.Parameter(b), nn.Parameter(p)

    def initial_state(self, batch_size: int) -> Any:
        return self.zeros(batch_size, self.hidden_size), self.zeros(batch_size, self.hidden_size)

    def forward(self, x: Any, state: Any) -> Any:
        h, c = state
        f, n = mg.split(x @ self.W + self.b, 2, axis=-1)
        U_f, U_n = mg.split(self.U, 2, axis=-1)
        f = mg.sigmoid(f + h @ U_f + self.p * c)
        n = mg.tanh(n + (f * h) @ U_n)
        c = (1 - f) * c + f * n
        h = mg.tanh(c)
        return h, (h, c)


MINIGRAD = {"lstm": LSTM, "gru": GRU, "pmgu": PMGU}


def minigrad(kind: str, T: int, B: int, D: int, H: int, unroll: str = "compiled") -> Callable[[], Any]:
    x, *weights = arrays(kind, T, B, D, H)
    x = mg.tensor(x)
    cell = MINIGRAD[kind](*weights)
    net = nn.Recurrent(cell, unroll=unroll)

    def run() -> Any:
        cell.zero_grad()
        outs, _ = net(x)
        outs.sum().backward()
        return cell.U.grad.numpy()

    return run


def minigrad_eager(kind: str, T: int, B: int, D: int, H: int) -> Callable[[], Any]:
    return minigrad(kind, T, B, D, H, unroll="eager")


# The others


def step(kind: str, sigmoid: Any, tanh: Any, split: Any) -> tuple[Callable[..., Any], int]:
    """The same cells for any library, `step(xw, state, U, p) -> (out, state)`, and how many tensors the state has."""

    def lstm(xw: Any, state: Any, U: Any, p: Any) -> Any:
        h, c = state
        i, f, g, o = split(xw + h @ U, 4)
        c = sigmoid(f) * c + sigmoid(i) * tanh(g)
        h = sigmoid(o) * tanh(c)
        return h, (h, c)

    def gru(xw: Any, state: Any, U: Any, p: Any) -> Any:
        (h,) = state
        r, z, n = split(xw, 3)
        U_r, U_z, U_n = split(U, 3)
        r = sigmoid(r + h @ U_r)
        z = sigmoid(z + h @ U_z)
        n = tanh(n + (r * h) @ U_n)
        h = (1 - z) * n + z * h
        return h, (h,)

    def pmgu(xw: Any, state: Any, U: Any, p: Any) -> Any:
        h, c = state
        f, n = split(xw, 2)
        U_f, U_n = split(U, 2)
        f = sigmoid(f + h @ U_f + p * c)
        n = tanh(n + (f * h) @ U_n)
        c = (1 - f) * c + f * n
        h = tanh(c)
        return h, (h, c)

    return {"lstm": (lstm, 2), "gru": (gru, 1), "pmgu": (pmgu, 2)}[kind]


def torch(kind: str, T: int, B: int, D: int, H: int) -> Callable[[], Any]:
    import torch

    torch.set_num_threads(int(THREADS))
    f, states = step(kind, torch.sigmoid, torch.tanh, lambda a, n: a.chunk(n, -1))
    x, *weights = map(torch.tensor, arrays(kind, T, B, D, H))
    W, U, b, p = (w.requires_grad_() for w in weights)

    def run() -> Any:
        for w in weights:
            w.grad = None
        state = (torch.zeros(B, H),) * states
        outs = []
        for xw in (x @ W + b).unbind(0):  # xw[t] would make PyTorch's backward pass quadratic in T
            out, state = f(xw, state, U, p)
            outs.append(out)
        torch.stack(outs).sum().backward()
        return U.grad.numpy()

    return run


def jax(kind: str, T: int, B: int, D: int, H: int) -> Callable[[], Any]:
    os.environ.update(JAX_PLATFORMS="cpu", NPROC=THREADS)  # its number of threads
    import jax
    import jax.numpy as jnp

    f, states = step(kind, jax.nn.sigmoid, jnp.tanh, lambda a, n: jnp.split(a, n, -1))
    x, *weights = arrays(kind, T, B, D, H)

    def loss(weights: Any) -> Any:
        W, U, b, p = weights

        def swapped(state: Any, xw: Any) -> Any:
            out, state = f(xw, state, U, p)
            return state, out

        return jax.lax.scan(swapped, (jnp.zeros((B, H)),) * states, x @ W + b)[1].sum()

    gradient = jax.jit(jax.grad(loss))
    return lambda: jax.block_until_ready(gradient(tuple(weights)))[1]


def torch_nn(kind: str, T: int, B: int, D: int, H: int) -> Callable[[], Any]:
    import torch

    assert kind == "lstm"
    torch.set_num_threads(int(THREADS))
    x, W, U, b, _ = map(torch.tensor, arrays(kind, T, B, D, H))
    net = torch.nn.LSTM(D, H)
    with torch.no_grad():
        for name, value in {"weight_ih": W.T, "weight_hh": U.T, "bias_ih": b, "bias_hh": b}.items():
            getattr(net, f"{name}_l0").copy_(value)

    def run() -> Any:
        net.zero_grad()
        outs, _ = net(x)
        outs.sum().backward()
        return net.weight_hh_l0.grad.numpy().T

    return run


def numpy_floor(kind: str, T: int, B: int, D: int, H: int) -> Callable[[], Any]:
    x, W, U, *_ = arrays(kind, T, B, D, H)
    x = x.reshape(T * B, D)
    gates = np.ones((T * B, W.shape[1]), "float32")
    h = x[:B] @ W[:, :H]
    hs = np.ones((T * B, H), "float32")
    products = []  # one for each product with U: (U, its transpose, gates and their cotangents, those of all steps)
    for width in CELLS[kind]:
        part = np.ascontiguousarray(U[:, : width * H])
        g, gs = (np.ones((rows, width * H), "float32") for rows in (B, T * B))
        products.append((part, np.ascontiguousarray(part.T), np.empty_like(g), g, gs))
    back = np.empty((B, H), "float32")

    def run() -> None:
        x @ W
        for _ in range(T):
            for part, _, out, _, _ in products:
                np.dot(h, part, out=out)
        for _ in range(T):
            for _, transposed, _, g, _ in products:
                np.dot(g, transposed, out=back)
        x.T @ gates
        for *_, gs in products:
            hs.T @ gs

    return run


LIBRARIES: dict[str, Callable[..., Callable[[], Any]]] = {
    "minigrad": minigrad,
    "minigrad_eager": minigrad_eager,
    "torch": torch,
    "jax": jax,
    "torch_nn": torch_nn,
    "numpy_floor": numpy_floor,
}
TITLES = {"minigrad_eager": "its eager loop", "torch_nn": "nn.LSTM", "numpy_floor": "floor"}


def table(cells: list[str], sizes: list[int], rounds: int) -> None:
    """Measure and print the table."""
    installed = alternate.installed(LIBRARIES)
    columns = [(name, "minigrad") for name in installed[1:-1]] + [("minigrad", "numpy_floor")]
    titles = {name: TITLES.get(name, name) for name in installed}
    print("| cell | T, B, D, H |", " | ".join(f"{titles[name]}, ms" for name in installed), "|", end=" ")
    print(" | ".join(f"{titles[a]} / {titles[b]}" for a, b in columns), "|")
    print("|---|---|" + "---:|" * (len(installed) + len(columns)), flush=True)
    ratios: dict[tuple[str, str], list[float]] = {column: [] for column in columns}
    with alternate.Turns(MODULE, installed) as turns:
        for cell in cells:
            for size in (SIZES[number] for number in sizes):
                turns.begin([cell, *size], [name for name in installed if cell == "lstm" or name != "torch_nn"])
                ms = turns.medians(rounds)
                row = [f"{ms[name]:.2f}" if name in ms else "" for name in installed]
                for a, b in columns:
                    row.append(f"{ms[a] / ms[b]:.2f}" if a in ms else "")
                    ratios[a, b] += [ms[a] / ms[b]] if a in ms else []
                print("|", cell, "|", ", ".join(map(str, size)), "|", " | ".join(row), "|", flush=True)
    means = [f"**{statistics.geometric_mean(ratios[column]):.2f}**" if ratios[column] else "" for column in columns]
    print("| geometric mean | |", " | ".join([""] * len(installed) + means), "|")
    if ratios.get(("jax", "minigrad")):
        print(f"\nsmallest jax / minigrad: {min(ratios['jax', 'minigrad']):.2f}")


# Beside the table


def lstm(T: int, B: int, D: int, H: int) -> tuple[Any, LSTM]:
    """Inputs and a cell."""
    x, *weights = arrays("lstm", T, B, D, H)
    return mg.tensor(x), LSTM(*weights)


def train(net: Any, cell: LSTM, x: Any) -> None:
    """One forward and backward pass."""
    cell.zero_grad()
    outs, _ = net(x)
    outs.sum().backward()


def seconds(run: Callable[..., Any], *args: Any) -> float:
    """How long it takes, once."""
    start = time.perf_counter()
    run(*args)
    return time.perf_counter() - start


def compile_ms(rounds: int) -> float:
    """Milliseconds of recording and compiling."""
    times = []
    for k in range(rounds + 1):
        mg.scan.clear_cache()
        x, cell = lstm(16, 8 + k, 32, 64 + 4 * k)
        net = nn.Recurrent(cell)
        first = seconds(train, net, cell, x)
        times.append((first - statistics.median(seconds(train, net, cell, x) for _ in range(7))) * 1e3)
    return statistics.median(times[1:])  # the first of them imports and warms up


def decode_us(rounds: int) -> list[float]:
    """Microseconds of one step, compiled and eager."""
    x, cell = lstm(1, 1, 64, 256)
    times: dict[str, list[float]] = {"compiled": [], "eager": []}
    nets = {unroll: nn.Recurrent(cell, unroll=unroll) for unroll in times}
    state = cell.initial_state(1)
    with mg.no_grad():
        for _ in range(rounds + 1):
            for unroll, net in nets.items():
                taken = []
                for _ in range(1000):
                    start = time.perf_counter()
                    _, state = net(x, state)
                    taken.append(time.perf_counter() - start)
                times[unroll].append(statistics.median(taken) * 1e6)
    return [statistics.median(values[1:]) for values in times.values()]


def lengths_per_second(rounds: int) -> list[float]:
    """Steps * rows per second, of lengths from 20 to 200 and of 110."""
    B, batches, draw = 32, 12, random.Random(0)
    x, cell = lstm(200, B, 64, 128)
    net = nn.Recurrent(cell)
    rates: list[list[float]] = [[], []]
    for _ in range(rounds + 1):
        for rate, lengths in zip(rates, ([draw.randint(20, 200) for _ in range(batches)], [110] * batches)):
            inputs = [mg.tensor(x.data[:T]) for T in lengths]
            start = time.perf_counter()
            for part in inputs:
                train(net, cell, part)
            rate.append(sum(lengths) * B / (time.perf_counter() - start))
    return [statistics.median(values[1:]) for values in rates]


def peak_bytes(unroll: str, remat: str | None, T: int, B: int, D: int, H: int) -> list[int]:
    """The peak of a second call beyond what there was before the first, and how much of it the outputs are."""
    tracemalloc.start()
    x, cell = lstm(2, 1, 1, 1)
    train(nn.Recurrent(cell, unroll=unroll, remat=remat), cell, x)
    mg.scan.clear_cache()
    x, cell = lstm(T, B, D, H)
    net, g = nn.Recurrent(cell, unroll=unroll, remat=remat), mg.ones((T, B, H))
    gc.collect()
    before, _ = tracemalloc.get_traced_memory()
    for _ in range(2):
        tracemalloc.reset_peak()
        outs, state = net(x)
        outs.backward(g)
        _, peak = tracemalloc.get_traced_memory()
        size = outs.data.nbytes
        del outs, state
        cell.zero_grad()
        gc.collect()
    return [peak - before, size]


def remat_seconds(rounds: int) -> list[float]:
    """Seconds with remat="sqrt" and without."""
    x, cell = lstm(10_000, 4, 16, 64)
    times: dict[str | None, list[float]] = {"sqrt": [], None: []}
    nets = {remat: nn.Recurrent(cell, remat=remat) for remat in times}
    for _ in range(rounds + 1):
        for remat, net in nets.items():
            times[remat].append(seconds(train, net, cell, x))
    return [statistics.median(values[1:]) for values in times.values()]


def apart(function: Callable[..., Any], *args: Any) -> Any:
    """What the function returns in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", MODULE, function.__name__, json.dumps(args)],
        env=alternate.environment(),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    time.sleep(alternate.PAUSE)
    return json.loads(done.stdout)


APART = {f.__name__: f for f in (compile_ms, decode_us, lengths_per_second, peak_bytes, remat_seconds)}


def compile_line(rounds: int) -> None:
    line("compile: an LSTM of a fresh shape", f"{apart(compile_ms, rounds):.1f} ms", "under 10 ms")


def decode_line(rounds: int) -> None:
    compiled, eager = apart(decode_us, rounds)
    figure = f"{compiled:.0f} us compiled, {eager:.0f} us eager: {compiled / eager:.2f}"
    line("decode: one step of an LSTM, B = 1, H = 256", figure, "at most 1")


def lengths_line(rounds: int) -> None:
    varied, fixed = apart(lengths_per_second, rounds)
    figure = f"{varied:,.0f} steps * rows / s, {fixed:,.0f} with T = 110: {varied / fixed:.2f}"
    line("lengths: T from 20 to 200", figure, "at least 0.8")


def memory_line(rounds: int) -> None:
    for size in (SIZES[3], SIZES[4]):
        compiled, eager = (apart(peak_bytes, unroll, None, *size)[0] / 2**20 for unroll in ("compiled", "eager"))
        figure = f"{compiled:.1f} MiB compiled, {eager:.1f} MiB eager: {compiled / eager:.2f}"
        line(f"memory: peak at {', '.join(map(str, size))}", figure, "at most 1")


def remat_line(rounds: int) -> None:
    peaks = [apart(peak_bytes, "compiled", remat, 10_000, 4, 16, 64) for remat in ("sqrt", None)]
    some, every = ((peak - outs) / 2**20 for peak, outs in peaks)
    figure = f"{some:.2f} MiB beyond inputs, outputs and cotangents, {every:.1f} MiB without: 1/{every / some:.1f}"
    line("remat: memory at T = 10,000", figure, "at most 1/20")
    some, every = apart(remat_seconds, rounds)
    figure = f"{some:.3f} s, {every:.3f} s without: {some / every:.2f}"
    line("remat: time at T = 10,000", figure, "at most 1.6")


def line(what: str, figure: str, goal: str) -> None:
    print(f"{what}: {figure} (goal: {goal})", flush=True)


EXTRAS = {
    "compile": compile_line,
    "decode": decode_line,
    "lengths": lengths_line,
    "memory": memory_line,
    "remat": remat_line,
}


def names(allowed: Any) -> Callable[[str], list[str]]:
    """A list with commas of some of the `allowed`, as an option has it."""

    def read(text: str) -> list[str]:
        unknown = [name for name in text.split(",") if name not in allowed]
        if unknown:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not among {', '.join(allowed)}")
        return text.split(",")

    return read


def main() -> None:
    """Measure and print what the command line asks for."""
    numbers = ",".join(str(number) for number in range(len(SIZES)))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=names(CELLS), default=list(CELLS), help=",".join(CELLS))
    parser.add_argument("--sizes", type=names(numbers.split(",")), default=numbers.split(","), help=numbers)
    parser.add_argument("--extras", type=names(EXTRAS), nargs="?", const=list(EXTRAS), help="in place of the table")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    if args.extras:
        for extra in args.extras:
            EXTRAS[extra](args.rounds)
    else:
        table(args.cells, [int(number) for number in args.sizes], args.rounds)


if __name__ == "__main__":
    if len(sys.argv) == 2 and sys.argv[1] in LIBRARIES:
        alternate.serve(LIBRARIES[sys.argv[1]])
    elif len(sys.argv) == 3 and sys.argv[1] in APART:
        print(json.dumps(APART[sys.argv[1]](*json.loads(sys.argv[2]))))
    else:
        main()
