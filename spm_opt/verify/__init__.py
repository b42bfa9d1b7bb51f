"""The checker: disbelieves a finished schedule and recomputes everything it claims.

From the embedded network, the hardware and the commands alone it derives what must hold: each rule
family is a module, each rule a function that yields one sentence per violation. Prices of single
events are shared with the planner (`spm_opt.cost`), its sums and searches are not: nothing of
tiling, fusion, problem, cpsat, baselines, allocation or timeline may be imported here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from spm_opt.errors import InputError
from spm_opt.schedule import Schedule
from spm_opt.verify.claims import claimed_totals, proven_bounds, roofline
from spm_opt.verify.coverage import each_row_once, outputs_stored, steps_kept, weights_once
from spm_opt.verify.data import data_present
from spm_opt.verify.dram import dram_layout, transfer_extent
from spm_opt.verify.energy import claimed_energy
from spm_opt.verify.engines import compute_prices, engine_order, transfer_prices
from spm_opt.verify.facts import Facts, facts_of
from spm_opt.verify.operands import compute_operands, in_place, transfer_ends
from spm_opt.verify.races import ordered, races
from spm_opt.verify.space import (
    buffer_bytes,
    buffer_placement,
    buffers_apart,
    needed_when_read,
    sharing_alike,
    touched_while_resident,
)
from spm_opt.verify.structure import malformed
from spm_opt.verify.sums import each_slice_once, slice_constants_once, sums_kept
from spm_opt.verify.timing import start_cycles

__all__ = ["verify"]

#: the checker at a glance; every rule may assume that `malformed` found nothing
_RULES: Final[tuple[Callable[[Facts], Iterator[str]], ...]] = (
    compute_operands,
    transfer_ends,
    in_place,
    sums_kept,
    buffer_placement,
    buffer_bytes,
    buffers_apart,
    sharing_alike,
    touched_while_resident,
    needed_when_read,
    dram_layout,
    transfer_extent,
    steps_kept,
    each_row_once,
    weights_once,
    each_slice_once,
    slice_constants_once,
    outputs_stored,
    data_present,
    races,
    ordered,
    engine_order,
    compute_prices,
    transfer_prices,
    start_cycles,
    claimed_totals,
    claimed_energy,
    roofline,
    proven_bounds,
)


def verify(schedule: Schedule) -> tuple[str, ...]:
    """Every rule of the machine that `schedule` breaks, one sentence each.

    Records that name what does not exist (a layer, a buffer, a row) are reported alone: nothing
    else can be said of such a schedule.

    Returns
    -------
    tuple of str
        Empty when the schedule is valid.

    Raises
    ------
    InputError
        Where the embedded network or hardware is so malformed that nothing can be recomputed.
    """
    unreadable = tuple(malformed(schedule))
    if unreadable:
        return unreadable
    try:
        facts = facts_of(schedule)
        return tuple(sentence for rule in _RULES for sentence in rule(facts))
    except (ArithmeticError, IndexError, MemoryError) as error:
        # e.g. a kernel of another rank than its strides, numbers beyond 64 bits
        raise InputError(
            f"the embedded network or hardware cannot be computed with ({error})", field="network"
        ) from error
