"""Small valid schedules written by hand, without the planner and without the checker.

A `Draft` takes buffers, steps and commands as a person would write them down, each command with
the commands that it waits for, and adds up cycles in one pass. What waits for what, which rows are
moved and which buffer holds them is spelled out in each schedule below.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np

from spm_opt.cost.compute import least_cycles, tile_cycles
from spm_opt.cost.dram import moved_bytes, transfer_cycles
from spm_opt.graph.network import Layer, Network, Tensor, Weight, by_name, operand_of
from spm_opt.graph.ops import Conv, Reduce
from spm_opt.hardware import ComputeArray, Dram, Hardware, Scratchpad, Unrolling
from spm_opt.schedule import (
    Buffer,
    Claims,
    Compute,
    Provenance,
    Schedule,
    Step,
    Transfer,
)
from spm_opt.units import align_up, ceil_div

CHIP = Hardware(
    name="tiny",
    frequency_hz=10**9,
    spm=Scratchpad(8192, 32, Fraction(16)),
    dram=Dram(Fraction(8), latency_cycles=10, burst_bytes=16),
    compute=ComputeArray((Unrolling("kc", {"k": 4, "c": 4}),), 4, tile_overhead_cycles=5),
)


def conv(name: str, source: Tensor, output: Tensor, groups: int = 1) -> Layer:
    """A 3x3 convolution, padded by 1, stride 1, with bias."""
    k, c = output.shape[1], source.shape[1] // groups
    op = Conv(k, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), groups, bias=True)
    weights = (
        Weight(f"{name}.w", (k, c, 3, 3)),
        Weight(f"{name}.b", (k,), "int32", "bias"),
    )
    return Layer(name, op, (operand_of(source),), output.name, output.shape, weights)


def pooling(rows: int, channels: int) -> Network:
    """The mean of each channel of a map, 8 pixels wide."""
    x, y = Tensor("x", (1, channels, rows, 8)), Tensor("y", (1, channels, 1, 1))
    layer = Layer("pool", Reduce("mean", (2, 3)), (operand_of(x),), "y", y.shape)
    return Network("pooling", by_name([x, y]), (layer,), ("x",), ("y",))


def chain(rows: int, channels: Sequence[int], *names: str, groups: int = 1) -> Network:
    """Convolutions in a row: maps x, then one named after each layer, 8 pixels wide."""
    maps = [Tensor("x", (1, channels[0], rows, 8))]
    layers = []
    for name, count in zip(names, channels[1:], strict=True):
        maps.append(Tensor(f"{name}.out", (1, count, rows, 8)))
        layers.append(conv(name, maps[-2], maps[-1], groups))
    return Network("hand", by_name(maps), tuple(layers), ("x",), (maps[-1].name,))


@dataclass
class Draft:
    """A schedule in the making; commands are added in an order in which they can run."""

    network: Network
    hardware: Hardware = CHIP
    steps: list[Step] = field(default_factory=list)
    buffers: list[Buffer] = field(default_factory=list)
    transfers: list[Transfer] = field(default_factory=list)
    computes: list[Compute] = field(default_factory=list)
    #: end of the barrier-relevant commands of each step
    ends: dict[int, int] = field(default_factory=dict)
    dram: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        address = 0
        sizes = {name: t.size_bytes for name, t in self.network.tensors.items()}
        sizes |= {f"weights:{layer.name}": layer.weight_bytes for layer in self.network.layers}
        for name, size in sizes.items():
            self.dram[name] = address
            address += align_up(size, self.hardware.dram.burst_bytes)

    def layer(self, name: str) -> Layer:
        return next(layer for layer in self.network.layers if layer.name == name)

    def step(self, *layers: str, **changes: object) -> None:
        plain = Step(layers, None, "rows", 1, 1, "retain", 0, 0)
        self.steps.append(replace(plain, **changes))  # type: ignore[arg-type]

    def buffer(
        self, name: str, kind: str, tensor: str, count: int, unit: int, steps: tuple[int, int],
        channels: tuple[int, int] | None = None,
    ) -> int:  # fmt: skip
        """The next buffer; it is put behind all earlier ones."""
        last = self.buffers[-1] if self.buffers else None
        offset = 0 if last is None else last.offset_bytes + last.size_bytes
        size = align_up(count * unit, self.hardware.spm.alignment_bytes)
        self.buffers.append(
            Buffer(name, kind, tensor, offset, size, count, unit, *steps, channels=channels)
        )
        return len(self.buffers) - 1

    def weights(self, layer: str, steps: tuple[int, int]) -> int:
        return self.buffer(f"w.{layer}", "weights", layer, 1, self.layer(layer).weight_bytes, steps)

    def _begin(self, engine: Sequence[Compute | Transfer], after: Iterable[int]) -> int:
        free = engine[-1].end_cycle if engine else 0
        return max(free, *after, 0)

    def load_weights(
        self, layer: str, buffer: int, step: int = 0, need: int | None = None,
        channels: tuple[int, int] | None = None, tile: int | None = None,
        after: Sequence[int] = (), piece: tuple[int, int] | None = None,
        slice_: tuple[tuple[int, int], tuple[int, int, int]] | None = None,
    ) -> int:  # fmt: skip
        """Load constants of all channels or some, a piece of those, or those of input channels.

        `slice_` are these, and (first byte, bytes, runs) of their constants.
        """
        total = self.layer(layer).weight_bytes
        every = self.layer(layer).output_shape[1]
        first, end = channels or (0, every)
        begin, size = 0, total * (end - first) // every
        if piece is not None:
            begin, size = piece[0], piece[1] - piece[0]
        summed, runs = None, 1
        if slice_ is not None:
            summed, (begin, size, runs) = slice_
        address = self.dram[f"weights:{layer}"] + total * first // every + begin
        return self._transfer(
            Transfer(
                "load", "weights", layer, buffer, step, step if need is None else need, tile,
                (0, 0), channels, address, size, runs, 0, 0, 0, piece, summed,
            ),
            after,
        )  # fmt: skip

    def move(
        self, kind: str, tensor: str, buffer: int, rows: tuple[int, int], step: int = 0,
        tile: int | None = None, after: Sequence[int] = (),
        channels: tuple[int, int] | None = None, run: tuple[int, int, int] | None = None,
        need: int | None = None,
    ) -> int:  # fmt: skip
        """Load or store rows; `run` is (first byte, bytes, runs) where channels are cut."""
        row_bytes = self.network.tensors[tensor].row_bytes
        first, size, runs = run or (rows[0] * row_bytes, (rows[1] - rows[0]) * row_bytes, 1)
        return self._transfer(
            Transfer(
                kind, "map", tensor, buffer, step, step if need is None else need, tile, rows,
                channels,
                self.dram[tensor] + first, size, runs, 0, 0, 0,
            ),
            after,
        )  # fmt: skip

    def _transfer(self, transfer: Transfer, after: Sequence[int]) -> int:
        moved = moved_bytes(self.hardware.dram, transfer.run_bytes, transfer.runs)
        claimed: list[int] = []
        if transfer.kind == "load":
            first = self.buffers[transfer.buffer].first_step
            claimed = [c.end_cycle for c in self.computes if c.step < first]
        start = self._begin(self.transfers, (*claimed, *after))
        end = start + transfer_cycles(self.hardware.dram, moved)
        self.transfers.append(
            replace(transfer, moved_bytes=moved, start_cycle=start, end_cycle=end)
        )
        return end

    def compute(
        self, layer: str, rows: tuple[int, int], reads: int, weights: int | None, output: int,
        read_rows: int, step: int = 0, tile: int = 0, after: Sequence[int] = (),
        channels: tuple[int, int] | None = None, row_bytes: int | None = None,
    ) -> int:  # fmt: skip
        """One tile that reads `read_rows` rows of its input, whole or `row_bytes` of each."""
        node = self.layer(layer)
        every = node.output_shape[1]
        part = every if channels is None else channels[1] - channels[0]
        whole = self.network.tensors[node.inputs[0].tensor].row_bytes
        read = read_rows * (whole if row_bytes is None else row_bytes)
        read += node.weight_bytes * part // every
        cycles = int(
            tile_cycles(
                node, "int8", self.hardware, np.array([rows[1] - rows[0]]), np.array([read]),
                part,
            )[0]
        )  # fmt: skip
        touched = {reads, output, weights}
        awaited = [
            t.end_cycle
            for t in self.transfers
            if (t.kind == "store" and t.need_step < step)
            or (t.kind == "load" and t.tile is None and t.buffer in touched)
        ]
        start = self._begin(self.computes, (*awaited, *after))
        self.computes.append(
            Compute(
                layer, step, tile, rows, channels, (reads,), () if weights is None else (weights,),
                output, start, start + cycles,
            )
        )  # fmt: skip
        return start + cycles

    def add(
        self,
        summed: tuple[int, int],
        reads: int,
        weights: int,
        output: int,
        sums: int | None,
        after: int,
    ) -> int:
        """A slice of `partial_sums`: 8 rows of 4 output channels, a slice of 4 input channels."""
        read = 8 * 32 + (4 * 40 + 8 * 8 * 4 * 4 if sums is not None else 4 * 36)
        # 8 x 8 pixels, 9 taps, 4 / 4 output and 4 / 4 input channels
        cycles = max(8 * 8 * 9, ceil_div(read, 16)) + 5
        start = self._begin(self.computes, (after,))
        self.computes.append(
            Compute(
                "b", 1, summed[0] // 4, (0, 8), (0, 4), (reads,), (weights,), output, start,
                start + cycles, summed, sums,
            )
        )  # fmt: skip
        return start + cycles

    def finish(self, recomputed_macs: int = 0, idle: Sequence[str] = ()) -> Schedule:
        """The schedule with steps timed and totals claimed; layers `idle` need never run."""
        steps, begin = [], 0
        for i, step in enumerate(self.steps):
            end = max([begin, *(c.end_cycle for c in self.computes if c.step == i)])
            steps.append(replace(step, start_cycle=begin, end_cycle=end))
            begin = end
        begin = max([begin, *(t.end_cycle for t in self.transfers)])
        weights = sum(t.moved_bytes for t in self.transfers if t.role == "weights")
        maps = sum(t.moved_bytes for t in self.transfers if t.role == "map")
        network = self.network
        raw = network.weight_bytes
        raw += sum(network.tensors[t].size_bytes for t in (*network.inputs, *network.outputs))
        least = sum(
            least_cycles(layer, "int8", self.hardware)
            for layer in network.layers
            if layer.name not in idle
        )
        claims = Claims(
            latency_cycles=begin,
            compute_cycles=sum(c.end_cycle - c.start_cycle for c in self.computes),
            dram_bytes=weights + maps,
            dram_weight_bytes=weights,
            dram_feature_map_bytes=maps,
            macs=network.macs,
            recomputed_macs=recomputed_macs,
            spm_peak_bytes=max(b.offset_bytes + b.size_bytes for b in self.buffers),
            roofline_cycles=max(least, ceil_div(raw, int(self.hardware.dram.bytes_per_cycle))),
        )
        made = Provenance(
            "joint", "latency", True, "optimal", begin, begin, begin, "source", 1, "by hand", 0, 1,
            60.0, None, 0.25,
        )  # fmt: skip
        return Schedule(
            network, self.hardware, made, tuple(steps), tuple(self.buffers),
            tuple(self.transfers), tuple(self.computes), self.dram, claims,
        )  # fmt: skip


def single() -> Schedule:
    """One convolution in one tile: everything loaded, computed, stored."""
    d = Draft(chain(8, (4, 8), "a"))
    d.step("a")
    x = d.buffer("x", "map", "x", 8, 32, (0, 1))
    w = d.weights("a", (0, 1))
    y = d.buffer("y", "output", "a.out", 8, 64, (0, 1))
    d.load_weights("a", w)
    loaded = d.move("load", "x", x, (0, 8))
    done = d.compute("a", (0, 8), x, w, y, 8, after=[loaded])
    d.move("store", "a.out", y, (0, 8), tile=0, after=[done])
    return d.finish()


def stripes() -> Schedule:
    """One convolution in three stripes: rolling input and output, two tiles deep."""
    d = Draft(chain(12, (4, 8), "a"))
    d.step("a", tiles=3, depth=2)
    x = d.buffer("x", "input", "x", 9, 32, (0, 1))
    w = d.weights("a", (0, 1))
    y = d.buffer("y", "output", "a.out", 8, 64, (0, 1))
    d.load_weights("a", w)
    l0 = d.move("load", "x", x, (0, 5), tile=0)
    l1 = d.move("load", "x", x, (5, 9), tile=1)
    c0 = d.compute("a", (0, 4), x, w, y, 5, tile=0, after=[l0])
    s0 = d.move("store", "a.out", y, (0, 4), tile=0, after=[c0])
    l2 = d.move("load", "x", x, (9, 12), tile=2, after=[c0])
    c1 = d.compute("a", (4, 8), x, w, y, 6, tile=1, after=[l1])
    c2 = d.compute("a", (8, 12), x, w, y, 5, tile=2, after=[l2, s0])
    d.move("store", "a.out", y, (4, 8), tile=1, after=[c1])
    d.move("store", "a.out", y, (8, 12), tile=2, after=[c2])
    return d.finish()


def fused(halo: str = "retain") -> Schedule:
    """Two convolutions tile by tile; the map between them only as a stripe of five rows."""
    again = halo == "recompute"
    d = Draft(chain(8, (4, 4, 8), "a", "b"))
    d.step("a", "b", tiles=2, depth=2, halo=halo)
    x = d.buffer("x", "input", "x", 8, 32, (0, 1))
    wa, wb = d.weights("a", (0, 1)), d.weights("b", (0, 1))
    m = d.buffer("m", "stripe", "a.out", 5, 32, (0, 1))
    y = d.buffer("y", "output", "b.out", 8, 64, (0, 1))
    d.load_weights("a", wa)
    d.load_weights("b", wb)
    l0 = d.move("load", "x", x, (0, 6), tile=0)
    l1 = d.move("load", "x", x, (6, 8), tile=1)
    d.compute("a", (0, 5), x, wa, m, 6, tile=0, after=[l0])
    c0 = d.compute("b", (0, 4), m, wb, y, 5, tile=0)
    d.move("store", "b.out", y, (0, 4), tile=0, after=[c0])
    own, read = ((3, 8), 6) if again else ((5, 8), 4)
    d.compute("a", own, x, wa, m, read, tile=1, after=[l1])
    c1 = d.compute("b", (4, 8), m, wb, y, 5, tile=1)
    d.move("store", "b.out", y, (4, 8), tile=1, after=[c1])
    return d.finish(recomputed_macs=2 * 8 * 4 * 4 * 9 if again else 0)


def slices() -> Schedule:
    """One convolution as two slices of its output channels, the second's weights prefetched."""
    d = Draft(chain(8, (4, 8), "a"))
    d.step("a", channels=(0, 4))
    d.step("a", channels=(4, 8))
    x = d.buffer("x", "map", "x", 8, 32, (0, 2))
    half = d.layer("a").weight_bytes // 2
    w0 = d.buffer("w0", "weights", "a", 1, half, (0, 1), (0, 4))
    w1 = d.buffer("w1", "weights", "a", 1, half, (0, 2), (4, 8))
    y0 = d.buffer("y0", "output", "a.out", 8, 32, (0, 1), (0, 4))
    y1 = d.buffer("y1", "output", "a.out", 8, 32, (1, 2), (4, 8))
    d.load_weights("a", w0, channels=(0, 4))
    loaded = d.move("load", "x", x, (0, 8))
    d.load_weights("a", w1, need=1, channels=(4, 8))
    c0 = d.compute("a", (0, 8), x, w0, y0, 8, after=[loaded], channels=(0, 4))
    d.move("store", "a.out", y0, (0, 8), tile=0, after=[c0], channels=(0, 4), run=(0, 32, 8))
    c1 = d.compute("a", (0, 8), x, w1, y1, 8, step=1, channels=(4, 8))
    d.move(
        "store", "a.out", y1, (0, 8), step=1, tile=0, after=[c1], channels=(4, 8), run=(32, 32, 8)
    )
    return d.finish()


