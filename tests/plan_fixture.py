"""Helpers of the planning tests: random networks of every operator, chips, and random decisions.

A random decision is any plan that the rules allow, not a good one: groups, residencies and
prefetches are drawn by lot, so that layouts and timelines meet combinations that no optimum has.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, replace
from fractions import Fraction

from spm_opt.assemble import Placed, assemble
from spm_opt.banding import in_bands
from spm_opt.decision import Decision
from spm_opt.dynamic import residencies
from spm_opt.fusion import Recipe, make_candidates, minimum_spm_bytes
from spm_opt.graph.builder import Handle, NetworkBuilder
from spm_opt.graph.network import Network
from spm_opt.graph.ops import Concat, Slice
from spm_opt.hardware import ComputeArray, Dram, Hardware, Scratchpad, Unrolling
from spm_opt.layout import Layout, lay_out
from spm_opt.layout_space import rectangles
from spm_opt.overlap import order_queue
from spm_opt.parts import source_order
from spm_opt.problem import Candidate, Problem, led, written
from spm_opt.schedule import Provenance, Schedule
from spm_opt.site import Site, feature_maps, make_site, weight_loads
from spm_opt.widen import widen

MADE = Provenance(
    "joint", "latency", True, "feasible", 0, 0, 0, "source", 1, "by lot", 0, 1, 1.0, None, 0.0
)


def random_network(
    rng: random.Random, layers: int = 6, images: int = 1, widths: tuple[int, ...] = (3, 5, 8)
) -> Network:
    """A DAG of images with every operator that the planner tiles, now and then with attention."""
    b = NetworkBuilder("random")
    channels = rng.choice([2, 4, 8])
    maps = [b.input("x", (images, channels, rng.choice([4, 6, 7, 9, 12]), rng.choice(widths)))]
    for _ in range(rng.randint(2, layers)):
        maps.append(_random_layer(rng, b, maps))
    x = maps[-1]
    if rng.random() < 0.4:
        y = b.reshape(x, (0, 0, -1))
        x = b.unary(b.linear(b.flatten(b.global_avg_pool(x)), rng.choice([5, 9])), "tanh")
        if rng.random() < 0.5:
            b.output(_attention(b, y))
    b.output(x, *(m for m in maps[1:-1] if rng.random() < 0.1))
    used = {name for record in b.records for name in record.inputs} | set(b.outputs)
    b.output(*(m for m in maps if m.name not in used))
    return b.build()


def _attention(b: NetworkBuilder, x: Handle) -> Handle:
    tokens = b.linear(b.transpose(x, (0, 2, 1)), 8)
    heads = b.transpose(b.reshape(tokens, (0, 0, 2, 4)), (0, 2, 1, 3))
    weights = b.softmax(b.matmul(heads, heads, transpose_b=True))
    return b.transpose(b.matmul(weights, heads), (0, 2, 1, 3))


def _random_layer(rng: random.Random, b: NetworkBuilder, maps: list[Handle]) -> Handle:
    x = rng.choice(maps[-2:])
    c, h, w = x.shape[1:]
    twins = [m for m in maps if m.shape == x.shape]
    beside = [m for m in maps if m.shape[2:] == x.shape[2:]]
    kinds = ["conv", "wide", "depthwise", "add", "unary", "norm", "scale", "pad"]
    kinds += ["grouped"] if c % 2 == 0 else []
    kinds += ["residual", "chain", "branches"]
    kinds += ["narrow", "halves"] if c >= 2 else []
    kinds += ["concat", "dense", "dense"] if c <= 8 else []
    kinds += ["strided", "dilated", "pool", "slice", "gate"] if min(h, w) >= 3 else []
    kinds += ["resize", "deconv"] if h <= 7 else []
    match rng.choice(kinds):
        case "conv":
            return b.conv(x, rng.choice([2, 4, 8]), rng.choice([1, 3]), padding="same")
        case "wide":
            return b.conv(x, rng.choice([12, 24]), 3, padding=1)
        case "depthwise":
            return b.conv(x, c, 3, padding=1, stride=rng.choice([1, 2]), groups=c)
        case "grouped":
            return b.conv(x, rng.choice([c, 2 * c]), 3, padding=1, groups=2)
        case "strided":
            return b.conv(x, rng.choice([2, 4]), 3, stride=2, padding=rng.choice([0, 1]))
        case "dilated":
            return b.conv(x, 4, (2, 3), padding=(2, 0, 1, 1), dilation=(2, 1))
        case "pool":
            return b.max_pool(x, rng.choice([2, 3]), stride=rng.choice([1, 2]))
        case "add":
            return b.add(x, rng.choice(twins))
        case "norm":
            return b.softmax(x, axis=rng.choice([1, 3]))
        case "scale":
            return b.mul(x, constant=(c, 1, 1))
        case "gate":
            return b.mul(x, b.global_avg_pool(x))
        case "pad":
            return b.pad(x, (0, 0, 1, 0, 0, 0, 1, 1))
        case "slice":
            return b.slice(x, 2, 1, h, rng.choice([1, 2]))
        case "resize":
            return b.resize(x, scale=2)
        case "deconv":
            return b.conv_transpose(x, rng.choice([2, 4]), 3, stride=2, padding=1)
        case "concat":
            return b.concat([rng.choice(beside), x], axis=1)
        case "residual" | "chain" | "branches" | "narrow" | "halves" | "dense" as kind:
            return _random_block(rng, b, x, kind)
    return b.unary(x, "sigmoid")


def _random_block(rng: random.Random, b: NetworkBuilder, x: Handle, kind: str) -> Handle:
    """Layers that leave something to share: joined, taken apart, or written over."""
    c = x.shape[1]
    at = rng.randrange(1, c) if c > 1 else 0
    match kind:
        case "residual":
            return b.add(b.conv(x, c, rng.choice([1, 3]), padding="same"), x)
        case "chain":
            return b.unary(b.mul(b.unary(x, "tanh"), constant=(c, 1, 1)), "sigmoid")
        case "branches":
            return b.concat([_piece(rng, b, x) for _ in range(rng.choice([2, 2, 3]))], axis=1)
        case "narrow":
            y = b.slice(x, 1, at, c) if rng.random() < 0.5 else b.slice(x, 1, 0, at)
            return b.slice(y, 1, 1) if y.shape[1] > 1 and rng.random() < 0.3 else y
        case "halves":
            halves = [b.slice(x, 1, 0, at), b.slice(x, 1, at, c)]
            pieces = [half if rng.random() < 0.4 else _piece(rng, b, half) for half in halves]
            return b.concat(pieces[:: rng.choice([1, -1])], axis=1)
    for _ in range(rng.choice([1, 2])):
        x = b.concat([x, _piece(rng, b, x)][:: rng.choice([1, -1])], axis=1)
    return x


def _piece(rng: random.Random, b: NetworkBuilder, x: Handle) -> Handle:
    if rng.random() < 0.3:
        return b.unary(x, "tanh")
    return b.conv(x, rng.choice([2, 4]), rng.choice([1, 3]), padding="same")


def random_chip(rng: random.Random, network: Network, tightness: float | None = None) -> Hardware:
    """A chip on which `network` just fits, or fits well (by `tightness`)."""
    alignment = rng.choice([8, 16, 32])
    chip = Hardware(
        "chip", 10**9,
        Scratchpad(alignment, alignment, Fraction(16), rng.choice([None, Fraction(8)])),
        Dram(Fraction(rng.choice([1, 2, 4, 16])), rng.choice([0, 10, 40]), rng.choice([8, 16])),
        ComputeArray(
            (Unrolling("kc", {"k": 2, "c": 2}), Unrolling("g", {"g": 4})), 4,
            tile_overhead_cycles=rng.choice([0, 3]),
        ),
    )  # fmt: skip
    least, _ = minimum_spm_bytes(network, chip)
    factor = rng.choice([1.0, 1.3, 2.0, 4.0, 10.0]) if tightness is None else tightness
    return with_capacity(chip, int(least * factor) // alignment * alignment)


def with_capacity(chip: Hardware, capacity_bytes: int) -> Hardware:
    return replace(chip, spm=replace(chip.spm, capacity_bytes=capacity_bytes))


@dataclass(frozen=True)
class World:
    """A network on a chip, with its candidates."""

    site: Site
    problem: Problem
    recipes: tuple[Recipe, ...]


def make_world(
    network: Network, chip: Hardware, prune: bool = True, halos: tuple[str, ...] = ("retain",),
    aliases: bool = True, cuts: bool = True, bands: bool = False, runs: bool = True,
) -> World:  # fmt: skip
    site = make_site(network, chip, source_order(network), aliases)
    offer = make_candidates(site, halos, prune, cuts=cuts, bands=bands, runs=runs)
    candidates, recipes = offer.candidates, offer.recipes
    problem = Problem(
        len(site.parts), chip.spm.capacity_bytes, feature_maps(site), weight_loads(site),
        candidates, cuts=cuts,
    )  # fmt: skip
    return World(site, problem, recipes)


# --------------------------------------------------------------------------- decisions


def random_decision(rng: random.Random, problem: Problem, prefetch: bool = True) -> Decision | None:
    """Groups and residencies by lot; None where the lot leads nowhere."""
    modes = {t: (False, True) for t, m in enumerate(problem.maps) if m.in_dram}
    leaders, writes = led(problem), written(problem)
    used: list[int] = []
    reloaded: list[tuple[int, ...]] = []
    spaces: list[int] = []
    v = 0
    while v < problem.parts:
        options = leaders[v]
        idle = [k for k in options if not problem.candidates[k].duration_cycles]
        # few candidates have nothing to do: by lot alone they would hardly come up
        for k in [
            *(idle if rng.random() < 0.5 else ()),
            *rng.sample(options, min(len(options), 60)),
        ]:
            c = problem.candidates[k]
            reloads = _reloads(problem, writes, modes, c)
            if reloads is None:
                continue
            space = _space(problem, modes, c, reloads)
            if space <= problem.capacity_bytes:
                break
        else:
            return None
        used.append(k)
        reloaded.append(reloads)
        spaces.append(space)
        _move_on(rng, problem, writes, modes, c, reloads)
        v = c.end
    chosen = [problem.candidates[k] for k in used]
    resident, loaded = residencies(chosen, reloaded)
    starts = _weight_starts(rng, problem, chosen, spaces, prefetch)
    return Decision(tuple(used), resident, loaded, tuple(starts))


def _reloads(
    problem: Problem, writes: list[list[int]], modes: dict[int, tuple[bool, bool]], c: Candidate
) -> tuple[int, ...] | None:
    """Maps that `c` has to load whole; None where it cannot run."""
    nowhere = (False, False)
    reloads = tuple(t for t in c.reads if not modes.get(t, nowhere)[0])
    if any(not modes.get(t, nowhere)[1] for t in (*reloads, *c.streams)):
        return None
    if any(max(problem.maps[t].writers, default=-1) >= c.first for t in reloads):
        return None  # not all of it is there yet
    for t in _written(writes, c):
        # whoever writes a part of a map shares one choice, to leave it alone included
        begun = problem.maps[t].birth < c.first
        if begun and modes.get(t, nowhere) != (t in c.keeps, t in c.stores):
            return None
    return reloads


def _written(writes: list[list[int]], c: Candidate) -> set[int]:
    return {t for part in range(c.first, c.end) for t in writes[part]}


def _space(
    problem: Problem, modes: dict[int, tuple[bool, bool]], c: Candidate, reloads: tuple[int, ...]
) -> int:
    pinned = {t for t, (in_spm, _) in modes.items() if in_spm} | set(reloads)
    weights = 0 if c.streams_weights else sum(
        problem.weights[p].size_bytes for p in range(c.first, c.end)
    )  # fmt: skip
    return c.work_bytes + weights + sum(problem.maps[t].size_bytes for t in pinned)


def _move_on(
    rng: random.Random, problem: Problem, writes: list[list[int]],
    modes: dict[int, tuple[bool, bool]], c: Candidate, reloads: tuple[int, ...],
) -> None:  # fmt: skip
    modes.update(dict.fromkeys(reloads, (True, True)))
    for t in _written(writes, c):
        modes[t] = (t in c.keeps, t in c.stores)
    for t, (in_spm, in_dram) in list(modes.items()):
        done = max(problem.maps[t].writers, default=-1) < c.end
        if problem.maps[t].last_use < c.end or (in_spm and in_dram and done and rng.random() < 0.5):
            modes[t] = (False, in_dram)


def _weight_starts(
    rng: random.Random, problem: Problem, chosen: list[Candidate], spaces: list[int],
    prefetch: bool,
) -> list[int]:  # fmt: skip
    starts = [-1] * problem.parts
    for s, c in enumerate(chosen):
        for part in range(c.first, c.end):
            size = problem.weights[part].size_bytes
            if not size or c.streams_weights:
                continue
            early = s
            while prefetch and early and rng.random() < 0.6:
                if spaces[early - 1] + size > problem.capacity_bytes:
                    break
                early -= 1
                spaces[early] += size
            starts[part] = chosen[early].first
    return starts


def first_fit(layout: Layout) -> list[int]:
    """Offsets, each buffer as low as those placed before it allow; one for those that share."""
    found, numbers = rectangles(layout.buffers)
    offsets: list[int] = []
    for own in found:
        taken = sorted(
            (offset, offset + other.size)
            for offset, other in zip(offsets, found, strict=False)
            if other.begin < own.end and own.begin < other.end
        )
        low = 0
        for begin, end in taken:
            if low + own.size <= begin:
                break
            low = max(low, end)
        offsets.append(low)
    return [offsets[number] for number in numbers]


def loads(layout: Layout) -> list[int]:
    """Bytes in SPM at each step; what shares bytes counts once."""
    buffers = layout.buffers
    found = []
    for step in range(len(layout.programs)):
        there: dict[int, int] = {}
        for index, buffer in enumerate(buffers):
            if buffer.first_step <= step < buffer.end_step:
                root = index
                while (host := buffers[root].shares) is not None:
                    root = host
                there[root] = buffer.size_bytes
        found.append(sum(there.values()))
    return found


def schedule_of(world: World, decision: Decision, wide: bool = False) -> Schedule | None:
    """The schedule of a decision; None where first fit finds no addresses.

    Parameters
    ----------
    wide : bool
        Claim early and release late where there is room.
    """
    told = in_bands(world.site, world.problem, world.recipes, decision)
    layout = lay_out(told.site, told.problem, told.recipes, told.decision)
    if wide:
        layout = widen(layout, world.problem.capacity_bytes, told.reserved)
    offsets = first_fit(layout)
    ends = [o + b.size_bytes for o, b in zip(offsets, layout.buffers, strict=True)]
    if max(ends) > world.site.hardware.spm.capacity_bytes:
        return None
    dram = world.site.hardware.dram
    queue = order_queue(layout, dram)
    timeline, modelled = queue.timeline(), queue.barrier_cycles
    placed = Placed(decision, told.site, layout, timeline, tuple(offsets), modelled)
    return assemble(placed, replace(MADE, objective_value=placed.latency_cycles))


# --------------------------------------------------------------------------- what is shared

#: everything that maps inside others, and over others, give to a plan
SHARING_SORTS = (
    "elided concat", "elided split", "elided in a group", "joined kept", "joined stored",
    "joined kept and stored", "kept itself, stored as a piece", "joined by itself",
    "stripe over stripe", "takeover", "read where it is split", "stream of a piece",
    "nested joined", "slices of a piece",
)  # fmt: skip


def sharing_sorts(world: World, decision: Decision, layout: Layout) -> Counter[str]:
    """How often a plan makes use of each of `SHARING_SORTS`."""
    site, problem, seen = world.site, world.problem, Counter[str]()
    joined = {t for t, m in enumerate(problem.maps) if m.joined}
    for k, program in zip(decision.candidates, layout.programs, strict=True):
        c = problem.candidates[k]
        recipe = world.recipes[c.recipe]
        first = site.layer_at(recipe.positions[0])
        ran = {compute.layer for tile in program.computes for compute in tile}
        kept, stored = joined & {*c.keeps}, joined & {*c.stores}
        seen["elided concat"] += recipe.elided and isinstance(first.op, Concat)
        seen["elided split"] += recipe.elided and isinstance(first.op, Slice)
        seen["elided in a group"] += not recipe.elided and not ran.issuperset(program.step.layers)
        seen["joined kept"] += bool(kept - stored)
        seen["joined stored"] += bool(stored - kept) and not c.keeps
        seen["joined kept and stored"] += bool(kept & stored)
        seen["kept itself, stored as a piece"] += bool(stored) and any(
            site.map_names[t] in site.written_into and t not in c.stores for t in c.keeps
        )
        seen["slices of a piece"] += (
            bool(kept | stored)
            and c.end - c.first == 1
            and (site.parts[c.first].channels is not None)
        )
        seen["stream of a piece"] += not recipe.elided and bool(joined & {*c.streams})
        for t in kept | stored:
            plan = site.joined[t - len(site.map_index)]
            seen["nested joined"] += len(plan.inner) > 1
        for compute in (compute for tile in program.computes for compute in tile):
            layer = next(n for n in site.network.layers if n.name == compute.layer)
            for operand, number in zip(layer.inputs, compute.inputs, strict=True):
                holder = layout.buffers[number].tensor
                place = site.read_from.get(operand.tensor)
                split = place is not None and place.map not in joined
                seen["read where it is split"] += split and holder != operand.tensor
    seen["joined by itself"] = sum(
        1 for t in joined
        if not any(t in problem.candidates[k].keeps + problem.candidates[k].stores
                   for k in decision.candidates)
    )  # fmt: skip
    for buffer in layout.buffers:
        if buffer.shares is not None:
            seen["takeover" if buffer.kind == "map" else "stripe over stripe"] += 1
    return seen
