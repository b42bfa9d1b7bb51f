"""How maps cross the border of a group: read or streamed in; kept, stored, or both, on the way out.

Each way has constant prices under every cutting of the group's tiles at once. Nothing here knows
which ways go together in one candidate beyond listing them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Final

import numpy as np

from spm_opt.cost.compression import map_share
from spm_opt.cost.dram import moved_bytes_array, transfer_cycles_array
from spm_opt.site import Place, Site
from spm_opt.tiling import (
    Chain,
    Channels,
    Cuttings,
    Ints,
    Rows,
    channel_runs,
    slice_row_bytes,
    stored_rows,
    streamed_rows,
)

#: maps that cross a group's border beyond which they all share one choice
MAX_FREE_MAPS: Final = 4
#: buffer depths, in the order of the arrays below
DEPTHS: Final = (1, 2)


@dataclass(frozen=True, slots=True)
class Use:
    """One way to treat one map at the border of a group.

    Attributes
    ----------
    map : int
        The map that is read, streamed, kept or stored: the operand or output itself, or one that
        holds it.
    kind : str
        ``read``, ``stream``, ``keep``, ``store`` or ``both`` (keep and store).
    cycles : int64 array (tiles,) or None
        Of its transfers; None for none. Loads where it streams; stores out of a rolling buffer
        where it only stores, out of the whole map where it does both.
    space_bytes : int64 array (depths, cuttings)
        What it adds to the working set.
    outside_bytes : int
        Space it takes besides (a map kept by an earlier group).
    dram_bytes : int64 array (cuttings,)
    stored : int or None
        Map to which it is stored where that is another one (``both``).
    elsewhere : bool
        Whether another map holds the operand or output, in SPM or in DRAM.
    """

    map: int
    kind: str
    cycles: Ints | None
    space_bytes: Ints
    outside_bytes: int
    dram_bytes: Ints
    stored: int | None = None
    elsewhere: bool = False

    @property
    def label(self) -> str:
        """Kind, told apart from the same elsewhere."""
        return self.kind + (" elsewhere" if self.elsewhere else "")


@dataclass(frozen=True, slots=True)
class Moves:
    """Transfers of one map: cycles a tile, bytes a cutting, buffer bytes (depths, cuttings)."""

    cycles: Ints
    dram_bytes: Ints
    buffer_bytes: Ints


def aligned(site: Site, size_bytes: Ints) -> Ints:
    """Space that sizes take in the scratchpad."""
    alignment = site.hardware.spm.alignment_bytes
    return -(-size_bytes // alignment) * alignment


def _moves(
    site: Site, tensor: str, rows: Rows, held: Sequence[Ints], cuts: Cuttings, channels: Channels
) -> Moves:
    dram = site.hardware.dram
    share = map_share(dram.compression, site.network.tensors[tensor])
    runs, run_bytes = channel_runs(site.network, tensor, channels)
    if channels is None:
        moved = moved_bytes_array(dram, rows.count * run_bytes, 1, share)
    else:
        moved = moved_bytes_array(dram, np.array([run_bytes]), rows.count * runs, share)
    buffers = aligned(site, np.stack(held) * (runs * run_bytes))
    return Moves(transfer_cycles_array(dram, moved), cuts.total(moved), buffers)


def streamed(site: Site, tensor: str, need: Rows, cuts: Cuttings, channels: Channels) -> Moves:
    """A map whose rows are loaded as tiles need them; `channels` of it, or all."""
    extent = site.network.tensors[tensor].rows
    found = [streamed_rows(need, extent, depth, cuts) for depth in DEPTHS]
    return _moves(site, tensor, found[0][0], [held for _, held in found], cuts, channels)


def stored(
    site: Site, chain: Chain, i: int, channels: Channels, place: Place | None = None
) -> Moves:
    """The output of a chain's layer, stored as tiles make it; to another map's place if given."""
    tensor = site.network.layers[chain.layers[i]].output
    if place is not None:
        tensor, channels = place.tensor, within(place, channels)
    found = [stored_rows(chain, i, depth) for depth in DEPTHS]
    return _moves(site, tensor, found[0][0], [held for _, held in found], chain.cuts, channels)


def within(place: Place, channels: Channels) -> tuple[int, int]:
    """Channels of the map that holds a piece, for channels of the piece."""
    begin, end = place.channels
    return (begin, end) if channels is None else (begin + channels[0], begin + channels[1])


def tiled(site: Site, tensor: str, cuts: Cuttings) -> Moves:
    """A map moved in channel tiles, all its rows at once; `cuts` cut its channels."""
    network, dram = site.network, site.hardware.dram
    runs, channel_bytes = channel_runs(network, tensor, (0, 1))
    rows, share = network.tensors[tensor].rows, map_share(dram.compression, network.tensors[tensor])
    moved = moved_bytes_array(dram, cuts.tiles.count * channel_bytes, runs * rows, share)
    unit = cuts.largest(cuts.tiles.count) * rows * slice_row_bytes(network, tensor, (0, 1))
    buffers = aligned(site, np.stack([depth * unit for depth in DEPTHS]))
    return Moves(transfer_cycles_array(dram, moved), cuts.total(moved), buffers)


def input_uses(
    site: Site, tensor: str, moves: Moves, place: Place | None = None, there: Moves | None = None
) -> list[Use]:
    """Read a map in SPM, or stream it; or the same with the map that holds it.

    Parameters
    ----------
    place, there : optional
        Where else it may lie, and its transfers from there (None: it is not streamed so).
    """
    none, free = np.zeros_like(moves.buffer_bytes), np.zeros_like(moves.dram_bytes)
    index, whole = site.map_index[tensor], _whole_bytes(site, tensor)
    found = [
        Use(index, "read", None, none, whole, free),
        Use(index, "stream", moves.cycles, moves.buffer_bytes, 0, moves.dram_bytes),
    ]
    if place is not None:
        size = _whole_bytes(site, place.tensor)
        found.append(Use(place.map, "read", None, none, size, free, elsewhere=True))
        if there is not None:
            found.append(
                Use(place.map, "stream", there.cycles, there.buffer_bytes, 0, there.dram_bytes,
                    elsewhere=True)
            )  # fmt: skip
    return found


def _whole_bytes(site: Site, tensor: str) -> int:
    return site.aligned(site.network.tensors[tensor].size_bytes)


def output_uses(site: Site, tensor: str, moves: Moves, begins: bool, outside: int) -> list[Use]:
    """Store a map, keep it, or both.

    Parameters
    ----------
    begins : bool
        Whether the group is the first to write the map (not a later slice of it).
    outside : int
        Layers outside the group that read the map.
    """
    index, must = site.map_index[tensor], tensor in site.network.outputs
    inside, kept, free = _kept_bytes(site, tensor, moves, begins)
    found = [Use(index, "store", moves.cycles, moves.buffer_bytes, 0, moves.dram_bytes)]
    if outside and not must:
        found.append(Use(index, "keep", None, inside, kept, free))
    if outside + must >= 2:
        found.append(Use(index, "both", moves.cycles, inside, kept, moves.dram_bytes))
    return found


def _kept_bytes(
    site: Site, tensor: str, moves: Moves, begins: bool
) -> tuple[Ints, int, Ints]:  # fmt: skip
    """Space of a kept map inside the working set and besides it; and no DRAM bytes."""
    whole = _whole_bytes(site, tensor)
    inside = np.full_like(moves.buffer_bytes, whole if begins else 0)
    return inside, 0 if begins else whole, np.zeros_like(moves.dram_bytes)


def joining_uses(
    site: Site, tensor: str, place: Place, moves: Moves, begins: bool, outside: int
) -> list[Use]:
    """Write a map where it is a piece of another: in DRAM, in SPM, or both.

    Parameters
    ----------
    place, moves
        That other map, and the transfers that store the piece there.
    begins : bool
        Whether no other piece is written before.
    outside : int
        Layers outside the group that read the piece.
    """
    inside, kept, free = _kept_bytes(site, place.tensor, moves, begins)
    joined, dram = place.map, moves.dram_bytes
    found = [
        Use(joined, "store", moves.cycles, moves.buffer_bytes, 0, dram, elsewhere=True),
        Use(joined, "both", moves.cycles, inside, kept, dram, elsewhere=True),
    ]
    if place.tensor not in site.network.outputs:
        found.append(Use(joined, "keep", None, inside, kept, free, elsewhere=True))
    if outside >= 2:
        # kept by itself for other readers, and stored as a piece
        own, besides, _ = _kept_bytes(site, tensor, moves, True)
        found.append(
            Use(site.map_index[tensor], "both", moves.cycles, own, besides, dram, joined,
                elsewhere=True)
        )  # fmt: skip
    return found


@lru_cache(maxsize=4096)
def patterns(kinds: tuple[tuple[str, ...], ...]) -> Ints:
    """Which uses go together: free combinations, or shared by kind where there are many maps.

    Parameters
    ----------
    kinds : tuple of tuple of str
        For each map, the labels of its uses.

    Returns
    -------
    int64 array (patterns, uses)
        1 where a pattern has a use, uses numbered through all maps.
    """
    offsets = np.cumsum([0, *(len(options) for options in kinds)])
    picked = list(_free(kinds) if len(kinds) <= MAX_FREE_MAPS else _shared(kinds))
    table = np.zeros((len(picked), int(offsets[-1])), dtype=np.int64)
    for n, choice in enumerate(picked):
        table[n, offsets[:-1] + np.array(choice, dtype=np.int64)] = 1
    table.flags.writeable = False
    return table


def _free(kinds: tuple[tuple[str, ...], ...]) -> list[tuple[int, ...]]:
    return list(product(*(range(len(options)) for options in kinds)))


def _shared(kinds: tuple[tuple[str, ...], ...]) -> list[tuple[int, ...]]:
    if not all(kinds):
        return []  # a map that may be used in no way
    found: dict[tuple[int, ...], None] = {}
    for read, write, suffix in product(
        ("read", "stream"), ("keep", "store", "both"), ("", " elsewhere")
    ):
        wanted = (read + suffix, write + suffix, read, write)
        picked = []
        for options in kinds:
            own = [options.index(kind) for kind in wanted if kind in options]
            picked.append(own[0] if own else 0)
        found[tuple(picked)] = None
    return list(found)
