"""docs/results.md has one section a benchmark, between markers; each script writes its own."""

from __future__ import annotations

import datetime
import os
import platform
import shlex
import sys
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
