"""Networks in the table form of SoMa's published data: two CSV files a network.

``NET_layers.csv`` has a layer a row: shapes, kernel, bytes, who reads whom, cycles of the whole
layer; ``NET_schedule_cycles.csv``, where it exists, the cycles without rows that nobody reads;
``NET_tiles.csv`` the cycles of tiles of given extents. Every element is one byte.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from spm_opt.errors import InputError
from spm_opt.formats.csv_text import csv_lines, read_csv_text
from spm_opt.graph.network import Layer, Network, Tensor, Weight, operand_of
from spm_opt.graph.ops import WHOLE, Loops, Op, RowMap, Shape

#: types whose work is a MAC nest
PRODUCTS = ("Conv", "FC", "GroupConv")


@dataclass(frozen=True, slots=True)
class TableOp(Op):
    """An operator of which only rows are known: the window of each operand, and the nest.

    Attributes
    ----------
    output : Shape
    kernel, stride, pad : int
        Along the rows.
    dynamic : int
        Operands from this one on are read whole (activations in the place of weights).
    mixes_rows : bool
        Every output row needs all rows (a transpose).
    nest : Loops or None
    images : int
        Images whose rows follow one another.
    """

    kind: ClassVar[str] = "table"
    output: Shape = ()
    kernel: int = 1
    stride: int = 1
    pad: int = 0
    dynamic: int = 0
    mixes_rows: bool = False
    nest: Loops | None = None
    images: int = 1

    def infer(self, inputs: tuple[Shape, ...]) -> Shape:
        return self.output

    def loops(self, inputs: tuple[Shape, ...], output: Shape) -> Loops | None:
        return self.nest

    def vector_ops(self, inputs: tuple[Shape, ...], output: Shape) -> int:
        return 0 if self.nest else math.prod(output)

    def input_rows(self, index: int, inputs: tuple[Shape, ...], output: Shape) -> RowMap:
        if index >= self.dynamic or self.mixes_rows:
            return WHOLE
        rows, inner = 0, 0
        if self.images > 1:
            rows, inner = output[2] // self.images, inputs[index][2] // self.images
        last = self.kernel - 1 - self.pad
        return RowMap(2, self.stride, -self.pad, last, image_rows=rows, image_inputs=inner)

    def channel_axis(self, output: Shape) -> int | None:
        return 1 if self.nest is not None else None


@dataclass(frozen=True, slots=True)
class TableRow:
    """One row of ``_layers.csv``, numbers as numbers."""

    id: str
    name: str
    type: str
    numbers: dict[str, int]
    maps: tuple[str, ...]
    weights: tuple[str, ...]
    external: tuple[str, ...]

    def __getitem__(self, column: str) -> int:
        return self.numbers[column]

    @property
    def loops(self) -> Loops | None:
        """The MAC nest; None for vector layers."""
        if self.type not in PRODUCTS:
            return None
        groups = self["G"]
        return Loops(
            g=groups, k=self["K"] // groups, c=self["C"] // groups, oy=self["H"] * images(self),
            ox=self["W"],
            fy=self["R"], fx=self["S"],
        )  # fmt: skip


_NUMBERS = ("C", "K", "R", "S", "H", "W", "sH", "sW", "G", "N", "ifm_c", "ifm_h", "ifm_w", "ofm_c",
            "ofm_h", "ofm_w", "ofm_bytes", "weight_bytes", "ops", "full_cycles")  # fmt: skip


_PREVIOUS = ("ifm_prevs", "wgt_prevs", "ext_prevs")
#: numbers that are no extents: layers without constants have no bytes of them
_MAY_BE_ZERO = ("weight_bytes", "ops")
_LARGEST = 2**36


def read_rows(folder: Path, net: str) -> list[TableRow]:
    """The layers of a network.

    Raises
    ------
    InputError
        Naming the file and the line.
    """
    path = folder / f"{net}_layers.csv"
    columns = ("id", "name", "type", *_NUMBERS, *_PREVIOUS)
    known: dict[str, TableRow] = {}
    try:
        for where, cells in _records(path, columns):
            row = _row(cells, where)
            _require_sources(row, known, where)
            known[row.id] = row
        if not known:
            raise InputError("has no layers")
    except InputError as error:
        raise error.in_file(str(path)) from None
    return list(known.values())


def _records(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[str, dict[str, str]]]:
    """Where each line of a table is, and its cells by column."""
    head: list[str] | None = None
    for line, cells in csv_lines(read_csv_text(path)):
        where = f"line {line}"
        if head is None:
            head = cells
            missing = [column for column in columns if column not in head]
            if missing:
                raise InputError(f"lacks the columns {', '.join(missing)}", field=where)
        elif len(cells) != len(head):
            raise InputError(f"{len(head)} cells a line", field=where, found=len(cells))
        else:
            yield where, dict(zip(head, cells, strict=True))


def _row(cells: dict[str, str], where: str) -> TableRow:
    numbers = {n: _number(cells[n], n not in _MAY_BE_ZERO, f"{where}: {n}") for n in _NUMBERS}
    for name in ("C", "K"):
        if cells["type"] in PRODUCTS and numbers[name] % numbers["G"]:
            raise InputError(
                "G must divide it", field=f"{where}: {name}", found=numbers[name]
            )  # fmt: skip
    maps, weights, external = (tuple(cells[name].split()) for name in _PREVIOUS)
    return TableRow(
        cells["id"], cells["name"], cells["type"], numbers, maps, weights, external
    )  # fmt: skip


def _number(cell: str, positive: bool, where: str) -> int:
    if not (cell.isdecimal() and len(cell) < 20 and int(positive) <= int(cell) <= _LARGEST):
        raise InputError(
            "a whole number was expected", field=where, found=cell,
            allowed=f"{int(positive)} .. {_LARGEST}",
        )  # fmt: skip
    return int(cell)


def _require_sources(row: TableRow, known: dict[str, TableRow], where: str) -> None:
    """A layer has a number of its own and reads something, of layers above it only."""
    if row.id in known:
        raise InputError("this id was given before", field=f"{where}: id", found=row.id)
    for column, sources in (("ifm_prevs", row.maps), ("wgt_prevs", row.weights)):
        for source in sources:
            if source not in known:
                raise InputError(
                    "no line above has this id", field=f"{where}: {column}", found=source
                )  # fmt: skip
    if not row.maps and not row.external:
        raise InputError("reads nothing", field=f"{where}: ifm_prevs and ext_prevs")
    new = set(row.external).difference(*(above.external for above in known.values()))
    if new and row["ifm_c"] <= sum(known[source]["ofm_c"] for source in row.maps):
        raise InputError(
            "leaves no channels to the external input", field=f"{where}: ifm_c", found=row["ifm_c"]
        )


def images(row: TableRow) -> int:
    """Batch of a table: what its bytes say."""
    return max(1, row["ofm_bytes"] // (row["ofm_c"] * row["ofm_h"] * row["ofm_w"]))


def trimmed_cycles(folder: Path, net: str) -> dict[str, int]:
    """Cycles of layers whose schedules leave out what a strided reader skips, where published.

    For a batch (``NET_bN``) N times what they leave out of one image.
    """
    one, count = _base(net)
    path = folder / f"{one}_schedule_cycles.csv"
    if not path.exists():
        return {}
    try:
        trimmed = {
            cells["id"]: _number(cells["cycles"], True, f"{where}: cycles")
            for where, cells in _records(path, ("id", "cycles"))
        }
    except InputError as error:
        raise error.in_file(str(path)) from None
    whole = {row.id: row["full_cycles"] for row in read_rows(folder, one)}
    return {
        row.id: row["full_cycles"] - count * (whole[row.id] - trimmed[row.id])
        for row in read_rows(folder, net)
        if row.id in whole and row.id in trimmed
    }


def _base(net: str) -> tuple[str, int]:
    """Name of the network of one image, and the images."""
    one, _, count = net.rpartition("_b")
    return (one, int(count)) if one and count.isdecimal() else (net, 1)


def network_of(folder: Path, net: str) -> Network:
    """The network of a table, with measured cycles, as spm_opt plans it."""
    rows, trimmed = read_rows(folder, net), trimmed_cycles(folder, net)
    # the rows of all images follow one another
    shapes: dict[str, Shape] = {
        row.id: (1, row["ofm_c"], row["ofm_h"] * images(row), row["ofm_w"]) for row in rows
    }
    tensors: dict[str, Tensor] = {}
    layers: list[Layer] = []
    inputs: list[str] = []
    for row in rows:
        names = [f"map {p}" for p in row.maps]
        names += [_external(row, e, shapes, tensors, inputs) for e in row.external]
        dynamic = len(names)
        names += [f"map {p}" for p in row.weights]
        output = f"map {row.id}"
        tensors[output] = Tensor(output, shapes[row.id])
        weights = (Weight(f"weights {row.id}", (row["weight_bytes"],)),)
        layers.append(
            Layer(
                f"{row.id} {row.name}", _op(row, dynamic),
                tuple(operand_of(tensors[name]) for name in names), output, shapes[row.id],
                weights if row["weight_bytes"] else (), trimmed.get(row.id, row["full_cycles"]),
            )
        )  # fmt: skip
    read = {operand.tensor for layer in layers for operand in layer.inputs}
    outputs = tuple(layer.output for layer in layers if layer.output not in read)
    return Network(net, tensors, tuple(layers), tuple(inputs), outputs)


def _op(row: TableRow, dynamic: int) -> TableOp:
    pads = max(0, (row["H"] - 1) * row["sH"] + row["R"] - row["ifm_h"])
    return TableOp(
        (1, row["ofm_c"], row["ofm_h"] * images(row), row["ofm_w"]), row["R"], row["sH"],
        pads // 2, dynamic, row.type == "Transpose", row.loops, images(row),
    )  # fmt: skip


def _external(
    row: TableRow, number: str, shapes: dict[str, Shape], tensors: dict[str, Tensor],
    inputs: list[str],
) -> str:  # fmt: skip
    """The network input that a row names: what its other operands leave of its input channels."""
    name = f"input {number}"
    if name not in tensors:
        known = sum(shapes[p][1] for p in row.maps)
        channels = (row["ifm_c"] - known) // len(row.external)
        tensors[name] = Tensor(name, (1, channels, row["ifm_h"] * images(row), row["ifm_w"]))
        inputs.append(name)
    return name
