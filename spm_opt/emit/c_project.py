"""Everything that a C compiler needs to run a schedule, as files by name."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any, Final

from spm_opt.commands import Stream, lower
from spm_opt.emit.c_memory import Memory, memory_of
from spm_opt.emit.c_program import file_layout, index_bounds, layers_source, schedule_source
from spm_opt.emit.kernels import kernel_sources
from spm_opt.graph.network import Network
from spm_opt.graph.values import NetworkValues
from spm_opt.schedule import Schedule

FORMAT_NAME: Final = "spm_opt.program"
FORMAT_VERSION: Final = 1
#: files that are the same for every network
FIXED_FILES: Final = ("dma.h", "dma.c", "program.h", "main.c", "Makefile", "PORTING.md")


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
    layers = layers_source(schedule, stream, values)
    burst = schedule.hardware.dram.burst_bytes
    memory = memory_of(schedule.network, stream, values, burst)
    return {
        **fixed_sources(),
        "layers.h": layers,
        "schedule.c": schedule_source(schedule, stream, memory),
        "weights.bin": b"".join(section.content for section in memory.sections),
        "manifest.json": json.dumps(_manifest(schedule, stream, values, memory), indent=2) + "\n",
    }


def fixed_sources() -> dict[str, str]:
    """Sources that are the same for every network: kernels, DMA engine, host program."""
    folder = resources.files("spm_opt.emit") / "project_c"
    own = {name: (folder / name).read_text(encoding="utf-8") for name in FIXED_FILES}
    kernels = kernel_sources()
    for kind, place in ((".c", "@SOURCES@"), (".h", "@HEADERS@")):
        named = " ".join(name for name in kernels if name.endswith(kind))
        own["Makefile"] = own["Makefile"].replace(place, named)
    return {**kernels, **own}


def _manifest(
    schedule: Schedule, stream: Stream, values: NetworkValues, memory: Memory
) -> dict[str, Any]:
    network, claims = schedule.network, schedule.claims
    return {
        "format": FORMAT_NAME,
        "version": FORMAT_VERSION,
        "model": network.name,
        "hardware": schedule.hardware.name,
        "strategy": schedule.provenance.strategy,
        "byte_order": "little",
        "spm_bytes": stream.spm_bytes,
        "dram_bytes": memory.size_bytes,
        "burst_bytes": schedule.hardware.dram.burst_bytes,
        "claims": {"dram_bytes": claims.dram_bytes, "macs": claims.macs + claims.recomputed_macs},
        "inputs": [_map(network, name, stream, values) for name in network.inputs],
        "outputs": [
            {**_map(network, name, stream, values), "file": f"output_{i}.bin"}
            for i, name in enumerate(network.outputs)
        ],
        "constants": {"file": "weights.bin", "sections": _sections(memory)},
    }


def _map(network: Network, name: str, stream: Stream, values: NetworkValues) -> dict[str, Any]:
    """A map from outside: type, shape, scale, and where DRAM has which element."""
    tensor, scaling = network.tensors[name], values.tensors.get(name)
    outer, rows, inner = file_layout(tensor)
    found: dict[str, Any] = {
        "name": name,
        "dtype": tensor.dtype,
        "shape": list(tensor.shape),
        "quantization": None
        if scaling is None
        else {"scale": scaling.scale, "zero_point": scaling.zero_point},
        "dram_address": stream.dram_addresses[name],
        "dram_layout": {"rows": rows, "outer": outer, "inner": inner},
    }
    bound = index_bounds(network).get(name)
    return found if bound is None else {**found, "below": bound}


def _sections(memory: Memory) -> list[dict[str, int]]:
    found: list[dict[str, int]] = []
    offset = 0
    for section in memory.sections:
        found.append({
            "file_offset": offset, "dram_address": section.address, "bytes": len(section.content),
        })  # fmt: skip
        offset += len(section.content)
    return found
