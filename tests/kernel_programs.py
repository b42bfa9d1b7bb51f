"""One-layer programs: kernels compiled once, run on windows that tests cut at random.

A program is a list of copies and kernel calls over buffers of their exact size (so that sanitizers
see every byte read outside). `run_programs` writes them to a file, which the driver below executes.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from values_oracle import run

from spm_opt.emit.kernels import (
    held_channels,
    kernel_call,
    kernel_sources,
    layer_constants,
    pack_table,
    pack_weights,
)
from spm_opt.graph.network import Layer, Network, topological
from spm_opt.graph.ops import row_axis
from spm_opt.graph.values import NetworkValues

Array = NDArray[Any]
Rng = np.random.Generator
GARBAGE = 0xA5
COMPILER = next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), None)
FLAGS = ("-std=c11", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off")
CHECKED = ("-O0", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


@dataclass(frozen=True)
class Case:
    """A layer with numbers and inputs, and what it should compute."""

    name: str
    network: Network
    values: NetworkValues
    inputs: dict[str, Array]
    tolerance: float = 0.0
    at: int = 0

    @property
    def layer(self) -> Layer:
        return self.network.layers[self.at]

    def expected(self) -> Array:
        return run(self.network, self.values, self.inputs)[self.layer.output]


# --- maps as bytes -----------------------------------------------------------------------------


def rows_first(array: Array, images: int) -> Array:
    axis = row_axis(array.shape)
    return array.reshape(1, -1) if axis is None else np.moveaxis(array, axis, int(images > 1))


def to_bytes(array: Array, images: int) -> bytes:
    return np.ascontiguousarray(rows_first(array, images)).tobytes()


def from_bytes(data: bytes, shape: tuple[int, ...], dtype: Any, images: int) -> Array:
    axis, first = row_axis(shape), int(images > 1)
    flat = np.frombuffer(data, dtype)
    if axis is None:
        return flat.reshape(shape)
    order = (*shape[:first], shape[axis], *shape[first:axis], *shape[axis + 1 :])
    return np.moveaxis(flat.reshape(order), first, axis)


def channels_of(array: Array, axis: int | None, channels: tuple[int, int] | None) -> Array:
    return array if axis is None or channels is None else np.take(array, range(*channels), axis)


# --- programs ----------------------------------------------------------------------------------


@dataclass
class Window:
    buffer: int
    offset: int
    rows: int
    pitch: int
    first: int
    channels: int

    def numbers(self) -> tuple[int, ...]:
        return self.buffer, self.offset, self.rows, self.pitch, self.first, self.channels


@dataclass
class Program:
    """Buffers and commands; `results` are the buffers to read back."""

    case: int
    buffers: list[bytes] = field(default_factory=list)
    commands: list[tuple[int, ...]] = field(default_factory=list)
    results: list[int] = field(default_factory=list)

    def buffer(self, content: bytes) -> int:
        self.buffers.append(content)
        return len(self.buffers) - 1

    def empty(self, size: int) -> int:
        return self.buffer(bytes([GARBAGE]) * size)

    def copy(self, to: int, to_offset: int, source: int, offset: int, size: int) -> None:
        self.commands.append((0, to, to_offset, source, offset, size))

    def call(
        self, output: Window, inputs: list[Window], weights: tuple[int, int, int],
        part: tuple[int, int, int, int],
    ) -> None:  # fmt: skip
        numbers = [n for window in (output, *inputs) for n in window.numbers()]
        self.commands.append((1, self.case, len(inputs), *weights, *part, *numbers))

    def encoded(self) -> bytes:
        head = struct.pack(f"<{1 + len(self.buffers)}q", len(self.buffers), *map(len, self.buffers))
        flat = [n for command in self.commands for n in command]
        tail = (len(self.commands), *flat, len(self.results), *self.results)
        return head + b"".join(self.buffers) + struct.pack(f"<{len(tail)}q", *tail)


def cuts(rng: Rng, extent: int, step: int = 1) -> list[tuple[int, int]]:
    """Consecutive ranges that cover ``[0, extent)``, in multiples of `step`."""
    places = [p for p in range(step, extent, step) if rng.random() < 0.4]
    return list(zip([0, *places], [*places, extent], strict=True))


def _parts_of_groups(whole: tuple[int, int], step: int) -> list[tuple[int, int]]:
    """Halves of each group of `step` channels in `whole`."""
    half = -(-step // 2)
    return [
        (begin, min(begin + half, group + step))
        for group in range(whole[0], whole[1], step)
        for begin in range(group, group + step, half)
    ]


class Writer:
    """Writes one program of a case: rows, and channels if asked, cut at random."""

    def __init__(self, number: int, case: Case, rng: Rng) -> None:
        self.case, self.rng, self.program = case, rng, Program(number)
        self.network, self.layer = case.network, case.layer
        self.axis = self.layer.channel_axis
        self.parts: list[tuple[tuple[int, int] | None, int]] = []
        table = pack_table(self.layer, self.own)
        self.table = self.program.buffer(table) if table else -1

    @property
    def own(self) -> Any:
        return self.case.values.layers[self.layer.name]

    def whole(self) -> Program:
        """One call on whole maps."""
        output = self._output(None, self.layer.rows, extra=0)
        inputs = [self._whole_input(i) for i in range(len(self.layer.inputs))]
        self._call(output, inputs, self._weights(None), (0, self.layer.rows), None)
        self._result(None, output)
        return self.program

    def cut(self, channels: bool) -> Program:
        """Tiles of rows in rolling windows; slices of channels, cut into channel tiles again."""
        step = self.layer.op.channel_step()
        slices: list[tuple[int, int] | None] = [None]
        if channels and self.axis is not None:
            count = self.layer.output_shape[self.axis]
            # as planners do: whole groups, or each a part of one group
            each = step if self.rng.random() < 0.6 else 1
            slices = [
                part
                for whole in cuts(self.rng, count, step)
                for part in ([whole] if each == step else _parts_of_groups(whole, step))
            ]
        for slice_ in slices:
            self._slice(slice_)
        return self.program

    def in_place(self) -> Program:
        """The output over the first operand, tile by tile of rows."""
        inputs = [self._whole_input(i) for i in range(len(self.layer.inputs))]
        for rows in cuts(self.rng, self.layer.rows):
            self._call(inputs[0], inputs, self._weights(None), rows, None)
        self.parts.append((None, inputs[0].buffer))
        self.program.results.append(inputs[0].buffer)
        return self.program

    # ------------------------------------------------------------------ pieces

    def _slice(self, channels: tuple[int, int] | None) -> None:
        tiles = cuts(self.rng, self.layer.rows)
        held = max(end - begin for begin, end in tiles) + int(self.rng.integers(3))
        output = self._output(channels, held, extra=int(self.rng.integers(4)))
        stored = self._output(channels, self.layer.rows, extra=0)
        sources = [self._source(i, channels, tiles) for i in range(len(self.layer.inputs))]
        weights = self._weights(channels)
        for rows in tiles:
            for source, window, index in sources:
                self._load(source, window, index, rows)
            windows = [window for _, window, _ in sources]
            for tile in self._channel_tiles(channels):
                self._call(output, windows, weights, rows, tile)
            for r in range(*rows):
                size = stored.pitch
                self.program.copy(stored.buffer, r * size, output.buffer,
                                  output.offset + r % output.rows * output.pitch, size)  # fmt: skip
        self._result(channels, stored)

    def _channel_tiles(self, channels: tuple[int, int] | None) -> list[tuple[int, int] | None]:
        if channels is None:
            return [None]
        step = self.layer.op.channel_step()
        begin, end = channels
        if (end - begin) // step < 2 or any(self._operand_channels(channels)):
            return [channels]
        middle = begin + (end - begin) // step // 2 * step
        return [(begin, middle), (middle, end)]

    def _operand_channels(self, channels: tuple[int, int] | None) -> list[tuple[int, int] | None]:
        count = len(self.layer.inputs)
        return [self.network.operand_channels(self.layer, i, channels) for i in range(count)]

    def _held(self, tensor: str, channels: tuple[int, int] | None) -> tuple[int, int]:
        begin, end = channels or (0, held_channels(self.network, tensor))
        return begin, end - begin

    def _output(self, channels: tuple[int, int] | None, rows: int, extra: int) -> Window:
        tensor = self.network.tensors[self.layer.output]
        first, count = self._held(tensor.name, channels)
        pitch = tensor.row_bytes * count // held_channels(self.network, tensor.name) + extra
        buffer = self.program.empty(rows * pitch + extra)
        return Window(buffer, extra, rows, pitch, first, count)

    def _array(self, index: int) -> tuple[str, Array]:
        name = self.layer.inputs[index].tensor
        return name, self.case.inputs[name]

    def _whole_input(self, index: int) -> Window:
        name, array = self._array(index)
        tensor = self.network.tensors[name]
        buffer = self.program.buffer(to_bytes(array, tensor.images))
        return Window(
            buffer, 0, tensor.rows, tensor.row_bytes, 0, held_channels(self.network, name)
        )

    def _source(
        self, index: int, channels: tuple[int, int] | None, tiles: list[tuple[int, int]]
    ) -> tuple[int, Window, int]:
        name, array = self._array(index)
        axis, own = self.network.channel_axes.get(name), self._operand_channels(channels)[index]
        tensor = self.network.tensors[name]
        data = to_bytes(channels_of(array, axis, own), tensor.images)
        needs = [self.layer.input_rows(index).needed(*rows, tensor.rows) for rows in tiles]
        held = max(1, max(end - begin for begin, end in needs)) + int(self.rng.integers(2))
        pitch = len(data) // tensor.rows
        first, count = self._held(name, own)
        window = Window(self.program.empty(held * pitch), 0, held, pitch, first, count)
        return self.program.buffer(data), window, index

    def _load(self, source: int, window: Window, index: int, rows: tuple[int, int]) -> None:
        tensor = self.network.tensors[self.layer.inputs[index].tensor]
        for r in range(*self.layer.input_rows(index).needed(*rows, tensor.rows)):
            to = r % window.rows * window.pitch
            self.program.copy(window.buffer, to, source, r * window.pitch, window.pitch)

    def _weights(self, channels: tuple[int, int] | None) -> tuple[int, int, int]:
        data = pack_weights(self.layer, self.own, channels)
        buffer = self.program.buffer(data) if data else -1
        return buffer, 0 if channels is None else channels[0], self.table

    def _call(
        self, output: Window, inputs: list[Window], weights: tuple[int, int, int],
        rows: tuple[int, int], channels: tuple[int, int] | None,
    ) -> None:  # fmt: skip
        every = (0, held_channels(self.network, self.layer.output))
        self.program.call(output, inputs, weights, (*rows, *(channels or every)))

    def _result(self, channels: tuple[int, int] | None, output: Window) -> None:
        self.parts.append((channels, output.buffer))
        self.program.results.append(output.buffer)

    def joined(self, results: list[bytes]) -> Array:
        """The output map out of the program's results."""
        tensor, pieces = self.network.tensors[self.layer.output], []
        for (channels, _), data in zip(self.parts, results, strict=True):
            shape = list(tensor.shape)
            if channels is not None and self.axis is not None:
                shape[self.axis] = channels[1] - channels[0]
            pieces.append(from_bytes(data, tuple(shape), tensor.dtype, tensor.images))
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces, self.axis)


