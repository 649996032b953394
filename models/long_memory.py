"""How far back do recurrent networks remember? Six cells on three tasks whose answers lie far behind.

    python -m models.long_memory                                        all tasks and cells, under a minute
    python -m models.long_memory --task adding --cell gru               one of each
    python -m models.long_memory --steps 100 --updates 3000             further back, with more patience
    python -m models.long_memory --cell lstm gru my_cell.py:MyCell      a cell of yours beside others

adding  Two of T numbers are marked; what is their sum? Hochreiter and Schmidhuber 1997. Whoever always answers 1 has a
        mean squared error of 1/6.
copy    Ten symbols of 8 kinds, T steps of nothing, then a mark: write the ten down in order. Arjovsky et al. 2016.
        Whoever only knows when to write has 10 log 8 / (T + 20) nats a step.
order   X or Y stands early, and X or Y again halfway, among distractors: was it XX, XY, YX or YY? Hochreiter and
        Schmidhuber 1997. Chance has log 4 nats. Whoever knows one of the two has log 2; whoever knows how many X there
        were, but not their order, log(2) / 2.

Every batch is new, so nothing can be learned by heart. A task is solved when the loss on a fixed set of sequences is
below a twentieth of the trivial answer's; training ends there. The table is of the weights that were best on these, and
of a thousand others: the loss, the share of right answers (a sum is right when it is off by less than 0.1; of a copy,
the ten symbols count), and whether the loss is better than trivial by more than 4 standard errors.

What to look for: the tanh of an Elman network forgets. LSTM and GRU sit on the trivial answer for long, and then fall
at once. The identity of an IRNN keeps sums, and so it adds. A slow module of a clockwork network sees the steps of its
own clock alone, and nothing of what faster ones saw: most marks pass it by. The context of an SCRN is linear in the
inputs and fades by 0.95 a step: so it tells what came when, but cannot keep a number because of the mark beside it.
Nobody copies all ten symbols so soon: after 6,000 updates a GRU had 55% of them right, and was still getting better.
When an LSTM or a GRU falls is luck as well: with --seed 1 the LSTM does not add in its 600 updates.
"""

from __future__ import annotations

import math
import re
from argparse import Namespace
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

import minigrad as mg
from minigrad import data, nn, optim, train, viz
from minigrad.data import tasks
from models.command_line import CommandLine, fail, positive, table

CELLS: dict[str, Callable[[int, int], nn.Cell]] = {
    "elman": nn.ElmanCell,
    "irnn": lambda i, h: nn.ElmanCell.irnn(i, h, input_std=0.1),  # the paper's 0.001 learns the same, later
    "lstm": nn.LSTMCell,
    "gru": nn.GRUCell,
    "clockwork": nn.ClockworkCell,
    "scrn": nn.SCRNCell,
}
RATES = {"elman": 0.005, "irnn": 0.005, "gru": 0.02, "scrn": 0.02}  # found by trial; others: RATE
RATE = 0.01
ROWS, EVERY = 32, 25  # sequences in a batch; updates from one validation to the next
VALID, TEST = (2**40, 250), (2**41, 1000)  # seeds that are nobody's --seed, and numbers of sequences


# The tasks


class Task(NamedTuple):
    """What is to be remembered, how it is asked, and what whoever remembers nothing comes to."""

    draw: Callable[[int, int], tuple[np.ndarray, np.ndarray]]  # T and B to inputs (time, B, inputs) and targets
    inputs: int
    outputs: int
    answers_always: bool  # at each step, or once at the end
    steps: int  # T, by default
    updates: int  # by default
    answer: str  # the trivial one
    trivial: Callable[[int], float]  # its loss, by T
    chance: float  # the share of its answers that are right
    unit: str

    def losses(self, answers: mg.Tensor, targets: np.ndarray) -> mg.Tensor:
        """The loss of each answer: squared error of a number, cross-entropy of a class."""
        loss = mg.mse if self.outputs == 1 else mg.cross_entropy
        return loss(answers, mg.tensor(targets), reduction="none")

    def right(self, answers: np.ndarray, targets: np.ndarray) -> float:
        """The share of right answers: of sums, off by less than 0.1; of a copy, the symbols alone count."""
        if self.outputs == 1:
            return float((np.abs(answers - targets) < 0.1).mean())
        is_right = answers.argmax(axis=-1) == targets
        return float(is_right[targets != tasks.BLANK].mean())


