"""An allocator for buffers with lifetimes: rectangles of space and time to offsets; knows no DNN.

`spm_opt.allocate` is its one function; the records that it takes and gives are here.
"""

from spm_opt.allocation.buffers import (
    Adjacent,
    Alias,
    Allocation,
    Buffer,
    Crowd,
    InPlace,
    Inside,
    Region,
)
from spm_opt.allocation.portfolio import Switches
from spm_opt.allocation.solve import allocate
from spm_opt.allocation.validate import violations

__all__ = (
    "Adjacent",
    "Alias",
    "Allocation",
    "Buffer",
    "Crowd",
    "InPlace",
    "Inside",
    "Region",
    "Switches",
    "allocate",
    "violations",
)
