"""Sizes of compressed feature maps in DRAM: what a density of zeros makes of a word.

It knows no layer and no memory.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Final

#: three pairs of 5-bit run and 16-bit level fill a word of 64 bits: a level costs 64/3 bits, where
#: a raw element costs 16 (JSSC 2017, doi 10.1109/JSSC.2016.2616357)
_PAIR: Final = Fraction(64, 48)


def run_length_factor(zeros: Fraction) -> Fraction:
    """Compressed over raw size of a feature map under Eyeriss's run-length code.

    ``min(1, (1 - zeros) * 64 / 48)``: every non-zero element takes a third of a 64-bit word; runs
    longer than 31 are left out, and a map that would grow is sent raw.

    Parameters
    ----------
    zeros : Fraction
        Share of elements that are zero, 0 to 1.

    Raises
    ------
    ValueError
        If `zeros` is no share.
    """
    if not 0 <= zeros <= 1:
        raise ValueError(f"a share of zeros lies between 0 and 1, not at {zeros}")
    return min(Fraction(1), (1 - zeros) * _PAIR)
