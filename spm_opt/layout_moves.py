"""Transfers as records: what moves, from which DRAM address, in how many runs, at what price.

Start cycles are not known here; a transfer's ``end_cycle`` is its duration until it is timed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from spm_opt.cost.dram import moved_bytes, transfer_cycles
from spm_opt.parts_space import channel_weight_bytes
from spm_opt.problem import Candidate
from spm_opt.schedule import Transfer
from spm_opt.site import Site
from spm_opt.tiling import Channels, channel_runs
from spm_opt.units import align_up


@dataclass(frozen=True, slots=True)
class Moves:
    """Writes transfers between a site's scratchpad and its DRAM."""

    site: Site
    addresses: dict[str, int]

    def weights(
        self, index: int, buffer: int, step: int, need_step: int, tile: int | None,
        channels: Channels, size: int,
    ) -> Transfer:  # fmt: skip
        """Load `size` bytes: the constants of `channels` of a layer."""
        layer, dram = self.site.network.layers[index], self.site.hardware.dram
        begin = 0 if channels is None else channel_weight_bytes(layer, (0, channels[0]))
        moved = moved_bytes(dram, size)
        return Transfer(
            "load", "weights", layer.name, buffer, step, need_step, tile, (0, 0), channels,
            self.addresses["weights:" + layer.name] + begin, size, 1, moved, 0,
            transfer_cycles(dram, moved),
        )  # fmt: skip

    def map(
        self, kind: str, t: int, buffer: int, step: int, tile: int | None, rows: tuple[int, int],
        channels: Channels,
    ) -> Transfer:  # fmt: skip
        """Load or store rows of a map, all channels or some."""
        tensor, dram = self.site.network.tensors[self.site.map_names[t]], self.site.hardware.dram
        count, offset = rows[1] - rows[0], rows[0] * tensor.row_bytes
        run_bytes, runs = count * tensor.row_bytes, 1
        if channels is not None:
            lead, run_bytes = channel_runs(self.site.network, tensor.name, channels)
            offset += run_bytes // (channels[1] - channels[0]) * channels[0]
            runs = lead * count
        moved = moved_bytes(dram, run_bytes, runs)
        return Transfer(
            kind, "map", tensor.name, buffer, step, step, tile, rows, channels,
            self.addresses[tensor.name] + offset, run_bytes, runs, moved, 0,
            transfer_cycles(dram, moved),
        )  # fmt: skip


def dram_addresses(site: Site, chosen: Iterable[Candidate]) -> dict[str, int]:
    """Addresses, on bursts, of weights and of the maps that DRAM holds."""
    stored = {site.map_names[t] for c in chosen for t in c.stores} | set(site.network.inputs)
    layers = (site.network.layers[index] for index in site.order)
    sizes = {"weights:" + layer.name: layer.weight_bytes for layer in layers if layer.weight_bytes}
    sizes |= {
        name: site.network.tensors[name].size_bytes for name in site.map_names if name in stored
    }
    return _packed(sizes, site.hardware.dram.burst_bytes)


def _packed(sizes: Mapping[str, int], burst_bytes: int) -> dict[str, int]:
    addresses: dict[str, int] = {}
    free = 0
    for name, size in sizes.items():
        addresses[name] = free
        free += align_up(size, burst_bytes)
    return addresses
