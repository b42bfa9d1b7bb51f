"""The joint model, one function a rule, one sentence a rule.

``RULES`` at the foot is the whole model at a glance. Every rule takes ``(model, problem,
variables)``, adds its constraints and nothing else; a test fails when any one is left out. What
only helps the solver, and changes no solution's worth, stands in `spm_opt.cpsat.strengthen`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Final

from ortools.sat.python import cp_model

from spm_opt.cpsat.variables import Expr, Variables
from spm_opt.problem import Candidate, Problem, covering, led

Rule = Callable[[cp_model.CpModel, Problem, Variables], None]


def every_part_runs_once(model: cp_model.CpModel, problem: Problem, var: Variables) -> None:
    """Each part is covered by exactly one used candidate."""
    for members in covering(problem):
        model.add_exactly_one(var.use[k] for k in members)


def pinned_maps_are_written(model: cp_model.CpModel, problem: Problem, var: Variables) -> None:
    """A map is in SPM right after its birth only if its producer kept it there or it is loaded."""
    for (t, v), pinned in var.pin.items():
        if v == problem.maps[t].birth + 1:
            model.add(pinned <= var.kept[t] + var.reload.get((t, v), 0))


def pinned_maps_stay(model: cp_model.CpModel, problem: Problem, var: Variables) -> None:
    """A map is in SPM at a step only if it was at the step before, or is loaded whole."""
    for (t, v), pinned in var.pin.items():
        if (t, v - 1) in var.pin:
            model.add(pinned <= var.pin[t, v - 1] + var.reload.get((t, v), 0))


def held_maps_stay(model: cp_model.CpModel, problem: Problem, var: Variables) -> None:
    """A map that is held, once in SPM, stays there up to the part that it is held until."""
    for (t, v), pinned in var.pin.items():
        feature_map = problem.maps[t]
        if v <= feature_map.held_until:
            if (t, v - 1) in var.pin:
                model.add(pinned >= var.pin[t, v - 1])
            else:
                model.add(pinned >= var.kept[t])


def groups_find_their_maps(model: cp_model.CpModel, problem: Problem, var: Variables) -> None:
    """A group that reads a map in SPM, or adds its slice to one, runs while the map is there."""
    for v, members in enumerate(covering(problem)):
        users: dict[int, list[int]] = {}
        for k in members:
            candidate = problem.candidates[k]
            added = [t for t in candidate.keeps if problem.maps[t].birth < v]
            # a group may read one piece of a map and add another
            for t in sorted({*candidate.reads, *added}):
                users.setdefault(t, []).append(k)
        for t, group in users.items():
            if (t, v) in var.pin:
                model.add(_sum(var, group) <= var.pin[t, v])


def streams_read_stored_maps(model: cp_model.CpModel, problem: Problem, var: Variables) -> None:
    """A map is streamed from DRAM only if its producer stored it."""
    for v, members in enumerate(covering(problem)):
        users: dict[int, list[int]] = {}
        for k in members:
            for t in problem.candidates[k].streams:
                if v in problem.maps[t].readers and not problem.maps[t].in_dram:
                    users.setdefault(t, []).append(k)
        for t, group in users.items():
            model.add(_sum(var, group) <= var.stored[t])


def reloads_read_stored_maps(model: cp_model.CpModel, problem: Problem, var: Variables) -> None:
    """A map is loaded whole only if its producer stored it."""
    for (t, _), reload in var.reload.items():
        if not problem.maps[t].in_dram:
            model.add(reload <= var.stored[t])


def reloads_serve_readers(model: cp_model.CpModel, problem: Problem, var: Variables) -> None:
    """A map is loaded whole only at the front of a step whose group reads it."""
    leads = led(problem)
    for (t, v), reload in var.reload.items():
        model.add(reload <= _sum(var, [k for k in leads[v] if t in problem.candidates[k].reads]))


def slices_share_one_choice(model: cp_model.CpModel, problem: Problem, var: Variables) -> None:
    """The slices of one map are kept all or none, and stored all or none."""
    covers = covering(problem)
    for t, feature_map in enumerate(problem.maps):
        for part in feature_map.writers[1:]:
            used = problem.candidates
            keeps = [k for k in covers[part] if t in used[k].keeps]
            stores = [k for k in covers[part] if t in used[k].stores]
            model.add(_sum(var, keeps) == var.kept[t])
            model.add(_sum(var, stores) == var.stored[t])


def constants_are_held(model: cp_model.CpModel, problem: Problem, var: Variables) -> None:
    """A group runs while the constants it does not stream are in SPM."""
    for (c, v), covered in var.covered.items():
        model.add(covered <= var.held[c, v])


def constants_are_loaded(model: cp_model.CpModel, problem: Problem, var: Variables) -> None:
    """Constants are streamed, or loaded at the front of their own step, or prefetched whole."""
    for c, own in var.own.items():
        total = var.ready.get((c, c), 0)
        if isinstance(total, int):
            model.add(own + var.streamed[c] == 1)
        else:
            model.add(total == problem.weights[c].cycles * (1 - own - var.streamed[c]))


def loads_take_time(model: cp_model.CpModel, problem: Problem, var: Variables) -> None:
    """What was loaded stays loaded."""
    for c, v in var.ready:
        model.add(var.spent(c, v - 1) >= 0)


def loads_follow_claims(model: cp_model.CpModel, problem: Problem, var: Variables) -> None:
    """Constants that are prefetched, were they only in part, hold their space."""
    for (c, v), ready in var.ready.items():
        model.add(ready <= problem.weights[c].cycles * var.held[c, v - 1])


def loads_precede_use(model: cp_model.CpModel, problem: Problem, var: Variables) -> None:
    """Constants are prefetched only in steps that exist and precede their own."""
    for c, v in var.ready:
        room = var.lead[v - 1] - var.covered.get((c, v - 1), 0)
        model.add(var.spent(c, v - 1) <= problem.weights[c].cycles * room)


def loads_keep_order(model: cp_model.CpModel, problem: Problem, var: Variables) -> None:
    """A prefetch begins when the one before it in order of use is complete, or its step runs."""
    weighted = sorted(var.own)
    begun = _begun(problem)
    for earlier, later in itertools.pairwise(weighted):
        cycles = problem.weights[later].cycles
        for v in range(earlier + 1):
            if (later, v) in var.ready:
                passed = var.loaded.get((earlier, v), 0) + _sum(var, begun[earlier, v - 1])
                model.add(var.ready[later, v] <= cycles * passed)


def loads_complete(model: cp_model.CpModel, problem: Problem, var: Variables) -> None:
    """Constants count as complete only when all of them have arrived."""
    for (c, v), loaded in var.loaded.items():
        model.add(var.ready[c, v] >= problem.weights[c].cycles * loaded)


def queue_is_free_for_streams(model: cp_model.CpModel, problem: Problem, var: Variables) -> None:
    """No prefetch is under way when a step begins that has transfers, unless it can be cut."""
    if problem.cuts:
        return
    busy = _busy_leads(problem, var)
    for (c, v), loaded in var.loaded.items():
        cycles, before = problem.weights[c].cycles, var.ready[c, v]
        for own in busy[v]:
            model.add(before <= cycles * (loaded + 1 - own))


def steps_wait_for_the_queue(model: cp_model.CpModel, problem: Problem, var: Variables) -> None:
    """A step lasts until its streams, and the prefetches it carries beside them, have ended."""
    carried: dict[int, list[Expr]] = {}
    for c, v in var.ready:
        carried.setdefault(v - 1, []).append(var.spent(c, v - 1))
    for v, members in enumerate(led(problem)):
        if v in carried:
            used = [problem.candidates[k] for k in members]
            slack = cp_model.LinearExpr.weighted_sum(
                [var.use[k] for k in members], [c.duration_cycles - c.dma_cycles for c in used]
            )
            model.add(cp_model.LinearExpr.sum(carried[v]) <= slack + var.stall[v])


def capacity_holds(model: cp_model.CpModel, problem: Problem, var: Variables) -> None:
    """At every part, working set, maps and constants of the step that runs it fit together.

    Stated for every part and not only for those that lead: the same solutions, but a relaxation
    cannot thin out working sets by letting groups overlap.
    """
    terms: list[list[Expr]] = [[] for _ in range(problem.parts)]
    for v, members in enumerate(covering(problem)):
        terms[v] = [_space(problem, problem.candidates[k], v) * var.use[k] for k in members]
    for (t, v), pinned in var.pin.items():
        terms[v].append(problem.maps[t].size_bytes * pinned)
    for (c, v), held in var.held.items():
        terms[v].append(problem.weights[c].size_bytes * held)
    for expressions in terms:
        model.add(cp_model.LinearExpr.sum(expressions) <= problem.capacity_bytes)


def _space(problem: Problem, candidate: Candidate, v: int) -> int:
    """Bytes of a group's step that no map or constant variable at part v counts."""
    maps, total = problem.maps, candidate.work_bytes
    total += sum(maps[t].size_bytes for t in candidate.reads if maps[t].last_use < v)
    total -= sum(
        maps[t].size_bytes
        for t in candidate.keeps
        if candidate.first <= maps[t].birth < v <= maps[t].last_use
    )
    if not candidate.streams_weights:
        total += sum(problem.weights[c].size_bytes for c in range(candidate.first, v))
    return total