def channel_tiles() -> Schedule:
    """One convolution in two channel tiles: weights stream in, channels stream out, one deep."""
    d = Draft(chain(8, (4, 8), "a"))
    d.step("a", axis="channels", tiles=2, depth=1)
    x = d.buffer("x", "map", "x", 8, 32, (0, 1))
    half = d.layer("a").weight_bytes // 2
    w = d.buffer("w", "weight_stream", "a", 1, half, (0, 1))
    y = d.buffer("y", "channel_output", "a.out", 1, 256, (0, 1))
    d.move("load", "x", x, (0, 8))
    l0 = d.load_weights("a", w, channels=(0, 4), tile=0)
    c0 = d.compute("a", (0, 8), x, w, y, 8, after=[l0], channels=(0, 4))
    l1 = d.load_weights("a", w, channels=(4, 8), tile=1, after=[c0])
    s0 = d.move("store", "a.out", y, (0, 8), tile=0, after=[c0], channels=(0, 4), run=(0, 32, 8))
    c1 = d.compute("a", (0, 8), x, w, y, 8, tile=1, after=[l1, s0], channels=(4, 8))
    d.move("store", "a.out", y, (0, 8), tile=1, after=[c1], channels=(4, 8), run=(32, 32, 8))
    return d.finish()


def own_channels() -> Schedule:
    """A convolution of two groups as two slices in two stripes: each reads its own channels only,
    of rows of which the eight channels lie side by side, 8 bytes each."""
    d = Draft(chain(8, (8, 8), "a", groups=2))
    x, w, y = [], [], []
    for n, channels in enumerate(((0, 4), (4, 8))):
        d.step("a", channels=channels, tiles=2, depth=1)
        x.append(d.buffer(f"x{n}", "input", "x", 5, 32, (n, n + 1), channels))
        w.append(d.buffer(f"w{n}", "weights", "a", 1, 160, (n, n + 1), channels))
        y.append(d.buffer(f"y{n}", "output", "a.out", 4, 32, (n, n + 1), channels))
    for n, (begin, end) in enumerate(((0, 4), (4, 8))):
        own = {"channels": (begin, end), "step": n}
        d.load_weights("a", w[n], step=n, channels=(begin, end))
        first = d.move("load", "x", x[n], (0, 5), tile=0, run=(8 * begin, 32, 5), **own)
        c0 = d.compute("a", (0, 4), x[n], w[n], y[n], 5, after=[first], row_bytes=32, **own)
        second = d.move(
            "load", "x", x[n], (5, 8), tile=1, after=[c0], run=(5 * 64 + 8 * begin, 32, 3), **own
        )
        s0 = d.move(
            "store", "a.out", y[n], (0, 4), tile=0, after=[c0], run=(8 * begin, 32, 4), **own
        )
        c1 = d.compute(
            "a", (4, 8), x[n], w[n], y[n], 5, tile=1, after=[second, s0], row_bytes=32, **own
        )
        d.move(
            "store", "a.out", y[n], (4, 8), tile=1, after=[c1], run=(4 * 64 + 8 * begin, 32, 4),
            **own,
        )  # fmt: skip
    return d.finish()


