"""What the orders of the layers tried so far gave each strategy.

An order that a search covered counts with its bound; one of which only stripes were searched, or
whose search ended late with less than was known, does not.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

from spm_opt.assemble import Placed
from spm_opt.params import SolveParams
from spm_opt.planner_placing import World
from spm_opt.planner_search import UNSURE, WIDE, Search


@dataclass(frozen=True, slots=True)
class Answer:
    """The best placed plan of one strategy, and a bound on all of them.

    ``stripes_may_do`` says that more tilings are not known to be better than stripes alone;
    `search` is what gave the answer.
    """

    world: World
    placed: Placed
    value: int
    bound: int
    stripes_may_do: bool
    search: Search

    @property
    def is_proven(self) -> bool:
        """Whether no plan of its order is better."""
        return self.bound == self.value

    @property
    def is_open(self) -> bool:
        """Whether a better plan would be worth another search."""
        return self.value - self.bound > UNSURE * self.value

    @property
    def is_wide_open(self) -> bool:
        """Whether a better plan would be worth a search that may end without a bound."""
        return self.value - self.bound > WIDE * self.value


@dataclass(frozen=True, slots=True)
class Variant:
    """One plan space of a network.

    Attributes
    ----------
    name : str
        Name of the order.
    again : bool
        Whether the order has been tried, with aliases, and is tried without.
    part : bool
        Whether tilings are left out that were asked for: a bound would not be one for all of them.
    """

    name: str
    order: tuple[int, ...]
    params: SolveParams
    again: bool = False
    part: bool = False

    @property
    def label(self) -> str:
        """For whoever watches."""
        return f"{self.name} order" + (" without aliases" if self.again else "")


@dataclass(slots=True)
class Standing:
    """What the orders tried so far gave one strategy.

    Attributes
    ----------
    bounds : list of int
        Those of the orders that count.
    orders : set of str
        Names of the orders that the bounds cover.
    seconds : float
        Spent so far.
    is_possible : bool
        Whether some order may have a plan, found or not.
    """

    strategy: str
    best: Answer | None = None
    bounds: list[int] = field(default_factory=list)
    orders: set[str] = field(default_factory=set)
    seconds: float = 0.0
    is_possible: bool = False

    def plans_of(self, world: World) -> list[Placed]:
        """The best plan, where it is one of that order."""
        return [self.best.placed] if self.best is not None and self.best.world is world else []

    def is_content(self, variant: Variant, late: bool) -> bool:
        """Whether a plan is good enough to leave out a search that promises little."""
        if self.best is None:
            return False
        return (variant.again and not self.best.is_open) or (late and not self.best.is_wide_open)

    def take_up(self) -> None:
        """Go on with the search for the best plan, where it left time to orders that had no use."""
        best = self.best
        if best is None or not best.search.has_left_turns:
            return
        search, clock = best.search, best.search.clock
        clock.began, clock.reserve = time.monotonic() - self.seconds, 0.0
        search.overlap()
        self.seconds = clock.seconds
        found = best_of(search)
        self.best = replace(best, placed=found, value=found.value(clock.params.objective))

    def take(self, answer: Answer | None, is_possible: bool, variant: Variant, late: bool) -> None:
        """Take note of an order's answer; without one, of whether a plan is possible."""
        self.is_possible |= is_possible
        covers = not variant.part
        if answer is None:
            if covers and not is_possible:
                self.orders.add(variant.name)
            return
        if covers and _counts_as_untried(answer, self.best, variant.again, late):
            return
        if covers:
            self.bounds.append(answer.bound)
            self.orders.add(variant.name)
        if self.best is None or _rank(answer) < _rank(self.best):
            self.best = answer


def _counts_as_untried(answer: Answer, rival: Answer | None, again: bool, late: bool) -> bool:
    """Whether an answer is dropped, and its bound with it.

    So where a search ended without proof and with nothing better than a proven plan, where one
    that was begun late ended with a lower bound, and where a second search of an order found
    nothing better: the bound is that of what was searched.
    """
    if rival is None or _rank(answer) < _rank(rival):
        return False
    if again or (rival.is_proven and not answer.is_proven):
        return True
    return late and answer.bound < rival.bound


def _rank(answer: Answer) -> tuple[int, int]:
    return answer.value, answer.placed.latency_cycles + answer.placed.dram_bytes


def best_of(search: Search) -> Placed:
    """The best of the plans found."""
    objective = search.objective
    return min(search.found, key=lambda p: (p.value(objective), p.latency_cycles, p.dram_bytes))
