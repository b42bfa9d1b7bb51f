"""spm_opt: what to keep in a scratchpad, decided jointly and proven.

The names below are the library; everything else may change between versions. They are imported
when first used, so that ``import spm_opt`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spm_opt.allocation.solve import allocate
    from spm_opt.api import check, compare, info, solve
    from spm_opt.constraints import Constraints
    from spm_opt.errors import (
        GraphError,
        InputError,
        SolverError,
        SpmOptError,
        SpmTooSmallError,
        VerificationError,
    )
    from spm_opt.explanation import Reason
    from spm_opt.exploration import Exploration, ExploredPoint, explore
    from spm_opt.graph.builder import NetworkBuilder
    from spm_opt.graph.network import Network
    from spm_opt.hardware import Hardware
    from spm_opt.params import Progress, SolveParams
    from spm_opt.program import Run, emit_c, run_c
    from spm_opt.result import Result
    from spm_opt.schedule import Schedule

__version__ = "0.1.0"

__all__ = (
    "Constraints",
    "Exploration",
    "ExploredPoint",
    "GraphError",
    "Hardware",
    "InputError",
    "Network",
    "NetworkBuilder",
    "Progress",
    "Reason",
    "Result",
    "Run",
    "Schedule",
    "SolveParams",
    "SolverError",
    "SpmOptError",
    "SpmTooSmallError",
    "VerificationError",
    "__version__",
    "allocate",
    "check",
    "compare",
    "emit_c",
    "explore",
    "info",
    "run_c",
    "solve",
)

_ROOMS = {
    "allocation.solve": ("allocate",),
    "api": ("check", "compare", "info", "solve"),
    "constraints": ("Constraints",),
    "errors": (
        "GraphError",
        "InputError",
        "SolverError",
        "SpmOptError",
        "SpmTooSmallError",
        "VerificationError",
    ),
    "exploration": ("Exploration", "ExploredPoint", "explore"),
    "explanation": ("Reason",),
    "graph.builder": ("NetworkBuilder",),
    "graph.network": ("Network",),
    "hardware": ("Hardware",),
    "params": ("Progress", "SolveParams"),
    "program": ("Run", "emit_c", "run_c"),
    "result": ("Result",),
    "schedule": ("Schedule",),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}


def __getattr__(name: str) -> Any:
    room = _ROOM_OF.get(name)
    if room is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{room}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
