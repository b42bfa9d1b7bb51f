"""The least scratchpad in which whole maps, kept one and all, spill nothing."""

from __future__ import annotations

from dataclasses import replace

from spm_opt.fusion import make_candidates, minimum_spm_bytes
from spm_opt.graph.network import Network
from spm_opt.hardware import Hardware
from spm_opt.parts import distinct_orders
from spm_opt.problem import Candidate, FeatureMap, Problem
from spm_opt.site import feature_maps, make_site, weight_loads
from spm_opt.units import align_up

#: topological orders that are tried
ORDERS_TRIED = 4


def spill_free_bytes(network: Network, hardware: Hardware, order: tuple[int, ...]) -> int:
    """Least capacity at which layers run one by one in `order` and only compulsory maps move.

    Every map between layers stays in SPM whole from its producer to its last reader; the
    network's inputs are read and its outputs written once. The space of each step is its working
    set, its constants and the maps alive. Whether addresses exist is not asked here.
    """
    capacity = (
        align_up(network.feature_map_bytes + network.weight_bytes, hardware.spm.alignment_bytes) * 2
    )
    while True:
        # smaller scratchpads cut weights finer, so what is needed may shrink once more
        needed = _needed_bytes(network, hardware, order, capacity)
        if needed is None or needed >= capacity:
            return capacity
        capacity = needed


def least_spill_free(network: Network, hardware: Hardware) -> int:
    """`spill_free_bytes` of the best of several orders."""
    orders = distinct_orders(network, ORDERS_TRIED).values()
    return min(spill_free_bytes(network, hardware, order) for order in orders)


def spill_free(problem: Problem) -> Problem:
    """The problem without spills: maps between layers stay, inputs and outputs move once."""
    return problem.only(lambda c: _moves_only_compulsory(problem, c))


def _moves_only_compulsory(problem: Problem, candidate: Candidate) -> bool:
    maps = problem.maps
    if any(maps[t].joined for t in (*candidate.keeps, *candidate.stores)):
        return False
    streams = all(maps[t].in_dram and len(maps[t].readers) == 1 for t in candidate.streams)
    stores = all(maps[t].must_store for t in candidate.stores)
    keeps = all(t in candidate.keeps for t in candidate.stores if maps[t].readers)
    return streams and stores and keeps


def _needed_bytes(
    network: Network, hardware: Hardware, order: tuple[int, ...], capacity_bytes: int
) -> int | None:
    """Space that a spill-free run needs, layers cut as for `capacity_bytes`; None if more."""
    spm = replace(hardware.spm, capacity_bytes=capacity_bytes)
    site = make_site(network, replace(hardware, spm=spm), order)
    if minimum_spm_bytes(network, site.hardware)[0] > capacity_bytes:
        return None
    candidates = make_candidates(site, longest=1).candidates
    problem = spill_free(
        Problem(len(site.parts), capacity_bytes, feature_maps(site), weight_loads(site), candidates)
    )
    maps, alive = problem.maps, _alive_bytes(problem)
    least: list[int | None] = [None] * problem.parts
    for c in problem.candidates:
        weights = sum(problem.weights[p].size_bytes for p in range(c.first, c.end))
        needed = alive[c.first] + c.work_bytes + (0 if c.streams_weights else weights)
        needed += sum(maps[t].size_bytes for t in c.reads if _comes_with_its_reader(maps[t]))
        for part in range(c.first, c.end):
            known = least[part]
            least[part] = needed if known is None else min(known, needed)
    known_needs = [needed for needed in least if needed is not None]
    if len(known_needs) < problem.parts or max(known_needs) > capacity_bytes:
        return None
    return max(known_needs)


def _alive_bytes(problem: Problem) -> list[int]:
    """Bytes of the maps of earlier steps, or loaded whole, that are in SPM at each part."""
    alive = [0] * problem.parts
    for feature_map in problem.maps:
        # pieces are kept by themselves here
        for part in () if feature_map.joined else _residency(feature_map):
            alive[part] += feature_map.size_bytes
    return alive


def _residency(feature_map: FeatureMap) -> range:
    if not feature_map.readers:
        # an output that nobody reads goes straight to DRAM
        return range(0)
    if _comes_with_its_reader(feature_map):
        return range(0)
    if feature_map.in_dram:
        return range(feature_map.readers[0], feature_map.last_use + 1)
    return range(feature_map.birth + 1, feature_map.last_use + 1)


def _comes_with_its_reader(feature_map: FeatureMap) -> bool:
    """Whether a map of the network's inputs takes space in the step of its only reader alone."""
    return feature_map.in_dram and len(feature_map.readers) == 1
