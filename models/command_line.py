"""What the programs share: the command line, and a training that keeps a folder, goes on, and shows its curves."""

from __future__ import annotations

import argparse
import contextvars
import hashlib
import importlib
import importlib.util
import math
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn, Protocol, TypeVar

import minigrad as mg
from minigrad import errors, nn, optim, train

CELLS: dict[str, Callable[..., nn.Cell]] = {
    "elman": nn.ElmanCell,
    "irnn": nn.ElmanCell.irnn,
    "jordan": nn.JordanCell,
    "lstm": nn.LSTMCell,
    "peephole_lstm": lambda i, h: nn.LSTMCell(i, h, peepholes=True),
    "gru": nn.GRUCell,
    "simplified_gru": nn.SimplifiedGRUCell,
    "clockwork": nn.ClockworkCell,
    "scrn": nn.SCRNCell,
}
SETTINGS = ("cell", "hidden", "rate", "seed", "examples")  # under others a training is not gone on with
USERS_ERRORS = (
    errors.FileFormatError,
    errors.MissingFileError,
    errors.CheckpointError,
    errors.AnomalyError,
    errors.BackendUnavailableError,
)


class HasLine(Protocol):
    """A row that knows its line in the file it was read from."""

    @property
    def line(self) -> int: ...


Row = TypeVar("Row", bound=HasLine)
Model = TypeVar("Model", bound=nn.Module)


class Failure(Exception):
    """Something the user can mend: the program ends with this one line and exit code 2."""


def fail(message: str) -> NoReturn:
    """End the program with one line, "NAME: message", and exit code 2."""
    raise Failure(message)


