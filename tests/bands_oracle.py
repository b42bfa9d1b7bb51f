"""What groups in bands compute, load and hold, walked band by band and tile by tile over sets.

No interval arithmetic and no rolling maxima: which rows and columns an operator needs of its
inputs is asked index by index, and what is there is a set. A map that a band has is a box.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from spm_opt.graph.network import Layer, Network
from spm_opt.graph.ops import Binary, Conv, Pool, Unary

Set = frozenset[int]


@dataclass
class BandWalk:
    """One band.

    Attributes
    ----------
    computed : dict of str to int
        Elements of a channel that each layer computes.
    loaded : dict of str to list of (int, int)
        For each map from outside and tile: rows, and columns of each.
    rows, columns : dict of str to int
        Most rows of every map that are there at once, and its columns.
    total : dict of str to int
        Rows of every map that the band needs at all.
    found, kept : dict of str to set of int
        Columns of the borders found and kept.
    """

    computed: dict[str, int] = field(default_factory=dict)
    loaded: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    columns: dict[str, int] = field(default_factory=dict)
    total: dict[str, int] = field(default_factory=dict)
    found: dict[str, Set] = field(default_factory=dict)
    kept: dict[str, Set] = field(default_factory=dict)


def walk(
    network: Network, names: Sequence[str], edges: Sequence[int], kept: Iterable[str], height: int,
    depth: int,
) -> list[BandWalk]:  # fmt: skip
    """The bands of a run whose last layer's columns are cut at `edges`, rows into `height` each."""
    layers = [x for x in network.layers if x.name in set(names)]
    before: dict[str, Set] = {}
    bands: list[BandWalk] = []
    for begin, end in pairwise(edges):
        band = BandWalk()
        needs, new = _columns(network, layers, frozenset(range(begin, end)), before, set(kept))
        for tensor in kept:
            band.found[tensor] = needs[tensor] & before.get(tensor, frozenset())
            if bands:
                bands[-1].kept[tensor] = band.found[tensor]
        _rows(network, layers, band, new, height, depth)
        band.columns = {tensor: len(columns) for tensor, columns in needs.items()}
        before = {tensor: needs[tensor] | before.get(tensor, frozenset()) for tensor in needs}
        bands.append(band)
    return bands


def _columns(
    network: Network, layers: Sequence[Layer], wanted: Set, before: dict[str, Set], kept: set[str]
) -> tuple[dict[str, Set], dict[str, Set]]:
    """Columns that a band has of every map, and those that it makes or loads itself."""
    needs: dict[str, Set] = {layers[-1].output: wanted}
    new: dict[str, Set] = {}
    for layer in reversed(layers):
        new[layer.output] = _fresh(layer.output, needs, before, kept)
        for i, operand in enumerate(layer.inputs):
            own = {c for x in new[layer.output] for c in _needed(layer, i, x, 3)}
            needs[operand.tensor] = _box(needs.get(operand.tensor, frozenset()) | own)
    for tensor in needs.keys() - new.keys():
        new[tensor] = _fresh(tensor, needs, before, kept)
    return needs, new


def _fresh(
    tensor: str, needs: dict[str, Set], before: dict[str, Set], kept: set[str]
) -> Set:  # fmt: skip
    return needs[tensor] - before.get(tensor, frozenset()) if tensor in kept else needs[tensor]


def _rows(
    network: Network, layers: Sequence[Layer], band: BandWalk, new: dict[str, Set], height: int,
    depth: int,
) -> None:  # fmt: skip
    """Tiles of a band: rows are made or loaded once, and stay while a later tile needs them."""
    total = layers[-1].rows
    tiles = [frozenset(range(r, min(total, r + height))) for r in range(0, total, height)]
    there: dict[str, Set] = {}
    added: dict[str, list[Set]] = {}
    asked: dict[str, list[Set]] = {}
    for tile in tiles:
        needs = {layers[-1].output: tile}
        for layer in reversed(layers):
            fresh = needs.get(layer.output, frozenset()) - there.get(layer.output, frozenset())
            for i, operand in enumerate(layer.inputs):
                own = {r for x in fresh for r in _needed(layer, i, x, 2)}
                needs[operand.tensor] = _box(needs.get(operand.tensor, frozenset()) | own)
        for tensor, rows in needs.items():
            asked.setdefault(tensor, []).append(rows)
            added.setdefault(tensor, []).append(rows - there.get(tensor, frozenset()))
            there[tensor] = there.get(tensor, frozenset()) | rows
    names = {layer.output: layer.name for layer in layers}
    for tensor, rows in added.items():
        if tensor in names:
            band.computed[names[tensor]] = sum(map(len, rows)) * len(new[tensor])
        else:
            band.loaded[tensor] = [(len(own), len(new[tensor])) for own in rows]
        band.total[tensor] = sum(map(len, rows))
        ahead = depth if tensor not in names else 1
        band.rows[tensor] = _most(rows, asked[tensor], ahead)
    last = added[layers[-1].output]
    band.rows[layers[-1].output] = max(
        len(frozenset().union(*last[max(0, t - depth + 1) : t + 1])) for t in range(len(last))
    )


def _most(added: Sequence[Set], asked: Sequence[Set], ahead: int) -> int:
    """Most rows between the first and the last that are there, and needed now or later."""
    most = 1
    for t in range(len(asked)):
        there = frozenset().union(*added[: t + ahead])
        live = there & frozenset().union(*asked[t:])
        most = max(most, len(_box(live)))
    return most


def _box(indices: Iterable[int]) -> Set:
    found = set(indices)
    return frozenset(range(min(found), max(found) + 1)) if found else frozenset()


def _needed(layer: Layer, operand: int, index: int, axis: int) -> Iterable[int]:
    """Indices of an operand, along rows (2) or columns (3), that one of the output needs."""
    op, extent = layer.op, layer.input_shapes[operand][axis]
    if isinstance(op, Conv | Pool):
        at = axis - 2
        first = index * op.stride[at] - op.pads[at]
        taps = (first + op.dilation[at] * k for k in range(op.kernel[at]))
        return [tap for tap in taps if 0 <= tap < extent]
    if isinstance(op, Binary | Unary):
        return [index]
    raise NotImplementedError(op.kind)
