"""CSV files as lines of cells; one message for what is none."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from spm_opt.errors import InputError


def read_csv_text(path: str | Path) -> str:
    """The text of a CSV file.

    Raises
    ------
    InputError
        Naming the file that cannot be read or is no text.
    """
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", file=str(path)) from None
    except UnicodeDecodeError:
        raise InputError("is no text in UTF-8", file=str(path)) from None


def csv_lines(text: str) -> Iterator[tuple[int, list[str]]]:
    """Numbers and cells, spaces around them dropped, of the lines that are not empty.

    Raises
    ------
    InputError
        Naming the line where the text is no CSV.
    """
    reader = csv.reader(io.StringIO(text), strict=True)
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if any(cells):
                yield reader.line_num, cells
    except csv.Error as error:
        raise InputError(f"no CSV: {error}", field=f"line {reader.line_num}") from None
