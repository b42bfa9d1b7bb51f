"""Exact ceilings over arrays, whatever the size of the numbers.

Pure arithmetic: it knows neither layers nor memories.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def ceil_scaled(values: Ints, factor: Fraction) -> Ints:
    """``ceil(values * factor)``, exact even where the product leaves 64 bits.

    Parameters
    ----------
    values : int64 array
        Not negative.
    factor : Fraction
        Positive.
    """
    numerator, denominator = factor.numerator, factor.denominator
    largest = int(values.max(initial=0))
    if max(largest * numerator, numerator, denominator) < 2**63:
        return -(-values * numerator // denominator)
    exact = [-(-int(value) * numerator // denominator) for value in values.flat]
    return np.array(exact, dtype=np.int64).reshape(values.shape)
