"""Cuts: constraints that follow from the rules, or from what an optimum needs not do.

No cut changes the optimum; each may be switched off (see `spm_opt.cpsat.model.build`), and
``benchmarks/cuts.py`` measures what each is worth.
"""

from __future__ import annotations

from typing import Final

from ortools.sat.python import cp_model

from spm_opt.cpsat.constraints import Rule
from spm_opt.cpsat.variables import Variables
from spm_opt.problem import Problem


def constants_stay(model: cp_model.CpModel, problem: Problem, var: Variables) -> None:
    """Constants stay in SPM from their claim to their own step."""
    for (c, v), held in var.held.items():
        if (c, v + 1) in var.held:
            model.add_implication(held, var.held[c, v + 1])


def claims_open_steps(model: cp_model.CpModel, problem: Problem, var: Variables) -> None:
    """Space is claimed only where a step begins."""
    for (c, v), held in var.held.items():
        if (c, v - 1) in var.held:
            model.add(held <= var.held[c, v - 1] + var.lead[v])


def reloads_bring_what_is_absent(model: cp_model.CpModel, problem: Problem, var: Variables) -> None:
    """A map that is in SPM already is not loaded again."""
    for (t, v), reload in var.reload.items():
        if (t, v - 1) in var.pin:
            model.add_at_most_one(reload, var.pin[t, v - 1])


CUTS: Final[tuple[Rule, ...]] = (
    constants_stay,
    claims_open_steps,
    reloads_bring_what_is_absent,
)
