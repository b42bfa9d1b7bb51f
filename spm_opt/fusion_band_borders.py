"""Which maps of a run in bands keep their borders: choices worth pricing, and the bands of each.

Each map may keep its border or not. Two to the number of maps would be too many choices: the maps
stand in line by what a kept column of theirs saves, per byte that it takes, and the choices are
the beginnings of that line, of some lengths. The first keeps nothing, the last all; what does not
fit, or no band needs twice, leaves the line, and a choice must spare more than the one before it.
Every choice is priced like any other group, and compared there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from spm_opt.cost.compute import least_cycles
from spm_opt.errors import GraphError
from spm_opt.graph.band_cuts import BandCut, run_cuts
from spm_opt.graph.columns import Columns
from spm_opt.graph.network import Layer
from spm_opt.site import Site

#: numbers of maps that keep their borders that are tried, besides all
LENGTHS: Final = (0, 1, 2, 4)
#: a choice is tried where it spares this part of the cycles or of the loads of a run, beyond what
#: the one before it does
SPARED: Final = Fraction(1, 128)


@dataclass(frozen=True, slots=True)
class BorderChoice:
    """Maps that keep their borders, and the bands then: one of each sort.

    Attributes
    ----------
    kept : tuple of str
    cuts : tuple of BandCut
        In order; the first and the last band by themselves.
    counts : tuple of int
        How many bands there are of each sort.
    """

    kept: tuple[str, ...]
    cuts: tuple[BandCut, ...]
    counts: tuple[int, ...]


def border_choices(
    site: Site, positions: Sequence[int], bands: Sequence[Columns]
) -> Iterator[BorderChoice]:
    """Choices for the run of layers at `positions`; none where it cannot be cut into `bands`."""
    layers = [site.layer_at(position) for position in positions]
    cycles = [
        least_cycles(layer, site.network.tensors[layer.output].dtype, site.hardware)
        for layer in layers
    ]
    names, line = [layer.name for layer in layers], _line(site, layers, cycles)
    taken, last = 0, (0, 0)
    while taken <= len(line):
        kept = tuple(line[:taken])
        try:
            cuts = run_cuts(site.network, names, bands, kept)
        except GraphError as error:
            if error.field not in kept:
                return
            line.remove(error.field)
            continue
        if kept and not _is_worth(site, kept, cuts):
            line.remove(kept[-1])
            continue
        spent = _spent(site, layers, cycles, cuts)
        less = any(now < before * (1 - SPARED) for now, before in zip(spent, last, strict=True))
        if not kept or (less and (taken in LENGTHS or taken == len(line))):
            last = spent
            yield BorderChoice(kept, *_alike(cuts))
        taken += 1


def _is_worth(site: Site, kept: tuple[str, ...], cuts: Sequence[BandCut]) -> bool:
    """Whether the last map has a border that two bands need, and all of them fit."""
    needed = any(kept[-1] in cut.found for cut in cuts)
    space = max(border_bytes(site, cut, kept) for cut in cuts)
    return needed and space < site.hardware.spm.capacity_bytes


def border_bytes(site: Site, cut: BandCut, kept: Sequence[str]) -> int:
    """Space of the borders that are there while a band runs: found and kept for the next.

    As wide as the one that is found, a border is written over it.
    """
    total = 0
    for tensor in kept:
        whole = site.network.tensors[tensor]
        widths = {_width(own[tensor]) for own in (cut.found, cut.kept) if tensor in own}
        total += sum(site.aligned(whole.size_bytes * w // whole.shape[-1]) for w in widths)
    return total


def _spent(
    site: Site, layers: Sequence[Layer], cycles: Sequence[int], cuts: Sequence[BandCut]
) -> tuple[int, int]:
    """Cycles of all bands of a run, about, and bytes that they load."""
    spent = loaded = 0
    for layer, own in zip(layers, cycles, strict=True):
        columns = sum(_width(cut.layers[layer.name].columns) for cut in cuts)
        spent += own * columns // layer.output_shape[-1]
    for tensor in cuts[0].has.keys() - {layer.output for layer in layers}:
        columns = sum(_width(cut.has[tensor]) for cut in cuts)
        columns -= sum(_width(cut.found[tensor]) for cut in cuts if tensor in cut.found)
        whole = site.network.tensors[tensor]
        loaded += whole.size_bytes * columns // whole.shape[-1]
    return spent, loaded


def _line(site: Site, layers: Sequence[Layer], cycles: Sequence[int]) -> list[str]:
    """Maps of a run by the cycles that a byte of them costs to make or to load, dearest first.

    Those that are copied twice in no fewer cycles than they are made in stand nowhere.
    """
    network, hardware = site.network, site.hardware
    worth: dict[str, Fraction] = {}
    for layer, own in zip(layers[:-1], cycles[:-1], strict=True):
        tensor = network.tensors[layer.output]
        if own * hardware.compute.vector_lanes > 2 * math.prod(tensor.shape):
            worth[layer.output] = Fraction(own, tensor.size_bytes)
    made = {layer.output for layer in layers}
    for layer in layers:
        for operand in layer.inputs:
            if operand.tensor not in made:
                worth[operand.tensor] = 1 / Fraction(hardware.dram.bytes_per_cycle)
    return sorted(worth, key=lambda tensor: -worth[tensor])


def _alike(cuts: Sequence[BandCut]) -> tuple[tuple[BandCut, ...], tuple[int, ...]]:
    """One of each sort of bands, in order, and how many there are; the first and last apart."""
    known: dict[object, int] = {}
    found: list[BandCut] = []
    counts: list[int] = []
    for number, cut in enumerate(cuts):
        key = number == 0, number == len(cuts) - 1, _widths(cut)
        if key in known:
            counts[known[key]] += 1
        else:
            known[key] = len(found)
            found.append(cut)
            counts.append(1)
    return tuple(found), tuple(counts)


def _widths(cut: BandCut) -> tuple[object, ...]:
    """The same for bands that compute, read, find and keep as much, in the same way."""
    layers = tuple(
        (own.op, _width(own.columns), *map(_width, own.windows)) for own in cut.layers.values()
    )
    borders = tuple((t, _width(c)) for own in (cut.found, cut.kept) for t, c in own.items())
    return layers, borders


def _width(columns: Columns) -> int:
    return columns[1] - columns[0]
