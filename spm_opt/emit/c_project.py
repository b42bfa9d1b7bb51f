"""Everything that a C compiler needs to run a schedule, as files by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from typing import Final

from spm_opt.commands import Stream, lower
from spm_opt.emit.c_memory import Memory, memory_of
from spm_opt.emit.c_program import file_layout, index_bounds, layers_source, schedule_source
from spm_opt.emit.kernels import kernel_sources
from spm_opt.formats.program_json import (
    ConstantRange,
    Manifest,
    MapLayout,
    ProgramMap,
    Scaling,
    manifest_to_json,
)
from spm_opt.graph.bands import source_names
from spm_opt.graph.network import Network
from spm_opt.graph.values import NetworkValues
from spm_opt.schedule import Schedule

#: files that are the same for every network
FIXED_FILES: Final = (
    "dma.h", "dma.c", "rlc.h", "rlc.c", "program.h", "main.c", "Makefile", "PORTING.md",
)  # fmt: skip


def emit_project(schedule: Schedule, values: NetworkValues) -> dict[str, str | bytes]:
    """C sources of a schedule that the checker accepted, with its constants.

    Parameters
    ----------
    schedule : Schedule
    values : NetworkValues
        What its network's constants are worth.

    Returns
    -------
    dict of str to (str or bytes)
        Content by file name; ``weights.bin`` is bytes.

    Raises
    ------
    GraphError
        Naming the layer or tensor: no kernel computes its operator (an opaque one), or its element
        type; or its values are missing.
    """
    return project_of(schedule, lower(schedule), values)


def project_of(schedule: Schedule, stream: Stream, values: NetworkValues) -> dict[str, str | bytes]:
    """As `emit_project`, of a command stream."""
    values = _in_bands(schedule, values)
    layers = layers_source(schedule, stream, values)
    burst = schedule.hardware.dram.burst_bytes
    memory = memory_of(schedule.network, stream, values, burst)
    return {
        **fixed_sources(),
        "layers.h": layers,
        "schedule.c": schedule_source(schedule, stream, memory),
        "weights.bin": b"".join(section.content for section in memory.sections),
        "manifest.json": manifest_to_json(_manifest(schedule, stream, values, memory)),
    }


def _in_bands(schedule: Schedule, values: NetworkValues) -> NetworkValues:
    """Numbers of the network in bands: those of the layers and maps that they stand for."""
    if not schedule.bands:
        return values
    names = dict(source_names(schedule.origin, schedule.bands))
    network = schedule.network
    layers = {x.name: values.layers[names[x.name]] for x in network.layers
              if names[x.name] in values.layers}  # fmt: skip
    tensors = {name: values.tensors[names[name]] for name in network.tensors
               if names[name] in values.tensors}  # fmt: skip
    return NetworkValues(layers, tensors)


def fixed_sources() -> dict[str, str]:
    """Sources that are the same for every network: kernels, DMA engine, host program."""
    return dict(_installed_sources())


@cache
def _installed_sources() -> Mapping[str, str]:
    """As `fixed_sources`, read from the package once."""
    folder = resources.files("spm_opt.emit") / "project_c"
    own = {name: (folder / name).read_text(encoding="utf-8") for name in FIXED_FILES}
    kernels = kernel_sources()
    for kind, place in ((".c", "@SOURCES@"), (".h", "@HEADERS@")):
        named = " ".join(name for name in kernels if name.endswith(kind))
        own["Makefile"] = own["Makefile"].replace(place, named)
    return {**kernels, **own}


def _manifest(
    schedule: Schedule, stream: Stream, values: NetworkValues, memory: Memory
) -> Manifest:
    network, claims = schedule.network, schedule.claims

    def maps(names: Iterable[str], kind: str) -> tuple[ProgramMap, ...]:
        numbered = enumerate(names)
        return tuple(_map(network, n, stream, values, f"{kind}_{i}.bin") for i, n in numbered)

    return Manifest(
        model=network.name,
        hardware=schedule.hardware.name,
        strategy=schedule.provenance.strategy,
        byte_order="little",
        sources=tuple(f for f in (*fixed_sources(), "schedule.c") if f.endswith(".c")),
        spm_bytes=stream.spm_bytes,
        dram_bytes=memory.size_bytes,
        burst_bytes=schedule.hardware.dram.burst_bytes,
        promised_dram_bytes=claims.dram_bytes,
        promised_macs=claims.macs + claims.recomputed_macs,
        inputs=maps(network.inputs, "input"),
        outputs=maps(network.outputs, "output"),
        constants=_constants(memory),
    )


def _map(
    network: Network, name: str, stream: Stream, values: NetworkValues, file: str
) -> ProgramMap:
    """A map from outside: type, shape, scale, and where DRAM has which element."""
    tensor, scaling = network.tensors[name], values.tensors.get(name)
    also = tuple(alias for alias, known in network.aliases.items() if known == name)
    return ProgramMap(
        name, also, tensor.dtype, tensor.shape,
        None if scaling is None else Scaling(scaling.scale, scaling.zero_point), file,
        stream.dram_addresses[name], MapLayout(*file_layout(tensor)),
        index_bounds(network).get(name, 0),
    )  # fmt: skip


def _constants(memory: Memory) -> tuple[ConstantRange, ...]:
    found: list[ConstantRange] = []
    offset = 0
    for section in memory.sections:
        found.append(ConstantRange(offset, section.address, len(section.content)))
        offset += len(section.content)
    return tuple(found)