def one_hot(tokens: np.ndarray, count: int) -> np.ndarray:
    """Tokens (T, B) as the inputs of a network (T, B, count)."""
    return np.eye(count, dtype="float32")[tokens]


def copy(steps: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (T + 20, B, 10) and targets (T + 20, B) of the copying memory problem."""
    tokens, targets = tasks.copy_memory(steps, rows)
    return one_hot(tokens, 10), targets


def order(steps: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (T, B, 8) and classes (B,) of the temporal order problem."""
    tokens, classes = tasks.temporal_order(steps, rows)
    return one_hot(tokens, len(tasks.ORDER)), classes


TASKS = {
    "adding": Task(
        tasks.adding, inputs=2, outputs=1, answers_always=False, steps=40, updates=600,
        answer="answer 1", trivial=lambda steps: 1 / 6, chance=0.1 * (2 - 0.1), unit="MSE",
    ),
    "copy": Task(
        copy, inputs=10, outputs=9, answers_always=True, steps=20, updates=300,
        answer="when, not what", trivial=lambda steps: 10 * math.log(8) / (steps + 20), chance=1 / 8, unit="nats",
    ),
    "order": Task(
        order, inputs=8, outputs=4, answers_always=False, steps=40, updates=300,
        answer="chance", trivial=lambda steps: math.log(4), chance=1 / 4, unit="nats",
    ),
}  # fmt: skip


# The network, and how it learns


class Network(nn.Module):
    """Inputs (T, B, I) to answers: a recurrent layer, and a linear one on each output, or on the last."""

    def __init__(self, cell: Callable[[int, int], nn.Cell], hidden: int, task: Task):
        self.recurrent = nn.Recurrent(cell, task.inputs, hidden)
        self.output = nn.Linear(self.recurrent.output_size, task.outputs)
        self.answers_always = task.answers_always

    def forward(self, xs: mg.Tensor) -> mg.Tensor:
        run = self.recurrent if self.answers_always else self.recurrent.final
        return self.output(run(xs)[0])


@mg.no_grad()
def measure(network: Network, task: Task, batch: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, float]:
    """The loss of each sequence (B,), and the share of right answers."""
    xs, targets = batch
    answers = network(mg.tensor(xs))
    losses = task.losses(answers, targets).numpy()
    by_row = losses.mean(axis=0) if task.answers_always else losses.reshape(-1)
    return by_row, task.right(answers.numpy(), targets)


class Result(NamedTuple):
    """What one cell came to on one task: by its training, and on the test set."""

    task: str
    cell: str
    trivial: float
    updates: int
    seconds: float
    curve: dict[int, float]  # the loss in validation, by the number of updates
    has_diverged: bool
    loss: float
    error: float  # the standard error of the loss
    right: float

    @property
    def is_solved(self) -> bool:
        """Whether training reached its goal."""
        return any(loss <= self.trivial / 20 for loss in self.curve.values())

    @property
    def verdict(self) -> str:
        """In a word. Better: by more than 4 standard errors, which luck does once in 30,000 times."""
        if self.is_solved:
            return "solved"
        if self.has_diverged:
            return "diverged"
        return "better" if self.loss + 4 * self.error < self.trivial else "no better"


def folder(cell: str) -> str:
    """Where a cell's trainings lie: its name, of which a file system takes only a part."""
    return re.sub(r"[^\w.]+", "_", cell)


def learn(task_name: str, cell_name: str, make: Callable[[int, int], nn.Cell], options: Namespace) -> Result:
    """Train one cell on one task until it is solved or the updates are used up, by Adam on new batches."""
    task = TASKS[task_name]
    steps, updates = options.steps or task.steps, options.updates or task.updates
    trivial, every = task.trivial(steps), min(EVERY, updates)
    (valid_seed, valid_rows), (test_seed, test_rows) = VALID, TEST
    with mg.seed(valid_seed):
        valid = [task.draw(steps, valid_rows)]
    mg.seed(options.seed)
    network = Network(make, options.hidden, task)
    rate = options.rate or RATES.get(cell_name, RATE)

    def loss(batch: tuple[np.ndarray, np.ndarray], state: None) -> tuple[mg.Tensor, None]:
        xs, targets = batch
        return task.losses(network(mg.tensor(xs)), targets).mean(), None

    has_diverged, run = False, f"{task_name}/{folder(cell_name)}"
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # what diverges says so in the table
            command.fit(
                options,
                network,
                loss,
                data.Drawn(lambda: task.draw(steps, ROWS), every),
                valid,
                epochs=-(-updates // every),
                optimizer=optim.Adam(network.parameters(), rate),
                goal=trivial / 20,
                about={"task": task_name, "cell": cell_name, "steps": steps, "rate": rate},
                run=run,
                curves=False,
                quiet=True,
            )
    except mg.errors.AnomalyError:
        has_diverged = True
    done, epochs = train.read_log(options.out / run / train.LOG)
    with mg.seed(test_seed), np.errstate(over="ignore", invalid="ignore"):
        losses, right = measure(network, task, task.draw(steps, test_rows))
        mean, error = float(losses.mean()), float(losses.std() / math.sqrt(len(losses)))
    seconds = sum(epoch["seconds"] for epoch in epochs)
    curve = {epoch["step"]: epoch["valid_loss"] for epoch in epochs}
    return Result(task_name, cell_name, trivial, len(done), seconds, curve, has_diverged, mean, error, right)


# The program

command = CommandLine("long_memory", __doc__, hidden=32)
command.add_argument("--task", dest="tasks", nargs="+", choices=TASKS, default=list(TASKS), help="what to learn")
command.add_argument(
    "--cell",
    dest="cells",
    nargs="+",
    default=list(CELLS),
    metavar="NAME",
    help="which cells: these, others by name, or FILE.py:CLASS for yours",
)
command.add_argument("--steps", type=positive(int), metavar="T", help="how far back (default: the task's, 20 or 40)")
command.add_argument("--updates", type=positive(int), metavar="N", help="at most (default: the task's, 300 or 600)")
command.add_argument("--rate", type=positive(float), metavar="R", help="learning rate (default: the cell's own)")


@command
def main(options: Namespace) -> None:
    """The program; see --help."""
    cells = {name: CELLS[name] if name in CELLS else command.cell(name) for name in options.cells}
    for name in options.tasks:
        try:
            TASKS[name].draw(options.steps or TASKS[name].steps, 1)
        except mg.MinigradError as error:
            fail(f"--steps {options.steps}: {error}")
    results: list[Result] = []
    for task in options.tasks:
        answer, loss = TASKS[task].answer, TASKS[task].trivial(options.steps or TASKS[task].steps)
        print(f"\n{title(options, task)}; trivial ({answer}): {loss:.4f} {TASKS[task].unit}")
        for cell, make in cells.items():
            result = learn(task, cell, make, options)
            results.append(result)
            after = f"{result.updates:5,} updates, {result.seconds:4.1f} s"
            print(f"  {cell:<9} {after}: {result.loss:.4f} {TASKS[task].unit}, {result.verdict}", flush=True)
    print(f"\n{summary(results)}\n")
    for task in options.tasks:
        show_curves(options, task, [result for result in results if result.task == task])


def title(options: Namespace, task: str) -> str:
    """The task, and how far back."""
    return f"{task}, T = {options.steps or TASKS[task].steps}"


def summary(results: list[Result]) -> str:
    """The table: a row for each task and cell."""
    header = ["task", "cell", "loss", "trivial", "unit", "right", "chance", "updates", "seconds", "verdict"]
    rows = []
    for r in results:
        task = TASKS[r.task]
        losses = [f"{r.loss:.4f}", f"{r.trivial:.4f}"]
        shares = [f"{100 * r.right:.0f}%", f"{100 * task.chance:.0f}%"]
        rows.append([r.task, r.cell, *losses, task.unit, *shares, f"{r.updates:,}", f"{r.seconds:.1f}", r.verdict])
    return table(header, rows)


def show_curves(options: Namespace, task: str, results: list[Result]) -> None:
    """A picture of one task: the loss of every cell in validation, beside that of the trivial answer."""
    curves = {r.cell: (list(r.curve), list(r.curve.values())) for r in results if r.curve}
    if not curves:
        return
    figure = viz.curves(
        curves,
        x="updates",
        y=f"loss in validation ({TASKS[task].unit})",
        title=title(options, task),
        log=True,
        baseline={TASKS[task].answer: results[0].trivial},
    )
    command.show(options, f"{task}.png", figure)


if __name__ == "__main__":
    main()