def network_program(
    network: Network, values: NetworkValues, inputs: dict[str, Array]
) -> tuple[list[Case], Program]:
    """All layers one after another, on whole maps; results are the network's outputs."""
    order = topological(network)
    cases = [Case(network.layers[at].name, network, values, {}, 0.0, at) for at in order]
    program = Program(0)
    windows = {}
    for name, tensor in network.tensors.items():
        known = name in inputs
        content = to_bytes(inputs[name], tensor.images) if known else b""
        buffer = program.buffer(content) if known else program.empty(tensor.size_bytes)
        windows[name] = Window(
            buffer, 0, tensor.rows, tensor.row_bytes, 0, held_channels(network, name)
        )
    for number, case in enumerate(cases):
        layer, own = case.layer, values.layers[case.layer.name]
        data, table = pack_weights(layer, own), pack_table(layer, own)
        weights = program.buffer(data) if data else -1
        rows = program.buffer(table) if table else -1
        part = (0, layer.rows, 0, held_channels(network, layer.output))
        program.case = number
        sources = [windows[operand.tensor] for operand in layer.inputs]
        program.call(windows[layer.output], sources, (weights, 0, rows), part)
    program.results = [windows[name].buffer for name in network.outputs]
    return cases, program


# --- compiling and running ---------------------------------------------------------------------