class CommandLine(argparse.ArgumentParser):
    """The command line of a model: the options that all have, those of its own, and what runs its `main`.

        command = CommandLine("tagger", __doc__, cell="lstm", hidden=64, epochs=5, rate=0.01, data="two-column CoNLL")
        command.add_argument("--task", choices=["slots", "python"], default="slots", help="what to learn")

        @command
        def main(options):
            ...

    Then `main()` reads the command line, `main(["--task", "python"])` a list. A default that is None leaves its option
    out: a program without `data` has no --data. cells: words that --cell takes besides the names of cells.
    """

    def __init__(
        self,
        name: str,
        about: str | None,
        *,
        data: str | None = None,
        cell: str | None = None,
        cells: Sequence[str] = (),
        hidden: int | None = None,
        epochs: int | None = None,
        rate: float | None = None,
    ):
        super().__init__(
            prog=f"python -m models.{name}",
            description=(about or "").strip(),
            formatter_class=_Help,
            allow_abbrev=False,
        )
        self.name, self.words_for_cells = name, tuple(cells)
        self.arguments: list[str] = []
        self.started = ""
        self.users_cells: dict[str, Callable[..., nn.Cell]] = {}
        add = self.add_argument
        if data is not None:
            add("--data", metavar="FILE", type=Path, help=f"learn from a file of yours: {data}")
        if cell is not None:
            add(
                "--cell",
                metavar="NAME",
                default=cell,
                help=f"{', '.join([*CELLS, *cells])}, or FILE.py:CLASS for one of yours",
            )
        if hidden is not None:
            add("--hidden", type=positive(int), default=hidden, metavar="H", help="units of the recurrent layer")
        if epochs is not None:
            add("--epochs", type=positive(int), default=epochs, metavar="N", help="passes over the training data")
        if rate is not None:
            add("--rate", type=positive(float), default=rate, metavar="R", help="the highest learning rate")
        add("--seed", type=_seed, default=0, metavar="N", help="of the weights, the data's order and all else random")
        add("--backend", choices=["numpy", "cupy"], help="where to compute (default: numpy, or $MINIGRAD_BACKEND)")
        add("--out", type=Path, default=Path("runs", name), metavar="FOLDER", help="of weights, log and pictures")
        if epochs is not None or hidden is not None:  # there is something to train
            add("--resume", action="store_true", help="go on with the training in --out, which Ctrl-C or worse ended")

    def __call__(self, main: Callable[[argparse.Namespace], None]) -> Callable[..., None]:
        """Make a function of the options the program."""

        def program(arguments: Sequence[str] | None = None) -> None:
            self.started, self.users_cells = "", {}
            if hasattr(sys.stdout, "reconfigure"):
                sys.stdout.reconfigure(errors="replace")  # a terminal that lacks a letter shows a question mark
            self.arguments = [str(a) for a in (sys.argv[1:] if arguments is None else arguments)]
            try:
                contextvars.copy_context().run(self._run, main)
            except (Failure, *USERS_ERRORS) as error:
                print(f"{self.name}: {error}", file=sys.stderr)
                raise SystemExit(2) from None
            except BrokenPipeError:  # nobody reads on, as behind `| head`
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                raise SystemExit(141) from None
            except KeyboardInterrupt:
                if self.started:  # what has been trained by now is kept
                    words = [word for word in self.arguments if word != "--resume"]
                    print(f"\ngo on with: {self.prog} {shlex.join([*words, '--resume'])}")
                raise SystemExit(130) from None

        program.__doc__ = main.__doc__
        return program

    def _run(self, main: Callable[[argparse.Namespace], None]) -> None:
        options = self.parse_args(self.arguments)
        importlib.import_module("minigrad.viz")  # what is missing for the pictures is said before anything is done
        if options.backend:
            try:
                mg.use(options.backend)
            except mg.MinigradError as error:
                fail(f"--backend {options.backend}: {error}")
        if getattr(options, "cell", None) not in (None, *self.words_for_cells):
            self.cell(options.cell)  # what is wrong with it is said before anything is done
        mg.seed(options.seed)
        try:
            options.out.mkdir(parents=True, exist_ok=True)
            probe = options.out / ".writable"
            probe.touch()
            probe.unlink()
        except OSError as error:
            fail(f"--out {options.out}: cannot be written to: {error.strerror or error}")
        main(options)

    def error(self, message: str) -> NoReturn:
        """What argparse finds wrong, as one line like all else."""
        fail(f"{message} (--help lists the options)")

    def cell(self, name: str) -> Callable[..., nn.Cell]:
        """The cells by this name: a factory of input and hidden size. FILE.py:CLASS finds one in a file."""
        if name not in CELLS and name not in self.users_cells:
            self.users_cells[name] = self._cell_in_file(name)  # once: a file may do more than define a cell
        return CELLS.get(name) or self.users_cells[name]

    def _cell_in_file(self, name: str) -> Callable[..., nn.Cell]:
        """The cell that FILE.py:CLASS names, tried over a short sequence. Ends the program if it is none."""
        file, colon, attribute = name.rpartition(":")
        if not colon:
            fail(
                f"--cell {name}: there is none of this name; there are {', '.join(CELLS)}, and FILE.py:CLASS for yours"
            )
        if not Path(file).is_file():
            fail(f"--cell {name}: there is no file {file}")
        spec = importlib.util.spec_from_file_location(f"cells_of_{Path(file).stem}", file)
        if spec is None or spec.loader is None:
            fail(f"--cell {name}: {file} is no Python file; its name must end in .py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            fail(f"--cell {name}: {file} cannot be run: {type(error).__name__}: {error}")
        if not hasattr(module, attribute):
            fail(f"--cell {name}: {file} defines no {attribute or 'class without a name'}")
        cell = getattr(module, attribute)
        try:
            net = nn.Recurrent(cell, 8, 8)
            outs, _ = net(mg.ones((2, 3, 8)))
            if outs.shape != (2, 3, net.output_size):
                raise errors.ShapeError(f"its output is {outs.shape[1:]}, not (B, {net.output_size})")
        except Exception as error:
            fail(
                f"--cell {name}: cannot be run over a sequence: {type(error).__name__}: {error}; "
                "mg.check_cell says what a cell has to keep to"
            )
        return cell

    def fit(
        self,
        options: argparse.Namespace,
        model: nn.Module,
        loss: Callable[[Any, Any], tuple[mg.Tensor, Any]],
        batches: Iterable[Any],
        valid: Iterable[Any],
        *,
        epochs: int | None = None,
        optimizer: optim.Optimizer | None = None,
        clip: float | None = 1.0,
        about: dict[str, Any] | None = None,
        run: str = "",
        curves: bool = True,
        **how: Any,
    ) -> train.History:
        """Train, as `minigrad.train.fit`, in the folder --out (or `run` in there); see there for the other arguments.

        epochs: those of --epochs, if they are not given.
        optimizer: `adam` with --rate, if none is given; `batches` must then have a length.
        curves: draw training and validation, in curves.png.
        about: what the network can be built again from; `load` gives it to `build`.

        After Ctrl-C the program ends and has said how to go on.
        """
        folder = options.out / run
        epochs = options.epochs if epochs is None else epochs
        if optimizer is None:
            optimizer = adam(model, options.rate, epochs * len(batches))  # type: ignore[arg-type, operator]
        started = self._begin(options)
        named = {key: getattr(options, key) for key in SETTINGS if hasattr(options, key)}
        named |= {"model": self.name, "started": started}
        if getattr(options, "data", None):
            named["data"] = f"{options.data} ({hashlib.sha256(options.data.read_bytes()).hexdigest()[:8]})"
        history = train.fit(
            model,
            optimizer,
            loss,
            batches,
            valid,
            epochs=epochs,
            clip=clip,
            folder=folder,
            resume=options.resume and self._is_of(folder, started),
            about={**named, **(about or {})},
            **how,
        )
        if history.interrupted:
            raise KeyboardInterrupt
        if curves:
            self._draw_curves(folder, f"{self.name} {run}".strip(), history, how.get("measure"))
        return history

    def load(
        self, options: argparse.Namespace, build: Callable[[dict[str, Any]], Model], *, run: str = ""
    ) -> tuple[Model, dict[str, Any]]:
        """The network that was trained in --out (or `run` in there), ready for use, and what was said about it.

        build: makes the network that fits these words, such as those that `fit` was given.
        """
        path = options.out / run / train.BEST
        if not path.exists():
            fail(f"--out {options.out}: there is no trained network in {path.parent}; train one first")
        about = train.read_about(path)
        if not isinstance(about, dict) or about.get("model") != self.name:
            fail(f"--out {options.out}: the weights in {path} are not those of {self.name}")
        try:
            model = build(about)
            model.load_state_dict(mg.io.load(path)[0])
        except Failure as error:
            fail(f"--out {options.out}: the network in {path} cannot be built again: {error}")
        except (KeyError, ValueError, TypeError) as error:
            fail(f"--out {options.out}: the weights in {path} are not those of the network they name: {error}")
        model.eval()
        return model, about

    def show(self, options: argparse.Namespace, name: str, figure: Any) -> None:
        """Save a picture in --out, and say where it is."""
        path = options.out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)
        print(f"picture: {path}")

    def _begin(self, options: argparse.Namespace) -> str:
        """When these trainings were started; that is noted in --out, so that --resume knows them from older ones.

        Before the first of them: nothing that was stopped may be lost, and --resume must find something.
        """
        note = options.out / "started"
        if self.started:
            return self.started
        found = sorted(options.out.rglob(train.LAST))
        if options.resume:
            if not found or not note.exists():
                fail(f"--resume: there is no training in {options.out} to go on with; begin one without --resume")
            self.started = note.read_text(encoding="utf-8")
            return self.started
        for path in found:
            stopped = train.unfinished(path.parent)
            if stopped:
                fail(
                    f"--out {options.out}: holds a training that was stopped {stopped}. Go on with it by --resume, "
                    f"give another --out, or remove {path.parent}"
                )
        self.started = f"{time.time_ns()}"
        note.write_text(self.started, encoding="utf-8")
        return self.started

    def _is_of(self, folder: Path, started: str) -> bool:
        """Whether the training in a folder is one of those that were started then; older ones are replaced."""
        path = folder / train.LAST
        return path.exists() and train.read_about(path).get("started") == started

    def _draw_curves(self, folder: Path, name: str, history: train.History, measure: train.Measure | None) -> None:
        from minigrad import viz

        said = measure or train.Measure("nats", float)
        x = [epoch.number for epoch in history.epochs]
        lines = {
            "training": (x, [said.value(epoch.train_loss) for epoch in history.epochs]),
            "validation": (x, [said.value(epoch.valid_loss) for epoch in history.epochs]),
        }
        viz.curves(lines, x="epoch", y=f"loss ({said.unit})", title=f"{name}: training").savefig(folder / "curves.png")


