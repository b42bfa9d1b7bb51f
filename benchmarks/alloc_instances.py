"""Allocation instances for the benchmark: read, cut from rectangles, unrolled from networks."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from spm_opt.allocation import Buffer
from spm_opt.formats.alloc_csv import read_buffers


def shared_instances(folder: Path) -> dict[str, tuple[tuple[Buffer, ...], int]]:
    """``NAME.CAPACITY.csv`` files of a folder."""
    return {
        path.name.split(".")[0]: (read_buffers(path), int(path.name.split(".")[-2]))
        for path in sorted(folder.glob("*.csv"))
    }


def variant(buffers: Sequence[Buffer], seed: int, dropped: float, back: bool) -> list[Buffer]:
    """Without a share of the buffers, and with time reversed."""
    r = random.Random(seed)
    kept = [b for b in buffers if r.random() >= dropped]
    if not back:
        return kept
    end = max(b.upper for b in kept)
    return [Buffer(b.id, end - b.upper, end - b.lower, b.size) for b in kept]


def guillotine(number: int, seed: int, dropped: float = 0.0) -> tuple[list[Buffer], int]:
    """A rectangle of 2**16 moments x 2**20 bytes cut in two again and again."""
    r = random.Random(f"guillotine {number} {seed}")
    parts = [(0, 0, 1 << 16, 1 << 20)]
    while len(parts) < number:
        chosen = r.sample(range(len(parts)), min(3, len(parts)))
        n = max(chosen, key=lambda i: parts[i][2] * parts[i][3])
        x, y, width, height = parts[n]
        if r.random() < 0.5:
            cut = r.randint(max(1, width // 5), max(1, width - width // 5))
            if cut < width:
                parts[n : n + 1] = [(x, y, cut, height), (x + cut, y, width - cut, height)]
        else:
            cut = r.randint(max(1, height // 5), max(1, height - height // 5))
            if cut < height:
                parts[n : n + 1] = [(x, y, width, cut), (x, y + cut, width, height - cut)]
    r.shuffle(parts)
    del parts[: round(number * dropped)]
    return [Buffer(str(n), x, x + w, h) for n, (x, _, w, h) in enumerate(parts)], 1 << 20


def unrolled(number: int, seed: int) -> list[Buffer]:
    """Buffers of a network run over many steps (frames, tokens): its blocks come again and again.

    A block is a chain of layers: each makes a map that lives until its last reader, reads weights
    that were fetched a little earlier, and uses some scratch; a tenth of the maps are read again by
    a far layer (skip connections), and a few buffers (caches, states) live for many blocks.
    """
    r = random.Random(f"unrolled {number} {seed}")
    shapes = [(r.choice((8, 16, 24, 32, 48, 64, 96)), r.choice((196, 392, 784, 1568, 3136)))
              for _ in range(24)]  # fmt: skip
    buffers: list[Buffer] = []
    time = 0
    while len(buffers) < number:
        channels, pixels = shapes[time % len(shapes)]
        following = shapes[(time + 1) % len(shapes)]
        reach = r.randint(6, 40) if r.random() < 0.1 else r.choice((2, 2, 2, 3))
        sizes = [(time, time + reach, channels * pixels)]
        sizes.append((max(0, time - r.randint(0, 3)), time + 1, channels * following[0] * 9))
        if r.random() < 0.4:
            sizes.append((time, time + 1, r.choice((1, 2, 4)) * 9 * channels * 64))
        if r.random() < 0.02:
            sizes.append((time, time + r.randint(100, 400), channels * pixels // 4))
        for lower, upper, size in sizes:
            buffers.append(Buffer(str(len(buffers)), lower, upper, -(-size // 64) * 64))
        time += 1
    return buffers[:number]
