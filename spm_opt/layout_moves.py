"""Transfers as records: what moves, from which DRAM address, in how many runs, at what price.

Start cycles are not known here; a transfer's ``end_cycle`` is its duration until it is timed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from spm_opt.allocation.greedy import greedy_offsets
from spm_opt.allocation.rectangles import Rectangle
from spm_opt.cost.compression import map_share
from spm_opt.cost.dram import moved_bytes, transfer_cycles
from spm_opt.graph.sums import Reduction
from spm_opt.parts_space import channel_weight_bytes
from spm_opt.problem import Candidate
from spm_opt.schedule import Transfer
from spm_opt.site import Site
from spm_opt.tiling import Channels, channel_runs
from spm_opt.units import align_up, ceil_div


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

    def slice(
        self, index: int, buffer: int, step: int, tile: int, channels: tuple[int, int],
        summed: tuple[int, int], known: Reduction,
    ) -> Transfer:  # fmt: skip
        """Load the constants of some input channels: one run for each of the output `channels`."""
        layer, dram = self.site.network.layers[index], self.site.hardware.dram
        (first, last), runs = known.constants(summed), channels[1] - channels[0]
        moved = moved_bytes(dram, last - first, runs)
        begin = self.addresses["weights:" + layer.name] + channels[0] * known.channel_bytes
        return Transfer(
            "load", "weights", layer.name, buffer, step, step, tile, (0, 0), channels,
            begin + first, last - first, runs, moved, 0, transfer_cycles(dram, moved),
            summed=summed,
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
        share = map_share(dram.compression, tensor)
        moved = moved_bytes(dram, run_bytes, runs, share)
        return Transfer(
            kind, "map", tensor.name, buffer, step, step, tile, rows, channels,
            self.addresses[tensor.name] + offset, run_bytes, runs, moved, 0,
            transfer_cycles(dram, moved),
        )  # fmt: skip


def dram_addresses(
    site: Site, chosen: Sequence[Candidate], reloads: Iterable[tuple[int, int]]
) -> dict[str, int]:
    """Addresses, on bursts, of weights and of the maps that DRAM holds.

    Weights, inputs and outputs have places of their own, in this order; behind them, spilled maps
    share theirs where one is not stored before another has been loaded for the last time.

    Parameters
    ----------
    site : Site
    chosen : sequence of Candidate
        One for each step.
    reloads : iterable of (int, int)
        Maps loaded whole, and the step before which that happens at the latest.
    """
    network, burst = site.network, site.hardware.dram.burst_bytes
    spans = _stored_steps(site, chosen, reloads)
    layers = [network.layers[i] for i in site.order if network.layers[i].constants_of is None]
    sizes = {"weights:" + layer.name: layer.weight_bytes for layer in layers if layer.weight_bytes}
    own = [name for name in network.inputs if name not in sizes]
    own += [name for name in network.outputs if name in spans and name not in own]
    sizes |= {name: network.tensors[name].size_bytes for name in own}
    addresses, free = _packed(sizes, burst)
    spilled = {
        name: Rectangle(*span, ceil_div(network.tensors[name].size_bytes, burst))
        for name, span in spans.items()
        if name not in addresses
    }
    offsets = greedy_offsets(list(spilled.values()))
    return addresses | {
        name: free + offset * burst for name, offset in zip(spilled, offsets, strict=True)
    }


def _stored_steps(
    site: Site, chosen: Sequence[Candidate], reloads: Iterable[tuple[int, int]]
) -> dict[str, tuple[int, int]]:
    """For each map stored, the steps from its first store on until its last load or store.

    A map may be written as the one that joins its pieces, and read as itself: both lie there.
    """
    spans: dict[str, tuple[int, int]] = {}
    names = site.map_names
    for step, candidate in enumerate(chosen):
        for name in (names[t] for t in candidate.stores):
            spans[name] = spans.get(name, (step, step))[0], step + 1
        for name in (names[t] for t in candidate.streams):
            if name in spans:  # inputs are stored by nobody
                spans[name] = spans[name][0], step + 1
    for t, end in reloads:
        if names[t] in spans:
            spans[names[t]] = spans[names[t]][0], max(spans[names[t]][1], end)
    return {name: spans[name] for name in dict.fromkeys(names) if name in spans}


def _packed(sizes: Mapping[str, int], burst_bytes: int) -> tuple[dict[str, int], int]:
    """Addresses side by side, and the first that is free behind them."""
    addresses: dict[str, int] = {}
    free = 0
    for name, size in sizes.items():
        addresses[name] = free
        free += align_up(size, burst_bytes)
    return addresses, free
