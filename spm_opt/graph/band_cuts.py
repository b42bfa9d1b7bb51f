"""What each band of a run computes, loads, and finds: columns of every map, no network yet.

A map may *keep its border*: the columns of it that a band needs, and that the band before it had,
stay in the scratchpad from one to the other. The band then computes (or loads, of a map from
outside) the columns behind them only. Of all other maps it has what it needs made for itself.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from spm_opt.errors import GraphError
from spm_opt.graph.columns import ColumnCut, Columns, column_cut
from spm_opt.graph.network import Layer, Network


@dataclass(frozen=True, slots=True)
class BandCut:
    """One band of a run.

    Attributes
    ----------
    layers : mapping of str to ColumnCut
        Each layer, for the columns that the band computes.
    has : mapping of str to (int, int)
        Columns of every map, made in the run or outside, that the band's layers find.
    found : mapping of str to (int, int)
        Those of them that the band before kept.
    kept : mapping of str to (int, int)
        Those that are kept for the band behind.
    """

    layers: Mapping[str, ColumnCut]
    has: Mapping[str, Columns]
    found: Mapping[str, Columns]
    kept: Mapping[str, Columns]


def band_cuts(network: Network, names: Sequence[str], columns: Columns) -> Mapping[str, ColumnCut]:
    """Each layer of a run for what it takes to compute `columns` of the last one's output.

    Raises
    ------
    GraphError
        Naming a layer that cannot be cut into columns.
    """
    return _Cutter(network, names, ()).cut(columns).layers


def run_cuts(
    network: Network, names: Sequence[str], bands: Sequence[Columns], kept: Collection[str] = ()
) -> tuple[BandCut, ...]:
    """The bands of a run that compute the columns `bands` of its last layer's output, in order.

    Parameters
    ----------
    kept : collection of str
        Maps that keep their borders.

    Raises
    ------
    GraphError
        Naming a layer that cannot be cut into columns, or a map that can keep no border: one band
        has all of it that the next one needs, or not all of what that one needs from before.
    """
    cutter = _Cutter(network, names, kept)
    cuts = [cutter.cut(columns) for columns in bands]
    for before, behind in pairwise(cuts):
        for tensor, (begin, _) in behind.found.items():
            if begin < before.has[tensor][0]:
                raise GraphError("a band needs columns that the one before has not", field=tensor)
    left = [*(cut.found for cut in cuts[1:]), {}]
    return tuple(replace(cut, kept=kept) for cut, kept in zip(cuts, left, strict=True))


class _Cutter:
    """Cuts one band after another; knows up to where maps that keep borders are there."""

    def __init__(self, network: Network, names: Sequence[str], kept: Collection[str]) -> None:
        self.network, self.names, self.kept = network, names, kept
        self.layers = {layer.name: layer for layer in network.layers}
        self.begun: dict[str, int] = {}

    def cut(self, columns: Columns) -> BandCut:
        needed: dict[str, Columns] = {self.layers[self.names[-1]].output: columns}
        cuts: dict[str, ColumnCut] = {}
        found: dict[str, Columns] = {}
        for name in reversed(self.names):
            layer = self.layers[name]
            cut = self._layer(layer, needed, found)
            if name == self.names[-1] and cut.columns != columns:
                raise _uncut(name)
            cuts[name] = cut
            begin = found.get(layer.output, cut.columns)[0]
            needed[layer.output] = begin, cut.columns[1]
            self._ask(layer, cut, needed)
        made = {self.layers[name].output for name in self.names}
        for tensor in self.kept:
            if tensor in needed and tensor not in made:
                self._new(tensor, needed[tensor], found)
        self.begun = {t: needed[t][1] for t in self.kept if t in needed}
        return BandCut(cuts, needed, found, {})

    def _layer(
        self, layer: Layer, needed: Mapping[str, Columns], found: dict[str, Columns]
    ) -> ColumnCut:
        """A layer for those of the columns needed that are not there."""
        if layer.output not in needed:
            raise _uncut(layer.name)
        cut = column_cut(layer, self._new(layer.output, needed[layer.output], found))
        if cut is None:
            raise _uncut(layer.name)
        return cut

    def _new(self, tensor: str, columns: Columns, found: dict[str, Columns]) -> Columns:
        """Columns of a map that no band before kept; what one did is `found`."""
        begun = self.begun.get(tensor, 0)
        if begun <= columns[0]:
            return columns
        if begun >= columns[1]:
            raise GraphError("a band needs nothing new of this map", field=tensor)
        found[tensor] = columns[0], begun
        return begun, columns[1]

    def _ask(self, layer: Layer, cut: ColumnCut, needed: dict[str, Columns]) -> None:
        for operand, window in zip(layer.inputs, cut.windows, strict=True):
            if operand.shape != self.network.tensors[operand.tensor].shape:
                raise GraphError("this layer sees its input under another shape", field=layer.name)
            low, high = needed.get(operand.tensor, window)
            needed[operand.tensor] = min(low, window[0]), max(high, window[1])


def _uncut(name: str) -> GraphError:
    return GraphError("this layer cannot be cut into bands of columns", field=name)
