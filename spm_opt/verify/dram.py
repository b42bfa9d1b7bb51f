"""DRAM: where tensors lie, and which bytes a transfer therefore moves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from spm_opt.schedule import Transfer
from spm_opt.verify.facts import (
    Facts,
    transfer_label,
    weight_span,
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
    bytes.
    """
    if transfer.role == "weights":
        begin, end = weight_span(facts.layers[transfer.tensor], transfer.channels)
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
    """Tensors in DRAM start on bursts and do not overlap."""
    burst = facts.schedule.hardware.dram.burst_bytes
    regions: list[tuple[int, int, str]] = []
    for key, address in facts.schedule.dram_addresses.items():
        size = _size(facts, key)
        if size is None:
            yield f"the unknown tensor {key!r} has a DRAM address"
            continue
        if address < 0 or address % burst:
            yield f"{key!r} has DRAM address {address:#x}, not aligned to bursts of {burst}"
        regions.append((address, address + size, key))
    regions.sort()
    highest_end, highest_key = 0, ""
    for address, end, key in regions:
        if address < highest_end and end > address:
            yield f"{highest_key!r} and {key!r} overlap in DRAM at {address:#x}"
        if end > highest_end:
            highest_end, highest_key = end, key


def _size(facts: Facts, key: str) -> int | None:
    # maps first: a tensor of the source may itself be called "weights:..."
    if key in facts.schedule.network.tensors:
        return facts.tensor(key).size_bytes
    layer = facts.layers.get(key.removeprefix(_WEIGHTS)) if key.startswith(_WEIGHTS) else None
    return None if layer is None else layer.weight_bytes
