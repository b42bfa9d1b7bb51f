"""Measured kernels as CSV: ``layer,rows,cycles`` or ``layer,tiles,cycles``, a tile a line.

``rows`` are the output rows of the tile that was measured; ``tiles`` the number of equal tiles that
the layer was cut into (1: the whole layer).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

from spm_opt.errors import InputError
from spm_opt.formats.csv_text import csv_lines, read_csv_text
from spm_opt.graph.network import Layer, Network
from spm_opt.units import ceil_div

_HEADS: Final = (("layer", "rows", "cycles"), ("layer", "tiles", "cycles"))
#: of a layer at the pace of one row of the table; a whole plan must stay below 2**45 to be checked
_MOST_CYCLES: Final = 2**36
_MOST_DIGITS: Final = 40


def with_measured_cycles(network: Network, path: str | Path) -> Network:
    """`network` with the cycles of a table in the place of the compute model.

    Parameters
    ----------
    network : Network
        Normalised; the table names its layers.
    path : str or Path

    Raises
    ------
    InputError
        Naming the file and the line: unreadable, another header, an unknown layer, a number that
        is none or cannot be, a tile given twice.
    """
    text = read_csv_text(path)
    try:
        measured = _measured(network, text)
    except InputError as error:
        raise error.in_file(str(path)) from None
    layers = tuple(
        replace(layer, cycles=None, tile_cycles=tuple(sorted(measured[layer.name].items())))
        if layer.name in measured
        else layer
        for layer in network.layers
    )
    return replace(network, layers=layers)


def _measured(network: Network, text: str) -> dict[str, dict[int, int]]:
    """Cycles by rows of tiles, by layer."""
    layers = {layer.name: layer for layer in network.layers}
    found: dict[str, dict[int, int]] = {}
    by_count: bool | None = None
    for line, row in csv_lines(text):
        where = f"line {line}"
        if by_count is None:
            by_count = _counts_tiles(row, where)
            continue
        if len(row) != 3:
            raise InputError("three cells a line", field=where, found=",".join(row))
        if row[0] not in layers:
            raise InputError(
                "no layer of the network has this name", field=where, found=row[0],
                allowed=", ".join(list(layers)[:8]) + (", ..." if len(layers) > 8 else ""),
            )  # fmt: skip
        layer = layers[row[0]]
        rows = _tile_rows(layer, row[1], by_count, where)
        if rows in found.setdefault(row[0], {}):
            raise InputError("a tile of as many rows was given before", field=where, found=rows)
        found[row[0]][rows] = _number(row[2], where, _MOST_CYCLES // ceil_div(layer.rows, rows))
    if by_count is None:
        raise InputError("is empty", allowed=" or ".join(",".join(head) for head in _HEADS))
    return found


def _counts_tiles(head: list[str], where: str) -> bool:
    if tuple(head) not in _HEADS:
        raise InputError(
            "another header was expected", field=where, found=",".join(head),
            allowed=" or ".join(",".join(one) for one in _HEADS),
        )  # fmt: skip
    return head[1] == "tiles"


def _tile_rows(layer: Layer, cell: str, by_count: bool, where: str) -> int:
    number = _number(cell, where, _MOST_CYCLES)
    if number > layer.rows:
        what = "tiles" if by_count else "rows"
        raise InputError(
            f"more {what} than the layer has rows", field=where, found=number,
            allowed=f"1 .. {layer.rows}",
        )  # fmt: skip
    return ceil_div(layer.rows, number) if by_count else number


def _number(cell: str, where: str, most: int) -> int:
    # thousands of digits are no number for Python
    if not cell.isdecimal() or len(cell) > _MOST_DIGITS or not 0 < int(cell) <= most:
        raise InputError(
            "a positive whole number was expected", field=where, found=cell[:_MOST_DIGITS],
            allowed=f"1 .. {most}",
        )  # fmt: skip
    return int(cell)
