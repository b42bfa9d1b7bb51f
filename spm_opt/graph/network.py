"""The network: tensors and layers over a networkx DAG, checked once, here.

A `Network` is what the user wrote, on paper: shapes, names and element types. It is immutable.
Before `spm_opt.graph.normalize.normalize` it may contain views, batch normalisations and
activations as layers of their own; after it only layers that compute remain.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Final

import networkx as nx

from spm_opt.errors import GraphError
from spm_opt.graph.ops import (
    WHOLE,
    Concat,
    Gather,
    Loops,
    Op,
    RowMap,
    Shape,
    Slice,
    row_axis,
    row_count,
)
from spm_opt.graph.rows import seen_rows

#: bytes of one element
DTYPE_BYTES: Final[Mapping[str, int]] = MappingProxyType(
    {
        "bool": 1, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "float16": 2, "bfloat16": 2,
        "int32": 4, "uint32": 4, "float32": 4, "int64": 8, "uint64": 8, "float64": 8,
    }
)  # fmt: skip
#: density of a feature map without zeros
MILLION: Final = 1_000_000
#: element types that a network may be planned in (`--dtype`)
PLAN_DTYPES: Final = ("int8", "int16", "float16", "float32")


@dataclass(frozen=True, slots=True)
class Tensor:
    """A feature map: an activation that layers write and read.

    It lies in memory row by row: the row axis first, the other axes in their order after it, so a
    run of rows is one contiguous run of bytes. Of a batch, image by image: ``images`` is the
    extent of the first axis, and the rows of an image follow those of the one before. Where it is
    1, a row holds all that the first axis runs over.

    Of a million elements, ``density_ppm`` are expected not to be zero.
    """

    name: str
    shape: Shape
    dtype: str = "int8"
    images: int = 1
    density_ppm: int = MILLION

    @property
    def size_bytes(self) -> int:
        """Bytes of the whole tensor."""
        return math.prod(self.shape) * DTYPE_BYTES[self.dtype]

    @property
    def rows(self) -> int:
        """Number of rows of all images."""
        return self.images * row_count(self.shape)

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.size_bytes // self.rows


@dataclass(frozen=True, slots=True)
class Weight:
    """A constant of a layer: kernel, bias, table. ``moved_bytes`` is what a run reads of it."""

    name: str
    shape: Shape
    dtype: str = "int8"
    #: weight, bias, constant or table
    role: str = "weight"

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """Bytes of the whole constant."""
        return self.elements * DTYPE_BYTES[self.dtype]


@dataclass(frozen=True, slots=True)
class Operand:
    """One input of a layer: a tensor, under the shape the layer sees.

    ``row_axis`` is the axis of ``shape`` that runs over the tensor's own rows, None where the view
    mixes them. Where the first axis runs over images, ``image_axis`` is the axis of an image's
    rows, and ``image_rows`` their number (see `spm_opt.graph.rows.SeenRows`).
    """

    tensor: str
    shape: Shape
    row_axis: int | None
    image_axis: int | None = None
    image_rows: int = 0


@dataclass(frozen=True, slots=True)
class Layer:
    """One operator of the DAG.

    ``cycles`` are measured cycles of the whole layer, which override the compute model, and
    ``tile_cycles`` those of tiles of some numbers of rows, in rising order.
    ``folded`` names the source nodes that were folded into this one. ``images`` are the output's.
    ``constants_of`` names the layer whose constants it reads, where these are not its own: bands of
    columns of one layer share them (`spm_opt.graph.bands`).
    """

    name: str
    op: Op
    inputs: tuple[Operand, ...]
    output: str
    output_shape: Shape
    weights: tuple[Weight, ...] = ()
    cycles: int | None = None
    folded: tuple[str, ...] = ()
    tile_cycles: tuple[tuple[int, int], ...] = ()
    images: int = 1
    constants_of: str | None = None

    @property
    def constants(self) -> str:
        """Name of the layer that owns the constants that it reads."""
        return self.name if self.constants_of is None else self.constants_of

    @property
    def measured(self) -> tuple[tuple[int, int], ...]:
        """``(rows, cycles)`` of measured tiles, in rising order; empty where none was measured."""
        found = dict(self.tile_cycles)
        if self.cycles is not None:
            found.setdefault(self.rows, self.cycles)
        return tuple(sorted(found.items()))

    @property
    def input_shapes(self) -> tuple[Shape, ...]:
        """Shapes of the inputs as the operator sees them."""
        return tuple(operand.shape for operand in self.inputs)

    @property
    def loops(self) -> Loops | None:
        """MAC loop nest of the whole output."""
        return self.op.loops(self.input_shapes, self.output_shape)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the whole layer."""
        loops = self.loops
        return 0 if loops is None else loops.macs

    @property
    def vector_ops(self) -> int:
        """Vector-lane operations of the whole layer."""
        return self.op.vector_ops(self.input_shapes, self.output_shape)

    @property
    def rows(self) -> int:
        """Rows of the output, of all images."""
        return self.images * self.image_rows

    @property
    def image_rows(self) -> int:
        """Rows of one image of the output."""
        return row_count(self.output_shape)

    @property
    def channel_axis(self) -> int | None:
        """Output axis that can be cut into slices with their own weights, if any."""
        axis = self.op.channel_axis(self.output_shape)
        return None if self.images > 1 and axis == 0 else axis

    @property
    def parameters(self) -> int:
        """Number of constants' elements."""
        return sum(weight.elements for weight in self.weights)

    @property
    def weight_bytes(self) -> int:
        """Bytes of constants that a run of the layer reads.

        A look-up table in DRAM is read only where it is looked up.
        """
        total = sum(w.size_bytes for w in self.weights if w.role != "table")
        if isinstance(self.op, Gather):
            tables = [w for w in self.weights if w.role == "table"]
            looked_up = math.prod(self.output_shape)
            total += sum(min(w.size_bytes, looked_up * DTYPE_BYTES[w.dtype]) for w in tables)
        return total

    def input_rows(self, index: int) -> RowMap:
        """Rows of input `index`'s tensor that output rows need (see `RowMap`).

        Where images stay apart, these are rows of the same images.
        """
        wanted = self.op.input_rows(index, self.input_shapes, self.output_shape)
        operand = self.inputs[index]
        if self.images == 1 and wanted.axis is not None and wanted.axis == operand.row_axis:
            return wanted
        if not self._keeps_images(index):
            return WHOLE
        inner = wanted if wanted.axis == operand.image_axis else WHOLE
        rows = self.rows // operand.shape[0]
        return replace(inner, image_rows=rows, image_inputs=operand.image_rows)

    def _keeps_images(self, index: int) -> bool:
        """Whether whole rows of an image of the output need those of the same image of an input."""
        operand, output = self.inputs[index], self.output_shape
        # a row of a matrix is an image by itself
        apart = self.images > 1 or len(output) == 2
        return (
            apart and operand.image_rows > 0 and operand.shape[0] == output[0]
            and self.op.keeps_images(index, self.input_shapes, output)
        )  # fmt: skip


