"""The decision variables of the joint model.

Indices: ``k`` candidate, ``t`` feature map, ``v`` step (named by the part that may lead it),
``c`` part whose constants are loaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ortools.sat.python import cp_model

from spm_opt.problem import Problem, covering, led

#: a linear expression, a variable or a constant
Expr = Any


@dataclass(frozen=True, slots=True)
class Variables:
    """Variables and the sums of them that several rules share.

    Attributes
    ----------
    use : list
        ``use[k]``: candidate k runs.
    lead : list
        ``lead[v]``: some group is led by part v (a sum of `use`).
    pin : dict
        ``pin[t, v]``: map t stays in SPM at step v, after the group that first writes it.
    reload : dict
        ``reload[t, v]``: map t is loaded whole at the front of step v.
    stored, kept : list
        Sums of `use`: map t goes to DRAM (1 for network inputs), map t is written whole in SPM.
    own : dict
        ``own[c]``: the constants of c are loaded at the front of their own step.
    streamed : list
        ``streamed[c]``: the constants of c are streamed tile by tile (a sum of `use`).
    held : dict
        ``held[c, v]``: the constants of c occupy SPM at step v.
    covered : dict
        ``covered[c, v]``: the group led by v reads resident constants of c (a sum of `use`).
    ready : dict
        ``ready[c, v]``: cycles that the DMA engine has spent on prefetching c before step v,
        for every v at which some may have been spent.
    loaded : dict
        ``loaded[c, v]``: c is complete before step v.
    stall : list
        ``stall[v]``: cycles that step v lasts beyond its own pipeline.
    """

    use: list[cp_model.IntVar]
    lead: list[Expr]
    pin: dict[tuple[int, int], cp_model.IntVar]
    reload: dict[tuple[int, int], cp_model.IntVar]
    stored: list[Expr]
    kept: list[Expr]
    own: dict[int, cp_model.IntVar]
    streamed: list[Expr]
    held: dict[tuple[int, int], cp_model.IntVar]
    covered: dict[tuple[int, int], Expr]
    ready: dict[tuple[int, int], cp_model.IntVar]
    loaded: dict[tuple[int, int], cp_model.IntVar]
    stall: list[cp_model.IntVar]

    def spent(self, c: int, v: int) -> Expr:
        """Cycles of step v that the DMA engine spends on prefetching c."""
        return self.ready[c, v + 1] - self.ready.get((c, v), 0)

    def named(self, problem: Problem) -> dict[tuple[Any, ...], cp_model.IntVar]:
        """Every variable under a name that means the same in a problem with other candidates."""
        names: dict[tuple[Any, ...], cp_model.IntVar] = {
            ("use", problem.candidates[k].recipe): var for k, var in enumerate(self.use)
        }
        for kind in ("pin", "reload", "held", "ready", "loaded"):
            names |= {(kind, *key): var for key, var in getattr(self, kind).items()}
        names |= {("own", c): var for c, var in self.own.items()}
        return names | {("stall", v): var for v, var in enumerate(self.stall)}


def make_variables(model: cp_model.CpModel, problem: Problem) -> Variables:
    """Create the variables of `problem` in `model`."""
    use = [model.new_bool_var(f"use[{k}]") for k in range(len(problem.candidates))]
    leads, covers = led(problem), covering(problem)
    weighted = [c for c, weight in enumerate(problem.weights) if weight.size_bytes]
    earliest = {c: _earliest(problem, c, covers) if problem.prefetch else c for c in weighted}
    early = [(c, v) for c in weighted for v in range(earliest[c], c)]
    return Variables(
        use=use,
        lead=[_sum(use, leads[v]) for v in range(problem.parts)],
        pin=_pins(model, problem),
        reload=_reloads(model, problem),
        stored=[_stored(problem, use, covers, t) for t in range(len(problem.maps))],
        kept=[_kept(problem, use, covers, t) for t in range(len(problem.maps))],
        own={c: model.new_bool_var(f"own[{c}]") for c in weighted},
        streamed=[
            _sum(use, [k for k in covers[c] if problem.candidates[k].streams_weights])
            for c in range(problem.parts)
        ],
        held={
            (c, v): model.new_bool_var(f"held[{c},{v}]")
            for c in weighted
            for v in range(min(earliest[c], _first_holder(problem, c, covers)), c + 1)
        },
        covered=_covered(problem, use, covers, weighted),
        ready={
            (c, v + 1): model.new_int_var(0, problem.weights[c].cycles, f"ready[{c},{v + 1}]")
            for c, v in early
        },
        loaded={(c, v + 1): model.new_bool_var(f"loaded[{c},{v + 1}]") for c, v in early},
        stall=[
            model.new_int_var(0, _horizon(problem), f"stall[{v}]") for v in range(problem.parts)
        ],
    )


def _sum(use: list[cp_model.IntVar], members: list[int]) -> Expr:
    return cp_model.LinearExpr.sum([use[k] for k in members])


def _horizon(problem: Problem) -> int:
    return sum(weight.cycles for weight in problem.weights) + 1


def _earliest(problem: Problem, c: int, covers: list[list[int]]) -> int:
    """Earliest part at whose step the load of c may begin.

    Loads keep the order of use, so all constants in between are in SPM together with c; those of
    the step where it begins may be streamed.
    """
    room, earliest = problem.capacity_bytes - problem.weights[c].size_bytes, c
    for v in reversed(range(c)):
        needed = problem.weights[v].size_bytes
        streamable = any(problem.candidates[k].streams_weights for k in covers[v])
        if room < (0 if streamable else needed):
            break
        room, earliest = room - needed, v
    return earliest


def _first_holder(problem: Problem, c: int, covers: list[list[int]]) -> int:
    """First part that leads a group which needs c whole."""
    holding = (problem.candidates[k] for k in covers[c])
    return min((k.first for k in holding if not k.streams_weights), default=c)


def _covered(
    problem: Problem, use: list[cp_model.IntVar], covers: list[list[int]], weighted: list[int]
) -> dict[tuple[int, int], Expr]:
    found: dict[tuple[int, int], list[int]] = {}
    for c in weighted:
        for k in covers[c]:
            if not problem.candidates[k].streams_weights:
                found.setdefault((c, problem.candidates[k].first), []).append(k)
    return {key: _sum(use, members) for key, members in found.items()}


def _pins(model: cp_model.CpModel, problem: Problem) -> dict[tuple[int, int], cp_model.IntVar]:
    wanted = {t for c in problem.candidates for t in (*c.reads, *c.keeps)}
    return {
        (t, v): model.new_bool_var(f"pin[{t},{v}]")
        for t in sorted(wanted)
        for v in range(problem.maps[t].birth + 1, problem.maps[t].last_use + 1)
    }


def _reloads(model: cp_model.CpModel, problem: Problem) -> dict[tuple[int, int], cp_model.IntVar]:
    if not problem.reload:
        return {}
    places = {
        (t, c.first)
        for c in problem.candidates
        for t in c.reads
        if c.first > max(problem.maps[t].writers, default=-1)
    }
    return {(t, v): model.new_bool_var(f"reload[{t},{v}]") for t, v in sorted(places)}


def _stored(problem: Problem, use: list[cp_model.IntVar], covers: list[list[int]], t: int) -> Expr:
    if problem.maps[t].in_dram:
        return 1
    birth = problem.maps[t].birth
    return _sum(use, [k for k in covers[birth] if t in problem.candidates[k].stores])


def _kept(problem: Problem, use: list[cp_model.IntVar], covers: list[list[int]], t: int) -> Expr:
    if problem.maps[t].in_dram:
        return 0
    birth = problem.maps[t].birth
    return _sum(use, [k for k in covers[birth] if t in problem.candidates[k].keeps])
