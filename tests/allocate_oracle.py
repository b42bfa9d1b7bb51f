"""Tiny allocation requests drawn at random, and the plainest search for their placements."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import pairwise

from spm_opt.allocation import Adjacent, Alias, Buffer, InPlace, Inside, Region
from spm_opt.errors import InputError

MODES = (
    "plain", "align", "fixed", "regions", "adjacent", "inside", "inplace", "shared", "apart",
    "mixed",
)  # fmt: skip
#: buffers (size, birth, death) whose load is 10 and that no 10 units hold
GADGET = ((8, 2, 6), (1, 4, 8), (2, 6, 10), (6, 6, 7), (2, 7, 13), (6, 8, 12), (8, 12, 13))


def gadget() -> list[Buffer]:
    return [Buffer(str(n), birth, death, size) for n, (size, birth, death) in enumerate(GADGET)]


@dataclass(frozen=True)
class Case:
    buffers: tuple[Buffer, ...]
    capacity: int | None
    alignment: int
    regions: tuple[Region, ...]
    aliases: tuple[Alias, ...]
    apart: tuple[tuple[str, str], ...]

    def options(self) -> dict[str, object]:
        return {
            "alignment": self.alignment, "regions": self.regions, "aliases": self.aliases,
            "apart": self.apart,
        }  # fmt: skip


def draw(seed: int, mode: str) -> Case | None:
    """A case of a mode; None where the draw contradicts itself."""
    r = random.Random(f"{mode} {seed}")
    names = "abcdef"[: r.randint(2, 6)]
    capacity = r.randint(3, 9)
    mixed = mode == "mixed"
    regions: tuple[Region, ...] = ()
    if mode in ("regions", "apart") or (mixed and r.random() < 0.5):
        regions = tuple(Region(f"R{n}", r.randint(2, 6)) for n in range(r.randint(1, 3)))
    try:
        buffers = tuple(_buffer(r, name, mode, capacity, regions) for name in names)
    except InputError:
        return None
    aliases = (
        *(_adjacent(r, names) if mode == "adjacent" or mixed else ()),
        *(_inside(r, buffers) if mode in ("inside", "shared") or mixed else ()),
        *(_in_place(r, buffers) if mode in ("inplace", "shared") or mixed else ()),
    )
    pairs = ()
    if mode == "apart":
        pairs = tuple(tuple(r.sample(names, 2)) for _ in range(r.randint(1, 3)))
    alignment = r.choice((1, 2, 3)) if mode in ("align", "mixed") else 1
    return Case(buffers, None if regions else capacity, alignment, regions, aliases, pairs)


def _buffer(
    r: random.Random, name: str, mode: str, capacity: int, regions: tuple[Region, ...]
) -> Buffer:
    lower = r.randrange(6)
    options: dict[str, object] = {}
    if mode in ("align", "mixed"):
        options["alignment"] = r.choice((1, 1, 2, 3, 4))
    if mode in ("fixed", "mixed") and r.random() < 0.25:
        options["offset"] = r.randrange(capacity)
    if mode in ("fixed", "mixed") and r.random() < 0.25:
        begin = r.randrange(capacity)
        options["forbidden"] = ((begin, begin + r.randint(1, 3)),)
    if regions and r.random() < 0.4:
        known = [region.name for region in regions]
        options["regions"] = tuple(r.sample(known, r.randint(1, len(known))))
    size = r.randint(1, max(1, capacity * 2 // 3))
    return Buffer(name, lower, lower + r.randint(1, 4), size, **options)


def _adjacent(r: random.Random, names: str) -> list[Alias]:
    return [Adjacent(tuple(r.sample(names, r.randint(2, min(3, len(names))))))]


def _inside(r: random.Random, buffers: tuple[Buffer, ...]) -> list[Alias]:
    found: list[Alias] = []
    for _ in range(r.randint(1, 2)):
        inner, outer = r.sample(buffers, 2)
        if inner.size <= outer.size:
            found.append(Inside(inner.id, outer.id, r.randint(0, outer.size - inner.size)))
    return found


def _in_place(r: random.Random, buffers: tuple[Buffer, ...]) -> list[Alias]:
    return [
        InPlace(output.id, input_.id)
        for input_ in buffers
        for output in buffers
        if input_.lower < output.lower < input_.upper <= output.upper and r.random() < 0.6
    ]


def fits(case: Case) -> bool:
    """Whether a placement exists: every start of every buffer in every region is tried."""
    return _Search(case).extend([], [])


class _Search:
    def __init__(self, case: Case) -> None:
        self.case = case
        self.rooms = [(r.name, r.capacity) for r in case.regions] or [("", case.capacity)]
        self.index = {b.id: n for n, b in enumerate(case.buffers)}
        self.tied: set[str] = set()
        self.distance: list[tuple[int, int, int]] = []
        self.shared: set[tuple[int, int]] = set()
        self.reused: set[tuple[int, int]] = set()
        for alias in case.aliases:
            self._read(alias)
        while True:  # what lies inside what lies inside
            more = {(a, d) for a, b in self.shared for c, d in self.shared if b == c}
            if more <= self.shared:
                break
            self.shared |= more

    def _read(self, alias: Alias) -> None:
        if isinstance(alias, Adjacent):
            row = [self.index[name] for name in alias.buffers]
            self.tied.update(alias.buffers[1:])
            for a, b in pairwise(row):
                self.distance.append((a, b, self.case.buffers[a].size))
        elif isinstance(alias, Inside):
            self.tied.add(alias.inner)
            pair = self.index[alias.inner], self.index[alias.outer]
            self.shared.add(pair)
            self.distance.append((pair[1], pair[0], alias.at))
        else:
            self.reused.add((self.index[alias.output], self.index[alias.input]))

    def extend(self, offsets: list[int], homes: list[str]) -> bool:
        n = len(offsets)
        if n == len(self.case.buffers):
            return True
        for home, room in self.rooms:
            for start in range(room - self.case.buffers[n].size + 1):
                if self._legal([*offsets, start], [*homes, home]) and self.extend(
                    [*offsets, start], [*homes, home]
                ):
                    return True
        return False

    def _legal(self, offsets: list[int], homes: list[str]) -> bool:
        n = len(offsets) - 1
        b, start, home = self.case.buffers[n], offsets[n], homes[n]
        if start % b.alignment or (b.id not in self.tied and start % self.case.alignment):
            return False
        if b.offset not in (None, start) or (b.regions and home not in b.regions):
            return False
        if any(start < high and low < start + b.size for low, high in b.forbidden):
            return False
        for x, y, distance in self.distance:
            if max(x, y) == n and (offsets[y] != offsets[x] + distance or homes[x] != homes[y]):
                return False
        for x, y in self.case.apart:
            pair = self.index[x], self.index[y]
            if max(pair) == n and homes[pair[0]] == homes[pair[1]]:
                return False
        return all(self._free(n, m, offsets) for m in range(n) if homes[m] == home)

    def _free(self, n: int, m: int, offsets: list[int]) -> bool:
        a, b = self.case.buffers[n], self.case.buffers[m]
        if a.lower >= b.upper or b.lower >= a.upper:
            return True
        if offsets[n] >= offsets[m] + b.size or offsets[m] >= offsets[n] + a.size:
            return True
        if {(n, m), (m, n)} & self.shared:
            return True
        return offsets[n] == offsets[m] and bool({(n, m), (m, n)} & self.reused)
