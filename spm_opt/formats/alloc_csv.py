"""Buffers as CSV, in the columns of MiniMalloc: ``id,lower,upper,size[,alignment,offset,region]``.

``begin`` and ``start`` are read as ``lower``, ``buffer`` and ``buffer_id`` as ``id``, and ``end``
as the last moment of life (``upper`` less one), as that tool does. An empty cell of ``alignment``,
``offset`` or ``region`` says nothing; several regions are separated by blanks.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from spm_opt.allocation.buffers import Allocation, Buffer
from spm_opt.errors import InputError

REQUIRED: Final = ("id", "lower", "upper", "size")
OPTIONAL: Final = ("alignment", "offset", "region")
_OTHER_NAMES: Final = {
    "begin": "lower", "start": "lower", "end": "upper", "buffer": "id", "buffer_id": "id",
}  # fmt: skip


def read_buffers(path: str | Path) -> tuple[Buffer, ...]:
    """Read buffers from a CSV file.

    Raises
    ------
    InputError
        Naming the file, and the line where it is a line's fault: unreadable, unknown or missing
        columns, cells that are no whole numbers, buffers that cannot be.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", file=str(path)) from None
    except UnicodeDecodeError:
        raise InputError("is no text in UTF-8", file=str(path)) from None
    try:
        return parse_buffers(text)
    except InputError as error:
        raise error.in_file(str(path)) from None


def parse_buffers(text: str) -> tuple[Buffer, ...]:
    """Buffers of a CSV text; see `read_buffers`."""
    reader = csv.reader(io.StringIO(text), strict=True)
    buffers: list[Buffer] = []
    columns: dict[str, int] | None = None
    inclusive = False
    lines: dict[str, int] = {}
    try:
        for row in reader:
            if not row or not any(cell.strip() for cell in row):
                continue
            if columns is None:
                columns, inclusive = _columns(row)
                continue
            buffer = _buffer(row, columns, inclusive, reader.line_num)
            if buffer.id in lines:
                raise InputError(f"the id of line {lines[buffer.id]} again",
                                 field=f"line {reader.line_num}", found=buffer.id)  # fmt: skip
            lines[buffer.id] = reader.line_num
            buffers.append(buffer)
    except csv.Error as error:
        raise InputError(f"no CSV: {error}", field=f"line {reader.line_num}") from None
    if columns is None:
        raise InputError("is empty", allowed=f"a header: {','.join(REQUIRED)}")
    return tuple(buffers)


def allocation_text(buffers: Sequence[Buffer], allocation: Allocation) -> str:
    """The buffers with the offsets found, in the columns that `read_buffers` reads."""
    if allocation.offsets is None:
        raise ValueError("the allocation holds no offsets")
    aligned = any(b.alignment != 1 for b in buffers)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [*REQUIRED, *(["alignment"] if aligned else []), "offset"]
    writer.writerow([*names, *(["region"] if allocation.regions else [])])
    for n, (b, offset) in enumerate(zip(buffers, allocation.offsets, strict=True)):
        row: list[object] = [b.id, b.lower, b.upper, b.size]
        row += [b.alignment] if aligned else []
        row.append(offset)
        row += [allocation.regions[n]] if allocation.regions else []
        writer.writerow(row)
    return text.getvalue()


def _columns(header: Sequence[str]) -> tuple[dict[str, int], bool]:
    """Column of each field; whether ``upper`` is the last moment of life."""
    columns: dict[str, int] = {}
    for n, cell in enumerate(header):
        name = cell.strip()
        name = _OTHER_NAMES.get(name, name)
        if name not in (*REQUIRED, *OPTIONAL):
            raise InputError("unknown column", field="line 1", found=cell,
                             allowed=(*REQUIRED, *OPTIONAL))  # fmt: skip
        if name in columns:
            raise InputError("a column twice", field="line 1", found=cell)
        columns[name] = n
    missing = [name for name in REQUIRED if name not in columns]
    if missing:
        raise InputError("missing columns", field="line 1", found=", ".join(missing))
    return columns, any(cell.strip() == "end" for cell in header)


def _buffer(row: Sequence[str], columns: dict[str, int], inclusive: bool, line: int) -> Buffer:
    if len(row) != len(columns):
        raise InputError(f"{len(row)} cells for {len(columns)} columns", field=f"line {line}")
    cells = {name: row[n].strip() for name, n in columns.items()}
    if not cells["id"]:
        raise InputError("an empty id", field=f"line {line}")
    try:
        return Buffer(
            cells["id"],
            _whole(cells, "lower"),
            _whole(cells, "upper") + inclusive,
            _whole(cells, "size"),
            _whole(cells, "alignment") if cells.get("alignment") else 1,
            _whole(cells, "offset") if cells.get("offset") else None,
            regions=tuple(cells.get("region", "").split()),
        )
    except InputError as error:
        raise InputError(error.message, field=f"line {line}: {error.field}", found=error.found,
                         allowed=error.allowed) from None  # fmt: skip


def _whole(cells: dict[str, str], name: str) -> int:
    text = cells[name]
    digits = text[1:] if text[:1] in ("-", "+") else text
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 25:
        raise InputError("is no whole number of 63 bits", field=name, found=text)
    return int(text)
