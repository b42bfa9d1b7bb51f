"""Strategies as restrictions: each baseline is the joint problem with fewer choices.

All share one machine model and one solver, so each is compared at its own optimum, and the joint
problem, which holds every choice of every baseline, can never be worse than any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from types import MappingProxyType
from typing import Final

from spm_opt.fusion import Recipe
from spm_opt.problem import Candidate, Problem, covering

Restriction = Callable[[Problem, tuple[Recipe, ...]], Problem]


def in_one_piece(problem: Problem, recipes: tuple[Recipe, ...]) -> Problem:
    """Without groups in bands of columns, as far as everything can run without them."""
    plain = problem.only(lambda c: not recipes[c.recipe].bands)
    return plain if all(covering(plain)) and len(plain.candidates) else problem


def plainly(problem: Problem, recipes: tuple[Recipe, ...]) -> Problem:
    """The space of ``--tilings rows``: without bands and blocks."""
    plain = in_one_piece(problem, recipes).only(lambda c: is_plain(c, recipes))
    return plain if len(plain.candidates) < len(problem.candidates) else problem


def is_plain(candidate: Candidate, recipes: tuple[Recipe, ...]) -> bool:
    """Whether a candidate is neither in bands, blocks or sums nor a run in channel tiles."""
    return recipes[candidate.recipe].is_plain


def slices_apart(problem: Problem, recipes: tuple[Recipe, ...]) -> Problem:
    """Plainly, and each slice of a layer by itself."""
    apart = plainly(problem, recipes).only(lambda c: is_apart(c, recipes))
    return apart if all(covering(apart)) and len(apart.candidates) else problem


def is_apart(candidate: Candidate, recipes: tuple[Recipe, ...]) -> bool:
    """Whether a plain candidate is no group of slices of one layer."""
    together = recipes[candidate.recipe].axis == "channels" and candidate.end > candidate.first + 1
    return is_plain(candidate, recipes) and not together


def joint(problem: Problem, recipes: tuple[Recipe, ...]) -> Problem:
    """Everything."""
    return problem


def fuse(problem: Problem, recipes: tuple[Recipe, ...]) -> Problem:
    """The best fused-layer execution: any groups of stripes, nothing kept between them."""
    return in_one_piece(problem, recipes).only(_keeps_nothing, reload=False)


def pin(problem: Problem, recipes: tuple[Recipe, ...]) -> Problem:
    """Groups of one layer, whole maps kept at will."""
    return in_one_piece(problem, recipes).only(lambda c: _is_single(c, recipes))


def layerwise(problem: Problem, recipes: tuple[Recipe, ...]) -> Problem:
    """Groups of one layer, nothing kept."""
    return pin(problem, recipes).only(_keeps_nothing, reload=False)


def greedy(problem: Problem, recipes: tuple[Recipe, ...]) -> Problem:
    """Groups of one layer; maps kept in the order of their score while they fit."""
    single = pin(problem, recipes)
    kept = greedy_pins(single)
    return single.only(lambda c: _agrees(single, c, kept), reload=False)


RESTRICTIONS: Final[Mapping[str, Restriction]] = MappingProxyType(
    {"joint": joint, "fuse": fuse, "pin": pin, "layerwise": layerwise, "greedy": greedy}
)


def _is_single(candidate: Candidate, recipes: tuple[Recipe, ...]) -> bool:
    first, end = recipes[candidate.recipe].positions
    return end - first == 1


def _keeps_nothing(candidate: Candidate) -> bool:
    return not candidate.reads and not candidate.keeps


def greedy_pins(problem: Problem) -> frozenset[int]:
    """Maps that a greedy compiler keeps: best score first, each if everything still fits.

    The score is the bytes of transfers saved (one store, and a load a reader) per byte and step
    of residency, as in reuse/size/lifetime heuristics.
    """
    covers = covering(problem)
    kept: frozenset[int] = frozenset()
    for t in sorted(_pinnable(problem), key=lambda t: (-_score(problem, t), t)):
        trial = kept | {t}
        span = range(problem.maps[t].birth, problem.maps[t].last_use + 1)
        if all(_fits(problem, covers[part], part, trial) for part in span):
            kept = trial
    return kept


def _pinnable(problem: Problem) -> list[int]:
    return [
        t
        for t, m in enumerate(problem.maps)
        if m.writers
        and m.readers
        and not (m.must_store or m.joined)
        and m.size_bytes <= problem.capacity_bytes
    ]


def _score(problem: Problem, t: int) -> Fraction:
    feature_map = problem.maps[t]
    return Fraction(1 + len(feature_map.readers), feature_map.last_use - feature_map.birth)


def _fits(problem: Problem, members: list[int], part: int, kept: frozenset[int]) -> bool:
    """Whether some candidate of `part` agrees with the maps kept and fits beside them."""
    resident = sum(
        problem.maps[t].size_bytes
        for t in kept
        if problem.maps[t].birth < part <= problem.maps[t].last_use
    )
    for k in members:
        candidate = problem.candidates[k]
        weights = 0 if candidate.streams_weights else problem.weights[part].size_bytes
        if resident + weights + candidate.work_bytes <= problem.capacity_bytes and _agrees(
            problem, candidate, kept
        ):
            return True
    return False


def _agrees(problem: Problem, candidate: Candidate, kept: frozenset[int]) -> bool:
    """Whether a candidate keeps, reads and streams exactly as `kept` says."""
    if any(t in kept for t in (*candidate.streams, *candidate.stores)):
        return False
    return all(t in kept for t in (*candidate.reads, *candidate.keeps))
