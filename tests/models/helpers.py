"""Programs, run as from a command line."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable
from typing import Any


def run(main: Callable[..., None], *arguments: Any) -> tuple[int, str, str]:
    """A program's exit code, and what it wrote to stdout and stderr."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(a) for a in arguments])
        except SystemExit as end:
            code = end.code or 0
    return code, out.getvalue(), err.getvalue()


def tables(out: str) -> list[list[dict[str, str]]]:
    """The tables that `command_line.table` made of what was printed: for each, its rows by column."""
    found = []
    lines = out.splitlines()
    for i, line in enumerate(lines):
        if i and re.fullmatch(r"  -+(  -+)*", line):
            spans = [match.span() for match in re.finditer("-+", line)]
            cut = lambda text: [text[a:b].strip() for a, b in spans]  # noqa: B023
            rows = []
            for row in lines[i + 1 :]:
                if not row.startswith("  "):
                    break
                rows.append(dict(zip(cut(lines[i - 1]), cut(row))))
            found.append(rows)
    return found
