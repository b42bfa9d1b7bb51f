"""A network in numbers, before anything is planned.

Counts what the network holds and asks the planner for the two sizes that depend on plans; it
knows no file and prints nothing.
"""

from __future__ import annotations

from collections import Counter

from spm_opt.graph.network import Layer, Network
from spm_opt.hardware import Hardware
from spm_opt.report import InfoFigures, LargestLayer


def network_figures(network: Network, hardware: Hardware) -> InfoFigures:
    """Every number that ``spm-opt info`` reports of a normalised network of at least one layer."""
    from spm_opt.planner import minimum_peak_bytes, minimum_spm_bytes

    minimum, limiting_layer = minimum_spm_bytes(network, hardware)
    return InfoFigures(
        model=network.name,
        hardware=hardware.name,
        dtypes=sorted({network.tensors[layer.output].dtype for layer in network.layers}),
        layers=len(network.layers),
        operators=operator_counts(network),
        macs=network.macs,
        parameters=network.parameters,
        weight_bytes=network.weight_bytes,
        feature_map_bytes=network.feature_map_bytes,
        largest_layer=largest_layer(network),
        minimum_spm_bytes=minimum,
        minimum_spm_layer=limiting_layer,
        minimum_peak_bytes=minimum_peak_bytes(network, hardware),
        spm_capacity_bytes=hardware.spm.capacity_bytes,
        warnings=list(network.warnings),
    )


def operator_counts(network: Network) -> dict[str, int]:
    """Layers of each operator kind, the most frequent first."""
    return dict(Counter(layer.op.kind for layer in network.layers).most_common())


def largest_layer(network: Network) -> LargestLayer:
    """The layer with the largest working set; the first of equals."""
    largest = max(network.layers, key=lambda layer: working_set_bytes(network, layer))
    return LargestLayer(name=largest.name, working_set_bytes=working_set_bytes(network, largest))


def working_set_bytes(network: Network, layer: Layer) -> int:
    """Bytes of a layer's inputs (each once), output and constants, all whole."""
    maps = {operand.tensor for operand in layer.inputs} | {layer.output}
    return sum(network.tensors[name].size_bytes for name in maps) + layer.weight_bytes
