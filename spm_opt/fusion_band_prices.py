"""Prices of groups in bands: sums over their bands, of pipelines that are timed together.

As steps they are one: bands run one after another, the working set is the largest of any band, and
what may run before the group, or behind it, is what may run before its first band, or behind its
last.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Final

import numpy as np
from numpy.typing import NDArray

from spm_opt.fusion_band_runs import Band, BandedGroup
from spm_opt.fusion_borders import DEPTHS
from spm_opt.pipeline import Cut, Spans, pipeline_spans
from spm_opt.site import Site
from spm_opt.tiling import Ints

#: rows of `_Known`, in the order in which they are stacked
_FAMILY, _WORK, _DRAM, _VARIANT, _COMPUTE, _EARLY, _LATE, _ENTER, _ENERGY = range(9)
#: sums and ends of the pipelines of an option
_DURATION, _DMA, _LEAST, _WINDOW, _QUEUE, _FIRST, _AHEAD, _BEHIND = range(8)
_NO_BUFFER: Final = 2**62


@dataclass(frozen=True, slots=True)
class Pattern:
    """What of a banded group's maps lies in the scratchpad.

    Attributes
    ----------
    reads : tuple of bool
        Whether each input is read there.
    output : str
        ``store``, ``keep`` or ``both``.
    """

    reads: tuple[bool, ...]
    output: str


def band_patterns(site: Site, group: BandedGroup) -> list[Pattern]:
    """Residency patterns of a group in bands."""
    outside = site.outside_readers(group.output, group.recipe.positions[1] - 1)
    must = group.output in site.network.outputs
    ways = ["store"]
    if outside and not must:
        ways.append("keep")
    if outside + must >= 2:
        ways.append("both")
    streamed = group.streamed
    reads = product(*((False,) if n in streamed else (False, True) for n in group.inputs))
    choices = product(reads, ways)
    return [Pattern(reads, way) for reads, way in choices]


@dataclass(frozen=True, slots=True)
class _Job:
    """Pipelines of one sort of band, under one stripe height and depth, of several options."""

    options: Ints
    count: int
    first: bool
    last: bool
    compute: Ints  # (tiles,)
    load: Ints  # (options, tiles), as the next two
    store: Ints
    written: Ints


@dataclass(frozen=True, slots=True)
class _Table:
    """Prices of patterns (first axis) that need no pipeline; depths and cuttings behind."""

    work: Ints
    room: Ints
    dram: Ints
    early: Ints
    late: Ints


class BandPricer:
    """Collects groups in bands and gives back their options.

    Parameters
    ----------
    capacity_bytes : int
    cut : Cut or None
        As of `pipeline_spans`.
    transfer_fj : int
        Energy of a byte that is moved; 0 where energy is not counted.
    """

    def __init__(self, capacity_bytes: int, cut: Cut | None, transfer_fj: int = 0) -> None:
        self._capacity, self._cut, self._transfer_fj = capacity_bytes, cut, transfer_fj
        self._known: list[Ints] = []
        self._count = 0
        self._jobs: dict[tuple[int, int], list[_Job]] = {}

    def add(
        self, site: Site, group: BandedGroup, patterns: Sequence[Pattern], families: Ints, base: int
    ) -> None:
        """Price `patterns`, of `families`, under every stripe height: variants from `base` on."""
        table = _table(site, group, patterns, self._capacity)
        fits: NDArray[np.bool_] = table.work <= table.room[:, None, None]
        spans = group.bands[0].cuts.spans()
        fits[:, 1:, [end - begin == 1 for begin, end in spans]] = False
        fits[[_is_still(pattern) for pattern in patterns], 1:] = False
        cutting, depth, pattern = np.nonzero(fits.transpose(2, 1, 0))
        if not len(cutting):
            return
        compute = _sum(band.count * band.cuts.total(band.compute) for band in group.bands)
        energy = _sum(band.count * band.cuts.total(band.energy) for band in group.bands)
        dram = table.dram[pattern, cutting]
        variant = base + cutting * len(DEPTHS) + depth
        self._known.append(np.stack((
            families[pattern], table.work[pattern, depth, cutting], dram,
            variant, compute[cutting], table.early[pattern, depth, cutting],
            table.late[pattern, depth, cutting], group.bands[0].enter[cutting],
            energy[cutting] + dram * self._transfer_fj,
        )))  # fmt: skip
        edges = [0, *(np.flatnonzero(np.diff(variant)) + 1).tolist(), len(variant)]
        for begin, end in pairwise(edges):
            chosen = [patterns[p] for p in pattern[begin:end].tolist()]
            numbers = self._count + np.arange(begin, end)
            self._queue(group, chosen, numbers, spans[cutting[begin]], DEPTHS[depth[begin]])
        self._count += len(variant)

    def _queue(
        self, group: BandedGroup, patterns: Sequence[Pattern], numbers: Ints,
        span: tuple[int, int], depth: int,
    ) -> None:  # fmt: skip
        jobs = self._jobs.setdefault((span[1] - span[0], depth), [])
        for number, band in enumerate(group.bands):
            first, last = number == 0, number == len(group.bands) - 1
            jobs.append(_job(band, patterns, numbers, span, first, last))

    def options(self) -> Ints:
        """All options, a column each, as `spm_opt.fusion_prices` has them."""
        if not self._count:
            return np.zeros((20, 0), dtype=np.int64)
        known, ends = np.concatenate(self._known, axis=1), self._timed()
        none = np.zeros(self._count, dtype=np.int64)
        return np.stack((
            known[_FAMILY], ends[_DURATION], ends[_DMA], ends[_LEAST], known[_WORK], known[_DRAM],
            ends[_WINDOW], ends[_QUEUE], ends[_FIRST], -ends[_AHEAD], -ends[_BEHIND],
            known[_EARLY], known[_LATE], -known[_ENTER], none, none, none, known[_ENERGY],
            known[_VARIANT], known[_COMPUTE],
        ))  # fmt: skip

    def _timed(self) -> Ints:
        """Sums over the bands of every option."""
        ends = np.zeros((8, self._count), dtype=np.int64)
        for (_, depth), jobs in self._jobs.items():
            counts = [len(job.options) for job in jobs]
            spans = pipeline_spans(
                np.repeat(np.stack([job.compute for job in jobs]), counts, axis=0),
                np.concatenate([job.load for job in jobs]),
                np.concatenate([job.store for job in jobs]),
                np.concatenate([job.written for job in jobs]),
                depth, self._cut,
            )  # fmt: skip
            _collect(ends, jobs, spans)
        return ends


def _collect(ends: Ints, jobs: Sequence[_Job], spans: Spans) -> None:
    window, begin = spans.window, 0
    for job in jobs:
        own = slice(begin, begin + len(job.options))
        begin = own.stop
        for row, values in (
            (_DURATION, spans.duration_cycles), (_DMA, spans.dma_cycles),
            (_LEAST, spans.least_dma_cycles), (_WINDOW, window.window_cycles),
            (_QUEUE, window.queue_cycles),
        ):  # fmt: skip
            ends[row, job.options] += job.count * values[own]
        if job.first:
            ends[_FIRST, job.options] = window.first_cycles[own]
            ends[_AHEAD, job.options] = window.ahead_cycles[own]
        if job.last:
            ends[_BEHIND, job.options] = window.behind_cycles[own]


def _is_still(pattern: Pattern) -> bool:
    return pattern.output == "keep" and all(pattern.reads)


def _table(site: Site, group: BandedGroup, patterns: Sequence[Pattern], capacity: int) -> _Table:
    streams = np.array([[not read for read in p.reads] for p in patterns], dtype=np.int64)
    stores = np.array([p.output == "store" for p in patterns], dtype=np.int64)
    moves = np.array([p.output != "keep" for p in patterns], dtype=np.int64)
    whole = site.aligned(site.network.tensors[group.output].size_bytes)
    sizes = np.array(
        [site.aligned(site.network.tensors[name].size_bytes) for name in group.inputs],
        dtype=np.int64,
    )
    room = capacity - group.weight_space - (1 - streams) @ sizes
    works = [_space(band, streams, stores) for band in group.bands]
    work = np.max(np.stack(works), axis=0) + (whole * (1 - stores))[:, None, None]
    dram = _sum(band.count * _dram(band, streams, moves) for band in group.bands)
    early, late = _early(group.bands[0], streams), _late(group.bands[-1], stores)
    return _Table(work, room, dram + group.weight_bytes, early, late)


def _sum(arrays: Iterable[Ints]) -> Ints:
    total: Ints = np.sum(np.stack(list(arrays)), axis=0)
    return total


def _space(band: Band, streams: Ints, stores: Ints) -> Ints:
    """Space (patterns, depths, cuttings) of stripes and stream buffers."""
    buffers = np.stack([moves.buffer_bytes for moves in band.inputs])
    total: Ints = np.tensordot(streams, buffers, axes=1) + band.space_bytes
    return total + stores[:, None, None] * band.output.buffer_bytes


def _dram(band: Band, streams: Ints, moves: Ints) -> Ints:
    """Bytes (patterns, cuttings)."""
    total: Ints = streams @ np.stack([m.dram_bytes for m in band.inputs])
    return total + moves[:, None] * band.output.dram_bytes


def _early(band: Band, streams: Ints) -> Ints:
    """Least space (patterns, depths, cuttings) of a stream's buffer; 0 for none."""
    buffers = np.stack([moves.buffer_bytes for moves in band.inputs])
    some = np.where(streams[:, :, None, None] > 0, buffers, _NO_BUFFER).min(axis=1)
    return np.where(some == _NO_BUFFER, 0, some)


