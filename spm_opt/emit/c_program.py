"""A schedule's command stream as one C file: constants, steps, and what the host must know."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from spm_opt.commands import Stream
from spm_opt.cost.compression import ratio_share
from spm_opt.emit.c_memory import Memory
from spm_opt.emit.c_names import Names, comment, names_of, string
from spm_opt.emit.c_order import program_of
from spm_opt.emit.c_routines import Writer
from spm_opt.emit.c_spoil import releases_of
from spm_opt.emit.c_steps import StepWriter
from spm_opt.emit.kernels import layer_constants
from spm_opt.graph.network import DTYPE_BYTES, Network, Tensor
from spm_opt.graph.ops import Gather, row_axis
from spm_opt.graph.values import NetworkValues
from spm_opt.hardware import RAW, Compression
from spm_opt.schedule import Schedule

_KERNELS: Final = '#include "spm_kernels.h"'
#: what is drawn for an index that nobody looks anything up with
_TRUTH: Final = 2
_INDEX_TYPES: Final = ("bool", "int32", "uint32", "int64", "uint64")


def schedule_source(schedule: Schedule, stream: Stream, memory: Memory) -> str:
    """``schedule.c``: the program of a command stream.

    Parameters
    ----------
    schedule : Schedule
        Gives names, buffers and steps; what happens is the stream's.
    stream : Stream
    memory : Memory
        What DRAM holds.
    """
    names = names_of(schedule, stream)
    program = program_of(schedule, stream)
    releases = releases_of(schedule, stream, program, names)
    writer = Writer(schedule, names, stream.dram_addresses, memory.tables)
    steps = StepWriter(program, writer, releases)
    texts = [
        "\n".join(steps.step(code, step))
        for code, step in zip(program.steps, schedule.steps, strict=True)
        if code.prologue or code.loops
    ]
    parts = [
        *_head(schedule), *_constants(schedule, stream, names),
        "\n".join(_memories(stream, memory)), "\n".join(steps.declarations()), *texts,
        "\n".join(_run(schedule, [c.step for c in program.steps if c.prologue or c.loops], memory)),
        "\n".join(_network(schedule, stream, memory)),
    ]  # fmt: skip
    return "\n\n".join(part for part in parts if part) + "\n"


def layers_source(schedule: Schedule, stream: Stream, values: NetworkValues) -> str:
    """``layers.h``: what the kernels know of each layer that is computed.

    Raises
    ------
    GraphError
        Naming the layer, where no kernel computes it, or its element type.
    """
    names, network = names_of(schedule, stream), schedule.network
    computed = {c.name for c in stream.commands if c.kind == "compute"}
    head = ("/* Shapes, scales and tables of the layers, for the kernels. */", _KERNELS)
    texts = ["\n".join((*head, ""))]
    texts += [
        f"/* {comment(layer.name)}: {layer.op.kind} */\n"
        + layer_constants(network, layer, values, names.layers[layer.name])
        for layer in network.layers
        if layer.name in computed
    ]
    return "\n".join(texts)


# --- parts of schedule.c -----------------------------------------------------------------------


def _head(schedule: Schedule) -> Iterator[str]:
    made, claims = schedule.provenance, schedule.claims
    lines = [
        f"{schedule.network.name} on {schedule.hardware.name}: {len(schedule.network.layers)} "
        f"layers in {len(schedule.steps)} steps.",
        f"Strategy {made.strategy}, objective {made.objective}: {made.status}.",
        f"Promised: {claims.latency_cycles} cycles, {claims.dram_bytes} bytes of DRAM traffic.",
        "",
        "A step is a group of layers that run tile by tile. Transfers are started as early as",
        "their data and the queue allow; a wait names the last transfer that must have ended.",
    ]
    body = "\n".join(f" * {comment(line)}".rstrip() for line in lines)
    yield f"/*{body[2:]} */"
    yield '#include "dma.h"\n#include "layers.h"\n#include "program.h"\n#include "spm_kernels.h"'


def _constants(schedule: Schedule, stream: Stream, names: Names) -> Iterator[str]:
    lines = ["/* Buffers in the scratchpad, each for the steps [first, end). */", "enum {"]
    lines.append(f"    SPM_BYTES = {max(stream.spm_bytes, 1)},")
    for name, buffer in zip(names.spm, schedule.buffers, strict=True):
        channels = "" if buffer.channels is None else " channels {} to {}".format(*buffer.channels)
        shares = "" if buffer.shares is None else f", over {names.spm[buffer.shares]}"
        lines.append(
            f"    {name} = {buffer.offset_bytes}, /* [{buffer.first_step}, {buffer.end_step}): "
            f"{comment(buffer.tensor)}{channels}, {buffer.count} x {buffer.unit_bytes} bytes"
            f"{shares} */"
        )
    yield "\n".join([*lines, "};"])
    found = sorted(stream.dram_addresses.items(), key=lambda item: (item[1], item[0]))
    yield "\n".join(
        ["/* Tensors in DRAM, rows first. */"]
        + [f"#define {names.dram[key]} {address}ull" for key, address in found]
    )


def _memories(stream: Stream, memory: Memory) -> Iterator[str]:
    yield "static _Alignas(64) unsigned char spm[SPM_BYTES];"
    if memory.tables:
        yield "static const unsigned char *dram; /* for tables of which layers fetch rows */"


def _run(schedule: Schedule, steps: Iterable[int], memory: Memory) -> Iterator[str]:
    written = set(steps)
    yield "static void run(const unsigned char *memory) {"
    yield "    dram = memory;" if memory.tables else "    (void)memory;"
    for number, step in enumerate(schedule.steps):
        what = comment(" + ".join(step.layers))
        if number in written:
            yield f"    step_{number}();"
        else:
            yield f"    /* step {number}, {what}: lies in place, nothing to do */"
    yield "}"


def _network(schedule: Schedule, stream: Stream, memory: Memory) -> Iterator[str]:
    network = schedule.network
    bounds = index_bounds(network)
    for symbol, tensors in (("inputs", network.inputs), ("outputs", network.outputs)):
        yield f"static const program_map {symbol}[] = {{"
        for name in tensors:
            yield f"    {_map(network.tensors[name], stream.dram_addresses, bounds)},"
        yield "};"
    if memory.sections:
        yield "static const program_constants constants[] = {"
        yield from (f"    {{{s.address}u, {len(s.content)}u}}," for s in memory.sections)
        yield "};"
    constants = "constants" if memory.sections else "NULL"
    yield "const program network = {"
    yield f"    spm, SPM_BYTES, {memory.size_bytes}u, {schedule.hardware.dram.burst_bytes}u,"
    yield f"    {_code(schedule.hardware.dram.compression)},"
    yield f"    {len(network.inputs)}, {len(network.outputs)}, {len(memory.sections)},"
    yield f"    inputs, outputs, {constants}, run,"
    yield "};"


def _code(compression: Compression | None) -> str:
    """Initialiser of a ``dma_code``."""
    if compression is None:
        return f"{{0, 0, {RAW}u}}"
    if compression.kind == "ratio":
        return f"{{0, 0, {ratio_share(compression)}u}}"
    return f"{{{compression.run_bits}, {compression.word_bits}, {RAW}u}}"


def _map(tensor: Tensor, addresses: Mapping[str, int], bounds: Mapping[str, int]) -> str:
    layout = ", ".join(map(str, file_layout(tensor)))
    return (
        f"{{{string(tensor.name)}, {string(tensor.dtype)}, {addresses[tensor.name]}u, {layout}, "
        f"{DTYPE_BYTES[tensor.dtype]}, {bounds.get(tensor.name, 0)}}}"
    )


def file_layout(tensor: Tensor) -> tuple[int, int, int, int]:
    """A map's elements in row-major order as (images, outer, rows, inner).

    DRAM has the rows of each image first.
    """
    axis, shape = row_axis(tensor.shape), tensor.shape
    if axis is None:
        return 1, 1, 1, math.prod(shape)
    outer = math.prod(shape[:axis]) // tensor.images
    return tensor.images, outer, shape[axis], math.prod(shape[axis + 1 :])


def index_bounds(network: Network) -> dict[str, int]:
    """Integers below which drawn indices lie: the extents of what they look up."""
    found = {name: 0 for name in network.inputs if network.tensors[name].dtype in _INDEX_TYPES}
    for layer in network.layers:
        name = layer.inputs[-1].tensor if layer.inputs else ""
        if isinstance(layer.op, Gather) and layer.op.indices_shape is None and name in found:
            table = layer.op.table_shape or layer.input_shapes[0]
            extent = table[layer.op.axis % len(table)]
            found[name] = min(found[name] or extent, extent)
    return {name: bound or _TRUTH for name, bound in found.items()}
