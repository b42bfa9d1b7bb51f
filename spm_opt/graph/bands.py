"""Bands: a run of layers computed in vertical bands of columns, as a network of its own.

Within a band everything is as always: stripes of rows, halos retained in rolling buffers. Between
bands, columns of intermediate maps that two bands need are computed by both (*recompute*), columns
of inputs are read by both (*refetch*), or they are kept: for each map it is one or the other.

So a band is the same run of layers on narrower maps, and a network whose runs are cut is a network
again: every layer of a run once for each band, *windows* (slices along the columns) of what it
reads, and a concatenation of what the bands make. Windows and concatenation copy nothing: they say
where bytes lie. A border is kept by layers that do copy, as few columns as there are in it: one
writes the border, whole in the scratchpad until the next band has run, and one in that band writes
it beside the columns that the band makes or loads itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Final

from spm_opt.errors import GraphError
from spm_opt.graph.band_cuts import BandCut, run_cuts
from spm_opt.graph.columns import ColumnCut, Columns
from spm_opt.graph.network import Layer, Network, Operand, Tensor, operand_of
from spm_opt.graph.ops import Concat, Slice

#: what the names of layers begin with that no layer of the source stands for
_PREFIXES: Final = ("window:", "keep:", "copy:", "border:")


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
    kept : tuple of str
        Maps that keep their borders from band to band: outputs of the run's layers, and maps from
        outside, which are streamed then.
    """

    layers: tuple[str, ...]
    edges: tuple[int, ...]
    kept: tuple[str, ...] = ()

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
    borders : tuple of tuple of mapping of str to str
        For each run and band the borders that it keeps for the next one, by the map of the source.
    """

    network: Network
    runs: tuple[tuple[tuple[str, ...], ...], ...]
    joins: tuple[str, ...]
    borders: tuple[tuple[Mapping[str, str], ...], ...]


def is_window(network: Network, layer: Layer) -> bool:
    """Whether a layer only says which columns of a map a band reads."""
    return layer.name in network.windows


def copies_beside(network: Network, layer: Layer) -> bool:
    """Whether a layer copies a border that nobody in its own band reads from it."""
    return layer.name in network.keepers or layer.name in network.fills


def bordered_map(network: Network, layer: Layer) -> str | None:
    """The map in a band that a layer copies a border into; None for any other layer."""
    source = network.producer.get(layer.inputs[0].tensor) if layer.inputs else None
    if source is None or network.layers[source].name not in network.keepers:
        return None
    if layer.name in network.fills:
        return network.fills[layer.name][0]
    (join,) = network.readers[layer.output]
    return network.layers[join].output


def border_maps(network: Network) -> frozenset[str]:
    """Borders that bands keep: maps of their own, and no maps of the network as it was given."""
    return frozenset(layer.output for layer in network.layers if layer.name in network.keepers)


def border_joins(network: Network) -> frozenset[str]:
    """Layers that say that a border and new columns lie side by side; they copy nothing."""
    found = {bordered_map(network, layer) for layer in network.layers}
    return frozenset(layer.name for layer in network.layers if layer.output in found)


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
    for maker in makers:
        tensors.update(maker.tensors)
    return Banded(
        _with_borders(replace(network, tensors=tensors, layers=tuple(layers)), makers),
        tuple(bands for _, bands in made),
        tuple(layers[-1].name for layers, _ in made),
        tuple(tuple(maker.kept) for maker in makers),
    )


def _with_borders(network: Network, makers: Sequence[_Maker]) -> Network:
    """`network`, which knows what its columnar maps, windows and borders are."""
    columnar: dict[str, None] = {}
    fills: dict[str, tuple[str, Columns]] = {}
    for maker in makers:
        columnar.update(maker.columnar)
        fills.update(maker.fills)
    return replace(
        network, columnar=tuple(name for name in columnar if name in network.tensors),
        windows=frozenset().union(*(maker.windows for maker in makers)),
        keepers=frozenset().union(*(maker.keepers for maker in makers)), fills=fills,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class SomeBands:
    """A run alone, in some of its bands.

    Attributes
    ----------
    source, network : Network
        The network that has the run; and one that reads what the run does, and borders that bands
        before kept, whose outputs are those of the bands.
    cuts : tuple of BandCut
        The bands.
    layers : tuple of mapping of str to tuple of int
        For each band and map of the source: the layers that make it, join it with its border, keep
        that and show windows of it, in order.
    shown : mapping of str to (str, (int, int))
        For each map of a band, windows included: the map of the source that it shows, and which of
        its columns.
    copies : tuple of mapping of str to tuple of int
        For each band and map of the source: the layers that copy borders of it, in order.
    """

    source: Network
    network: Network
    cuts: tuple[BandCut, ...]
    layers: tuple[Mapping[str, tuple[int, ...]], ...]
    shown: Mapping[str, tuple[str, Columns]]
    copies: tuple[Mapping[str, tuple[int, ...]], ...]


def some_bands(network: Network, names: Sequence[str], cuts: Sequence[BandCut]) -> SomeBands:
    """The bands `cuts` of a run, which need not be neighbours."""
    maker = _Maker(network, names, 0)
    # every other number: what one band keeps is not what the next one here finds
    bands = [maker.band(2 * number, cut) for number, cut in enumerate(cuts)]
    made = [layer for band in bands for layer in band.all()]
    index = {layer.name: i for i, layer in enumerate(made)}
    written = {layer.output for layer in made}
    read = dict.fromkeys(o.tensor for x in made for o in x.inputs if o.tensor not in written)
    tensors = {name: network.tensors[name] for name in read if name in network.tensors}
    plain = Network(
        network.name, tensors | maker.tensors, tuple(made), tuple(read),
        tuple(f"{maker.layers[names[-1]].output}#{2 * number}" for number in range(len(cuts))),
    )  # fmt: skip
    return SomeBands(
        network, _with_borders(plain, [maker]), tuple(cuts),
        tuple(_numbered(band.layers, index) for band in bands),
        maker.shown, tuple(_numbered(band.copies, index) for band in bands),
    )  # fmt: skip


def _numbered(
    layers: Mapping[str, Sequence[Layer]], index: Mapping[str, int]
) -> dict[str, tuple[int, ...]]:
    return {tensor: tuple(index[layer.name] for layer in own) for tensor, own in layers.items()}


def _joined(maker: _Maker, run: Bands) -> tuple[list[Layer], tuple[tuple[str, ...], ...]]:
    """Layers of all bands of a run, the concatenation last; names of those of each band."""
    last = maker.layers[run.layers[-1]]
    _check_edges(run, last)
    cuts = run_cuts(maker.network, run.layers, list(pairwise(run.edges)), run.kept)
    bands = [maker.band(number, cut).all() for number, cut in enumerate(cuts)]
    pieces = tuple(operand_of(maker.tensors[band[-1].output]) for band in bands)
    maker.columnar[last.output] = None
    join = Layer(
        f"{last.name}#join", Concat(3), pieces, last.output, last.output_shape, images=last.images
    )
    layers = [layer for band in bands for layer in band]
    return [*layers, join], tuple(tuple(layer.name for layer in band) for band in bands)


@dataclass(slots=True)
class _Band:
    """Layers of one band, by the map of the source that they make or show."""

    number: int
    cut: BandCut
    made: frozenset[str]
    layers: dict[str, list[Layer]] = field(default_factory=dict)
    copies: dict[str, list[Layer]] = field(default_factory=dict)
    order: list[Layer] = field(default_factory=list)
    windows: dict[tuple[str, Columns], Layer] = field(default_factory=dict)

    def add(self, tensor: str, layer: Layer) -> None:
        """`layer`, of a map of the source; those of maps from outside come first."""
        self.layers.setdefault(tensor, []).append(layer)
        if tensor in self.made:
            self.order.append(layer)

    def all(self) -> tuple[Layer, ...]:
        """All of them, in order."""
        outside = (x for t, own in self.layers.items() if t not in self.made for x in own)
        return (*outside, *self.order)


class _Maker:
    """Makes the bands of one run; holds the tensors that they need."""

    def __init__(self, network: Network, names: Sequence[str], number: int) -> None:
        self.network, self.names, self.number = network, names, number
        self.layers = {layer.name: layer for layer in network.layers}
        self.tensors: dict[str, Tensor] = {}
        self.columnar: dict[str, None] = {}
        self.windows: set[str] = set()
        #: layers that write borders for the band behind, and their outputs, band by band
        self.keepers: set[str] = set()
        self.kept: list[dict[str, str]] = []
        #: layers that write borders beside what is loaded: into which columns of which map
        self.fills: dict[str, tuple[str, Columns]] = {}
        #: layer that makes each map of the run
        self.made = {self.layers[name].output: name for name in names}
        #: map of the source that each map of a band shows, and which columns of it
        self.shown: dict[str, tuple[str, Columns]] = {}

    def band(self, number: int, cut: BandCut) -> _Band:
        """Layers of one band: windows of what comes from outside, then the run."""
        band = _Band(number, cut, frozenset(self.made))
        self.kept.append({})
        for tensor in cut.has:
            if tensor not in self.made and (tensor in cut.found or tensor in cut.kept):
                self._filled(band, tensor)
                self._keep(band, tensor)
        for name in self.names:
            self._run(band, self.layers[name])
        return band

    def _run(self, band: _Band, layer: Layer) -> None:
        """One layer of the run in a band, with the windows that it is the first to read."""
        cut = band.cut.layers[layer.name]
        inputs: list[Operand] = []
        for operand, window in zip(layer.inputs, cut.windows, strict=True):
            source, (begin, end) = self._source(operand.tensor, band)
            found = source
            if window != (begin, end):
                found = self._window(band, operand.tensor, window)
            inputs.append(operand_of(self._tensor(found)))
        tensor = layer.output
        output = f"{tensor}#{band.number}"
        if tensor in band.cut.found:
            self._left(band, tensor)
            output += ".new"
        band.add(tensor, self._layer(layer, cut, tuple(inputs), band.number, output))
        if tensor in band.cut.found:
            self._bordered(band, tensor)
        self._keep(band, tensor)

    # ---------------------------------------------------------------- maps

    def _tensor(self, name: str) -> Tensor:
        return self.tensors[name] if name in self.tensors else self.network.tensors[name]

    def _source(self, tensor: str, band: _Band) -> tuple[str, Columns]:
        """Where a band finds a map: its name there, and its columns."""
        if tensor in self.made:
            return f"{tensor}#{band.number}", band.cut.has[tensor]
        return tensor, (0, self.network.tensors[tensor].shape[3])

    def _some(self, tensor: str, name: str, columns: Columns) -> Tensor:
        """Columns of a map of the source, by themselves."""
        whole = self.network.tensors[tensor]
        shape = (*whole.shape[:3], columns[1] - columns[0])
        self.tensors[name] = replace(whole, name=name, shape=shape)
        return self.tensors[name]

    def _new(self, tensor: str, name: str, columns: Columns) -> Tensor:
        """A map of a band: columns of one of the source, cut along its columns as that one is."""
        self.shown[name] = tensor, columns
        self.columnar[name] = None
        return self._some(tensor, name, columns)

    def _window(self, band: _Band, tensor: str, window: Columns) -> str:
        """Columns of a map as a layer reads them; one window for all that read the same."""
        source, (begin, _) = self._source(tensor, band)
        key = source, (window[0] - begin, window[1] - begin)
        if key not in band.windows:
            own = source if source in self.tensors else f"{source}#{band.number}"
            output = f"{own}.{self.number}.{len(band.windows)}"
            band.windows[key] = self._shows(band, tensor, output, window)
        return band.windows[key].output

    def _shows(self, band: _Band, tensor: str, output: str, window: Columns) -> Layer:
        """A window: a slice of a map that says where columns lie."""
        source, (begin, _) = self._source(tensor, band)
        self.columnar[source] = None
        shown = self._new(tensor, output, window)
        op = Slice((0, 0, 0, window[0] - begin), shown.shape, (1, 1, 1, 1))
        layer = self._plain(f"window:{output}", op, (self._tensor(source),), shown)
        self.windows.add(layer.name)
        band.add(tensor, layer)
        return layer

    def _layer(
        self, layer: Layer, cut: ColumnCut, inputs: tuple[Operand, ...], number: int, output: str
    ) -> Layer:
        made = self._new(layer.output, output, cut.columns)
        owner = f"{layer.name}#0" if number and layer.weights else None
        return replace(
            layer, name=f"{layer.name}#{number}", op=cut.op, inputs=inputs, output=output,
            output_shape=made.shape, constants_of=owner,
        )  # fmt: skip

    # ---------------------------------------------------------------- borders

    def _keep(self, band: _Band, tensor: str) -> None:
        """Copy what the band behind needs of a map, where it keeps that border."""
        columns = band.cut.kept.get(tensor)
        if columns is None:
            return
        name = self._border(tensor, band.number + 1, columns)
        layer = self._shows(band, tensor, f"{name}.window", columns)
        copy = self._copy(f"keep:{name}", layer.output, self.tensors[name])
        self.keepers.add(copy.name)
        self.kept[-1][tensor] = name
        band.add(tensor, copy)
        band.copies.setdefault(tensor, []).append(copy)

    def _border(self, tensor: str, number: int, columns: Columns) -> str:
        """The map of a border that band `number` finds: a map of its own, no part of another."""
        name = f"{tensor}#{number}.kept.{self.number}"
        self._some(tensor, name, columns)
        return name

    def _left(self, band: _Band, tensor: str) -> str:
        """Copy the border that the band before kept into the rows of the map."""
        columns = band.cut.found[tensor]
        name = self._border(tensor, band.number, columns)
        left = self._new(tensor, f"{tensor}#{band.number}.left.{self.number}", columns)
        copy = self._copy(f"copy:{left.name}", name, left)
        band.add(tensor, copy)
        band.copies.setdefault(tensor, []).append(copy)
        return copy.name

    def _filled(self, band: _Band, tensor: str) -> None:
        """The border of a map from outside lies beside its columns that are loaded."""
        if tensor in band.cut.found:
            self.columnar[tensor] = None
            self.fills[self._left(band, tensor)] = tensor, band.cut.found[tensor]

    def _bordered(self, band: _Band, tensor: str) -> None:
        """Border and new columns of a map of the run, one beside the other."""
        name = f"{tensor}#{band.number}"
        pieces = [self.tensors[f"{name}.left.{self.number}"], self.tensors[f"{name}.new"]]
        whole = self._new(tensor, name, band.cut.has[tensor])
        band.add(tensor, self._plain(f"border:{name}", Concat(3), pieces, whole))

    def _copy(self, name: str, source: str, target: Tensor) -> Layer:
        op = Slice((0,) * 4, target.shape, (1,) * 4)
        return self._plain(name, op, (self.tensors[source],), target)

    def _plain(self, name: str, op: Slice | Concat, read: Sequence[Tensor], made: Tensor) -> Layer:
        inputs = tuple(operand_of(tensor) for tensor in read)
        return Layer(name, op, inputs, made.name, made.shape, images=made.images)


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

    Windows, borders and joins stand for the map that they show.
    """
    found = banded(network, bands)
    known = {layer.name for layer in network.layers} | set(network.tensors)
    for name in (*found.network.tensors, *(layer.name for layer in found.network.layers)):
        plain = name
        while plain not in known and "#" in plain:
            plain = plain.rpartition("#")[0]
        yield name, plain if plain in known else _unprefixed(plain)


def _unprefixed(name: str) -> str:
    """Name of the map that a layer shows, keeps or copies."""
    found = (name.removeprefix(prefix) for prefix in _PREFIXES if name.startswith(prefix))
    return next(found, name)
