"""A run's folder: the best weights, and all that is needed to go on as if the training had never stopped.

    best.safetensors    the weights of the best epoch, and what the caller says about them: to use the model
    last.safetensors    weights, best weights, the optimiser's running values, the recurrent state that is carried over,
                        the position in the data and in the stream of random numbers: to go on
    log.jsonl           a line for every step and every epoch

Each file is replaced only once the new one is complete.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import backends, io, random, tree
from ..errors import ArgumentError, CheckpointError, FileFormatError
from ..nn import Module
from ..optim import Optimizer
from ..tensor import Tensor
from .position import Position

BEST, LAST, LOG = "best.safetensors", "last.safetensors", "log.jsonl"


def read_about(path: Path) -> dict[str, Any]:
    """What was said about the weights in a file that a training wrote: `about`, as given to `fit`.

    Raises FileNotFoundError, FileFormatError if the file is no such file.
    """
    return _metadata(path, io.load(path, "numpy")[1], "about")


def unfinished(folder: Path) -> str | None:
    """Where the training in this folder stopped, in words; None if there is none to go on with, or it is over."""
    path = Path(folder, LAST)
    if not path.exists():
        return None
    position = Position.from_dict(_metadata(path, io.load(path, "numpy")[1], "position"))
    return None if position.finished or position.failed else _place(position)


def clear(folder: Path) -> None:
    """Remove the checkpoints of a training that another is to replace."""
    for name in (BEST, LAST):
        Path(folder, name).unlink(missing_ok=True)


def save_best(folder: Path, weights: Mapping[str, Tensor], about: Any) -> None:
    """Write the weights of the best epoch."""
    io.save(Path(folder, BEST), weights, {"about": json.dumps(about)})


def save(
    folder: Path,
    model: Module,
    best: Mapping[str, Tensor],
    optimizer: Optimizer,
    state: Any,
    position: Position,
    about: Any,
) -> None:
    """Write all that `restore` needs."""
    leaves: list[Any] = []
    structure = _structure(state, leaves)
    parts = {
        "model": model.state_dict(),
        "best": best,
        "optimizer": optimizer.state_dict(),
        "state": {str(i): leaf for i, leaf in enumerate(leaves)},
    }
    tensors = {f"{part}.{name}": value for part, values in parts.items() for name, value in values.items()}
    metadata = {
        "about": about,
        "position": position.to_dict(),
        "random": random.get_state(),
        "structure": structure,
    }
    io.save(Path(folder, LAST), tensors, {name: json.dumps(value) for name, value in metadata.items()})


def restore(folder: Path, model: Module, optimizer: Optimizer, about: Any) -> tuple[Position, dict[str, Tensor], Any]:
    """Put model, optimiser and random numbers where the training in this folder stood.

    Returns the position, the best weights so far, and the recurrent state. Raises CheckpointError if there is no such
    training, or one about something else; the model is then unchanged.
    """
    path = Path(folder, LAST)
    if not path.exists():
        raise CheckpointError(f"there is no training to go on with: {path} does not exist")
    tensors, metadata = io.load(path)
    was = _metadata(path, metadata, "about")
    _compare(folder, was, json.loads(json.dumps(about)))
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "best": {}, "optimizer": {}, "state": {}}
    for full, value in tensors.items():
        part, _, name = full.partition(".")
        parts[part][name] = value
    try:
        model.load_state_dict(parts["model"])
        optimizer.load_state_dict(parts["optimizer"])
    except ArgumentError as error:
        raise CheckpointError(f"the training in {folder} is of another model or optimiser: {error}") from error
    random.set_state(_metadata(path, metadata, "random"))
    state = _rebuild(_metadata(path, metadata, "structure"), parts["state"])
    where = next(iter(model.named_tensors().values())).backend if model.named_tensors() else None
    if where:
        state = tree.map(lambda leaf: leaf.to(where), state)
    return Position.from_dict(_metadata(path, metadata, "position")), parts["best"], state


def _place(position: Position) -> str:
    epoch = len(position.history.epochs) + 1
    return f"after step {position.step} of epoch {epoch}" if position.step else f"before epoch {epoch}"


def _compare(folder: Path, was: Any, now: Any) -> None:
    if was == now:
        return
    if isinstance(was, dict) and isinstance(now, dict):
        for key in [*was, *(key for key in now if key not in was)]:
            if was.get(key) != now.get(key):
                before, after = (_short(about.get(key)) for about in (was, now))
                raise CheckpointError(f"the training in {folder} was begun with {key} = {before}, not {after}")
    raise CheckpointError(f"the training in {folder} is about {_short(was)}, not {_short(now)}")


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:50]}..."


def _metadata(path: Path, metadata: Mapping[str, str], key: str) -> Any:
    try:
        return json.loads(metadata[key])
    except (KeyError, ValueError):
        raise FileFormatError(f"{path} was not written by a training of minigrad: it says nothing of {key!r}") from None


def _structure(state: Any, leaves: list[Any]) -> Any:
    """A nested state as plain data: its tensors, which are added to `leaves`, as their places there."""
    if state is None:
        return None
    if isinstance(state, dict):
        return {"dict": [[key, _structure(value, leaves)] for key, value in state.items()]}
    if type(state) in (tuple, list):
        return {type(state).__name__: [_structure(value, leaves) for value in state]}
    if not isinstance(state, Tensor) and not backends.is_array(state):
        raise ArgumentError(
            f"fit: the state that the loss returns holds a {type(state).__name__}, which no checkpoint can keep; "
            "tensors in tuples, lists and dicts can be"
        )
    leaves.append(state)
    return len(leaves) - 1


def _rebuild(structure: Any, leaves: Mapping[str, Tensor]) -> Any:
    if structure is None:
        return None
    if isinstance(structure, int):
        return leaves[str(structure)]
    ((kind, parts),) = structure.items()
    if kind == "dict":
        return {key: _rebuild(part, leaves) for key, part in parts}
    values = [_rebuild(part, leaves) for part in parts]
    return tuple(values) if kind == "tuple" else values
