"""Buffers that groups need not have: outputs that lie inside, or over, what is there anyway.

Three ways, all of them facts of a group and its cutting, none of them a choice: they take space or
work away and nothing else changes.

- **joined**: all inputs of a concatenation are computed in the group, and nobody else reads them:
  their layers write them straight into its output, and it has nothing left to do.
- **in place**: an element-wise layer writes its output over an input that only it reads.
- **taking over**: the same across the border: an input that lies whole in SPM, and that nobody
  needs after the group, becomes the output that is kept. Row by row: no row may be overwritten
  that a later command of the group still reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from spm_opt.graph.bands import bordered_map, is_window
from spm_opt.graph.network import Layer
from spm_opt.site import Site
from spm_opt.tiling import Chain, Ints

Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Sharing:
    """Layers of a chain, by place in it, whose output has no buffer of its own.

    Attributes
    ----------
    elided : frozenset of int
        Concatenations that have nothing to do, and windows.
    inside : dict of int to int
        Layer whose output is a piece, and the concatenation.
    over : dict of int to int
        Layer whose output is overwritten, and the layer that does so.
    windows : frozenset of int
        Windows: what they show has space of its own, or comes from outside.
    fills : frozenset of int
        Layers that copy a border into the buffer of a map whose other columns are loaded.
    """

    elided: frozenset[int]
    inside: dict[int, int]
    over: dict[int, int]
    windows: frozenset[int] = frozenset()
    fills: frozenset[int] = frozenset()

    def free(self, i: int) -> bool:
        """Whether the i-th layer's output needs no space."""
        return any(i in own for own in (self.inside, self.over, self.windows, self.fills))


@dataclass(frozen=True, slots=True)
class Takeover:
    """A kept map that takes the space of one that dies.

    Attributes
    ----------
    dying, kept : int
        Maps.
    safe : bool array (cuttings,)
        Whether no row is overwritten too early.
    instead : int or None
        Layer of the chain whose output would else be written over, and now has a stripe of its own.
    """

    dying: int
    kept: int
    safe: Flags
    instead: int | None = None


def sharing(site: Site, chain: Chain, halo: str, apart: frozenset[int] = frozenset()) -> Sharing:
    """What the layers of a chain can share among themselves.

    Parameters
    ----------
    apart : frozenset of int
        Layers by place in the chain that keep a stripe of their own: the one that would write over
        them takes over a dying map instead.
    """
    plain = plain_sharing(site, chain)
    windows = plain.windows
    if not site.aliases or halo != "retain" or len(chain.layers) == 1:
        return plain
    place = {index: i for i, index in enumerate(chain.layers)}
    inside: dict[int, int] = {}
    elided = set(windows)
    for i, index in enumerate(chain.layers):
        makers = [_private_maker(site, t, index, place) for t in site.joins.get(index, ())]
        if makers and None not in makers:
            elided.add(i)
            inside.update({maker: i for maker in makers if maker is not None})
    over: dict[int, int] = {}
    for i, index in enumerate(chain.layers):
        # a piece has the rows of the joined map for company: nothing else fits there
        if i not in inside and site.network.layers[index].output not in site.written_into:
            makers = [
                _private_maker(site, tensor, index, place)
                for tensor in _overwritable(site, site.network.layers[index])
            ]
            free = (m for m in makers[:1] if m is not None and m not in apart | windows)
            over.update(dict.fromkeys(free, i))
    return replace(plain, elided=frozenset(elided), inside=inside, over=over)


def plain_sharing(site: Site, chain: Chain) -> Sharing:
    """What is shared in any case: windows show maps, and borders lie beside what is loaded."""
    layers = [site.network.layers[index] for index in chain.layers]
    windows = frozenset(i for i, layer in enumerate(layers) if is_window(site.network, layer))
    fills = frozenset(i for i, layer in enumerate(layers) if layer.name in site.network.fills)
    return Sharing(windows, {}, {}, windows, fills)


def renewed_borders(site: Site, chain: Chain) -> dict[str, str]:
    """Borders that a band keeps, and those it finds that lie there as well: of the same map.

    Of every row the old border is copied before the new one is written.
    """
    network = site.network
    layers = [network.layers[index] for index in chain.layers]
    kept = {x.inputs[0].tensor: x.output for x in layers if x.name in network.keepers}
    kept = {network.layers[network.producer[w]].inputs[0].tensor: t for w, t in kept.items()}
    found: dict[str, str] = {}
    for layer in layers:
        map_ = bordered_map(network, layer)
        if map_ in kept:
            new, old = kept[map_], layer.inputs[0].tensor
            if network.tensors[new].shape == network.tensors[old].shape:
                found[new] = old
    return found


