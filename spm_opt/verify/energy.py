"""Claimed energy against what the commands cost: the prices of single tiles, added up anew."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict

import numpy as np

from spm_opt.cost.energy import Tiles, required, tile_energy
from spm_opt.errors import InputError
from spm_opt.graph.densities import first_density_ppm
from spm_opt.graph.sums import sliced
from spm_opt.schedule import Compute
from spm_opt.verify.engines import inputs_added, read_bytes, transfer_moved
from spm_opt.verify.facts import Facts, channel_count, width


def claimed_energy(facts: Facts) -> Iterator[str]:
    """Every claimed energy is the sum over the commands, and leakage over all cycles."""
    claimed, made = facts.schedule.claims.energy, facts.schedule.provenance
    if claimed is None:
        if made.objective in ("energy", "edp"):
            yield f"the objective is {made.objective}, but no energy is claimed"
        return
    try:
        sums = _sums(facts)
    except InputError as error:
        yield f"energy is claimed, but the hardware does not say it: {error}"
        return
    for name, found in asdict(claimed).items():
        if found != sums[name]:
            yield f"the claim energy.{name} is {found}, recomputed: {sums[name]}"


def _sums(facts: Facts) -> dict[str, int]:
    schedule, energy = facts.schedule, required(facts.schedule.hardware)
    sums: dict[str, int] = defaultdict(int)
    for transfer in schedule.transfers:
        moved = transfer_moved(facts, transfer)
        sums["spm_fj"] += moved * energy.spm_fj
        sums["dram_fj"] += moved * energy.dram_fj
        kind = "weights_fj" if transfer.role == "weights" else "maps_fj"
        sums[kind] += moved * (energy.spm_fj + energy.dram_fj)
    alike: dict[tuple[str, int, int], list[Compute]] = defaultdict(list)
    for command in schedule.computes:
        part = width(facts.layers[command.layer], command.channels)
        alike[command.layer, part, inputs_added(command)].append(command)
    for commands in alike.values():
        _add_tiles(facts, commands, sums)
    ends = [c.end_cycle for c in schedule.computes] + [t.end_cycle for t in schedule.transfers]
    sums["leakage_fj"] = energy.leakage_fj * max(ends, default=0)
    levels = ("mac", "register_file", "neighbour", "vector", "spm", "dram", "leakage")
    sums["total_fj"] = sum(sums[f"{level}_fj"] for level in levels)
    return sums


def _add_tiles(facts: Facts, commands: list[Compute], sums: dict[str, int]) -> None:
    """Add what tiles of one layer cost that are as wide, and add as many input channels."""
    layer, schedule = facts.layers[commands[0].layer], facts.schedule
    part, output = width(layer, commands[0].channels), facts.tensor(layer.output)
    constants = np.array(
        [facts.constant_bytes(layer, c.channels, c.summed) for c in commands], dtype=np.int64
    )
    rows = np.array([c.rows[1] - c.rows[0] for c in commands], dtype=np.int64)
    written = [
        (c.rows[1] - c.rows[0]) * facts.slice_row_bytes(output.name, c.channels)
        if facts.finishes(c)
        else facts.sums_bytes(c)
        for c in commands
    ]
    reads = np.array([read_bytes(facts, c) for c in commands], dtype=np.int64) - constants
    tiles = Tiles(
        rows, np.array([c.rows[0] for c in commands], dtype=np.int64),
        reads + np.array(written, dtype=np.int64), constants,
        None if part == channel_count(layer) else part, first_density_ppm(schedule.network, layer),
    )  # fmt: skip
    added = inputs_added(commands[0])
    layer = sliced(layer, added) if added else layer
    found = tile_energy(layer, output.dtype, schedule.hardware, tiles)
    weights, maps = int(found.spm_weights_fj.sum()), int(found.spm_maps_fj.sum())
    sums["mac_fj"] += int(found.mac_fj.sum())
    sums["register_file_fj"] += int(found.register_fj.sum())
    sums["neighbour_fj"] += int(found.neighbour_fj.sum())
    sums["vector_fj"] += int(found.vector_fj.sum())
    sums["spm_fj"] += weights + maps
    sums["weights_fj"] += weights
    sums["maps_fj"] += maps
