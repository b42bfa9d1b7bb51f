"""The normalised network as plain JSON data, as a schedule embeds it.

Only here is it known how its keys are spelled. What the network must satisfy, `Network` checks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from spm_opt.errors import GraphError, InputError
from spm_opt.formats.records import from_plain, to_plain
from spm_opt.graph.network import Layer, Network, Tensor, by_name


@dataclass(frozen=True, slots=True)
class _Plain:
    """The network as it lies in the file: tensors as a list, in their order."""

    name: str
    tensors: tuple[Tensor, ...]
    layers: tuple[Layer, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    warnings: tuple[str, ...]
    aliases: dict[str, str]
    rounded: tuple[str, ...]


def network_to_dict(network: Network) -> dict[str, Any]:
    """`network` as plain JSON data, exactly; weights by name and shape, without values."""
    plain: dict[str, Any] = to_plain(
        _Plain(
            network.name,
            tuple(network.tensors.values()),
            network.layers,
            network.inputs,
            network.outputs,
            network.warnings,
            dict(network.aliases),
            network.rounded,
        )
    )
    return plain


def network_from_dict(data: object, where: str = "network") -> Network:
    """The inverse of `network_to_dict`.

    Parameters
    ----------
    data : object
    where : str
        Prefix of the field that an error names.

    Raises
    ------
    InputError
        If a field is missing, unknown or of another type, or the network is inconsistent.
    """
    plain = from_plain(_Plain, data, where)
    for problem, found in _unknown_names(plain):
        raise GraphError(problem, field=where, found=found)
    try:
        return Network(
            plain.name, by_name(plain.tensors), plain.layers, plain.inputs, plain.outputs,
            plain.warnings, plain.aliases, plain.rounded,
        )  # fmt: skip
    except GraphError as error:
        field = f"{where}.{error.field}" if error.field else where
        raise GraphError(
            error.message, field=field, found=error.found, allowed=error.allowed
        ) from None
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        # an operator whose fields do not fit together, e.g. a kernel longer than its strides
        raise InputError(
            f"an operator's fields do not fit together ({error})", field=where
        ) from error


def _unknown_names(plain: _Plain) -> Iterator[tuple[str, str]]:
    counts = Counter(tensor.name for tensor in plain.tensors)
    yield from (("two tensors have the same name", name) for name, n in counts.items() if n > 1)
    used = [*plain.inputs, *plain.outputs]
    for layer in plain.layers:
        used += [layer.output, *(operand.tensor for operand in layer.inputs)]
    yield from (("this tensor is not listed", name) for name in used if name not in counts)