def channel_inputs() -> Schedule:
    """Global pooling in three channel tiles, two deep: a tile's channels of every row come in."""
    d = Draft(pooling(8, 48))
    d.step("pool", axis="channels", tiles=3, depth=2)
    x = d.buffer("x", "channel_input", "x", 2, 8 * 16 * 8, (0, 1))
    y = d.buffer("y", "channel_output", "y", 2, 16, (0, 1))
    done: list[int] = []
    loads: list[int] = []
    stored: list[int] = [0, 0]

    def load(tile: int) -> None:
        after = done[tile - 2 : tile - 1] if tile >= 2 else []
        loads.append(
            d.move("load", "x", x, (0, 8), tile=tile, channels=(16 * tile, 16 * tile + 16),
                   run=(128 * tile, 128, 8), after=after)
        )  # fmt: skip

    load(0)
    for tile in range(3):
        channels = (16 * tile, 16 * tile + 16)
        done.append(
            d.compute("pool", (0, 1), x, None, y, 8, tile=tile, channels=channels, row_bytes=128,
                      after=[loads[tile], stored[tile]])
        )  # fmt: skip
        if tile < 2:
            load(tile + 1)
        stored.append(
            d.move("store", "y", y, (0, 1), tile=tile, channels=channels, run=(16 * tile, 16, 1),
                   after=[done[tile]])
        )  # fmt: skip
    return d.finish()