@dataclass(frozen=True)
class Network:
    """A DAG of layers, checked on construction.

    Parameters
    ----------
    name : str
    tensors : mapping of str to Tensor
        Every feature map, network inputs included.
    layers : tuple of Layer
        In the order of the source; any order is accepted, a cycle is not.
    inputs, outputs : tuple of str
        Tensors that come from and go to DRAM.
    warnings : tuple of str
        What the reader could not take literally, for the user.

    Raises
    ------
    GraphError
        Naming the layer, for a cycle, a missing or doubly produced tensor, or a wrong shape.
    """

    name: str
    tensors: Mapping[str, Tensor]
    layers: tuple[Layer, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    #: other names of tensors (views), as the source spelled them
    aliases: Mapping[str, str] = field(default_factory=dict)
    #: tensors that the source rounds to integers of their own scale: whatever reads one reads
    #: rounded numbers, and no layer that moves data into one may be left out
    rounded: tuple[str, ...] = ()
    #: tensors that are cut along their columns, and whose channels are never cut
    columnar: tuple[str, ...] = ()
    #: layers that only say which columns of a map others read (`spm_opt.graph.bands`)
    windows: frozenset[str] = frozenset()
    #: layers that copy a border of a map for the next band: nobody in their own reads it
    keepers: frozenset[str] = frozenset()
    #: layers that copy such a border into columns of a map from outside, whose others are loaded
    fills: Mapping[str, tuple[str, tuple[int, int]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for rule in _RULES:
            rule(self)

    @cached_property
    def producer(self) -> Mapping[str, int]:
        """Index of the layer that writes each tensor (inputs absent)."""
        return {layer.output: i for i, layer in enumerate(self.layers)}

    @cached_property
    def readers(self) -> Mapping[str, tuple[int, ...]]:
        """Indices of the layers that read each tensor, without repetition."""
        found: dict[str, list[int]] = {name: [] for name in self.tensors}
        for i, layer in enumerate(self.layers):
            for operand in layer.inputs:
                if not found[operand.tensor] or found[operand.tensor][-1] != i:
                    found[operand.tensor].append(i)
        return {name: tuple(indices) for name, indices in found.items()}

    @cached_property
    def graph(self) -> nx.DiGraph[int]:
        """The DAG: nodes are layer indices, edges carry the tensor's name as ``tensor``."""
        graph: nx.DiGraph[int] = nx.DiGraph()
        graph.add_nodes_from(range(len(self.layers)))
        for name, readers in self.readers.items():
            if name in self.producer:
                graph.add_edges_from(
                    (self.producer[name], reader, {"tensor": name}) for reader in readers
                )
        return graph

    @cached_property
    def channel_axes(self) -> Mapping[str, int]:
        """Axis of each tensor that channel slices cut: its producer's, or its first reader's.

        Last that along which it is joined or taken apart. Tensors that nobody cuts are absent.
        Of `columnar` tensors it is the axis of columns: their "channels" are columns.
        """
        found: dict[str, int] = {}
        for layer in self.layers:
            if layer.channel_axis is not None:
                found[layer.output] = layer.channel_axis
        for layer in self.layers:
            for i, operand in enumerate(layer.inputs):
                axis = layer.op.input_channel_axis(i, layer.input_shapes, layer.output_shape)
                tensor = self.tensors[operand.tensor]
                if axis is not None and operand.shape == tensor.shape and _cuts_rows(tensor, axis):
                    found.setdefault(operand.tensor, axis)
        for layer in self.layers:
            self._join_axis(layer, found)
        return found | {name: len(self.tensors[name].shape) - 1 for name in self.columnar}

    def _join_axis(self, layer: Layer, found: dict[str, int]) -> None:
        """Axis of maps that are joined or taken apart, and of pieces, where nobody cuts them."""
        if isinstance(layer.op, Concat):
            tensor, axis = layer.output, layer.op.axis % len(layer.output_shape)
            pieces = [o.tensor for o in layer.inputs if o.shape == self.tensors[o.tensor].shape]
        elif isinstance(layer.op, Slice):
            tensor, shape = layer.inputs[0].tensor, layer.inputs[0].shape
            cut = [i for i, extent in enumerate(shape) if layer.op.sizes[i] != extent]
            if len(cut) != 1 or shape != self.tensors[tensor].shape:
                return
            axis, pieces = cut[0], [layer.output]
        else:
            return
        if not _cuts_rows(self.tensors[tensor], axis):
            return
        for name in (tensor, *pieces):
            # a whole of other images than its pieces is cut where they are not
            if _cuts_rows(self.tensors[name], axis):
                found.setdefault(name, axis)

    @cached_property
    def sliced_reads(self) -> Mapping[str, tuple[bool, ...]]:
        """By layer, for each operand: whether a slice of the output reads its channels only.

        The operand must be seen as it lies in memory, and all of a layer's operands that are one
        tensor must agree.
        """
        return {layer.name: self._sliced_reads(layer) for layer in self.layers}

    def operand_channels(
        self, layer: Layer, index: int, channels: tuple[int, int] | None
    ) -> tuple[int, int] | None:
        """Channels of operand `index` that output `channels` of `layer` read; None for all.

        Those of a channelwise operand, made up to whole groups.
        """
        if channels is None or not self.sliced_reads[layer.name][index]:
            return None
        step = layer.op.channel_step()
        begin, end = channels[0] // step * step, -(-channels[1] // step) * step
        tensor = self.tensors[layer.inputs[index].tensor]
        whole = (begin, end) == (0, tensor.shape[self.channel_axes[tensor.name]])
        return None if whole else (begin, end)

    def _sliced_reads(self, layer: Layer) -> tuple[bool, ...]:
        whole: set[str] = set()
        for i, operand in enumerate(layer.inputs):
            axis = layer.op.input_channel_axis(i, layer.input_shapes, layer.output_shape)
            own = operand.shape == self.tensors[operand.tensor].shape
            if axis is None or not own or axis != self.channel_axes.get(operand.tensor):
                whole.add(operand.tensor)
        return tuple(operand.tensor not in whole for operand in layer.inputs)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference."""
        return sum(layer.macs for layer in self.layers)

    @property
    def parameters(self) -> int:
        """Number of constants' elements, those that layers share once."""
        return sum(layer.parameters for layer in self.layers if layer.constants_of is None)

    @property
    def weight_bytes(self) -> int:
        """Bytes of constants that one inference reads, those that layers share once."""
        return sum(layer.weight_bytes for layer in self.layers if layer.constants_of is None)

    @property
    def feature_map_bytes(self) -> int:
        """Bytes of all feature maps, network inputs included, each once."""
        return sum(tensor.size_bytes for tensor in self.tensors.values())

    def with_dtype(self, dtype: str) -> Network:
        """The same network with every floating or 8/16-bit element planned as `dtype`.

        Biases of integer networks are 32-bit accumulators' type; index tensors keep their type.
        """
        if dtype not in PLAN_DTYPES:
            raise GraphError(
                "unknown element type", field="dtype", found=dtype, allowed=PLAN_DTYPES
            )
        tensors = {
            name: t if _is_index(t.dtype) else replace(t, dtype=dtype)
            for name, t in self.tensors.items()
        }
        bias = "int32" if dtype.startswith("int") else dtype
        layers = tuple(
            replace(
                layer,
                weights=tuple(
                    replace(w, dtype=bias if w.role == "bias" else dtype)
                    if w.role == "bias" or not _is_index(w.dtype)
                    else w
                    for w in layer.weights
                ),
            )
            for layer in self.layers
        )
        return replace(self, tensors=tensors, layers=layers)


def operand_of(tensor: Tensor, shape: Shape | None = None) -> Operand:
    """`tensor` as a layer's input, seen under `shape` (its own by default)."""
    shown = tensor.shape if shape is None else shape
    seen = seen_rows(tensor.shape, tensor.images, shown)
    return Operand(tensor.name, shown, seen.row_axis, seen.image_axis, seen.image_rows)


def _cuts_rows(tensor: Tensor, axis: int) -> bool:
    """Whether an axis cuts every row: it runs neither over rows nor over images."""
    return axis != row_axis(tensor.shape) and (axis > 0 or tensor.images == 1)


def _is_index(dtype: str) -> bool:
    return dtype in ("int32", "uint32", "int64", "uint64", "bool")


def _check_names(network: Network) -> None:
    seen: set[str] = set()
    for layer in network.layers:
        if layer.name in seen:
            raise GraphError("two layers have the same name", field=layer.name)
        seen.add(layer.name)


def _check_tensors(network: Network) -> None:
    written = set(network.inputs)
    for layer in network.layers:
        if layer.output in written:
            raise GraphError("this tensor is produced twice", field=layer.name, found=layer.output)
        written.add(layer.output)
    for layer in network.layers:
        for operand in layer.inputs:
            if operand.tensor not in written:
                raise GraphError(
                    "this input is produced by no layer", field=layer.name, found=operand.tensor
                )
    for name in network.outputs:
        if name not in written:
            raise GraphError("this network output is produced by no layer", found=name)
    for name, tensor in network.tensors.items():
        if tensor.dtype not in DTYPE_BYTES:
            raise GraphError(
                "unknown element type", field=name, found=tensor.dtype, allowed=DTYPE_BYTES
            )
        if any(extent < 1 for extent in tensor.shape):
            raise GraphError("every extent must be positive", field=name, found=tensor.shape)


def _check_acyclic(network: Network) -> None:
    if not nx.is_directed_acyclic_graph(network.graph):
        cycle = nx.find_cycle(network.graph)
        names = " -> ".join(network.layers[edge[0]].name for edge in cycle)
        raise GraphError(f"the graph has a cycle: {names}")


def _check_shapes(network: Network) -> None:
    for layer in network.layers:
        for operand in layer.inputs:
            tensor = network.tensors[operand.tensor]
            if math.prod(operand.shape) != math.prod(tensor.shape):
                raise GraphError(f"cannot view {tensor.shape} as {operand.shape}", field=layer.name)
        try:
            shape = layer.op.infer(layer.input_shapes)
        except GraphError as error:
            raise GraphError(error.message, field=layer.name, found=error.found) from None
        if shape != layer.output_shape or network.tensors[layer.output].shape != shape:
            raise GraphError(
                f"{layer.op.kind} gives shape {shape}", field=layer.name, found=layer.output_shape
            )


def _check_images(network: Network) -> None:
    for name, tensor in network.tensors.items():
        if tensor.images != 1 and (len(tensor.shape) < 3 or tensor.images != tensor.shape[0]):
            raise GraphError(
                "images must be those of the first axis, before rows", field=name,
                found=tensor.images, allowed=f"1, or the first extent of {tensor.shape}",
            )  # fmt: skip
    for layer in network.layers:
        if layer.images != network.tensors[layer.output].images:
            raise GraphError("not the output's images", field=layer.name, found=layer.images)
        for operand in layer.inputs:
            if operand != operand_of(network.tensors[operand.tensor], operand.shape):
                raise GraphError(
                    "these are not the tensor's rows", field=layer.name, found=operand.tensor
                )


_RULES = (_check_names, _check_tensors, _check_acyclic, _check_shapes, _check_images)


def topological(network: Network) -> tuple[int, ...]:
    """Layer indices in a topological order that keeps the source's order where it can."""
    return tuple(nx.lexicographical_topological_sort(network.graph))


def needed_rows(network: Network) -> dict[str, int]:
    """Rows of every tensor that some reader, or the world outside, needs.

    A reader with a stride larger than its window leaves rows out: nobody has to compute or move
    them.
    """
    wanted = {name: [False] * tensor.rows for name, tensor in network.tensors.items()}
    for name in network.outputs:
        wanted[name] = [True] * network.tensors[name].rows
    for index in reversed(topological(network)):
        layer = network.layers[index]
        rows = [row for row, needed in enumerate(wanted[layer.output]) if needed]
        for i, operand in enumerate(layer.inputs):
            marks, row_map = wanted[operand.tensor], layer.input_rows(i)
            for row in rows[:1] if row_map == WHOLE else rows:
                begin, end = row_map.needed(row, row + 1, len(marks))
                marks[begin:end] = [True] * (end - begin)
    return {name: sum(marks) for name, marks in wanted.items()}


def by_name(tensors: Iterable[Tensor]) -> dict[str, Tensor]:
    """Tensors as a mapping."""
    return {tensor.name: tensor for tensor in tensors}
