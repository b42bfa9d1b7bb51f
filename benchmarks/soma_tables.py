"""Networks in the table form of SoMa's published data: two CSV files a network.

``NET_layers.csv`` has a layer a row: shapes, kernel, bytes, who reads whom, cycles of the whole
layer; ``NET_schedule_cycles.csv``, where it exists, the cycles without rows that nobody reads;
``NET_tiles.csv`` the cycles of tiles of given extents. Every element is one byte.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

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


def read_rows(folder: Path, net: str) -> list[TableRow]:
    """The layers of a network."""
    with (folder / f"{net}_layers.csv").open(newline="", encoding="utf-8") as file:
        return [
            TableRow(
                row["id"], row["name"], row["type"], {n: int(row[n]) for n in _NUMBERS},
                tuple(row["ifm_prevs"].split()), tuple(row["wgt_prevs"].split()),
                tuple(row["ext_prevs"].split()),
            )
            for row in csv.DictReader(file)
        ]  # fmt: skip


def images(row: TableRow) -> int:
    """Batch of a table: what its bytes say."""
    return max(1, row["ofm_bytes"] // (row["ofm_c"] * row["ofm_h"] * row["ofm_w"]))


def trimmed_cycles(folder: Path, net: str) -> dict[str, int]:
    """Cycles of layers whose schedules leave out what a strided reader skips, where published.

    For a batch (``NET_bN``) N times what they leave out of one image.
    """
    one, _, count = net.partition("_b")
    path = folder / f"{one}_schedule_cycles.csv"
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        trimmed = {row["id"]: int(row["cycles"]) for row in csv.DictReader(file)}
    whole = {row.id: row["full_cycles"] for row in read_rows(folder, one)}
    return {
        row.id: row["full_cycles"] - int(count or 1) * (whole[row.id] - trimmed[row.id])
        for row in read_rows(folder, net)
    }


def network_of(folder: Path, net: str) -> Network:
    """The network of a table, with measured cycles, as spm_opt plans it."""
    rows, trimmed = read_rows(folder, net), trimmed_cycles(folder, net)
    # the rows of all images follow one another
    shapes = {row.id: (1, row["ofm_c"], row["ofm_h"] * images(row), row["ofm_w"]) for row in rows}
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
