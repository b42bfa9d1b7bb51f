"""Running CP-SAT: limits, progress, interruption, and answers that are checked for sense."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, isfinite
from typing import Final

from ortools.sat.python import cp_model

from spm_opt.cpsat.model import JointModel, Values
from spm_opt.errors import SolverError

#: what a float may lie above the whole number it stands for
BOUND_SLACK: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits of one search.

    Attributes
    ----------
    seconds : float
        Wall clock.
    deterministic : float or None
        CP-SAT's deterministic time; None for no such limit.
    workers, seed : int
    stop : threading.Event or None
        Set to end the search early with the best found.
    """

    seconds: float
    deterministic: float | None
    workers: int
    seed: int
    stop: threading.Event | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found: values (None without a solution), objective and bound."""

    values: Values | None
    value: int | None
    bound: int
    proven: bool
    infeasible: bool


class _Watch(cp_model.CpSolverSolutionCallback):
    """Reports each new incumbent and stops the search when asked."""

    def __init__(self, report: Callable[[int, int], None], stop: threading.Event | None) -> None:
        super().__init__()
        self._report = report
        self._stop = stop

    def on_solution_callback(self) -> None:
        self._report(round(self.objective_value), round(self.best_objective_bound))
        if self._stop is not None and self._stop.is_set():
            self.stop_search()


def search(joint: JointModel, budget: Budget, report: Callable[[int | None, int], None]) -> Found:
    """Minimise `joint`'s objective within `budget`.

    Raises
    ------
    SolverError
        Where CP-SAT calls the model invalid.
    """
    solver = _solver(budget)
    latest: list[int | None] = [None]

    def incumbent(value: int, bound: int) -> None:
        latest[0] = value
        report(value, bound)

    def better_bound(bound: float) -> None:
        report(latest[0], round(bound))

    solver.best_bound_callback = better_bound
    watch = _Watch(incumbent, budget.stop)
    halt = _stopper(solver, budget.stop)
    try:
        status = solver.solve(joint.model, watch)
    finally:
        halt()
    return _found(joint, solver, status)


def _solver(budget: Budget) -> cp_model.CpSolver:
    solver = cp_model.CpSolver()
    parameters = solver.parameters
    parameters.max_time_in_seconds = max(0.01, budget.seconds)
    if budget.deterministic is not None:
        parameters.max_deterministic_time = budget.deterministic
    parameters.num_workers = budget.workers
    parameters.random_seed = budget.seed
    parameters.linearization_level = 2
    # whoever plans hears of Ctrl-C and sets `Budget.stop`
    parameters.catch_sigint_signal = False
    return solver


def _stopper(solver: cp_model.CpSolver, stop: threading.Event | None) -> Callable[[], None]:
    """Stop `solver` when the event is set; returns what ends the waiting."""
    if stop is None:
        return lambda: None
    over = threading.Event()

    def wait() -> None:
        while not over.is_set():
            if stop.wait(0.05):
                solver.stop_search()
                time.sleep(0.05)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()

    def end() -> None:
        over.set()
        thread.join()

    return end


def _found(joint: JointModel, solver: cp_model.CpSolver, status: cp_model.CpSolverStatus) -> Found:
    if status == cp_model.MODEL_INVALID:
        raise SolverError(f"the joint model is invalid: {joint.model.validate()}")
    if status in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        values = {
            name: solver.value(variable)
            for name, variable in joint.variables.named(joint.problem).items()
        }
        nonzero = {name: value for name, value in values.items() if value}
        value, proven = round(solver.objective_value), status == cp_model.OPTIMAL
        return Found(nonzero, value, value if proven else min(_bound(solver), value), proven, False)
    bound = _bound(solver) if status == cp_model.UNKNOWN else 0
    return Found(None, None, bound, False, status == cp_model.INFEASIBLE)


def _bound(solver: cp_model.CpSolver) -> int:
    """The proven bound; objectives are whole and not negative, the solver's bound is a float."""
    bound = solver.best_objective_bound
    return max(0, ceil(bound - BOUND_SLACK)) if isfinite(bound) else 0
