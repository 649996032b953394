"""The README is true: its programs run, and print what it says they print."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"```python\n(.*?)```\n(?:\n```\n(.*?)```)?", README, re.DOTALL)


def _without_roundings(text: str) -> str:
    """Text without what differs from machine to machine: the sizes of rounding errors, and which backends there are."""
    text = re.sub(r"(ok    backends  ).*", r"\1", text)
    return re.sub(r"\d\.\de-\d\d", "<rounding>", text)


@pytest.mark.parametrize("program, output", PROGRAMS)
def test_each_program_prints_what_the_readme_shows(program: str, output: str) -> None:
    """In a process of its own, as a reader would run it."""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert _without_roundings(run.stdout) == _without_roundings(output)


def test_the_readme_has_a_program() -> None:
    assert PROGRAMS
