"""Runs of layers in channel tiles: random ones, their plans, and a walk over their elements.

The walk knows what a layer needs of its inputs element by element, and nothing of how candidates
are priced or schedules written.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from plan_fixture import schedule_of

from spm_opt.api import load_hardware
from spm_opt.decision import Decision
from spm_opt.fusion import Recipe, minimum_spm_bytes
from spm_opt.graph.builder import Handle, NetworkBuilder
from spm_opt.graph.network import Layer, Network, Tensor
from spm_opt.graph.ops import Conv
from spm_opt.params import SolveParams
from spm_opt.planner import make_world
from spm_opt.planner_placing import World
from spm_opt.problem import Candidate
from spm_opt.schedule import Schedule

Element = tuple[int, int]  #: row and channel


def random_run(rng: random.Random, images: int = 1) -> Network:
    """A layer that makes channels, and some that hand them on one by one."""
    b = NetworkBuilder("run", dtype="int8")
    channels, rows, columns = rng.choice([4, 6, 8, 12]), rng.randint(5, 9), rng.choice([4, 5, 8])
    x = b.input("x", (images, rng.choice([4, channels]), rows, columns))
    first = ["conv", "pointwise", "grouped"] + (["pool"] if x.shape[1] == channels else [])
    match rng.choice(first):
        case "conv":
            y = b.conv(x, channels, 3, padding=1, name="first")
        case "pointwise":
            y = b.conv(x, channels, 1, stride=rng.choice([1, 2]), name="first")
        case "grouped":
            y = b.conv(x, channels, 3, padding=1, groups=2, name="first")
        case _:
            y = b.max_pool(x, 2, stride=rng.choice([1, 2]), name="first")
    for n in range(rng.randint(1, 3)):
        y = _channelwise(rng, b, x, y, n)
    b.output(y)
    return b.build()


def _channelwise(
    rng: random.Random, b: NetworkBuilder, x: Handle, y: Handle, n: int
) -> Handle:  # fmt: skip
    c, h, w = y.shape[1:]
    kinds = ["depthwise", "unary", "scale", "other", "square", "grouped"]
    kinds += ["pool", "strided"] if min(h, w) >= 3 else []
    kinds += ["residual"] if x.shape == y.shape else []
    match rng.choice(kinds):
        case "depthwise":
            return b.conv(y, c, 3, padding=1, groups=c, name=f"depthwise{n}")
        case "grouped":
            return b.conv(y, c, 3, padding=1, groups=c // 2, name=f"grouped{n}")
        case "strided":
            return b.conv(y, c, 3, stride=2, groups=c, name=f"strided{n}")
        case "pool":
            return b.max_pool(y, rng.choice([2, 3]), stride=rng.choice([1, 2]), name=f"pool{n}")
        case "scale":
            return b.mul(y, constant=(c, 1, 1), name=f"scale{n}")
        case "other":
            return b.add(y, b.input(f"z{n}", y.shape), name=f"other{n}")
        case "square":
            return b.mul(y, y, name=f"square{n}")
        case "residual":
            return b.add(x, y, name=f"residual{n}")
    return b.unary(y, "tanh", name=f"unary{n}")


def attention(tokens: int = 12, heads: int = 4, width: int = 8) -> Network:
    """Heads of attention: products of queries, keys and values that are there."""
    b = NetworkBuilder("attention", dtype="int8")
    q, k, v = (b.input(name, (1, heads, tokens, width)) for name in "qkv")
    scores = b.matmul(q, k, transpose_b=True, name="scores")
    scores = b.mul(scores, constant=(heads, 1, 1), name="scaled")
    b.output(b.matmul(b.softmax(scores, name="shares"), v, name="mixed"))
    return b.build()


def world(network: Network, capacity: int) -> World:
    """Sizes are exact: nothing is rounded up to bursts or to an alignment."""
    hardware = load_hardware(
        "mobile_npu",
        {"spm.capacity": str(capacity), "spm.alignment": "1", "dram.burst": "1"},
    )
    return make_world(network, hardware, SolveParams(), "source", tuple(range(len(network.layers))))


def tight(network: Network, axis: str) -> int:
    """A capacity at which a run along an axis is worth having: in blocks hardly any."""
    if axis == "channels":
        return 4000
    least, _ = minimum_spm_bytes(network, load_hardware("mobile_npu", {"spm.alignment": "1"}))
    return max(least + least // 2, 3 * network.weight_bytes)


@dataclass(frozen=True)
class Plan:
    """A schedule of a run that is all of its network."""

    candidate: Candidate
    recipe: Recipe
    schedule: Schedule


def plans(found: World, axis: str, wide: bool = False) -> Iterator[Plan]:
    """Every run along an axis that is all of the network; maps that it reads are loaded whole."""
    parts = len(found.site.parts)
    for k, candidate in enumerate(found.problem.candidates):
        recipe = found.recipes[candidate.recipe]
        layers = recipe.positions[1] - recipe.positions[0]
        if recipe.axis != axis or layers < 2 or (candidate.first, candidate.end) != (0, parts):
            continue
        resident = tuple((t, 0, 1) for t in candidate.reads)
        reloads = tuple((t, 0) for t in candidate.reads)
        decision = Decision((k,), resident, reloads, (-1,) * parts)
        schedule = schedule_of(found, decision, wide)
        if schedule is not None:
            yield Plan(candidate, recipe, schedule)


# --------------------------------------------------------------------------- the walk


@dataclass
class Tile:
    """What one tile computes and reads: elements by layer, and by tensor from outside."""

    made: dict[str, set[Element]] = field(default_factory=dict)
    read: dict[str, set[Element]] = field(default_factory=dict)


def tiles(network: Network, height: int, width: int) -> list[Tile]:
    """All tiles, in order: stripes of `height` rows, channels `width` at a time."""
    last = network.layers[-1]
    channels = channels_of(network.tensors[last.output])
    one = last.rows // last.images
    begins = (
        [(r, min(r + height, last.rows)) for r in range(0, last.rows, height)]
        if height >= one
        else [
            (image * one + r, image * one + min(r + height, one))
            for image in range(last.images)
            for r in range(0, one, height)
        ]
    )
    return [
        _walked(
            network, {(r, c) for r in range(*rows) for c in range(low, min(low + width, channels))}
        )
        for rows in begins
        for low in range(0, channels, width)
    ]


def channels_of(tensor: Tensor) -> int:
    """Channels of images, heads of products."""
    return tensor.shape[1]


def _walked(network: Network, wanted: set[Element]) -> Tile:
    tile, needed = Tile(), {network.layers[-1].output: wanted}
    for layer in reversed(network.layers):
        tile.made[layer.name] = own = without_gaps(needed.pop(layer.output))
        for i, operand in enumerate(layer.inputs):
            tensor = network.tensors[operand.tensor]
            found = needed.setdefault(operand.tensor, set())
            for row, channel in own:
                begin, end = layer.input_rows(i).needed(row, row + 1, tensor.rows)
                mine = channels_read(layer, channel, channels_of(tensor))
                found.update((r, c) for r in range(begin, end) for c in mine)
    tile.read = {name: without_gaps(found) for name, found in needed.items()}
    return tile


def without_gaps(elements: set[Element]) -> set[Element]:
    """With the rows between those that are needed: a tile has one interval of them."""
    rows, channels = {r for r, _ in elements}, {c for _, c in elements}
    return {(r, c) for r in range(min(rows), max(rows) + 1) for c in channels}


def channels_read(layer: Layer, channel: int, count: int) -> range:
    """Channels of an input that one of the output needs: its own, its group's, or all."""
    if not isinstance(layer.op, Conv):
        return range(channel, channel + 1)
    group = layer.op.out_channels // layer.op.groups
    each = count // layer.op.groups
    return range(channel // group * each, (channel // group + 1) * each)


def shared(rng: random.Random) -> Network:
    """Layers that hand channels on to layers behind the run as well, or to the world."""
    b = NetworkBuilder("shared", dtype="int8")
    x = b.input("x", (1, 4, rng.randint(5, 9), 5))
    y = b.conv(x, 8, rng.choice([1, 3]), padding="same", name="first")
    z = b.max_pool(y, 2, stride=rng.choice([1, 2]), name="pool")
    u = b.unary(z, "tanh", name="unary") if rng.random() < 0.5 else z
    b.output(b.conv(y, 4, 1, name="outside"), b.conv(u, 4, 1, name="behind"))
    if rng.random() < 0.5:
        b.output(z)
    return b.build()
