"""Random networks, chips and problems, small enough that every plan can be tried."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import product

from spm_opt.fusion import Recipe, make_candidates
from spm_opt.graph.builder import Handle, NetworkBuilder
from spm_opt.graph.network import Network
from spm_opt.hardware import ComputeArray, Dram, Hardware, Scratchpad, Unrolling
from spm_opt.parts import source_order
from spm_opt.problem import Candidate, FeatureMap, Overlap, Problem, WeightLoad
from spm_opt.site import Site, feature_maps, make_site, weight_loads

# --------------------------------------------------------------------------- networks and chips


def random_network(rng: random.Random, layers: int = 5, images: int = 1) -> Network:
    """A small DAG of up to `layers` layers of every sort; deterministic for a state of `rng`."""
    b = NetworkBuilder("random")
    channels = rng.choice([2, 4])
    maps = [b.input("x", (images, channels, rng.choice([3, 4, 5, 6, 7]), rng.choice([3, 4])))]
    if rng.random() < 0.2:
        maps.append(b.input("z", maps[0].shape))
    wanted = rng.randint(2, layers)
    while len(b.records) < wanted:
        maps.append(_random_layer(rng, b, maps))
    b.output(maps[-1])
    if rng.random() < 0.3 and len(maps) > 3:
        b.output(maps[-2])
    used = {name for record in b.records for name in record.inputs} | set(b.outputs)
    b.output(*(m for m in maps[1:-1] if m.name not in used))
    return b.build()


def _random_layer(rng: random.Random, b: NetworkBuilder, maps: list[Handle]) -> Handle:
    x = rng.choice(maps[-2:])
    height, width = x.shape[2], x.shape[3]
    kind = rng.choice(
        ["conv", "conv", "big", "depthwise", "strided", "pool", "add", "concat", "dense",
         "branches", "halves", "narrow", "residual", "unary"]
    )  # fmt: skip
    twins = [m for m in maps if m.shape == x.shape]
    same_size = [m for m in maps if m.shape[2:] == x.shape[2:]]
    if kind == "big":
        return b.conv(x, rng.choice([12, 16]), 3, padding=1)
    if kind == "depthwise":
        return b.conv(x, x.shape[1], 3, padding=1, groups=x.shape[1])
    if kind == "strided" and min(height, width) >= 3:
        return b.conv(x, rng.choice([2, 4]), 3, stride=2, padding=rng.choice([0, 1]))
    if kind == "pool" and min(height, width) >= 2:
        return b.max_pool(x, 2, stride=rng.choice([1, 2]))
    if kind == "add":
        return b.add(x, rng.choice(twins))
    if kind == "concat" and x.shape[1] <= 8:
        return b.concat([rng.choice(same_size), x], axis=1)
    if kind in ("dense", "branches", "halves", "narrow", "residual", "unary"):
        return _random_block(rng, b, x, kind)
    return b.conv(x, rng.choice([2, 4, 8]), rng.choice([1, 3]), padding="same")


def _random_block(rng: random.Random, b: NetworkBuilder, x: Handle, kind: str) -> Handle:
    """Layers that leave something to share: joined, taken apart, or written over."""
    c = x.shape[1]
    if kind == "dense" and c <= 8:
        return b.concat([x, _piece(rng, b, x)], axis=1)
    if kind == "branches":
        return b.concat([_piece(rng, b, x), _piece(rng, b, x)], axis=1)
    if kind == "halves" and c > 1:
        low, high = b.slice(x, 1, 0, c // 2), b.slice(x, 1, c // 2)
        return b.concat([high, _piece(rng, b, low)], axis=1)
    if kind == "narrow" and c > 1:
        return b.slice(x, 1, c // 2)
    if kind == "residual":
        return b.add(b.conv(x, c, rng.choice([1, 3]), padding="same"), x)
    return b.unary(x, "tanh")


def _piece(rng: random.Random, b: NetworkBuilder, x: Handle) -> Handle:
    return b.conv(x, rng.choice([2, 4]), rng.choice([1, 3]), padding="same")


def random_chip(rng: random.Random) -> Hardware:
    """A chip so small that everything binds."""
    capacity = rng.choice([192, 256, 320, 384, 512, 640, 768, 1024, 1536])
    return Hardware(
        "chip", 10**9, Scratchpad(capacity, rng.choice([8, 16]), Fraction(16)),
        Dram(Fraction(rng.choice([1, 2, 4])), rng.choice([0, 10, 30]), rng.choice([1, 8, 8])),
        ComputeArray((Unrolling("all", {"k": 2, "c": 2}),), 4,
                     tile_overhead_cycles=rng.choice([0, 3])),
    )  # fmt: skip


@dataclass(frozen=True)
class World:
    """A network laid out on a chip: the pruned problem, and one with every candidate."""

    site: Site
    problem: Problem
    recipes: tuple[Recipe, ...]
    everything: Problem


def make_world(
    network: Network, chip: Hardware, prefetch: bool, halos: tuple[str, ...], cuts: bool = True,
    apart: bool = False,
) -> World:  # fmt: skip
    """Raises SpmTooSmallError where a layer does not fit. `apart`: no slices run together."""
    site = make_site(network, chip, source_order(network))
    found = []
    for prune in (True, False):
        offer = make_candidates(site, halos, prune, cuts=cuts, bands=False)
        candidates, recipes = offer.candidates, offer.recipes
        if apart:
            candidates = tuple(
                c for c in candidates
                if c.end == c.first + 1 or recipes[c.recipe].axis == "rows"
            )  # fmt: skip
        found.append((candidates, recipes))
    problems = [
        Problem(
            len(site.parts), chip.spm.capacity_bytes, feature_maps(site), weight_loads(site),
            candidates, prefetch, cuts=cuts,
        )
        for candidates, _ in found
    ]  # fmt: skip
    return World(site, problems[0], found[0][1], problems[1])


# --------------------------------------------------------------------------- abstract problems


def random_problem(rng: random.Random, prefetch: bool = True, joined: bool = False) -> Problem:
    """A problem of small integers that no network need have: prices are independent.

    Where `joined`, two maps may be written as the pieces of a third.
    """
    layers = rng.randint(3, 4) if joined else rng.randint(2, 4)
    slices = [2 if rng.random() < 0.2 else 1 for _ in range(layers)]
    begins = [sum(slices[:i]) for i in range(layers + 1)]
    reads = [{rng.randint(max(-1, i - 3), i - 1) for _ in range(rng.choice([1, 1, 2]))} if i else
             {-1} for i in range(layers)]  # fmt: skip
    if joined:
        reads[rng.randint(2, layers - 1)] |= {0, 1}
    maps = [_random_map(rng, begins, reads, i) for i in range(-1, layers)]
    if joined:
        maps[1:3] = [replace(m, must_store=False) for m in maps[1:3]]
    sizes = [rng.choice([0, 1, 2, 3, 4]) for _ in range(begins[-1])]
    weights = tuple(WeightLoad(s, s and rng.randint(1, 9), s) for s in sizes)
    candidates: list[Candidate] = []
    for first in range(layers):
        for end in range(first + 1, layers + 1):
            inner = range(first, end - 1)
            if all(any(i in reads[j] for j in range(i + 1, end)) for i in inner):
                spans = [(begins[first], begins[end])]
                if end == first + 1:
                    spans = [(p, p + 1) for p in range(begins[first], begins[end])]
                for span in spans:
                    candidates += _random_group(
                        rng, maps, weights, reads, begins, (first, end), span, len(candidates)
                    )
    plain = Problem(
        begins[-1], rng.choice([6, 8, 10, 12, 16, 24]), tuple(maps), weights, tuple(candidates),
        prefetch, rng.random() < 0.8,
    )  # fmt: skip
    return _with_joined(rng, plain) if joined else plain


def _with_joined(rng: random.Random, problem: Problem) -> Problem:
    """`problem` with a map that the writers of two others may write instead, each its piece.

    A part that reads both may have nothing to do: then its readers read the joined map too.
    """
    maps, number, pieces = problem.maps, len(problem.maps), (1, 2)
    writers = tuple(sorted(p for t in pieces for p in maps[t].writers))
    idle = [p for p in maps[pieces[1]].readers if p in maps[pieces[0]].readers]
    outputs = {t for p in idle[:1] for t, m in enumerate(maps) if m.writers == (p,)}
    outputs = {t for t in outputs if maps[t].readers and not maps[t].must_store}
    inside = {*pieces, *outputs}
    readers = tuple(sorted({p for t in inside for p in maps[t].readers}))
    size = sum(maps[t].size_bytes for t in pieces)
    joined = FeatureMap(size, writers, readers, False, False, rng.randint(1, 6), size, True)
    found = list(problem.candidates)
    for c in problem.candidates:
        found += _joining(rng, c, maps, number, pieces, writers, size)
    for c in list(found):
        found += _reading(rng, c, number, inside)
    if outputs:
        part = idle[0]
        for reads, streams in (((number,), ()), ((), (number,))):
            found.append(
                Candidate(part, part + 1, reads, streams, (), (), False, 0, 0, 0, 0, 0, -1, 0)
            )
    numbered = tuple(replace(c, recipe=k) for k, c in enumerate(found))
    return replace(problem, maps=(*maps, joined), candidates=numbered)


def _joining(
    rng: random.Random, c: Candidate, maps: tuple[FeatureMap, ...], number: int,
    pieces: tuple[int, ...], writers: tuple[int, ...], size: int,
) -> list[Candidate]:  # fmt: skip
    """`c` with what it writes of one piece written into the joined map."""
    mine = [t for t in pieces if any(c.first <= p < c.end for p in maps[t].writers)]
    if len(mine) != 1 or mine[0] not in (*c.keeps, *c.stores):
        return []
    piece = mine[0]
    begun = maps[piece].size_bytes * (piece in c.keeps and maps[piece].birth >= c.first)
    begins = size * (piece in c.keeps and writers[0] >= c.first)
    keeps, stores = (
        tuple(number if t == piece else t for t in side) for side in (c.keeps, c.stores)
    )
    work, cycles = c.work_bytes - begun + begins, _fewer(rng, c)
    found = [replace(c, keeps=keeps, stores=stores, work_bytes=work, duration_cycles=cycles)]
    if piece in c.keeps and piece in c.stores and len(maps[piece].writers) == 1:
        # kept by itself for other readers, and stored as a piece
        found.append(replace(c, stores=stores))
    return found


def _reading(rng: random.Random, c: Candidate, number: int, inside: set[int]) -> list[Candidate]:
    """`c` reading some map that the joined one holds out of that one."""
    found = []
    for t in sorted(inside & {*c.reads, *c.streams}):
        reads, streams = (
            tuple(sorted({number if u == t else u for u in side})) for side in (c.reads, c.streams)
        )
        if not {*reads} & {*streams}:
            cycles = _fewer(rng, c)
            found.append(replace(c, reads=reads, streams=streams, duration_cycles=cycles))
    return found


def _fewer(rng: random.Random, c: Candidate) -> int:
    """Sometimes fewer cycles: else what is joined would hardly ever be best."""
    return max(c.duration_cycles - rng.choice([0, 0, 3]), c.dma_cycles, 1)


def _random_map(rng: random.Random, begins: list[int], reads: list[set[int]], i: int) -> FeatureMap:
    readers = [p for j, read in enumerate(reads) if i in read for p in range(*begins[j : j + 2])]
    size = rng.randint(1, 4)
    return FeatureMap(
        size, tuple(range(*begins[i : i + 2])) if i >= 0 else (), tuple(readers), i < 0,
        i >= 0 and (not readers or rng.random() < 0.15), rng.randint(1, 6), size,
    )  # fmt: skip


def _random_group(
    rng: random.Random, maps: list[FeatureMap], weights: tuple[WeightLoad, ...],
    reads: list[set[int]], begins: list[int], group: tuple[int, int], span: tuple[int, int],
    recipe: int,
) -> list[Candidate]:  # fmt: skip
    """Candidates of layers ``group``, parts ``span``; map i is the output of layer i - 1."""
    inward = sorted({i + 1 for j in range(*group) for i in reads[j] if i < group[0]})
    outward = [
        j + 1 for j in range(*group)
        if maps[j + 1].must_store or any(r >= begins[group[1]] for r in maps[j + 1].readers)
    ]  # fmt: skip
    uses = [["keep", "store", "both"] if not maps[t].must_store else ["store", "both"]
            for t in outward]  # fmt: skip
    found: list[Candidate] = []
    streaming = (
        (False, True) if span[1] == span[0] + 1 and weights[span[0]].size_bytes else (False,)
    )
    for ins in product(["read", "stream"], repeat=len(inward)):
        for outs in product(*uses):
            for streams_weights in streaming:
                for _ in range(rng.choice([1, 1, 2])):
                    found.append(_random_candidate(
                        rng, maps, weights, span, dict(zip(inward, ins, strict=True)),
                        dict(zip(outward, outs, strict=True)), streams_weights,
                        recipe + len(found),
                    ))  # fmt: skip
    return found


def _random_candidate(
    rng: random.Random, maps: list[FeatureMap], weights: tuple[WeightLoad, ...],
    span: tuple[int, int], ins: dict[int, str], outs: dict[int, str], streams_weights: bool,
    recipe: int,
) -> Candidate:  # fmt: skip
    streams = tuple(t for t, use in ins.items() if use == "stream")
    keeps = tuple(t for t, use in outs.items() if use != "store")
    stores = tuple(t for t, use in outs.items() if use != "keep")
    duration = rng.randint(1, 12)
    busy = streams or stores or streams_weights
    begun = sum(maps[t].size_bytes for t in keeps if maps[t].birth >= span[0])
    moved = sum(w.moved_bytes for w in weights[span[0] : span[1]])
    moved += sum(rng.randint(1, 4) for _ in (*streams, *stores))
    dma = rng.randint(1, duration) if busy else 0
    return Candidate(
        *span, tuple(t for t, use in ins.items() if use == "read"), streams, keeps, stores,
        streams_weights, duration, dma, duration, rng.randint(0, 4) + begun, moved, recipe, dma,
        Overlap(duration, dma),
    )  # fmt: skip
