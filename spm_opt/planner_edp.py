"""The least product of energy and latency, by a sweep of the front of the two.

A plan is a point ``(L, D)``: cycles, and energy without leakage. Its product is
``f(L, D) = L * (D + leakage * L)``, which rises in both and whose sublevel sets have convex
complements: ``f >= t`` says ``D >= t / L - leakage * L``, convex in L. So f is quasi-concave, and
the least value over any set of points is attained at a corner of its convex hull. Corners are what
weighted sums find: the dynamic programme minimises ``a * L + b * D``, and every plan lies above
that *line*. The sweep keeps some lines and draws the next one where the corner between two of them
is below everything found; once the lowest corner is a plan of the relaxation, its product is the
least of all. Whenever the sweep ends, no plan is below the lowest corner.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil
from typing import Final

from spm_opt.bounds import small_maps
from spm_opt.dynamic import Prices, Solved, solve_dynamic
from spm_opt.planner_prices import fitting, most_cycles, most_energy, product_prices
from spm_opt.planner_search import ALIVE, OVERLAP_SHARES, STATES, Search
from spm_opt.problem import Problem

#: lines that are drawn at most
MOST_LINES: Final = 40
#: times that plans are sought along the slope of the best one
DESCENTS: Final = 2

Point = tuple[Fraction, Fraction]


@dataclass(frozen=True, slots=True)
class Line:
    """No plan has less than `value` of ``per_cycle * L + per_fj * D``; `solved` has just that."""

    per_cycle: int
    per_fj: int
    value: int
    solved: Solved

    @property
    def point(self) -> Point | None:
        """The plan on the line; None where cycles cost nothing, and are not known."""
        if not self.per_cycle:
            return None
        return Fraction(self.solved.latency_cycles), Fraction(self.solved.energy_fj)

    @property
    def slope(self) -> tuple[bool, Fraction]:
        """What lines are sorted by, steepest first."""
        return not self.per_cycle, Fraction(self.per_fj, self.per_cycle or 1)

    def meets(self, other: Line) -> Point | None:
        """The corner between two lines; None where they are parallel."""
        across = self.per_cycle * other.per_fj - other.per_cycle * self.per_fj
        if not across:
            return None
        cycles = Fraction(self.value * other.per_fj - other.value * self.per_fj, across)
        energy = Fraction(self.per_cycle * other.value - other.per_cycle * self.value, across)
        return cycles, energy


class Front:
    """Lines below all plans of a relaxation, steepest (fastest plans) first."""

    def __init__(self, problem: Problem, leakage_fj: int, states: int) -> None:
        self.problem, self.leakage_fj, self.states = problem, leakage_fj, states
        self.lines: list[Line] = []

    def product(self, point: Point) -> Fraction:
        """Energy times latency."""
        return point[0] * (point[1] + self.leakage_fj * point[0])

    def add(self, line: Line) -> None:
        """Take a line in."""
        self.lines.append(line)
        self.lines.sort(key=lambda known: known.slope)

    def corners(self) -> Iterator[tuple[Point, Line, Line]]:
        """Corners between neighbours, with the lines that meet there."""
        for i, one in enumerate(self.lines[:-1]):
            other = self.lines[i + 1]
            corner = one.meets(other)
            if corner is not None:
                yield corner, one, other

    def lowest(self) -> tuple[Point, Line, Line] | None:
        """The corner of the least product; None without two lines."""
        return min(self.corners(), key=lambda found: self.product(found[0]), default=None)

    def is_plan(self, corner: Point) -> bool:
        """Whether a corner is a plan of the relaxation."""
        return any(line.point == corner for line in self.lines)

    def plans(self) -> list[Solved]:
        """The plans found, those of the least product first; each point once."""
        found = {line.point: line.solved for line in self.lines if line.point is not None}
        return [found[point] for point in sorted(found, key=self.product)]


def search_product(search: Search) -> None:
    """Fill `search` with placed plans of small product, and bound what any plan has."""
    best, states = search.optimum(search.plain)
    front = _swept(search, states if best is not None and best.complete else None)
    if front is not None:
        lowest = front.lowest()
        if lowest is not None:
            search.bound = max(search.bound, ceil(front.product(lowest[0])))
        _place_all(search, front)
    search.place_passed()
    for _ in range(DESCENTS):
        _descend(search)


def search_front(search: Search, most_lines: int = 24) -> None:
    """Fill `search` with placed plans along the whole front, where residencies are few enough."""
    best, states = search.optimum(search.plain)
    if best is None or not best.complete:
        return
    front = Front(replace(search.problem, overlap=True), search.problem.leakage_fj, states)
    if not all(_draw(search, front, prices) for prices in _ends(front.problem)):
        return
    placed: set[int] = set()
    while not search.clock.over():
        for solved in front.plans():
            if id(solved) not in placed:
                placed.add(id(solved))
                search.place(solved, search.problem)
        widest = max(_gaps(front), key=lambda gap: gap[0], default=None)
        if widest is None or len(front.lines) >= most_lines:
            return
        if not _draw(search, front, _between(front, *widest[1:])):
            return


def _gaps(front: Front) -> Iterator[tuple[Fraction, Line, Line]]:
    """Area between neighbours that are two plans, and the corner that hides under them."""
    for corner, one, other in front.corners():
        if one.point is not None and other.point is not None:
            a, b = one.point, other.point
            area = (b[0] - a[0]) * (corner[1] - a[1]) - (corner[0] - a[0]) * (b[1] - a[1])
            if area:
                yield abs(area), one, other


def _swept(search: Search, states: int | None) -> Front | None:
    """The front of a relaxation whose residencies can all be followed; None without.

    ``states`` are as many as the whole problem has; None where it has too many.
    """
    whole = replace(search.problem, overlap=True)
    problems = (whole,) if states is not None else _smaller(whole)
    for problem in problems:
        if search.clock.over() or search.proven():
            return None
        front = Front(problem, search.problem.leakage_fj, states or STATES[1])
        if _sweep(search, front):
            return front
    return None


def _smaller(whole: Problem) -> Iterator[Problem]:
    """Relaxations with fewer residencies, the tightest first."""
    for most in reversed(ALIVE):
        yield whole.without(small_maps(whole, most))


def _sweep(search: Search, front: Front) -> bool:
    """Draw lines until the lowest corner is a plan; False where residencies are too many."""
    if not all(_draw(search, front, prices) for prices in _ends(front.problem)):
        return False
    while len(front.lines) < MOST_LINES and not search.clock.over():
        lowest = front.lowest()
        if lowest is None or front.is_plan(lowest[0]):
            break
        search.bound = max(search.bound, ceil(front.product(lowest[0])))
        search.clock.tell("front", search.bound)
        if search.proven() or not _draw(search, front, _between(front, lowest[1], lowest[2])):
            break
    return True


def _ends(problem: Problem) -> tuple[Prices, ...]:
    """Weights of the ends of the front: one cost alone; then nearly so, which tells the other."""
    cycles, energy = max(1, most_cycles(problem)), max(1, most_energy(problem))
    much = 2**61
    return (
        Prices(1, 0, 0), Prices(0, 0, 1), Prices(max(1, (much - energy) // cycles), 0, 1),
        Prices(1, 0, max(1, (much - cycles) // energy)),
    )  # fmt: skip


def _between(front: Front, one: Line, other: Line) -> Prices:
    """Weights under which the plans of two lines cost the same."""
    if one.point is not None and other.point is not None:
        (fast, much), (slow, little) = one.point, other.point
        if slow > fast and much > little:
            return fitting(front.problem, int(much - little), int(slow - fast))
    # the same plan, or none (an end of the front): halve the angle
    return fitting(
        front.problem, one.per_cycle + other.per_cycle, one.per_fj + other.per_fj
    )  # fmt: skip


def _draw(search: Search, front: Front, prices: Prices) -> bool:
    """Draw the line of some weights; False where it was drawn, or residencies are too many."""
    if any((line.per_cycle, line.per_fj) == (prices.per_cycle, prices.per_fj)
           for line in front.lines):  # fmt: skip
        return False
    solved = solve_dynamic(front.problem, prices, front.states, search.clock.over)
    if not solved.complete or solved.decision is None:
        return False
    latency = solved.latency_cycles
    value = prices.per_cycle * latency + prices.per_fj * solved.energy_fj
    front.add(Line(prices.per_cycle, prices.per_fj, value, solved))
    return True


def _place_all(search: Search, front: Front) -> None:
    """Place the plans of the whole problem that may be better than the best so far."""
    if front.problem.maps is not search.problem.maps:
        return
    for solved in front.plans():
        best = min((p.value("edp") for p in search.found), default=None)
        product = front.product((Fraction(solved.latency_cycles), Fraction(solved.energy_fj)))
        if search.clock.over() or search.proven() or (best is not None and product >= best):
            return
        search.place(solved, search.problem)


def _descend(search: Search) -> None:
    """Plans along the slope that the product has at the best one, with room for overlaps."""
    for share in OVERLAP_SHARES:
        for problem in search.problems():
            if search.clock.over() or search.proven() or not search.found:
                return
            best = min(search.found, key=lambda placed: placed.value("edp"))
            search.weights = product_prices(
                search.problem, best.latency_cycles, best.tiles_and_moves_fj
            )
            search.place(search.overlapped(share, STATES[1], problem), problem)
