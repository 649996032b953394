"""The README is true: its programs run, and print what it says they print."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"```python\n(.*?)```\n(?:\n```\n(.*?)```)?", README, re.DOTALL)


def _without_roundings(text: str) -> str:
    """Text without the sizes of rounding errors, which differ from machine to machine."""
    return re.sub(r"\d\.\de-\d\d", "<rounding>", text)


@pytest.mark.parametrize("program, output", PROGRAMS)
def test_each_program_prints_what_the_readme_shows(program: str, output: str) -> None:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(program, "README.md", "exec"), {})
    assert _without_roundings(printed.getvalue()) == _without_roundings(output)


def test_the_readme_has_a_program() -> None:
    assert PROGRAMS
