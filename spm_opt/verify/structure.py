"""Well-formedness: every record names things that exist, in ranges that exist.

The other rules look things up without asking; what they may not meet is refused here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any, Final

from spm_opt.errors import GraphError
from spm_opt.graph.bands import banded
from spm_opt.graph.network import Layer
from spm_opt.graph.pieces import copy_free
from spm_opt.graph.sums import reduction
from spm_opt.schedule import (
    FORMAT_VERSION,
    Buffer,
    Compute,
    EnergyClaims,
    Schedule,
    Step,
    Transfer,
)
from spm_opt.verify.facts import (
    ROW_KINDS,
    TILE_KINDS,
    WEIGHT_KINDS,
    channel_count,
    map_channel_count,
    weight_bytes,
)

#: beyond this, 64-bit products of sizes and bandwidths could wrap
_LARGEST: Final = 2**45
_MOST_ROWS: Final = 2**24


def malformed(schedule: Schedule) -> Iterator[str]:
    """Sentences about records that cannot be resolved."""
    wrong_types = tuple(_types(schedule))
    if wrong_types:
        yield from wrong_types
        return
    if schedule.version != FORMAT_VERSION:
        yield f"the schedule has version {schedule.version}, only {FORMAT_VERSION} is known"
    yield from _network_limits(schedule)
    yield from _network_in_bands(schedule)
    layers = {layer.name: layer for layer in schedule.network.layers}
    for index, step in enumerate(schedule.steps):
        yield from _step(f"step {index}", step, layers)
    for index, buffer in enumerate(schedule.buffers):
        yield from _buffer(f"buffer {index} ({buffer.name!r})", buffer, schedule, layers)
    yield from _unique_names(schedule.buffers)
    for index, transfer in enumerate(schedule.transfers):
        yield from _transfer(f"transfer {index}", transfer, schedule, layers)
    for index, compute in enumerate(schedule.computes):
        yield from _compute(f"compute {index}", compute, schedule, layers)
    yield from _tiles_exist(schedule)


def _integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _LARGEST


def _integers(value: object) -> bool:
    return isinstance(value, tuple) and all(_integer(item) for item in value)


def _pair(value: object) -> bool:
    return _integers(value) and isinstance(value, tuple) and len(value) == 2


def _strings(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(item, str) for item in value)


def _energies(value: object) -> bool:
    """Sums that nothing multiplies: any whole number will do."""
    return value is None or (
        isinstance(value, EnergyClaims)
        and all(type(getattr(value, item.name)) is int for item in fields(value))
    )


_TYPE_CHECKS: Final[dict[str, Callable[[Any], bool]]] = {
    "int": _integer,
    "int | None": lambda value: value is None or _integer(value),
    "tuple[int, int]": _pair,
    "tuple[int, int] | None": lambda value: value is None or _pair(value),
    "tuple[int, ...]": _integers,
    "tuple[str, ...]": _strings,
    "EnergyClaims | None": _energies,
    "str": lambda value: isinstance(value, str),
}


def _types(schedule: Schedule) -> Iterator[str]:
    groups: tuple[tuple[str, tuple[Any, ...]], ...] = (
        ("step", schedule.steps),
        ("buffer", schedule.buffers),
        ("transfer", schedule.transfers),
        ("compute", schedule.computes),
        ("claims", (schedule.claims,)),
    )
    for what, records in groups:
        for index, record in enumerate(records):
            yield from _record_types(f"{what} {index}", record)
    for name, address in schedule.dram_addresses.items():
        if not _integer(address):
            yield f"the DRAM address of {name!r} is {address!r}, not an integer"


def _record_types(where: str, record: Any) -> Iterator[str]:
    for item in fields(record):
        value = getattr(record, item.name)
        if not _TYPE_CHECKS[str(item.type)](value):
            yield f"{where}: {item.name} is {value!r}, not of type {item.type} (or beyond range)"


def _network_limits(schedule: Schedule) -> Iterator[str]:
    for name, tensor in schedule.network.tensors.items():
        if tensor.rows > _MOST_ROWS or tensor.size_bytes > _LARGEST:
            yield f"tensor {name!r} of shape {tensor.shape} is too large to be checked"
    if schedule.hardware.spm.capacity_bytes > _LARGEST:
        yield "the scratchpad is too large to be checked"


def _network_in_bands(schedule: Schedule) -> Iterator[str]:
    """Bands, windows and borders are those of the network that was given."""
    if not schedule.bands:
        return
    try:
        network = banded(schedule.origin, schedule.bands).network
    except GraphError as error:
        yield f"the bands cannot be those of the network: {error}"
        return
    if network != schedule.network:
        yield "the network is not the one that its bands make"


def _step(where: str, step: Step, layers: dict[str, Layer]) -> Iterator[str]:
    if not step.layers:
        yield f"{where} has no layer"
    for name in step.layers:
        if name not in layers:
            yield f"{where} names the unknown layer {name!r}"
    if step.axis not in ("rows", "channels", "blocks", "sums"):
        yield f"{where} has the unknown axis {step.axis!r}"
    if step.halo not in ("retain", "recompute"):
        yield f"{where} has the unknown halo policy {step.halo!r}"
    if step.depth not in (1, 2):
        yield f"{where} has depth {step.depth}, allowed: 1, 2"
    if step.tiles < 1:
        yield f"{where} has {step.tiles} tiles"
    if step.channels is not None and len(step.layers) != 1:
        yield f"{where} is a channel slice of {len(step.layers)} layers; only one can be sliced"
    elif step.channels is not None and step.layers[0] in layers:
        yield from _channels(where, step.channels, _layer_channels(layers[step.layers[0]]))


def _channels(where: str, channels: tuple[int, int] | None, total: int | None) -> Iterator[str]:
    if channels is None:
        return
    if total is None:
        yield f"{where} has channels {list(channels)} of something that has no channels to cut"
    elif not 0 <= channels[0] < channels[1] <= total:
        yield f"{where} has channels {list(channels)}, outside 0 .. {total}"


def _layer_channels(layer: Layer) -> int | None:
    cuttable = layer.channel_axis is not None
    return channel_count(layer) if cuttable else None


def _owner(
    kind: str, name: str, schedule: Schedule, layers: dict[str, Layer]
) -> tuple[bool, int | None]:
    """Whether the thing exists, and how many channels it has; None where nothing cuts it."""
    if kind in WEIGHT_KINDS:
        return name in layers, _layer_channels(layers[name]) if name in layers else None
    network = schedule.network
    cuttable = name in network.channel_axes
    return name in network.tensors, map_channel_count(network, name) if cuttable else None


def _buffer(
    where: str, buffer: Buffer, schedule: Schedule, layers: dict[str, Layer]
) -> Iterator[str]:
    if buffer.kind not in (*ROW_KINDS, *TILE_KINDS, *WEIGHT_KINDS):
        yield f"{where} has the unknown kind {buffer.kind!r}"
        return
    known, channels = _owner(buffer.kind, buffer.tensor, schedule, layers)
    if not known:
        yield f"{where} holds the unknown {_noun(buffer.kind)} {buffer.tensor!r}"
        return
    yield from _channels(where, buffer.channels, channels)
    if buffer.count < 1 or buffer.unit_bytes < 1:
        yield f"{where} has {buffer.count} units of {buffer.unit_bytes} bytes"
    if buffer.shares is not None and not 0 <= buffer.shares < len(schedule.buffers):
        yield f"{where} shares buffer {buffer.shares}, outside 0 .. {len(schedule.buffers)}"
    if not 0 <= buffer.first_step < buffer.end_step <= len(schedule.steps):
        yield (
            f"{where} is resident at steps {buffer.first_step} .. {buffer.end_step}, "
            f"outside 0 .. {len(schedule.steps)}"
        )


def _noun(kind: str) -> str:
    return "layer" if kind in WEIGHT_KINDS else "tensor"


def _unique_names(buffers: tuple[Buffer, ...]) -> Iterator[str]:
    seen: set[str] = set()
    for buffer in buffers:
        if buffer.name in seen:
            yield f"two buffers have the name {buffer.name!r}"
        seen.add(buffer.name)


def _buffer_index(where: str, index: int, schedule: Schedule) -> Iterator[str]:
    if not 0 <= index < len(schedule.buffers):
        yield f"{where} names buffer {index}, outside 0 .. {len(schedule.buffers)}"


def _tile(where: str, step: int, tile: int, schedule: Schedule) -> Iterator[str]:
    if not 0 <= step < len(schedule.steps):
        yield f"{where} belongs to step {step}, outside 0 .. {len(schedule.steps)}"
    elif not 0 <= tile < schedule.steps[step].tiles:
        yield f"{where} belongs to tile {tile}, outside 0 .. {schedule.steps[step].tiles}"


def _transfer(
    where: str, transfer: Transfer, schedule: Schedule, layers: dict[str, Layer]
) -> Iterator[str]:
    if transfer.kind not in ("load", "store") or transfer.role not in ("map", "weights"):
        yield f"{where} is an unknown transfer {transfer.kind!r} of {transfer.role!r}"
        return
    known, channels = _owner(transfer.role, transfer.tensor, schedule, layers)
    if not known:
        yield f"{where} moves the unknown {_noun(transfer.role)} {transfer.tensor!r}"
        return
    yield from _channels(where, transfer.channels, channels)
    yield from _buffer_index(where, transfer.buffer, schedule)
    yield from _tile(where, transfer.step, transfer.tile or 0, schedule)
    if not transfer.step <= transfer.need_step < len(schedule.steps):
        yield f"{where} stands in step {transfer.step} but is needed by step {transfer.need_step}"
    if transfer.need_step != transfer.step and (
        transfer.kind == "load" and transfer.tile is not None
    ):
        yield f"{where} belongs to a tile of step {transfer.step} but names another need_step"
    if transfer.piece is not None:
        yield from _piece(where, transfer, layers)
    if transfer.summed is not None and transfer.role == "map":
        yield f"{where} names input channels summed, which only constants belong to"
    elif transfer.summed is not None:
        layer = layers[transfer.tensor]
        yield from _summed(where, transfer.summed, transfer.channels, layer, schedule)
    limit = schedule.network.tensors[transfer.tensor].rows if transfer.role == "map" else 0
    if transfer.role == "weights" and transfer.rows != (0, 0):
        yield f"{where} moves weights but names rows {list(transfer.rows)}"
    elif transfer.role == "map" and not 0 <= transfer.rows[0] < transfer.rows[1] <= limit:
        yield f"{where} moves rows {list(transfer.rows)}, outside 0 .. {limit}"


def _piece(where: str, transfer: Transfer, layers: dict[str, Layer]) -> Iterator[str]:
    if transfer.role != "weights" or transfer.tile is not None or transfer.summed is not None:
        yield f"{where} is cut into pieces, which only constants moved as a whole can be"
        return
    size = weight_bytes(layers[transfer.tensor], transfer.channels)
    begin, end = transfer.piece or (0, size)
    if not 0 <= begin < end <= size:
        yield f"{where} moves bytes {begin} .. {end} of its constants, outside 0 .. {size}"


def _summed(
    where: str, summed: tuple[int, int], channels: tuple[int, int] | None, layer: Layer,
    schedule: Schedule,
) -> Iterator[str]:  # fmt: skip
    known = reduction(schedule.network, layer)
    if known is None:
        yield f"{where} adds some input channels of {layer.name!r}, which cannot be taken apart"
        return
    if not 0 <= summed[0] < summed[1] <= known.inputs:
        yield f"{where} adds input channels {list(summed)}, outside 0 .. {known.inputs}"
    if not known.one_group(channels or (0, channel_count(layer))):
        yield f"{where} adds input channels of more than one group"


def _compute(
    where: str, compute: Compute, schedule: Schedule, layers: dict[str, Layer]
) -> Iterator[str]:
    layer = layers.get(compute.layer)
    if layer is None:
        yield f"{where} computes the unknown layer {compute.layer!r}"
        return
    yield from _tile(where, compute.step, compute.tile, schedule)
    yield from _channels(where, compute.channels, _layer_channels(layer))
    if compute.summed is not None:
        yield from _summed(where, compute.summed, compute.channels, layer, schedule)
    for index in compute.touched:
        yield from _buffer_index(where, index, schedule)
    if len(compute.inputs) != len(layer.inputs):
        yield f"{where} names {len(compute.inputs)} inputs, the layer has {len(layer.inputs)}"
    if not 0 <= compute.rows[0] < compute.rows[1] <= layer.rows:
        yield f"{where} computes rows {list(compute.rows)}, outside 0 .. {layer.rows}"


def _tiles_exist(schedule: Schedule) -> Iterator[str]:
    computed: dict[int, set[int]] = defaultdict(set)
    for compute in schedule.computes:
        computed[compute.step].add(compute.tile)
    idle = copy_free(schedule.network)
    for index, step in enumerate(schedule.steps):
        # where all pieces lie in place there is nothing to do
        nothing = not computed[index] and step.tiles == 1 and idle.issuperset(step.layers)
        if len(computed[index]) != step.tiles and not nothing:
            yield f"step {index} has {step.tiles} tiles but computes {len(computed[index])} of them"
