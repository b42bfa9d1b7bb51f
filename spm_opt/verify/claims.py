"""Totals and bounds that the planner claims, against what the commands add up to."""

from __future__ import annotations

from collections.abc import Iterator

from spm_opt.cost.compression import packed_bytes
from spm_opt.cost.compute import least_cycles
from spm_opt.graph.network import needed_rows
from spm_opt.graph.pieces import compulsory_map_bytes, copy_free
from spm_opt.units import ceil_div
from spm_opt.verify.facts import Facts, channel_count, width


def claimed_totals(facts: Facts) -> Iterator[str]:
    """Every claimed total is the sum over the commands."""
    schedule, claims = facts.schedule, facts.schedule.claims
    weights = sum(t.moved_bytes for t in schedule.transfers if t.role == "weights")
    maps = sum(t.moved_bytes for t in schedule.transfers if t.role == "map")
    ends = [c.end_cycle for c in schedule.computes] + [t.end_cycle for t in schedule.transfers]
    totals = (
        ("latency_cycles", claims.latency_cycles, max(ends, default=0)),
        (
            "compute_cycles",
            claims.compute_cycles,
            sum(c.end_cycle - c.start_cycle for c in schedule.computes),
        ),
        ("dram_bytes", claims.dram_bytes, weights + maps),
        ("dram_weight_bytes", claims.dram_weight_bytes, weights),
        ("dram_feature_map_bytes", claims.dram_feature_map_bytes, maps),
        ("macs", claims.macs, schedule.origin.macs),
        ("recomputed_macs", claims.recomputed_macs, _macs_recomputed(facts)),
        (
            "spm_peak_bytes",
            claims.spm_peak_bytes,
            max((b.offset_bytes + b.size_bytes for b in schedule.buffers), default=0),
        ),
    )
    for name, claimed, recomputed in totals:
        if claimed != recomputed:
            yield f"the claim {name} is {claimed}, recomputed: {recomputed}"


def _macs_recomputed(facts: Facts) -> int:
    """MACs done beyond once each; rows that nobody needs may be left out."""
    done: dict[str, int] = dict.fromkeys(facts.layers, 0)
    for command in facts.schedule.computes:
        layer = facts.layers[command.layer]
        part = (command.rows[1] - command.rows[0]) * width(layer, command.channels)
        whole = layer.rows * channel_count(layer)
        if command.summed is not None:
            part *= command.summed[1] - command.summed[0]
            whole *= facts.reductions[command.layer].inputs
        done[command.layer] += layer.macs * part // whole
    again = sum(max(0, macs - facts.layers[name].macs) for name, macs in done.items())
    # bands compute some columns more than once
    return again + facts.schedule.network.macs - facts.schedule.origin.macs


def roofline(facts: Facts) -> Iterator[str]:
    """The claimed roofline is the larger of all compute alone and compulsory traffic alone."""
    schedule, network = facts.schedule, facts.schedule.origin
    rows, idle = needed_rows(network), copy_free(network)
    compute = sum(
        least_cycles(layer, network.tensors[layer.output].dtype, schedule.hardware)
        * rows[layer.output]
        // layer.rows
        for layer in network.layers
        if layer.name not in idle
    )
    compulsory = sum(layer.weight_bytes for layer in network.layers)
    dram = schedule.hardware.dram
    for name, size_bytes in compulsory_map_bytes(network).items():
        compulsory += packed_bytes(dram.compression, network.tensors[name], size_bytes)
    rate = dram.bytes_per_cycle
    traffic = ceil_div(compulsory * rate.denominator, rate.numerator)
    expected = max(compute, traffic)
    if schedule.claims.roofline_cycles != expected:
        yield (
            f"the claim roofline_cycles is {schedule.claims.roofline_cycles}, "
            f"recomputed: {expected} (compute {compute}, compulsory traffic {traffic})"
        )


def proven_bounds(facts: Facts) -> Iterator[str]:
    """Status, objective and bounds agree with each other and with the claims."""
    made, claims = facts.schedule.provenance, facts.schedule.claims
    values = {"latency": claims.latency_cycles, "dram": claims.dram_bytes}
    if claims.energy is not None:
        energy = claims.energy.total_fj
        values |= {"energy": energy, "edp": energy * claims.latency_cycles}
    if made.objective not in values:
        yield f"the objective {made.objective!r} is unknown, allowed: {', '.join(values)}"
    elif made.objective_value != values[made.objective]:
        yield (
            f"the objective value is {made.objective_value}, the claimed {made.objective} "
            f"is {values[made.objective]}"
        )
    if made.objective_bound > made.objective_value:
        yield (
            f"the bound {made.objective_bound} is above the objective value {made.objective_value}"
        )
    if made.status not in ("optimal", "feasible"):
        yield f"the status {made.status!r} is unknown, allowed: optimal, feasible"
    if made.status == "optimal" and made.objective_bound != made.objective_value:
        yield (
            f"the status is optimal, but the bound {made.objective_bound} is not the objective "
            f"value {made.objective_value}"
        )
    if made.latency_lower_bound_cycles > claims.latency_cycles:
        yield (
            f"the latency bound {made.latency_lower_bound_cycles} is above the latency "
            f"{claims.latency_cycles}"
        )
