"""docs/results.md has one section a benchmark, between markers; each script writes its own."""

from __future__ import annotations

import datetime
import os
import platform
import shlex
import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results.md"


def provenance() -> str:
    """Which command wrote a section, when, and with what."""
    words = shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    return (
        f"Written by `{words}` on {datetime.date.today().isoformat()}: spm_opt "
        f"{version('spm-opt')}, OR-tools {version('ortools')}, Python "
        f"{platform.python_version()}, {os.cpu_count()} cores."
    )


def read_section(name: str, file: Path = RESULTS) -> str:
    """The section `name` as it stands."""
    _, _, rest = file.read_text(encoding="utf-8").partition(f"<!-- {name} -->\n")
    return rest.partition(f"<!-- /{name} -->")[0]


def write_section(name: str, text: str, file: Path = RESULTS) -> None:
    """Replace the section `name` of the results, or of another page."""
    page = file.read_text(encoding="utf-8")
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    before, _, rest = page.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise SystemExit(f"{file.name} has no section {name}")
    body = f"{text.strip()}\n\n{provenance()}\n"
    file.write_text(before + begin + body + end + after, encoding="utf-8")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown, numbers to the right."""
    rule = "|---|" + "--:|" * (len(head) - 1)
    body = ["| " + " | ".join(cells) + " |" for cells in (head, *rows)]
    return "\n".join([body[0], rule, *body[1:]])


def rows_of(text: str, head: Sequence[str]) -> list[list[str]]:
    """The cells of the tables with this head."""
    rows = [line.strip().strip("|").split("|") for line in text.splitlines() if "|" in line]
    cells = [[cell.strip() for cell in row] for row in rows]
    return [
        row
        for row in cells
        if len(row) == len(head) and row != list(head) and not row[0].startswith("---")
    ]


def merged(
    section: str, head: Sequence[str], rows: Iterable[Sequence[str]], keys: int = 1
) -> list[list[str]]:
    """Rows of a section of the results, with new ones in place of those that they replace.

    Rows with equal first cells, `keys` of them, are the same row; new ones come last.
    """
    known = {tuple(row[:keys]): row for row in rows_of(read_section(section), head)}
    known |= {tuple(row[:keys]): list(row) for row in rows}
    return list(known.values())
