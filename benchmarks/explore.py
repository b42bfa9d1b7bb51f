"""What the space of fused mappings holds: known results, orders, retention, recomputation.

    python benchmarks/explore.py [--write]

Prints the tables of docs/fusion.md; with --write puts them there.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from page import ROOT, write_section

from spm_opt.api import load_hardware, load_network
from spm_opt.exploration import Exploration, explore_set, staircase
from spm_opt.graph.builder import NetworkBuilder
from spm_opt.mapping import Loop, Mapping
from spm_opt.mapping_counts import evaluate
from spm_opt.mapping_search import SIZES, Space, undominated
from spm_opt.mapping_set import FusionSet, fusion_set
from spm_opt.mapping_tables import least_work, tables

PAGE: Path = ROOT / "docs" / "fusion.md"
HARDWARE = load_hardware("mobile_npu")
#: tilings of more tiles are left out where retention is uniform
MOST_UNIFORM_TILES = 400


def convolutions() -> FusionSet:
    b = NetworkBuilder("conv+conv+conv")
    x = b.input("x", (1, 16, 112, 112))
    for i in range(3):
        x = b.conv(x, 16, 3, padding=1, bias=False, name=f"conv{i + 1}")
    return finished(b, x)


def inverted_residuals() -> FusionSet:
    b = NetworkBuilder("pw+dw+pw, twice")
    x = b.input("x", (1, 24, 28, 28))
    for i in range(2):
        x = b.conv(x, 192, 1, bias=False, name=f"expand{i + 1}")
        x = b.depthwise(x, 3, padding=1, bias=False, name=f"depthwise{i + 1}")
        x = b.conv(x, 24, 1, bias=False, name=f"project{i + 1}")
    return finished(b, x)


def fully_connected() -> FusionSet:
    b = NetworkBuilder("fc+fc")
    x = b.linear(b.input("x", (128, 64)), 64, bias=False, name="fc1")
    return finished(b, b.linear(x, 64, bias=False, name="fc2"))


def attention() -> FusionSet:
    b = NetworkBuilder("attention")
    q, k, v = (b.input(n, (1, 8, 256, 64)) for n in ("q", "k", "v"))
    scores = b.softmax(b.matmul(q, k, transpose_b=True, name="qk"), name="softmax")
    return finished(b, b.matmul(scores, v, name="av"))


def finished(b: NetworkBuilder, x: object) -> FusionSet:
    b.output(x)
    return fusion_set(b.build())


SHAPES = (convolutions, inverted_residuals, fully_connected, attention)


@dataclass(frozen=True)
class Row:
    """One mapping: order of its loops, and its costs."""

    order: tuple[str, ...]
    spm: int
    dram: int
    again: int


def survey(fused: FusionSet) -> list[Row]:
    """Every mapping that no other of its tiling dominates; no latencies."""
    found, work = [], least_work(fused, HARDWARE)
    for tiling in Space(fused, SIZES).tilings():
        order = tuple(s.name for s in tiling.loops)
        for table in tables(tiling, HARDWARE, work, False):
            for i in undominated(table.costs[:, :3]).tolist():
                found.append(Row(order, *table.costs[i, :3].tolist()))
    return found


def uniform(fused: FusionSet) -> Iterator[Row]:
    """Mappings that keep the same along each loop of all tensors."""
    maps = (*fused.inputs, *fused.intermediates)
    weighted = [layer.name for layer in fused.layers if layer.weight_bytes]
    for tiling in Space(fused, SIZES | {3: 0}).tilings():
        loops = tuple(Loop(s.name, s.size) for s in tiling.loops)
        tiles = 1
        for s in tiling.loops:
            tiles *= s.tiles
        axes = [loop.axis for loop in loops]
        for kept in itertools.product(
            (True, False), repeat=len(axes) * (tiles <= MOST_UNIFORM_TILES)
        ):
            names = tuple(a for a, k in zip(axes, kept, strict=True) if k) if kept else tuple(axes)
            mapping = Mapping(loops, dict.fromkeys(maps, names), dict.fromkeys(weighted, names))
            counts = evaluate(fused, mapping, HARDWARE)
            yield Row(tuple(axes), counts.spm_bytes, counts.traffic.total, counts.recomputed_macs)


def least(rows: Iterable[Row], dram: int, again: float = float("inf")) -> int | None:
    """Scratchpad that so many DRAM bytes and recomputed MACs take."""
    return min((r.spm for r in rows if r.dram <= dram and r.again <= again), default=None)


def kib(size: int | None) -> str:
    return "-" if size is None else f"{size / 1024:.1f}"


def ratio(a: int | None, b: int | None) -> str:
    return "-" if not a or not b else f"{a / b:.2f}"


def shape_rows(fused: FusionSet, found: Exploration) -> tuple[str, str]:
    rows, macs = survey(fused), sum(layer.macs for layer in fused.layers)
    dram = min(r.dram for r in rows)
    orders = {
        order: size
        for order in {r.order for r in rows if r.order}
        if (size := least((r for r in rows if r.order == order), dram, 0)) is not None
    }
    best, worst = min(orders, key=orders.__getitem__), max(orders, key=orders.__getitem__)
    same = list(uniform(fused))
    over, over_any = (
        max(r.spm / size for r in _falling(same) if (size := least(rows, r.dram, at_most(r))))
        for at_most in (lambda r: r.again, lambda r: float("inf"))
    )
    free, some, any_ = (least(rows, dram, share * macs) for share in (0, 0.1, 100))
    name = fused.network.name
    first = (
        f"| {name} | {dram:,} | {' > '.join(best)} | {kib(orders[best])} | {' > '.join(worst)} | "
        f"{kib(orders[worst])} | {ratio(orders[worst], orders[best])} | {crossover(found)} |"
    )
    second = (
        f"| {name} | {kib(least(same, dram))} | {kib(any_)} | {over:.2f} | {over_any:.2f} | "
        f"{kib(free)} | {kib(some)} | {ratio(free, some)} | {kib(any_)} | "
        f"{again(rows, dram, macs)} |"
    )
    return first, second


def _falling(rows: Iterable[Row]) -> list[Row]:
    found: list[Row] = []
    for row in sorted(rows, key=lambda r: (r.spm, r.dram, r.again)):
        if not found or row.dram < found[-1].dram:
            found.append(row)
    return found


def again(rows: list[Row], dram: int, macs: int) -> str:
    """MACs recomputed at the least scratchpad for so many bytes."""
    size = least(rows, dram)
    return f"{100 * min(r.again for r in rows if r.dram <= dram and r.spm == size) / macs:.1f} %"


def crossover(found: Exploration) -> str:
    """Capacity below which layer by layer moves less than any fused mapping."""
    fused = staircase([p for p in found.points if p.fused])
    for point in fused:
        alone = [p for p in found.layer_by_layer if p.spm_bytes <= point.spm_bytes]
        if not alone or point.dram_bytes.total <= alone[-1].dram_bytes.total:
            return kib(point.spm_bytes)
    return "-"


def stairs(found: Exploration) -> list[str]:
    fused = staircase([p for p in found.points if p.fused])
    return [
        f"`{found.model}`, fused: "
        + ", ".join(f"{kib(p.spm_bytes)}: {p.dram_bytes.total:,}" for p in thinned(fused)),
        "",
        f"`{found.model}`, layer by layer: "
        + ", ".join(
            f"{kib(p.spm_bytes)}: {p.dram_bytes.total:,}" for p in thinned(found.layer_by_layer)
        ),
        "",
    ]


def thinned(points: tuple, most: int = 10) -> list:
    """At most so many points, the first and the last among them."""
    if len(points) <= most:
        return list(points)
    return [points[round(i * (len(points) - 1) / (most - 1))] for i in range(most)]


def published() -> list[str]:
    lines = [
        "| layers | run | feature maps, bytes | MiB | SPM with weights, KiB | SPM without, KiB | "
        "recomputed MACs |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for model, first, last in (
        ("vgg19", "features.0", "features.10"),
        ("alexnet", "conv1", "conv2"),
    ):
        fused = fusion_set(load_network(model, dtype="float32"), first, last)
        start = time.process_time()
        found = explore_set(fused, HARDWARE)
        seconds = time.process_time() - start
        macs = sum(layer.macs for layer in fused.layers)
        name = f"{model} {first} to {last}"
        lines += [
            _published(name, run, points[-1], macs)
            for run, points in (
                ("layer by layer", found.layer_by_layer),
                ("layer by layer, pools merged", found.layer_by_layer_merged),
            )
        ]
        least_maps = min(p.dram_bytes.feature_maps for p in found.points if p.fused)
        fused_points = [
            p for p in found.points if p.fused and p.dram_bytes.feature_maps == least_maps
        ]
        for share in (0, 0.05, 0.1, 100):
            able = [p for p in fused_points if p.recomputed_macs <= share * macs]
            best = min(able, key=lambda p: (p.spm_feature_map_bytes, p.recomputed_macs))
            run = "any recomputation" if share > 1 else f"at most {share:.0%} again"
            lines.append(_published(name, f"fused, {run}", best, macs))
        lines.append(
            f"| {name} | | | | | | {found.kept} kept, {found.dropped:,} dropped, {seconds:.0f} s |"
        )
    return lines


def _published(name, run, point, macs) -> str:
    maps = point.dram_bytes.feature_maps
    return (
        f"| {name} | {run} | {maps:,} | {maps / 2**20:.3f} | {kib(point.spm_bytes)} | "
        f"{kib(point.spm_feature_map_bytes)} | {100 * point.recomputed_macs / macs:.1f} % |"
    )


def main() -> None:
    text = ["### Published results", "", *published(), ""]
    first = [
        "### Orders, and where layer by layer wins", "",
        "Least scratchpad for the least traffic without recomputation, by the order of the loops "
        "(outermost first); below the capacity in the last column layer by layer moves less.", "",
        "| set | least DRAM bytes | best order | KiB | worst order | KiB | worst / best | "
        "fused from, KiB |",
        "|---|--:|---|--:|---|--:|--:|--:|",
    ]  # fmt: skip
    second = [
        "### Retention by tensor, and the price of recomputation", "",
        "Scratchpad (KiB) for the least traffic. *Uniform*: the same kept along each loop of all "
        "tensors; *most* is the largest ratio of uniform to by tensor at the same traffic, with no "
        "more recomputation, and with any.", "",
        "| set | uniform | by tensor | most | most, any | none again | at most 10 % again | "
        "saves | any | MACs again |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]  # fmt: skip
    falling = ["### Staircases", "", "Scratchpad in KiB: DRAM bytes.", ""]
    for shape in SHAPES:
        fused = shape()
        found = explore_set(fused, HARDWARE)
        a, b = shape_rows(fused, found)
        first.append(a)
        second.append(b)
        falling += stairs(found)
        print(a, b, sep="\n", file=sys.stderr, flush=True)
    text += [*first, "", *second, "", *falling]
    print("\n".join(text))
    if "--write" in sys.argv[1:]:
        write_section("explore", "\n".join(text), PAGE)


if __name__ == "__main__":
    main()
