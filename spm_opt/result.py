"""The answer of a solve as a user holds it: a verified schedule, its figures, its files.

It reads the schedule and writes files through `spm_opt.formats`; it decides nothing.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from spm_opt.errors import InputError
from spm_opt.params import SolveParams
from spm_opt.report import (
    AliasBytes,
    CandidateFigures,
    ConstraintFigures,
    DramBytes,
    EnergyFigures,
    SolveFigures,
    as_text,
    solve_figures,
    solve_table,
)
from spm_opt.schedule import Schedule

COMMANDS_FILE: Final = "commands.json"
if TYPE_CHECKING:
    from collections.abc import Callable

    from spm_opt.explanation import Reason
    from spm_opt.params import Progress
    from spm_opt.simulate import Cause

#: what `Result.save` writes; the schedule last, so that where it stands the others do too
FILES: Final = (
    "allocation.csv", "layers.csv", "listing.txt", "trace.json", COMMANDS_FILE, "schedule.json",
)  # fmt: skip


@dataclass(frozen=True)
class Result:
    """A schedule that the checker accepted, and its figures.

    Attributes
    ----------
    schedule : Schedule
        What happens on the machine, with the network and the hardware.
    verified : bool
        Whether the checker accepted the schedule; `spm_opt.solve` returns no other.
    params : SolveParams or None
        What it was solved with; None for a schedule that comes from elsewhere.
    """

    schedule: Schedule
    verified: bool = True
    params: SolveParams | None = None

    @property
    def model(self) -> str:
        """Name of the network."""
        return self.schedule.network.name

    @property
    def hardware(self) -> str:
        """Name of the accelerator."""
        return self.schedule.hardware.name

    @property
    def strategy(self) -> str:
        """Strategy that decided: ``joint`` or a baseline."""
        return self.schedule.provenance.strategy

    @property
    def objective(self) -> str:
        """``latency`` or ``dram``."""
        return self.schedule.provenance.objective

    @property
    def status(self) -> str:
        """``optimal`` (proven over the plan space) or ``feasible``."""
        return self.schedule.provenance.status

    @property
    def latency_cycles(self) -> int:
        """Cycles from the first command to the end of the last."""
        return self.schedule.claims.latency_cycles

    @property
    def latency_lower_bound_cycles(self) -> int:
        """Cycles that no plan of the plan space beats."""
        return self.schedule.provenance.latency_lower_bound_cycles

    @property
    def gap(self) -> float:
        """``(value - bound) / value`` of the objective; 0 where proven optimal."""
        return self.to_dict()["gap"]

    @property
    def roofline_cycles(self) -> int:
        """Cycles that physics asks for: compute alone, or compulsory traffic alone."""
        return self.schedule.claims.roofline_cycles

    @property
    def compute_cycles(self) -> int:
        """Cycles that the compute engine is busy."""
        return self.schedule.claims.compute_cycles

    @property
    def dram_bytes(self) -> DramBytes:
        """Bytes over the DRAM pins: ``total``, ``weights``, ``feature_maps``."""
        return self.to_dict()["dram_bytes"]

    @property
    def dram_footprint_bytes(self) -> int:
        """Bytes of DRAM from address 0 that hold weights, inputs, outputs and spilled maps."""
        return self.to_dict()["dram_footprint_bytes"]

    @property
    def dram_reused_bytes(self) -> int:
        """Bytes saved by spilled maps that take each other's places."""
        return self.to_dict()["dram_reused_bytes"]

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference, each counted once."""
        return self.schedule.claims.macs

    @property
    def energy_fj(self) -> EnergyFigures | None:
        """Femtojoules by level and tensor kind; None where the hardware does not say."""
        return self.to_dict()["energy_fj"]

    @property
    def energy_delay_fj_cycles(self) -> int | None:
        """Energy times latency; None likewise."""
        return self.to_dict()["energy_delay_fj_cycles"]

    @property
    def recomputed_macs(self) -> int:
        """Multiply-accumulates done again for halos."""
        return self.schedule.claims.recomputed_macs

    @property
    def spm_peak_bytes(self) -> int:
        """Highest SPM address used, plus one."""
        return self.schedule.claims.spm_peak_bytes

    @property
    def spm_capacity_bytes(self) -> int:
        """Capacity of the scratchpad."""
        return self.schedule.hardware.spm.capacity_bytes

    @property
    def layers(self) -> int:
        """Layers of the normalised network."""
        return len(self.schedule.origin.layers)

    @property
    def groups(self) -> int:
        """Groups of layers that run together; a slice of a layer is one, all bands of one are."""
        return self.to_dict()["groups"]

    @property
    def fused_layers(self) -> int:
        """Layers that share a step with another layer."""
        return self.to_dict()["fused_layers"]

    @property
    def banded_groups(self) -> int:
        """Groups that run in bands of columns."""
        return self.to_dict()["banded_groups"]

    @property
    def pinned_feature_maps(self) -> int:
        """Feature maps held whole in SPM past the step that first fills them."""
        return self.to_dict()["pinned_feature_maps"]

    @property
    def spm_load_bytes(self) -> int:
        """Most bytes resident at any step: a bound on `spm_peak_bytes` for these buffers."""
        return self.to_dict()["spm_load_bytes"]

    @property
    def aliased_bytes(self) -> AliasBytes:
        """Bytes saved by writing in place, and by concatenations and splits without copies."""
        return self.to_dict()["aliased_bytes"]

    @property
    def modelled_latency_cycles(self) -> int:
        """Latency of the same plan if steps were barriers, as the coarser model counts."""
        return self.schedule.provenance.modelled_latency_cycles

    @property
    def solve_seconds(self) -> float:
        """Wall clock of the solve."""
        return self.schedule.provenance.solve_seconds

    @property
    def order(self) -> str:
        """Name of the topological order chosen."""
        return self.schedule.provenance.order

    @property
    def orders_tried(self) -> int:
        """Topological orders tried."""
        return self.schedule.provenance.orders_tried

    @property
    def candidates(self) -> CandidateFigures:
        """Groups that there were to choose from, and those left out since others are as good."""
        return self.to_dict()["candidates"]

    @property
    def constraints(self) -> ConstraintFigures:
        """What was demanded of the plan."""
        return self.to_dict()["constraints"]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the reader of the model could not take literally."""
        return self.schedule.network.warnings

    def stalls(self) -> tuple[Cause, ...]:
        """What the engines stood still for, the longest first: which command, in which step."""
        from spm_opt.commands import lower
        from spm_opt.simulate import simulate

        return simulate(lower(self.schedule), self.schedule.hardware).causes

    def explain(
        self,
        *,
        maps: int = 10,
        time_limit: float = 120.0,
        progress: Callable[[Progress], None] | None = None,
    ) -> tuple[Reason, ...]:
        """What every feature map is, and what the best plan without that would cost.

        The `maps` largest are planned once more each, with the choice forbidden as a user would
        forbid it (``no_pin``, ``no_fuse``, or ``pin`` for what is spilled). Ctrl-C ends it early.

        Parameters
        ----------
        maps : int
            Maps that are priced, the largest first.
        time_limit : float
            Seconds for all of them together, in even shares.
        progress : callable, optional
            As in `spm_opt.solve`.

        Returns
        -------
        tuple of Reason
            One a map, the largest first.

        Raises
        ------
        InputError
            If the schedule comes from elsewhere: it is not known what it was solved with.
        """
        from spm_opt.explanation import explain
        from spm_opt.progress import run_interruptibly

        params = self.params
        if params is None:
            raise InputError("only a result of solve can be explained", field="explain")
        return run_interruptibly(
            lambda stop: explain(
                self.schedule, params, maps=maps, time_limit=time_limit, progress=progress,
                stop=stop,
            )
        )  # fmt: skip

    def to_dict(self) -> SolveFigures:
        """Every figure, as ``spm-opt solve --json`` prints it."""
        return solve_figures(self.schedule, verified=self.verified)

    def summary(self) -> str:
        """The figures as a table in plain text."""
        return as_text(solve_table(self.to_dict(), self.schedule.hardware.frequency_hz))

    def save(self, directory: str | os.PathLike[str]) -> tuple[Path, ...]:
        """Write `FILES` into `directory`, which is created if need be.

        Each file is written beside its place and moved there, so an interruption never leaves
        half of one; nothing is written before every text is complete.

        Returns
        -------
        tuple of Path
            The files, in the order of `FILES`.

        Raises
        ------
        InputError
            If the directory or a file cannot be written.
        """
        from spm_opt.formats.atomic import write_atomically

        folder = Path(directory)
        require_writable(folder)
        texts = _texts(self.schedule)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name in FILES:
                write_atomically(folder / name, texts[name])
        except OSError as error:
            raise InputError(
                f"cannot write here: {error.strerror or error}", file=str(folder)
            ) from None
        return tuple(folder / name for name in FILES)


