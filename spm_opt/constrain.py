"""What a user demands, as a restriction of the problem: candidates that obey, maps that are held.

Every demand leaves a problem of the same kind, with fewer plans. So optimum, bound and proof are
those of the plans that meet all demands, by the same solvers.

A map can have several *homes*: its own buffer; the map that its concatenation joins, of which its
producer may write a piece; and the map that a split takes it from, where its readers may find it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import combinations

from spm_opt.constraints import Constraints
from spm_opt.fusion import Recipe
from spm_opt.problem import Candidate, Problem
from spm_opt.site import Site

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Homes:
    """Where a feature map may lie, and who writes and reads it.

    Attributes
    ----------
    own : frozenset of int
        Maps that are this one, bytes and all.
    around : frozenset of int
        Maps that it may be a piece of.
    writers, readers : tuple of int
        Parts; no writers for a network input.
    """

    own: frozenset[int]
    around: frozenset[int]
    writers: tuple[int, ...]
    readers: tuple[int, ...]

    @property
    def all(self) -> frozenset[int]:
        """Every home."""
        return self.own | self.around


def constrained(
    site: Site, problem: Problem, recipes: tuple[Recipe, ...], constraints: Constraints
) -> Problem:
    """The problem without the plans that break a demand; the order is not asked about here."""
    if not constraints:
        return problem
    pins = [homes(site, name) for name in constraints.pin]
    never = [homes(site, name) for name in constraints.no_pin]
    together = [_spans(site, layers) for layers, _ in constraints.together()]
    apart = [_spans(site, layers) for layers in constraints.no_fuse]

    def obeys(candidate: Candidate) -> bool:
        elided = recipes[candidate.recipe].elided
        return (
            all(keeps_whole(problem, candidate, home, elided) for home in pins)
            and all(never_whole(problem, candidate, home) for home in never)
            and all(runs_together(candidate, spans) for spans in together)
            and all(runs_apart(candidate, spans) for spans in apart)
        )

    return held(problem, pins).only(obeys)


def homes(site: Site, tensor: str) -> Homes:
    """Where `tensor`, a feature map of the site's network, may lie."""
    network, place = site.network, site.read_from.get(tensor)
    own = {n for n, plan in site.numbered_joined() if plan.tensor == tensor}
    own.add(site.map_index[tensor])
    around = set() if place is None else {place.map} - own
    maker = network.producer.get(tensor)
    return Homes(
        frozenset(own), frozenset(around), _parts(site, () if maker is None else (maker,)),
        _parts(site, network.readers[tensor]),
    )  # fmt: skip


def held(problem: Problem, pins: Iterable[Homes]) -> Problem:
    """The problem in which every home of these maps, once in SPM, stays until their last reader."""
    maps = list(problem.maps)
    for home in pins:
        last = max(home.readers, default=-1)
        for t in home.all:
            maps[t] = replace(maps[t], held_until=max(maps[t].held_until, last))
    return replace(problem, maps=tuple(maps))


def keeps_whole(problem: Problem, candidate: Candidate, home: Homes, elided: bool) -> bool:
    """Whether a candidate leaves a map whole in SPM: whoever writes it keeps it, nobody spills it.

    DRAM gets a network output all the same.
    """
    maps = problem.maps
    written = home.own | {t for t in home.around if maps[t].joined}
    if home.own.intersection(candidate.streams):
        return False
    if any(t in written and not maps[t].must_store for t in candidate.stores):
        return False
    if _touches(candidate, home.writers):
        # what has nothing to do leaves a map where it is: in one that holds it
        return bool(
            written.intersection(candidate.keeps)
            or (elided and home.all.intersection(candidate.reads))
        )
    if _touches(candidate, home.readers):
        read, streamed = candidate.reads, candidate.streams
        return bool(home.all.intersection(read)) and not home.all.intersection(streamed)
    return True


def never_whole(problem: Problem, candidate: Candidate, home: Homes) -> bool:
    """Whether a candidate does without a map that is whole in SPM."""
    if home.own.intersection((*candidate.keeps, *candidate.reads)):
        return False
    if _touches(candidate, home.writers):
        return not any(t in home.around and problem.maps[t].joined for t in candidate.keeps)
    return not (
        _touches(candidate, home.readers) and home.around.intersection(candidate.reads)
    )  # fmt: skip


def runs_together(candidate: Candidate, spans: Iterable[Span]) -> bool:
    """Whether a candidate has all of these layers, whole, or none."""
    inside = [candidate.first <= begin and end <= candidate.end for begin, end in spans]
    return all(inside) or not any(candidate.first < e and b < candidate.end for b, e in spans)


def runs_apart(candidate: Candidate, spans: Iterable[Span]) -> bool:
    """Whether a candidate has no two of these layers."""
    touched = [candidate.first < end and begin < candidate.end for begin, end in spans]
    return not any(one and other for one, other in combinations(touched, 2))


def _touches(candidate: Candidate, parts: Iterable[int]) -> bool:
    return any(candidate.first <= part < candidate.end for part in parts)


def _spans(site: Site, layers: Iterable[str]) -> list[Span]:
    index = {layer.name: i for i, layer in enumerate(site.network.layers)}
    return [site.spans[site.position[index[name]]] for name in layers]


def _parts(site: Site, layers: Iterable[int]) -> tuple[int, ...]:
    spans = (site.spans[site.position[layer]] for layer in layers)
    return tuple(sorted({part for span in spans for part in range(*span)}))
