"""What `check_cell` says: one line for each thing that it looked at, and two more for what is wrong."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field

_MARKS = {"ok": "ok", "failed": "FAIL", "note": "note", "skipped": "--"}


@dataclass
class Finding:
    """One thing that was checked. mark: "ok", "failed", "note" or "skipped"; notes: what is wrong, and the way out."""

    name: str
    mark: str
    text: str
    notes: list[str] = field(default_factory=list)


@dataclass
class CellReport:
    """What `check_cell` found, by the name of each check: `report["gradients"]`. True if nothing failed; it prints."""

    cell: str
    findings: list[Finding] = field(default_factory=list)

    def __bool__(self) -> bool:
        return not any(f.mark == "failed" for f in self.findings)

    def __getitem__(self, name: str) -> Finding:
        return {f.name: f for f in self.findings}[name]

    def __str__(self) -> str:
        failed = sum(f.mark == "failed" for f in self.findings)
        done = sum(f.mark != "skipped" for f in self.findings)
        verdict = f"{failed} of {done} checks failed" if failed else f"{done} checks passed"
        width = max([len(f.name) for f in self.findings], default=0)
        lines = [f"check_cell: {self.cell}: {verdict}"]
        for f in self.findings:
            lines += _wrapped(f"  {_MARKS[f.mark]:4}  {f.name:{width}}  {f.text}", 10 + width)
            for note in f.notes:
                lines += _wrapped(" " * 10 + note, 12)
        return "\n".join(lines)


def _wrapped(line: str, indent: int) -> list[str]:
    """A line as several of at most 120 characters, unless a word (a path) is longer."""
    return textwrap.wrap(line, 120, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)
