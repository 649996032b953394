"""The READMEs are true: their programs print what they say, and their commands are ones that can be given."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BOTH = README + (ROOT / "tutorials" / "README.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"```python\n(.*?)```\n(?:\n```\n(.*?)```)?", README, re.DOTALL)
SHELL = re.findall(r"```sh\n(.*?)```", BOTH, re.DOTALL)
INLINE = re.findall(r"`((?:pip install|python -m|pytest) [^`]+)`", BOTH)

# Stands in for every program of a command line: notes how it was called, and makes what `venv` would make.
SHIM = """#!/bin/sh
if [ "$2" = venv ]; then mkdir -p "$3/bin" && : > "$3/bin/activate"; fi
printf '%s\\t' "$(basename "$0")" "$@" >> "$CALLS"; echo >> "$CALLS"
"""


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


@pytest.mark.parametrize("block", [*SHELL, *INLINE])
def test_each_command_is_one_that_can_be_given(block: str, tmp_path: Path) -> None:
    """A shell runs it with stand-ins for the programs, so that nothing is installed; what it calls is looked up."""
    for program in ("python", "pip", "pytest", "jupyter"):
        (tmp_path / program).write_text(SHIM)
        (tmp_path / program).chmod(0o755)
    log = tmp_path / "calls"
    environment = {**os.environ, "PATH": f"{tmp_path}:/usr/bin:/bin", "CALLS": str(log)}
    run = subprocess.run(["bash", "-euc", block], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    calls = [line.rstrip("\t").split("\t") for line in log.read_text().splitlines()]
    assert calls
    for call in calls:
        _can_be_given(call)


def _can_be_given(call: list[str]) -> None:
    """Fail unless the extras, modules, options and paths of a call exist."""
    match call:
        case ["pip", "install", "-e", target]:
            extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
            assert target.startswith(".[") and target[2:-1] in extras
        case ["python", "-m", "venv", ".venv"]:
            pass
        case ["python", "-m", "models.NAME" | "models."]:
            pass
        case ["python", "-m", module, *options]:
            assert find_spec(module)
            if module.startswith("models."):
                run = subprocess.run([sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True)
                assert all(option in run.stdout for option in options if option.startswith("--"))
        case ["pytest", "-n" | "-m", _, *paths]:
            assert all((ROOT / path).exists() for path in paths)
        case ["pytest"]:
            pass
        case ["jupyter", "lab", folder]:
            assert (ROOT / folder).is_dir()
        case _:
            pytest.fail(f"nobody knows whether this can be given: {call}")


def test_the_readme_has_programs_and_commands() -> None:
    assert PROGRAMS and len(SHELL) >= 3 and len(INLINE) > 5
