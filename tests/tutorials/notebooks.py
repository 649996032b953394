"""Notebooks: found, run in a fresh kernel, and their exercises."""

from __future__ import annotations

import base64
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

FOLDER = Path(__file__).parent.parent.parent / "tutorials"
PATHS = sorted(FOLDER.glob("*.ipynb"))


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def client(notebook: NotebookNode) -> NotebookClient:
    """Who runs it, where it lies; one thread for NumPy, so that the same numbers come out on any count of cores."""
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    return NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(FOLDER)}})


def plain(notebook: NotebookNode) -> NotebookNode:
    """The notebook without what differs from run to run: times, and in how many pieces a text was printed."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for number, cell in enumerate(notebook.cells, 1):
        cell.metadata, cell.id = {k: v for k, v in cell.metadata.items() if k == "tags"}, f"cell-{number}"
        if cell.cell_type == "code":
            cell.outputs = _joined(cell.outputs)
    return notebook


def _joined(outputs: list[Any]) -> list[Any]:
    joined: list[Any] = []
    for output in outputs:
        last = joined[-1] if joined else {}
        if output.output_type == last.get("output_type") == "stream" and output.name == last["name"]:
            last["text"] += output.text
        else:
            joined.append(output)
    return joined


def kinds(cell: Any) -> list[Any]:
    """What a cell has put out: streams by name, results by the forms they have."""
    return [(o.output_type, o.get("name") or sorted(o.get("data", ()))) for o in _joined(cell.outputs)]


def words(cell: Any) -> str:
    """What a cell has printed."""
    return "".join(o.text for o in cell.outputs if o.output_type == "stream")


def picture(notebook: NotebookNode) -> tuple[str, bytes]:
    """The picture that the map shows, ".png" or ".svg" and its bytes: what the cell tagged "map" has put out."""
    (cell,) = [cell for cell in notebook.cells if "map" in cell.metadata.get("tags", ())]
    (data,) = [o.data for o in cell.outputs if {"image/png", "image/svg+xml"} & set(o.get("data", ()))]
    if "image/png" in data:
        return ".png", base64.b64decode(data["image/png"])
    return ".svg", data["image/svg+xml"].encode()


@dataclass(frozen=True)
class Exercise:
    """The cell in which the reader answers, the one that checks, and a solution to put in place of the answer."""

    number: int
    answer: NotebookNode
    check: NotebookNode
    solution: str


def exercises(notebook: NotebookNode) -> list[Exercise]:
    """The exercises, each of three cells in a row."""
    found = []
    for place, cell in enumerate(notebook.cells):
        task = re.match(r"### Exercise (\d): \S", cell.source)
        if cell.cell_type == "markdown" and task:
            answer, check = notebook.cells[place + 1 : place + 3]
            assert answer.cell_type == check.cell_type == "code", f"exercise {task[1]} has no cells to answer and check"
            assert check.source.startswith(f"# Check {task[1]}\n")
            solution = re.search(r"<details>.*?```python\n(.*?)```.*?</details>", cell.source, re.DOTALL)
            assert solution, f"exercise {task[1]} has no solution"
            found.append(Exercise(int(task[1]), answer, check, solution[1]))
    return found
