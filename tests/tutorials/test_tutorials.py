"""Every tutorial runs as it is committed, shows what it says it shows, and its exercises can be solved."""

from __future__ import annotations

import re
import sys

import pytest
from nbformat.v4 import new_code_cell

from tests.tutorials.notebooks import FOLDER, PATHS, client, exercises, kinds, picture, read, words

each = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def test_there_are_twelve() -> None:
    assert [path.name[:3] for path in PATHS] == [f"{k:02d}_" for k in range(1, 13)]


@pytest.mark.slow
@each
def test_it_runs_in_a_fresh_kernel_as_committed_and_its_solutions_pass_their_checks(path) -> None:
    """An error in a cell, so a failed assert too, fails; so does an output that is missing, or of another kind."""
    committed, notebook = read(path), read(path)
    run = client(notebook)
    with run.setup_kernel():
        for place, cell in enumerate(list(notebook.cells)):
            run.execute_cell(cell, place)
        for cell, before in zip(notebook.cells, committed.cells):
            if cell.cell_type == "code":
                assert kinds(cell) == kinds(before), cell.source

        def also(source: str) -> str:
            notebook.cells.append(new_code_cell(source))
            return words(run.execute_cell(notebook.cells[-1], len(notebook.cells) - 1))

        assert also("import sys; print(sys.prefix)").strip() == sys.prefix
        for exercise in exercises(committed):
            assert words(exercise.check).startswith(f"Exercise {exercise.number}: not yet"), "answered before it is"
            also(exercise.solution)
            assert also(exercise.check.source).startswith(f"Exercise {exercise.number}: right")


@each
def test_its_outputs_are_committed_in_the_order_of_one_run(path) -> None:
    code = [cell for cell in read(path).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert not [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]
    assert any("image/png" in o.get("data", ()) or "image/svg+xml" in o.get("data", ()) for o in outputs)
    assert path.stat().st_size < 500_000


@each
def test_it_says_what_the_reader_will_be_able_to_do_ends_in_an_assert_and_has_three_exercises(path) -> None:
    cells = read(path).cells
    number = int(path.name[:2])
    assert re.match(rf"# {number}\. \S", cells[0].source) and "After this you can" in cells[0].source
    assert re.search(r"Runs in about \d+ seconds", cells[0].source)
    text = [cell.source if cell.cell_type == "markdown" else "" for cell in cells]
    sections = re.findall(r"^## .*", "\n".join(text), re.MULTILINE)
    assert sections[-2:] == ["## Exercises", "## What to read next"]
    body = cells[: next(k for k, source in enumerate(text) if "## Exercises" in source)]
    assert "assert" in [cell for cell in body if cell.cell_type == "code"][-1].source
    assert [exercise.number for exercise in exercises(read(path))] == [1, 2, 3]


@each
def test_its_links_lead_somewhere(path) -> None:
    text = "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        assert target.startswith("https://") or (FOLDER / target).exists(), target


@each
def test_the_map_leads_to_it_and_shows_its_picture(path) -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    suffix, image = picture(read(path))
    assert f"]({path.name})" in text and f'"pictures/{path.stem}{suffix}"' in text
    assert (FOLDER / "pictures" / f"{path.stem}{suffix}").read_bytes() == image
