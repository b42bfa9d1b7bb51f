"""What is minimised: cycles, bytes, or femtojoules."""

from __future__ import annotations

from ortools.sat.python import cp_model

from spm_opt.cpsat.variables import Expr, Variables
from spm_opt.problem import Problem


def latency_cycles(problem: Problem, var: Variables) -> Expr:
    """Sum over steps of pipeline, stall, and whole-tensor loads at the front."""
    terms = [c.duration_cycles * use for c, use in zip(problem.candidates, var.use, strict=True)]
    terms += var.stall
    terms += [problem.weights[c].cycles * own for c, own in var.own.items()]
    terms += [problem.maps[t].reload_cycles * load for (t, _), load in var.reload.items()]
    return cp_model.LinearExpr.sum(terms)


def dram_bytes(problem: Problem, var: Variables) -> Expr:
    """Bytes of all transfers."""
    terms = [c.dram_bytes * use for c, use in zip(problem.candidates, var.use, strict=True)]
    terms += [problem.maps[t].reload_bytes * load for (t, _), load in var.reload.items()]
    return cp_model.LinearExpr.sum(terms)


def energy_fj(problem: Problem, var: Variables) -> Expr:
    """Energy of all tiles and transfers, and leakage in every cycle."""
    terms = [c.energy_fj * use for c, use in zip(problem.candidates, var.use, strict=True)]
    terms += [problem.maps[t].reload_fj * load for (t, _), load in var.reload.items()]
    terms.append(problem.leakage_fj * latency_cycles(problem, var))
    return cp_model.LinearExpr.sum(terms)


OBJECTIVES = {"latency": latency_cycles, "dram": dram_bytes, "energy": energy_fj}
