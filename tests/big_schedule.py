"""A long schedule made by hand: many convolutions one after the other, each in some stripes."""

from __future__ import annotations

from dataclasses import replace

from schedule_fixture import CHIP, Draft, chain

from spm_opt.graph.network import Layer
from spm_opt.hardware import Scratchpad
from spm_opt.schedule import Schedule


class LongDraft(Draft):
    """A draft that finds its layers at once."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.named = {layer.name: layer for layer in self.network.layers}

    def layer(self, name: str) -> Layer:
        return self.named[name]


def long_schedule(layers: int, tiles: int = 4) -> Schedule:
    """Maps stay in the scratchpad, two by turns; weights come one layer ahead."""
    names = [f"block.{n // 10}.conv{n % 10}" for n in range(layers)]
    chip = replace(CHIP, spm=Scratchpad(65536, 32, CHIP.spm.bytes_per_cycle))
    d = LongDraft(chain(4 * tiles, (8,) * (layers + 1), *names), hardware=chip)
    rows = 4 * tiles
    for name in names:
        d.step(name, tiles=tiles)
    maps = [d.buffer("x", "map", "x", rows, 64, (0, 1))]
    weights = []
    for n, name in enumerate(names):
        weights.append(d.weights(name, (max(n - 1, 0), n + 1)))
        end = min(n + 2, layers)
        maps.append(d.buffer(f"m{n}", "map", f"{name}.out", rows, 64, (n, end)))
    # buffers of every fourth place take each other's: what is four places back is dead
    size = max(b.size_bytes for b in d.buffers)
    d.buffers = [replace(b, offset_bytes=i % 8 * size) for i, b in enumerate(d.buffers)]
    loaded = d.move("load", "x", maps[0], (0, rows))
    for n, name in enumerate(names):
        d.load_weights(name, weights[n], step=max(n - 1, 0), need=n)
        for tile in range(tiles):
            done = d.compute(
                name, (4 * tile, 4 * tile + 4), maps[n], weights[n], maps[n + 1], 6, step=n,
                tile=tile, after=[loaded],
            )  # fmt: skip
    d.move("store", f"{names[-1]}.out", maps[-1], (0, rows), step=layers - 1, after=[done])
    return d.finish()