def _sum(var: Variables, members: list[int]) -> Expr:
    return cp_model.LinearExpr.sum([var.use[k] for k in members])


def _begun(problem: Problem) -> dict[tuple[int, int], list[int]]:
    """Candidates that cover c and are led by a part up to v, for every part and v up to it."""
    begun: dict[tuple[int, int], list[int]] = {}
    for c, members in enumerate(covering(problem)):
        for v in range(-1, c + 1):
            begun[c, v] = [k for k in members if problem.candidates[k].first <= v]
    return begun


def _busy_leads(problem: Problem, var: Variables) -> list[list[Expr]]:
    """What makes a step's DMA busy from its front: a streaming group, a whole map loaded."""
    busy: list[list[Expr]] = []
    for members in led(problem):
        streaming = [k for k in members if problem.candidates[k].dma_cycles]
        busy.append([_sum(var, streaming)] if streaming else [])
    for (_, v), reload in var.reload.items():
        busy[v].append(reload)
    return busy


RULES: Final[tuple[Rule, ...]] = (
    every_part_runs_once,
    pinned_maps_are_written,
    pinned_maps_stay,
    held_maps_stay,
    groups_find_their_maps,
    streams_read_stored_maps,
    reloads_read_stored_maps,
    reloads_serve_readers,
    slices_share_one_choice,
    constants_are_held,
    constants_are_loaded,
    loads_take_time,
    loads_follow_claims,
    loads_precede_use,
    loads_keep_order,
    loads_complete,
    queue_is_free_for_streams,
    steps_wait_for_the_queue,
    capacity_holds,
)