def require_writable(directory: str | os.PathLike[str]) -> None:
    """Make sure, without touching anything, that files can be put into `directory`.

    Raises
    ------
    InputError
        If it is a file, or neither it nor the place where it would be created can be written.
    """
    folder = Path(directory)
    if folder.exists() and not folder.is_dir():
        raise InputError("this is a file, not a directory", file=str(folder))
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not existing.is_dir():
        raise InputError(f"cannot write here: {existing} is not a directory", file=str(folder))
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError("cannot write here: permission denied", file=str(folder))


def _texts(schedule: Schedule) -> dict[str, str]:
    from spm_opt.commands import lower
    from spm_opt.emit.listing import listing
    from spm_opt.formats.commands_json import commands_to_json
    from spm_opt.formats.schedule_json import schedule_to_json
    from spm_opt.formats.tables import allocation_csv, layers_csv
    from spm_opt.simulate import simulate
    from spm_opt.trace import trace_json

    stream = lower(schedule)
    simulation = simulate(stream, schedule.hardware)
    return {
        "allocation.csv": allocation_csv(schedule),
        "layers.csv": layers_csv(schedule),
        "listing.txt": listing(schedule, stream, simulation),
        "trace.json": trace_json(schedule, stream, simulation),
        COMMANDS_FILE: commands_to_json(stream),
        "schedule.json": schedule_to_json(schedule),
    }
