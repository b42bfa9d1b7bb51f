"""A problem as a CP-SAT model, and a solution of it as a decision."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from ortools.sat.python import cp_model

from spm_opt.cpsat.constraints import RULES, Rule
from spm_opt.cpsat.objective import OBJECTIVES
from spm_opt.cpsat.strengthen import CUTS
from spm_opt.cpsat.variables import Variables, make_variables
from spm_opt.decision import Decision
from spm_opt.problem import Problem

#: values of variables by their problem-independent names (see `Variables.named`)
Values: TypeAlias = Mapping[tuple[Any, ...], int]


@dataclass(frozen=True, slots=True)
class JointModel:
    """The CP-SAT model of a problem under one objective."""

    problem: Problem
    model: cp_model.CpModel
    variables: Variables
    objective: str

    def limit(self, objective: str, most: int) -> None:
        """Forbid solutions in which `objective` exceeds `most`."""
        self.model.add(OBJECTIVES[objective](self.problem, self.variables) <= most)


def build(
    problem: Problem,
    objective: str,
    rules: Iterable[Rule] = RULES,
    cuts: Iterable[Rule] = CUTS,
) -> JointModel:
    """Build the model: variables, rules, cuts, objective."""
    model = cp_model.CpModel()
    variables = make_variables(model, problem)
    for rule in (*rules, *cuts):
        rule(model, problem, variables)
    model.minimize(OBJECTIVES[objective](problem, variables))
    return JointModel(problem, model, variables, objective)


def decision_of(problem: Problem, values: Values) -> Decision:
    """The choice that `values` describe.

    Space is claimed when its first transfer starts and given back after its last reader,
    however much earlier or later the values say.
    """
    chosen = [k for k, c in enumerate(problem.candidates) if values.get(("use", c.recipe), 0)]
    chosen.sort(key=lambda k: problem.candidates[k].first)
    leader: dict[int, int] = {}
    for k in chosen:
        candidate = problem.candidates[k]
        leader |= dict.fromkeys(range(candidate.first, candidate.end), candidate.first)
    resident, reloads = _residencies(problem, values, chosen)
    starts = _weight_starts(problem, values, chosen, leader)
    return Decision(tuple(chosen), tuple(resident), tuple(reloads), tuple(starts))


def _residencies(
    problem: Problem, values: Values, chosen: list[int]
) -> tuple[list[tuple[int, int, int]], list[tuple[int, int]]]:
    uses: dict[int, list[int]] = {}
    births: dict[int, int] = {}
    for k in chosen:
        candidate = problem.candidates[k]
        for t in (*candidate.reads, *candidate.keeps):
            uses.setdefault(t, []).append(candidate.first)
            if t in candidate.keeps:
                births.setdefault(t, candidate.first)
    resident: list[tuple[int, int, int]] = []
    reloads: list[tuple[int, int]] = []
    for t, steps in sorted(uses.items()):
        begin = births.get(t, -1)
        last = begin
        for v in steps:
            if begin < 0 or not _stays(values, t, last, v):
                if begin >= 0:
                    resident.append((t, begin, last + 1))
                reloads.append((t, v))
                begin = v
            last = v
        resident.append((t, begin, last + 1))
    return resident, reloads


def _stays(values: Values, t: int, last: int, v: int) -> bool:
    """Whether map t stays in SPM from its use at `last` to its use at `v` without a reload."""
    return not any(values.get(("reload", t, u), 0) for u in range(last + 1, v + 1))


def _weight_starts(
    problem: Problem, values: Values, chosen: list[int], leader: dict[int, int]
) -> list[int]:
    """Steps in which loads of constants start."""
    streamed = {
        problem.candidates[k].first for k in chosen if problem.candidates[k].streams_weights
    }
    starts = [-1] * problem.parts
    for c, own in leader.items():
        if problem.weights[c].size_bytes and c not in streamed:
            moved = (v for v in range(own) if values.get(("ready", c, v + 1), 0))
            starts[c] = next(moved, own)
    return starts