def _private_maker(site: Site, tensor: str, reader: int, place: dict[int, int]) -> int | None:
    """Place in the chain of the layer that computes `tensor` for `reader` only."""
    network = site.network
    alone = network.readers[tensor] == (reader,) and tensor not in network.outputs
    return place.get(network.producer.get(tensor, -1)) if alone else None


def _overwritable(site: Site, layer: Layer) -> Iterator[str]:
    """Inputs that the layer's output may be written over, element by element."""
    tensors = site.network.tensors
    written = tensors[layer.output]
    for i, operand in enumerate(layer.inputs):
        own = tensors[operand.tensor]
        same = own.shape == operand.shape and own == replace(written, name=own.name)
        if same and layer.op.in_place(i, layer.input_shapes, layer.output_shape):
            yield operand.tensor


def takeovers(site: Site, chain: Chain, halo: str) -> tuple[Takeover, ...]:
    """Maps that the outputs of a chain's layers can take the space of."""
    if not site.aliases or halo != "retain":
        return ()
    end = site.spans[site.position[chain.layers[0]]][1]
    found: list[Takeover] = []
    overwritten = {i: maker for maker, i in sharing(site, chain, halo).over.items()}
    holders = {place.tensor for t in chain.needs if (place := site.read_from.get(t)) is not None}
    for i, index in enumerate(chain.layers):
        layer = site.network.layers[index]
        for tensor in _overwritable(site, layer):
            dies = tensor in chain.needs and site.last_use(tensor) < end
            if dies and tensor not in holders:
                dying, kept = site.map_index[tensor], site.map_index[layer.output]
                safe = _safe(site, chain, i, tensor)
                found.append(Takeover(dying, kept, safe, overwritten.get(i)))
    return tuple(found)


def _safe(site: Site, chain: Chain, i: int, tensor: str) -> Flags:
    """Whether, in each cutting, nobody reads rows of `tensor` that the i-th layer overwrote."""
    cuts, written = chain.cuts, chain.computed[i].end
    before = np.concatenate((np.zeros(1, dtype=np.int64), written[:-1]))
    before[cuts.starts] = 0
    safe: Flags = np.ones(len(cuts.owner), dtype=np.bool_)
    for m, index in enumerate(chain.layers):
        layer = site.network.layers[index]
        # layers that come first in the chain compute last
        overwritten = before if m >= i else written
        for n, operand in enumerate(layer.inputs):
            if operand.tensor == tensor:
                alike = m != i or layer.op.in_place(n, layer.input_shapes, layer.output_shape)
                safe &= alike & (chain.read[m][n].begin >= overwritten)
    kept: Flags = np.logical_and.reduceat(safe, cuts.starts)
    return kept


def applied(
    found: tuple[Takeover, ...], reads: tuple[int, ...], keeps: tuple[int, ...], cutting: int
) -> list[Takeover]:
    """The takeovers that come about, each map in one at most, first come."""
    done: list[Takeover] = []
    used: set[int] = set()
    for takeover in found:
        pair = takeover.dying, takeover.kept
        fits = takeover.dying in reads and takeover.kept in keeps and takeover.safe[cutting]
        if fits and not used.intersection(pair):
            used.update(pair)
            done.append(takeover)
    return done


def saved_bytes(
    found: tuple[Takeover, ...],
    chosen: dict[tuple[str, int], Flags],
    sizes: dict[int, int],
    stripe_bytes: Mapping[int, Ints],
) -> Ints | None:
    """Space that takeovers save, patterns by cuttings; None where there are none.

    Parameters
    ----------
    chosen : mapping of (str, int) to bool array (patterns,)
        Whether a pattern reads, or keeps, a map.
    sizes : mapping of int to int
        Space of each map that may be kept.
    stripe_bytes : mapping of int to int64 array (cuttings,)
        Stripe of each layer of the chain that `Takeover.instead` names.
    """
    total: Ints | None = None
    used: dict[int, Flags] = {}
    for takeover in found:
        read, kept = chosen.get(("read", takeover.dying)), chosen.get(("keep", takeover.kept))
        if read is None or kept is None:
            continue
        both = (read & kept)[:, None] & takeover.safe[None, :]
        for t in (takeover.dying, takeover.kept):
            both = both & ~used.get(t, np.zeros_like(both))
        for t in (takeover.dying, takeover.kept):
            used[t] = used.get(t, np.zeros_like(both)) | both
        spent = 0 if takeover.instead is None else stripe_bytes[takeover.instead]
        gain = both * (np.int64(sizes[takeover.kept]) - spent)
        total = gain if total is None else total + gain
    return total
