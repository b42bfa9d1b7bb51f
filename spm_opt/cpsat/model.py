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
from spm_opt.decision import Decision, residencies
from spm_opt.problem import Candidate, Problem

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
    used = [problem.candidates[k] for k in chosen]
    reloads = [tuple(t for t in c.reads if values.get(("reload", t, c.first), 0)) for c in used]
    resident, loaded = residencies(used, reloads)
    return Decision(tuple(chosen), resident, loaded, _weight_starts(problem, values, used))


def _weight_starts(problem: Problem, values: Values, used: list[Candidate]) -> tuple[int, ...]:
    """Steps in which loads of constants start."""
    starts = [-1] * problem.parts
    for leader in used:
        for c in range(leader.first, leader.end):
            if problem.weights[c].size_bytes and not leader.streams_weights:
                moved = (v for v in range(leader.first) if values.get(("ready", c, v + 1), 0))
                starts[c] = next(moved, leader.first)
    return tuple(starts)
