"""From a decision to a placed plan: layouts that may be faster, addresses, cycles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from spm_opt.allocation.place import place
from spm_opt.assemble import Placed, tiles_and_moves_fj
from spm_opt.banding import BandConflictError, Told, in_bands
from spm_opt.decision import Decision
from spm_opt.fusion import Recipe
from spm_opt.late import claim_late
from spm_opt.layout import Layout, lay_out
from spm_opt.layout_space import rectangles
from spm_opt.overlap import POLICIES, order_queue
from spm_opt.problem import Problem
from spm_opt.site import Site
from spm_opt.widen import widen


@dataclass(frozen=True, slots=True)
class World:
    """One order of the layers, with its problem.

    Attributes
    ----------
    name : str
        Name of the order.
    dropped : int
        Options that are no candidates of the problem, since others are as good.
    """

    name: str
    site: Site
    problem: Problem
    recipes: tuple[Recipe, ...]
    dropped: int = 0


def place_decision(
    world: World, problem: Problem, decision: Decision, exact_limit: float, quick: bool = False
) -> Placed | None:
    """Addresses and cycles for a decision; None where no placement was found.

    Constants are claimed as the decision says, or as late as costs no cycle where steps are
    barriers; transfers get as much room beside the steps around theirs as there is, or none.

    Parameters
    ----------
    exact_limit : float
        Deterministic seconds for addresses.
    quick : bool
        Settle for the order and the claims of the joint model.
    """
    decision = translated(decision, problem, world.problem)
    found: list[Placed] = []
    for claims in dict.fromkeys((claim_late(world.problem, decision), decision)):
        try:
            told = in_bands(world.site, world.problem, world.recipes, claims)
        except BandConflictError:
            return None
        for option in _layouts(world, told, quick):
            placed = _placed(told, world.problem, claims, option, found, exact_limit, quick)
            if placed is not None:
                found.append(placed)
            elif not found:
                # the others hold the same bytes for longer
                return None
            if quick:
                return placed
    return min(found, default=None, key=lambda placed: placed.latency_cycles)


def _layouts(world: World, told: Told, quick: bool) -> Iterator[Layout]:
    """Ways to lay out a decision: with the least space first, then with more.

    A map in place of another one waits until that one has been read; beside it, it need not.
    """
    layout = lay_out(told.site, told.problem, told.recipes, told.decision)
    yield layout
    if not world.problem.prefetch or quick:
        return
    yield widen(layout, world.problem.capacity_bytes, told.reserved)
    if any(buffer.shares is not None for buffer in layout.buffers):
        layout = lay_out(told.site, told.problem, told.recipes, told.decision, in_place=False)
        yield widen(layout, world.problem.capacity_bytes, told.reserved)


def _placed(
    told: Told, problem: Problem, decision: Decision, layout: Layout, found: list[Placed],
    exact_limit: float, quick: bool,
) -> Placed | None:  # fmt: skip
    """A layout with addresses; None where there are none, or no need of them."""
    dram = told.site.hardware.dram
    queue = order_queue(layout, dram, () if quick else POLICIES)
    if any(placed.latency_cycles <= queue.latency_cycles for placed in found):
        return None
    wanted, numbers = rectangles(layout.buffers)
    offsets = place(wanted, problem.capacity_bytes, exact_limit=exact_limit)
    if offsets is None:
        return None
    timeline = queue.timeline()
    return Placed(
        decision, told.site, layout, timeline, tuple(offsets[n] for n in numbers),
        queue.barrier_cycles, tiles_and_moves_fj(told.site, timeline),
    )  # fmt: skip


def translated(decision: Decision, source: Problem, target: Problem) -> Decision:
    """`decision`, made in `source`, by the numbers that its candidates have in `target`."""
    if source.candidates is target.candidates:
        return decision
    number = {candidate.recipe: k for k, candidate in enumerate(target.candidates)}
    used = (source.candidates[k].recipe for k in decision.candidates)
    return replace(decision, candidates=tuple(number[recipe] for recipe in used))