def partial_sums() -> Schedule:
    """A convolution that adds its eight input channels in two slices, one deep.

    A row of its input has eight channels side by side, 8 bytes each; an output channel has 72 bytes
    of kernel, 9 for each input channel, then 4 of bias; 8 x 8 x 4 sums take 4 bytes each.
    """
    d = Draft(chain(8, (4, 8, 4), "a", "b"))
    d.step("a")
    d.step("b", axis="sums", tiles=2)
    x = d.buffer("x", "map", "x", 8, 32, (0, 1))
    wa = d.weights("a", (0, 1))
    m = d.buffer("m", "output", "a.out", 8, 64, (0, 1))
    part = d.buffer("part", "channel_input", "a.out", 1, 8 * 32, (1, 2))
    wb = d.buffer("wb", "weight_stream", "b", 1, 4 * 40, (1, 2))
    sums = d.buffer("sums", "sums", "b.out", 1, 8 * 8 * 4 * 4, (1, 2))
    y = d.buffer("y", "channel_output", "b.out", 1, 8 * 32, (1, 2))
    d.load_weights("a", wa)
    loaded = d.move("load", "x", x, (0, 8))
    made = d.compute("a", (0, 8), x, wa, m, 8, after=[loaded])
    stored = d.move("store", "a.out", m, (0, 8), tile=0, after=[made])
    ended: list[int] = []
    for tile, (summed, run) in enumerate((((0, 4), (0, 36, 4)), ((4, 8), (36, 40, 4)))):
        own = {"step": 1, "tile": tile, "after": [stored, *ended]}
        d.move("load", "a.out", part, (0, 8), channels=summed, run=(8 * summed[0], 32, 8), **own)
        there = d.load_weights("b", wb, channels=(0, 4), slice_=(summed, run), **own)
        ended = [d.add(summed, part, wb, y if tile else sums, sums if tile else None, there)]
    d.move("store", "b.out", y, (0, 8), step=1, tile=1, after=ended, channels=(0, 4),
           run=(0, 32, 8))  # fmt: skip
    return d.finish()


