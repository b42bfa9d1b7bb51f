from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spm_opt.units import (
    QuantityError,
    align_up,
    ceil_div,
    format_bytes,
    parse_bandwidth,
    parse_cycles,
    parse_frequency,
    parse_size,
)

SIZES = {"B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9,
         "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}  # fmt: skip
naturals = st.integers(0, 2**60)
positives = st.integers(1, 2**40)


@given(naturals, positives)
def test_ceil_div_is_the_least_upper_quotient(numerator: int, denominator: int) -> None:
    quotient = ceil_div(numerator, denominator)
    assert quotient * denominator >= numerator > (quotient - 1) * denominator


@given(naturals, positives)
def test_align_up_is_the_least_upper_multiple(value: int, alignment: int) -> None:
    aligned = align_up(value, alignment)
    assert aligned % alignment == 0
    assert 0 <= aligned - value < alignment


@given(st.integers(0, 10**6), st.sampled_from(sorted(SIZES)), st.sampled_from(["", " ", "  "]))
def test_size_is_number_times_unit(number: int, unit: str, space: str) -> None:
    assert parse_size(f"{number}{space}{unit}") == number * SIZES[unit]


@given(naturals)
def test_plain_numbers_are_bytes(number: int) -> None:
    assert parse_size(number) == parse_size(str(number)) == number


@given(st.integers(1, 2**45))
def test_exact_sizes_survive_printing(number: int) -> None:
    text = format_bytes(number)
    if "." not in text:
        assert parse_size(text) == number
    else:
        assert abs(float(text.split()[0]) * SIZES[text.split()[1]] / number - 1) < 0.005


@given(st.integers(1, 10**6), st.sampled_from(sorted(SIZES)), st.integers(1, 10**10))
def test_bandwidth_per_second_and_per_cycle_agree(number: int, unit: str, hertz: int) -> None:
    per_second = parse_bandwidth(f"{number} {unit}/s", hertz)
    assert per_second * hertz == number * SIZES[unit]
    assert parse_bandwidth(f"{number} {unit}/cycle", hertz) == number * SIZES[unit]


@given(st.integers(0, 10**9), st.integers(1, 10**10))
def test_nanoseconds_round_up_to_cycles(nanoseconds: int, hertz: int) -> None:
    cycles = parse_cycles(f"{nanoseconds} ns", hertz)
    assert (cycles - 1) * 10**9 < nanoseconds * hertz <= cycles * 10**9


def test_decimals_and_exponents_are_exact() -> None:
    assert parse_size("1.5 MiB") == 3 * 2**19
    assert parse_size(".5KiB") == 512
    assert parse_size("1e6 B") == 10**6
    assert parse_frequency("0.2 GHz") == parse_frequency("200MHz") == 200_000_000
    assert parse_bandwidth("3.75 GB/s", 10**9) == Fraction(15, 4)
    assert parse_bandwidth("0.1 GB / s", 10**9) == Fraction(1, 10)
    assert parse_cycles("200 cycles", 1) == parse_cycles(200, 1) == parse_cycles("1 us", 2 * 10**8)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is no quantity"),
        ("KiB", "is no quantity"),
        ("1 2 B", "is no quantity"),
        ("12 parsec", "has the unknown unit 'parsec'"),
        ("12 kb", "has the unknown unit 'kb'"),
        ("٣ B", "is no quantity"),
        ("1e999 B", "is no quantity"),
        ("9" * 101, "is no quantity"),
        ("0.3 B", "is not a whole number of bytes"),
        ("-4 B", "must not be negative"),
        (True, "is no quantity"),
        (1.5, "is no quantity"),
        (None, "is no quantity"),
    ],
)
def test_what_is_no_size(text: str, reason: str) -> None:
    with pytest.raises(QuantityError) as caught:
        parse_size(text)
    assert caught.value.reason == reason
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("text", ["8 GB", "8", 8, "8 /s", "8 GB/min", "GB/s", "1/2 B/s", "8 GHz/s"])
def test_what_is_no_bandwidth(text: str) -> None:
    with pytest.raises(QuantityError, match="B/cycle"):
        parse_bandwidth(text, 10**9)


@pytest.mark.parametrize("text", ["0 B/cycle", "-1 GB/s"])
def test_bandwidth_must_be_positive(text: str) -> None:
    with pytest.raises(QuantityError, match="must be positive"):
        parse_bandwidth(text, 10**9)


def test_frequency_needs_its_unit() -> None:
    with pytest.raises(QuantityError, match="has no unit; write a number and one of Hz, kHz"):
        parse_frequency("1000")
    with pytest.raises(QuantityError, match="must be positive"):
        parse_frequency("0 Hz")
