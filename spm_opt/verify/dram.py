"""DRAM: where tensors lie, and which bytes a transfer therefore moves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from spm_opt.schedule import Transfer
from spm_opt.units import align_up
from spm_opt.verify.facts import (
    Facts,
    transfer_label,
    weight_span,
    width,
)

_WEIGHTS = "weights:"


@dataclass(frozen=True, slots=True)
class Extent:
    """Contiguous runs of one transfer, the first at `offset_bytes` from the tensor's address."""

    offset_bytes: int
    run_bytes: int
    runs: int


def extent_of(facts: Facts, transfer: Transfer) -> Extent:
    """Bytes that the rows and channels of a transfer stand for.

    A map lies row by row, a row as ``[lead][channels][rest]``: rows of all channels are one run,
    of a slice ``rows * lead`` runs. Weights of a slice are their proportional part, of a piece its
    bytes; of some input channels they are one run for each output channel.
    """
    if transfer.role == "weights":
        layer = facts.layers[transfer.tensor]
        begin, end = weight_span(layer, transfer.channels)
        if transfer.summed is not None:
            low, high = facts.reductions[layer.name].constants(transfer.summed)
            return Extent(begin + low, high - low, width(layer, transfer.channels))
        first, last = transfer.piece or (0, end - begin)
        return Extent(begin + first, last - first, 1)
    tensor = facts.tensor(transfer.tensor)
    begin, rows = transfer.rows[0], transfer.rows[1] - transfer.rows[0]
    offset = begin * tensor.row_bytes
    if transfer.channels is None:
        return Extent(offset, rows * tensor.row_bytes, 1)
    layout = facts.layout(transfer.tensor)
    first, end = transfer.channels
    return Extent(
        offset + first * layout.rest_bytes, (end - first) * layout.rest_bytes, rows * layout.lead
    )


def transfer_extent(facts: Facts) -> Iterator[str]:
    """A transfer's address and runs are those of its rows and channels."""
    for index, transfer in enumerate(facts.schedule.transfers):
        key = transfer.tensor if transfer.role == "map" else _WEIGHTS + transfer.tensor
        address = facts.schedule.dram_addresses.get(key)
        label = transfer_label(facts, index)
        if address is None:
            yield f"{label} has no DRAM address: {key!r} is not placed in DRAM"
            continue
        extent = extent_of(facts, transfer)
        if transfer.dram_address != address + extent.offset_bytes:
            yield (
                f"{label} has DRAM address {transfer.dram_address:#x}, its data lies at "
                f"{address + extent.offset_bytes:#x}"
            )
        if (transfer.run_bytes, transfer.runs) != (extent.run_bytes, extent.runs):
            yield (
                f"{label} moves {transfer.runs} runs of {transfer.run_bytes} bytes, its rows and "
                f"channels are {extent.runs} runs of {extent.run_bytes}"
            )


def dram_layout(facts: Facts) -> Iterator[str]:
    """Tensors in DRAM start on bursts; only spilled maps overlap, and never while both are used."""
    burst = facts.schedule.hardware.dram.burst_bytes
    regions: list[tuple[int, int, str]] = []
    for key, address in facts.schedule.dram_addresses.items():
        size = _size(facts, key)
        if size is None:
            yield f"the unknown tensor {key!r} has a DRAM address"
            continue
        if address < 0 or address % burst:
            yield f"{key!r} has DRAM address {address:#x}, not aligned to bursts of {burst}"
        # a burst is written whole
        regions.append((address, address + align_up(size, burst), key))
    used = _used(facts)
    for address, one, other in _overlaps(sorted(regions)):
        if one not in used or other not in used:
            yield f"{one!r} and {other!r} overlap in DRAM at {address:#x}"
            continue
        begin, end = max(used[one][0], used[other][0]), min(used[one][1], used[other][1])
        if begin <= end:
            yield (
                f"{one!r} and {other!r} overlap in DRAM at {address:#x}, and both are used from "
                f"{transfer_label(facts, begin)} to {transfer_label(facts, end)}"
            )


def _overlaps(regions: list[tuple[int, int, str]]) -> Iterator[tuple[int, str, str]]:
    """First common byte of each two regions that have one; `regions` are sorted."""
    alive: list[tuple[int, str]] = []
    for address, end, key in regions:
        alive = [(last, other) for last, other in alive if last > address]
        if end > address:
            yield from ((address, other, key) for _, other in alive)
            alive.append((end, key))


def _used(facts: Facts) -> dict[str, tuple[int, int]]:
    """First and last transfer, in the queue's order, of each map that DRAM need not hold always."""
    network = facts.schedule.network
    used: dict[str, tuple[int, int]] = {}
    for index, transfer in enumerate(facts.schedule.transfers):
        name = transfer.tensor
        if transfer.role == "map" and name not in (*network.inputs, *network.outputs):
            used[name] = used.get(name, (index, index))[0], index
    return used


def _size(facts: Facts, key: str) -> int | None:
    # maps first: a tensor of the source may itself be called "weights:..."
    if key in facts.schedule.network.tensors:
        return facts.tensor(key).size_bytes
    layer = facts.layers.get(key.removeprefix(_WEIGHTS)) if key.startswith(_WEIGHTS) else None
    return None if layer is None else layer.weight_bytes
