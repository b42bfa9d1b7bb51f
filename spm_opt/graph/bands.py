"""Bands: a run of layers computed in vertical bands of columns, as a network of its own.

Within a band everything is as always: stripes of rows, halos retained in rolling buffers. Between
bands nothing is kept: columns of intermediate maps that two bands need are computed by both
(*recompute*), columns of inputs are read by both (*refetch*). So a band is the same run of layers
on narrower maps, and a network whose runs are cut is a network again: every layer of a run once
for each band, *windows* (slices along the columns) of what it reads, and a concatenation of what
the bands make. Windows and concatenation copy nothing: they say where bytes lie.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from spm_opt.errors import GraphError
from spm_opt.graph.columns import ColumnCut, Columns, column_cut
from spm_opt.graph.network import Layer, Network, Operand, Tensor, operand_of
from spm_opt.graph.ops import Concat, Slice


@dataclass(frozen=True, slots=True)
class Bands:
    """How a run of layers is cut.

    Attributes
    ----------
    layers : tuple of str
        The run, in an order in which they can be computed: all of them feed the last, and of
        their outputs only that one is read by others.
    edges : tuple of int
        Columns of its output at which bands begin and end, 0 and all of them included.
    """

    layers: tuple[str, ...]
    edges: tuple[int, ...]

    @property
    def count(self) -> int:
        """Number of bands."""
        return len(self.edges) - 1


@dataclass(frozen=True, slots=True)
class Banded:
    """A network with runs of layers in bands.

    Attributes
    ----------
    network : Network
    runs : tuple of tuple of tuple of str
        For each run and band its layers, windows included, in order.
    joins : tuple of str
        For each run the layer that joins the bands.
    """

    network: Network
    runs: tuple[tuple[tuple[str, ...], ...], ...]
    joins: tuple[str, ...]


def is_window(network: Network, layer: Layer) -> bool:
    """Whether a layer only says which columns of a map a band reads."""
    return layer.name in network.windows


def band_cuts(network: Network, names: Sequence[str], columns: Columns) -> dict[str, ColumnCut]:
    """Each layer of a run for what it takes to compute `columns` of the last one's output.

    Raises
    ------
    GraphError
        Naming a layer that cannot be cut into columns.
    """
    layers = {layer.name: layer for layer in network.layers}
    needed: dict[str, Columns] = {layers[names[-1]].output: columns}
    found: dict[str, ColumnCut] = {}
    for name in reversed(names):
        layer = layers[name]
        cut = column_cut(layer, needed[layer.output]) if layer.output in needed else None
        if cut is None or (name == names[-1] and cut.columns != columns):
            raise GraphError("this layer cannot be cut into bands of columns", field=name)
        found[name] = cut
        for operand, window in zip(layer.inputs, cut.windows, strict=True):
            if operand.shape != network.tensors[operand.tensor].shape:
                raise GraphError("this layer sees its input under another shape", field=name)
            low, high = needed.get(operand.tensor, window)
            needed[operand.tensor] = min(low, window[0]), max(high, window[1])
    return found


def banded(network: Network, runs: Sequence[Bands]) -> Banded:
    """`network` with every run of layers computed in bands.

    Raises
    ------
    GraphError
        Naming a layer that cannot be cut, or edges that are not those of bands.
    """
    makers = [_Maker(network, run.layers, number) for number, run in enumerate(runs)]
    by_last = dict(zip((run.layers[-1] for run in runs), makers, strict=True))
    made = [_joined(maker, run) for maker, run in zip(makers, runs, strict=True)]
    replaced = dict(zip(by_last, (layers for layers, _ in made), strict=True))
    inside = {name for run in runs for name in run.layers}
    layers: list[Layer] = []
    for layer in network.layers:
        if layer.name in replaced:
            layers += replaced[layer.name]
        elif layer.name not in inside:
            layers.append(layer)
    gone = {x.output for x in network.layers if x.name in inside and x.name not in by_last}
    tensors = {name: tensor for name, tensor in network.tensors.items() if name not in gone}
    columnar: dict[str, None] = {}
    for maker in makers:
        tensors.update(maker.tensors)
        columnar.update(maker.columnar)
    return Banded(
        replace(
            network,
            tensors=tensors,
            layers=tuple(layers),
            columnar=tuple(columnar),
            windows=frozenset().union(*(maker.windows for maker in makers)),
        ),
        tuple(bands for _, bands in made),
        tuple(layers[-1].name for layers, _ in made),
    )


@dataclass(frozen=True, slots=True)
class SomeBands:
    """A run alone, in some of its bands.

    Attributes
    ----------
    source, network : Network
        The network that has the run; and one that reads what the run does, whose outputs are those
        of the bands.
    bands : tuple of tuple of str
        For each band the names of the run's layers in it, in order; without windows.
    shown : mapping of str to (str, (int, int))
        For each map of a band, windows included: the map of the source that it shows, and which of
        its columns.
    """

    source: Network
    network: Network
    bands: tuple[tuple[str, ...], ...]
    shown: Mapping[str, tuple[str, Columns]]


def some_bands(network: Network, names: Sequence[str], columns: Sequence[Columns]) -> SomeBands:
    """The bands of a run that compute `columns` of its last layer's output."""
    maker = _Maker(network, names, 0)
    bands = [maker.band(number, span) for number, span in enumerate(columns)]
    inside = set(maker.made)
    layers = [layer for layer in network.layers if layer.name in set(names)]
    read = dict.fromkeys(o.tensor for x in layers for o in x.inputs if o.tensor not in inside)
    tensors = {name: network.tensors[name] for name in read} | maker.tensors
    made = Network(
        network.name, tensors, tuple(x for band in bands for x in band), tuple(read),
        tuple(band[-1].output for band in bands),
        columnar=tuple(name for name in maker.columnar if name in tensors),
        windows=frozenset(maker.windows),
    )  # fmt: skip
    own = tuple(tuple(x.name for x in b if not is_window(made, x)) for b in bands)
    return SomeBands(network, made, own, maker.shown)


