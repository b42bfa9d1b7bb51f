"""The schedule, put together: placed buffers, timed commands, claims, provenance."""

from __future__ import annotations

from dataclasses import dataclass, replace

from spm_opt.cost.compression import packed_bytes
from spm_opt.cost.compute import least_cycles
from spm_opt.decision import Decision
from spm_opt.energy import can_count, claimed_energy
from spm_opt.graph.network import Network, needed_rows
from spm_opt.graph.pieces import compulsory_map_bytes, copy_free
from spm_opt.graph.sums import reduction
from spm_opt.hardware import Hardware
from spm_opt.layout import Layout
from spm_opt.schedule import Claims, Compute, EnergyClaims, Provenance, Schedule
from spm_opt.site import Site
from spm_opt.timeline import Timeline
from spm_opt.units import ceil_div


@dataclass(frozen=True, slots=True)
class Placed:
    """A decision with addresses and cycles.

    ``modelled_cycles`` is what it takes where steps are barriers, as the joint model counts;
    ``tiles_and_moves_fj`` is its energy without leakage, 0 where energy is not counted;
    ``site`` is the one that `layout` is for, groups in bands told apart.
    """

    decision: Decision
    site: Site
    layout: Layout
    timeline: Timeline
    offsets: tuple[int, ...]
    modelled_cycles: int
    tiles_and_moves_fj: int = 0

    @property
    def latency_cycles(self) -> int:
        """End of the last command."""
        return self.timeline.latency_cycles

    @property
    def dram_bytes(self) -> int:
        """Bytes of all transfers."""
        return sum(transfer.moved_bytes for transfer in self.timeline.transfers)

    def value(self, objective: str) -> int:
        """Value of an objective (see `spm_opt.params.OBJECTIVES`)."""
        return self._value(objective, self.latency_cycles)

    def modelled(self, objective: str) -> int:
        """The same as the joint model counts it."""
        return self._value(objective, self.modelled_cycles)

    def _value(self, objective: str, cycles: int) -> int:
        if objective == "latency":
            return cycles
        return self.dram_bytes if objective == "dram" else self._energy(objective, cycles)

    def _energy(self, objective: str, cycles: int) -> int:
        energy = self.site.hardware.energy
        leakage = 0 if energy is None else energy.leakage_fj * cycles
        total = self.tiles_and_moves_fj + leakage
        return total * cycles if objective == "edp" else total


def assemble(placed: Placed, provenance: Provenance) -> Schedule:
    """The schedule of a placed plan."""
    site = placed.site
    source = site.network if site.source is None else site.source
    buffers = tuple(
        replace(buffer, offset_bytes=offset)
        for buffer, offset in zip(placed.layout.buffers, placed.offsets, strict=True)
    )
    timeline = placed.timeline
    weights = sum(t.moved_bytes for t in timeline.transfers if t.role == "weights")
    claims = Claims(
        latency_cycles=placed.latency_cycles,
        compute_cycles=sum(c.end_cycle - c.start_cycle for c in timeline.computes),
        dram_bytes=placed.dram_bytes,
        dram_weight_bytes=weights,
        dram_feature_map_bytes=placed.dram_bytes - weights,
        macs=source.macs,
        recomputed_macs=_recomputed_macs(site.network, timeline.computes)
        + site.network.macs
        - source.macs,
        spm_peak_bytes=max((b.offset_bytes + b.size_bytes for b in buffers), default=0),
        roofline_cycles=roofline_cycles(source, site.hardware),
        energy=_energy(placed),
    )
    return Schedule(
        site.network, site.hardware, provenance, timeline.steps, buffers, timeline.transfers,
        timeline.computes, placed.layout.dram_addresses, claims, source=site.source,
        bands=site.bands,
    )  # fmt: skip


def _energy(placed: Placed) -> EnergyClaims | None:
    network, hardware, timeline = placed.site.network, placed.site.hardware, placed.timeline
    if not can_count(network, hardware):
        return None
    return claimed_energy(
        network, hardware, timeline.computes, timeline.transfers, placed.latency_cycles
    )


def tiles_and_moves_fj(site: Site, timeline: Timeline) -> int:
    """Energy of a timeline without leakage; 0 where energy is not counted."""
    if not site.energy:
        return 0
    claims = claimed_energy(
        site.network, site.hardware, timeline.computes, timeline.transfers, latency_cycles=0
    )
    return claims.total_fj


def roofline_cycles(network: Network, hardware: Hardware) -> int:
    """The larger of all compute alone and all compulsory traffic alone (design, section 9).

    Of rows that somebody needs; other rows need neither be computed nor read, and what a
    concatenation or split joins or takes apart may lie in place.
    """
    rows, idle = needed_rows(network), copy_free(network)
    compute = sum(
        least_cycles(layer, network.tensors[layer.output].dtype, hardware)
        * rows[layer.output]
        // layer.rows
        for layer in network.layers
        if layer.name not in idle
    )
    compulsory = network.weight_bytes + sum(
        packed_bytes(hardware.dram.compression, network.tensors[name], size_bytes)
        for name, size_bytes in compulsory_map_bytes(network).items()
    )
    rate = hardware.dram.bytes_per_cycle
    return max(compute, ceil_div(compulsory * rate.denominator, rate.numerator))


def _recomputed_macs(network: Network, computes: tuple[Compute, ...]) -> int:
    """MACs done beyond once each."""
    done: dict[str, int] = {}
    for compute in computes:
        done[compute.layer] = done.get(compute.layer, 0) + _macs(network, compute)
    return sum(max(0, done.get(layer.name, 0) - layer.macs) for layer in network.layers)


def _macs(network: Network, compute: Compute) -> int:
    layer = next(layer for layer in network.layers if layer.name == compute.layer)
    axis = layer.channel_axis
    channels = 1 if axis is None else layer.output_shape[axis]
    part = channels if compute.channels is None else compute.channels[1] - compute.channels[0]
    rows = compute.rows[1] - compute.rows[0]
    work, whole = layer.macs * rows * part, layer.rows * channels
    known = None if compute.summed is None else reduction(network, layer)
    if known is None or compute.summed is None:
        return work // whole
    return work * (compute.summed[1] - compute.summed[0]) // (whole * known.inputs)
