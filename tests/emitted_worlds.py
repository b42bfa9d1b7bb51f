"""Random small networks, chips and plans for programs that are compiled and run."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import partial

import random_worlds
from plan_fixture import make_world, random_chip, random_decision, random_network, schedule_of

from spm_opt.errors import SpmTooSmallError
from spm_opt.graph.builder import Handle, NetworkBuilder
from spm_opt.graph.network import Network
from spm_opt.schedule import Schedule
from spm_opt.verify import verify

DTYPES = ("int8", "float32")


def odd_network(rng: random.Random, images: int = 1) -> Network:
    """Maps of a row or two, windows larger than their maps, strides larger than their windows."""
    b = NetworkBuilder("odd")
    channels = rng.choice([1, 2, 3])
    maps = [b.input("x", (images, channels, rng.choice([1, 2, 3, 5]), rng.choice([1, 3])))]
    if rng.random() < 0.3:
        maps.append(b.input("y", maps[0].shape))
    for _ in range(rng.randint(2, 5)):
        maps.append(_odd_layer(rng, b, maps))
    used = {name for record in b.records for name in record.inputs}
    b.output(maps[-1], *(m for m in maps[:-1] if m.name not in used))
    return b.build()


def _odd_layer(rng: random.Random, b: NetworkBuilder, maps: list[Handle]) -> Handle:
    x = rng.choice(maps[-2:])
    c, h, w = x.shape[1:]
    beside = [m for m in maps if m.shape[2:] == x.shape[2:]]
    match rng.choice(["wide", "leap", "add", "concat", "pool", "mean", "split", "tall", "up"]):
        case "wide":
            return b.conv(x, rng.choice([1, 3, 4]), (5, 3), padding=(2, 1, 2, 1))
        case "leap":
            return b.conv(x, 2, 1, stride=rng.choice([2, 3]))
        case "add":
            return b.add(x, rng.choice([m for m in maps if m.shape == x.shape]))
        case "concat" if c <= 6:
            return b.concat([rng.choice(beside), x], axis=1)
        case "pool":
            return b.max_pool(x, 3, stride=rng.choice([1, 2]), padding=1)
        case "mean":
            return b.mul(x, b.global_avg_pool(x))
        case "split" if c >= 2:
            return b.add(b.slice(x, 1, 0, 1), b.slice(x, 1, c - 1))
        case "tall" if h * w <= 16:
            return b.conv(b.pad(x, (0, 0, 2, 0, 0, 0, 1, 0)), 2, (3, 1), stride=(2, 1))
        case "up" if h <= 5:
            return b.resize(x, scale=2)
    return b.conv(x, c, 3, padding=1, groups=c)


GENERATORS = (random_network, partial(random_network, layers=8), random_worlds.random_network,
              odd_network)  # fmt: skip


@dataclass(frozen=True)
class Drawn:
    """A plan by lot, which the checker accepts."""

    seed: int
    schedule: Schedule

    @property
    def network(self) -> Network:
        return self.schedule.network


def drawn_plan(seed: int) -> Drawn:
    """The first plan that the lot of `seed` finds; it draws anew until there is one."""
    rng = random.Random(seed)
    while True:
        found = plan_by(rng)
        if found is not None:
            assert verify(found) == (), seed
            return Drawn(seed, found)


def plan_by(rng: random.Random) -> Schedule | None:
    """A network, a chip and a plan as `rng` draws them; None where nothing fits."""
    network = rng.choice(GENERATORS)(rng)
    return planned_by(rng, network.with_dtype(rng.choice(DTYPES)))


def planned_by(rng: random.Random, network: Network) -> Schedule | None:
    """A plan of `network` by lot; None where nothing fits."""
    try:
        world = make_world(network, random_chip(rng, network), cuts=rng.random() < 0.6)
    except SpmTooSmallError:
        return None
    for _ in range(4):
        decision = random_decision(rng, world.problem)
        if decision is None:
            continue
        wide = schedule_of(world, decision, wide=True) if rng.random() < 0.7 else None
        schedule = wide or schedule_of(world, decision)
        if schedule is not None:
            return schedule
    return None
