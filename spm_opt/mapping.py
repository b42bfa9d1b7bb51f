"""A mapping of a fusion set: how its last output is tiled, and what is kept between tiles.

What a user may write down, print and read back: names and numbers only, and no way to evaluate it
(see `spm_opt.mapping_counts`).
"""

from __future__ import annotations

from collections.abc import Mapping as MappingOf
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Loop:
    """One loop over tiles: `size` indices of `axis` at a time, the last tile maybe fewer."""

    axis: str
    size: int


@dataclass(frozen=True, slots=True)
class Mapping:
    """Tiles of the last layer's output, and one choice for each tensor and loop.

    Attributes
    ----------
    loops : tuple of Loop
        From the outermost to the innermost. An axis that has no loop is one tile.
    feature_maps : mapping of str to tuple of str
        By inputs and intermediate maps: the axes along whose loops what an earlier tile needed is
        kept (*reuse*). Along the others it is fetched again (inputs) or computed again
        (intermediates). A map that is absent keeps all.
    weights : mapping of str to tuple of str
        The same for the weights of layers, by layer.
    """

    loops: tuple[Loop, ...] = ()
    feature_maps: MappingOf[str, tuple[str, ...]] = field(default_factory=dict)
    weights: MappingOf[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def axes(self) -> tuple[str, ...]:
        """Tiled axes, from the outermost loop to the innermost."""
        return tuple(loop.axis for loop in self.loops)


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes over the DRAM pins, bursts not counted."""

    weights: int
    feature_maps: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.weights + self.feature_maps

    def __add__(self, other: Traffic) -> Traffic:
        """Both together."""
        return Traffic(self.weights + other.weights, self.feature_maps + other.feature_maps)


@dataclass(frozen=True, slots=True)
class Counts:
    """What a mapping costs, exactly.

    Attributes
    ----------
    spm_bytes : int
        Most bytes that are live at any tile.
    spm_feature_map_bytes : int
        The same without weights.
    traffic : Traffic
    macs, recomputed_macs : int
        Done in all, and those beyond one for each element.
    latency_cycles : int
        Of the tile pipeline.
    tiles : int
    peaks : mapping of str to int
        Most live bytes of each feature map, by its name.
    weight_peaks : mapping of str to int
        Most live bytes of the weights of each layer, by its name.
    moved : mapping of str to int
        Bytes moved of each map that comes from or goes to DRAM.
    weights_moved : mapping of str to int
        Bytes of weights moved, by layer.
    """

    spm_bytes: int
    spm_feature_map_bytes: int
    traffic: Traffic
    macs: int
    recomputed_macs: int
    latency_cycles: int
    tiles: int
    peaks: MappingOf[str, int]
    weight_peaks: MappingOf[str, int]
    moved: MappingOf[str, int]
    weights_moved: MappingOf[str, int]
