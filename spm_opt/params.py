"""What a user may set for a solve, and the words allowed; and what a solve tells while it runs.

No algorithm belongs here, and no default that depends on a model or an accelerator.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from spm_opt.constraints import NONE, Constraints, contradiction
from spm_opt.errors import InputError

STRATEGIES: Final = ("joint", "fuse", "pin", "layerwise", "greedy")
OBJECTIVES: Final = ("latency", "dram", "energy", "edp")
INTERLEAVES: Final = ("auto", "on", "off")
TILINGS: Final = ("all", "rows")
#: strategies that keep no map between groups, and those whose groups are single layers
_KEEPING_NOTHING: Final = ("fuse", "layerwise")
_FUSING_NOTHING: Final = ("pin", "layerwise", "greedy")


@dataclass(frozen=True, slots=True)
class SolveParams:
    """Parameters of one solve.

    Attributes
    ----------
    strategy : str
        One of `STRATEGIES`.
    objective : str
        ``latency`` (then DRAM bytes at equal latency), ``dram`` (then latency at equal bytes),
        ``energy``, or ``edp``: the product of energy and latency.
    prefetch : bool
        Whether weights may be loaded before the step that reads them.
    time_limit : float
        Seconds of wall clock for the whole solve.
    deterministic_limit : float or None
        Limit in CP-SAT's deterministic time, for repeatable runs; None for no such limit.
    workers : int
        Search workers of CP-SAT; 0 means one per core.
    seed : int
    orders : int
        Topological orders to try on branchy networks.
    aliases : bool
        Whether element-wise layers may write over an input that dies, and maps lie inside others:
        concatenations and splits without copies.
    interleave : str
        Whether prefetches may be cut to fill the gaps between streams: ``on``, ``off``, or
        ``auto``: where cutting costs nothing (no latency, bursts that divide the bytes of a
        cycle), so that the optimum can still be proven.
    tilings : str
        ``all``, or ``rows``: groups in stripes of rows and single layers in channel tiles only, no
        bands of columns, blocks, partial sums, or runs of layers in channel tiles.
    constraints : Constraints
        What the plan has to do, and must not do, whatever it costs.
    """

    strategy: str = "joint"
    objective: str = "latency"
    prefetch: bool = True
    time_limit: float = 60.0
    deterministic_limit: float | None = None
    workers: int = 0
    seed: int = 0
    orders: int = 4
    aliases: bool = True
    interleave: str = "auto"
    tilings: str = "all"
    constraints: Constraints = NONE

    @property
    def counts_energy(self) -> bool:
        """Whether the objective needs energies of the hardware."""
        return self.objective in ("energy", "edp")

    def __post_init__(self) -> None:
        _one_of("strategy", self.strategy, STRATEGIES)
        _one_of("objective", self.objective, OBJECTIVES)
        _one_of("interleave", self.interleave, INTERLEAVES)
        _one_of("tilings", self.tilings, TILINGS)
        if not self.time_limit > 0:
            raise InputError("must be positive", field="time_limit", found=self.time_limit)
        if self.workers < 0:
            raise InputError("must not be negative", field="workers", found=self.workers)
        if not 0 <= self.seed < 2**31:
            raise InputError("must be in 0 .. 2147483647", field="seed", found=self.seed)
        if self.orders < 1:
            raise InputError("must be at least 1", field="orders", found=self.orders)
        wanted = self.constraints
        if wanted.pin and self.strategy in _KEEPING_NOTHING:
            raise contradiction(f"--pin {wanted.pin[0]}", f"--strategy {self.strategy}")
        if wanted.fuse and self.strategy in _FUSING_NOTHING:
            raise contradiction(f"--fuse {','.join(wanted.fuse[0])}", f"--strategy {self.strategy}")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a solve is, for whoever watches it.

    Attributes
    ----------
    phase : str
        What the planner does now, for people.
    seconds : float
        Wall clock since the solve began.
    incumbent, bound : int or None
        Best value found and proven bound of the objective, in its unit; None while unknown.
    objective : str
        One of `OBJECTIVES`.
    """

    phase: str
    seconds: float
    incumbent: int | None
    bound: int | None
    objective: str


def _one_of(field: str, found: str, allowed: tuple[str, ...]) -> None:
    if found not in allowed:
        raise InputError("unknown choice", field=field, found=found, allowed=allowed)
