"""Fields of operators as people write them: their types, what is accepted, what is said if not.

A field type is a check that returns the plain value (lists become tuples) and the sentence that
says what it accepts. No operator is named here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from spm_opt.errors import GraphError

#: marks a field that has no default
REQUIRED: Final = object()
#: no extent, kernel or stride of a real network is larger
_LARGEST: Final = 2**31 - 1

#: functions of one value, also accepted as a layer's ``activation``
UNARY_MODES: Final = (
    "relu", "relu6", "leaky_relu", "prelu", "elu", "selu", "celu", "sigmoid", "tanh", "gelu",
    "quick_gelu", "silu", "hardswish", "hardsigmoid", "mish", "softplus", "softsign", "clip",
    "erf", "exp", "log", "sqrt", "reciprocal", "abs", "neg", "sign", "floor", "ceil", "round",
    "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "shrink", "not", "is_nan",
    "is_inf", "cast",
)  # fmt: skip
ACTIVATIONS: Final = UNARY_MODES
BINARY_MODES: Final = (
    "add", "sub", "mul", "div", "pow", "max", "min", "mean", "sum", "mod", "where", "equal",
    "greater", "less", "greater_or_equal", "less_or_equal", "and", "or", "xor", "prelu",
)  # fmt: skip
REDUCE_MODES: Final = (
    "mean", "sum", "max", "min", "prod", "l1", "l2", "log_sum", "log_sum_exp", "sum_square",
    "argmax", "argmin",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class FieldType:
    """A check, and the words for what it accepts.

    Attributes
    ----------
    accepted : str
    parse : callable
        Returns the plain value, or None where the value is not accepted.
    """

    accepted: str
    parse: Callable[[object], object]


@dataclass(frozen=True, slots=True)
class Field:
    """A named field of an operator; a default of None means that it may stay away."""

    name: str
    type: FieldType
    default: object = REQUIRED

    def read(self, given: Mapping[str, object]) -> object:
        """The value among `given`, checked. Raises GraphError naming the field."""
        value = given.get(self.name, self.default)
        if value is REQUIRED:
            raise GraphError("missing field", field=self.name, allowed=self.type.accepted)
        if value is self.default or (value is None and self.default is None):
            return value
        return read_value(self.name, self.type, value)


def read_value(name: str, kind: FieldType, value: object) -> object:
    """`value` as a plain value of this type. Raises GraphError naming the field."""
    parsed = kind.parse(value)
    if parsed is None:
        message = "the value is empty" if value is None else "value not accepted"
        raise GraphError(message, field=name, found=value, allowed=kind.accepted)
    return parsed


def is_int(value: object, least: int = -_LARGEST) -> bool:
    """Whether `value` is an integer (no boolean) of a sane size."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= _LARGEST


def _int_from(least: int) -> Callable[[object], object]:
    return lambda value: value if is_int(value, least) else None


def _ints_from(least: int, shortest: int = 1) -> Callable[[object], object]:
    def parse(value: object) -> object:
        if not isinstance(value, (list, tuple)) or len(value) < shortest:
            return None
        return tuple(value) if all(is_int(item, least) for item in value) else None

    return parse


def _either(*parsers: Callable[[object], object]) -> Callable[[object], object]:
    def parse(value: object) -> object:
        results = (parser(value) for parser in parsers)
        return next((result for result in results if result is not None), None)

    return parse


def _padding(value: object) -> object:
    return value if value == "same" else _either(_int_from(0), _ints_from(0))(value)


def _slice_ends(value: object) -> object:
    """Like integers, and None for 'as far as it goes'."""
    if isinstance(value, (list, tuple)):
        fits = all(item is None or is_int(item) for item in value)
        return tuple(value) if value and fits else None
    return value if is_int(value) else None


def _pieces(value: object) -> object:
    """Pairs of a position and a shape."""
    if not isinstance(value, (list, tuple)):
        return None
    pieces = []
    for item in value:
        if not isinstance(item, (list, tuple)) or len(item) != 2 or not is_int(item[0], 0):
            return None
        pieces.append((item[0], _ints_from(1)(item[1])))
    return tuple(pieces) if all(shape is not None for _, shape in pieces) else None


def _number(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value)


def choice(words: tuple[str, ...]) -> FieldType:
    """One of these words."""
    return FieldType(
        ", ".join(words), lambda value: value if isinstance(value, str) and value in words else None
    )


POSITIVE: Final = FieldType("a positive integer", _int_from(1))
POSITIVES: Final = FieldType("a list of positive integers", _ints_from(1))
WINDOW: Final = FieldType(
    "a positive integer, or a list of one for each spatial axis",
    _either(_int_from(1), _ints_from(1)),
)
NATURALS: Final = FieldType(
    "an integer from 0, or a list of one for each spatial axis",
    _either(_int_from(0), _ints_from(0)),
)
PADDING: Final = FieldType(
    "same, an integer from 0, a list of one for each spatial axis, or [top, left, bottom, right]",
    _padding,
)
INT: Final = FieldType("an integer", _int_from(-_LARGEST))
INTS: Final = FieldType("a list of integers", _ints_from(-_LARGEST))
SHAPE: Final = FieldType("a list of integers", _ints_from(-_LARGEST, shortest=0))
EXTENTS: Final = FieldType("a list of positive integers", _ints_from(1, shortest=0))
INT_OR_INTS: Final = FieldType(
    "an integer or a list of integers", _either(_int_from(-_LARGEST), _ints_from(-_LARGEST))
)
SLICE_ENDS: Final = FieldType("an integer or a list of integers (null: to the end)", _slice_ends)
PIECES: Final = FieldType("a list of [position, shape]", _pieces)
BOOL: Final = FieldType("true or false", lambda value: value if isinstance(value, bool) else None)
NUMBER: Final = FieldType("a number", _number)
TEXT: Final = FieldType("a text", lambda value: value if isinstance(value, str) and value else None)