def _late(band: Band, stores: Ints) -> Ints:
    return stores[:, None, None] * band.output.buffer_bytes


def _job(
    band: Band, patterns: Sequence[Pattern], options: Ints, span: tuple[int, int], first: bool,
    last: bool,
) -> _Job:  # fmt: skip
    own = slice(*span)
    cycles = np.stack([moves.cycles[own] for moves in band.inputs])
    streams = np.array([[not read for read in p.reads] for p in patterns], dtype=np.int64)
    stores, both = (
        np.array([[p.output == way] for p in patterns], dtype=np.int64) for way in ("store", "both")
    )
    out = band.output.cycles[own]
    return _Job(
        options, band.count, first, last, band.compute[own], streams @ cycles, stores * out,
        both * out,
    )  # fmt: skip


def pattern_maps(
    site: Site, group: BandedGroup, pattern: Pattern
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Maps that a pattern reads, streams, keeps and stores."""
    numbers = [site.map_index[name] for name in group.inputs]
    reads = tuple(sorted(t for t, read in zip(numbers, pattern.reads, strict=True) if read))
    streams = tuple(sorted(set(numbers) - set(reads)))
    made = (site.map_index[group.output],)
    keeps = made if pattern.output != "store" else ()
    return reads, streams, keeps, made if pattern.output != "keep" else ()