def prefetch() -> Schedule:
    """Three convolutions: one map pinned, one spilled and loaded again, weights fetched early."""
    d = Draft(chain(8, (4, 8, 8, 4), "a", "b", "c"))
    for name in ("a", "b", "c"):
        d.step(name)
    x = d.buffer("x", "map", "x", 8, 32, (0, 1))
    wa = d.weights("a", (0, 1))
    wb = d.weights("b", (0, 2))
    wc = d.weights("c", (0, 3))
    am = d.buffer("a.pinned", "map", "a.out", 8, 64, (0, 2))
    bm = d.buffer("b.spilled", "output", "b.out", 8, 64, (1, 2))
    br = d.buffer("b.again", "map", "b.out", 8, 64, (2, 3))
    cm = d.buffer("y", "output", "c.out", 8, 32, (2, 3))
    d.load_weights("a", wa)
    loaded = d.move("load", "x", x, (0, 8))
    d.load_weights("b", wb, need=1)
    d.load_weights("c", wc, need=2)
    d.compute("a", (0, 8), x, wa, am, 8, after=[loaded])
    c = d.compute("b", (0, 8), am, wb, bm, 8, step=1)
    d.move("store", "b.out", bm, (0, 8), step=1, tile=0, after=[c])
    again = d.move("load", "b.out", br, (0, 8), step=2)
    c = d.compute("c", (0, 8), br, wc, cm, 8, step=2, after=[again])
    d.move("store", "c.out", cm, (0, 8), step=2, tile=0, after=[c])
    return d.finish()


