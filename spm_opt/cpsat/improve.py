"""From a plan to a better one, or to a proof: CP-SAT started at a known decision.

Used where the dynamic programme had to leave residencies out, so that its plan has no proof.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from spm_opt.cpsat.model import JointModel, Values, build, decision_of
from spm_opt.cpsat.search import Budget, search
from spm_opt.decision import Decision, Outcome
from spm_opt.errors import SolverError
from spm_opt.problem import Problem


def improve(
    problem: Problem,
    objective: str,
    start: Decision,
    value: int,
    budget: Budget,
    report: Callable[[int | None, int], None],
    among: Problem | None = None,
) -> Outcome:
    """Search from `start`, of known `value`, for a better decision and a bound.

    Parameters
    ----------
    objective : str
        ``latency``, ``dram`` or ``energy``.
    report : callable
        Told every new incumbent (or None) and bound.
    among : Problem, optional
        `problem` with fewer candidates and the same optimum: what is searched, and what the
        numbers of a better decision mean.

    Raises
    ------
    SolverError
        Where CP-SAT finds no solution, though `start` is one.
    """
    joint = build(among or problem, objective)
    joint.limit(objective, value)
    _hint(joint, choices(problem, start))
    found = search(joint, budget, report)
    if found.infeasible:
        raise SolverError(f"CP-SAT finds no plan of {objective} {value}, though one is known")
    if found.values is None or found.value is None:
        return Outcome(start, value, min(max(found.bound, 0), value))
    return Outcome(decision_of(joint.problem, found.values), found.value, found.bound)


def _hint(joint: JointModel, values: Values) -> None:
    for name, variable in joint.variables.named(joint.problem).items():
        if name[0] in ("use", "pin", "reload", "held", "own"):
            joint.model.add_hint(variable, values.get(name, 0))


def choices(problem: Problem, decision: Decision) -> dict[tuple[Any, ...], int]:
    """The values of the model's choices, by name, that a decision stands for."""
    used = [problem.candidates[k] for k in decision.candidates]
    ends = {c.first: c.end for c in used}
    leader = {part: c.first for c in used for part in range(c.first, c.end)}
    values: dict[tuple[Any, ...], int] = {("use", c.recipe): 1 for c in used}
    loads = set(decision.reloads)
    for t, first, end in decision.resident:
        begin = first if (t, first) in loads else problem.maps[t].birth + 1
        last = ends[leader[end - 1]]
        values |= {("pin", t, v): 1 for v in range(begin, last)}
    values |= {("reload", t, v): 1 for t, v in loads}
    for c, start in enumerate(decision.weight_starts):
        if start >= 0:
            values |= {("held", c, v): 1 for v in range(start, c + 1)}
            values["own", c] = int(start == leader[c])
    return values
