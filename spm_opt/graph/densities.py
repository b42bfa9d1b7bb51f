"""Densities of feature maps: which share of their elements is expected not to be zero."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from types import MappingProxyType

from spm_opt.errors import InputError
from spm_opt.graph.network import MILLION, Layer, Network, Tensor

_SUGGESTIONS = 3


def first_density_ppm(network: Network, layer: Layer) -> int:
    """Of the first operand of a layer, elements per million that are not zero."""
    return network.tensors[layer.inputs[0].tensor].density_ppm if layer.inputs else MILLION


def densities_of(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """Elements per million that are not zero, of tensors that are expected to have zeros."""
    return {name: t.density_ppm for name, t in tensors.items() if t.density_ppm != MILLION}


def with_densities(network: Network, densities_ppm: Mapping[str, int]) -> Network:
    """`network` with these densities; what is not named stays as it is.

    Parameters
    ----------
    network : Network
    densities_ppm : mapping of str to int
        Tensor to elements per million that are not zero, 0 to 1,000,000.

    Raises
    ------
    InputError
        Naming the tensor that the network does not have, or whose density cannot be.
    """
    tensors = dict(network.tensors)
    for name, density_ppm in densities_ppm.items():
        if name not in tensors:
            close = get_close_matches(name, tensors, _SUGGESTIONS)
            raise InputError(
                "no tensor of the network has this name", field="densities", found=name,
                allowed=", ".join(close) or None,
            )  # fmt: skip
        if not 0 <= density_ppm <= MILLION:
            raise InputError(
                "a density is a share", field=f"densities.{name}", found=density_ppm / MILLION,
                allowed="0 to 1",
            )  # fmt: skip
        tensors[name] = replace(tensors[name], density_ppm=density_ppm)
    return replace(network, tensors=MappingProxyType(tensors))