def adam(model: nn.Module, rate: float, steps: int) -> optim.Adam:
    """Adam for so many steps: its rate goes up over a twentieth of them, at most 100, and down to 0 along a cosine."""
    warm = max(1, min(100, steps // 20))
    return optim.Adam(model.parameters(), optim.warmup(warm, optim.cosine(rate, steps)))


def table(header: Sequence[Any], rows: Sequence[Sequence[Any]]) -> str:
    """Rows of cells in aligned columns under a header; numbers to the right, indented by two spaces.

    A float is shown with three decimals; a cell of another form comes as a string.
    """
    texts = [[f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row] for row in [header, *rows]]
    widths = [max(len(row[i]) for row in texts) for i in range(len(header))]
    right = [all(_is_number(row[i]) for row in texts[1:]) for i in range(len(header))]
    lines = [
        "  " + "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right)).rstrip()
        for row in texts
    ]
    return "\n".join([lines[0], "  " + "  ".join("-" * w for w in widths), *lines[1:]])


def keep(
    rows: Iterable[Row], length: Callable[[Row], int], longest: int, unit: str = "characters", of: Path | None = None
) -> list[Row]:
    """The rows that are neither empty nor too long; how many are left out, and on which lines, is printed.

    rows: with the number of their line as `line`. length: of a row, in `unit`. of: the file that they are read from.
    Ends the program if none is left.
    """
    where = f"{of}: " if of else ""
    kept: list[Row] = []
    empty: list[int] = []
    long: list[int] = []
    for row in rows:
        n = length(row)
        if n == 0:
            empty.append(row.line)
        elif n > longest:
            long.append(row.line)
        else:
            kept.append(row)
    for lines, what in ((empty, "empty"), (long, f"longer than {longest} {unit}")):
        if lines:
            some = ", ".join(str(line) for line in lines[:10]) + (", ..." if len(lines) > 10 else "")
            print(f"{where}left out: {len(lines):,} {what} (line{'s' * (len(lines) > 1)} {some})")
    if not kept:
        fail(f"{where}no row is left: each is empty or longer than {longest} {unit}")
    return kept


def positive(kind: type) -> Callable[[str], Any]:
    """A reader of positive numbers, int or float, for `add_argument(type=...)`."""

    def number(text: str) -> Any:
        value = kind(text)
        if not 0 < value < math.inf:
            raise argparse.ArgumentTypeError(f"must be positive, got {text}")
        return value

    number.__name__ = kind.__name__
    return number


def _seed(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must be 0 or more, got {text}")
    return value


_seed.__name__ = "integer"  # as argparse calls it


def _is_number(text: str) -> bool:
    return text.strip() in ("", "-") or text.replace(",", "").replace(".", "").strip("%-+ ").isdigit()


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """The docstring as it stands, and the default of every option that has one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or action.default is False:
            return action.help
        return super()._get_help_string(action)