def crossing() -> Schedule:
    """Two convolutions of two stripes each: the second's first rows come, and its constants, while
    the first one computes, whose last rows drain while the second one computes."""
    d = Draft(chain(8, (4, 8, 8), "a", "b"))
    d.step("a", tiles=2, depth=2)
    d.step("b", tiles=2, depth=2)
    x = d.buffer("x", "input", "x", 8, 32, (0, 1))
    wa, wb = d.weights("a", (0, 1)), d.weights("b", (0, 2))
    am = d.buffer("a.out", "output", "a.out", 8, 64, (0, 2))
    ar = d.buffer("a.again", "input", "a.out", 8, 64, (0, 2))
    y = d.buffer("y", "output", "b.out", 8, 64, (1, 2))
    loaded = d.load_weights("a", wa)
    l0 = d.move("load", "x", x, (0, 6), tile=0)
    l1 = d.move("load", "x", x, (6, 8), tile=1)
    ready = d.load_weights("b", wb, need=1)
    c0 = d.compute("a", (0, 5), x, wa, am, 6, tile=0, after=[loaded, l0])
    c1 = d.compute("a", (5, 8), x, wa, am, 4, tile=1, after=[l1])
    d.move("store", "a.out", am, (0, 5), tile=0, after=[c0])
    m0 = d.move("load", "a.out", ar, (0, 5), step=1, tile=0)
    d.move("store", "a.out", am, (5, 8), tile=1, after=[c1], need=1)
    m1 = d.move("load", "a.out", ar, (5, 8), step=1, tile=1)
    c2 = d.compute("b", (0, 4), ar, wb, y, 5, step=1, tile=0, after=[m0, ready])
    c3 = d.compute("b", (4, 8), ar, wb, y, 5, step=1, tile=1, after=[m1])
    d.move("store", "b.out", y, (0, 4), step=1, tile=0, after=[c2])
    d.move("store", "b.out", y, (4, 8), step=1, tile=1, after=[c3])
    return d.finish()


