"""Cycles and bytes of one DRAM transfer.

``latency + ceil(bytes / bandwidth)``, the bytes of every contiguous run rounded up to bursts. Where
feature maps are compressed, every run is by itself, and its share of the raw bytes counts
(`spm_opt.cost.compression`).
"""

from __future__ import annotations

import numpy as np

from spm_opt.cost.exact import Ints, ceil_scaled
from spm_opt.hardware import RAW, Dram


def moved_bytes(dram: Dram, run_bytes: int, runs: int = 1, share: int = RAW) -> int:
    """Bytes that cross the pins when `runs` contiguous runs of `run_bytes` are moved.

    Parameters
    ----------
    share : int
        Of each run's bytes that are left of it when it is compressed, in parts of `RAW`.
    """
    packed = -(-run_bytes * share // RAW)
    return -(-packed // dram.burst_bytes) * dram.burst_bytes * runs


def transfer_cycles(dram: Dram, moved: int) -> int:
    """Cycles of one transfer of `moved` bytes (whole bursts); nothing costs nothing."""
    if not moved:
        return 0
    rate = dram.bytes_per_cycle
    return dram.latency_cycles - (-moved * rate.denominator // rate.numerator)


def moved_bytes_array(dram: Dram, run_bytes: Ints, runs: Ints | int = 1, share: int = RAW) -> Ints:
    """`moved_bytes` over arrays."""
    packed = -(-run_bytes * share // RAW)
    return -(-packed // dram.burst_bytes) * dram.burst_bytes * runs


def transfer_cycles_array(dram: Dram, moved: Ints) -> Ints:
    """`transfer_cycles` over an array."""
    cycles = dram.latency_cycles + ceil_scaled(moved, 1 / dram.bytes_per_cycle)
    return np.where(moved > 0, cycles, 0)