def _joined(maker: _Maker, run: Bands) -> tuple[list[Layer], tuple[tuple[str, ...], ...]]:
    """Layers of all bands of a run, the concatenation last; names of those of each band."""
    last = maker.layers[run.layers[-1]]
    _check_edges(run, last)
    bands = [maker.band(number, span) for number, span in enumerate(pairwise(run.edges))]
    pieces = tuple(operand_of(maker.tensors[band[-1].output]) for band in bands)
    maker.columnar[last.output] = None
    join = Layer(
        f"{last.name}#join", Concat(3), pieces, last.output, last.output_shape, images=last.images
    )
    layers = [layer for band in bands for layer in band]
    return [*layers, join], tuple(tuple(layer.name for layer in band) for band in bands)


class _Maker:
    """Makes the bands of one run; holds the tensors that they need."""

    def __init__(self, network: Network, names: Sequence[str], number: int) -> None:
        self.network, self.names, self.number = network, names, number
        self.layers = {layer.name: layer for layer in network.layers}
        self.tensors: dict[str, Tensor] = {}
        self.columnar: dict[str, None] = {}
        self.windows: set[str] = set()
        #: layer that makes each map of the run
        self.made = {self.layers[name].output: name for name in names}
        #: map of the source that each map of a band shows, and which columns of it
        self.shown: dict[str, tuple[str, Columns]] = {}

    def band(self, number: int, columns: Columns) -> tuple[Layer, ...]:
        """Layers of one band: windows of what comes from outside, then the run."""
        cuts = band_cuts(self.network, self.names, columns)
        windows: dict[tuple[str, Columns], Layer] = {}
        outside: list[Layer] = []
        own: list[Layer] = []
        for name in self.names:
            cut, layer = cuts[name], self.layers[name]
            inputs: list[Operand] = []
            for operand, window in zip(layer.inputs, cut.windows, strict=True):
                source, (begin, end) = self._source(operand.tensor, cuts, number)
                key = source, (window[0] - begin, window[1] - begin)
                if window != (begin, end) and key not in windows:
                    windows[key] = self._window(*key, number, len(windows))
                    self.shown[windows[key].output] = operand.tensor, window
                    (own if operand.tensor in self.made else outside).append(windows[key])
                found = source if window == (begin, end) else windows[key].output
                inputs.append(operand_of(self._tensor(found)))
            own.append(self._layer(layer, cut, tuple(inputs), number))
        return (*outside, *own)

    def _tensor(self, name: str) -> Tensor:
        return self.tensors[name] if name in self.tensors else self.network.tensors[name]

    def _source(
        self, tensor: str, cuts: Mapping[str, ColumnCut], number: int
    ) -> tuple[str, Columns]:
        """Where a band finds a map: its name there, and its columns."""
        if tensor in self.made:
            return f"{tensor}#{number}", cuts[self.made[tensor]].columns
        return tensor, (0, self.network.tensors[tensor].shape[3])

    def _window(self, source: str, columns: Columns, band: int, count: int) -> Layer:
        tensor = self._tensor(source)
        shape = (*tensor.shape[:3], columns[1] - columns[0])
        own = source if source in self.tensors else f"{source}#{band}"
        output = f"{own}.{self.number}.{count}"
        self.tensors[output] = replace(tensor, name=output, shape=shape)
        self.columnar.update(dict.fromkeys((source, output)))
        op = Slice((0, 0, 0, columns[0]), shape, (1, 1, 1, 1))
        self.windows.add(f"window:{output}")
        return Layer(
            f"window:{output}", op, (operand_of(tensor),), output, shape, images=tensor.images
        )

    def _layer(
        self, layer: Layer, cut: ColumnCut, inputs: tuple[Operand, ...], number: int
    ) -> Layer:
        output = f"{layer.output}#{number}"
        shape = (*layer.output_shape[:3], cut.columns[1] - cut.columns[0])
        whole = self.network.tensors[layer.output]
        self.tensors[output] = replace(whole, name=output, shape=shape)
        self.shown[output] = layer.output, cut.columns
        self.columnar[output] = None
        owner = f"{layer.name}#0" if number and layer.weights else None
        return replace(
            layer, name=f"{layer.name}#{number}", op=cut.op, inputs=inputs, output=output,
            output_shape=shape, constants_of=owner,
        )  # fmt: skip


def _check_edges(bands: Bands, last: Layer) -> None:
    width = last.output_shape[-1]
    rising = all(a < b for a, b in pairwise(bands.edges))
    if bands.count < 2 or bands.edges[0] != 0 or bands.edges[-1] != width or not rising:
        raise GraphError(
            "bands must cut the columns of the output", field=last.name, found=bands.edges,
            allowed=f"rising numbers from 0 to {width}",
        )  # fmt: skip


def source_names(network: Network, bands: Sequence[Bands]) -> Iterator[tuple[str, str]]:
    """Names of a banded network's layers and tensors, and those of the source that they stand for.

    Windows and joins stand for the map that they show.
    """
    found = banded(network, bands)
    known = {layer.name for layer in network.layers} | set(network.tensors)
    for name in (*found.network.tensors, *(layer.name for layer in found.network.layers)):
        plain = name
        while plain not in known and "#" in plain:
            plain = plain.rpartition("#")[0]
        yield name, plain.removeprefix("window:") if plain not in known else plain
