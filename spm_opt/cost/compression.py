"""Sizes of compressed feature maps in DRAM, from the share of their elements that are zero.

A share is a whole number of parts in `RAW`, so that sizes are whole bytes in every room. It knows
no layer and no memory.
"""

from __future__ import annotations

from fractions import Fraction

from spm_opt.graph.network import DTYPE_BYTES, MILLION, Tensor
from spm_opt.hardware import RAW, Compression


def run_length_factor(
    zeros: Fraction, element_bits: int = 16, run_bits: int = 5, word_bits: int = 64
) -> Fraction:
    """Compressed over raw size of a feature map under a run-length code like Eyeriss's.

    A pair says how many zeros to skip, ``2 ** run_bits - 1`` at most, and gives the element behind
    them; ``word_bits // (run_bits + element_bits)`` pairs fill a word (Eyeriss: three pairs of 5
    and 16 bits in 64, JSSC 2017, doi 10.1109/JSSC.2016.2616357). Where each element is zero with
    probability ``z``, whatever the others are, a pair covers ``1 + z + ... + z ** (2 ** run_bits -
    1)`` elements on average. A map that would grow is sent raw.

    Parameters
    ----------
    zeros : Fraction
        Share of elements that are zero, 0 to 1.

    Raises
    ------
    ValueError
        If `zeros` is no share, or a word holds no pair.
    """
    if not 0 <= zeros <= 1:
        raise ValueError(f"a share of zeros lies between 0 and 1, not at {zeros}")
    pairs = word_bits // (run_bits + element_bits)
    if not pairs:
        raise ValueError(f"a word of {word_bits} bits holds no pair")
    longest = 2**run_bits
    covered = Fraction(longest) if zeros == 1 else (1 - zeros**longest) / (1 - zeros)
    return min(Fraction(1), Fraction(word_bits, pairs * element_bits) / covered)


def map_share(compression: Compression | None, tensor: Tensor) -> int:
    """Compressed over raw size of a feature map, in parts of `RAW`, rounded up.

    Elements too long for a word are raw.
    """
    if compression is None:
        return RAW
    if compression.kind == "ratio":
        return ratio_share(compression)
    if not is_coded(compression, tensor):
        return RAW
    bits, run_bits = 8 * DTYPE_BYTES[tensor.dtype], compression.run_bits
    zeros = 1 - Fraction(tensor.density_ppm, MILLION)
    factor = run_length_factor(zeros, bits, run_bits, compression.word_bits)
    return -(-RAW * factor.numerator // factor.denominator)


def is_coded(compression: Compression, tensor: Tensor) -> bool:
    """Whether a word holds elements of a map, with the zeros before them."""
    if compression.kind == "ratio":
        return True
    return compression.word_bits >= compression.run_bits + 8 * DTYPE_BYTES[tensor.dtype]


def ratio_share(compression: Compression) -> int:
    """A ratio in parts of `RAW`, rounded up."""
    return -(-RAW * compression.percent // 100)


def packed_bytes(compression: Compression | None, tensor: Tensor, size_bytes: int) -> int:
    """Least bytes that `size_bytes` of a feature map are, however they are cut into runs."""
    return -(-size_bytes * map_share(compression, tensor) // RAW)
