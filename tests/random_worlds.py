"""Random networks, chips and problems, small enough that every plan can be tried."""

from __future__ import annotations

import random
from dataclasses import dataclass
from fractions import Fraction
from itertools import product

from spm_opt.fusion import Recipe, make_candidates
from spm_opt.graph.builder import Handle, NetworkBuilder
from spm_opt.graph.network import Network
from spm_opt.hardware import ComputeArray, Dram, Hardware, Scratchpad, Unrolling
from spm_opt.parts import source_order
from spm_opt.problem import Candidate, FeatureMap, Problem, WeightLoad
from spm_opt.site import Site, feature_maps, make_site, weight_loads

# --------------------------------------------------------------------------- networks and chips


def random_network(rng: random.Random, layers: int = 5) -> Network:
    """A small DAG of up to `layers` layers of every sort; deterministic for a state of `rng`."""
    b = NetworkBuilder("random")
    maps = [b.input("x", (1, rng.choice([2, 4]), rng.choice([3, 4, 5, 6, 7]), rng.choice([3, 4])))]
    if rng.random() < 0.2:
        maps.append(b.input("z", maps[0].shape))
    for _ in range(rng.randint(2, layers)):
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
    kind = rng.choice(["conv", "conv", "big", "depthwise", "strided", "pool", "add", "concat"])
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
    return b.conv(x, rng.choice([2, 4, 8]), rng.choice([1, 3]), padding="same")


def random_chip(rng: random.Random) -> Hardware:
    """A chip so small that everything binds."""
    capacity = rng.choice([192, 256, 320, 384, 512, 640, 768, 1024, 1536])
    return Hardware(
        "chip", 10**9, Scratchpad(capacity, rng.choice([8, 16]), Fraction(16)),
        Dram(Fraction(rng.choice([1, 2, 4])), rng.choice([0, 10, 30]), 8),
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


def make_world(network: Network, chip: Hardware, prefetch: bool, halos: tuple[str, ...]) -> World:
    """Raises SpmTooSmallError where a layer does not fit."""
    site = make_site(network, chip, source_order(network))
    found = []
    for prune in (True, False):
        candidates, recipes = make_candidates(site, halos, prune)
        found.append((candidates, recipes))
    problems = [
        Problem(
            len(site.parts), chip.spm.capacity_bytes, feature_maps(site), weight_loads(site),
            candidates, prefetch,
        )
        for candidates, _ in found
    ]  # fmt: skip
    return World(site, problems[0], found[0][1], problems[1])


# --------------------------------------------------------------------------- abstract problems


def random_problem(rng: random.Random, prefetch: bool = True) -> Problem:
    """A problem of small integers that no network need have: prices are independent."""
    layers = rng.randint(2, 4)
    slices = [2 if rng.random() < 0.2 else 1 for _ in range(layers)]
    begins = [sum(slices[:i]) for i in range(layers + 1)]
    reads = [{rng.randint(max(-1, i - 3), i - 1) for _ in range(rng.choice([1, 1, 2]))} if i else
             {-1} for i in range(layers)]  # fmt: skip
    maps = [_random_map(rng, begins, reads, i) for i in range(-1, layers)]
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
    return Problem(
        begins[-1], rng.choice([6, 8, 10, 12, 16, 24]), tuple(maps), weights, tuple(candidates),
        prefetch, rng.random() < 0.8,
    )  # fmt: skip


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
    return Candidate(
        *span, tuple(t for t, use in ins.items() if use == "read"), streams, keeps, stores,
        streams_weights, duration, rng.randint(1, duration) if busy else 0, duration,
        rng.randint(0, 4) + begun, moved, recipe,
    )  # fmt: skip
