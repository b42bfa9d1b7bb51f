"""Densities of feature maps as CSV: ``tensor,density``, a tensor a line, densities from 0 to 1."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Final

from spm_opt.errors import InputError
from spm_opt.formats.csv_text import csv_lines, read_csv_text
from spm_opt.graph.network import MILLION

_HEAD: Final = ["tensor", "density"]


def read_densities(path: str | Path) -> dict[str, int]:
    """Elements per million that are not zero, by tensor.

    Raises
    ------
    InputError
        Naming the file and the line: unreadable, another header, a density that is no share, a
        tensor given twice.
    """
    text = read_csv_text(path)
    try:
        return _densities(text)
    except InputError as error:
        raise error.in_file(str(path)) from None


def _densities(text: str) -> dict[str, int]:
    found: dict[str, int] = {}
    lines = csv_lines(text)
    line, head = next(lines, (1, []))
    if head != _HEAD:
        raise InputError(
            "another header was expected", field=f"line {line}", found=",".join(head),
            allowed=",".join(_HEAD),
        )  # fmt: skip
    for line, row in lines:
        where = f"line {line}"
        if len(row) != len(_HEAD):
            raise InputError("two cells a line", field=where, found=",".join(row))
        if row[0] in found:
            raise InputError("this tensor was given before", field=where, found=row[0])
        found[row[0]] = density_ppm(row[1], where)
    return found


def density_ppm(value: object, field: str) -> int:
    """A density, 0 to 1, as parts per million, rounded.

    Raises
    ------
    InputError
        Naming the `field`, if it is no share.
    """
    try:
        share = Decimal(str(value))
    except InvalidOperation:
        share = Decimal("NaN")
    if isinstance(value, bool) or share.is_nan() or not 0 <= share <= 1:
        raise InputError("a density is a share", field=field, found=value, allowed="0 to 1")
    return int((share * MILLION).to_integral_value())


def densities_to_csv(densities_ppm: Mapping[str, int]) -> str:
    """The file that `read_densities` reads."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_HEAD)
    for name, parts in densities_ppm.items():
        writer.writerow([name, f"{Decimal(parts) / MILLION:f}"])
    return out.getvalue()