DRIVER = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static int64_t *at;
static unsigned char **buffer;
static spm_window window(void) {
    spm_window w = {buffer[at[0]] + at[1], (int32_t)at[2], at[3], (int32_t)at[4], (int32_t)at[5]};
    at += 6;
    return w;
}
static void command(void) {
    if (*at++ == 0) {
        memcpy(buffer[at[0]] + at[1], buffer[at[2]] + at[3], (size_t)at[4]);
        at += 5;
        return;
    }
    int64_t number = at[0], count = at[1];
    spm_weights weights = {at[2] < 0 ? NULL : buffer[at[2]], (int32_t)at[3],
                           at[4] < 0 ? NULL : buffer[at[4]]};
    spm_part part = {(int32_t)at[5], (int32_t)at[6], (int32_t)at[7], (int32_t)at[8]};
    at += 9;
    spm_window out = window(), in[64];
    for (int64_t i = 0; i < count; i++) in[i] = window();
    cases[number](out, in, weights, part);
}
static void program(FILE *to) {
    int64_t count = *at++, *sizes = at;
    buffer = malloc((size_t)count * sizeof *buffer + 1);
    unsigned char *content = (unsigned char *)(at + count);
    for (int64_t i = 0; i < count; content += sizes[i++]) {
        buffer[i] = malloc((size_t)sizes[i]);
        memcpy(buffer[i], content, (size_t)sizes[i]);
    }
    size_t odd = (size_t)(content - (unsigned char *)at) % 8;
    at = (int64_t *)(content + (odd ? 8 - odd : 0));
    for (int64_t n = *at++; n > 0; n--) command();
    for (int64_t n = *at++; n > 0; n--, at++)
        fwrite(buffer[*at], 1, (size_t)sizes[*at], to);
    for (int64_t i = 0; i < count; i++) free(buffer[i]);
    free(buffer);
}
int main(int argc, char **argv) {
    if (argc != 3) return 2;
    FILE *from = fopen(argv[1], "rb"), *to = fopen(argv[2], "wb");
    fseek(from, 0, SEEK_END);
    size_t size = (size_t)ftell(from);
    int64_t *all = malloc(size);
    rewind(from);
    if (fread(all, 1, size, from) != size) return 3;
    at = all;
    for (int64_t n = *at++; n > 0; n--) program(to);
    free(all);
    fclose(from);
    return fclose(to);
}
"""


def source_of(cases: list[Case]) -> str:
    """C source of a driver that knows these cases by number."""
    parts = ['#include "spm_kernels.h"\n']
    for i, case in enumerate(cases):
        symbol = f"case_{i}"
        parts.append(layer_constants(case.network, case.layer, case.values, symbol))
        inputs = [f"in[{k}]" for k in range(len(case.layer.inputs))]
        call = kernel_call(
            case.layer, symbol, "out", inputs, "weights",
            ("part.row0", "part.row1"), ("part.channel0", "part.channel1"),
        )  # fmt: skip
        parts.append(
            f"static void run_{i}(spm_window out, const spm_window *in, spm_weights weights,"
            f" spm_part part) {{\n    (void)in;\n    {call}\n}}\n"
        )
    names = ", ".join(f"run_{i}" for i in range(len(cases)))
    parts.append(
        "static void (*const cases[])(spm_window, const spm_window *, spm_weights, spm_part) = "
        f"{{{names}}};\n"
    )
    return "".join(parts) + DRIVER


def build(folder: Path, cases: list[Case], options: tuple[str, ...]) -> Path:
    """Compile the kernels and a driver for `cases`."""
    for name, text in kernel_sources().items():
        (folder / name).write_text(text)
    (folder / "driver.c").write_text(source_of(cases))
    program = folder / "driver"
    sources = [str(path) for path in sorted(folder.glob("*.c"))]
    command = [COMPILER or "cc", *FLAGS, *options, *sources, "-lm", "-o", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:4000]
    return program


def run_programs(driver: Path, folder: Path, programs: list[Program]) -> list[list[bytes]]:
    """Results of each program, in one run of the driver; files of the run go to `folder`."""
    source, target = folder / "driver.in", folder / "driver.out"
    chunks = [struct.pack("<q", len(programs))]
    for program in programs:
        head = 8 * (1 + len(program.buffers))
        encoded = program.encoded()
        content = sum(map(len, program.buffers))
        split = head + content
        chunks += [encoded[:split], b"\0" * (-content % 8), encoded[split:]]
    source.write_bytes(b"".join(chunks))
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
    done = subprocess.run(
        [str(driver), str(source), str(target)],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[:4000]
    data, results, at = target.read_bytes(), [], 0
    for program in programs:
        sizes = [len(program.buffers[i]) for i in program.results]
        results.append([data[at + sum(sizes[:k]) : at + sum(sizes[: k + 1])]
                        for k in range(len(sizes))])  # fmt: skip
        at += sum(sizes)
    return results
