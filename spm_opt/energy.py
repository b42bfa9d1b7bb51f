"""Energy of a schedule's commands, added up: by level, by tensor kind, by layer.

Facts are read off records that say what runs and what is moved; prices of single tiles come from
`spm_opt.cost.energy`. Nothing is decided here, and the checker counts by itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, astuple, dataclass

import numpy as np

from spm_opt.cost.energy import Tiles, mac_fj, required, tile_energy
from spm_opt.errors import InputError
from spm_opt.graph.densities import first_density_ppm
from spm_opt.graph.network import DTYPE_BYTES, Layer, Network
from spm_opt.graph.ops import row_axis
from spm_opt.graph.sums import reduction, sliced, sum_bytes
from spm_opt.hardware import Energy, Hardware
from spm_opt.schedule import Compute, EnergyClaims, Transfer

Channels = tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class Levels:
    """Femtojoules by level; and of those of scratchpad and DRAM, what is for which tensors."""

    mac_fj: int = 0
    register_file_fj: int = 0
    neighbour_fj: int = 0
    vector_fj: int = 0
    spm_fj: int = 0
    dram_fj: int = 0
    weights_fj: int = 0
    maps_fj: int = 0

    @property
    def total_fj(self) -> int:
        """All levels, leakage left out."""
        return (
            self.mac_fj + self.register_file_fj + self.neighbour_fj + self.vector_fj + self.spm_fj
            + self.dram_fj
        )  # fmt: skip


def add_up(found: Iterable[Levels]) -> Levels:
    """The sum."""
    columns = zip(*(astuple(levels) for levels in found), strict=True)
    return Levels(*(sum(column) for column in columns))


def can_count(network: Network, hardware: Hardware) -> bool:
    """Whether the hardware knows the energy of all that a network asks for."""
    try:
        require_energies(network, hardware)
    except InputError:
        return False
    return True


def require_energies(network: Network, hardware: Hardware) -> None:
    """Refuse a network whose energy the hardware does not say.

    Raises
    ------
    InputError
        Naming the field that is missing.
    """
    energy = required(hardware)
    for layer in network.layers:
        if layer.loops is not None:
            mac_fj(energy, network.tensors[layer.output].dtype)


def claimed_energy(
    network: Network, hardware: Hardware, computes: Sequence[Compute],
    transfers: Sequence[Transfer], latency_cycles: int,
) -> EnergyClaims:  # fmt: skip
    """Totals of a whole schedule.

    Raises
    ------
    InputError
        Where the hardware does not say all energies.
    """
    energy = required(hardware)
    moved = (transfer_energy(energy, transfer) for transfer in transfers)
    found = add_up((*compute_energies(network, hardware, computes), *moved))
    leakage = energy.leakage_fj * latency_cycles
    return EnergyClaims(
        total_fj=found.total_fj + leakage, leakage_fj=leakage, **asdict(found)
    )  # fmt: skip


def transfer_energy(energy: Energy, transfer: Transfer) -> Levels:
    """Of whole bursts, at the DRAM and in the scratchpad."""
    spm, dram = transfer.moved_bytes * energy.spm_fj, transfer.moved_bytes * energy.dram_fj
    weights = transfer.role == "weights"
    return Levels(
        spm_fj=spm, dram_fj=dram, weights_fj=(spm + dram) * weights,
        maps_fj=(spm + dram) * (not weights),
    )  # fmt: skip


def compute_energies(
    network: Network, hardware: Hardware, computes: Sequence[Compute]
) -> list[Levels]:
    """Of every compute command."""
    layers = {layer.name: layer for layer in network.layers}
    alike: dict[tuple[str, int | None, Channels], list[int]] = defaultdict(list)
    for index, compute in enumerate(computes):
        alike[compute.layer, _width(compute.channels), compute.summed].append(index)
    found = [Levels()] * len(computes)
    for (name, width, _), indices in alike.items():
        commands = [computes[i] for i in indices]
        levels = _alike(network, hardware, layers[name], width, commands)
        for index, own in zip(indices, levels, strict=True):
            found[index] = own
    return found


def _alike(
    network: Network, hardware: Hardware, layer: Layer, width: int | None,
    commands: Sequence[Compute],
) -> list[Levels]:  # fmt: skip
    """Of tiles of one layer that have as many channels, and add the same input channels."""
    summed, known = commands[0].summed, reduction(network, layer)
    begin, end = np.array([c.rows for c in commands], dtype=np.int64).T
    weights = layer.weight_bytes
    if width is not None and layer.channel_axis is not None:
        weights = weights * width // layer.output_shape[layer.channel_axis]
    touched = np.array([_map_bytes(network, layer, c) for c in commands], dtype=np.int64)
    if summed is not None and known is not None:
        low, high = known.constants(summed)
        weights = (_channels(layer) if width is None else width) * (high - low)
        layer = sliced(layer, summed[1] - summed[0])
    tiles = Tiles(
        end - begin, begin, touched, np.full_like(begin, weights), width,
        first_density_ppm(network, layer),
    )  # fmt: skip
    e = tile_energy(layer, network.tensors[layer.output].dtype, hardware, tiles)
    columns = (
        e.mac_fj, e.register_fj, e.neighbour_fj, e.vector_fj, e.spm_weights_fj + e.spm_maps_fj,
        np.zeros_like(begin), e.spm_weights_fj, e.spm_maps_fj,
    )  # fmt: skip
    return [Levels(*row) for row in np.stack(columns).T.tolist()]


def _map_bytes(network: Network, layer: Layer, compute: Compute) -> int:
    """Bytes of maps that a tile reads and writes in the scratchpad."""
    begin, end = compute.rows
    written = (end - begin) * _row_bytes(network, layer.output, compute.channels)
    known = None if compute.summed is None else reduction(network, layer)
    total = written
    if known is not None and compute.summed is not None:
        dtype = network.tensors[layer.output].dtype
        sums = written // DTYPE_BYTES[dtype] * sum_bytes(dtype)
        total = sums * (compute.sums is not None)
        total += written if compute.summed[1] == known.inputs else sums
    for i, operand in enumerate(layer.inputs):
        low, high = layer.input_rows(i).needed(begin, end, network.tensors[operand.tensor].rows)
        channels = network.operand_channels(layer, i, compute.channels)
        if known is not None and compute.summed is not None:
            channels = known.read(compute.channels, compute.summed)
        total += (high - low) * _row_bytes(network, operand.tensor, channels)
    return total


def _row_bytes(network: Network, name: str, channels: Channels) -> int:
    """Bytes of one row of channels ``[begin, end)`` of a map."""
    tensor, axis = network.tensors[name], network.channel_axes.get(name)
    if channels is None or axis is None or axis == row_axis(tensor.shape):
        return tensor.row_bytes
    return tensor.row_bytes * (channels[1] - channels[0]) // tensor.shape[axis]


def _channels(layer: Layer) -> int:
    return 1 if layer.channel_axis is None else layer.output_shape[layer.channel_axis]


def _width(channels: Channels) -> int | None:
    return None if channels is None else channels[1] - channels[0]