def pieces() -> Schedule:
    """Two convolutions, the first in two stripes, one deep: the second's weights come in pieces,
    one while the queue waits for the first stripe, one behind the second."""
    d = Draft(chain(8, (4, 8, 8), "a", "b"))
    d.step("a", tiles=2, depth=1)
    d.step("b")
    x = d.buffer("x", "input", "x", 5, 32, (0, 1))
    wa, wb = d.weights("a", (0, 1)), d.weights("b", (0, 2))
    am = d.buffer("a.pinned", "map", "a.out", 8, 64, (0, 2))
    y = d.buffer("y", "output", "b.out", 8, 64, (1, 2))
    d.load_weights("a", wa)
    first = d.move("load", "x", x, (0, 5), tile=0)
    c0 = d.compute("a", (0, 4), x, wa, am, 5, tile=0, after=[first])
    d.load_weights("b", wb, need=1, piece=(0, 320))
    second = d.move("load", "x", x, (5, 8), tile=1, after=[c0])
    d.load_weights("b", wb, need=1, piece=(320, 608))
    d.compute("a", (4, 8), x, wa, am, 5, tile=1, after=[second])
    c = d.compute("b", (0, 8), am, wb, y, 8, step=1)
    d.move("store", "b.out", y, (0, 8), step=1, tile=0, after=[c])
    return d.finish()


ALL = {
    "single": single,
    "stripes": stripes,
    "fused": fused,
    "recompute": lambda: fused("recompute"),
    "slices": slices,
    "channel_tiles": channel_tiles,
    "own_channels": own_channels,
    "channel_inputs": channel_inputs,
    "partial_sums": partial_sums,
    "prefetch": prefetch,
    "pieces": pieces,
    "crossing": crossing,
}
